"""Writing checkpoints, so that a run can be killed at any moment and resumed.

`summary.csv` is written before the checkpoint of the same epoch, so it never lacks an epoch that a checkpoint has
finished; rows after the checkpoint are dropped when a run is resumed.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import torch
from timm import utils

from hmix_timm.errors import RunError
from hmix_timm.files import first_line, write_atomically

from .checkpoints import recovery_checkpoints


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
        """Restores the history of best checkpoints, and finishes what a kill may have left undone.

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

        for name in os.listdir(self.checkpoint_dir):
            if name.endswith('.tmp'):  # half-written when the run was killed
                os.unlink(os.path.join(self.checkpoint_dir, name))
        recoveries = map(str, recovery_checkpoints(self.checkpoint_dir))
        self.curr_recovery_file, self.prev_recovery_file = (*recoveries, '', '')[:2]
