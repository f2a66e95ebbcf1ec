"""What the folder of one run says: the only reading of runs, for the comparison that trains them and for any table."""

import argparse
import math
import statistics
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..common.errors import RunError
from ..recipes.reader import read_recipe
from ..trainer.output import read_table

METRICS = ('eval_top1', 'eval_map')
"""A run is measured by the first of these columns that its table has, where none is asked for."""

# Arguments that say where and how a run is trained, not what: they may change from one call to the next.
_FREE = {
    *('output', 'experiment', 'resume', 'config', 'local_rank', 'dataset_download', 'workers', 'pin_mem'),
    *('log_interval', 'recovery_interval', 'checkpoint_hist', 'log_wandb', 'wandb_project', 'wandb_tags'),
    *('wandb_resume_id', 'save_images', 'mix_families'),  # mix_digest says what is in that file
}


@dataclass(frozen=True)
class RunResult:
    """A run, finished or not.

    Args:
        variant: name of the row of the table.
        seed: the run's seed.
        curve: epoch, counted from 0 → metric, for each epoch that was validated.
        epoch_seconds: seconds an epoch took, validation included; None where no `times.csv` says it.
        arguments: of its training.
        epochs: number of epochs to train.
        metric: the column of `summary.csv` that the curve is.
        folder: its files.
        problem: why it ended without a result, or will; empty if nothing is wrong.
        memory: MiB that training needed at most; None where no `times.csv` says it.
        evaluated: what `evaluation.evaluate` measured.
    """

    variant: str
    seed: int
    curve: Mapping[int, float]
    epoch_seconds: float | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    epochs: int = 0
    metric: str = METRICS[0]
    folder: Path = Path()
    problem: str = ''
    memory: float | None = None
    evaluated: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The metric at the last epoch."""
        return self.curve[max(self.curve)]

    @property
    def done(self) -> int:
        """Number of epochs up to the last one that was validated."""
        return max(self.curve, default=-1) + 1

    @property
    def state(self) -> str:
        """'finished', 'unfinished', 'failed', or 'diverged' for a loss that is no longer finite."""
        if self.problem:
            return 'diverged' if 'diverged' in self.problem else 'failed'
        return 'finished' if self.curve and self.done >= self.epochs else 'unfinished'

    def __str__(self) -> str:
        so_far = f'{self.done} of {self.epochs} epochs, in {self.folder}'
        failed = f'{self.problem}, see {self.folder / "train.log"}'
        return f'{self.variant} seed {self.seed}: {failed if self.problem else so_far}'


def read_run(
    folder: Path, variant: str, arguments: Mapping[str, Any], metric: str | None = None, last: int = 1
) -> RunResult:
    """Reads a run, also one that is being trained, and one of timm's script.

    Args:
        folder: of the run.
        variant: name of its row.
        arguments: of its training.
        metric: a column of `summary.csv`; the first of `METRICS` that is there if None.
        last: the curve's values are means over so many validated epochs, the last one included.

    Raises:
        RunError: a file is damaged; the message names it.
    """
    rows, times, path = read_table(folder / 'summary.csv'), read_table(folder / 'times.csv'), folder / 'args.yaml'
    metric = metric or next((name for name in METRICS if any(row.get(name) for row in rows.values())), METRICS[0])
    for key in ['epochs', *(['val_interval'] if times else [])]:  # times.csv is of a script that records it
        if not (isinstance(arguments.get(key), int) and arguments[key] > 0):
            raise RunError(f'{path}: {key} must be a whole number above 0, got {arguments.get(key)!r}')
    try:
        epochs = number_of_epochs(arguments)
        path = folder / 'summary.csv'
        measured = {epoch: float(row[metric]) for epoch, row in rows.items() if row.get(metric)}
        # of a run that was finished after all, the log tells of a try before
        problem = _divergence(folder / 'train.log') if max(measured, default=-1) + 1 < epochs else ''
        watched = {
            (key, epoch): row[key] for epoch, row in rows.items() for key in row if key.endswith(('loss', metric))
        }
        if wrong := [place for place, value in watched.items() if not math.isfinite(float(value or 0))]:
            problem = f'{wrong[0][0]} is {watched[wrong[0]]} in epoch {wrong[0][1]}'
            problem = 'diverged: ' * wrong[0][0].endswith('loss') + problem
        path = folder / 'times.csv'  # a row for each validation
        each = arguments.get('val_interval', 1)
        taken = [float(row['train_time']) + float(row['eval_time']) / each for row in times.values()]
        # the median, because the first epoch starts the loader's workers
        seconds = statistics.median(taken) if taken else None
        memory = max((float(row['peak_memory']) for row in times.values() if row.get('peak_memory')), default=None)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f'cannot read {path}: {error!r}') from error
    values = list(measured.values())
    means = [statistics.fmean(values[max(0, end - last) : end]) for end in range(1, len(values) + 1)]
    curve = dict(zip(measured, means, strict=True))
    return RunResult(variant, arguments['seed'], curve, seconds, arguments, epochs, metric, folder, problem, memory)


def _divergence(log: Path) -> str:
    """The last line of a log if it says that training has diverged; else ''."""
    last = log.read_text(errors='replace').strip().rpartition('\n')[2] if log.exists() else ''
    return last.partition('error: ')[2] if 'training has diverged' in last else ''


def read_arguments(path: Path) -> dict[str, Any]:
    """Reads a YAML file of "name: value" lines; {} if it is missing. Raises RunError if it is damaged."""
    try:
        return read_recipe(path) if path.exists() else {}
    except ValueError as error:
        raise RunError(f'{path} is damaged: {error}') from error


def number_of_epochs(arguments: Mapping[str, Any]) -> int:
    """The epochs that timm's scripts make of a run's arguments: warm-up before, cool-down after, `--stop-epoch`."""
    from timm.scheduler import create_scheduler_v2, scheduler_kwargs
    from torch import optim, zeros

    args = argparse.Namespace(**{'sched': 'cosine', **arguments})
    kwargs = scheduler_kwargs(args, decreasing_metric=False)
    epochs = create_scheduler_v2(optim.SGD([zeros(1)], lr=0.1), **kwargs, updates_per_epoch=1)[1]
    return min(epochs, arguments.get('stop_epoch') or epochs)


def differences(one: Mapping[str, Any], other: Mapping[str, Any], ignored: Collection[str] = ()) -> dict[str, Any]:
    """What two runs were trained with, where it differs: argument → both values.

    Args:
        one: arguments of a run; those that another version did not record are not compared.
        other: arguments of the other run.
        ignored: arguments in which they may differ.
    """
    compared = sorted((one.keys() & other.keys()) - _FREE - set(ignored))
    return {key: (one[key], other[key]) for key in compared if _plain(key, one[key]) != _plain(key, other[key])}


def _plain(key: str, value: Any) -> Any:
    """The value in the one form that two runs are compared in."""
    return Path(value).resolve() if key in ('data', 'data_dir') and value else value
