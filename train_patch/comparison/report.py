"""What a comparison leaves for its readers: `results.md`, `results.csv` and `results.png`."""

import shlex
from collections import Counter

from ..common.files import write_atomically, write_bytes
from ..recipes.published import PUBLISHED
from ..recipes.reader import RECIPE_FOLDER
from .plan import Comparison
from .plot import plot_results
from .results import Row, RunResult, csv_table, markdown_table, table
from .runs import varied
from .training import Outcome

# What may differ from a recipe that is the paper's: where it runs, and how fast.
_NOT_THE_RECIPE = {
    *('data', 'data_dir', 'class_map', 'dataset_download', 'output', 'experiment', 'workers', 'pin_mem', 'device'),
    *('amp', 'amp_dtype', 'channels_last', 'torchcompile', 'torchcompile_mode', 'checkpoint_hist', 'seed', 'resume'),
    *('validation_batch_size', 'val_interval', 'recovery_interval', 'no_prefetcher', 'log_wandb', 'wandb_project'),
    *('wandb_tags', 'wandb_resume_id', 'log_interval', 'batch_size'),
}


def write_report(comparison: Comparison, outcome: Outcome) -> str:
    """Writes the results: the table, and with it the picture where a run came to its end.

    Returns:
        The table, with what its numbers are, for the screen.
    """
    name = comparison.recipe.stem
    names = [variant.name for variant in comparison.variants]
    results, baselines = outcome.results, comparison.baselines
    published = paper_top1(comparison, results) if results else {}
    rows = table(results, outcome.failures, names, baselines, published)
    text = markdown_table(rows, baselines)
    explained = _explained(comparison, results, rows)
    document = [f'# {name}: comparison of mix modes', text, explained, _settings(comparison, results)]
    document += ['Failed:\n\n' + '\n'.join(f'- {failure}' for failure in outcome.failures)] if outcome.failures else []
    document += ['![validation curves and differences](results.png)'] if results else []
    picture = comparison.output / 'results.png'
    if results:
        colours = {variant.name: variant.colour for variant in comparison.variants}
        figure = plot_results(results, rows, baselines, colours, name)
        write_atomically(picture, lambda file: figure.savefig(file, format='png', dpi=150))
    else:
        picture.unlink(missing_ok=True)  # of an earlier call, for other modes or seeds
    write_bytes(comparison.output / 'results.md', '\n\n'.join(document).encode() + b'\n')
    write_bytes(comparison.output / 'results.csv', csv_table(rows, baselines, comparison.seeds).encode())
    failed = [f'{failure.variant} seed {failure.seed}' for failure in outcome.failures]
    named = f'\n{len(failed)} {"run" if len(failed) == 1 else "runs"} failed: {", ".join(failed)}' if failed else ''
    written = ', '.join(['results.md', 'results.csv', *(['results.png'] if results else [])])
    return f'\n{text}\n\n{explained}{named}\n\n{comparison.output}/{written}'


def paper_top1(comparison: Comparison, results: list[RunResult]) -> dict[str, float]:
    """The paper's numbers, where recipe, data set and epochs are the paper's; none for a mix mode that was changed."""
    name = comparison.recipe.stem
    if comparison.recipe.parent != RECIPE_FOLDER or name not in PUBLISHED:
        return {}
    paper = PUBLISHED[name]
    images = {result.validation_images for result in results} - {None}
    changed = [
        key
        for key, value in comparison.plain.items()
        if key not in _NOT_THE_RECIPE | varied() and comparison.training.get(key) != value
    ]
    batch = comparison.training['batch_size'] * comparison.processes_of_a_run
    if changed or batch != comparison.plain['batch_size'] * paper.processes or images - {paper.validation_images}:
        return {}
    unchanged = {variant.name for variant in comparison.variants if not variant.changed}
    return {mode: top1 for mode, top1 in paper.top1.items() if mode in unchanged}


def _explained(comparison: Comparison, results: list[RunResult], rows: list[Row]) -> str:
    if not results:
        return 'No run came to its end.'
    epochs = sorted({max(result.curve) + 1 for result in results})
    seeds = ', '.join(str(seed) for seed in comparison.seeds if any(result.seed == seed for result in results))
    spread = any(row.std is not None for row in rows)
    lines = [
        f'Top-1 on the validation images after the last epoch ({" or ".join(map(str, epochs))}): '
        + (f'mean ± sample standard deviation over seeds {seeds}.' if spread else f'seed {seeds}.')
    ]
    differences = [difference for row in rows for difference in row.differences.values()]
    if any(difference.low is not None for difference in differences):
        lines.append(
            "Differences are in percentage points, paired by seed, with their 95 % interval (Student's t, n − 1): "
            '"worse" where all of it is below 0, "not better" where it holds 0.'
        )
    elif differences:
        lines.append('Differences are in percentage points; one seed gives them no interval, and so ranks nothing.')
    images = sorted({result.validation_images for result in results if result.validation_images})
    if any(row.image_error is not None for row in rows):
        lines.append(
            f'± images: the standard error that {images[0]:,} validation images alone make, √(p (1 − p) / n); '
            'the seeds share them.'
        )
    lines.append('The time of an epoch is that of training and validation.')
    if any(row.published is not None for row in rows):
        where = PUBLISHED[comparison.recipe.stem].where
        lines.append(f'Published: {where} of "A Unified Analysis of Mixed Sample Data Augmentation".')
    return '\n'.join(lines)


def _settings(comparison: Comparison, results: list[RunResult]) -> str:
    lines = [f'- recipe: `{comparison.recipe}`']
    lines += [f'- script: `{comparison.script}`'] if comparison.script else []
    words = [*comparison.torchrun, *comparison.arguments]
    for variant in comparison.variants:
        words += [word for word in variant.arguments[2:] if variant.changed and word not in words]
    lines += [f'- arguments: `{shlex.join(words)}`'] if words else []
    ways = Counter((result.jobs, result.threads) for result in results if result.jobs)
    for (jobs, threads), count in sorted(ways.items()):
        way = 'one run after another' if jobs == 1 else f'{jobs} runs at once'
        share = '' if len(ways) == 1 else f' ({count} of {len(results)} runs)'
        lines.append(f'- trained {way}, {threads} {"thread" if threads == 1 else "threads"} in each process{share}')
    return '\n'.join(lines)
