"""Runs as a table: means over seeds, and differences paired by seed; as Markdown, LaTeX and CSV.

A run's value is that of the last epoch, because choosing the best epoch on the validation images would flatter it.
"""

import csv
import io
import itertools
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..common.errors import WrongArguments
from ..common.tables import Table
from ..mixing import mixing_keys
from ..recipes.published import Published
from .reading import METRICS, RunResult, differences

BASELINES = ('none', 'cutmix', 'bbox')
TITLES = {'eval_top1': 'top-1 (%)', 'eval_top5': 'top-5 (%)', 'eval_map': 'mAP (%)'}
"""Column of `summary.csv` → its title in tables; others have their own names."""

MEASURED = {
    'train_top1': 'top-1 on training images (%)',
    'train_nll': 'loss on training images',
    'gap': 'top-1 on training images, less validation',
    'fgsm': 'top-1 under FGSM (%)',
    'pgd': 'top-1 under PGD (%)',
    'corruption': 'top-1 on corrupted images (%)',
    'occlusion': 'top-1 on occluded images (%)',
    'ece': 'calibration error, ECE (%)',
    'nll': 'negative log-likelihood, NLL',
}
"""What `--evaluate` measures → its title; of the moving average under the same name behind `ema_`."""
_LOWER_IS_BETTER = ('loss', 'gap', 'ece', 'nll')
_FOUR_DIGITS = ('loss', 'nll')

_ENDS = ('', '_low', '_high', '_p')


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Args:
        mode: how its runs mix.
        settings: in what else it differs from other rows: argument and value.
        colour: in plots.
    """

    mode: str
    settings: tuple[tuple[str, str], ...] = ()
    colour: str = '#777777'

    @property
    def name(self) -> str:
        """'hmix hmix_ratio=0.25': of the row."""
        return ' '.join([self.mode, *(f'{key}={value}' for key, value in self.settings)])

    @property
    def training(self) -> set[tuple[str, str]]:
        """The settings that are not about mixing, which rows that are compared share."""
        return {(key, value) for key, value in self.settings if key not in mixing_keys()}


@dataclass
class Results:
    """The runs of one recipe.

    Args:
        name: of the recipe.
        rows: all that there may be, in order.
        runs: in any state.
        asked: names of rows, or modes, that the others are compared with; if None, no mixing and CutMix.
        images: number of images that top-1 was measured on; None if it is unknown.
        last: each value is the mean over so many epochs.
        holm: whether a difference must be clear with Holm's correction over the rows, too.
        published: what the paper prints, for the rows that were trained so.
    """

    name: str
    rows: Sequence[Row]
    runs: Sequence[RunResult]
    asked: Sequence[str] | None = None
    images: int | None = None
    last: int = 1
    holm: bool = False
    published: Published = field(default_factory=Published)

    @property
    def finished(self) -> list[RunResult]:
        """The runs that have a result."""
        return [run for run in self.runs if run.state == 'finished']

    @property
    def metric(self) -> str:
        """The column of `summary.csv` that is compared."""
        return next((run.metric for run in self.finished), METRICS[0])

    @property
    def evaluated(self) -> dict[str, str]:
        """What was measured of any run besides its metric: name → title."""
        names = {name for run in self.finished for name in run.evaluated}
        titles = MEASURED | {f'ema_{name}': f'{title}, averaged weights' for name, title in MEASURED.items()}
        return {name: title for name, title in titles.items() if name in names}

    @property
    def baselines(self) -> list[str]:
        """What the rows are compared with."""
        return list(self.asked or [name for name in BASELINES if any(row.mode == name for row in self.rows)])

    def of(self, row: Row | None) -> dict[int, RunResult]:
        """The finished runs of a row, by seed."""
        return {run.seed: run for run in self.finished if row and run.variant == row.name}

    def pairs(self, row: Row, name: str) -> tuple[list[tuple[RunResult, RunResult]], set[str]]:
        """Pairs the runs of a row by seed with those of a baseline: the row of that name, or of that mode and alike.

        Returns:
            The pairs; and in what others differ besides mixing, or, where the baseline was asked for by the whole name
            of a row, besides the settings of both.
        """
        named = [other for other in self.rows if other.name == name]
        found = named or [other for other in self.rows if other.mode == name and other.training == row.training]
        other = found[0] if len(found) == 1 and found[0] is not row else None
        settings = [*row.settings, *other.settings] if named and other and other.settings else []
        pairs, said, baseline = [], set[str](), self.of(other)
        for seed, run in self.of(row).items():
            if beside := baseline.get(seed):
                ignored = {*mixing_keys(), 'device', *(key for key, _ in settings)}
                unlike = differences(run.arguments, beside.arguments, ignored)
                said |= {f'{key} is {here!r} and {there!r}' for key, (here, there) in unlike.items()}
                pairs += [] if unlike else [(run, beside)]
        return pairs, said


def check_baselines(names: Sequence[str] | None, rows: Sequence[Row]) -> None:
    """Raises WrongArguments for a --baseline that is neither a row nor a mode."""
    for name in names or ():
        if not any(name in (row.name, row.mode) for row in rows):
            raise WrongArguments(f'--baseline {name}: no such row; there are {", ".join(row.name for row in rows)}')


def make_table(results: Results) -> Table:
    """Makes one row for each row with a run that was begun, in the order of the rows.

    Returns:
        The rows of `results.csv`. Accuracies are in percent, differences in percentage points, with the ends of their
        interval and their p-value, with `holm` corrected over the rows; `image_error` is the standard error of the mean
        due to the number of validation images alone. None for a missing value.
    """
    table, metric = [], results.metric.removeprefix('eval_')
    for row in results.rows:
        runs, states = results.of(row), Counter(run.state for run in results.runs if run.variant == row.name)
        if not states:
            continue
        cells: dict[str, Any] = {'mode': row.name, **measure(results, row)}
        images = results.images if results.metric == METRICS[0] else None
        cells |= {'image_error': image_error(cells[f'{metric}_mean'], images), 'runs': len(runs)}
        cells |= {state: states[state] for state in ('failed', 'diverged', 'unfinished')}
        cells['epoch_seconds'] = _mean([run.epoch_seconds for run in runs.values() if run.epoch_seconds is not None])
        cells['peak_memory'] = _mean([run.memory for run in runs.values() if run.memory is not None])
        cells['published'] = results.published.top1.get(row.name) if (metric, results.last) == ('top1', 1) else None
        seeds = sorted({run.seed for run in results.finished})
        cells |= {f'{metric}_seed{seed}': runs[seed].value if seed in runs else None for seed in seeds}
        for name in results.evaluated:
            some = [run for run in results.finished if name in run.evaluated]
            some = [replace(run, metric=name, curve={max(run.curve): run.evaluated[name]}) for run in some]
            cells |= measure(replace(results, runs=some), row, f'{name}_')
        table.append(cells)
    plain: Mapping[str, Any] = next((cells for cells in table if cells['mode'] == 'none'), {})
    for cells in table:
        for name in ('epoch_seconds', 'peak_memory'):
            cells[f'{name}_to_none'] = cells[name] / plain[name] if cells[name] and plain.get(name) else None
    prefixes = ('', *(f'{name}_' for name in results.evaluated))
    tests = [f'{prefix}difference_to_{name}_p' for prefix in prefixes for name in results.baselines]
    for column in tests if results.holm else []:
        corrected = holm({place: cells[column] for place, cells in enumerate(table) if cells[column] is not None})
        for place, p in corrected.items():
            table[place][column] = p
    return table


def measure(results: Results, row: Row, prefix: str = '') -> dict[str, Any]:
    """The columns of the metric of a row's runs: mean, standard deviation, differences to the baselines.

    Args:
        results: all runs.
        row: the row.
        prefix: of the names of the differences' columns.
    """
    values, column = [run.value for run in results.of(row).values()], results.metric.removeprefix('eval_')
    cells = {f'{column}_mean': _mean(values), f'{column}_std': statistics.stdev(values) if len(values) > 1 else None}
    for baseline in results.baselines:
        gains = [run.value - other.value for run, other in results.pairs(row, baseline)[0]]
        cells |= zip((f'{prefix}difference_to_{baseline}{end}' for end in _ENDS), students_t(gains), strict=True)
    return cells


def _mean(values: Sequence[float]) -> float | None:
    return statistics.fmean(values) if values else None


def students_t(values: Sequence[float]) -> tuple[float | None, ...]:
    """Student's t over values, such as the differences of pairs.

    Returns:
        Mean, lower and upper end of its 95 % interval, and p-value (n − 1). Without a value all are None; with one
        there is a mean alone.
    """
    mean, count = _mean(values), len(values)
    if mean is None or count == 1:
        return mean, None, None, None
    from scipy.special import stdtr, stdtrit  # an extra, and scipy.stats is slow to import

    error = statistics.stdev(values) / math.sqrt(count)
    half = float(stdtrit(count - 1, 0.975)) * error
    p = 2 * float(stdtr(count - 1, -abs(mean) / error)) if error else float(mean == 0)
    return mean, mean - half, mean + half, p


def holm(p_values: Mapping[Any, float]) -> dict[Any, float]:
    """Holm's correction: the p-values of all tests together, by the same keys."""
    ordered = sorted(p_values, key=p_values.__getitem__)
    steps = (min(1.0, (len(ordered) - place) * p_values[key]) for place, key in enumerate(ordered))
    return dict(zip(ordered, itertools.accumulate(steps, max), strict=True))


def image_error(top1: float | None, images: int | None) -> float | None:
    """Returns the standard error, in percentage points, of a top-1 in percent that was measured on so many images."""
    return math.sqrt(top1 * (100 - top1) / images) if top1 is not None and images else None


def shown_table(several: Sequence[Results]) -> Table:
    """The table for readers: without the columns in which every cell is empty; of several recipes, a column each."""
    rows: dict[str, dict[str, Any]] = {}
    for results in several:
        metric = results.metric.removeprefix('eval_')
        for row in make_table(results):
            cells, value = rows.setdefault(row['mode'], {'mode': row['mode']}), spread(row, metric)
            compared = {f'difference to {name}': _difference(row, name, results, metric) for name in results.baselines}
            if len(several) > 1:
                cells[results.name] = ', '.join(filter(None, [value, *list(compared.values())[:1]]))
                continue
            kinds = [f'{row[kind]} {kind}' for kind in ('failed', 'diverged', 'unfinished') if row[kind]]
            cells |= {TITLES.get(results.metric, results.metric): value, **compared}
            cells |= {'± images': _digits(row['image_error']), 'runs': ', '.join([str(row['runs']), *kinds])}
            for name, title in (('epoch_seconds', 's / epoch'), ('peak_memory', 'MiB')):
                cells |= {title: row[name], f'{title} ÷ none': _digits(row[f'{name}_to_none'])}
            cells['published (%)'] = _digits(row['published'])
    filled = {name for cells in rows.values() for name, cell in cells.items() if cell is not None}
    columns = dict.fromkeys(name for cells in rows.values() for name in cells if name in filled)
    return [{name: cells.get(name) for name in columns} for cells in rows.values()]


def evaluated_table(results: Results) -> Table:
    """What `--evaluate` measured, for readers: a row for each value of each row."""
    return [
        {'measured': title, 'mode': row['mode'], 'value': spread(row, name)}
        | {f'difference to {one}': _difference(row, one, results, name, f'{name}_') for one in results.baselines}
        for table in [make_table(results)]
        for name, title in results.evaluated.items()
        for row in table
        if row[f'{name}_mean'] is not None
    ]


def _digits(value: float | None, count: int = 2, sign: str = '') -> str | None:
    return None if value is None else f'{value:{sign}.{count}f}'


def spread(row: Mapping[str, Any], metric: str) -> str:
    """'75.25 ± 0.50': mean and standard deviation of a row's values; a loss has four digits."""
    mean, std = (_digits(row[f'{metric}_{end}'], 4 if metric.endswith(_FOUR_DIGITS) else 2) for end in ('mean', 'std'))
    return (mean or '–') + (f' ± {std}' if std else '')


def _difference(row: Mapping[str, Any], baseline: str, results: Results, metric: str, prefix: str = '') -> str | None:
    """'+5.00 [+0.03, +9.97] better': a row's difference to a baseline, and what its interval says."""
    mean, low, high, p = (row[f'{prefix}difference_to_{baseline}{end}'] for end in _ENDS)
    shown = [_digits(value, 4 if metric.endswith(_FOUR_DIGITS) else 2, '+') for value in (mean, low, high)]
    if low is None:
        return shown[0]
    clear = low * high > 0 and (not results.holm or p < 0.05)
    verdict = 'undecided' if not clear else 'better' if (high < 0) == metric.endswith(_LOWER_IS_BETTER) else 'worse'
    return f'{shown[0]} [{shown[1]}, {shown[2]}]{f", p {p:.2g}" * results.holm} {verdict}'


def csv_table(table: Table) -> str:
    """Returns the table as CSV with all digits; missing values are empty."""
    text = io.StringIO(newline='')
    columns = dict.fromkeys(column for row in table for column in row)
    writer = csv.DictWriter(text, columns, lineterminator='\n')
    writer.writeheader()
    writer.writerows(table)
    return text.getvalue()
