"""The files of a run, which its first process writes: arguments, tables, checkpoints, and Weights & Biases.

Importing this needs neither torch nor timm, so that other commands read a run's table at once.
"""

import csv
import importlib
import io
import logging
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from ..common.errors import RunError, WrongArguments
from ..common.files import write_bytes
from .checkpoints import holds_run, keep_best, save_checkpoint

_logger = logging.getLogger('train')

Table = Mapping[int, Mapping[str, Any]]
"""Epoch → column → value."""


def read_table(path: str | Path) -> dict[int, dict[str, str]]:
    """Reads a table, also one that is still being written or that timm's script continued after a resume.

    timm's script writes its header again when it resumes, and repeats an epoch whose checkpoint was not saved: the
    last row of an epoch is the one that the following epochs build on. A line without its end is still being written.

    Args:
        path: the file; it may be missing.

    Returns:
        Epoch → column → text, sorted by epoch; empty if there is no file or no row yet.

    Raises:
        RunError: a row has no epoch number, or the file is not text; the message names the file.
    """
    rows: dict[int, dict[str, str]] = {}
    header: list[str] = []
    try:
        with open(path, newline='') as file:
            lines = [line for line in file if line.endswith('\n')]
        for fields in csv.reader(lines):
            if fields and fields[0] == 'epoch':
                header = fields
            elif fields:
                row = dict(zip(header, fields, strict=False))
                rows[int(row['epoch'])] = row
    except FileNotFoundError:
        return {}
    except (KeyError, ValueError, csv.Error) as error:
        raise RunError(f'cannot read {path}: a row without an epoch number') from error
    return dict(sorted(rows.items()))


def write_table(path: str | Path, rows: Table) -> None:
    """Writes a table as a whole, sorted by epoch; a column that a row lacks stays empty. Without rows there is no file.

    Args:
        path: the file.
        rows: epoch → column → value, as `read_table` returns them.

    Raises:
        RunError: the file cannot be written; its old content is still there.
    """
    if not rows:
        with suppress(FileNotFoundError):
            os.unlink(path)
        return
    ordered = [rows[epoch] for epoch in sorted(rows)]
    columns = dict.fromkeys(column for row in ordered for column in row)
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator='\n')
    writer.writeheader()
    writer.writerows(ordered)
    write_bytes(path, text.getvalue().encode())


class Output:
    """A run's folder.

    `summary.csv` is written before the checkpoint of the same epoch, so it never lacks an epoch that a checkpoint has
    finished; rows after the checkpoint are dropped when a run is resumed.

    Args:
        folder: made if need be.
        arguments: as given on the command line and in the recipe, for `args.yaml` and the checkpoints.
        eval_metric: the metric that the best epoch is best in.
        resumed: the checkpoint that the run resumes, here or in another folder; the tables beside it are taken over.
        start_epoch: the epoch that is trained first; its row and those after it are dropped.

    Raises:
        WrongArguments: the folder holds another run.
        RunError: the folder cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        arguments: Mapping[str, Any],
        eval_metric: str,
        resumed: Path | None = None,
        start_epoch: int = 0,
    ) -> None:
        own = resumed is not None and resumed.parent.absolute() == folder.absolute()
        if not own and arguments['resume'] != 'auto' and holds_run(folder):
            raise WrongArguments(f'--experiment: {folder} holds a run already; --resume auto resumes it')
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f'cannot write {folder}: {error.strerror}') from error
        self.folder = folder
        self.arguments = dict(arguments)
        self.eval_metric = eval_metric
        self.rows: dict[int, dict[str, Any]] = {}
        self.times: dict[int, dict[str, Any]] = {}
        if resumed is not None:
            for name, rows in (('summary.csv', self.rows), ('times.csv', self.times)):
                found = read_table(resumed.with_name(name))
                rows.update((epoch, row) for epoch, row in found.items() if epoch < start_epoch)
        for name in ('*.pth.tar', 'summary.csv', 'times.csv', 'args.yaml'):
            for left_by_a_kill in folder.glob(f'{name}*.tmp'):
                left_by_a_kill.unlink()
        recipe = {**self.arguments, 'resume': ''}  # which repeats the run
        write_bytes(folder / 'args.yaml', yaml.safe_dump(recipe, default_flow_style=False).encode())
        self._write_tables()  # rows of epochs that are to be trained again must not outlive the next kill
        self.wandb = _start_wandb(folder.name, self.arguments) if arguments.get('log_wandb') else None

    def _write_tables(self) -> None:
        """Writes both tables as they are now."""
        write_table(self.folder / 'times.csv', self.times)
        write_table(self.folder / 'summary.csv', self.rows)

    def record(
        self, epoch: int, row: Mapping[str, Any], seconds: Mapping[str, float], state: Mapping[str, Any]
    ) -> None:
        """Writes the results of a finished epoch: tables first, then the checkpoint.

        Args:
            epoch: its number.
            row: of `summary.csv`, without the epoch.
            seconds: of `times.csv`, without the epoch.
            state: name in a checkpoint → state of a part of the run.
        """
        self.rows[epoch] = {'epoch': epoch, **row}
        self.times[epoch] = {'epoch': epoch, **{name: f'{value:.3f}' for name, value in seconds.items()}}
        self._write_tables()
        # plain values, so that the file loads with `weights_only=True` anywhere
        facts = {'epoch': epoch, 'version': 2, 'metric': self.metric(epoch), 'args': self.arguments}
        last = self.folder / 'last.pth.tar'
        save_checkpoint(last, {**state, 'arch': self.arguments['model'], **facts})
        self.keep(last, epoch)
        if self.wandb is not None:
            self.wandb.log(self.rows[epoch])

    def keep(self, path: Path, epoch: int) -> None:
        """Keeps the checkpoint of an epoch as `keep_best` does."""
        keep_best(self.folder, path, epoch, self.ranked(), self.arguments['checkpoint_hist'])

    def metric(self, epoch: int) -> float:
        """The value that the best epoch is chosen by; without validation it is the training loss."""
        row = self.rows[epoch]
        value = row.get(f'eval_{self.eval_metric}', '')
        return float(row['train_loss'] if value == '' else value)

    def ranked(self) -> list[int]:
        """All epochs in the table, the best one first; of equal ones the earlier."""
        sign = 1 if self.eval_metric == 'loss' else -1
        return sorted(self.rows, key=lambda epoch: (sign * self.metric(epoch), epoch))

    def report(self) -> None:
        """Logs the best epoch."""
        for best in self.ranked()[:1]:
            _logger.info(f'*** Best metric: {self.metric(best)} (epoch {best})')


def _start_wandb(name: str, arguments: Mapping[str, Any]) -> Any:
    """Opens a run in Weights & Biases; returns its module."""
    wandb = importlib.import_module('wandb')
    number = arguments['wandb_resume_id'] or None
    project, tags = arguments['wandb_project'], arguments['wandb_tags']
    wandb.init(project=project, name=name, config=arguments, tags=tags, resume=number and 'must', id=number)
    return wandb
