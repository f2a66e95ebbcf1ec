"""What a run leaves on disk, so that it can be killed at any moment and taken up again.

Every file gets its final name by `os.replace`, once it is complete: there is never half a checkpoint or half a table.
`summary.csv` is written before the checkpoint of the same epoch, so it never lacks an epoch that a checkpoint has
finished; rows after the checkpoint are dropped when a run is taken up.
"""

import argparse
import csv
import io
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import torch
from timm import utils

from hmix_timm.errors import RunError
from hmix_timm.files import first_line, write_atomically

_logger = logging.getLogger('train')

Row = Mapping[str, Any]


def read_rows(path: str, before_epoch: int) -> list[Row]:
    """The rows of a table (`summary.csv`, `times.csv`) that belong to epochs before `before_epoch`."""
    if not os.path.isfile(path):
        return []
    try:
        with open(path, newline='') as file:
            rows = [row for row in csv.DictReader(file) if row['epoch'] != 'epoch']  # older timm repeats its header
        return [row for row in rows if int(row['epoch']) < before_epoch]
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f'cannot read {path}: a row without an epoch number') from error


def replace_rows(path: str, rows: Sequence[Row]) -> None:
    """Writes a table as a whole; a column that a row lacks stays empty. Without rows there is no file."""
    if not rows:
        with suppress(FileNotFoundError):
            os.unlink(path)
        return
    columns = list(dict.fromkeys(column for row in rows for column in row))
    text = io.StringIO(newline='')
    writer = csv.DictWriter(text, columns, lineterminator='\n')
    writer.writeheader()
    writer.writerows(rows)
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


def read_checkpoint(path: str) -> dict[str, Any]:
    """Reads a training checkpoint, timm's or this project's, without running any code that may be in it.

    Raises:
        RunError: the file is missing or damaged, holds more than plain values, or is not a training checkpoint.
    """
    if not os.path.isfile(path):
        raise RunError(f'no checkpoint at {path}')
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # timm keeps its arguments as a Namespace
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # torch raises half a dozen types for a damaged file
        reason = f'it is damaged, or holds more than weights and plain values ({first_line(error)})'
        raise RunError(f'cannot use the checkpoint {path}: {reason}') from error
    if not isinstance(checkpoint, dict) or not {'state_dict', 'optimizer', 'epoch'} <= checkpoint.keys():
        raise RunError(f'{path} is not a checkpoint of a run: weights alone go to --initial-checkpoint')
    return checkpoint


def position(checkpoint: Mapping[str, Any]) -> tuple[int, int]:
    """Where a checkpoint stands: the epoch to train next, and how many of its batches are already done."""
    epoch = int(checkpoint['epoch']) + (1 if checkpoint.get('version', 1) > 1 else 0)
    return epoch, int(checkpoint.get('batches_done', 0))


def holds_run(folder: str) -> bool:
    """Whether a folder holds the table or a checkpoint of a run."""
    return os.path.isdir(folder) and any(
        name == 'summary.csv' or re.fullmatch(r'(last|model_best|(checkpoint|recovery)-[\d-]+)\.pth\.tar', name)
        for name in os.listdir(folder)
    )


def find_checkpoint(folder: str) -> str | None:
    """The most advanced checkpoint in a folder that can be used; a damaged one is named in the log and passed over.

    Returns:
        Its path, or None where there is no checkpoint at all.

    Raises:
        RunError: there are checkpoints, and not one of them can be used.
    """
    names = os.listdir(folder) if os.path.isdir(folder) else []
    epochs = _numbered(names, r'checkpoint-(\d+)\.pth\.tar')
    recoveries = _numbered(names, r'recovery-(\d+)-(\d+)\.pth\.tar')
    finished = [name for name in ('last.pth.tar', *epochs, 'model_best.pth.tar') if name in names]

    best, reached = _first_usable(folder, finished)
    ahead = [name for name in recoveries if tuple(map(int, re.findall(r'\d+', name))) > reached]
    best = _first_usable(folder, ahead)[0] or best
    if best is None and (finished or recoveries):
        raise RunError(f'none of the checkpoints in {folder} can be used')
    return best


def _numbered(names: Iterable[str], pattern: str) -> list[str]:
    matches = [match for name in names if (match := re.fullmatch(pattern, name))]
    return [match[0] for match in sorted(matches, key=lambda match: tuple(map(int, match.groups())), reverse=True)]


def _first_usable(folder: str, names: Iterable[str]) -> tuple[str | None, tuple[int, int]]:
    for name in names:
        path = os.path.join(folder, name)
        try:
            return path, position(read_checkpoint(path))
        except RunError as error:
            _logger.warning(f'{error}. Trying the one before it.')
    return None, (0, 0)


class Saver(utils.CheckpointSaver):
    """timm's CheckpointSaver with its bookkeeping in the checkpoint, and safe against a kill at any moment.

    timm's own removes the old file before it renames the new one, and copies `model_best` in place where the file
    system has no hard links; neither survives a kill. The files and their contents are timm's, with these entries more:
    `saver` (the history of best checkpoints), `lr_scheduler` (only plateau has a state), `batches_done` (recovery).

    Args:
        scheduler_state: called at each save for what the learning rate schedule must remember.
        **kwargs: as timm's; `args` as a plain dict, so that the file loads with `weights_only=True` anywhere.
    """

    def __init__(self, *, scheduler_state: Callable[[], dict[str, Any] | None], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.scheduler_state = scheduler_state
        self.batches_done = 0

    def _save(self, save_path: str, epoch: int, metric: float | None = None) -> None:
        state = {
            # in mid-epoch the last *finished* epoch, so that timm's own script repeats this one as well
            'epoch': epoch - 1 if self.batches_done else epoch,
            'batches_done': self.batches_done,
            'version': 2,
            'arch': self.args['model'],
            'args': self.args,
            'state_dict': utils.get_state_dict(self.model, self.unwrap_fn),
            'optimizer': self.optimizer.state_dict(),
            'lr_scheduler': self.scheduler_state(),
            'metric': metric,
            'saver': {
                'checkpoint_files': [(os.path.basename(path), value) for path, value in self.checkpoint_files],
                'best_epoch': self.best_epoch,
                'best_metric': self.best_metric,
                'pending': (epoch, metric),
            },
        }
        if self.amp_scaler is not None:
            state[self.amp_scaler.state_dict_key] = self.amp_scaler.state_dict()
        if self.model_ema is not None:
            state['state_dict_ema'] = utils.get_state_dict(self.model_ema, self.unwrap_fn)
        write_atomically(save_path, lambda file: torch.save(state, file))

    def save_recovery(self, epoch: int, batch_idx: int = 0) -> None:
        """Saves in mid-epoch.

        Args:
            epoch: the epoch that is being trained.
            batch_idx: how many of its batches are done.
        """
        self.batches_done = batch_idx
        super().save_recovery(epoch, batch_idx)
        self.batches_done = 0

    def _replace(self, src: str, dst: str) -> None:
        os.replace(src, dst)

    def _duplicate(self, src: str, dst: str) -> None:
        if os.path.exists(dst) and os.path.samefile(src, dst):
            return
        temporary = f'{dst}.tmp'
        try:
            with suppress(FileNotFoundError):
                os.unlink(temporary)
            try:
                os.link(src, temporary)
            except OSError:  # a file system without hard links
                shutil.copy2(src, temporary)
            os.replace(temporary, dst)
        except OSError as error:
            with suppress(OSError):
                os.unlink(temporary)
            raise RunError(f'cannot write {dst}: {first_line(error)}') from error

    def restore(self, path: str, checkpoint: Mapping[str, Any]) -> None:
        """Takes up the history of best checkpoints, and finishes what a kill may have left undone.

        Args:
            path: where `checkpoint` was read from. The best model of another folder is taken along.
            checkpoint: its contents.
        """
        history = checkpoint.get('saver') or {}
        listed = history.get('checkpoint_files', ())
        files = [(os.path.join(self.checkpoint_dir, name), metric) for name, metric in listed]
        self.checkpoint_files = [(file, metric) for file, metric in files if os.path.exists(file)]
        self.best_metric, self.best_epoch = history.get('best_metric'), history.get('best_epoch')

        best_path = os.path.join(self.checkpoint_dir, f'model_best{self.extension}')
        best_names = (f'{self.save_prefix}-{self.best_epoch}{self.extension}', f'model_best{self.extension}')
        best_paths = [os.path.join(os.path.dirname(path), name) for name in best_names]
        best = next((best for best in best_paths if os.path.exists(best)), None)
        if self.best_metric is not None and best is not None:
            self._duplicate(best, best_path)

        # what `save_checkpoint` does after it has written `last`: the kill may have come between
        epoch, metric = history.get('pending', (None, None))
        if metric is not None:
            file = os.path.join(self.checkpoint_dir, f'{self.save_prefix}-{epoch}{self.extension}')
            full = len(self.checkpoint_files) >= self.max_history
            if file not in dict(self.checkpoint_files) and (not full or self.cmp(metric, self.checkpoint_files[-1][1])):
                if full:
                    self._cleanup_checkpoints(1)
                self._duplicate(path, file)
                self.checkpoint_files.append((file, metric))
                self.checkpoint_files.sort(key=lambda entry: entry[1], reverse=not self.decreasing)
            if self.best_metric is None or self.cmp(metric, self.best_metric):
                self.best_metric, self.best_epoch = metric, epoch
                self._duplicate(path, best_path)

        names = os.listdir(self.checkpoint_dir)
        for name in names:
            if name.endswith('.tmp'):  # half-written when the run was killed
                os.unlink(os.path.join(self.checkpoint_dir, name))
        recoveries = _numbered(names, r'recovery-(\d+)-(\d+)\.pth\.tar')
        paths = [os.path.join(self.checkpoint_dir, name) for name in recoveries[:2]]
        self.curr_recovery_file, self.prev_recovery_file = (*paths, '', '')[:2]
