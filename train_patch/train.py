"""A lean training script on timm's library: timm's arguments and recipes in, timm's files out.

One process (CPU, or the one GPU there is):
    hmix-train --data-dir DIR --model resnet50 --num-classes 10 --mix-mode hmix --output runs --experiment first
Eight GPUs of one machine (gloo on the CPU with --device cpu):
    torchrun --nproc_per_node 8 -m train_patch.train --data-dir DIR --model resnet50 --amp --mix-mode hmix
A recipe, which the command line beats:
    hmix-train -c recipe.yaml --epochs 90
On with a run that was killed (a fresh folder starts from the beginning):
    hmix-train -c recipe.yaml --output runs --experiment first --resume auto

DIR holds train/ and validation/ with one folder of images per class. OUTPUT/EXPERIMENT receives
    args.yaml       the arguments; `-c args.yaml` repeats the run
    summary.csv     epoch, train_loss, eval_loss, eval_top1, eval_top5, lr: the same for the same seed on the CPU
    times.csv       epoch, train_time, eval_time in seconds, which never repeat
    last.pth.tar, model_best.pth.tar, checkpoint-N.pth.tar, recovery-N-BATCH.pth.tar: timm's checkpoints

Draws depend on seed, rank, worker and epoch alone, so on the CPU a run that was killed and taken up gives the table of
one that was not. Exceptions: iterable data sets (wds, hfids, tfds), --use-multi-epochs-loader, and an epoch taken up
from a recovery checkpoint, which goes on with newly drawn batches.

What timm's own train.py can do beyond this is refused by name (REFUSED below).
"""

import argparse
import difflib
import importlib
import importlib.util
import itertools
import json
import logging
import math
import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import timm
import torch
import torch.distributed as dist
import yaml
from timm import utils
from timm.data import AugMixDataset, create_dataset, create_loader, create_transform, resolve_data_config
from timm.layers import convert_splitbn_model, convert_sync_batchnorm, set_fast_norm
from timm.loss import BinaryCrossEntropy, JsdCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from timm.models import create_model, is_model, list_models, load_checkpoint, model_parameters, safe_model_name
from timm.optim import create_optimizer_v2, optimizer_kwargs
from timm.scheduler import create_scheduler_v2, scheduler_kwargs
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import IterableDataset

from hmix_timm import FastCollateMixup, Mixup
from hmix_timm.errors import RunError
from hmix_timm.files import write_atomically

from . import models  # noqa: F401  # registers the CIFAR networks with timm
from .crop import add_crop_argument, padded_crop_loader
from .mixing import add_mix_arguments, mixer_arguments_from, mixing_active
from .trainer.checkpoints import find_checkpoint, holds_run, position, read_checkpoint
from .trainer.data import EpochSeeded, check_classes, check_data_folder, check_num_classes, draw_seed, strict
from .trainer.saver import Saver
from .trainer.tables import Table, read_table, write_table

_logger = logging.getLogger('train')

# A process that waits this long for another one gives up: enough for the slowest first batch, short of a lost night.
DIST_TIMEOUT = timedelta(minutes=10)


# ---------------------------------------------------------------------------------------------------------------------
# Arguments: timm's names and defaults. A recipe's values pass the same types and choices as the command line's.
# ---------------------------------------------------------------------------------------------------------------------


def _number(kind: type, low: float = -math.inf, high: float = math.inf) -> Callable[[str], Any]:
    """An argparse type: a finite number within limits."""

    def parse(text: str) -> Any:
        value = kind(text)
        if not low <= value <= high or math.isinf(value):
            limits = 'finite' if low == -math.inf else f'{low} or more' if high == math.inf else f'from {low} to {high}'
            raise argparse.ArgumentTypeError(f'{text}: must be {limits}')
        return value

    parse.__name__ = kind.__name__  # argparse names it where `kind` itself refuses the text
    return parse


_count, _natural, _real = _number(int, 1), _number(int, 0), _number(float)
_positive, _part = _number(float, 0), _number(float, 0, 1)

config_parser = argparse.ArgumentParser(add_help=False)
config_parser.add_argument('-c', '--config', default='', metavar='FILE', help='YAML recipe; the command line beats it')

parser = argparse.ArgumentParser(description="Train a timm model with timm's arguments.", parents=[config_parser])

_group = parser.add_argument_group('data')
parser.add_argument('data', nargs='?', metavar='DIR', help='the same as --data-dir')
_add = _group.add_argument
_add('--data-dir', metavar='DIR', help='root of the data set')
_add('--dataset', default='', metavar='TYPE/NAME', help='torch/…, hfds/…, wds/…; an image folder if left out')
_add('--train-split', default='train', metavar='NAME', help='training split')
_add('--val-split', default='validation', metavar='NAME', help='validation split; "" trains without validation')
_add('--train-num-samples', type=_count, metavar='N', help='training samples of an iterable data set')
_add('--val-num-samples', type=_count, metavar='N', help='validation samples of an iterable data set')
_add('--dataset-download', action='store_true', help='let torch/… and hfds/… data sets download themselves')
_add('--class-map', default='', metavar='FILE', help='text file with one class name per line, in the order of indices')
_add('--input-img-mode', metavar='MODE', help='PIL mode of the images (default: RGB, or L for one channel)')
_add('--input-key', help="the data set's key of the images")
_add('--target-key', help="the data set's key of the labels")

_add = parser.add_argument_group('model').add_argument
_add('--model', default='resnet50', metavar='NAME', help='a model of timm')
_add('--pretrained', action='store_true', help="start from timm's published weights")
_add('--pretrained-path', metavar='FILE', help='start from these as if they were the published weights')
_add('--initial-checkpoint', default='', metavar='FILE', help='load these weights into the new model')
_add('--resume', default='', metavar='FILE', help='go on from a checkpoint; "auto": the last good one there is')
_add('--no-resume-opt', action='store_true', help='resume the weights, but neither optimizer nor scaler nor schedule')
_add('--num-classes', type=_count, metavar='N', help="number of classes (default: the model's)")
_add('--gp', metavar='POOL', help='global pooling: fast, avg, max, avgmax, avgmaxc')
_add('--img-size', type=_count, metavar='N', help='image side')
_add('--in-chans', type=_count, metavar='N', help='image channels')
_add('--input-size', nargs=3, type=_count, metavar='N', help='channels height width')
_add('--crop-pct', type=_number(float, 0), metavar='PCT', help='centre crop of the validation images')
_add('--mean', type=_real, nargs='+', help='mean of the pixels, 0 to 1')
_add('--std', type=_real, nargs='+', help='standard deviation of the pixels, 0 to 1')
_add('--interpolation', default='', metavar='NAME', help='resize interpolation')
_add('-b', '--batch-size', type=_count, default=128, metavar='N', help='training batch of each process')
_add('-vb', '--validation-batch-size', type=_count, metavar='N', help='validation batch of each process')
_add('--channels-last', action='store_true', help='channels last memory format')
_add('--grad-accum-steps', type=_count, default=1, metavar='N', help='batches per update')
_add('--grad-checkpointing', action='store_true', help='compute activations twice to save memory')
_add('--fast-norm', action='store_true', help="timm's fast norm layers")
_add('--model-kwargs', nargs='*', default={}, action=utils.ParseKwargs, metavar='KEY=VALUE', help='for the model')
_add('--head-init-scale', type=_real, help='scale of the new head')
_add('--head-init-bias', type=_real, help='bias of the new head')
_add('--torchcompile', nargs='?', const='inductor', metavar='BACKEND', help='torch.compile the model')
_add('--torchcompile-mode', metavar='MODE', help='mode of torch.compile')

_add = parser.add_argument_group('device').add_argument
_add('--device', help='cpu, cuda, … (default: cuda where there is one, else cpu)')
_add('--amp', action='store_true', help='automatic mixed precision')
_add('--amp-dtype', default='float16', choices=('float16', 'bfloat16'), help='lower precision of --amp')
_add('--model-dtype', choices=('float32', 'float16', 'bfloat16'), help='precision of the weights, without --amp')
_add('--no-ddp-bb', action='store_true', help='do not broadcast buffers at each step')
_add('--synchronize-step', action='store_true', help='wait for the GPU after each step')
_add('--local_rank', '--local-rank', type=int, default=0, help='set by old launchers; the environment is what counts')

_add = parser.add_argument_group('optimizer').add_argument
_add('--opt', default='sgd', metavar='NAME', help='an optimizer of timm')
_add('--opt-eps', type=_real, metavar='EPS', help='epsilon')
_add('--opt-betas', type=_real, nargs='+', metavar='BETA', help='betas')
_add('--momentum', type=_real, default=0.9, metavar='M', help='momentum')
_add('--weight-decay', type=_real, default=2e-5, help='weight decay')
_add('--clip-grad', type=_positive, metavar='VALUE', help='clip gradients')
_add('--clip-mode', default='norm', choices=('norm', 'value', 'agc'), help='how')
_add('--layer-decay', type=_real, help='learning rate decay from layer to layer')
_add('--layer-decay-min-scale', type=_real, default=0, help='its lowest scale')
_add('--layer-decay-no-opt-scale', type=_real, help='layers below this scale are not trained')
_add('--opt-kwargs', nargs='*', default={}, action=utils.ParseKwargs, metavar='KEY=VALUE', help='for the optimizer')

_add = parser.add_argument_group('learning rate schedule').add_argument
_add('--sched', default='cosine', metavar='NAME', help='a schedule of timm: cosine, step, multistep, plateau, …')
_add('--sched-on-updates', action='store_true', help='step at each update, not each epoch')
_add('--lr', type=_real, help='learning rate (default: from --lr-base)')
_add('--lr-base', type=_real, default=0.1, metavar='LR', help='learning rate at --lr-base-size')
_add('--lr-base-size', type=_count, default=256, metavar='N', help='global batch that --lr-base is for')
_add('--lr-base-scale', default='', choices=('', 'linear', 'sqrt'), help='how it scales (default: by the optimizer)')
_add('--lr-noise', type=_real, nargs='+', metavar='PCT', help='part of the schedule with a noisy learning rate')
_add('--lr-noise-pct', type=_real, default=0.67, metavar='PCT', help='limit of the noise')
_add('--lr-noise-std', type=_real, default=1.0, metavar='STD', help='spread of the noise')
_add('--lr-cycle-mul', type=_real, default=1.0, metavar='X', help='growth of the cycles')
_add('--lr-cycle-decay', type=_real, default=0.5, metavar='X', help='decay from cycle to cycle')
_add('--lr-cycle-limit', type=_natural, default=1, metavar='N', help='number of cycles')
_add('--lr-k-decay', type=_real, default=1.0, metavar='K', help='k-decay of cosine and poly')
_add('--warmup-lr', type=_real, default=1e-5, metavar='LR', help='where the warm-up starts')
_add('--min-lr', type=_real, default=0, metavar='LR', help='lowest learning rate')
_add('--epochs', type=_count, default=300, metavar='N', help='epochs of the schedule')
_add('--epoch-repeats', type=_real, default=0.0, metavar='X', help='passes over an iterable data set per epoch')
_add('--start-epoch', type=_natural, metavar='N', help='first epoch, whatever a checkpoint says')
_add('--decay-milestones', default=[90, 180, 270], type=_natural, nargs='+', metavar='N', help='epochs of multistep')
_add('--decay-epochs', type=_real, default=90, metavar='N', help='epochs between two steps')
_add('--warmup-epochs', type=_natural, default=5, metavar='N', help='epochs of warm-up')
_add('--warmup-prefix', action='store_true', help='the warm-up comes before the schedule')
_add('--cooldown-epochs', type=_natural, default=0, metavar='N', help='epochs at --min-lr after the schedule')
_add('--patience-epochs', type=_natural, default=10, metavar='N', help='epochs that plateau waits')
_add('--decay-rate', '--dr', type=_real, default=0.1, metavar='X', help='factor of a step')

_add = parser.add_argument_group('augmentation and regularization').add_argument
_add('--no-aug', action='store_true', help='no training augmentation at all')
_add('--train-crop-mode', metavar='MODE', help='rrc, rkrc or rkrr')
_add('--scale', type=_real, nargs=2, default=[0.08, 1.0], metavar='X', help='area of the random crop')
_add('--ratio', type=_real, nargs=2, default=[3 / 4, 4 / 3], metavar='X', help='aspect ratio of the random crop')
_add('--hflip', type=_part, default=0.5, metavar='P', help='probability of a horizontal flip')
_add('--vflip', type=_part, default=0.0, metavar='P', help='probability of a vertical flip')
_add('--color-jitter', type=_real, default=0.4, metavar='X', help='strength of the colour jitter')
_add('--color-jitter-prob', type=_part, metavar='P', help='its probability')
_add('--grayscale-prob', type=_part, metavar='P', help='probability of grey images')
_add('--gaussian-blur-prob', type=_part, metavar='P', help='probability of a blur')
_add('--aa', metavar='POLICY', help='AutoAugment, RandAugment, AugMix …: rand-m9-mstd0.5, original, …')
_add('--aug-repeats', type=_positive, default=0, metavar='N', help='repeated augmentation, in many processes')
_add('--aug-splits', type=_natural, default=0, metavar='N', help='augmentation splits: 0, or 2 and more')
_add('--jsd-loss', action='store_true', help='Jensen-Shannon loss over the splits')
_add('--bce-loss', action='store_true', help='binary cross entropy')
_add('--bce-sum', action='store_true', help='summed over the classes')
_add('--bce-target-thresh', type=_real, metavar='X', help='its threshold for soft targets')
_add('--bce-pos-weight', type=_real, metavar='X', help='its weight of positives')
_add('--reprob', type=_part, default=0.0, metavar='P', help='probability of random erasing')
_add('--remode', default='pixel', choices=('const', 'rand', 'pixel'), help='what it puts in place')
_add('--recount', type=_count, default=1, metavar='N', help='how many boxes')
_add('--resplit', action='store_true', help='leave the first split clean')
_add('--mixup', type=float, default=0.0, metavar='ALPHA', help='Mixup, if above 0')
_add('--cutmix', type=float, default=0.0, metavar='ALPHA', help='CutMix, if above 0')
_add('--cutmix-minmax', type=float, nargs='+', metavar='X', help='smallest and largest CutMix box')
_add('--mixup-prob', type=float, default=1.0, metavar='P', help='probability of any mixing')
_add('--mixup-switch-prob', type=float, default=0.5, metavar='P', help='probability of CutMix where both are on')
_add('--mixup-mode', default='batch', metavar='MODE', help='batch, pair, elem or half')
_add('--mixup-off-epoch', type=_natural, default=0, metavar='N', help='no mixing from this epoch on; 0: never off')
_add('--smoothing', type=_part, default=0.1, metavar='X', help='label smoothing')
_add('--train-interpolation', default='random', metavar='NAME', help='resize interpolation in training')
_add('--drop', type=_part, default=0.0, metavar='P', help='dropout')
_add('--drop-path', type=_part, metavar='P', help='stochastic depth')
_add('--drop-block', type=_part, metavar='P', help='drop block')

_add = parser.add_argument_group('batch norm').add_argument
_add('--bn-momentum', type=_real, metavar='M', help='momentum')
_add('--bn-eps', type=_real, metavar='EPS', help='epsilon')
_add('--sync-bn', action='store_true', help='statistics over all processes')
_add('--dist-bn', default='reduce', choices=('', 'reduce', 'broadcast'), help='share the statistics after each epoch')
_add('--split-bn', action='store_true', help='separate statistics for each augmentation split')

_add = parser.add_argument_group('moving average of the weights').add_argument
_add('--model-ema', action='store_true', help='keep one, and validate it')
_add('--model-ema-force-cpu', action='store_true', help='keep it on the CPU, without validating it')
_add('--model-ema-decay', type=_part, default=0.9998, metavar='X', help='its decay')
_add('--model-ema-warmup', action='store_true', help='let the decay grow at first')

_add = parser.add_argument_group('run').add_argument
_add('--seed', type=_natural, default=42, metavar='S', help='random seed')
_add('--worker-seeding', default='all', choices=('all', 'part'), help='how timm seeds the workers at first')
_add('--log-interval', type=_count, default=50, metavar='N', help='updates between two log lines')
_add('--val-interval', type=_count, default=1, metavar='N', help='epochs between two validations and checkpoints')
_add('--recovery-interval', type=_natural, default=0, metavar='N', help='updates between two recovery checkpoints')
_add('--checkpoint-hist', type=_count, default=10, metavar='N', help='best checkpoints to keep')
_add('-j', '--workers', type=_natural, default=4, metavar='N', help='loader workers of each process')
_add('--pin-mem', action='store_true', help='pinned memory in the loader')
_add('--no-prefetcher', action='store_true', help="do without timm's prefetcher")
_add('--output', default='', metavar='DIR', help='folder of all runs (default: ./output/train)')
_add('--experiment', default='', metavar='NAME', help="the run's folder in it (default: time, model and image size)")
_add('--eval-metric', default='top1', choices=('top1', 'top5', 'loss'), help='what makes a checkpoint the best')
_add('--use-multi-epochs-loader', action='store_true', help="timm's loader that starts the next epoch early")
_add('--log-wandb', action='store_true', help='log to Weights & Biases')
_add('--wandb-project', metavar='NAME', help='its project')
_add('--wandb-tags', default=[], nargs='+', metavar='TAG', help='its tags')
_add('--wandb-resume-id', default='', metavar='ID', help='the run to go on with there')

# timm's options that this script does not take, with timm's defaults: a recipe may carry them as long as it leaves them
# alone (timm writes all its arguments into args.yaml).
REFUSED: dict[str, Any] = {
    '--amp-impl': 'native',
    '--dataset-trust-remote-code': False,
    '--device-modules': None,
    '--distill-loss-weight': None,
    '--drop-connect': None,
    '--fuser': '',
    '--kd-distill-type': 'logit',
    '--kd-loss-type': 'kl',
    '--kd-model-name': None,
    '--kd-student-feature-dim': None,
    '--kd-teacher-feature-dim': None,
    '--kd-temperature': 4.0,
    '--kd-token-distill-type': 'soft',
    '--naflex-loader': False,
    '--naflex-loss-scale': 'linear',
    '--naflex-max-seq-len': 576,
    '--naflex-patch-size-probs': None,
    '--naflex-patch-sizes': None,
    '--naflex-patchify-channels-first': False,
    '--naflex-train-seq-lens': [128, 256, 576, 784, 1024],
    '--save-images': False,
    '--task-loss-weight': None,
    '--torchscript': False,
    '--train-batch-sizes': None,
    '--train-batches-per-epoch': None,
    '--train-img-sizes': None,
    '--train-size-probs': None,
    '--train-size-random-mix': 0.1,
    '--train-size-schedule': 'constant',
    '--train-size-schedule-spread': 0.65,
    '--train-steps-per-epoch': None,
    '--tta': 0,
    '--variable-batch-loss-scale': 'none',
}


def _refuse(option: str) -> None:
    if option == '--drop-connect':
        parser.error('--drop-connect is not taken: --drop-path is its name now')
    parser.error(f"{option} is not taken by this script; timm's own has it: hmix-train path/to/timm/train.py …")


class _Refuse(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        _refuse(self.option_strings[0])


for _option in REFUSED:
    parser.add_argument(_option, action=_Refuse, nargs='*', default=argparse.SUPPRESS, help=argparse.SUPPRESS)

add_mix_arguments(parser)
add_crop_argument(parser)


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Recipe and command line → checked arguments; anything wrong ends the process with status 2."""
    config = config_parser.parse_known_args(argv)[0].config
    if config:
        parser.set_defaults(**_read_recipe(config))
    args = parser.parse_args(argv)
    del args.config
    _check_arguments(args)
    return args


def _read_recipe(path: str) -> dict[str, Any]:
    try:
        with open(path) as file:
            recipe = yaml.safe_load(file) or {}
    except (OSError, UnicodeDecodeError) as error:
        parser.error(f'--config {path}: {error}')
    except yaml.YAMLError as error:
        parser.error(f'--config {path} cannot be read as plain YAML: {" ".join(str(error).split())}')
    if not isinstance(recipe, dict):
        parser.error(f'--config {path}: a recipe is a list of "key: value" lines')
    refused = {option[2:].replace('-', '_'): option for option in REFUSED}
    actions = {action.dest: action for action in parser._actions if action.dest not in (*refused, 'help', 'config')}
    values = {}
    for key, value in recipe.items():
        if key in actions:
            try:
                values[key] = _recipe_value(actions[key], value)
            except (TypeError, ValueError, argparse.ArgumentTypeError) as error:
                parser.error(f'--config {path}: {key}: {value!r}: {error}')
        elif key not in refused:
            nearest = difflib.get_close_matches(str(key).replace('-', '_'), actions, n=1, cutoff=0)
            parser.error(f'--config {path}: unknown key {key!r}; the nearest known one is {nearest[0]!r}')
        elif value != REFUSED[refused[key]]:
            _refuse(refused[key])
    return values


def _recipe_value(action: argparse.Action, value: Any) -> Any:
    """A recipe's value for one option, held to what the command line takes for it."""
    if value is None and action.default is None:
        return None
    if isinstance(action.const, bool):  # store_true
        if not isinstance(value, bool):
            raise TypeError('must be true or false')
        return value
    if isinstance(action, utils.ParseKwargs):
        if not isinstance(value, dict):
            raise TypeError('must be a mapping of keyword arguments')
        return value
    if action.nargs in ('+', '*') or isinstance(action.nargs, int):
        items = value if isinstance(value, list) else [value]
        if isinstance(action.nargs, int) and len(items) != action.nargs:
            raise ValueError(f'must be a list of {action.nargs}')
        return [_recipe_item(action, item) for item in items]
    return _recipe_item(action, value)


def _recipe_item(action: argparse.Action, item: Any) -> Any:
    if item is None or isinstance(item, (bool, list, dict)):
        raise TypeError('must be a single value, as on the command line')
    item = action.type(str(item)) if callable(action.type) else str(item)
    if action.choices is not None and item not in action.choices:
        raise ValueError(f'must be one of {", ".join(map(repr, action.choices))}')
    return item


def _check_arguments(args: argparse.Namespace) -> None:
    """What one option alone cannot tell. Nothing of the run has been built yet."""
    if args.data and args.data_dir and args.data != args.data_dir:
        parser.error(f'--data-dir {args.data_dir} and the positional {args.data} are two different folders')
    args.data_dir = args.data_dir or args.data
    if args.device is not None:
        try:
            device_type = torch.device(args.device).type
        except RuntimeError:
            parser.error(f'--device {args.device}: torch knows no such device')
        if device_type == 'cuda' and not torch.cuda.is_available():
            parser.error(f'--device {args.device}: CUDA is not available here; without --device the run uses the CPU')
    if args.amp and args.model_dtype not in (None, 'float32'):
        parser.error(f'--model-dtype {args.model_dtype} does not go with --amp, which needs float32 weights')
    if args.aug_splits == 1:
        parser.error('--aug-splits 1: one split makes no sense; 0, or 2 and more')
    if args.jsd_loss and not args.aug_splits:
        parser.error('--jsd-loss needs --aug-splits 2 or more')
    if args.split_bn and not (args.aug_splits or args.resplit):
        parser.error('--split-bn needs --aug-splits 2 or more, or --resplit')
    if args.split_bn and args.sync_bn:
        parser.error('--split-bn and --sync-bn do not go together')
    if args.aug_repeats and not utils.is_distributed_env():
        parser.error(f'--aug-repeats {args.aug_repeats:g} works on several processes only: start with torchrun')
    if args.resume == 'auto' and not args.experiment:
        parser.error('--resume auto needs --experiment, which names the folder to go on with')
    if args.log_wandb and importlib.util.find_spec('wandb') is None:
        parser.error('--log-wandb: the package wandb is not installed')
    if args.wandb_resume_id and not (args.log_wandb and args.resume):
        parser.error('--wandb-resume-id needs --log-wandb and --resume')
    if args.class_map and not args.class_map.endswith('.txt'):
        parser.error(f'--class-map {args.class_map}: a text file (.txt) with one class name per line')
    for name in ('data_dir', 'dataset', 'train_split', 'val_split'):
        if 'pipe:' in (getattr(args, name) or ''):  # webdataset would hand it to a shell
            parser.error(f'--{name.replace("_", "-")} {getattr(args, name)}: shell commands are not taken')
    if ':' not in args.model and not is_model(args.model):
        nearest = difflib.get_close_matches(args.model, list_models(), n=1, cutoff=0)
        parser.error(f'--model {args.model}: no such model in timm; the nearest is {nearest[0]}')

    # Ask timm itself about names that differ from version to version.
    weight = nn.Parameter(torch.zeros(1))
    try:
        create_transform(32, is_training=True, auto_augment=args.aa)
    except Exception as error:  # assertions, KeyErrors and ValueErrors, by policy
        parser.error(f'--aa {args.aa}: timm does not know this policy ({type(error).__name__}: {error})')
    try:
        optimizer = create_optimizer_v2([weight], **{**optimizer_kwargs(cfg=args), 'lr': 0.1, 'layer_decay': None})
    except Exception as error:  # an unknown name, or a package that an optimizer needs
        parser.error(f'--opt {args.opt}: {type(error).__name__}: {error}')
    try:
        schedule, _ = create_scheduler_v2(optimizer, **scheduler_kwargs(args), updates_per_epoch=1)
    except Exception as error:
        parser.error(f'--sched {args.sched}: {type(error).__name__}: {error}')
    if schedule is None and args.sched != 'none':
        parser.error(f'--sched {args.sched}: this version of timm has no such schedule')


# ---------------------------------------------------------------------------------------------------------------------
# The run
# ---------------------------------------------------------------------------------------------------------------------


def main(argv: Sequence[str] | None = None) -> None:
    """Trains as the arguments say.

    Args:
        argv: the arguments; those of the process if left out.

    Raises:
        SystemExit: 1 after one line about what stopped the run, 2 after one about wrong arguments or data.
    """
    utils.setup_default_logging()
    args = parse_arguments(argv)
    # However timm comes to load a file of weights (a hub, a path, an older version): never run code from it.
    os.environ['TORCH_FORCE_WEIGHTS_ONLY_LOAD'] = '1'
    try:
        run(args)
    except RunError as error:
        # from a loader worker the message comes with the worker's traceback before it
        line = str(error).strip().splitlines()[-1].removeprefix(f'{type(error).__module__}.{type(error).__name__}: ')
        _logger.error(line)
        sys.exit(1)


def init_device(args: argparse.Namespace) -> torch.device:
    """Chooses the device, joins the other processes of a torchrun or SLURM launch, gives `args` rank and world size."""
    args.local_rank, args.rank, args.world_size = utils.world_info_from_env()
    args.distributed = utils.is_distributed_env()
    name = args.device or ('cuda' if torch.cuda.is_available() else 'cpu')
    device = torch.device(name)
    if not args.distributed:
        args.local_rank, args.rank, args.world_size = 0, 0, 1
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


def run(args: argparse.Namespace) -> None:
    """Builds everything and trains, from the first line to the last."""
    arguments = dict(vars(args))  # as given; what follows adds what belongs to this process alone
    device = init_device(args)
    primary = utils.is_primary(args)
    if device.type == 'cuda':
        torch.backends.cuda.matmul.allow_tf32 = True
        torch.backends.cudnn.benchmark = True
    if args.distributed and args.sync_bn and device.type == 'cpu':
        parser.error('--sync-bn works on GPUs only; on the CPU --dist-bn shares the statistics after each epoch')
    model_dtype = getattr(torch, args.model_dtype) if args.model_dtype else None
    args.prefetcher = not args.no_prefetcher
    utils.random_seed(args.seed, args.rank)
    if args.fast_norm:
        set_fast_norm()

    # Data first: it is what goes wrong most often, and a large model takes its time.
    in_chans = args.input_size[0] if args.input_size else args.in_chans or 3
    splits = [split for split in (args.train_split, args.val_split) if split]
    dataset_kwargs = dict(
        root=args.data_dir,
        class_map=args.class_map,
        download=args.dataset_download,
        batch_size=args.batch_size,
        input_img_mode=args.input_img_mode or ('RGB' if in_chans == 3 else 'L'),
        input_key=args.input_key,
        target_key=args.target_key,
    )
    try:
        check_data_folder(args.data_dir, args.dataset, splits)
        dataset_train = create_dataset(
            args.dataset,
            split=args.train_split,
            is_training=True,
            seed=args.seed,
            repeats=args.epoch_repeats,
            num_samples=args.train_num_samples,
            **dataset_kwargs,
        )
        dataset_eval = None
        if args.val_split:
            dataset_eval = create_dataset(
                args.dataset,
                split=args.val_split,
                is_training=False,
                num_samples=args.val_num_samples,
                **dataset_kwargs,
            )
        check_classes(dataset_train, dataset_eval, args.class_map)
        if args.num_classes is not None:
            check_num_classes(args.num_classes, dataset_train, args.class_map, given=True)
    except ValueError as error:
        parser.error(str(error))
    except (AssertionError, ImportError, OSError, RuntimeError) as error:  # timm's and torchvision's own complaints
        parser.error(f'--data-dir {args.data_dir} --dataset {args.dataset!r}: {" ".join(str(error).split())}')
    dataset_train, dataset_eval = strict(dataset_train), strict(dataset_eval)

    # Model
    factory_kwargs = {}
    if args.pretrained_path:
        factory_kwargs['pretrained_cfg_overlay'] = dict(file=args.pretrained_path, num_classes=-1)
    for option in ('initial_checkpoint', 'pretrained_path'):
        path = getattr(args, option)
        if path and not os.path.isfile(path):
            parser.error(f'--{option.replace("_", "-")} {path}: there is no such file')
    try:
        model = create_model(
            args.model,
            pretrained=args.pretrained,
            in_chans=in_chans,
            num_classes=args.num_classes,
            drop_rate=args.drop,
            drop_path_rate=args.drop_path,
            drop_block_rate=args.drop_block,
            global_pool=args.gp,
            bn_momentum=args.bn_momentum,
            bn_eps=args.bn_eps,
            **factory_kwargs,
            **args.model_kwargs,
        )
    except Exception as error:  # options that not every model knows, weights that do not fit or cannot be read
        source = f' --pretrained-path {args.pretrained_path}' if args.pretrained_path else ''
        reason = ' '.join(str(error).split())
        parser.error(f'--model {args.model}{source}: cannot be built with these arguments: {reason}')
    if args.num_classes is None:
        args.num_classes = model.num_classes
        try:
            check_num_classes(args.num_classes, dataset_train, args.class_map, given=False)
        except ValueError as error:
            parser.error(str(error))
    if args.initial_checkpoint:
        load_weights(model, args.initial_checkpoint)
    head = model.get_classifier()
    if args.head_init_scale is not None:
        with torch.no_grad():
            head.weight.mul_(args.head_init_scale)
            head.bias.mul_(args.head_init_scale)
    if args.head_init_bias is not None:
        nn.init.constant_(head.bias, args.head_init_bias)
    if args.grad_checkpointing:
        model.set_grad_checkpointing(enable=True)
    if args.split_bn:
        model = convert_splitbn_model(model, max(args.aug_splits, 2))
    model.to(device=device, dtype=model_dtype)
    if args.channels_last:
        model.to(memory_format=torch.channels_last)
    if args.distributed and args.sync_bn:
        args.dist_bn = ''  # nothing is left to share after the epoch
        model = convert_sync_batchnorm(model)
    data_config = resolve_data_config(vars(args), model=model, verbose=primary)
    if primary:
        count = sum(parameter.numel() for parameter in model.parameters())
        _logger.info(f'Model {safe_model_name(args.model)} created, param count: {count}')

    # Loaders
    batches_per_process = len(dataset_train) // (args.batch_size * args.world_size)
    if not isinstance(dataset_train, IterableDataset) and not batches_per_process:
        parser.error(
            f'--batch-size {args.batch_size}: {len(dataset_train)} training images are less than one batch '
            f'for each of {args.world_size} process(es)'
        )
    mixup_fn = collate_fn = None
    if mixing_active(args):
        if args.prefetcher:
            collate_fn = FastCollateMixup(**mixer_arguments_from(args))
        else:
            mixup_fn = Mixup(**mixer_arguments_from(args))
    if primary:
        _logger.info(f'Mixing: {collate_fn or mixup_fn or "none"}')
    if args.aug_splits:
        dataset_train = AugMixDataset(dataset_train, num_splits=args.aug_splits)
    if not isinstance(dataset_train, IterableDataset):
        dataset_train = EpochSeeded(dataset_train, args.seed, args.rank)
    loader_kwargs = dict(
        input_size=data_config['input_size'],
        mean=data_config['mean'],
        std=data_config['std'],
        pin_memory=args.pin_mem,
        img_dtype=model_dtype or torch.float32,
        device=device,
        distributed=args.distributed,
        use_prefetcher=args.prefetcher,
    )
    train_interpolation = '' if args.no_aug else args.train_interpolation
    loader_train = padded_crop_loader(create_loader, args.train_padding)(
        dataset_train,
        batch_size=args.batch_size,
        is_training=True,
        no_aug=args.no_aug,
        re_prob=args.reprob,
        re_mode=args.remode,
        re_count=args.recount,
        re_split=args.resplit,
        train_crop_mode=args.train_crop_mode,
        scale=args.scale,
        ratio=args.ratio,
        hflip=args.hflip,
        vflip=args.vflip,
        color_jitter=args.color_jitter,
        color_jitter_prob=args.color_jitter_prob,
        grayscale_prob=args.grayscale_prob,
        gaussian_blur_prob=args.gaussian_blur_prob,
        auto_augment=args.aa,
        num_aug_repeats=args.aug_repeats,
        num_aug_splits=args.aug_splits,
        interpolation=train_interpolation or data_config['interpolation'],
        num_workers=args.workers,
        persistent_workers=args.workers > 0,  # older timm does not look
        collate_fn=collate_fn,
        use_multi_epochs_loader=args.use_multi_epochs_loader,
        worker_seeding=args.worker_seeding,
        **loader_kwargs,
    )
    if args.aug_repeats and not len(loader_train):  # older timm's repeated augmentation counts images in whole 256s
        parser.error(
            f'--aug-repeats {args.aug_repeats:g}: timm {timm.__version__} selects no batch of the '
            f'{len(dataset_train)} training images; 256 images are enough for it, or a newer timm'
        )
    loader_eval = None
    if dataset_eval is not None:
        iterable = args.dataset.startswith(('tfds/', 'wds/', 'hfids/'))
        loader_eval = create_loader(
            dataset_eval,
            batch_size=args.validation_batch_size or args.batch_size,
            is_training=False,
            interpolation=data_config['interpolation'],
            num_workers=min(2, args.workers) if args.distributed and iterable else args.workers,  # less padding
            persistent_workers=args.workers > 0,
            crop_pct=data_config['crop_pct'],
            **loader_kwargs,
        )
    if args.distributed and device.type == 'cpu' and args.workers:
        # A worker forked while one of gloo's threads holds a lock waits for that lock for ever. A fork server has no
        # such threads; it imports this script once.
        multiprocessing.set_forkserver_preload(['train_patch.train'])
        for timms_loader in (loader_train, loader_eval):
            if timms_loader is not None:
                loader = getattr(timms_loader, 'loader', timms_loader)  # what a prefetcher goes through
                loader.multiprocessing_context = 'forkserver'
                loader.worker_init_fn = partial(_end_with_parent, loader.worker_init_fn)

    # Loss
    train_loss: nn.Module
    if args.jsd_loss:
        train_loss = JsdCrossEntropy(num_splits=args.aug_splits, smoothing=args.smoothing)
    elif args.bce_loss:
        train_loss = BinaryCrossEntropy(
            smoothing=0.0 if mixing_active(args) else args.smoothing,  # a mixer's targets are smoothed already
            target_threshold=args.bce_target_thresh,
            sum_classes=args.bce_sum,
            pos_weight=args.bce_pos_weight,
        )
    elif mixing_active(args):
        train_loss = SoftTargetCrossEntropy()
    elif args.smoothing:
        train_loss = LabelSmoothingCrossEntropy(smoothing=args.smoothing)
    else:
        train_loss = nn.CrossEntropyLoss()
    train_loss = train_loss.to(device)

    # Optimizer, precision, schedule
    if not args.lr:
        args.lr = scaled_learning_rate(args)
    optimizer = create_optimizer_v2(model, **optimizer_kwargs(cfg=args), **args.opt_kwargs)
    autocast: Callable[[], AbstractContextManager] = nullcontext
    loss_scaler = None
    if args.amp:
        autocast = partial(torch.autocast, device_type=device.type, dtype=getattr(torch, args.amp_dtype))
        if device.type == 'cuda' and args.amp_dtype == 'float16':
            loss_scaler = utils.NativeScaler(device=device.type)
    eval_metric = args.eval_metric if loader_eval is not None else 'loss'
    updates_per_epoch = math.ceil(len(loader_train) / args.grad_accum_steps)
    scheduler, num_epochs = create_scheduler_v2(
        optimizer,
        **scheduler_kwargs(args, decreasing_metric=eval_metric == 'loss'),
        updates_per_epoch=updates_per_epoch,
    )
    model_ema = None
    if args.model_ema:
        model_ema = utils.ModelEmaV3(
            model,
            decay=args.model_ema_decay,
            use_warmup=args.model_ema_warmup,
            device='cpu' if args.model_ema_force_cpu else None,
        )
    if primary:
        precision = f'{args.amp_dtype} autocast' if args.amp else f'{args.model_dtype or "float32"}'
        _logger.info(f'{type(optimizer).__name__} ({args.opt}), lr {args.lr:g}, {precision}, {num_epochs} epochs.')

    # Output, and what it already holds
    experiment = args.experiment or '-'.join(
        (datetime.now().strftime('%Y%m%d-%H%M%S'), safe_model_name(args.model), str(data_config['input_size'][-1]))
    )
    output_dir = os.path.join(args.output or './output/train', experiment)
    saver = None
    checkpoint_path = find_resume_path(args, output_dir, device)
    if primary:
        other = os.path.abspath(os.path.dirname(checkpoint_path or '')) != os.path.abspath(output_dir)
        if other and args.resume != 'auto' and holds_run(output_dir):
            parser.error(f'--experiment: {output_dir} holds a run already; --resume auto goes on with it')
        try:
            os.makedirs(output_dir, exist_ok=True)
        except OSError as error:
            raise RunError(f'cannot write {output_dir}: {error.strerror}') from error
        text = yaml.safe_dump(arguments, default_flow_style=False)
        write_atomically(os.path.join(output_dir, 'args.yaml'), lambda file: file.write(text.encode()))
        saver = Saver(
            model=model,
            optimizer=optimizer,
            args=arguments,
            model_ema=model_ema,
            amp_scaler=loss_scaler,
            checkpoint_dir=output_dir,
            recovery_dir=output_dir,
            decreasing=eval_metric == 'loss',
            max_history=args.checkpoint_hist,
            scheduler_state=partial(scheduler_state, scheduler),
        )

    # Resume
    start_epoch, start_batch = 0, 0
    rows: dict[int, Any] = {}
    times: dict[int, Any] = {}
    if checkpoint_path:
        checkpoint = read_checkpoint(checkpoint_path)
        start_epoch, start_batch = position(checkpoint)
        try:
            model.load_state_dict(checkpoint['state_dict'])
            if model_ema is not None:
                model_ema.module.load_state_dict(checkpoint.get('state_dict_ema') or checkpoint['state_dict'])
            if not args.no_resume_opt:
                optimizer.load_state_dict(checkpoint['optimizer'])
                load_scheduler_state(scheduler, checkpoint.get('lr_scheduler'))
                if loss_scaler is not None and loss_scaler.state_dict_key in checkpoint:
                    loss_scaler.load_state_dict(checkpoint[loss_scaler.state_dict_key])
        except (KeyError, RuntimeError, ValueError) as error:
            reason = ' '.join(str(error).split())[:300]
            raise RunError(f'the checkpoint {checkpoint_path} does not fit this run: {reason}') from error
        if args.start_epoch is not None:
            start_epoch, start_batch = args.start_epoch, 0
        if saver is not None:
            folder = os.path.dirname(checkpoint_path)
            rows, times = (
                {epoch: row for epoch, row in read_table(os.path.join(folder, name)).items() if epoch < start_epoch}
                for name in ('summary.csv', 'times.csv')
            )
            saver.restore(checkpoint_path, checkpoint)
            _logger.info(f'Resumed from {checkpoint_path} at epoch {start_epoch}, batch {start_batch}.')
        if scheduler is not None and start_epoch > 0:
            # the metric that the schedule would have seen at the end of the epoch before
            scheduler.step(start_epoch, checkpoint.get('metric'))
    elif args.start_epoch:
        start_epoch = args.start_epoch
        if scheduler is not None:
            scheduler.step(start_epoch)
    if saver is not None:  # rows of epochs that are to be trained again must not outlive the next kill
        write_table(os.path.join(output_dir, 'summary.csv'), rows)
        write_table(os.path.join(output_dir, 'times.csv'), times)
    updates_done = start_epoch * updates_per_epoch + start_batch // args.grad_accum_steps
    if scheduler is not None and updates_done:
        scheduler.step_update(updates_done)

    # Compiled and distributed views of the one model; `model` itself stays what is saved and averaged.
    train_model: Any = model
    eval_model, ema_eval_model = model, model_ema
    if args.torchcompile:
        compile_model = partial(torch.compile, backend=args.torchcompile, mode=args.torchcompile_mode)
        train_model = eval_model = compile_model(model)
        ema_eval_model = compile_model(model_ema) if model_ema is not None else None
    if args.distributed:
        train_model = DistributedDataParallel(
            train_model,
            device_ids=None if device.type == 'cpu' else [device],
            broadcast_buffers=not args.no_ddp_bb,
        )

    wandb: Any = None
    if args.log_wandb and primary:
        wandb = importlib.import_module('wandb')
        wandb.init(
            project=args.wandb_project,
            name=experiment,
            config=arguments,
            tags=args.wandb_tags,
            resume='must' if args.wandb_resume_id else None,
            id=args.wandb_resume_id or None,
        )

    epoch = start_epoch
    try:
        for epoch in range(start_epoch, num_epochs):
            first_batch = start_batch if epoch == start_epoch else 0
            start_draws(loader_train, args, epoch + num_epochs * first_batch)
            train_started = time.perf_counter()
            train_metrics = train_one_epoch(
                epoch,
                train_model,
                loader_train,
                optimizer,
                train_loss,
                args,
                model=model,
                device=device,
                model_dtype=model_dtype,
                autocast=autocast,
                loss_scaler=loss_scaler,
                scheduler=scheduler,
                model_ema=model_ema,
                mixup_fn=mixup_fn,
                saver=saver,
                first_batch=first_batch,
            )
            train_time = time.perf_counter() - train_started
            if args.distributed and args.dist_bn:
                utils.distribute_bn(model, args.world_size, args.dist_bn == 'reduce')

            if (epoch + 1) % args.val_interval and epoch + 1 != num_epochs:
                if scheduler is not None:
                    scheduler.step(epoch + 1)
                continue

            eval_started = time.perf_counter()
            metrics = train_metrics
            eval_metrics: dict[str, float] = {}
            if loader_eval is not None:
                check = partial(
                    validate, loader=loader_eval, args=args, device=device, model_dtype=model_dtype, autocast=autocast
                )
                metrics = eval_metrics = check(eval_model)
                if model_ema is not None and not args.model_ema_force_cpu:
                    if args.distributed and args.dist_bn:
                        utils.distribute_bn(model_ema, args.world_size, args.dist_bn == 'reduce')
                    metrics = eval_metrics = check(ema_eval_model, log_suffix=' (EMA)')
            eval_time = time.perf_counter() - eval_started

            if saver is not None:
                row: dict[str, Any] = {'epoch': epoch}
                row.update({f'train_{name}': value for name, value in train_metrics.items()})
                row.update({f'eval_{name}': value for name, value in eval_metrics.items()})
                row['lr'] = learning_rate(optimizer)
                rows[epoch] = row
                times[epoch] = {'epoch': epoch, 'train_time': f'{train_time:.3f}', 'eval_time': f'{eval_time:.3f}'}
                write_table(os.path.join(output_dir, 'times.csv'), times)
                write_table(os.path.join(output_dir, 'summary.csv'), rows)
                saver.save_checkpoint(epoch, metric=metrics[eval_metric])
                if wandb is not None:
                    wandb.log(row)
            if scheduler is not None:
                scheduler.step(epoch + 1, metrics[eval_metric])
    except KeyboardInterrupt:
        _logger.info('Interrupted.')
    except RunError:
        raise
    except Exception as error:
        line = next(iter(str(error).splitlines()), '')
        _logger.error(
            f'Process {args.rank} stopped in epoch {epoch}: {type(error).__name__}: {line}. '
            'What was finished is kept: --resume auto goes on from there.'
        )
        raise

    if args.distributed:
        dist.destroy_process_group()
    if saver is not None:
        if saver.best_metric is not None:
            _logger.info(f'*** Best metric: {saver.best_metric} (epoch {saver.best_epoch})')
        print(f'--result\n{json.dumps(results(rows, eval_metric), indent=4)}')


def load_weights(model: nn.Module, path: str) -> None:
    """Loads --initial-checkpoint (the moving average, where it holds one) without running code from it."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            load_checkpoint(model, path, weights_only=True)
    except Exception as error:
        reason = ' '.join(str(error).split())[:300]
        raise RunError(f'cannot use --initial-checkpoint {path}: {reason}') from error


def scaled_learning_rate(args: argparse.Namespace) -> float:
    """--lr-base for the global batch, scaled as timm does: by the square root for optimizers of the Adam kind."""
    global_batch = args.batch_size * args.world_size * args.grad_accum_steps
    adaptive = any(name in args.opt.lower() for name in ('ada', 'lamb'))
    scale = args.lr_base_scale or ('sqrt' if adaptive else 'linear')
    ratio = global_batch / args.lr_base_size
    lr = args.lr_base * (ratio**0.5 if scale == 'sqrt' else ratio)
    if utils.is_primary(args):
        _logger.info(f'Learning rate {lr:g}: --lr-base {args.lr_base:g}, global batch {global_batch}, {scale} scaling.')
    return lr


def find_resume_path(args: argparse.Namespace, output_dir: str, device: torch.device) -> str | None:
    """The checkpoint to go on from: the first process chooses, so that all take the same."""
    if args.resume != 'auto':
        return args.resume or None
    chosen: list[str | None] = [None]
    if utils.is_primary(args):
        found = find_checkpoint(output_dir)
        chosen = [None if found is None else str(found)]
        if found is None:
            _logger.info(f'--resume auto: no checkpoint in {output_dir}, starting from the beginning.')
    if args.distributed:
        dist.broadcast_object_list(chosen, src=0, device=device)
    return chosen[0]


def scheduler_state(scheduler: Any) -> dict[str, Any] | None:
    """What a schedule must remember: plateau follows the metric, all others follow from the epoch."""
    plateau = getattr(scheduler, 'lr_scheduler', None)
    return None if plateau is None else {'plateau': plateau.state_dict(), 'restore_lr': scheduler.restore_lr}


def load_scheduler_state(scheduler: Any, state: dict[str, Any] | None) -> None:
    """Takes up what `scheduler_state` gave."""
    if state is not None and hasattr(scheduler, 'lr_scheduler'):
        scheduler.lr_scheduler.load_state_dict(state['plateau'])
        scheduler.restore_lr = state['restore_lr']


def start_draws(loader: Any, args: argparse.Namespace, epoch: int) -> None:
    """Makes all draws of an epoch depend on seed, rank and epoch; the first epoch draws as in timm's own script.

    Args:
        loader: of the training data.
        args: for seed and rank.
        epoch: the epoch, or a number of its own for an epoch that starts in the middle.
    """
    if epoch:
        seed = draw_seed(args.seed, epoch)
        utils.random_seed(seed, args.rank)
        # a generator of its own: workers that start (after a resume) draw a number that running ones do not
        getattr(loader, 'loader', loader).generator = torch.Generator().manual_seed(seed)
    for part in (loader.dataset, loader.sampler):
        if hasattr(part, 'set_epoch'):
            part.set_epoch(epoch)


def learning_rate(optimizer: torch.optim.Optimizer) -> float:
    """The mean over the parameter groups."""
    rates = [group['lr'] for group in optimizer.param_groups]
    return sum(rates) / len(rates)


def results(rows: Table, eval_metric: str) -> list[dict[str, Any]]:
    """The ten best epochs in timm's result format, the best one last."""
    parts = {'train_': 'train', 'eval_': 'validation'}
    found: list[dict[str, Any]] = []
    for epoch, row in rows.items():
        result: dict[str, Any] = {'epoch': epoch}
        for column, value in row.items():
            for prefix, part in parts.items():
                if column.startswith(prefix) and value != '':
                    result.setdefault(part, {})[column.removeprefix(prefix)] = float(value)
        found.append(result)
    found.sort(key=lambda r: r.get('validation', r['train']).get(eval_metric, 0), reverse=eval_metric == 'loss')
    return found[-10:]


def _end_with_parent(worker_init_fn: Callable[[int], None] | None, worker_id: int) -> None:
    """Initializes a loader worker, and ends it where the process that it works for is killed.

    torch's workers watch the parent that forked them. That is the fork server here, which lives as long as they do.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    if worker_init_fn is not None:
        worker_init_fn(worker_id)


def train_one_epoch(
    epoch: int,
    train_model: Any,
    loader: Any,
    optimizer: torch.optim.Optimizer,
    loss_fn: nn.Module,
    args: argparse.Namespace,
    *,
    model: nn.Module,
    device: torch.device,
    model_dtype: torch.dtype | None,
    autocast: Callable[[], AbstractContextManager],
    loss_scaler: Any,
    scheduler: Any,
    model_ema: Any,
    mixup_fn: Mixup | None,
    saver: Saver | None,
    first_batch: int = 0,
) -> dict[str, float]:
    """One pass over the training data.

    Args:
        epoch: its number, from 0.
        train_model: what is called: `model`, maybe compiled and distributed.
        loader: of the training data.
        optimizer: of `model`.
        loss_fn: of outputs and targets.
        args: the run's arguments.
        model: what is clipped and averaged.
        device: of the batches.
        model_dtype: of the images, where the prefetcher does not see to it.
        autocast: makes the context of the forward pass.
        loss_scaler: timm's, or None.
        scheduler: timm's, or None.
        model_ema: timm's, or None.
        mixup_fn: the mixer, where the loader's collate does not mix.
        saver: in the first process, for recovery checkpoints.
        first_batch: how many batches of this epoch are done already.

    Returns:
        The mean training loss, as `loss`.
    """
    if args.mixup_off_epoch and epoch >= args.mixup_off_epoch:
        if mixup_fn is not None:
            mixup_fn.mixup_enabled = False
        elif args.prefetcher:
            loader.mixup_enabled = False  # reaches the running workers: the mixer keeps it in shared memory

    num_batches = len(loader)
    updates_per_epoch = math.ceil(num_batches / args.grad_accum_steps)
    last_group = (updates_per_epoch - 1) * args.grad_accum_steps  # the first batch of the last update
    second_order = getattr(optimizer, 'is_second_order', False)
    clipped = partial(model_parameters, model, exclude_head='agc' in args.clip_mode)
    losses, update_times, data_times = utils.AverageMeter(), utils.AverageMeter(), utils.AverageMeter()
    primary = utils.is_primary(args)

    train_model.train()
    optimizer.zero_grad()
    samples = 0
    update_started = data_started = time.perf_counter()
    batches = itertools.islice(loader, num_batches - first_batch) if first_batch else loader
    for batch_idx, (images, target) in enumerate(batches, start=first_batch):
        last_batch = batch_idx == num_batches - 1
        need_update = last_batch or (batch_idx + 1) % args.grad_accum_steps == 0
        update_idx = batch_idx // args.grad_accum_steps
        accum_steps = num_batches - last_group if batch_idx >= last_group else args.grad_accum_steps
        if not args.prefetcher:
            images, target = images.to(device=device, dtype=model_dtype), target.to(device=device)
            if mixup_fn is not None:
                images, target = mixup_fn(images, target)
        if args.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        data_times.update(time.perf_counter() - data_started)

        # gradients travel between the processes once per update
        no_sync = args.distributed and not need_update
        with train_model.no_sync() if no_sync else nullcontext():
            with autocast():
                loss = loss_fn(train_model(images), target) / accum_steps
            if loss_scaler is not None:
                loss_scaler(
                    loss,
                    optimizer,
                    clip_grad=args.clip_grad,
                    clip_mode=args.clip_mode,
                    parameters=clipped(),
                    create_graph=second_order,
                    need_update=need_update,
                )
            else:
                loss.backward(create_graph=second_order)
                if need_update:
                    if args.clip_grad is not None:
                        utils.dispatch_clip_grad(clipped(), value=args.clip_grad, mode=args.clip_mode)
                    optimizer.step()
        losses.update(loss.item() * accum_steps, len(images))
        samples += len(images) * args.world_size
        if not need_update:
            data_started = time.perf_counter()
            continue

        optimizer.zero_grad()
        num_updates = epoch * updates_per_epoch + update_idx + 1
        if model_ema is not None:
            model_ema.update(model, step=num_updates)
        if args.synchronize_step and device.type == 'cuda':
            torch.cuda.synchronize()
        now = time.perf_counter()
        update_times.update(now - update_started)
        update_started = now

        if update_idx % args.log_interval == 0 or last_batch:
            loss_now, loss_mean = losses.val, losses.avg
            if args.distributed:
                shared = utils.reduce_tensor(torch.tensor([loss_now, loss_mean], device=device), args.world_size)
                loss_now, loss_mean = shared.tolist()
            if primary:
                _logger.info(
                    f'Train: {epoch} [{update_idx:>4d}/{updates_per_epoch} '
                    f'({100 * (update_idx + 1) / updates_per_epoch:>3.0f}%)]  '
                    f'Loss: {loss_now:#.3g} ({loss_mean:#.3g})  '
                    f'Time: {update_times.val:.3f}s, {samples / update_times.val:>7.2f}/s '
                    f'({update_times.avg:.3f}s, {samples / update_times.avg:>7.2f}/s)  '
                    f'LR: {learning_rate(optimizer):.3e}  Data: {data_times.val:.3f} ({data_times.avg:.3f})'
                )
        if scheduler is not None:
            scheduler.step_update(num_updates=num_updates, metric=losses.avg)
        recovery_due = args.recovery_interval and (update_idx + 1) % args.recovery_interval == 0
        if saver is not None and recovery_due and not last_batch:  # the end of the epoch is saved as such
            saver.save_recovery(epoch, batch_idx + 1)
        samples = 0
        data_started = time.perf_counter()

    if hasattr(optimizer, 'sync_lookahead'):
        optimizer.sync_lookahead()
    loss_mean = losses.avg
    if args.distributed:
        loss_mean = utils.reduce_tensor(torch.tensor([loss_mean], device=device), args.world_size).item()
    return {'loss': loss_mean}


@torch.inference_mode()
def validate(
    model: Any,
    loader: Any,
    args: argparse.Namespace,
    device: torch.device,
    model_dtype: torch.dtype | None,
    autocast: Callable[[], AbstractContextManager],
    log_suffix: str = '',
) -> dict[str, float]:
    """Loss, top-1 and top-5 accuracy (percent) on the validation data, as `loss`, `top1` and `top5`.

    Args:
        model: the model to validate.
        loader: of the validation data.
        args: the run's arguments.
        device: of the batches.
        model_dtype: of the images, where the prefetcher does not see to it.
        autocast: makes the context of the forward pass.
        log_suffix: tells the log lines of two models apart.
    """
    loss_fn = nn.CrossEntropyLoss()
    meters = {name: utils.AverageMeter() for name in ('loss', 'top1', 'top5')}
    batch_times = utils.AverageMeter()
    model.eval()
    started = time.perf_counter()
    last_idx = len(loader) - 1
    for batch_idx, (images, target) in enumerate(loader):
        if not args.prefetcher:
            images, target = images.to(device=device, dtype=model_dtype), target.to(device=device)
        if args.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        with autocast():
            output = model(images)
            if isinstance(output, (tuple, list)):
                output = output[0]
            loss = loss_fn(output, target)
        values = torch.stack((loss.float(), *utils.accuracy(output, target, topk=(1, 5))))
        if args.distributed:
            values = utils.reduce_tensor(values, args.world_size)
        for meter, value in zip(meters.values(), values.tolist(), strict=True):
            meter.update(value, len(images))
        batch_times.update(time.perf_counter() - started)
        started = time.perf_counter()
        if utils.is_primary(args) and (batch_idx == last_idx or batch_idx % args.log_interval == 0):
            _logger.info(
                f'Test{log_suffix}: [{batch_idx:>4d}/{last_idx}]  '
                f'Time: {batch_times.val:.3f} ({batch_times.avg:.3f})  '
                f'Loss: {meters["loss"].val:>7.3f} ({meters["loss"].avg:>6.3f})  '
                f'Acc@1: {meters["top1"].val:>7.3f} ({meters["top1"].avg:>7.3f})  '
                f'Acc@5: {meters["top5"].val:>7.3f} ({meters["top5"].avg:>7.3f})'
            )
    return {name: meter.avg for name, meter in meters.items()}


if __name__ == '__main__':
    main()
