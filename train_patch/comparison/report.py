"""Writes the results of a comparison: `results.md`, `results.csv` and `results.png`."""

import shlex

from ..common.files import write_bytes
from ..common.tables import Table
from ..drawing.pictures import save_figure
from ..recipes.published import PUBLISHED
from .comparison import Comparison, varied_options
from .plot import plot_results
from .results import csv_table, make_table, markdown_table

# Arguments that may differ from a recipe of the paper: where it runs, and how fast.
_NOT_THE_RECIPE = {
    *('data', 'data_dir', 'class_map', 'dataset_download', 'output', 'experiment', 'workers', 'pin_mem', 'device'),
    *('amp', 'amp_dtype', 'channels_last', 'torchcompile', 'torchcompile_mode', 'checkpoint_hist', 'seed', 'resume'),
    *('validation_batch_size', 'val_interval', 'recovery_interval', 'no_prefetcher', 'log_wandb', 'wandb_project'),
    *('wandb_tags', 'wandb_resume_id', 'log_interval', 'batch_size'),
}


def write_report(comparison: Comparison) -> str:
    """Writes the table.

    Returns:
        The table and its explanation, for the screen.
    """
    table = _table(comparison)
    parts = [markdown_table(table, comparison.baselines), _explanation(comparison, table)]
    document = [f'# {comparison.recipe.stem}: comparison of mix modes', *parts, _settings(comparison)]
    if failed := '\n'.join(f'- {failure}' for failure in comparison.failures):
        document.append(f'Failed:\n\n{failed}')
        parts.append(f'Failed:\n{failed}')
    if comparison.results:
        document.append('![validation curves and differences](results.png)')
    write_bytes(comparison.output / 'results.md', '\n\n'.join(document).encode() + b'\n')
    write_bytes(comparison.output / 'results.csv', csv_table(table).encode())
    return '\n\n'.join(['', *parts, f'{comparison.output}/results.md, results.csv'])


def write_picture(comparison: Comparison) -> str:
    """Writes the picture if a run has finished; returns its path for the screen, or ''."""
    picture, colours = comparison.output / 'results.png', {one.name: one.colour for one in comparison.variants}
    picture.unlink(missing_ok=True)  # of an earlier call, for other results
    if not comparison.results:
        return ''
    name = comparison.recipe.stem
    save_figure(plot_results(comparison.results, _table(comparison), comparison.baselines, colours, name), picture)
    return str(picture)


def _table(comparison: Comparison) -> Table:
    names, paper = [variant.name for variant in comparison.variants], paper_top1(comparison)
    return make_table(comparison.results, comparison.failures, names, comparison.baselines, comparison.seeds, paper)


def paper_top1(comparison: Comparison) -> dict[str, float]:
    """The paper's numbers, if recipe, data and epochs are the paper's, for the mix modes that were not changed."""
    paper = PUBLISHED.get(comparison.recipe.stem)
    if not comparison.plain or paper is None:
        return {}
    training, recipe = comparison.training, comparison.plain
    compared = recipe.keys() - _NOT_THE_RECIPE - varied_options()
    processes = comparison.nproc_per_node or 1
    images = {result.validation_images for result in comparison.results}
    same_batch = training['batch_size'] * processes == recipe['batch_size'] * paper.processes
    same_data = images <= {paper.validation_images, None}
    if not same_batch or not same_data or any(training.get(key) != recipe[key] for key in compared):
        return {}
    unchanged = [variant.name for variant in comparison.variants if not variant.changed]
    return {mode: paper.top1[mode] for mode in unchanged if mode in paper.top1}


def _explanation(comparison: Comparison, table: Table) -> str:
    results = comparison.results
    if not results:
        return 'No run has finished.'
    filled = {column for row in table for column, value in row.items() if value is not None}
    compared = any(f'difference_to_{baseline}' in filled for baseline in comparison.baselines)
    interval = any(f'difference_to_{baseline}_low' in filled for baseline in comparison.baselines)
    epochs = ' or '.join(map(str, sorted({max(result.curve) + 1 for result in results})))
    seeds = ', '.join(map(str, sorted({result.seed for result in results})))
    spread = 'mean ± sample standard deviation over seeds' if 'top1_std' in filled else 'seed'
    images = max(result.validation_images or 0 for result in results)
    paper = PUBLISHED.get(comparison.recipe.stem)
    notes = [
        (True, f'Top-1 on the validation images after the last epoch ({epochs}): {spread} {seeds}.'),
        (
            interval,
            "Differences are in percentage points, paired by seed, with their 95 % interval (Student's t, n − 1): "
            '"worse" if all of it is below 0, "not better" if it contains 0.',
        ),
        (compared and not interval, 'Differences are in percentage points; one seed gives no interval, so no ranking.'),
        (
            'image_error' in filled,
            f'± images: the standard error due to {images:,} validation images alone, √(p (1 − p) / n); '
            'all seeds share them.',
        ),
        ('epoch_seconds' in filled, 'The time of an epoch is that of training and validation.'),
        (
            'published' in filled,
            f'Published: {paper and paper.where} of "A Unified Analysis of Mixed Sample Data Augmentation".',
        ),
    ]
    return '\n'.join(note for applies, note in notes if applies)


def _settings(comparison: Comparison) -> str:
    lines = [f'- recipe: `{comparison.recipe}`']
    if comparison.script:
        lines.append(f'- script: `{comparison.script}`')
    if given := [*comparison.torchrun, *comparison.arguments]:
        lines.append(f'- arguments: `{shlex.join(given)}`')
    for jobs, threads in sorted({(result.jobs, result.threads) for result in comparison.results if result.jobs}):
        way = 'one run after another' if jobs == 1 else f'{jobs} runs at once'
        lines.append(f'- trained {way}, {threads} {"thread" if threads == 1 else "threads"} in each process')
    return '\n'.join(lines)
