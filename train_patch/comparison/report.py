"""Writes the results of a comparison or of a table: `results.md`, `results.csv` and `results.png`."""

import itertools
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..common.files import write_bytes
from ..common.tables import latex, markdown
from ..drawing.pictures import save_figure
from ..recipes.published import PUBLISHED
from .comparison import Comparison, Variant, varied_options
from .plot import plot_reliability, plot_results
from .reading import METRICS
from .results import TITLES, Results, csv_table, evaluated_table, make_table, shown_table

# Arguments that may differ from a recipe of the paper: where it runs, and how fast.
_NOT_THE_RECIPE = {
    *('data', 'data_dir', 'class_map', 'dataset_download', 'output', 'experiment', 'workers', 'pin_mem', 'device'),
    *('amp', 'amp_dtype', 'channels_last', 'torchcompile', 'torchcompile_mode', 'checkpoint_hist', 'seed', 'resume'),
    *('validation_batch_size', 'val_interval', 'recovery_interval', 'no_prefetcher', 'log_wandb', 'wandb_project'),
    *('wandb_tags', 'wandb_resume_id', 'log_interval', 'batch_size'),
}


def collect(comparison: Comparison) -> Results:
    """What the runs of a comparison gave so far."""
    options, name = comparison.options, comparison.recipe.stem
    kwargs = {'last': options.last, 'holm': options.holm, 'published': paper_top1(comparison)}
    return Results(name, comparison.variants, comparison.results, options.baseline, comparison.images, **kwargs)


def table_text(several: Sequence[Results], form: str = 'md') -> str:
    """The table of one recipe, or of several side by side, as 'md', 'csv' or 'latex'."""
    if form == 'csv':
        named = [{'recipe': results.name} if len(several) > 1 else {} for results in several]
        return csv_table([{**name, **row} for name, one in zip(named, several, strict=True) for row in make_table(one)])
    shown = shown_table(several)
    return (latex if form == 'latex' else markdown)(shown) if shown else ''


def write_report(several: Sequence[Results], output: Path, about: str = '') -> str:
    """Writes the table.

    Args:
        several: a recipe each.
        output: the folder to write to.
        about: what else `results.md` tells.

    Returns:
        The table and its explanation, for the screen.
    """
    title = f'# {", ".join(results.name for results in several)}: comparison of mix modes'
    document = [title, table_text(several), explanation(several), *_evaluated(several), about]
    document += left_out(several, '\n')
    if len(several) == 1 and several[0].finished:
        document.append('![validation curves and differences](results.png)')
        if several[0].evaluated:
            document.append('![confidence and accuracy](reliability.png)')
    write_bytes(output / 'results.md', '\n\n'.join(filter(None, document)).encode() + b'\n')
    write_bytes(output / 'results.csv', table_text(several, 'csv').encode())
    return '\n\n'.join(['', screen_text(several), f'{output}/results.md, results.csv'])


def screen_text(several: Sequence[Results]) -> str:
    """The table and its explanation."""
    parts = [table_text(several), explanation(several), *_evaluated(several), *left_out(several)]
    return '\n\n'.join(filter(None, parts))


def _evaluated(several: Sequence[Results]) -> list[str]:
    """The tables of what was measured besides, under the names of the recipes where there are several."""
    tables = {results.name: evaluated_table(results) for results in several}
    names = {name: f'{name}:\n\n' * (len(several) > 1) for name in tables}
    return [names[name] + markdown(table) for name, table in tables.items() if table]


def left_out(several: Sequence[Results], below: str = '') -> list[str]:
    """Paragraphs about the runs that are not in the table as they should be; `below` stands under each title."""
    lines: dict[str, list[str]] = {'Failed': [], 'Unfinished': [], 'Not compared': [], 'Evaluation': []}
    for results in several:
        for run in results.runs:
            if run.state != 'finished':
                lines['Failed' if run.problem else 'Unfinished'].append(f'{run}')
            if note := run.evaluated.get('note'):
                lines['Evaluation'].append(f'{run.variant} seed {run.seed} {note}')
        for row, name in itertools.product(results.rows, results.baselines):
            if said := results.pairs(row, name)[1]:
                lines['Not compared'].append(f'{row.name} with {name}: {", ".join(sorted(said))}')
    return ['\n'.join([f'{title}:{below}', *(f'- {one}' for one in found)]) for title, found in lines.items() if found]


def write_pictures(results: Results, output: Path) -> list[str]:
    """Writes the pictures of what has finished, and of what was evaluated; returns their paths for the screen."""
    pictures = []
    for name, plot, there in (
        ('results.png', plot_results, results.finished),
        ('reliability.png', plot_reliability, results.evaluated),
    ):
        picture = output / name
        picture.unlink(missing_ok=True)  # of an earlier call, for other results
        if there:
            save_figure(plot(results), picture)
            pictures.append(str(picture))
    return pictures


def paper_top1(comparison: Comparison) -> dict[str, float]:
    """The paper's numbers, if recipe, data and epochs are the paper's, for the mix modes that were not changed."""
    paper, options = PUBLISHED.get(comparison.recipe.stem), comparison.options
    if not comparison.plain or paper is None or options.last > 1:
        return {}
    if comparison.images not in (paper.validation_images, None) or options.metric not in (None, METRICS[0]):
        return {}
    recipe = comparison.plain
    compared = recipe.keys() - _NOT_THE_RECIPE - varied_options()

    def is_the_papers(variant: Variant) -> bool:
        training = variant.resolved
        same_batch = training['batch_size'] * comparison.processes == recipe['batch_size'] * paper.processes
        return same_batch and all(training.get(key) == recipe[key] for key in compared) and not variant.changed

    shown = [variant.name for variant in comparison.variants if is_the_papers(variant)]
    return {mode: paper.top1[mode] for mode in shown if mode in paper.top1}


def explanation(several: Sequence[Results]) -> str:
    """Says what the columns of a table mean."""
    runs = [run for results in several for run in results.finished]
    if not runs:
        return 'No run has finished.'
    first, table = several[0], [row for results in several for row in make_table(results)]
    filled = {column for row in table for column, value in row.items() if value is not None}
    compared = any(column.startswith('difference_to_') for column in filled)
    interval = any(column.startswith('difference_to_') and column.endswith('_low') for column in filled)
    epochs = ' or '.join(map(str, sorted({run.done for run in runs})))
    seeds = ', '.join(map(str, sorted({run.seed for run in runs})))
    spread = 'mean ± sample standard deviation over seeds' if any(c.endswith('_std') for c in filled) else 'seed'
    paper = PUBLISHED.get(first.name)
    title = TITLES.get(first.metric, first.metric)
    title = title[0].upper() + title.removesuffix(' (%)')[1:]
    when = 'after the last epoch' if first.last == 1 else f'as the mean over the last {first.last} validated epochs'
    unit = 'in percentage points, ' if first.metric in TITLES else ''
    corrected = " and p, with Holm's correction over the rows, below 0.05" if first.holm else ''
    clear = f'if all of it is on that side{corrected}'
    notes = [
        (True, f'{title} on the validation images {when} ({epochs}): {spread} {seeds}.'),
        (
            interval,
            f"Differences are {unit}paired by seed, with their 95 % interval (Student's t, n − 1): "
            f'"better" or "worse" {clear}, "not better" else.',
        ),
        (
            compared and not interval,
            f'Differences are {unit}paired by seed; one seed gives no interval, so no ranking.',
        ),
        (
            'image_error' in filled,
            f'± images: the standard error due to {first.images or 0:,} validation images alone, √(p (1 − p) / n); '
            'all seeds share them.',
        ),
        ('epoch_seconds' in filled, 'The time of an epoch is that of training and validation.'),
        (
            'published' in filled,
            f'Published: {paper and paper.where} of "A Unified Analysis of Mixed Sample Data Augmentation".',
        ),
    ]
    return '\n'.join(note for applies, note in notes if applies)


def settings(comparison: Comparison) -> str:
    """What a comparison was trained with, as a list."""
    lines = [f'- recipe: `{comparison.recipe}`']
    if comparison.script:
        lines.append(f'- script: `{comparison.script}`')
    if given := [*comparison.torchrun, *comparison.arguments]:
        lines.append(f'- arguments: `{shlex.join(given)}`')
    return '\n'.join(lines)
