"""Writes the results of a comparison or of a table: `results.md`, `results.csv` and `results.png`."""

import itertools
import shlex
from collections.abc import Sequence
from pathlib import Path

from ..common.files import write_bytes
from ..common.tables import latex, markdown
from ..drawing.pictures import save_figure
from .comparison import Comparison
from .paper import papers_numbers
from .plot import plot_reliability, plot_results
from .results import TITLES, Results, csv_table, evaluated_table, make_table, shown_table


def collect(comparison: Comparison) -> Results:
    """What the runs of a comparison gave so far."""
    options, name = comparison.options, comparison.recipe.stem
    paper = papers_numbers(
        {row.name: row.resolved for row in comparison.variants}, comparison.images, comparison.processes
    )
    asked = (options.baseline, comparison.images, options.last, options.holm, paper)
    return Results(name, comparison.variants, comparison.results, *asked)


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
    alone = several[0] if len(several) == 1 else Results('', [], [])
    pictures = ['![validation curves and differences](results.png)'] * bool(alone.finished)
    pictures += ['![confidence and accuracy](reliability.png)'] * bool(alone.evaluated)
    document = '\n\n'.join([title, screen_text(several, about, '\n'), *pictures])
    write_bytes(output / 'results.md', f'{document}\n'.encode())
    write_bytes(output / 'results.csv', table_text(several, 'csv').encode())
    return '\n\n'.join(['', screen_text(several), f'{output}/results.md, results.csv'])


def screen_text(several: Sequence[Results], about: str = '', below: str = '') -> str:
    """The table and its explanation, what was measured besides, and the runs left out (`below` as in `left_out`)."""
    measured = [(results.name, evaluated_table(results)) for results in several]
    tables = [f'{name}:\n\n' * (len(several) > 1) + markdown(table) for name, table in measured if table]
    parts = [table_text(several), explanation(several), *tables, about, *left_out(several, below)]
    return '\n\n'.join(filter(None, parts))


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
    title = TITLES.get(first.metric, first.metric)
    title = title[0].upper() + title.removesuffix(' (%)')[1:]
    when = 'after the last epoch' if first.last == 1 else f'as the mean over the last {first.last} validated epochs'
    images = ' on the validation images' * first.metric.startswith('eval_')
    unit = 'in percentage points, ' if first.metric in TITLES else ''
    corrected = " and p, with Holm's correction over the rows, below 0.05" * first.holm
    alone = len(several) == 1  # else the following columns are in results.csv only
    notes = [
        (True, f'{title}{images} {when} ({epochs}): {spread} {seeds}.'),
        (
            interval,
            f"Differences are {unit}paired by seed, with their 95 % interval (Student's t, n − 1): "
            f'"better" or "worse" if all of it is on that side{corrected}, "undecided" else.',
        ),
        (
            compared and not interval,
            f'Differences are {unit}paired by seed; one seed gives no interval, so no ranking.',
        ),
        (
            alone and 'image_error' in filled,
            f'± images: the standard error due to {first.images or 0:,} validation images alone, √(p (1 − p) / n); '
            'all seeds share them.',
        ),
        (
            alone and 'epoch_seconds' in filled,
            'The time of an epoch, training and validation, depends on what else the machine did, such as other runs '
            'beside it; hmix-bench times the methods.',
        ),
        (
            alone and 'published' in filled,
            f'Published: {first.published.where} of "A Unified Analysis of Mixed Sample Data Augmentation".',
        ),
    ]
    return '\n'.join(note for applies, note in notes if applies)


def settings(comparison: Comparison) -> str:
    """What a comparison was trained with, as a list."""
    arguments = shlex.join([*comparison.torchrun, *comparison.arguments])
    said = {'recipe': comparison.recipe, 'script': comparison.script, 'arguments': arguments}
    return '\n'.join(f'- {name}: `{value}`' for name, value in said.items() if value)
