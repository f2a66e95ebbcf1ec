"""The table of options of the project's own script: timm's names and defaults, each with the values that it takes.

Nothing here needs torch or timm, so that `--help` and a typo do not wait for them; `preflight` asks those.
"""

import argparse
import ast
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ..common.command import Row, add_rows, add_version, row
from ..data.crop import declare_padding
from ..mixing import declare
from ..recipes.reader import shipped_recipes

PROGRAM = 'hmix-train'
USAGE = """%(prog)s [--mix-check] [-c RECIPE] [options] [DIR]
       %(prog)s [--mix-check] [--mixer MODULE:CLASS] [--mix-others {refuse,keep}] [mixing options] SCRIPT [its own]"""
ABOUT = (
    "Train a timm model with timm's arguments, or run a script that mixes with timm's Mixup (docs/launching.md). "
    '--mix-check looks at the first mixed batches and at what the model gets, and says in the log what was seen.'
)


class Keywords(argparse.Action):
    """KEY=VALUE words → dict; a value that is a Python literal is read as one, as timm does."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        keywords = dict(word.partition('=')[::2] for word in values)
        if not all('=' in word[1:] for word in values):
            parser.error(f'argument {option_string}: {" ".join(values)}: must be KEY=VALUE, or several of them')
        for key, value in keywords.items():
            with suppress(ValueError, SyntaxError):
                keywords[key] = ast.literal_eval(value)
        setattr(namespace, self.dest, keywords)


def _number(kind: type, low: float = -math.inf, high: float = math.inf, open_low: bool = False) -> Callable[[str], Any]:
    """An argparse type: a finite number from `low` (above it, if `open_low`) to `high`."""
    limits = 'finite' if low == -math.inf else f'above {low}' if open_low else f'{low} or more'
    if high < math.inf:
        limits = f'at least {low} and at most {high}'

    def parse(text: str) -> Any:
        value = kind(text)
        if not abs(value) < math.inf or not low <= value <= high or (open_low and value == low):
            raise argparse.ArgumentTypeError(f'{text}: must be {limits}')
        return value

    parse.__name__ = kind.__name__  # argparse names it where `kind` itself refuses the text
    return parse


_count, _natural, _real = _number(int, 1), _number(int, 0), _number(float)
_positive, _part = _number(float, 0), _number(float, 0, 1)
_above_zero = _number(float, 0, open_low=True)
_crop = _number(float, 0.1, 10)  # the image is resized to its inverse
_seed = _number(int, 0, 2**31 - 1)  # numpy takes 32 bits, and the ranks are added
_INTERPOLATIONS = ('', 'nearest', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos')


OPTIONS: dict[str, list[Row]] = {
    'data': [
        row('--data-dir', 'DIR', 'root of the data set'),
        row('--dataset', 'TYPE/NAME', 'torch/… or hfds/… (default: an image folder)', default=''),
        row('--train-split', 'NAME', 'training split', default='train'),
        row('--val-split', 'NAME', 'validation split; "" trains without one', default='validation'),
        row('--dataset-download', '', 'let torch/… and hfds/… data sets download themselves'),
        row('--class-map', 'FILE', 'text file with a class name per line, in order of the indices', default=''),
        row('--input-img-mode', 'MODE', 'PIL mode of the images (default: RGB, or L for one channel)'),
        row('--input-key', 'KEY', "the data set's key of the images (default: the data set's own)"),
        row('--target-key', 'KEY', "the data set's key of the labels (default: the data set's own)"),
        row('-b --batch-size', 'N', 'training batch of each process', type=_count, default=128),
        row('-vb --validation-batch-size', 'N', 'validation batch (default: --batch-size)', type=_count),
        row('-j --workers', 'N', 'loader workers of each process', type=_natural, default=4),
        row('--pin-mem', '', 'pin the memory of the loaders'),
        row('--no-prefetcher', '', "do not use timm's prefetcher"),
    ],
    'model': [
        row('--model', 'NAME', 'a model of timm', default='resnet50'),
        row('--model-kwargs', 'KEY=VALUE', 'more arguments of the model', nargs='*', default={}, action=Keywords),
        row('--pretrained', '', "start from timm's published weights"),
        row('--pretrained-path', 'FILE', 'start from this file as if it were the published weights'),
        row('--initial-checkpoint', 'FILE', 'load the weights in this file into the new model', default=''),
        row('--num-classes', 'N', "number of classes (default: the model's)", type=_count),
        row('--img-size', 'N', "height and width of the images (default: the model's)", type=_count),
        row('--in-chans', 'N', 'channels of the images (default: 3)', type=_count),
        row('--input-size', 'N', 'channels, height and width in place of the two above', nargs=3, type=_count),
        row('--drop', 'P', 'dropout', type=_part, default=0.0),
        row('--drop-path', 'P', 'stochastic depth (default: none)', type=_part),
        row('--channels-last', '', 'keep model and images in the channels last memory format'),
        row('--torchcompile', 'BACKEND', 'compile the model (BACKEND: inductor)', nargs='?', const='inductor'),
        row('--torchcompile-mode', 'MODE', 'mode of torch.compile'),
        row('--sync-bn', '', "compute batch norm's statistics over the batches of all processes"),
        row(
            '--dist-bn',
            None,
            "how the processes share batch norm's statistics after each epoch",
            default='reduce',
            choices=('', 'reduce', 'broadcast'),
        ),
        row('--no-ddp-bb', '', 'do not broadcast buffers between processes at each step'),
        row('--model-ema', '', 'keep a moving average of the weights, and validate it'),
        row('--model-ema-force-cpu', '', 'keep the moving average on the CPU, without validating it'),
        row('--model-ema-decay', 'X', 'decay of the moving average per update', type=_part, default=0.9998),
        row('--model-ema-warmup', '', 'let the decay of the moving average grow at first'),
    ],
    'device': [
        row('--device', 'DEVICE', 'cpu, cuda, … (default: cuda where there is one, else cpu)'),
        row('--amp', '', 'train in automatic mixed precision'),
        row('--amp-dtype', None, 'lower precision of --amp', default='float16', choices=('float16', 'bfloat16')),
        row(
            '--local_rank --local-rank',
            'N',
            'set by old launchers and ignored; the environment counts',
            type=int,
            default=0,
        ),
    ],
    'optimizer': [
        row('--opt', 'NAME', 'an optimizer of timm', default='sgd'),
        row('--opt-eps', 'EPS', "the optimizer's epsilon (default: its own)", type=_positive),
        row('--opt-betas', 'BETA', "the optimizer's betas (default: its own)", type=_real, nargs='+'),
        row('--opt-kwargs', 'KEY=VALUE', 'more arguments of the optimizer', nargs='*', default={}, action=Keywords),
        row('--momentum', 'M', "the optimizer's momentum", type=_positive, default=0.9),
        row('--weight-decay', 'X', 'weight decay', type=_positive, default=2e-5),
        row('--clip-grad', 'VALUE', 'limit of the gradients (default: none)', type=_positive),
        row(
            '--clip-mode',
            None,
            "quantity that --clip-grad limits: the gradients' norm, each value, or norm relative to the weights' (agc)",
            default='norm',
            choices=('norm', 'value', 'agc'),
        ),
        row('--grad-accum-steps', 'N', 'batches per update', type=_count, default=1),
    ],
    'learning rate schedule': [
        row('--sched', 'NAME', 'a schedule of timm: cosine, step, multistep, plateau, …', default='cosine'),
        row('--sched-on-updates', '', 'move along the schedule at each update, not each epoch'),
        row('--lr', 'LR', 'learning rate (default, and 0: from --lr-base)', type=_positive),
        row('--lr-base', 'LR', 'learning rate for a batch of --lr-base-size', type=_positive, default=0.1),
        row('--lr-base-size', 'N', 'global batch that --lr-base is meant for', type=_count, default=256),
        row(
            '--lr-base-scale',
            None,
            'how --lr-base grows with the global batch (default: sqrt for optimizers of the Adam kind, else linear)',
            default='',
            choices=('', 'linear', 'sqrt'),
        ),
        row('--lr-noise', 'PCT', 'part of the schedule with a noisy learning rate', type=_real, nargs='+'),
        row('--lr-noise-pct', 'PCT', 'limit of the learning rate noise', type=_real, default=0.67),
        row('--lr-noise-std', 'STD', 'spread of the learning rate noise', type=_real, default=1.0),
        row('--warmup-lr', 'LR', 'learning rate at the start of the warm-up', type=_positive, default=1e-5),
        row('--min-lr', 'LR', 'lowest learning rate', type=_positive, default=0),
        row('--epochs', 'N', 'epochs of the schedule', type=_count, default=300),
        row('--start-epoch', 'N', "first epoch (default: a checkpoint's next, or 0)", type=_natural),
        row('--decay-milestones', 'N', 'epochs of multistep', default=[90, 180, 270], type=_natural, nargs='+'),
        row('--decay-epochs', 'N', 'epochs between two steps of the schedule', type=_above_zero, default=90),
        row('--decay-rate --dr', 'X', 'factor of one step of the schedule', type=_positive, default=0.1),
        row('--warmup-epochs', 'N', 'epochs of warm-up', type=_natural, default=5),
        row('--warmup-prefix', '', 'put the warm-up before the schedule, not into it'),
        row('--cooldown-epochs', 'N', 'epochs at --min-lr after the schedule', type=_natural, default=0),
        row('--patience-epochs', 'N', 'epochs that plateau waits for a better metric', type=_natural, default=10),
    ],
    'transforms': [
        row('--crop-pct', 'PCT', "centre crop of the validation images (default: the model's)", type=_crop),
        row('--mean', 'X', "mean of the pixels, 0 to 1 (default: the model's)", type=_real, nargs='+'),
        row('--std', 'X', "standard deviation of the pixels (default: the model's)", type=_above_zero, nargs='+'),
        row(
            '--interpolation',
            None,
            "interpolation of the validation images (default: the model's)",
            default='',
            choices=_INTERPOLATIONS,
        ),
        row(
            '--train-interpolation',
            None,
            'interpolation of the training images',
            default='random',
            choices=(*_INTERPOLATIONS, 'random'),
        ),
        row('--no-aug', '', 'no training augmentation at all'),
        row('--scale', 'X', 'area of the random crop', type=_above_zero, nargs=2, default=[0.08, 1.0]),
        row(
            '--ratio',
            'X',
            'aspect ratio of the random crop (default: 3/4 4/3)',
            type=_above_zero,
            nargs=2,
            default=[3 / 4, 4 / 3],
        ),
        row('--hflip', 'P', 'probability of a horizontal flip', type=_part, default=0.5),
        row('--vflip', 'P', 'probability of a vertical flip', type=_part, default=0.0),
        row('--color-jitter', 'X', 'strength of the colour jitter', type=_positive, default=0.4),
        row('--aa', 'POLICY', 'AutoAugment, RandAugment, AugMix …: rand-m9-mstd0.5, original, …'),
        row('--aug-repeats', 'N', 'repeated augmentation, on several processes', type=_positive, default=0),
        row('--reprob', 'P', 'probability of random erasing', type=_part, default=0.0),
        row('--remode', None, 'content of an erased box', default='pixel', choices=('const', 'rand', 'pixel')),
        row('--recount', 'N', 'boxes of random erasing', type=_count, default=1),
    ],
    'mixing and loss': [
        row('--mixup', 'ALPHA', 'Mixup, if above 0', type=float, default=0.0),
        row('--cutmix', 'ALPHA', 'CutMix, if above 0', type=float, default=0.0),
        row('--cutmix-minmax', 'X', 'smallest and largest CutMix box, for --cutmix', type=float, nargs='+'),
        row('--mixup-prob', 'P', 'probability of any mixing', type=float, default=1.0),
        row('--mixup-switch-prob', 'P', 'probability of CutMix where both are on', type=float, default=0.5),
        row('--mixup-mode', 'MODE', 'batch, pair, elem or half', default='batch'),
        row('--mixup-off-epoch', 'N', 'no mixing from this epoch on; 0: never off', type=_natural, default=0),
        row('--smoothing', 'X', 'label smoothing', type=_part, default=0.1),
        row('--bce-loss', '', 'binary cross entropy'),
        row('--bce-target-thresh', 'X', 'make targets above it 1, others 0, for --bce-loss', type=_real),
    ],
    'run': [
        row('--seed', 'S', 'random seed', type=_seed, default=42),
        row('--resume', 'FILE', 'checkpoint to resume; "auto": the last usable one of --experiment', default=''),
        row('--no-resume-opt', '', 'resume the weights, but neither optimizer, scaler nor schedule'),
        row('--output', 'DIR', 'folder of all runs (default: ./output/train)', default=''),
        row('--experiment', 'NAME', "the run's folder in it (default: time, model and image size)", default=''),
        row(
            '--eval-metric',
            None,
            'metric that the best checkpoint is best in',
            default='top1',
            choices=('top1', 'top5', 'loss'),
        ),
        row('--checkpoint-hist', 'N', 'best checkpoints to keep', type=_count, default=10),
        row('--val-interval', 'N', 'epochs between two validations and checkpoints', type=_count, default=1),
        row('--log-interval', 'N', 'updates between two log lines', type=_count, default=50),
        row('--log-wandb', '', 'log to Weights & Biases'),
        row('--wandb-project', 'NAME', 'project of --log-wandb'),
        row('--wandb-tags', 'TAG', 'tags of --log-wandb', default=[], nargs='+'),
        row('--wandb-resume-id', 'ID', 'the run of --log-wandb to resume', default=''),
    ],
}

NOT_TAKEN: dict[str, Any] = {
    'amp_impl': 'native',
    'aug_splits': 0,
    'bce_pos_weight': None,
    'bce_sum': False,
    'bn_eps': None,
    'bn_momentum': None,
    'color_jitter_prob': None,
    'dataset_trust_remote_code': False,
    'device_modules': None,
    'distill_loss_weight': None,
    'drop_block': None,
    'drop_connect': None,
    'epoch_repeats': 0.0,
    'fast_norm': False,
    'fuser': '',
    'gaussian_blur_prob': None,
    'gp': None,
    'grad_checkpointing': False,
    'grayscale_prob': None,
    'head_init_bias': None,
    'head_init_scale': None,
    'jsd_loss': False,
    'kd_distill_type': 'logit',
    'kd_loss_type': 'kl',
    'kd_model_name': None,
    'kd_student_feature_dim': None,
    'kd_teacher_feature_dim': None,
    'kd_temperature': 4.0,
    'kd_token_distill_type': 'soft',
    'layer_decay': None,
    'layer_decay_min_scale': 0.0,
    'layer_decay_no_opt_scale': None,
    'lr_cycle_decay': 0.5,
    'lr_cycle_limit': 1,
    'lr_cycle_mul': 1.0,
    'lr_k_decay': 1.0,
    'model_dtype': None,
    'naflex_loader': False,
    'naflex_loss_scale': 'linear',
    'naflex_max_seq_len': 576,
    'naflex_patch_size_probs': None,
    'naflex_patch_sizes': None,
    'naflex_patchify_channels_first': False,
    'naflex_train_seq_lens': [128, 256, 576, 784, 1024],
    'recovery_interval': 0,
    'resplit': False,
    'save_images': False,
    'split_bn': False,
    'synchronize_step': False,
    'task_loss_weight': None,
    'torchscript': False,
    'train_accuracy': False,  # not timm's: this script had it in 0.1.0
    'train_batch_sizes': None,
    'train_batches_per_epoch': None,
    'train_crop_mode': None,
    'train_img_sizes': None,
    'train_num_samples': None,
    'train_size_probs': None,
    'train_size_random_mix': 0.1,
    'train_size_schedule': 'constant',
    'train_size_schedule_spread': 0.65,
    'train_steps_per_epoch': None,
    'tta': 0,
    'use_multi_epochs_loader': False,
    'val_num_samples': None,
    'variable_batch_loss_scale': 'none',
    'worker_seeding': 'all',
}
"""timm's other options by their names in `args`, with timm's defaults, the only values that a run may have of them."""

AUGMENTATION = (
    *('scale', 'ratio', 'hflip', 'vflip', 'color_jitter', 'aa', 'reprob', 'remode', 'recount', 'train_interpolation'),
)
"""Options that `--no-aug` turns off."""

OTHER_IMAGES = {'naflex_loader', 'aug_splits', 'jsd_loss', 'train_img_sizes'}
"""Those of them with which a training sees other images."""


def build_parser(program: str = PROGRAM, usage: str = USAGE) -> argparse.ArgumentParser:
    """The whole parser: timm's options, taken or not, the mixing group and the padded crop."""
    parser = argparse.ArgumentParser(program, usage, ABOUT)
    add_version(parser)
    recipes = f'YAML file, or a shipped recipe: {", ".join(shipped_recipes())}; the command line beats it'
    parser.add_argument('-c', '--config', default='', metavar='RECIPE', help=f'{recipes} (default: none)')
    parser.add_argument('data', nargs='?', metavar='DIR', help='root of the data set, the same as --data-dir')
    for title, rows in OPTIONS.items():
        group = parser.add_argument_group(title)
        add_rows(group, rows)
    for name, default in NOT_TAKEN.items():
        # no value of a flag, or of an option without a default, is timm's
        scalar = isinstance(default, (int, float, str)) and default is not False
        shape = {'type': type(default)} if scalar else {'nargs': '*', 'type': int if default else str}
        parser.add_argument(f'--{name.replace("_", "-")}', default=default, help=argparse.SUPPRESS, **shape)
    declare(parser)
    declare_padding(parser)
    return parser
