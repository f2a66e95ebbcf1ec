"""The files of a run, which its first process writes: arguments, tables, checkpoints, and Weights & Biases."""

import argparse
import importlib
import json
import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml
from timm.models import safe_model_name

from ..common.errors import RunError
from ..common.files import write_bytes
from .arguments import WrongArguments
from .checkpoints import holds_run
from .saver import Saver
from .summary import Table, read_table, write_table

_logger = logging.getLogger('train')


def output_folder(args: argparse.Namespace, input_size: tuple[int, ...]) -> Path:
    """OUTPUT/EXPERIMENT; without --experiment a name from time, model and image size."""
    now = datetime.now().strftime('%Y%m%d-%H%M%S')
    experiment = args.experiment or f'{now}-{safe_model_name(args.model)}-{input_size[-1]}'
    return Path(args.output or './output/train', experiment)


class Output:
    """A run's folder.

    `summary.csv` is written before the checkpoint of the same epoch, so it never lacks an epoch that a checkpoint has
    finished; rows after the checkpoint are dropped when a run is resumed.

    Args:
        folder: made if need be.
        arguments: as given on the command line and in the recipe, for `args.yaml` and the checkpoints.
        eval_metric: what the best checkpoint is best in.
        checkpoint: what the run goes on from, if it does.

    Raises:
        WrongArguments: the folder holds another run.
        RunError: the folder cannot be written.
    """

    def __init__(
        self, folder: Path, arguments: Mapping[str, Any], eval_metric: str, checkpoint: Path | None = None
    ) -> None:
        own = checkpoint is not None and checkpoint.parent.absolute() == folder.absolute()
        if not own and arguments['resume'] != 'auto' and holds_run(folder):
            raise WrongArguments(f'--experiment: {folder} holds a run already; --resume auto goes on with it')
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RunError(f'cannot write {folder}: {error.strerror}') from error
        self.folder = folder
        self.arguments = dict(arguments)
        self.eval_metric = eval_metric
        self.saver = Saver(folder, eval_metric == 'loss', arguments['checkpoint_hist'])
        self.rows: dict[int, dict[str, Any]] = {}
        self.times: dict[int, dict[str, Any]] = {}
        self._wandb: Any = None
        write_bytes(folder / 'args.yaml', yaml.safe_dump(self.arguments, default_flow_style=False).encode())

    def restore(self, path: Path, checkpoint: Mapping[str, Any], start_epoch: int) -> None:
        """Takes over the tables and the best checkpoints of the run that is resumed.

        Args:
            path: the checkpoint, here or in another folder.
            checkpoint: its contents.
            start_epoch: what is trained first; its rows and those after it are dropped.
        """
        for name, rows in (('summary.csv', self.rows), ('times.csv', self.times)):
            rows.update((epoch, row) for epoch, row in read_table(path.with_name(name)).items() if epoch < start_epoch)
        self.saver.restore(path, checkpoint)

    def write_tables(self) -> None:
        """Writes both tables as they are now."""
        write_table(self.folder / 'times.csv', self.times)
        write_table(self.folder / 'summary.csv', self.rows)

    def record(
        self,
        epoch: int,
        row: Mapping[str, Any],
        seconds: tuple[float, float],
        metric: float,
        state: Mapping[str, Any],
    ) -> None:
        """Writes down a finished epoch: tables first, then the checkpoint.

        Args:
            epoch: its number.
            row: of `summary.csv`, without the epoch.
            seconds: of training and of validation.
            metric: what the best epoch is chosen by.
            state: what a checkpoint holds of the run.
        """
        self.rows[epoch] = {'epoch': epoch, **row}
        train_time, eval_time = (f'{part:.3f}' for part in seconds)
        self.times[epoch] = {'epoch': epoch, 'train_time': train_time, 'eval_time': eval_time}
        self.write_tables()
        self.saver.save_checkpoint(self._with_arguments(state), epoch, metric)
        if self._wandb is not None:
            self._wandb.log(self.rows[epoch])

    def save_recovery(self, epoch: int, batches_done: int, state: Mapping[str, Any]) -> None:
        """Saves a checkpoint in mid-epoch."""
        self.saver.save_recovery(self._with_arguments(state), epoch, batches_done)

    def _with_arguments(self, state: Mapping[str, Any]) -> dict[str, Any]:
        # a plain dict, so that the file loads with `weights_only=True` anywhere
        return {**state, 'args': self.arguments}

    def start_wandb(self) -> None:
        """Opens the run in Weights & Biases."""
        self._wandb = importlib.import_module('wandb')
        resumed = self.arguments['wandb_resume_id'] or None
        self._wandb.init(
            project=self.arguments['wandb_project'],
            name=self.folder.name,
            config=self.arguments,
            tags=self.arguments['wandb_tags'],
            resume='must' if resumed else None,
            id=resumed,
        )

    def report(self) -> None:
        """Says what the best epoch was, and prints the best ones in timm's result format."""
        if self.saver.best_metric is not None:
            _logger.info(f'*** Best metric: {self.saver.best_metric} (epoch {self.saver.best_epoch})')
        print(f'--result\n{json.dumps(best_epochs(self.rows, self.eval_metric), indent=4)}')


def best_epochs(rows: Table, eval_metric: str) -> list[dict[str, Any]]:
    """The ten best epochs in timm's result format, the best one last."""
    parts = {'train_': 'train', 'eval_': 'validation'}
    found: list[dict[str, Any]] = []
    for epoch, row in rows.items():
        result: dict[str, Any] = {'epoch': epoch}
        for column, value in row.items():
            for prefix, part in parts.items():
                if column.startswith(prefix) and value != '':
                    result.setdefault(part, {})[column.removeprefix(prefix)] = float(value)
        found.append(result)
    found.sort(key=lambda r: r.get('validation', r['train']).get(eval_metric, 0), reverse=eval_metric == 'loss')
    return found[-10:]
