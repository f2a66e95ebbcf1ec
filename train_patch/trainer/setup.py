"""Building what a run trains with: model, mixer, loss, optimizer, schedule, precision."""

import argparse
import copy
import logging
import os
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import torch
from timm import utils
from timm.layers import convert_splitbn_model, convert_sync_batchnorm, set_fast_norm
from timm.loss import BinaryCrossEntropy, JsdCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.models import create_model, load_checkpoint, safe_model_name
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from torch import nn

from hmix_timm import FastCollateMixup, Mixup, PuzzleMix, input_gradient

from ..common.errors import RunError
from ..mixing import Mixing
from .arguments import WrongArguments
from .checks import image_channels
from .data import check_num_classes

_logger = logging.getLogger('train')


def prepare_torch(args: argparse.Namespace, device: torch.device) -> None:
    """Sets what belongs to the process: fast kernels, and the seed that everything is built from."""
    if device.type == 'cuda':
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    if args.distributed and args.sync_bn and device.type == 'cpu':
        raise WrongArguments(
            '--sync-bn works on GPUs only; on the CPU --dist-bn shares the statistics after each epoch'
        )
    if args.fast_norm:
        set_fast_norm()
    args.prefetcher = not args.no_prefetcher
    utils.random_seed(args.seed, args.rank)


def build_model(args: argparse.Namespace, dataset: Any, device: torch.device) -> nn.Module:
    """The model on its device, with the weights that it starts from.

    Args:
        args: the run's arguments; `num_classes` is set where it was left to the model.
        dataset: of training, for the number of classes.
        device: where the model goes.

    Raises:
        WrongArguments: timm cannot build it, or its classes are not those of the data.
        RunError: --initial-checkpoint cannot be used.
    """
    for option in ('initial_checkpoint', 'pretrained_path'):
        path = getattr(args, option)
        if path and not os.path.isfile(path):
            raise WrongArguments(f'--{option.replace("_", "-")} {path}: there is no such file')
    overlay = dict(file=args.pretrained_path, num_classes=-1)
    try:
        model = create_model(
            args.model,
            pretrained=args.pretrained,
            in_chans=image_channels(args),
            num_classes=args.num_classes,
            drop_rate=args.drop,
            drop_path_rate=args.drop_path,
            drop_block_rate=args.drop_block,
            global_pool=args.gp,
            bn_momentum=args.bn_momentum,
            bn_eps=args.bn_eps,
            **({'pretrained_cfg_overlay': overlay} if args.pretrained_path else {}),
            **args.model_kwargs,
        )
    except Exception as error:  # options that not every model knows, weights that do not fit or cannot be read
        source = f' --pretrained-path {args.pretrained_path}' if args.pretrained_path else ''
        raise WrongArguments(
            f'--model {args.model}{source}: cannot be built with these arguments: {_one_line(error)}'
        ) from error
    if args.num_classes is None:
        args.num_classes = model.num_classes
        try:
            check_num_classes(args.num_classes, dataset, args.class_map, given=False)
        except ValueError as error:
            raise WrongArguments(str(error)) from error
    if args.initial_checkpoint:
        _load_weights(model, args.initial_checkpoint)
    model = _convert_model(args, model)
    model.to(device=device, dtype=_dtype(args))
    if args.channels_last:
        model.to(memory_format=torch.channels_last)
    if utils.is_primary(args):
        count = sum(parameter.numel() for parameter in model.parameters())
        _logger.info(f'Model {safe_model_name(args.model)} created, param count: {count}')
    return model


def _convert_model(args: argparse.Namespace, model: Any) -> Any:
    """What the options change in a model that has its weights."""
    try:
        if args.head_init_scale is not None:
            with torch.no_grad():
                model.get_classifier().weight.mul_(args.head_init_scale)
                model.get_classifier().bias.mul_(args.head_init_scale)
        if args.head_init_bias is not None:
            nn.init.constant_(model.get_classifier().bias, args.head_init_bias)
    except AttributeError as error:
        option = '--head-init-scale' if args.head_init_scale is not None else '--head-init-bias'
        raise WrongArguments(f'{option}: the model {args.model} has no head with one weight and one bias') from error
    if args.grad_checkpointing:
        try:
            model.set_grad_checkpointing(enable=True)
        except Exception as error:  # assertions and AttributeErrors, by model
            raise WrongArguments(f'--grad-checkpointing: the model {args.model} cannot do it') from error
    if args.split_bn:
        model = convert_splitbn_model(model, max(args.aug_splits, 2))
    if args.distributed and args.sync_bn:
        args.dist_bn = ''  # nothing is left to share after the epoch
        model = convert_sync_batchnorm(model)
    return model


def _load_weights(model: nn.Module, path: str) -> None:
    """Loads --initial-checkpoint (the moving average, where it holds one) without running code from it."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            load_checkpoint(model, path, weights_only=True)
    except Exception as error:
        raise RunError(f'cannot use --initial-checkpoint {path}: {_one_line(error)[:300]}') from error


def check_images_fit(
    args: argparse.Namespace, model: nn.Module, size: tuple[int, int, int], device: torch.device
) -> None:
    """Puts one black image through the model, so that a size it cannot take is named before any training.

    Args:
        args: the run's arguments.
        model: the model; neither its weights nor its statistics change, and no random number is drawn.
        size: channels, height and width.
        device: of the model.

    Raises:
        WrongArguments: the model cannot take such images, not one at a time, or gives no score for each class.
    """
    image = torch.zeros(1, *size, device=device, dtype=_dtype(args))
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            scores = model.eval()(image)
            if args.batch_size == 1:
                copy.deepcopy(model).train()(image)
    except Exception as error:
        option = f'--model {args.model}: cannot take images of {"×".join(map(str, size))}'
        if model.training or 'more than 1 value' in str(error):
            option = f'--batch-size {args.batch_size}: the model {args.model} cannot train on so few images at once'
        raise WrongArguments(f'{option}: {_one_line(error)}') from error
    shape = tuple((scores[0] if isinstance(scores, (tuple, list)) else scores).shape)
    if shape != (1, args.num_classes):
        raise WrongArguments(
            f'--model {args.model}: gives {shape} for an image with these arguments, not {args.num_classes} scores'
        )


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
        collate_fn = mixing.mixer(FastCollateMixup, args.num_classes)
    elif mixing.active:
        mixup_fn = mixing.mixer(Mixup, args.num_classes)
    if utils.is_primary(args):
        if mixing.replaced:
            _logger.info(mixing.replaced)
        _logger.info(f'Mixing: {collate_fn or mixup_fn or "none"}')
    return mixup_fn, collate_fn


def build_loss(args: argparse.Namespace, mixed: bool) -> nn.Module:
    """The training loss. A mixer's targets are smoothed already, and soft."""
    if args.jsd_loss:
        return JsdCrossEntropy(num_splits=args.aug_splits, smoothing=args.smoothing)
    if args.bce_loss:
        return BinaryCrossEntropy(
            smoothing=0.0 if mixed else args.smoothing,
            target_threshold=args.bce_target_thresh,
            sum_classes=args.bce_sum,
            pos_weight=args.bce_pos_weight,
        )
    if mixed:
        return SoftTargetCrossEntropy()
    return LabelSmoothingCrossEntropy(smoothing=args.smoothing) if args.smoothing else nn.CrossEntropyLoss()


def build_optimizer(args: argparse.Namespace, model: nn.Module) -> torch.optim.Optimizer:
    """The optimizer; `args.lr` is set where it was left to --lr-base."""
    if not args.lr:
        args.lr = _scaled_learning_rate(args)
    try:
        return create_optimizer_v2(model, **optimizer_kwargs(cfg=args), **args.opt_kwargs)
    except Exception as error:  # layer decay, for one, needs a model that can group its parameters
        raise WrongArguments(f'--opt {args.opt}: does not work with {args.model}: {_one_line(error)}') from error


def _scaled_learning_rate(args: argparse.Namespace) -> float:
    """--lr-base for the global batch, scaled as timm does: by the square root for optimizers of the Adam kind."""
    global_batch = args.batch_size * args.world_size * args.grad_accum_steps
    adaptive = any(name in args.opt.lower() for name in ('ada', 'lamb'))
    scale = args.lr_base_scale or ('sqrt' if adaptive else 'linear')
    ratio = global_batch / args.lr_base_size
    lr = args.lr_base * (ratio**0.5 if scale == 'sqrt' else ratio)
    if utils.is_primary(args):
        _logger.info(f'Learning rate {lr:g}: --lr-base {args.lr_base:g}, global batch {global_batch}, {scale} scaling.')
    return lr


def build_schedule(
    args: argparse.Namespace, optimizer: torch.optim.Optimizer, updates_per_epoch: int, eval_metric: str
) -> tuple[Any, int]:
    """timm's schedule (None for --sched none), and the number of epochs that it makes of --epochs."""
    return create_scheduler_v2(
        optimizer,
        **scheduler_kwargs(args, decreasing_metric=eval_metric == 'loss'),
        updates_per_epoch=updates_per_epoch,
    )


def build_average(args: argparse.Namespace, model: nn.Module) -> utils.ModelEmaV3 | None:
    """The moving average of the weights, where one is asked for."""
    if not args.model_ema:
        return None
    device = 'cpu' if args.model_ema_force_cpu else None
    return utils.ModelEmaV3(model, decay=args.model_ema_decay, use_warmup=args.model_ema_warmup, device=device)


def build_precision(
    args: argparse.Namespace, device: torch.device
) -> tuple[Callable[[], AbstractContextManager], utils.NativeScaler | None]:
    """The context of a forward pass, and the loss scaler where float16 gradients need one."""
    if not args.amp:
        return nullcontext, None
    autocast = partial(torch.autocast, device_type=device.type, dtype=getattr(torch, args.amp_dtype))
    scaled = device.type == 'cuda' and args.amp_dtype == 'float16'
    return autocast, utils.NativeScaler(device=device.type) if scaled else None


def compile_model(args: argparse.Namespace, model: Any) -> Any:
    """The model as --torchcompile asks; as it is without it."""
    if not args.torchcompile or model is None:
        return model
    return torch.compile(model, backend=args.torchcompile, mode=args.torchcompile_mode)


def _dtype(args: argparse.Namespace) -> torch.dtype | None:
    return getattr(torch, args.model_dtype) if args.model_dtype else None


def _one_line(error: Exception) -> str:
    return ' '.join(str(error).split()) or type(error).__name__
