"""Builds the parts of a run (process, model, mixer, loss, optimizer, schedule), and checks first that it can."""

import argparse
import copy
import difflib
import importlib.util
import inspect
import logging
import resource
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch
from PIL import ImageMode
from timm import loss as losses
from timm import models, optim, scheduler, utils
from timm.layers import convert_sync_batchnorm
from torch import nn
from torch.nn.parallel import DistributedDataParallel

import hmix_timm
from hmix_timm import FastCollateMixup, Mixup, PuzzleMix, input_gradient

from ..common.command import check_device
from ..common.errors import WrongArguments, told_as
from ..common.processes import raise_on_sigterm
from ..common.weights import plain_values
from ..data import cifar_networks  # noqa: F401  # registers the CIFAR networks with timm
from ..mixing import Mixing
from .augmentation import check_augmentation
from .data import check_num_classes, image_channels, image_mode

_logger = logging.getLogger('train')


def check_arguments(args: argparse.Namespace) -> None:
    """Checks names and values that differ from version to version and machine to machine.

    Raises:
        WrongArguments: one of them cannot work; the message names the option.
    """
    if args.device is not None:
        check_device(args.device)
    if args.aug_repeats and not utils.is_distributed_env():
        raise WrongArguments(f'--aug-repeats {args.aug_repeats:g} works on several processes only: start with torchrun')
    if args.log_wandb and importlib.util.find_spec('wandb') is None:
        raise WrongArguments('--log-wandb: the package wandb is not installed')
    if ':' not in args.model and not models.is_model(args.model):
        nearest = difflib.get_close_matches(args.model, models.list_models(), n=1)
        hint = f'; the nearest is {nearest[0]}' if nearest else ''
        raise WrongArguments(f'--model {args.model}: no such model in timm{hint}')
    _check_channels(args)
    check_augmentation(args)
    _check_schedule(args)


def _check_channels(args: argparse.Namespace) -> None:
    mode, channels = image_mode(args), image_channels(args)
    if args.input_size and args.in_chans not in (None, channels):
        raise WrongArguments(f'--in-chans {args.in_chans}: --input-size has {channels} channels')
    try:
        described = ImageMode.getmode(mode)
    except KeyError as error:
        raise WrongArguments(f'--input-img-mode {mode}: PIL knows no such mode') from error
    if described.typestr != '|u1' or mode in ('P', 'PA') or len(described.bands) != channels:
        option = '--input-size' if args.input_size else '--in-chans'
        raise WrongArguments(
            f'{option}: {channels} channels need an --input-img-mode of {channels} channels of 8 bits '
            f'(L, RGB, RGBA, CMYK, …), not {mode}'
        )


def _check_schedule(args: argparse.Namespace) -> None:
    """Builds an optimizer and a schedule of the run's kind for a single weight."""
    args = argparse.Namespace(**{**vars(args), 'lr': args.lr or 0.1})
    optimizer = build_optimizer(args, [nn.Parameter(torch.zeros(1))])
    _, num_epochs = build_schedule(args, optimizer, 1, args.eval_metric)
    if args.start_epoch and args.start_epoch >= num_epochs:
        raise WrongArguments(f'--start-epoch {args.start_epoch}: the schedule has {num_epochs} epochs, counted from 0')


def join_processes(args: argparse.Namespace) -> torch.device:
    """Chooses the device, joins the other processes of a torchrun or SLURM launch, and seeds all generators.

    Args:
        args: gets timm's `distributed`, `rank`, `local_rank`, `world_size` and `prefetcher`.

    Raises:
        WrongArguments: several processes on the CPU cannot compute batch norm together.
    """
    given = args.device
    args.device = given or ('cuda' if torch.cuda.is_available() else 'cpu')
    if not utils.is_distributed_env():
        # One of several processes must die at once: it may be waiting for the others, and Python only looks after that.
        raise_on_sigterm()
    elif args.sync_bn and torch.device(args.device).type == 'cpu':  # before joining: else others wait for this one
        raise WrongArguments(
            '--sync-bn works on GPUs only; on the CPU --dist-bn shares the statistics after each epoch'
        )
    device = utils.init_distributed_device(args)
    where = f'{device}' if given else f'{device} (no --device given)'
    _logger.info(f'Process {args.rank} of {args.world_size} on {where}.')
    if device.type == 'cuda':
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    args.prefetcher = not args.no_prefetcher
    utils.random_seed(args.seed, args.rank)
    return device


def peak_memory(device: torch.device) -> float:
    """The memory that this process has needed at most so far, in MiB: what torch took on a GPU, else all of it."""
    if device.type == 'cuda':
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == 'darwin' else 2**10)


def leave_processes() -> None:
    """Ends the process group, if that has to be said: a group of gloo ends with its process.

    A thread of gloo needs Python's lock to let go of the tensors of the last reduction. torch (2.6, at least) ends a
    group with the lock held and waits for that thread, so that right after a reduction both may wait for ever.
    """
    if torch.distributed.get_backend() != 'gloo':
        torch.distributed.destroy_process_group()


def from_first(args: argparse.Namespace, value: Any, device: torch.device) -> Any:
    """The first process's `value` in every process."""
    values = [value]
    if args.distributed:
        torch.distributed.broadcast_object_list(values, src=0, device=device)
    return values[0]


def mean_over_processes(args: argparse.Namespace, values: torch.Tensor) -> torch.Tensor:
    """The mean of a tensor over all processes."""
    return utils.reduce_tensor(values, args.world_size) if args.distributed else values


def build_model(args: argparse.Namespace, dataset: Any, device: torch.device) -> nn.Module:
    """The model on its device, with its first weights.

    Args:
        args: the run's arguments; `num_classes` is set if it was left to the model.
        dataset: of training, for the number of classes.
        device: where the model goes.

    Raises:
        WrongArguments: timm cannot build it or use a file of weights, or its classes are not those of the data.
    """
    overlay = (
        {'pretrained_cfg_overlay': dict(file=args.pretrained_path, num_classes=-1)} if args.pretrained_path else {}
    )
    files = {'--pretrained-path': args.pretrained_path, '--initial-checkpoint': args.initial_checkpoint}
    given = ''.join(f' {option} {path}' for option, path in files.items() if path)
    # options that not every model knows, weights that do not fit or cannot be read
    with told_as(f'--model {args.model}{given}: cannot be built with these arguments'), plain_values():
        model = models.create_model(
            args.model,
            pretrained=args.pretrained,
            checkpoint_path=args.initial_checkpoint,
            in_chans=image_channels(args),
            num_classes=args.num_classes,
            drop_rate=args.drop,
            drop_path_rate=args.drop_path,
            **overlay,
            **args.model_kwargs,
        )
    if args.num_classes is None:
        args.num_classes = model.num_classes
        check_num_classes(args.num_classes, dataset, args.class_map, given=False)
    if args.distributed and args.sync_bn:
        args.dist_bn = ''  # nothing is left to share after the epoch
        model = convert_sync_batchnorm(model)
    model.to(device=device)
    if args.channels_last:
        model.to(memory_format=torch.channels_last)
    if utils.is_primary(args):
        count = sum(parameter.numel() for parameter in model.parameters())
        _logger.info(f'Model {args.model} created, param count: {count}')
    return model


def check_images_fit(args: argparse.Namespace, model: nn.Module, size: tuple[int, int, int]) -> None:
    """Puts one black image through the model, so that a size it cannot take is named before any training.

    Args:
        args: the run's arguments.
        model: the model; neither its weights nor its statistics change, and no random number is drawn.
        size: channels, height and width.

    Raises:
        WrongArguments: the model cannot take such images, or gives no score for each class.
    """
    image = torch.zeros(1, *size, device=next(model.parameters()).device)
    refused = f'--model {args.model}: cannot take images of {"×".join(map(str, size))}'
    with told_as(refused), torch.no_grad(), torch.random.fork_rng(devices=[]):
        scores = model.eval()(image)
    shape = tuple((scores[0] if isinstance(scores, (tuple, list)) else scores).shape)
    if shape != (1, args.num_classes):
        raise WrongArguments(
            f'--model {args.model}: gives {shape} for an image with these arguments, not {args.num_classes} scores'
        )
    if args.batch_size == 1:
        try:
            with torch.no_grad(), torch.random.fork_rng():
                copy.deepcopy(model).train()(image)
        except ValueError as error:  # of batch norm
            raise WrongArguments(f'--batch-size 1: the model cannot train on one image: {error}') from error


def build_mixers(
    args: argparse.Namespace,
    model: nn.Module,
    data_config: dict[str, Any],
    autocast: Callable[[], AbstractContextManager],
    mixing: Mixing,
) -> tuple[Mixup | PuzzleMix | None, FastCollateMixup | None]:
    """The mixer of the training loop, or that of the loader's workers; both None without mixing.

    Args:
        args: the run's arguments.
        model: in training, which some mix modes ask.
        data_config: timm's: input size, standard deviation.
        autocast: makes the context of a forward pass.
        mixing: how the run mixes.

    Raises:
        WrongArguments: the mix mode cannot mix images of this size.
    """
    mixup_fn: Mixup | PuzzleMix | None = None
    collate_fn = None
    if mixing.needs_model:
        mixup_fn = mixing.puzzle(input_gradient(model, autocast), data_config['std'], args.num_classes)
        try:
            mixup_fn.check_size(*data_config['input_size'][1:])
        except ValueError as error:
            raise WrongArguments(f'{mixing.asked}: {error}') from error
    elif mixing.active and args.prefetcher:
        collate_fn = mixing.mixer(hmix_timm.FastCollateMixup, args.num_classes)
    elif mixing.active:
        mixup_fn = mixing.mixer(hmix_timm.Mixup, args.num_classes)
    if utils.is_primary(args):
        if mixing.replaced:
            _logger.info(mixing.replaced)
        _logger.info(f'Mixing: {collate_fn or mixup_fn or "none"}')
    return mixup_fn, collate_fn


def build_loss(args: argparse.Namespace, mixed: bool) -> nn.Module:
    """The training loss. A mixer's targets are smoothed already, and soft."""
    smoothing = 0.0 if mixed else args.smoothing
    if args.bce_loss:
        return losses.BinaryCrossEntropy(smoothing, target_threshold=args.bce_target_thresh)
    if mixed:
        return losses.SoftTargetCrossEntropy()
    return losses.LabelSmoothingCrossEntropy(smoothing) if smoothing else nn.CrossEntropyLoss()


def build_optimizer(args: argparse.Namespace, model: Any) -> torch.optim.Optimizer:
    """The optimizer of a model or of a list of weights.

    Args:
        args: the run's arguments. `lr` is set if it was left to --lr-base, which is scaled to the global batch as timm
            does: by the square root for optimizers of the Adam kind.
        model: the model, or the weights.

    Raises:
        WrongArguments: the optimizer's name is unknown, a value is wrong, or a package is missing.
    """
    if not args.lr:
        adaptive = any(name in args.opt.lower() for name in ('ada', 'lamb'))
        scale = args.lr_base_scale or ('sqrt' if adaptive else 'linear')
        ratio = args.batch_size * args.world_size * args.grad_accum_steps / args.lr_base_size
        args.lr = args.lr_base * (ratio**0.5 if scale == 'sqrt' else ratio)
    with told_as(f'--opt {args.opt}'):
        return optim.create_optimizer_v2(model, **optim.optimizer_kwargs(cfg=args), **args.opt_kwargs)


def build_schedule(
    args: argparse.Namespace, optimizer: torch.optim.Optimizer, updates_per_epoch: int, eval_metric: str
) -> tuple[Any, int]:
    """timm's schedule (None for --sched none), and the number of epochs that it makes of --epochs.

    Raises:
        WrongArguments: timm has no such schedule, or a value is wrong.
    """
    kwargs = scheduler.scheduler_kwargs(args, decreasing_metric=eval_metric == 'loss')
    with told_as(f'--sched {args.sched}'):
        schedule, epochs = scheduler.create_scheduler_v2(optimizer, **kwargs, updates_per_epoch=updates_per_epoch)
    if schedule is None and args.sched != 'none':
        raise WrongArguments(f'--sched {args.sched}: this version of timm has no such schedule')
    return schedule, epochs


def compile_model(args: argparse.Namespace, model: Any) -> Any:
    """The model as --torchcompile asks; as it is without it.

    Raises:
        WrongArguments: torch knows no such backend or mode.
    """
    if not args.torchcompile or model is None:
        return model
    with told_as(f'--torchcompile {args.torchcompile}'):
        return torch.compile(model, backend=args.torchcompile, mode=args.torchcompile_mode)


def distribute_model(args: argparse.Namespace, model: Any, device: torch.device) -> Any:
    """The model whose gradients are those of all processes; as it is on a single one."""
    if not args.distributed:
        return model
    options: dict[str, Any] = {'device_ids': None if device.type == 'cpu' else [device]}
    names = inspect.signature(DistributedDataParallel).parameters
    new_name = 'forward_sync_buffers'  # since torch 2.14, which deprecates the old one
    options[new_name if new_name in names else 'broadcast_buffers'] = not args.no_ddp_bb
    return DistributedDataParallel(model, **options)
