"""One pass over the training data, one over the validation data, and the epochs that they make up."""

import itertools
import logging
import math
import re
import time
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from timm import utils
from timm.models import model_parameters
from torch import nn

from ..common.errors import RunError
from ..common.files import first_line
from .distributed import mean_over_processes
from .loaders import start_draws
from .state import Run

_logger = logging.getLogger('train')


def train_epochs(run: Run, start_epoch: int, start_batch: int) -> None:
    """Trains from a position in the schedule to its end, and writes every finished epoch down.

    Args:
        run: what is trained.
        start_epoch: the first epoch.
        start_batch: how many of its batches are done already.
    """
    epoch = start_epoch
    try:
        for epoch in range(start_epoch, run.num_epochs):
            first_batch = start_batch if epoch == start_epoch else 0
            start_draws(run.train_loader, run.args, epoch + run.num_epochs * first_batch)
            metric = _epoch(run, epoch, first_batch)
            if run.schedule is not None:
                run.schedule.step(epoch + 1, metric)
    except Exception as error:
        kept = 'What was finished is kept: --resume auto goes on from there.'
        ended = _ended_worker(error, run.args.workers)
        if ended:
            raise RunError(
                f'epoch {epoch}: {ended}; is there memory enough for --workers {run.args.workers}? {kept}'
            ) from error
        if not isinstance(error, RunError):
            line = str(error).partition('\n')[0]
            _logger.error(f'Process {run.args.rank} stopped in epoch {epoch}: {type(error).__name__}: {line}. {kept}')
        raise


def _ended_worker(error: Exception, workers: int) -> str:
    """What an error tells of a loader's worker that something else has ended; empty if nothing.

    Torch says so in a signal handler, and so in the midst of whatever is being done, writing a checkpoint too.
    """
    text = str(error)
    if found := re.search(r'DataLoader worker \(pid.*', text):
        return found[0]
    # met by who takes a batch from a worker that ends meanwhile; what a worker itself meets begins with "Caught"
    if isinstance(error, ConnectionError | EOFError) and workers and not text.startswith('Caught '):
        return f'DataLoader worker seems to have ended ({first_line(error)})'
    return ''


def _epoch(run: Run, epoch: int, first_batch: int) -> float | None:
    """Trains one epoch and, where it is due, validates it and writes it down. Returns its metric, if it has one."""
    args = run.args
    started = time.perf_counter()
    row = {f'train_{name}': value for name, value in train_one_epoch(run, epoch, first_batch).items()}
    train_time = time.perf_counter() - started
    share_statistics = args.distributed and args.dist_bn
    if share_statistics:
        utils.distribute_bn(run.model, args.world_size, args.dist_bn == 'reduce')
    if (epoch + 1) % args.val_interval and epoch + 1 != run.num_epochs:
        return None

    started = time.perf_counter()
    if run.eval_loader is not None:
        metrics = validate(run, run.eval_model)
        if run.eval_average is not None:
            if share_statistics:
                utils.distribute_bn(run.average, args.world_size, args.dist_bn == 'reduce')
            metrics = validate(run, run.eval_average, log_suffix=' (EMA)')
        _check_finite(metrics['loss'], f'in the validation after epoch {epoch}, at learning rate {run.learning_rate:g}')
        row |= {f'eval_{name}': value for name, value in metrics.items()}
    eval_time = time.perf_counter() - started
    row['lr'] = run.learning_rate
    metric = row.get(f'eval_{run.eval_metric}', row['train_loss'])
    if run.output is not None:
        run.output.record(epoch, row, (train_time, eval_time), metric, run.state())
    return metric


def _check_finite(loss: float, where: str) -> None:
    if not math.isfinite(loss):
        raise RunError(f'the loss is {loss} {where}: training has diverged; a lower --lr or --clip-grad may help')


class TrainAccuracy:
    """Top-1 accuracy on training images, in percent, under the two readings that soft targets allow."""

    def __init__(self) -> None:
        self.larger_label, self.expected = utils.AverageMeter(), utils.AverageMeter()

    def update(self, scores: torch.Tensor, target: torch.Tensor) -> None:
        """Counts a batch.

        Args:
            scores: of the model, (images, classes).
            target: (images,) class indices, or (images, classes) label weights.
        """
        predicted = scores.argmax(dim=1)
        soft = target.ndim == 2
        right = predicted == (target.argmax(dim=1) if soft else target)
        weight = target.gather(1, predicted[:, None]) if soft else right
        means = torch.stack((right.float().mean(), weight.float().mean())).tolist()
        for meter, mean in zip((self.larger_label, self.expected), means, strict=True):
            meter.update(100 * mean, len(target))

    def averages(self) -> dict[str, float]:
        """Column → percent."""
        return {'top1_larger_label': self.larger_label.avg, 'top1_expected': self.expected.avg}


def train_one_epoch(run: Run, epoch: int, first_batch: int = 0) -> dict[str, float]:
    """One pass over the training data.

    Args:
        run: what is trained.
        epoch: its number, from 0.
        first_batch: how many batches of this epoch are done already.

    Returns:
        The mean training loss as `loss`; with --train-accuracy, `TrainAccuracy`'s averages as well.

    Raises:
        RunError: the loss is not finite.
    """
    args, updates = run.args, run.updates
    _switch_mixing(run, epoch)
    losses, accuracy = utils.AverageMeter(), TrainAccuracy() if args.train_accuracy else None
    progress = _Progress(run, epoch, losses)
    run.train_model.train()
    run.optimizer.zero_grad()
    batches = itertools.islice(run.train_loader, updates.num_batches - first_batch) if first_batch else run.train_loader
    for batch, (images, target) in enumerate(batches, start=first_batch):
        images, target = _on_device(run, images, target, mix=True)
        progress.batch_came(len(images))
        loss, scores = _forward_and_backward(run, images, target, batch)
        _check_finite(loss, f'in epoch {epoch}, batch {batch}, at learning rate {run.learning_rate:g}')
        losses.update(loss, len(images))
        if accuracy is not None:
            accuracy.update(scores, target)
        if updates.completes(batch):
            _after_update(run, epoch, batch, progress)
        progress.wait_for_batch()

    if hasattr(run.optimizer, 'sync_lookahead'):
        run.optimizer.sync_lookahead()
    metrics = {'loss': losses.avg, **(accuracy.averages() if accuracy is not None else {})}
    if args.distributed:
        means = mean_over_processes(args, torch.tensor(list(metrics.values()), device=run.device))
        metrics = dict(zip(metrics, means.tolist(), strict=True))
    return metrics


def _switch_mixing(run: Run, epoch: int) -> None:
    if run.args.mixup_off_epoch and epoch >= run.args.mixup_off_epoch:
        if run.mixup_fn is not None:
            run.mixup_fn.mixup_enabled = False
        elif run.args.prefetcher:
            run.train_loader.mixup_enabled = False  # reaches the running workers: the mixer keeps it in shared memory


def _on_device(
    run: Run, images: torch.Tensor, target: torch.Tensor, mix: bool = False
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch on the device in the model's precision, as timm's prefetcher puts it there; mixed, where that is left."""
    if not run.args.prefetcher:
        dtype = getattr(torch, run.args.model_dtype or 'float32')
        images, target = images.to(device=run.device, dtype=dtype), target.to(device=run.device)
    if mix and run.mixup_fn is not None:
        images, target = run.mixup_fn(images, target)
    if run.args.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    return images, target


def _forward_and_backward(
    run: Run, images: torch.Tensor, target: torch.Tensor, batch: int
) -> tuple[float, torch.Tensor]:
    """Adds a batch's gradients, and updates the weights where its group is complete. Returns loss and scores."""
    args, optimizer = run.args, run.optimizer
    group_size, complete = run.updates.group_size(batch), run.updates.completes(batch)
    second_order = getattr(optimizer, 'is_second_order', False)
    # gradients travel between the processes once per update
    with run.train_model.no_sync() if args.distributed and not complete else nullcontext():
        with run.autocast():
            scores = run.train_model(images)
            loss = run.loss_fn(scores, target) / group_size
        clipped = partial(model_parameters, run.model, exclude_head='agc' in args.clip_mode)
        if run.scaler is not None:
            run.scaler(
                loss,
                optimizer,
                clip_grad=args.clip_grad,
                clip_mode=args.clip_mode,
                parameters=clipped(),
                create_graph=second_order,
                need_update=complete,
            )
        else:
            loss.backward(create_graph=second_order)
            if complete:
                if args.clip_grad is not None:
                    utils.dispatch_clip_grad(clipped(), value=args.clip_grad, mode=args.clip_mode)
                optimizer.step()
    return loss.item() * group_size, scores.detach()


def _after_update(run: Run, epoch: int, batch: int, progress: '_Progress') -> None:
    """What follows an update: average, log line, schedule, recovery checkpoint."""
    args, updates = run.args, run.updates
    run.optimizer.zero_grad()
    update = batch // args.grad_accum_steps
    num_updates = epoch * updates.per_epoch + update + 1
    last = batch == updates.num_batches - 1
    if run.average is not None:
        run.average.update(run.model, step=num_updates)
    if args.synchronize_step and run.device.type == 'cuda':
        torch.cuda.synchronize()
    progress.update_made()
    if update % args.log_interval == 0 or last:
        progress.log(update)
    if run.schedule is not None:
        run.schedule.step_update(num_updates=num_updates, metric=progress.losses.avg)
    recovery_due = args.recovery_interval and (update + 1) % args.recovery_interval == 0
    if run.output is not None and recovery_due and not last:  # the end of the epoch is saved as such
        run.output.save_recovery(epoch, batch + 1, run.state())


class _Progress:
    """The times of an epoch and the line that timm logs of them."""

    def __init__(self, run: Run, epoch: int, losses: utils.AverageMeter) -> None:
        self.run = run
        self.epoch = epoch
        self.losses = losses
        self.update_times, self.data_times = utils.AverageMeter(), utils.AverageMeter()
        self.images = self.images_of_update = 0
        self.update_started = self.data_started = time.perf_counter()

    def wait_for_batch(self) -> None:
        self.data_started = time.perf_counter()

    def batch_came(self, images: int) -> None:
        self.data_times.update(time.perf_counter() - self.data_started)
        self.images += images * self.run.args.world_size

    def update_made(self) -> None:
        now = time.perf_counter()
        self.update_times.update(now - self.update_started)
        self.update_started = now
        self.images_of_update, self.images = self.images, 0

    def log(self, update: int) -> None:
        """Logs an update, in the first process; the loss is the mean over all."""
        args, updates = self.run.args, self.run.updates
        times, images = self.update_times, self.images_of_update
        losses = torch.tensor([self.losses.val, self.losses.avg], device=self.run.device)
        loss_now, loss_mean = mean_over_processes(args, losses).tolist()
        if utils.is_primary(args):
            _logger.info(
                f'Train: {self.epoch} [{update:>4d}/{updates.per_epoch} '
                f'({100 * (update + 1) / updates.per_epoch:>3.0f}%)]  '
                f'Loss: {loss_now:#.3g} ({loss_mean:#.3g})  '
                f'Time: {times.val:.3f}s, {images / times.val:>7.2f}/s '
                f'({times.avg:.3f}s, {images / times.avg:>7.2f}/s)  '
                f'LR: {self.run.learning_rate:.3e}  Data: {self.data_times.val:.3f} ({self.data_times.avg:.3f})'
            )


@torch.inference_mode()
def validate(run: Run, model: Any, log_suffix: str = '') -> dict[str, float]:
    """Loss, top-1 and top-5 accuracy (percent) on the validation data, as `loss`, `top1` and `top5`.

    Args:
        run: for the data and how it is read.
        model: the model to validate.
        log_suffix: tells the log lines of two models apart.
    """
    args, loader = run.args, run.eval_loader
    assert loader is not None
    loss_fn = nn.CrossEntropyLoss()
    meters = {name: utils.AverageMeter() for name in ('loss', 'top1', 'top5')}
    batch_times = utils.AverageMeter()
    model.eval()
    started = time.perf_counter()
    last = len(loader) - 1
    for batch, (images, target) in enumerate(loader):
        images, target = _on_device(run, images, target)
        with run.autocast():
            scores = model(images)
            if isinstance(scores, (tuple, list)):
                scores = scores[0]
            loss = loss_fn(scores, target)
        values = torch.stack((loss.float(), *utils.accuracy(scores, target, topk=(1, 5))))
        values = mean_over_processes(args, values)
        for meter, value in zip(meters.values(), values.tolist(), strict=True):
            meter.update(value, len(images))
        batch_times.update(time.perf_counter() - started)
        started = time.perf_counter()
        if utils.is_primary(args) and (batch == last or batch % args.log_interval == 0):
            _logger.info(
                f'Test{log_suffix}: [{batch:>4d}/{last}]  '
                f'Time: {batch_times.val:.3f} ({batch_times.avg:.3f})  '
                f'Loss: {meters["loss"].val:>7.3f} ({meters["loss"].avg:>6.3f})  '
                f'Acc@1: {meters["top1"].val:>7.3f} ({meters["top1"].avg:>7.3f})  '
                f'Acc@5: {meters["top5"].val:>7.3f} ({meters["top5"].avg:>7.3f})'
            )
    return {name: meter.avg for name, meter in meters.items()}
