"""The picture of a comparison: validation curves, and the differences of each row to the baselines."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..common.tables import Table
from .results import RunResult, spread


def plot_results(
    results: Sequence[RunResult], table: Table, baselines: Sequence[str], colours: Mapping[str, str], name: str
) -> Any:
    """Plots the mean over seeds, with a band of one standard deviation to either side, and the differences.

    Args:
        results: of every finished run.
        table: from `make_table`.
        baselines: names of the rows that differences were taken to.
        colours: name of a row → colour.
        name: of the recipe, for the title.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure  # an extra, and slow to import; the Figure alone needs no screen

    rows = [row for row in table if row['runs']]
    compared = [name for name in baselines if any(row[f'difference_to_{name}'] is not None for row in rows)]
    figure = Figure(figsize=(12 if compared else 8, 5), layout='constrained')
    panels = figure.subplots(1, 2, width_ratios=(3, 2)) if compared else [figure.subplots()]
    _plot_curves(panels[0], results, rows, colours)
    panels[0].set_title(
        f'{name}: ' + ('mean ± standard deviation over seeds' if len(results) > len(rows) else 'one seed')
    )
    if compared:
        _plot_differences(panels[1], rows, compared, colours)
    return figure


def _plot_curves(axes: Any, results: Sequence[RunResult], rows: Table, colours: Mapping[str, str]) -> None:
    lowest = []
    for row in rows:
        curves = [result.curve for result in results if result.variant == row['mode']]
        epochs = sorted(set.intersection(*map(set, curves)))
        top1 = np.array([[curve[epoch] for epoch in epochs] for curve in curves])
        mean, counted = top1.mean(0), np.array(epochs) + 1
        std = top1.std(0, ddof=1) if len(curves) > 1 else np.zeros_like(mean)
        axes.plot(counted, mean, '.-', label=f'{row["mode"]}  {spread(row)}', color=colours[row['mode']])
        axes.fill_between(counted, mean - std, mean + std, color=colours[row['mode']], alpha=0.15, linewidth=0)
        lowest.append(np.min((mean - std)[4 * counted >= counted[-1]]))
    axes.set_ylim(bottom=max(0.0, min(lowest) - 1))  # the first quarter, near chance, would flatten all differences
    axes.set(xlabel='epoch', ylabel='validation top-1 (%)')
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(title='last epoch', loc='lower right')


def _plot_differences(axes: Any, rows: Table, baselines: Sequence[str], colours: Mapping[str, str]) -> None:
    for number, baseline in enumerate(baselines):
        column, fill = f'difference_to_{baseline}', {} if number == 0 else {'markerfacecolor': 'white'}
        axes.plot([], [], 'o', color='grey', label=f'to {baseline}', **fill)
        for place, row in enumerate(rows):
            if row[column] is not None:
                half = None if row[f'{column}_high'] is None else row[f'{column}_high'] - row[column]
                height = place + 0.24 * (number - (len(baselines) - 1) / 2)
                axes.errorbar(row[column], height, xerr=half, fmt='o', color=colours[row['mode']], **fill)
    axes.axvline(0, color='grey', linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row['mode'] for row in rows])
    axes.invert_yaxis()
    axes.set(title='difference, paired by seed, 95 % interval', xlabel='percentage points')
    axes.grid(axis='x', alpha=0.3)
    axes.legend()
