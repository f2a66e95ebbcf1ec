"""A lean training script on timm's library: timm's arguments and recipes in, timm's files out.

One process (CPU, or the one GPU there is):
    hmix-train --data-dir DIR --model resnet50 --num-classes 10 --mix-mode hmix --output runs --experiment first
Eight GPUs of one machine (gloo on the CPU with --device cpu):
    torchrun --nproc_per_node 8 -m train_patch.train --data-dir DIR --model resnet50 --amp --mix-mode hmix
A recipe, which the command line beats:
    hmix-train -c recipe.yaml --epochs 90
Resume a run that was killed (a fresh folder starts from the beginning):
    hmix-train -c recipe.yaml --output runs --experiment first --resume auto

DIR holds train/ and validation/ with one folder of images per class. OUTPUT/EXPERIMENT receives
    args.yaml       the arguments; `-c args.yaml` repeats the run
    summary.csv     epoch, train_loss, eval_loss, eval_top1, eval_top5, lr: the same for the same seed on the CPU
    times.csv       epoch, train_time, eval_time in seconds, peak_memory in MiB, which never repeat
    last.pth.tar, model_best.pth.tar, checkpoint-N.pth.tar: timm's checkpoints

Draws depend on seed, rank, worker and epoch alone, so on the CPU a run that was killed and resumed gives the table of
an unbroken one.

Options of timm's that this script does not take (`NOT_TAKEN` in `trainer/options.py`) pass at timm's defaults; timm's
own train.py has them all: hmix-train path/to/timm/train.py …
Exit status: 0 when all epochs are done, 1 after one line with the reason for an early end, 2 after one about wrong
arguments or data, 130 after Ctrl-C, 143 after SIGTERM.
"""

import argparse
import logging
import math
import re
import sys
import time
from collections.abc import Sequence
from contextlib import nullcontext
from datetime import datetime
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import torch
from timm import utils
from timm.data import resolve_data_config
from timm.models import model_parameters, safe_model_name
from torch import nn

from hmix_timm.masks import WrongMask

from .common.errors import RunError
from .common.files import first_line
from .common.processes import Terminated, end_with_torchrun, was_terminated
from .common.timm_version import require_timm_for_training
from .common.weights import only_weights
from .mixing import Mixing
from .trainer import checkpoints, data, setup
from .trainer.arguments import parse_arguments
from .trainer.output import Output

_logger = logging.getLogger('train')


def main(argv: Sequence[str] | None = None) -> None:
    """Trains as the arguments say.

    Args:
        argv: the arguments; those of the process if None.

    Raises:
        SystemExit: the run did not come to its end; the status says why.
    """
    end_with_torchrun()
    args, mixing = parse_arguments(argv)
    try:
        with only_weights():  # however timm comes to load a file: from a hub, from a path, in an older version
            run = build(args, mixing)
            train(run, resume(run))
    except (RunError, WrongMask) as error:
        if was_terminated():  # and this is how the end of its workers looked
            _end(143, 'Terminated.')
        # from a loader worker the message comes with the worker's traceback before it
        line = str(error).strip().splitlines()[-1].removeprefix(f'{type(error).__module__}.{type(error).__name__}: ')
        _end(getattr(error, 'status', 1), f'hmix-train: error: {line}')
    except Terminated:
        _end(143, 'Terminated.')
    except KeyboardInterrupt:
        _end(130, 'Interrupted.')


def _end(status: int, line: str) -> NoReturn:
    print(line, file=sys.stderr)
    sys.exit(status)


def build(args: argparse.Namespace, mixing: Mixing) -> SimpleNamespace:
    """Builds the parts of a run: the data, the model and all that trains it."""
    require_timm_for_training()
    utils.setup_default_logging()
    setup.check_arguments(args)
    run = SimpleNamespace(args=args, arguments=dict(vars(args)))  # as given, before this process adds its own
    run.device = setup.join_processes(args)
    primary = utils.is_primary(args)

    # Data first: they go wrong most often, and a large model takes its time.
    datasets = data.load_datasets(args)
    run.model = setup.build_model(args, datasets[0], run.device)
    data_config = resolve_data_config(vars(args), model=run.model, verbose=primary)
    setup.check_images_fit(args, run.model, data_config['input_size'])
    amp_dtype = getattr(torch, args.amp_dtype)
    run.autocast = partial(torch.autocast, run.device.type, amp_dtype) if args.amp else nullcontext
    scaled = args.amp and amp_dtype == torch.float16 and run.device.type == 'cuda'
    run.scaler = utils.NativeScaler(device='cuda') if scaled else None
    run.mixup_fn, collate_fn = setup.build_mixers(args, run.model, data_config, run.autocast, mixing)
    run.train_loader, run.eval_loader = data.build_loaders(args, datasets, data_config, run.device, collate_fn)
    run.updates_per_epoch = math.ceil(len(run.train_loader) / args.grad_accum_steps)

    run.loss_fn = setup.build_loss(args, mixing.active).to(run.device)
    run.optimizer = setup.build_optimizer(args, run.model)
    run.eval_metric = args.eval_metric if run.eval_loader is not None else 'loss'
    run.schedule, run.num_epochs = setup.build_schedule(args, run.optimizer, run.updates_per_epoch, run.eval_metric)
    run.average = None
    if args.model_ema:
        device = 'cpu' if args.model_ema_force_cpu else None
        run.average = utils.ModelEmaV3(run.model, args.model_ema_decay, use_warmup=args.model_ema_warmup, device=device)
    run.parts = checkpoints.stateful_parts(run)

    # Compiled and distributed views of the one model; `model` itself is saved and averaged.
    run.eval_model = setup.compile_model(args, run.model)
    run.eval_average = setup.compile_model(args, None if args.model_ema_force_cpu else run.average)
    run.train_model = setup.distribute_model(args, run.eval_model, run.device)

    now = datetime.now().strftime('%Y%m%d-%H%M%S')
    experiment = args.experiment or f'{now}-{safe_model_name(args.model)}-{data_config["input_size"][-1]}'
    run.folder = Path(args.output or './output/train', experiment)
    if primary:
        how = f'lr {args.lr:g}, {f"{args.amp_dtype} autocast" if args.amp else "float32"}, {run.num_epochs} epoch(s)'
        _logger.info(f'{type(run.optimizer).__name__} ({args.opt}), {how}.')
    return run


def resume(run: SimpleNamespace) -> int:
    """Opens the run's folder and brings the run to the state in a checkpoint, if it resumes one.

    Returns:
        The epoch to train first.
    """
    args, primary = run.args, utils.is_primary(run.args)
    path = Path(args.resume) if args.resume else None
    if args.resume == 'auto':  # the first process chooses, so that all take the same
        path = setup.from_first(args, checkpoints.find_checkpoint(run.folder) if primary else None, run.device)
    start_epoch, metric = args.start_epoch or 0, None
    if path is not None:
        checkpoint = checkpoints.read_checkpoint(path)
        metric = checkpoint.get('metric')  # seen by the schedule at the end of the epoch before
        if args.start_epoch is None:
            start_epoch = checkpoints.next_epoch(checkpoint)
        own = path.parent.absolute() == run.folder.absolute()
        if primary and own and (args.resume != 'auto' or args.start_epoch is not None):
            checkpoints.check_goes_on(run.folder, start_epoch)
        checkpoints.load_parts(run.parts, path, checkpoint, weights_alone=args.no_resume_opt)
    run.output = Output(run.folder, run.arguments, run.eval_metric, path, start_epoch) if primary else None
    if primary and path is not None:
        run.output.keep(path, checkpoints.next_epoch(checkpoint) - 1)
        _logger.info(f'Resumed from {path} at epoch {start_epoch}.')
        recorded = checkpoint.get('args') or {}
        before = {**run.arguments, **(recorded if isinstance(recorded, dict) else vars(recorded))}  # timm's are not
        free = ('resume', 'start_epoch', 'output', 'experiment')
        changed = [f'{k} {before[k]} → {v}' for k, v in run.arguments.items() if before[k] != v and k not in free]
        if changed:
            _logger.info(f'Its arguments have changed: {", ".join(changed)}.')
    if run.schedule is not None and start_epoch:
        run.schedule.step(start_epoch, metric)
        run.schedule.step_update(start_epoch * run.updates_per_epoch)
    return start_epoch


def train(run: SimpleNamespace, start_epoch: int) -> None:
    """Trains to the end of the schedule."""
    epoch = start_epoch
    try:
        for epoch in range(start_epoch, run.num_epochs):
            metric = train_and_validate(run, epoch)
            if run.schedule is not None:
                run.schedule.step(epoch + 1, metric)
    except Exception as error:
        if not (lost := _lost_worker(error, run.args.workers)):
            raise
        raise RunError(
            f'epoch {epoch}: {lost}; is there memory enough for --workers {run.args.workers}? '
            'Finished epochs are kept: --resume auto resumes the run.'
        ) from error
    finally:
        if run.output is not None:
            run.output.report()
    if run.args.distributed:
        setup.leave_processes()


def _lost_worker(error: Exception, workers: int) -> str:
    """The loader worker that ended without an error of its own, as an error of the training process tells it; or ''."""
    if found := re.search(r'DataLoader worker \(pid.*', str(error)):
        return found[0]
    # from taking a batch of a worker that ends meanwhile; an error of the worker itself begins with "Caught"
    if isinstance(error, ConnectionError | EOFError) and workers and not str(error).startswith('Caught '):
        return f'DataLoader worker seems to have ended ({first_line(error)})'
    return ''


def train_and_validate(run: SimpleNamespace, epoch: int) -> float | None:
    """Trains one epoch and, where it is due, validates it and writes its results. Returns its metric, if it has one."""
    args = run.args
    data.start_epoch(run.train_loader, args, epoch)
    if args.mixup_off_epoch and epoch >= args.mixup_off_epoch:
        # reaches the running workers of a loader that mixes: the mixer keeps it in shared memory
        (run.mixup_fn or run.train_loader).mixup_enabled = False
    started = time.perf_counter()
    row = {'train_loss': train_one_epoch(run, epoch)}
    seconds = {'train_time': time.perf_counter() - started}
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
            metrics = validate(run, run.eval_average, ' (EMA)')
        _check_finite(metrics['loss'], f'in the validation after epoch {epoch}', run)
        row |= {f'eval_{name}': value for name, value in metrics.items()}
    seconds |= {'eval_time': time.perf_counter() - started, 'peak_memory': setup.peak_memory(run.device)}
    row['lr'] = _learning_rate(run)
    if run.output is not None:
        run.output.record(epoch, row, seconds, {name: part.state_dict() for name, part in run.parts.items()})
    return row.get(f'eval_{run.eval_metric}', row['train_loss'])


def _learning_rate(run: SimpleNamespace) -> float:
    """The mean over the parameter groups."""
    rates = [group['lr'] for group in run.optimizer.param_groups]
    return sum(rates) / len(rates)


def _check_finite(loss: float, where: str, run: SimpleNamespace) -> None:
    if not math.isfinite(loss):
        where += f', at learning rate {_learning_rate(run):g}'
        raise RunError(f'the loss is {loss} {where}: training has diverged; a lower --lr or --clip-grad may help')


def train_one_epoch(run: SimpleNamespace, epoch: int) -> float:
    """Passes once over the training data. Returns the mean loss.

    Raises:
        RunError: the loss is not finite.
    """
    args, optimizer, losses = run.args, run.optimizer, utils.AverageMeter()
    last, started = len(run.train_loader) - 1, time.perf_counter()
    run.train_model.train()
    optimizer.zero_grad()
    for batch, (images, target) in enumerate(run.train_loader):
        images, target = _to_device(run, images, target, run.mixup_fn)
        # the last group of batches may be smaller than the others
        update, place = divmod(batch, args.grad_accum_steps)
        group_size = min(args.grad_accum_steps, last + 1 - (batch - place))
        complete = place == group_size - 1
        loss = forward_and_backward(run, images, target, group_size, complete)
        _check_finite(loss, f'in epoch {epoch}, batch {batch}', run)
        losses.update(loss, len(images))
        if complete:
            optimizer.zero_grad()
            num_updates = epoch * run.updates_per_epoch + update + 1
            if run.average is not None:
                run.average.update(run.model, step=num_updates)
            if update % args.log_interval == 0 or batch == last:
                _log_update(run, epoch, update, losses, time.perf_counter() - started)
            if run.schedule is not None:
                run.schedule.step_update(num_updates=num_updates, metric=losses.avg)
    if hasattr(optimizer, 'sync_lookahead'):
        optimizer.sync_lookahead()
    if args.distributed:
        return setup.mean_over_processes(args, torch.tensor(losses.avg, device=run.device)).item()
    return losses.avg


def _log_update(run: SimpleNamespace, epoch: int, update: int, losses: Any, seconds: float) -> None:
    """Logs an update, in the first process; the loss is the mean over all."""
    values = torch.tensor([losses.val, losses.avg], device=run.device)
    loss, mean_loss = setup.mean_over_processes(run.args, values).tolist()
    if utils.is_primary(run.args):
        part = (update + 1) / run.updates_per_epoch
        images = losses.count * run.args.world_size
        _logger.info(
            f'Train: {epoch} [{update:>4d}/{run.updates_per_epoch} ({100 * part:>3.0f}%)]  '
            f'Loss: {loss:#.3g} ({mean_loss:#.3g})  Time: {seconds:.3f}s, {images / seconds:>7.2f}/s  '
            f'LR: {_learning_rate(run):.3e}'
        )


def _to_device(
    run: SimpleNamespace, images: torch.Tensor, target: torch.Tensor, mixup_fn: Any = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch on the device, as timm's prefetcher puts it there, and mixed."""
    if not run.args.prefetcher:
        images, target = images.to(run.device), target.to(run.device)
    if mixup_fn is not None:
        images, target = mixup_fn(images, target)
    if run.args.channels_last:
        images = images.contiguous(memory_format=torch.channels_last)
    return images, target


def forward_and_backward(
    run: SimpleNamespace, images: torch.Tensor, target: torch.Tensor, group_size: int, complete: bool
) -> float:
    """Adds the gradients of a batch, and updates the weights if its group of batches is complete. Returns the loss."""
    args, optimizer = run.args, run.optimizer
    second_order = getattr(optimizer, 'is_second_order', False)
    parameters = model_parameters(run.model, exclude_head='agc' in args.clip_mode)
    clip = {'clip_grad': args.clip_grad, 'clip_mode': args.clip_mode, 'parameters': parameters}
    # gradients travel between the processes once per update
    with run.train_model.no_sync() if args.distributed and not complete else nullcontext():
        with run.autocast():
            loss = run.loss_fn(run.train_model(images), target) / group_size
        if run.scaler is not None:
            run.scaler(loss, optimizer, **clip, create_graph=second_order, need_update=complete)
        else:
            loss.backward(create_graph=second_order)
            if complete:
                if args.clip_grad is not None:
                    utils.dispatch_clip_grad(parameters, value=args.clip_grad, mode=args.clip_mode)
                optimizer.step()
    return loss.item() * group_size


@torch.inference_mode()
def validate(run: SimpleNamespace, model: Any, log_suffix: str = '') -> dict[str, float]:
    """Measures loss, top-1 and top-5 accuracy (percent) on the validation data, as `loss`, `top1` and `top5`."""
    meters = [utils.AverageMeter() for _ in range(3)]
    model.eval()
    for images, target in run.eval_loader:
        images, target = _to_device(run, images, target)
        with run.autocast():
            scores = model(images)
            scores = scores[0] if isinstance(scores, (tuple, list)) else scores
            loss = nn.functional.cross_entropy(scores, target)
        values = torch.stack((loss.float(), *utils.accuracy(scores, target, topk=(1, 5))))
        for meter, value in zip(meters, setup.mean_over_processes(run.args, values).tolist(), strict=True):
            meter.update(value, len(images))
    loss, top1, top5 = (meter.avg for meter in meters)
    if utils.is_primary(run.args):
        _logger.info(f'Test{log_suffix}: Loss: {loss:.3f}  Acc@1: {top1:.3f}  Acc@5: {top5:.3f}')
    return {'loss': loss, 'top1': top1, 'top5': top5}


if __name__ == '__main__':
    main()
