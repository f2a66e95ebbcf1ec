"""What a run holds while it trains."""

import argparse
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from timm import utils
from torch import nn

from hmix_timm import Mixup, PuzzleMix

from .output import Output


@dataclass(frozen=True)
class Updates:
    """How the batches of an epoch make up its updates: groups of `accum_steps`, of which the last may be smaller."""

    num_batches: int
    accum_steps: int

    @property
    def per_epoch(self) -> int:
        """Updates in an epoch."""
        return math.ceil(self.num_batches / self.accum_steps)

    def group_size(self, batch: int) -> int:
        """How many batches share the update that this batch (counted from 0) belongs to."""
        group_start = batch - batch % self.accum_steps
        return min(self.accum_steps, self.num_batches - group_start)

    def completes(self, batch: int) -> bool:
        """Whether the update is made after this batch."""
        return batch == self.num_batches - 1 or (batch + 1) % self.accum_steps == 0

    def made(self, epoch: int, batches: int) -> int:
        """Updates made before `epoch` and in its first `batches` batches."""
        return epoch * self.per_epoch + batches // self.accum_steps


@dataclass
class Run:
    """All that the training loop works on. Each part is built by the function of its name in `setup` and `loaders`.

    Args:
        args: the arguments, with rank and world size.
        device: of this process.
        model: what is saved, clipped and averaged.
        average: the moving average of its weights.
        mixup_fn: the mixer, where the loader's workers do not mix.
        train_loader: of the training data.
        eval_loader: of the validation data.
        loss_fn: of training.
        optimizer: of the model.
        schedule: timm's.
        num_epochs: that the schedule has.
        updates: how batches make up updates.
        autocast: makes the context of a forward pass.
        scaler: of the loss, for float16 gradients.
        eval_metric: what the best checkpoint is best in.
        output: the run's files, in the first process.
        train_model: the model as it is called in training: maybe compiled, and distributed.
        eval_model: the model as it is validated.
        eval_average: the moving average as it is validated, if it is.
    """

    args: argparse.Namespace
    device: torch.device
    model: nn.Module
    average: utils.ModelEmaV3 | None
    mixup_fn: Mixup | PuzzleMix | None
    train_loader: Any
    eval_loader: Any | None
    loss_fn: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Any
    num_epochs: int
    updates: Updates
    autocast: Callable[[], AbstractContextManager]
    scaler: utils.NativeScaler | None
    eval_metric: str
    output: Output | None = None
    train_model: Any = None
    eval_model: Any = None
    eval_average: Any = None

    @property
    def learning_rate(self) -> float:
        """The mean over the parameter groups."""
        rates = [group['lr'] for group in self.optimizer.param_groups]
        return sum(rates) / len(rates)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds of the run, under timm's names."""
        state = {
            'arch': self.args.model,
            'state_dict': self.model.state_dict(),
            'optimizer': self.optimizer.state_dict(),
            'lr_scheduler': _schedule_state(self.schedule),
        }
        if self.scaler is not None:
            state[self.scaler.state_dict_key] = self.scaler.state_dict()
        if self.average is not None:
            state['state_dict_ema'] = self.average.module.state_dict()
        return state

    def load_state(self, checkpoint: dict[str, Any]) -> None:
        """Takes what `state` gave.

        Raises:
            KeyError, RuntimeError, ValueError: the checkpoint is another model's or optimizer's.
        """
        self.model.load_state_dict(checkpoint['state_dict'])
        if self.average is not None:
            self.average.module.load_state_dict(checkpoint.get('state_dict_ema') or checkpoint['state_dict'])
        if self.args.no_resume_opt:
            return
        self.optimizer.load_state_dict(checkpoint['optimizer'])
        _load_schedule_state(self.schedule, checkpoint.get('lr_scheduler'))
        if self.scaler is not None and self.scaler.state_dict_key in checkpoint:
            self.scaler.load_state_dict(checkpoint[self.scaler.state_dict_key])


def _schedule_state(schedule: Any) -> dict[str, Any] | None:
    """What a schedule must remember: plateau follows the metric, all others follow from the epoch."""
    plateau = getattr(schedule, 'lr_scheduler', None)
    return None if plateau is None else {'plateau': plateau.state_dict(), 'restore_lr': schedule.restore_lr}


def _load_schedule_state(schedule: Any, state: dict[str, Any] | None) -> None:
    if state is not None and hasattr(schedule, 'lr_scheduler'):
        schedule.lr_scheduler.load_state_dict(state['plateau'])
        schedule.restore_lr = state['restore_lr']
