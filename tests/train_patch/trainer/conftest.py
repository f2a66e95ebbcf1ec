"""Shared by tests of single parts: a run's arguments, and a run on a linear model."""

import shlex
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from train_patch.trainer.arguments import parse_arguments

CLASSES = 7


def arguments(line='', **more):
    """A single process's arguments."""
    args, _ = parse_arguments(shlex.split(line))
    vars(args).update({'distributed': False, 'rank': 0, 'world_size': 1, 'prefetcher': False, **more})
    return args


def batches(*sizes, seed=0):
    """Images of 1 × 2 × 3 numbers and their classes."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, 1, 2, 3, generator=generator), torch.randint(CLASSES, (n,), generator=generator)) for n in sizes
    ]


@pytest.fixture
def linear_run():
    """linear_run('line', train, validation) → a run of `train.py` on a linear model, whose batches are given."""

    def make(line='', train=(), validation=None, lr=0.1):
        args = arguments(line)
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(6, CLASSES))
        return SimpleNamespace(
            args=args,
            device=torch.device('cpu'),
            model=model,
            train_model=model,
            eval_model=model,
            average=None,
            mixup_fn=None,
            train_loader=list(train),
            eval_loader=validation,
            loss_fn=nn.CrossEntropyLoss(),
            optimizer=torch.optim.SGD(model.parameters(), lr=lr),
            schedule=None,
            updates_per_epoch=-(-len(train) // args.grad_accum_steps),
            autocast=nullcontext,
            scaler=None,
        )

    return make
