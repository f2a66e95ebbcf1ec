"""The table of finished runs, as Markdown and CSV.

Top-1 is that of the last epoch, because choosing the best epoch on the validation images would flatter a run.
"""

import csv
import io
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.tables import Table, markdown

METRIC = 'eval_top1'


@dataclass(frozen=True)
class RunResult:
    """The result of one finished run.

    Args:
        variant: name of the row of the table.
        seed: the run's seed.
        curve: epoch, counted from 0 → top-1 in percent, for each epoch that was validated.
        epoch_seconds: seconds an epoch took, validation included; None if it could not be measured.
        validation_images: number of images that top-1 was measured on; None if it is unknown.
        jobs: number of runs that were trained at once, itself included.
        threads: number of threads that torch computed with, in each process.
    """

    variant: str
    seed: int
    curve: Mapping[int, float]
    epoch_seconds: float | None
    validation_images: int | None = None
    jobs: int | None = None
    threads: int | None = None

    @property
    def top1(self) -> float:
        """Top-1 in percent at the last epoch."""
        return self.curve[max(self.curve)]


@dataclass(frozen=True)
class Failure:
    """A run that ended without a result.

    Args:
        variant: name of the row of the table.
        seed: the run's seed.
        reason: its error message.
        log: the file with all of its output.
    """

    variant: str
    seed: int
    reason: str
    log: Path

    @property
    def diverged(self) -> bool:
        """Whether it ended because the loss was no longer finite."""
        return 'diverged' in self.reason

    def __str__(self) -> str:
        return f'{self.variant} seed {self.seed}: {self.reason}, see {self.log}'


def make_table(
    results: Sequence[RunResult],
    failures: Sequence[Failure],
    variants: Sequence[str],
    baselines: Sequence[str],
    seeds: Sequence[int],
    published: Mapping[str, float],
) -> Table:
    """Makes one row for each variant with a run that ended, in the order of `variants`.

    Args:
        results: of the finished runs.
        failures: of the others that ended.
        variants: names of the rows asked for.
        baselines: names of the rows to take differences to.
        seeds: those asked for.
        published: name of a row → top-1 in percent as the paper prints it.

    Returns:
        The rows of `results.csv`. Accuracies are in percent, differences in percentage points, with the ends of their
        interval; `image_error` is the standard error of `top1_mean` due to the number of validation images alone.
        None for a missing value.
    """
    top1 = {variant: {r.seed: r.top1 for r in results if r.variant == variant} for variant in variants}
    table = []
    for variant in variants:
        runs = [result for result in results if result.variant == variant]
        failed = [failure.diverged for failure in failures if failure.variant == variant]
        if not runs and not failed:
            continue
        row: dict[str, Any] = {'mode': variant, 'top1_mean': _mean(top1[variant].values())}
        row['top1_std'] = statistics.stdev(top1[variant].values()) if len(runs) > 1 else None
        for baseline in baselines:
            difference = paired_difference(top1[variant], top1[baseline]) if baseline != variant else (None, None, None)
            names = (f'difference_to_{baseline}{end}' for end in ('', '_low', '_high'))
            row |= zip(names, difference, strict=True)
        images = {run.validation_images for run in runs}
        row['image_error'] = image_error(row['top1_mean'], images.pop()) if len(images) == 1 else None
        row |= {'runs': len(runs), 'failed': failed.count(False), 'diverged': failed.count(True)}
        row['epoch_seconds'] = _mean([run.epoch_seconds for run in runs if run.epoch_seconds is not None])
        row['published'] = published.get(variant)
        table.append(row | {f'top1_seed{seed}': top1[variant].get(seed) for seed in seeds})
    return table


def _mean(values: Any) -> float | None:
    return statistics.fmean(values) if values else None


def paired_difference(one: Mapping[int, float], other: Mapping[int, float]) -> tuple[float | None, ...]:
    """Compares two rows over the seeds that both have.

    Args:
        one: seed → top-1.
        other: seed → top-1 of the baseline.

    Returns:
        Mean difference, and lower and upper end of its 95 % interval (Student's t, n − 1). Without a seed in common
        all are None; with one seed there is no interval.
    """
    differences = [top1 - other[seed] for seed, top1 in one.items() if seed in other]
    mean, count = _mean(differences), len(differences)
    if mean is None or count == 1:
        return mean, None, None
    from scipy.special import stdtrit  # an extra, and slow to import

    half = float(stdtrit(count - 1, 0.975)) * statistics.stdev(differences) / math.sqrt(count)
    return mean, mean - half, mean + half


def image_error(top1: float, images: int | None) -> float | None:
    """Returns the standard error, in percentage points, of a top-1 in percent that was measured on so many images."""
    part = top1 / 100
    return 100 * math.sqrt(part * (1 - part) / images) if images else None


def markdown_table(table: Table, baselines: Sequence[str]) -> str:
    """Returns the table as Markdown, without the columns in which every cell is empty."""
    rows = []
    for row in table:
        cells = {'mode': row['mode'], 'top-1 (%)': spread(row)}
        cells |= {f'difference to {baseline}': _interval(row, baseline) for baseline in baselines}
        failed = [f'{row[kind]} {kind}' for kind in ('failed', 'diverged') if row[kind]]
        cells |= {'± images': _two_digits(row['image_error']), 'runs': ', '.join([str(row['runs']), *failed])}
        cells |= {'s / epoch': row['epoch_seconds'], 'published (%)': _two_digits(row['published'])}
        rows.append(cells)
    shown = [column for column in rows[0] if any(cells[column] is not None for cells in rows)]
    return markdown([{column: cells[column] for column in shown} for cells in rows])


def _two_digits(value: float | None) -> str | None:
    return None if value is None else f'{value:.2f}'


def spread(row: Mapping[str, Any]) -> str:
    """'75.25 ± 0.50': mean and standard deviation of a row's top-1."""
    return (_two_digits(row['top1_mean']) or '–') + ('' if row['top1_std'] is None else f' ± {row["top1_std"]:.2f}')


def _interval(row: Mapping[str, Any], baseline: str) -> str | None:
    mean, low, high = (row[f'difference_to_{baseline}{end}'] for end in ('', '_low', '_high'))
    verdict = (
        '' if low is None else f' [{low:+.2f}, {high:+.2f}]' + (' worse' * (high < 0) or ' not better' * (low <= 0))
    )
    return None if mean is None else f'{mean:+.2f}{verdict}'


def csv_table(table: Table) -> str:
    """Returns the table as CSV with all digits; missing values are empty."""
    text = io.StringIO(newline='')
    writer = csv.DictWriter(text, table[0], lineterminator='\n')
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()
