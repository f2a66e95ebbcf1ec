"""The processes of a run: one, or those that torchrun or SLURM started."""

import argparse
import logging
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from timm import utils

from ..common.processes import raise_on_sigterm

_logger = logging.getLogger('train')

# A process that waits this long for another one gives up: enough for the slowest first batch, short of a lost night.
DIST_TIMEOUT = timedelta(minutes=10)


def join_processes(args: argparse.Namespace) -> torch.device:
    """Chooses the device, joins the other processes of a torchrun or SLURM launch, gives `args` rank and world size."""
    args.local_rank, args.rank, args.world_size = utils.world_info_from_env()
    args.distributed = utils.is_distributed_env()
    device = torch.device(args.device or ('cuda' if torch.cuda.is_available() else 'cpu'))
    if not args.distributed:
        args.local_rank, args.rank, args.world_size = 0, 0, 1
        # One of several processes must die at once: it may be waiting for the others, and Python only looks after that.
        raise_on_sigterm()
        _logger.info(f'Training with a single process on {device}{"" if args.device else " (no --device given)"}.')
        return device
    if device.type != 'cpu':
        device = torch.device(device.type, args.local_rank)
    if device.type == 'cuda':
        torch.cuda.set_device(device)
    dist.init_process_group(
        dist.get_default_backend_for_device(device),
        init_method='env://',
        rank=args.rank,
        world_size=args.world_size,
        timeout=DIST_TIMEOUT,
    )
    _logger.info(f'Process {args.rank} of {args.world_size} on {device}, {dist.get_backend()}.')
    return device


def leave_processes() -> None:
    """Ends what `join_processes` began, where that has to be said: a group of gloo ends with its process.

    A thread of gloo needs Python's lock to let go of the tensors of the last reduction. torch (2.6, at least) ends a
    group with the lock held and waits for that thread, so that right after a reduction both may wait for ever.
    """
    if dist.get_backend() != 'gloo':
        dist.destroy_process_group()


def from_first(args: argparse.Namespace, value: Any, device: torch.device) -> Any:
    """The first process's `value` in every process."""
    values = [value]
    if args.distributed:
        dist.broadcast_object_list(values, src=0, device=device)
    return values[0]


def mean_over_processes(args: argparse.Namespace, values: torch.Tensor) -> torch.Tensor:
    """The mean of a tensor over all processes."""
    return utils.reduce_tensor(values, args.world_size) if args.distributed else values
