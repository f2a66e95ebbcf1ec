"""From the `summary.csv` of many runs to one table and one picture.

Top-1 is that of the last epoch, so that no run profits from choosing its best epoch on the validation images.
"""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hmix_timm.files import write_bytes

METRIC = 'eval_top1'
BASELINE = 'none'

# Okabe and Ito's colours, told apart by colour-blind readers too; the baseline is black.
COLOURS = {
    'none': '#000000',
    'mixup': '#56B4E9',
    'cutmix': '#E69F00',
    'stochastic': '#009E73',
    'hmix': '#D55E00',
    'gmix': '#CC79A7',
}


@dataclass(frozen=True)
class RunResult:
    """What one finished training run gave.

    Args:
        curve: Epoch, counted from 0 → top-1 in percent, for each epoch that was validated.
        epoch_seconds: Seconds an epoch took, validation included; None where it could not be measured.
    """

    mode: str
    seed: int
    curve: Mapping[int, float]
    epoch_seconds: float | None

    @property
    def top1(self) -> float:
        """Top-1 in percent at the last epoch."""
        return self.curve[max(self.curve)]


@dataclass(frozen=True)
class Row:
    """One mode's line of the table; accuracies in percent, differences in percentage points."""

    mode: str
    seeds: tuple[int, ...]
    top1: tuple[float, ...]
    mean: float
    std: float | None
    difference: float | None
    epoch_seconds: float | None
    published: float | None


def read_summary(path: Path) -> dict[int, dict[str, str]]:
    """Read a `summary.csv`, also one that is still being written or that a resumed timm script wrote on.

    timm's script writes its header again when it resumes, and repeats an epoch whose checkpoint was not saved: the
    last row of an epoch is the one that the following epochs build on. A line without its end is still being written.

    Args:
        path: The file; it may be missing.

    Returns:
        Epoch → column → text, sorted by epoch; empty where there is no file or no row yet.
    """
    if not path.exists():
        return {}
    with path.open(newline='') as file:
        lines = [line for line in file if line.endswith('\n')]
    rows: dict[int, dict[str, str]] = {}
    header: list[str] = []
    for fields in csv.reader(lines):
        if fields and fields[0] == 'epoch':
            header = fields
        elif fields:
            row = dict(zip(header, fields, strict=False))
            rows[int(row['epoch'])] = row
    return dict(sorted(rows.items()))


def tidy_summary(path: Path) -> None:
    """Rewrite a `summary.csv` with one header and one row per epoch, where that is not what it holds."""
    rows = read_summary(path)
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    text = io.StringIO(newline='')
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows.values())
    with path.open(newline='') as file:
        written = file.read()
    if written.splitlines() != text.getvalue().splitlines():
        write_bytes(path, text.getvalue().encode())


def read_curve(path: Path) -> dict[int, float]:
    """Epoch → top-1 in percent, from a `summary.csv`; epochs that were not validated are left out."""
    return {epoch: float(row[METRIC]) for epoch, row in read_summary(path).items() if row.get(METRIC)}


def read_epoch_seconds(path: Path, val_interval: int) -> float | None:
    """Seconds per epoch from the lean script's `times.csv`: training, and the share of validation that falls to it.

    The median over the epochs, because the first one holds the start of the loader's workers.

    Args:
        path: The file; it may be missing.
        val_interval: Epochs from one validation to the next; the file has a row for each validation.

    Returns:
        Seconds, or None where there is no row.
    """
    rows = read_summary(path).values()
    seconds = [float(row['train_time']) + float(row['eval_time']) / val_interval for row in rows]
    return statistics.median(seconds) if seconds else None


def table(results: Sequence[RunResult], modes: Sequence[str], published: Mapping[str, float]) -> list[Row]:
    """One row per mode that has a finished run, in the order of `modes`.

    Args:
        results: Every finished run.
        modes: The modes asked for.
        published: Mode → top-1 in percent as the paper prints it; empty where the recipe is none of its rows.
    """
    by_mode = {mode: runs for mode in modes if (runs := [r for r in results if r.mode == mode])}
    means = {mode: statistics.fmean(r.top1 for r in runs) for mode, runs in by_mode.items()}
    rows = []
    for mode, runs in by_mode.items():
        top1 = tuple(r.top1 for r in runs)
        times = [r.epoch_seconds for r in runs if r.epoch_seconds is not None]
        rows.append(
            Row(
                mode=mode,
                seeds=tuple(r.seed for r in runs),
                top1=top1,
                mean=means[mode],
                std=statistics.stdev(top1) if len(top1) > 1 else None,
                difference=means[mode] - means[BASELINE] if BASELINE in means else None,
                epoch_seconds=statistics.fmean(times) if times else None,
                published=published.get(mode),
            )
        )
    return rows


def markdown_table(rows: Sequence[Row]) -> str:
    """The table in Markdown, in aligned columns so that it reads as well on a screen. '–' stands for 'not there'."""
    show_published = any(row.published is not None for row in rows)
    cells = [['mode', 'top-1 (%)', f'difference to {BASELINE}', 'runs', 's / epoch']]
    cells[0] += ['published (%)'] if show_published else []
    for row in rows:
        line = [
            row.mode,
            f'{row.mean:.2f}' if row.std is None else f'{row.mean:.2f} ± {row.std:.2f}',
            '–' if row.difference is None or row.mode == BASELINE else f'{row.difference:+.2f}',
            str(len(row.top1)),
            '–' if row.epoch_seconds is None else f'{row.epoch_seconds:.3g}',
        ]
        line += ['–' if row.published is None else f'{row.published:.2f}'] if show_published else []
        cells.append(line)
    widths = [max(len(line[column]) for line in cells) for column in range(len(cells[0]))]
    aligned = [
        [line[0].ljust(widths[0])] + [cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True)]
        for line in cells
    ]
    rule = ['-' * widths[0]] + ['-' * (width - 1) + ':' for width in widths[1:]]
    return '\n'.join('| ' + ' | '.join(line) + ' |' for line in [aligned[0], rule, *aligned[1:]])


def csv_table(rows: Sequence[Row], seeds: Sequence[int]) -> str:
    """The table as CSV with all digits, and a column of top-1 for each seed; what is not there is left empty."""
    text = io.StringIO(newline='')
    writer = csv.writer(text, lineterminator='\n')
    writer.writerow(
        ['mode', 'top1_mean', 'top1_std', 'difference', 'runs', 'epoch_seconds', 'published']
        + [f'top1_seed{seed}' for seed in seeds]
    )
    for row in rows:
        by_seed = dict(zip(row.seeds, row.top1, strict=True))
        writer.writerow(
            [row.mode, row.mean, row.std, row.difference, len(row.top1), row.epoch_seconds, row.published]
            + [by_seed.get(seed) for seed in seeds]
        )
    return text.getvalue()


def plot_curves(results: Sequence[RunResult], rows: Sequence[Row], title: str) -> bytes:
    """Validation curves as a PNG: the mean over seeds, with a band of one standard deviation to either side.

    Args:
        results: Every finished run.
        rows: The table; gives the order and the numbers in the legend.
        title: The picture's title.
    """
    from matplotlib.figure import Figure  # an extra, and slow to import; the Figure alone needs no screen

    figure = Figure(figsize=(8, 5), layout='constrained')
    axes = figure.subplots()
    settled = []
    for row in rows:
        curves = [result.curve for result in results if result.mode == row.mode]
        epochs = sorted(set.intersection(*(set(curve) for curve in curves)))
        columns = [[curve[epoch] for curve in curves] for epoch in epochs]
        means = [statistics.fmean(column) for column in columns]
        stds = [statistics.stdev(column) if len(column) > 1 else 0.0 for column in columns]
        counted = [epoch + 1 for epoch in epochs]
        label = f'{row.mode}  {row.mean:.2f}' + ('' if row.std is None else f' ± {row.std:.2f}')
        axes.plot(counted, means, label=label, color=COLOURS[row.mode], linewidth=1.6, marker='.', markersize=4)
        lower = [mean - std for mean, std in zip(means, stds, strict=True)]
        upper = [mean + std for mean, std in zip(means, stds, strict=True)]
        axes.fill_between(counted, lower, upper, color=COLOURS[row.mode], alpha=0.15, linewidth=0)
        settled += [low for low, epoch in zip(lower, counted, strict=True) if 4 * epoch >= counted[-1]]
        settled += [means[-1]]
    # The first epochs of every mode are near chance: showing them would press all that is to be compared into a line.
    top = min(100.0, max(max(result.curve.values()) for result in results) + 1)
    axes.set_ylim(max(0.0, min(settled) - 1), top)
    axes.set(title=title, xlabel='epoch', ylabel='validation top-1 (%)')
    axes.grid(alpha=0.3)
    axes.legend(title='last epoch', loc='lower right')
    image = io.BytesIO()
    figure.savefig(image, format='png', dpi=150)
    return image.getvalue()
