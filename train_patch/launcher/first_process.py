"""Which of the processes of a run this one is."""

import os

import torch


def is_first_process() -> bool:
    """Whether this process is the one that speaks for a distributed run.

    Asks torch where the processes have met already; before that, torchrun and SLURM name the process in the
    environment.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank() == 0
    return int(os.environ.get('RANK') or os.environ.get('SLURM_PROCID') or 0) == 0
