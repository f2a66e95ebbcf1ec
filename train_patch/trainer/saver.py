"""Writing checkpoints, so that a run can be killed at any moment and resumed."""

import operator
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from ..common.errors import RunError
from ..common.files import first_line, write_atomically
from .checkpoints import ahead_of, position, recovery_checkpoints


class Saver:
    """Writes timm's checkpoints with its own bookkeeping in them, safe against a kill at any moment.

    Names, contents and choice are those of `timm.utils.CheckpointSaver`: `last`, the best epochs as `checkpoint-N`,
    `model_best`, two `recovery-N-BATCH`. timm's own removes the old file before it renames the new one, and copies
    `model_best` in place where the file system has no hard links; neither survives a kill. Entries more than timm's:
    `saver` (the best checkpoints), `lr_scheduler` (only plateau has a state), `batches_done` (recovery).

    Args:
        folder: where the checkpoints go.
        decreasing: whether a lower metric is better.
        max_history: how many of the best epochs are kept.
    """

    def __init__(self, folder: str | Path, decreasing: bool, max_history: int) -> None:
        self.folder = Path(folder)
        self.max_history = max_history
        self.history: list[tuple[str, float]] = []
        self.best_metric: float | None = None
        self.best_epoch: int | None = None
        self._decreasing = decreasing
        self._better = operator.lt if decreasing else operator.gt

    def save_checkpoint(self, state: Mapping[str, Any], epoch: int, metric: float) -> None:
        """Saves a finished epoch as `last` and, if it is one of the best, under its number.

        Args:
            state: what the checkpoint holds of the run.
            epoch: its number.
            metric: what the best is chosen by.
        """
        last = self.folder / 'last.pth.tar'
        self._write(last, state, epoch, metric)
        self._keep(last, epoch, metric)

    def save_recovery(self, state: Mapping[str, Any], epoch: int, batches_done: int) -> None:
        """Saves in mid-epoch, and leaves the recovery before it as well, in case this one gets damaged.

        Args:
            state: what the checkpoint holds of the run.
            epoch: the epoch that is being trained.
            batches_done: how many of its batches are done.
        """
        self._write(self.folder / f'recovery-{epoch}-{batches_done}.pth.tar', state, epoch, batches_done=batches_done)
        for path in recovery_checkpoints(self.folder)[2:]:
            path.unlink()

    def _write(
        self, path: Path, state: Mapping[str, Any], epoch: int, metric: float | None = None, batches_done: int = 0
    ) -> None:
        checkpoint = {
            **state,
            # in mid-epoch the last *finished* epoch, so that timm's own script repeats this one as well
            'epoch': epoch - 1 if batches_done else epoch,
            'batches_done': batches_done,
            'version': 2,
            'metric': metric,
            'saver': {
                'checkpoint_files': self.history,
                'best_epoch': self.best_epoch,
                'best_metric': self.best_metric,
                'pending': (epoch, metric),
            },
        }
        write_atomically(path, lambda file: torch.save(checkpoint, file))

    def _keep(self, path: Path, epoch: int, metric: float) -> None:
        """Keeps the checkpoint of an epoch under its number, and as the best, where it is good enough."""
        name = f'checkpoint-{epoch}.pth.tar'
        full = len(self.history) >= self.max_history
        if name not in dict(self.history) and (not full or self._better(metric, self.history[-1][1])):
            if full:
                self.folder.joinpath(self.history.pop()[0]).unlink(missing_ok=True)
            self._duplicate(path, self.folder / name)
            self.history.append((name, metric))
            self.history.sort(key=lambda entry: entry[1], reverse=not self._decreasing)
        if self.best_metric is None or self._better(metric, self.best_metric):
            self.best_metric, self.best_epoch = metric, epoch
            self._duplicate(path, self.folder / 'model_best.pth.tar')

    def _duplicate(self, source: Path, target: Path) -> None:
        if target.exists() and source.samefile(target):
            return
        temporary = f'{target}.tmp'
        try:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            try:
                os.link(source, temporary)
            except OSError:  # a file system without hard links
                shutil.copy2(source, temporary)
            os.replace(temporary, target)
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary)
            raise RunError(f'cannot write {target}: {first_line(error)}') from error

    def restore(self, path: Path, checkpoint: Mapping[str, Any]) -> None:
        """Restores the list of best checkpoints, and finishes what a kill may have left undone.

        Args:
            path: where `checkpoint` was read from. The best model of another folder is taken along.
            checkpoint: its contents.
        """
        history = checkpoint.get('saver') or {}
        listed = [(name, metric) for name, metric in history.get('checkpoint_files', ())]
        self.history = [entry for entry in listed if self.folder.joinpath(entry[0]).exists()]
        self.best_metric, self.best_epoch = history.get('best_metric'), history.get('best_epoch')
        best = [path.parent / name for name in (f'checkpoint-{self.best_epoch}.pth.tar', 'model_best.pth.tar')]
        best = [candidate for candidate in best if candidate.exists()]
        if self.best_metric is not None and best:
            self._duplicate(best[0], self.folder / 'model_best.pth.tar')

        # what `save_checkpoint` does after it has written `last`: the kill may have come between
        epoch, metric = history.get('pending', (None, None))
        if metric is not None:
            self._keep(path, epoch, metric)
        for half_written in self.folder.glob('*.tmp'):
            half_written.unlink()
        for abandoned in ahead_of(position(checkpoint), recovery_checkpoints(self.folder)):
            abandoned.unlink()  # their batches are trained again
