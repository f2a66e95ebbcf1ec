"""Where a run starts: at the beginning, or where a checkpoint stands."""

import argparse
import logging
from pathlib import Path
from typing import Any

import torch
from timm import utils

from ..common.errors import RunError
from .checkpoints import find_checkpoint, position, read_checkpoint
from .distributed import from_first
from .state import Run

_logger = logging.getLogger('train')


def find_resume_path(args: argparse.Namespace, folder: Path, device: torch.device) -> Path | None:
    """The checkpoint to go on from: the first process chooses, so that all take the same."""
    if args.resume != 'auto':
        return Path(args.resume) if args.resume else None
    found = None
    if utils.is_primary(args):
        found = find_checkpoint(folder)
        if found is None:
            _logger.info(f'--resume auto: no checkpoint in {folder}, starting from the beginning.')
    return from_first(args, found, device)


def restore(run: Run, path: Path | None) -> tuple[int, int]:
    """Brings a run to where a checkpoint stands, and its schedule to where the run starts.

    Args:
        run: as it was built.
        path: of the checkpoint; None starts at --start-epoch, or from the beginning.

    Returns:
        The epoch to train first, and how many of its batches are done already.

    Raises:
        RunError: the checkpoint cannot be read or is another run's.
    """
    start_epoch, start_batch = run.args.start_epoch or 0, 0
    metric = None  # what the schedule would have seen at the end of the epoch before
    if path is not None:
        checkpoint = read_checkpoint(path)
        if run.args.start_epoch is None:
            start_epoch, start_batch = position(checkpoint)
        metric = checkpoint.get('metric')
        _load(run, path, checkpoint)
        if run.output is not None:
            run.output.restore(path, checkpoint, start_epoch)
            _logger.info(f'Resumed from {path} at epoch {start_epoch}, batch {start_batch}.')
    if run.output is not None:  # rows of epochs that are to be trained again must not outlive the next kill
        run.output.write_tables()
    if run.schedule is not None:
        if start_epoch:
            run.schedule.step(start_epoch, metric)
        updates = run.updates.made(start_epoch, start_batch)
        if updates:
            run.schedule.step_update(updates)
    return start_epoch, start_batch


def _load(run: Run, path: Path, checkpoint: dict[str, Any]) -> None:
    try:
        run.load_state(checkpoint)
    except (KeyError, RuntimeError, ValueError) as error:
        reason = ' '.join(str(error).split())[:300]
        raise RunError(f'the checkpoint {path} does not fit this run: {reason}') from error
