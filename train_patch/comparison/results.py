"""From finished runs to one table, in Markdown and CSV.

Top-1 is that of the last epoch, so that no run profits from choosing its best epoch on the validation images.
"""

import csv
import io
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..trainer.summary import read_table

METRIC = 'eval_top1'
CONFIDENCE = 0.95


@dataclass(frozen=True)
class RunResult:
    """What one finished training run gave.

    Args:
        variant: name of the row of the table.
        seed: the run's seed.
        curve: epoch, counted from 0 → top-1 in percent, for each epoch that was validated.
        epoch_seconds: seconds an epoch took, validation included; None where it could not be measured.
        validation_images: how many images top-1 was measured on, where that is known.
        jobs: how many runs were trained at once, itself included.
        threads: how many threads torch computed with, in each of its processes.
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
    """A run that did not come to its end.

    Args:
        variant: name of the row of the table.
        seed: the run's seed.
        reason: what it said.
        log: where it said it.
    """

    variant: str
    seed: int
    reason: str
    log: Path

    @property
    def kind(self) -> str:
        """'diverged' where the loss was no longer finite, else 'failed'."""
        return 'diverged' if 'diverged' in self.reason else 'failed'

    def __str__(self) -> str:
        return f'{self.variant} seed {self.seed}: {self.reason}, see {self.log}'


@dataclass(frozen=True)
class Difference:
    """How far one row lies above another in top-1, paired by seed.

    Args:
        mean: percentage points.
        low: lower end of the 95 % interval (Student's t, n − 1); None with one seed.
        high: its upper end.
    """

    mean: float
    low: float | None = None
    high: float | None = None

    @property
    def verdict(self) -> str:
        """'better' or 'worse' where the interval lies on that side of 0, else 'not better'; '' without an interval."""
        if self.low is None or self.high is None:
            return ''
        return 'better' if self.low > 0 else 'worse' if self.high < 0 else 'not better'


@dataclass(frozen=True)
class Row:
    """One row of the table; accuracies in percent, differences in percentage points.

    Args:
        variant: its name.
        top1: seed → top-1 of the run that finished.
        failed: how many did not, by `Failure.kind`.
        differences: baseline → difference to it, where both have a seed in common; none to itself.
        image_error: the standard error of `mean` that the number of validation images alone makes.
        epoch_seconds: mean over the runs.
        published: top-1 as the paper prints it.
    """

    variant: str
    top1: Mapping[int, float]
    failed: Mapping[str, int] = field(default_factory=dict)
    differences: Mapping[str, Difference] = field(default_factory=dict)
    image_error: float | None = None
    epoch_seconds: float | None = None
    published: float | None = None

    @property
    def mean(self) -> float | None:
        """Mean over the seeds."""
        return statistics.fmean(self.top1.values()) if self.top1 else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation over the seeds; None with fewer than two."""
        return statistics.stdev(self.top1.values()) if len(self.top1) > 1 else None


def epoch_seconds(path: Path, val_interval: int) -> float | None:
    """Seconds per epoch from the `times.csv` of the project's own script: training, and validation's share of it.

    The median over the epochs, because the first one holds the start of the loader's workers.

    Args:
        path: the file; it may be missing.
        val_interval: epochs from one validation to the next; the file has a row for each validation.

    Returns:
        Seconds, or None where there is no row.
    """
    rows = read_table(path).values()
    seconds = [float(row['train_time']) + float(row['eval_time']) / val_interval for row in rows]
    return statistics.median(seconds) if seconds else None


def paired_difference(one: Mapping[int, float], other: Mapping[int, float]) -> Difference | None:
    """The difference of two rows over the seeds that both have; None where they have none in common.

    Args:
        one: seed → top-1.
        other: seed → top-1 of the baseline.
    """
    differences = [top1 - other[seed] for seed, top1 in one.items() if seed in other]
    if not differences:
        return None
    mean, count = statistics.fmean(differences), len(differences)
    if count == 1:
        return Difference(mean)
    from scipy.special import stdtrit  # an extra, and slow to import

    quantile = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2))
    half = quantile * statistics.stdev(differences) / math.sqrt(count)
    return Difference(mean, mean - half, mean + half)


def image_error(top1: float, images: int) -> float:
    """The standard error, in percentage points, of a top-1 in percent that was measured on so many images."""
    part = top1 / 100
    return 100 * math.sqrt(part * (1 - part) / images)


def table(
    results: Sequence[RunResult],
    failures: Sequence[Failure],
    variants: Sequence[str],
    baselines: Sequence[str],
    published: Mapping[str, float],
) -> list[Row]:
    """One row for each variant that has a run that ended, in the order of `variants`.

    Args:
        results: of the finished runs.
        failures: the others that ended.
        variants: names of the rows asked for.
        baselines: names of the rows to take differences to.
        published: name of a row → top-1 in percent as the paper prints it.
    """
    top1 = {variant: {r.seed: r.top1 for r in results if r.variant == variant} for variant in variants}
    rows = []
    for variant in variants:
        runs = [result for result in results if result.variant == variant]
        failed = Counter(failure.kind for failure in failures if failure.variant == variant)
        differences = {
            baseline: difference
            for baseline in baselines
            if baseline != variant and (difference := paired_difference(top1[variant], top1.get(baseline, {})))
        }
        images = {run.validation_images for run in runs}
        times = [run.epoch_seconds for run in runs if run.epoch_seconds is not None]
        row = Row(
            variant,
            top1[variant],
            failed,
            differences,
            epoch_seconds=statistics.fmean(times) if times else None,
            published=published.get(variant),
            image_error=image_error(statistics.fmean(top1[variant].values()), known)
            if len(images) == 1 and (known := images.pop())
            else None,
        )
        if runs or failed:
            rows.append(row)
    return rows


def markdown_table(rows: Sequence[Row], baselines: Sequence[str]) -> str:
    """The table in Markdown, in aligned columns so that it reads as well on a screen. '–' stands for 'not there'."""
    shown = [baseline for baseline in baselines if any(baseline in row.differences for row in rows)]
    show_images = any(row.image_error is not None for row in rows)
    show_published = any(row.published is not None for row in rows)
    cells = [['mode', 'top-1 (%)', *(f'difference to {baseline}' for baseline in shown)]]
    cells[0] += ['± images'] if show_images else []
    cells[0] += ['runs', 's / epoch']
    cells[0] += ['published (%)'] if show_published else []
    for row in rows:
        line = [row.variant, _spread(row), *(_difference(row.differences.get(baseline)) for baseline in shown)]
        line += [_number(row.image_error, '.2f')] if show_images else []
        line += [_runs(row), _number(row.epoch_seconds, '.3g')]
        line += [_number(row.published, '.2f')] if show_published else []
        cells.append(line)
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    aligned = [
        [line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        for line in cells
    ]
    rule = ['-' * widths[0]] + ['-' * (width - 1) + ':' for width in widths[1:]]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in [aligned[0], rule, *aligned[1:]])


def _number(value: float | None, form: str) -> str:
    return '–' if value is None else format(value, form)


def _spread(row: Row) -> str:
    return _number(row.mean, '.2f') + ('' if row.std is None else f' ± {row.std:.2f}')


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return '–'
    if difference.low is None:
        return f'{difference.mean:+.2f}'
    verdict = '' if difference.verdict == 'better' else f' {difference.verdict}'
    return f'{difference.mean:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]{verdict}'


def _runs(row: Row) -> str:
    return ', '.join([str(len(row.top1)), *(f'{count} {kind}' for kind, count in row.failed.items())])


def csv_table(rows: Sequence[Row], baselines: Sequence[str], seeds: Sequence[int]) -> str:
    """The table as CSV with all digits, and a column of top-1 for each seed; what is not there is left empty."""
    text = io.StringIO(newline='')
    differences = [f'difference_to_{baseline}{end}' for baseline in baselines for end in ('', '_low', '_high')]
    columns = ['mode', 'top1_mean', 'top1_std', *differences, 'image_error', 'runs', 'failed', 'diverged']
    columns += ['epoch_seconds', 'published', *(f'top1_seed{seed}' for seed in seeds)]
    writer = csv.DictWriter(text, columns, lineterminator='\n')
    writer.writeheader()
    for row in rows:
        values: dict[str, object] = dict(
            mode=row.variant,
            top1_mean=row.mean,
            top1_std=row.std,
            image_error=row.image_error,
            runs=len(row.top1),
            failed=row.failed.get('failed', 0),
            diverged=row.failed.get('diverged', 0),
            epoch_seconds=row.epoch_seconds,
            published=row.published,
        )
        for baseline, difference in row.differences.items():
            ends = (('', difference.mean), ('_low', difference.low), ('_high', difference.high))
            values |= {f'difference_to_{baseline}{end}': value for end, value in ends}
        writer.writerow(values | {f'top1_seed{seed}': top1 for seed, top1 in row.top1.items()})
    return text.getvalue()
