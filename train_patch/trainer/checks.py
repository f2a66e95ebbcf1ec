"""What only timm and torch can tell about the arguments, asked before anything of the run is built."""

import argparse
import difflib
import importlib.util
import math

import torch
from PIL import ImageMode
from timm import utils
from timm.models import is_model, list_models
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from torch import nn

from ..data import cifar_networks as models  # noqa: F401  # registers the CIFAR networks with timm
from .arguments import WrongArguments
from .augmentation import check_augmentation


def check_arguments(args: argparse.Namespace) -> None:
    """Asks torch and timm about names and values that differ from version to version and machine to machine.

    Raises:
        WrongArguments: one of them cannot work; the message names the option.
    """
    if args.device is not None:
        _check_device(args.device)
    if args.aug_repeats and not utils.is_distributed_env():
        raise WrongArguments(f'--aug-repeats {args.aug_repeats:g} works on several processes only: start with torchrun')
    if args.log_wandb and importlib.util.find_spec('wandb') is None:
        raise WrongArguments('--log-wandb: the package wandb is not installed')
    if ':' not in args.model and not is_model(args.model):
        nearest = difflib.get_close_matches(args.model, list_models(), n=1)
        hint = f'; the nearest is {nearest[0]}' if nearest else ''
        raise WrongArguments(f'--model {args.model}: no such model in timm{hint}')
    if args.torchcompile:
        try:
            torch.compile(nn.Identity(), backend=args.torchcompile, mode=args.torchcompile_mode)
        except Exception as error:  # an unknown backend or mode
            raise WrongArguments(f'--torchcompile {args.torchcompile}: {" ".join(str(error).split())}') from error
    _check_channels(args)
    try:
        check_augmentation(args)
    except ValueError as error:
        raise WrongArguments(str(error)) from error
    _check_schedule(args, _check_optimizer(args))


def image_channels(args: argparse.Namespace) -> int:
    """Channels of the images that the model gets."""
    return args.input_size[0] if args.input_size else args.in_chans or 3


def image_mode(args: argparse.Namespace) -> str:
    """PIL mode that the images are read in."""
    return args.input_img_mode or ('RGB' if image_channels(args) == 3 else 'L')


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise WrongArguments(f'--device {name}: torch knows no such device') from error
    if device.type != 'cuda':
        try:
            torch.zeros(1, device=device).item()
        except Exception as error:  # each backend has its own
            raise WrongArguments(f'--device {name}: cannot be used here: {" ".join(str(error).split())}') from error
    elif not torch.cuda.is_available():
        raise WrongArguments(f'--device {name}: CUDA is not available here; without --device the run uses the CPU')
    elif (device.index or 0) >= torch.cuda.device_count():
        raise WrongArguments(f'--device {name}: there are {torch.cuda.device_count()} CUDA devices, counted from 0')


def _check_channels(args: argparse.Namespace) -> None:
    mode, channels = image_mode(args), image_channels(args)
    try:
        described = ImageMode.getmode(mode)
    except KeyError as error:
        raise WrongArguments(f'--input-img-mode {mode}: PIL knows no such mode') from error
    if described.typestr != '|u1' or mode in ('P', 'PA'):
        raise WrongArguments(f"--input-img-mode {mode}: timm's loader takes channels of 8 bits: L, RGB, RGBA, CMYK, …")
    if args.input_size and args.in_chans not in (None, channels):
        raise WrongArguments(f'--in-chans {args.in_chans}: --input-size has {channels} channels')
    found = len(described.bands)
    if found != channels:
        option = '--input-size' if args.input_size else '--in-chans'
        raise WrongArguments(
            f'{option}: {channels} channels, but images of PIL mode {mode} have {found}; --input-img-mode says the mode'
        )


def _check_optimizer(args: argparse.Namespace) -> torch.optim.Optimizer:
    """An optimizer of the run's kind, for one weight."""
    kwargs = {**optimizer_kwargs(cfg=args), 'lr': args.lr or 0.1, 'layer_decay': None}
    try:
        return create_optimizer_v2([nn.Parameter(torch.zeros(1))], **kwargs, **args.opt_kwargs)
    except Exception as error:  # an unknown name, a wrong value, or a package that an optimizer needs
        raise WrongArguments(f'--opt {args.opt}: {type(error).__name__}: {error}') from error


def _check_schedule(args: argparse.Namespace, optimizer: torch.optim.Optimizer) -> None:
    """Goes through a schedule of the run's kind once."""
    step = 'cannot be built'
    try:
        schedule, num_epochs = create_scheduler_v2(optimizer, **scheduler_kwargs(args), updates_per_epoch=1)
        for epoch in range(min(num_epochs, 1000) if schedule is not None else 0):
            step = f'cannot go to epoch {epoch}'
            schedule.step(epoch, 0.0)
            schedule.step_update(epoch, 0.0)
            rate = optimizer.param_groups[0]['lr']
            if not math.isfinite(rate) or rate < 0:
                raise ValueError(f'the learning rate would be {rate}')
    except Exception as error:  # half a dozen types, by schedule
        raise WrongArguments(f'--sched {args.sched}: {step}: {type(error).__name__}: {error}') from error
    if schedule is None and args.sched != 'none':
        raise WrongArguments(f'--sched {args.sched}: this version of timm has no such schedule')
    if args.start_epoch and args.start_epoch >= num_epochs:
        raise WrongArguments(f'--start-epoch {args.start_epoch}: the schedule has {num_epochs} epochs, counted from 0')
