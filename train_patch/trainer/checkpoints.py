"""The checkpoints of a run: finding, reading and writing them, so that it can be killed at any moment and resumed.

Names and contents are those of timm's `CheckpointSaver`: `last`, the best epochs as `checkpoint-N`, `model_best`.
timm's own removes the old file before it renames the new one, and copies `model_best` in place if the file system has
no hard links; neither survives a kill. Which epochs are the best is read in the run's table, not in its checkpoints.
"""

import logging
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from ..common.errors import RunError, WrongArguments, told_as
from ..common.files import first_line, write_atomically
from ..common.processes import holding_signals
from ..common.weights import plain_values

_logger = logging.getLogger('train')


def finished_checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints of whole epochs in a folder, timm's or this project's, the most advanced first.

    `last`, then `checkpoint-N` from the highest number down, then `model_best`, which is older than the others but all
    that is left where those were lost. The list is empty if the folder is missing.
    """
    names = ('last', *(f'checkpoint-{epoch}' for epoch in reversed(kept_epochs(folder))), 'model_best')
    return [path for name in names if (path := Path(folder, f'{name}.pth.tar')).exists()]


def kept_epochs(folder: str | Path) -> list[int]:
    """The numbers of the `checkpoint-N` in a folder, ascending."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    return sorted(int(match[1]) for name in names if (match := re.fullmatch(r'checkpoint-(\d+)\.pth\.tar', name)))


def holds_run(folder: str | Path) -> bool:
    """Whether a folder holds the table or a checkpoint of a run."""
    return Path(folder, 'summary.csv').exists() or any(Path(folder).glob('*.pth.tar'))


def find_checkpoint(folder: str | Path) -> Path | None:
    """The most advanced checkpoint in a folder that can be used; damaged ones before it are named in the log.

    Returns:
        Its path, or None if there is no checkpoint of a whole epoch.

    Raises:
        RunError: there are checkpoints, and none of them can be used.
    """
    for recovery in Path(folder).glob('recovery-*.pth.tar'):
        _logger.warning(f'{recovery} is from the middle of an epoch, which begins anew.')
    paths = finished_checkpoints(folder)
    for path in paths:
        try:
            read_checkpoint(path)
            return path
        except RunError as error:
            _logger.warning(f'{error}. Trying the one before it.')
    if paths:
        raise RunError(f'none of the checkpoints in {folder} can be used')
    _logger.info(f'--resume auto: no checkpoint in {folder}, starting from the beginning.')
    return None


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a training checkpoint, timm's or this project's, without running any code that may be in it.

    Raises:
        RunError: the file is missing or damaged, holds more than plain values, or is not a checkpoint of a whole epoch.
    """
    import torch  # here, so that finding checkpoints does not wait for it

    if not os.path.isfile(path):
        raise RunError(f'no checkpoint at {path}')
    try:
        with plain_values():
            checkpoint = torch.load(path, map_location='cpu', weights_only=True)
    except Exception as error:  # torch raises half a dozen types for a damaged file
        reason = f'it is damaged, or holds more than weights and plain values ({first_line(error)})'
        raise RunError(f'cannot use the checkpoint {path}: {reason}') from error
    whole = isinstance(checkpoint, dict) and {'state_dict', 'optimizer', 'epoch'} <= checkpoint.keys()
    if not whole or not isinstance(checkpoint['epoch'], int):
        raise RunError(f'{path} is not a checkpoint of a run: weights alone go to --initial-checkpoint')
    if checkpoint.get('batches_done'):  # version 0.1.0 wrote such ones
        raise RunError(
            f'cannot use the checkpoint {path}: it is from the middle of an epoch; give one of a whole epoch'
        )
    return checkpoint


def check_goes_on(folder: Path, start_epoch: int) -> None:
    """Raises WrongArguments if a run would train epochs again whose checkpoints are in its folder.

    These would be resumed in place of its own after a kill.
    """
    newest = find_checkpoint(folder)
    if newest is not None and (last := next_epoch(read_checkpoint(newest)) - 1) >= start_epoch:
        raise WrongArguments(
            f'--resume: {newest} is of epoch {last}, and the run would begin at epoch {start_epoch} again; '
            'give another --experiment'
        )


def next_epoch(checkpoint: Mapping[str, Any]) -> int:
    """The epoch to train after a checkpoint: timm's before version 2 counted on before it saved."""
    return checkpoint['epoch'] + (1 if checkpoint.get('version', 1) > 1 else 0)


class PlateauState:
    """The state of timm's plateau schedule, the only one with a state: the others follow from the epoch."""

    def __init__(self, schedule: Any) -> None:
        self.schedule = schedule

    def state_dict(self) -> dict[str, Any]:
        return {'plateau': self.schedule.lr_scheduler.state_dict(), 'restore_lr': self.schedule.restore_lr}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.schedule.lr_scheduler.load_state_dict(state['plateau'])
        self.schedule.restore_lr = state['restore_lr']


def stateful_parts(run: Any) -> dict[str, Any]:
    """The parts of a run with a state, by their names in timm's checkpoints."""
    parts = {'state_dict': run.model, 'optimizer': run.optimizer}
    if run.average is not None:
        parts['state_dict_ema'] = run.average.module
    if run.scaler is not None:
        parts[run.scaler.state_dict_key] = run.scaler
    if hasattr(run.schedule, 'lr_scheduler'):
        parts['lr_scheduler'] = PlateauState(run.schedule)
    return parts


def load_parts(
    parts: Mapping[str, Any], path: Path, checkpoint: Mapping[str, Any], weights_alone: bool = False
) -> None:
    """Brings the parts of a run to the state in a checkpoint; a part that it lacks stays as it is.

    Args:
        parts: name in a checkpoint → model, optimizer, ….
        path: of the checkpoint, for messages.
        checkpoint: its contents.
        weights_alone: whether all but model and moving average are left out.

    Raises:
        RunError: the checkpoint is another model's or optimizer's.
    """
    with told_as(f'the checkpoint {path} does not fit this run', RunError):
        for name, part in parts.items():
            state = checkpoint.get(name, checkpoint['state_dict'] if name == 'state_dict_ema' else None)
            if state is not None and (not weights_alone or name.startswith('state_dict')):
                part.load_state_dict(state)


def save_checkpoint(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Writes a checkpoint atomically; a signal that comes meanwhile waits for it.

    Torch's zip writer, interrupted, would raise its own error over the interrupt, or abort the process.

    Raises:
        RunError: the disk is full, or the folder cannot be written.
    """
    with holding_signals():
        write_atomically(path, lambda file: write_checkpoint(checkpoint, file))


def write_checkpoint(checkpoint: Mapping[str, Any], file: BinaryIO) -> None:
    """Writes a checkpoint into an open file; raises the error of a full disk, over which torch's writer has its own."""
    import torch

    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        cause: BaseException = error
        while isinstance(cause, RuntimeError) and cause.__context__ is not None:
            cause = cause.__context__
        raise cause from None


def keep_best(folder: Path, path: Path, epoch: int, ranked: Sequence[int], count: int) -> None:
    """Keeps a checkpoint under its number and as the best model, if it is good enough, and removes the worse ones.

    Doing it again changes nothing: a resumed run finishes what a kill has interrupted.

    Args:
        folder: of the run; no file elsewhere is changed.
        path: the checkpoint. The best model comes from its folder, if it is another one.
        epoch: its epoch.
        ranked: all epochs in the run's table, the best one first.
        count: number of `checkpoint-N` to keep.
    """
    there = set(kept_epochs(folder)).intersection(ranked)
    best = [number for number in ranked if number in there or number == epoch][:count]
    if epoch in best:
        _link(path, folder / f'checkpoint-{epoch}.pth.tar')
    for number in there.difference(best):
        folder.joinpath(f'checkpoint-{number}.pth.tar').unlink()
    if ranked:
        names = [path.name] * (epoch == ranked[0]) + [f'checkpoint-{ranked[0]}.pth.tar', 'model_best.pth.tar']
        sources = [source for name in names if (source := path.with_name(name)).exists()]
        for source in sources[:1]:
            _link(source, folder / 'model_best.pth.tar')


def _link(source: Path, target: Path) -> None:
    """Gives a file a second name, atomically: a hard link, or a copy if the file system has none.

    Raises:
        RunError: the disk is full, or the folder cannot be written.
    """
    if target.exists() and source.samefile(target):
        return
    temporary = f'{target}.tmp'
    try:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        try:
            os.link(source, temporary)
        except OSError:
            shutil.copy2(source, temporary)
        os.replace(temporary, target)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        raise RunError(f'cannot write {target}: {first_line(error)}') from error
