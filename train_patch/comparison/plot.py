"""The picture of a comparison: validation curves, and how far each row lies above the baselines."""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from .results import Row, RunResult


def plot_results(
    results: Sequence[RunResult], rows: Sequence[Row], baselines: Sequence[str], colours: Mapping[str, str], name: str
) -> Any:
    """Plots the mean over seeds, with a band of one standard deviation to either side, and the differences.

    Args:
        results: of every finished run.
        rows: the table; gives the order and the numbers.
        baselines: names of the rows that differences were taken to.
        colours: name of a row → colour.
        name: of the recipe, for the title.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure  # an extra, and slow to import; the Figure alone needs no screen

    rows = [row for row in rows if row.top1]
    compared = [baseline for baseline in baselines if any(baseline in row.differences for row in rows)]
    figure = Figure(figsize=(12 if compared else 8, 5), layout='constrained')
    panels = figure.subplots(1, 2, width_ratios=(3, 2)) if compared else [figure.subplots()]
    _plot_curves(panels[0], results, rows, colours, name)
    if compared:
        _plot_differences(panels[1], rows, compared, colours)
    return figure


def _plot_curves(
    axes: Any, results: Sequence[RunResult], rows: Sequence[Row], colours: Mapping[str, str], name: str
) -> None:
    from matplotlib.ticker import MaxNLocator

    settled = []
    for row in rows:
        curves = [result.curve for result in results if result.variant == row.variant]
        epochs = sorted(set.intersection(*(set(curve) for curve in curves)))
        columns = [[curve[epoch] for curve in curves] for epoch in epochs]
        means = [statistics.fmean(column) for column in columns]
        stds = [statistics.stdev(column) if len(column) > 1 else 0.0 for column in columns]
        counted = [epoch + 1 for epoch in epochs]
        label = f'{row.variant}  {row.mean:.2f}' + ('' if row.std is None else f' ± {row.std:.2f}')
        axes.plot(counted, means, label=label, color=colours[row.variant], linewidth=1.6, marker='.', markersize=4)
        lower = [mean - std for mean, std in zip(means, stds, strict=True)]
        upper = [mean + std for mean, std in zip(means, stds, strict=True)]
        axes.fill_between(counted, lower, upper, color=colours[row.variant], alpha=0.15, linewidth=0)
        settled += [low for low, epoch in zip(lower, counted, strict=True) if 4 * epoch >= counted[-1]]
        settled += [means[-1]]
    # The first epochs of every row are near chance: showing them would press all that is to be compared into a line.
    top = min(100.0, max(max(result.curve.values()) for result in results) + 1)
    axes.set_ylim(max(0.0, min(settled) - 1), top)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    spread = any(row.std is not None for row in rows)
    title = f'{name}: mean ± standard deviation over seeds' if spread else f'{name}: one seed'
    axes.set(title=title, xlabel='epoch', ylabel='validation top-1 (%)')
    axes.grid(alpha=0.3)
    axes.legend(title='last epoch', loc='lower right')


def _plot_differences(axes: Any, rows: Sequence[Row], baselines: Sequence[str], colours: Mapping[str, str]) -> None:
    for place, row in enumerate(rows):
        for number, baseline in enumerate(baselines):
            difference = row.differences.get(baseline)
            if difference is None:
                continue
            height = place + 0.24 * (number - (len(baselines) - 1) / 2)
            if difference.low is not None and difference.high is not None:
                axes.plot([difference.low, difference.high], [height, height], color=colours[row.variant], linewidth=2)
            filling = colours[row.variant] if number == 0 else 'white'
            axes.plot([difference.mean], [height], 'o', color=colours[row.variant], markerfacecolor=filling)
    for number, baseline in enumerate(baselines):
        filling = 'grey' if number == 0 else 'white'
        axes.plot([], [], 'o', color='grey', markerfacecolor=filling, label=f'to {baseline}')
    axes.axvline(0, color='grey', linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row.variant for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    interval = any(d.low is not None for row in rows for d in row.differences.values())
    axes.set(title='difference, paired by seed' + (', 95 % interval' if interval else ''), xlabel='percentage points')
    axes.grid(axis='x', alpha=0.3)
    axes.legend()
