"""The picture of a comparison: validation curves, the metric over a number that varies, and the differences."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..common.tables import Table
from .results import TITLES, Results, Row, make_table, spread, students_t


def plot_results(results: Results) -> Any:
    """Plots the mean over seeds, with a band of one standard deviation to either side, and the differences.

    Args:
        results: with a finished run.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure  # an extra, and slow to import; the Figure alone needs no screen

    table = [cells for cells in make_table(results) if cells['runs']]
    rows = _shaded([row for row in results.rows if results.of(row)])
    compared = [name for name in results.baselines if any(c[f'difference_to_{name}'] is not None for c in table)]
    number = _number_that_varies(rows)
    widths = [3] + [2] * bool(number) + [2] * bool(compared)
    figure = Figure(figsize=(4 * len(widths) + 4, max(5, 0.3 * len(rows))), layout='constrained')
    panels = figure.subplots(1, len(widths), width_ratios=widths, squeeze=False)[0]
    _plot_curves(panels[0], results, rows, table)
    if number:
        _plot_over(panels[1], results, rows, number)
    if compared:
        _plot_differences(panels[-1], rows, table, compared)
    return figure


def plot_reliability(results: Results) -> Any:
    """Plots accuracy over confidence on the validation images, the mean over seeds, in intervals with enough images.

    Args:
        results: with evaluated runs.

    Returns:
        A matplotlib figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 5.5), layout='constrained')
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], color='grey', linewidth=0.8)
    for row in _shaded(results.rows):
        bins = [run.evaluated['bins'] for run in results.of(row).values() if 'bins' in run.evaluated]
        if bins:
            count, confidence, right = np.sum(bins, axis=0).T
            there = count >= 10 * len(bins)  # a handful of images say nothing
            place, height = (100 * part[there] / count[there] for part in (confidence, right))
            axes.plot(place, height, 'o-', color=row.colour, label=row.name)
    axes.set(title=f'{results.name}: below the line a model is too sure', xlabel='confidence (%)')
    axes.set(ylabel='accuracy (%)', xlim=(0, 100), ylim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(loc='upper left')
    return figure


def _shaded(rows: Sequence[Row]) -> list[Row]:
    """The rows, paler for the earlier ones of a mode that stands there several times."""
    names = [row.mode for row in rows]
    shares = [names[: place + 1].count(name) / names.count(name) for place, name in enumerate(names)]
    return [
        replace(row, colour=f'{row.colour}{round(255 * (0.3 + 0.7 * share)):02x}') if names.count(row.mode) > 1 else row
        for row, share in zip(rows, shares, strict=True)
    ]


def _number_that_varies(rows: Sequence[Row]) -> str:
    """The one setting in which rows differ, if it is a number; else ''."""
    keys = {key for row in rows for key, _ in row.settings}
    try:
        values = {float(value) for row in rows for _, value in row.settings}
    except ValueError:
        return ''
    return keys.pop() if len(keys) == 1 and len(values) > 1 else ''


def _plot_curves(axes: Any, results: Results, rows: Sequence[Row], table: Table) -> None:
    lowest, metric = [], results.metric.removeprefix('eval_')
    for row, cells in zip(rows, table, strict=True):
        curves = [run.curve for run in results.of(row).values()]
        epochs = sorted(set.intersection(*map(set, curves)))
        values = np.array([[curve[epoch] for epoch in epochs] for curve in curves])
        mean, counted = values.mean(0), np.array(epochs) + 1
        std = values.std(0, ddof=1) if len(curves) > 1 else np.zeros_like(mean)
        axes.plot(counted, mean, '.-', label=f'{row.name}  {spread(cells, metric)}', color=row.colour)
        axes.fill_between(counted, mean - std, mean + std, color=row.colour, alpha=0.15, linewidth=0)
        lowest.append(np.min((mean - std)[4 * counted >= counted[-1]]))
    if results.metric in TITLES:
        axes.set_ylim(bottom=max(0.0, min(lowest) - 1))  # the first quarter, near chance, would flatten all differences
    title = 'mean ± standard deviation over seeds' if len(results.finished) > len(rows) else 'one seed'
    axes.set(title=f'{results.name}: {title}', xlabel='epoch')
    axes.set_ylabel('validation ' * (metric != results.metric) + TITLES.get(results.metric, results.metric))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend(title='last epoch', loc='lower right')


def _plot_over(axes: Any, results: Results, rows: Sequence[Row], number: str) -> None:
    """The metric over a setting, a line for each mode, with 95 % intervals of the mean; a row without it is level.

    A row that leaves the setting of its mode at the default stands where its runs say that this is.
    """
    for mode in dict.fromkeys(row.mode for row in rows):
        own, points = [row for row in rows if row.mode == mode], []
        for row in own:
            runs = [*results.of(row).values()]
            default = runs[0].arguments.get(number) if len(own) > 1 else None
            place = dict(row.settings).get(number, default)
            mean, _, high = np.array(students_t([run.value for run in runs])[:3], dtype=float)
            half = np.nan_to_num(high - mean)  # one seed has no interval
            if place is not None:
                points.append((float(place), mean, half))
                continue
            axes.axhline(mean, linestyle='--', color=row.colour, label=mode)
            axes.axhspan(mean - half, mean + half, color=row.colour, alpha=0.1, linewidth=0)
        if points:
            places, means, halves = zip(*sorted(points), strict=True)
            axes.errorbar(places, means, yerr=halves, fmt='o-', capsize=3, color=own[-1].colour, label=mode)
    axes.set(xlabel=number, ylabel=TITLES.get(results.metric, results.metric), title='last epoch, 95 % interval')
    axes.grid(alpha=0.3)
    axes.legend()


def _plot_differences(axes: Any, rows: Sequence[Row], table: Table, baselines: Sequence[str]) -> None:
    for number, baseline in enumerate(baselines):
        column, fill = f'difference_to_{baseline}', {} if number == 0 else {'markerfacecolor': 'white'}
        axes.plot([], [], 'o', color='grey', label=f'to {baseline}', **fill)
        for place, (row, cells) in enumerate(zip(rows, table, strict=True)):
            if cells[column] is not None:
                half = None if cells[f'{column}_high'] is None else cells[f'{column}_high'] - cells[column]
                height = place + 0.24 * (number - (len(baselines) - 1) / 2)
                axes.errorbar(cells[column], height, xerr=half, fmt='o', color=row.colour, **fill)
    axes.axvline(0, color='grey', linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.invert_yaxis()
    axes.set(title='difference, paired by seed, 95 % interval', xlabel='percentage points')
    axes.grid(axis='x', alpha=0.3)
    axes.legend()
