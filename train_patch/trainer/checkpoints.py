"""The checkpoints of a run: which of them a folder holds, and reading one that nobody vouches for."""

import argparse
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ..common.errors import RunError
from ..common.files import first_line

_logger = logging.getLogger('train')


def finished_checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints of whole epochs that a folder holds, timm's or this project's, the most advanced first.

    `last`, then `checkpoint-N` from the highest number down, then `model_best`, which is older than the others but all
    that is left where those were lost. The list is empty where the folder is missing.
    """
    names = ('last.pth.tar', *_numbered(folder, r'checkpoint-(\d+)\.pth\.tar'), 'model_best.pth.tar')
    return [path for name in names if (path := Path(folder, name)).exists()]


def recovery_checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints from the middle of an epoch, `recovery-EPOCH-BATCH`, the most advanced first."""
    return [Path(folder, name) for name in _numbered(folder, r'recovery-(\d+)-(\d+)\.pth\.tar')]


def ahead_of(reached: tuple[int, int], recoveries: Iterable[Path]) -> list[Path]:
    """Those recovery checkpoints that are further on than an epoch and its batches done."""
    return [path for path in recoveries if tuple(map(int, re.findall(r'\d+', path.name))) > reached]


def _numbered(folder: str | Path, pattern: str) -> list[str]:
    """Names in a folder that match, the highest numbers first: 10 before 9."""
    names = os.listdir(folder) if os.path.isdir(folder) else []
    matches = [match for name in names if (match := re.fullmatch(pattern, name))]
    return [match[0] for match in sorted(matches, key=lambda match: tuple(map(int, match.groups())), reverse=True)]


def holds_run(folder: str | Path) -> bool:
    """Whether a folder holds the table or a checkpoint of a run."""
    return Path(folder, 'summary.csv').exists() or bool(finished_checkpoints(folder) or recovery_checkpoints(folder))


def find_checkpoint(folder: str | Path) -> Path | None:
    """The most advanced checkpoint in a folder that can be used; a damaged one is named in the log and passed over.

    Returns:
        Its path, or None where there is no checkpoint at all.

    Raises:
        RunError: there are checkpoints, and not one of them can be used.
    """
    finished, recoveries = finished_checkpoints(folder), recovery_checkpoints(folder)
    best, reached = _first_usable(finished)
    best = _first_usable(ahead_of(reached, recoveries))[0] or best
    if best is None and (finished or recoveries):
        raise RunError(f'none of the checkpoints in {folder} can be used')
    return best


def _first_usable(paths: Iterable[Path]) -> tuple[Path | None, tuple[int, int]]:
    for path in paths:
        try:
            return path, position(read_checkpoint(path))
        except RunError as error:
            _logger.warning(f'{error}. Trying the one before it.')
    return None, (0, 0)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Reads a training checkpoint, timm's or this project's, without running any code that may be in it.

    Raises:
        RunError: the file is missing or damaged, holds more than plain values, or is not a training checkpoint.
    """
    import torch  # here, so that finding checkpoints does not wait for it

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
    try:
        _check_entries(checkpoint)
    except (AttributeError, TypeError, ValueError) as error:
        raise RunError(f'cannot use the checkpoint {path}: a run writes no such entry: {first_line(error)}') from error
    return checkpoint


def _check_entries(checkpoint: Mapping[str, Any]) -> None:
    """Checks all that names files: a run removes and replaces `checkpoint-N.pth.tar` of its own folder, no other."""
    saver = checkpoint.get('saver') or {}
    numbers = [checkpoint['epoch'], saver.get('best_epoch'), saver.get('best_metric'), *saver.get('pending', ())]
    for name, metric in saver.get('checkpoint_files', ()):
        if not re.fullmatch(r'checkpoint-[0-9]+\.pth\.tar', name):
            raise ValueError(f'checkpoint_files: {name!r}')
        numbers.append(metric)
    for number in numbers:
        if not isinstance(number, (int, float, type(None))):
            raise ValueError(f'{number!r} is not a number')


def position(checkpoint: Mapping[str, Any]) -> tuple[int, int]:
    """Where a checkpoint stands: the epoch to train next, and how many of its batches are already done."""
    epoch = int(checkpoint['epoch']) + (1 if checkpoint.get('version', 1) > 1 else 0)
    return epoch, int(checkpoint.get('batches_done', 0))
