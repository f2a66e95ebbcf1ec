"""The table of options of the project's own script: timm's names and defaults, each held to what can work.

Nothing here needs torch or timm, so that `--help` and a typo do not wait for them; what only those can tell is asked in
`checks`.
"""

import argparse
import ast
import math
from collections.abc import Callable
from typing import Any

from ..common.command import add_version
from ..data.crop import declare_padding
from ..mixing import declare
from ..recipes.reader import shipped_recipes

PROGRAM = 'hmix-train'
DATASET_TYPES = ('torch', 'hfds', 'hfids', 'tfds', 'wds')
USAGE = '%(prog)s [-c RECIPE] [options] [DIR]'


def _number(
    kind: type, low: float = -math.inf, high: float = math.inf, open_low: bool = False, open_high: bool = False
) -> Callable[[str], Any]:
    """An argparse type: a finite number between limits, which belong to it unless they are open."""
    limits = 'finite'
    if high < math.inf:
        limits = f'{"above" if open_low else "at least"} {low} and {"below" if open_high else "at most"} {high}'
    elif low > -math.inf:
        limits = f'above {low}' if open_low else f'{low} or more'

    def parse(text: str) -> Any:
        value = kind(text)
        if (
            not low <= value <= high
            or math.isinf(value)
            or (open_low and value == low)
            or (open_high and value == high)
        ):
            raise argparse.ArgumentTypeError(f'{text}: must be {limits}')
        return value

    parse.__name__ = kind.__name__  # argparse names it where `kind` itself refuses the text
    return parse


_count, _natural, _real = _number(int, 1), _number(int, 0), _number(float)
_positive, _above_zero, _part = _number(float, 0), _number(float, 0, open_low=True), _number(float, 0, 1)
_decay = _number(float, 0, 1, open_low=True)
_smoothing = _number(float, 0, 1, open_high=True)
_crop = _number(float, 0.1, 10)  # the image is resized to its inverse
# numpy takes 32 bits; the upper half is room for the ranks, which are added
_seed = _number(int, 0, 2**31 - 1)
_INTERPOLATIONS = ('nearest', 'bilinear', 'bicubic', 'box', 'hamming', 'lanczos')


class Keywords(argparse.Action):
    """KEY=VALUE words → dict; a value that is a Python literal is taken as such, as timm does."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        keywords = {}
        for word in values:
            key, separator, value = word.partition('=')
            if not key or not separator:
                parser.error(f'argument {option_string}: {word!r}: must be KEY=VALUE')
            try:
                keywords[key] = ast.literal_eval(value)
            except (ValueError, SyntaxError):
                keywords[key] = value
        setattr(namespace, self.dest, keywords)


class _Refuse(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        parser.error(refusal(self.option_strings[0]))


def refusal(option: str) -> str:
    if option == '--drop-connect':
        return '--drop-connect is not taken: --drop-path is its name now'
    return f"{option} is not taken by this script; timm's own has it: hmix-train path/to/timm/train.py …"


# ---------------------------------------------------------------------------------------------------------------------
# The table
# ---------------------------------------------------------------------------------------------------------------------


def _adder(parser: argparse.ArgumentParser, title: str) -> Callable[..., None]:
    """Opens a group of options: a function like `add_argument` whose help says the default, where there is one."""
    group = parser.add_argument_group(title)

    def add(*flags: str, help: str, **kwargs: Any) -> None:
        if kwargs.get('default') not in (None, '', {}, []) and 'default' not in help:
            help += ' (default: %(default)s)'
        group.add_argument(*flags, help=help, **kwargs)

    return add


def _add_data_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('data', nargs='?', metavar='DIR', help='root of the data set, the same as --data-dir')
    _add = _adder(parser, 'data')
    _add('--data-dir', metavar='DIR', help='root of the data set')
    _add('--dataset', default='', metavar='TYPE/NAME', help='torch/…, hfds/…, wds/… (default: an image folder)')
    _add('--train-split', default='train', metavar='NAME', help='training split')
    _add('--val-split', default='validation', metavar='NAME', help='validation split; "" trains without validation')
    _add('--train-num-samples', type=_count, metavar='N', help='training samples of an iterable data set')
    _add('--val-num-samples', type=_count, metavar='N', help='validation samples of an iterable data set')
    _add('--dataset-download', action='store_true', help='let torch/… and hfds/… data sets download themselves')
    _add(
        '--class-map', default='', metavar='FILE', help='text file with a class name per line, in order of the indices'
    )
    _add('--input-img-mode', metavar='MODE', help='PIL mode of the images (default: RGB, or L for one channel)')
    _add('--input-key', metavar='KEY', help="the data set's key of the images (default: the data set's own)")
    _add('--target-key', metavar='KEY', help="the data set's key of the labels (default: the data set's own)")


def _add_model_options(parser: argparse.ArgumentParser) -> None:
    _add = _adder(parser, 'model')
    _add('--model', default='resnet50', metavar='NAME', help='a model of timm')
    _add('--pretrained', action='store_true', help="start from timm's published weights")
    _add('--pretrained-path', metavar='FILE', help='start from this file as if it were the published weights')
    _add('--initial-checkpoint', default='', metavar='FILE', help='load the weights in this file into the new model')
    _add('--resume', default='', metavar='FILE', help='go on from a checkpoint; "auto": from the last usable one')
    _add('--no-resume-opt', action='store_true', help='resume the weights, but neither optimizer, scaler nor schedule')
    _add('--num-classes', type=_count, metavar='N', help="number of classes (default: the model's)")
    _add('--gp', metavar='POOL', help="global pooling: fast, avg, max, avgmax or avgmaxc (default: the model's)")
    _add('--img-size', type=_count, metavar='N', help="height and width of the images (default: the model's)")
    _add('--in-chans', type=_count, metavar='N', help='channels of the images (default: 3)')
    _add('--input-size', nargs=3, type=_count, metavar='N', help='channels, height and width in place of the two above')
    _add('--crop-pct', type=_crop, metavar='PCT', help="validation images' centre crop (default: model's)")
    _add('--mean', type=_real, nargs='+', metavar='X', help="mean of the pixels, 0 to 1 (default: the model's)")
    _add('--std', type=_above_zero, nargs='+', metavar='X', help="their standard deviation (default: the model's)")
    _add(
        '--interpolation',
        default='',
        choices=('', *_INTERPOLATIONS),
        help="interpolation of the validation images (default: the model's)",
    )
    _add('-b', '--batch-size', type=_count, default=128, metavar='N', help='training batch of each process')
    _add('-vb', '--validation-batch-size', type=_count, metavar='N', help='validation batch (default: --batch-size)')
    _add('--channels-last', action='store_true', help='keep model and images in the channels last memory format')
    _add('--grad-accum-steps', type=_count, default=1, metavar='N', help='batches per update')
    _add('--grad-checkpointing', action='store_true', help='compute activations twice to save memory')
    _add('--fast-norm', action='store_true', help="use timm's fast normalization layers")
    _add(
        '--model-kwargs',
        nargs='*',
        default={},
        action=Keywords,
        metavar='KEY=VALUE',
        help='more arguments of the model',
    )
    _add('--head-init-scale', type=_real, metavar='X', help='factor for the weights of a new head')
    _add('--head-init-bias', type=_real, metavar='X', help='bias of a new head')
    _add('--torchcompile', nargs='?', const='inductor', metavar='BACKEND', help='compile the model (BACKEND: inductor)')
    _add('--torchcompile-mode', metavar='MODE', help='mode of torch.compile')


def _add_device_options(parser: argparse.ArgumentParser) -> None:
    _add = _adder(parser, 'device')
    _add('--device', metavar='DEVICE', help='cpu, cuda, … (default: cuda where there is one, else cpu)')
    _add('--amp', action='store_true', help='train in automatic mixed precision')
    _add('--amp-dtype', default='float16', choices=('float16', 'bfloat16'), help='lower precision of --amp')
    _add(
        '--model-dtype',
        choices=('float32', 'float16', 'bfloat16'),
        help='precision of the weights, without --amp (default: float32)',
    )
    _add('--no-ddp-bb', action='store_true', help='do not broadcast buffers between processes at each step')
    _add('--synchronize-step', action='store_true', help='wait for the GPU after each step')
    _add(
        '--local_rank',
        '--local-rank',
        type=int,
        default=0,
        metavar='N',
        help='set by old launchers; the environment is what counts',
    )


def _add_optimizer_options(parser: argparse.ArgumentParser) -> None:
    _add = _adder(parser, 'optimizer')
    _add('--opt', default='sgd', metavar='NAME', help='an optimizer of timm')
    _add('--opt-eps', type=_positive, metavar='EPS', help="the optimizer's epsilon (default: its own)")
    _add('--opt-betas', type=_real, nargs='+', metavar='BETA', help="the optimizer's betas (default: its own)")
    _add('--momentum', type=_positive, default=0.9, metavar='M', help="the optimizer's momentum")
    _add('--weight-decay', type=_positive, default=2e-5, metavar='X', help='weight decay')
    _add('--clip-grad', type=_positive, metavar='VALUE', help='limit of the gradients (default: none)')
    _add(
        '--clip-mode',
        default='norm',
        choices=('norm', 'value', 'agc'),
        help="what --clip-grad limits: the gradients' norm, each value, or norm relative to the weights' (agc)",
    )
    _add(
        '--layer-decay',
        type=_decay,
        metavar='X',
        help='factor of the learning rate from layer to layer, downwards',
    )
    _add('--layer-decay-min-scale', type=_real, default=0, metavar='X', help='lowest factor that --layer-decay reaches')
    _add('--layer-decay-no-opt-scale', type=_real, metavar='X', help='layers whose --layer-decay is lower stay frozen')
    _add('--opt-kwargs', nargs='*', default={}, action=Keywords, metavar='KEY=VALUE', help='more optimizer arguments')


def _add_schedule_options(parser: argparse.ArgumentParser) -> None:
    _add = _adder(parser, 'learning rate schedule')
    _add('--sched', default='cosine', metavar='NAME', help='a schedule of timm: cosine, step, multistep, plateau, …')
    _add('--sched-on-updates', action='store_true', help='move along the schedule at each update, not each epoch')
    _add('--lr', type=_positive, metavar='LR', help='learning rate (default, and 0: from --lr-base)')
    _add('--lr-base', type=_positive, default=0.1, metavar='LR', help='learning rate for a batch of --lr-base-size')
    _add('--lr-base-size', type=_count, default=256, metavar='N', help='global batch that --lr-base is meant for')
    _add(
        '--lr-base-scale',
        default='',
        choices=('', 'linear', 'sqrt'),
        help='how --lr-base grows with the global batch (default: sqrt for optimizers of the Adam kind, else linear)',
    )
    _add('--lr-noise', type=_real, nargs='+', metavar='PCT', help='part of the schedule with a noisy learning rate')
    _add('--lr-noise-pct', type=_real, default=0.67, metavar='PCT', help='limit of the learning rate noise')
    _add('--lr-noise-std', type=_real, default=1.0, metavar='STD', help='spread of the learning rate noise')
    _add('--lr-cycle-mul', type=_real, default=1.0, metavar='X', help='growth of the cycles')
    _add(
        '--lr-cycle-decay', type=_real, default=0.5, metavar='X', help='factor of the learning rate from cycle to cycle'
    )
    _add('--lr-cycle-limit', type=_natural, default=1, metavar='N', help='number of cycles')
    _add('--lr-k-decay', type=_real, default=1.0, metavar='K', help='k-decay of the schedules cosine and poly')
    _add('--warmup-lr', type=_positive, default=1e-5, metavar='LR', help='learning rate at the start of the warm-up')
    _add('--min-lr', type=_positive, default=0, metavar='LR', help='lowest learning rate')
    _add('--epochs', type=_count, default=300, metavar='N', help='epochs of the schedule')
    _add('--epoch-repeats', type=_positive, default=0.0, metavar='X', help='passes over an iterable data set per epoch')
    _add('--start-epoch', type=_natural, metavar='N', help="first epoch (default: a checkpoint's next, or 0)")
    _add(
        '--decay-milestones', default=[90, 180, 270], type=_natural, nargs='+', metavar='N', help='epochs of multistep'
    )
    _add('--decay-epochs', type=_above_zero, default=90, metavar='N', help='epochs between two steps of the schedule')
    _add('--warmup-epochs', type=_natural, default=5, metavar='N', help='epochs of warm-up')
    _add('--warmup-prefix', action='store_true', help='the warm-up comes before the schedule, not out of it')
    _add('--cooldown-epochs', type=_natural, default=0, metavar='N', help='epochs at --min-lr after the schedule')
    _add(
        '--patience-epochs',
        type=_natural,
        default=10,
        metavar='N',
        help='epochs that plateau waits for a better metric',
    )
    _add('--decay-rate', '--dr', type=_real, default=0.1, metavar='X', help='factor of one step of the schedule')


def _add_augmentation_options(parser: argparse.ArgumentParser) -> None:
    _add = _adder(parser, 'augmentation and regularization')
    _add('--no-aug', action='store_true', help='no training augmentation at all')
    _add('--train-crop-mode', choices=('rrc', 'rkrc', 'rkrr'), help='random crop or resize of training (default: rrc)')
    _add('--scale', type=_above_zero, nargs=2, default=[0.08, 1.0], metavar='X', help='area of the random crop')
    ratios = [3 / 4, 4 / 3]
    _add(
        '--ratio',
        type=_above_zero,
        nargs=2,
        default=ratios,
        metavar='X',
        help='aspect ratio of the random crop (default: 3/4 4/3)',
    )
    _add('--hflip', type=_part, default=0.5, metavar='P', help='probability of a horizontal flip')
    _add('--vflip', type=_part, default=0.0, metavar='P', help='probability of a vertical flip')
    _add('--color-jitter', type=_positive, default=0.4, metavar='X', help='strength of the colour jitter')
    _add('--color-jitter-prob', type=_part, metavar='P', help='probability of the colour jitter (default: always)')
    _add('--grayscale-prob', type=_part, metavar='P', help='probability of a grey image (default: never)')
    _add('--gaussian-blur-prob', type=_part, metavar='P', help='probability of a blurred image (default: never)')
    _add('--aa', metavar='POLICY', help='AutoAugment, RandAugment, AugMix …: rand-m9-mstd0.5, original, …')
    _add('--aug-repeats', type=_positive, default=0, metavar='N', help='repeated augmentation, on several processes')
    _add('--aug-splits', type=_natural, default=0, metavar='N', help='augmentations of each image: 0, or 2 and more')
    _add('--jsd-loss', action='store_true', help='Jensen-Shannon loss over --aug-splits')
    _add('--bce-loss', action='store_true', help='binary cross entropy')
    _add('--bce-sum', action='store_true', help='sum --bce-loss over the classes')
    _add('--bce-target-thresh', type=_real, metavar='X', help='make targets above it 1, others 0, for --bce-loss')
    _add('--bce-pos-weight', type=_real, metavar='X', help='weight of the positives in --bce-loss')
    _add('--reprob', type=_part, default=0.0, metavar='P', help='probability of random erasing')
    _add('--remode', default='pixel', choices=('const', 'rand', 'pixel'), help='what random erasing puts in place')
    _add('--recount', type=_count, default=1, metavar='N', help='boxes of random erasing')
    _add('--resplit', action='store_true', help='no random erasing in the first of --aug-splits')
    _add('--mixup', type=float, default=0.0, metavar='ALPHA', help='Mixup, if above 0')
    _add('--cutmix', type=float, default=0.0, metavar='ALPHA', help='CutMix, if above 0')
    _add('--cutmix-minmax', type=float, nargs='+', metavar='X', help='smallest and largest CutMix box, for --cutmix')
    _add('--mixup-prob', type=float, default=1.0, metavar='P', help='probability of any mixing')
    _add('--mixup-switch-prob', type=float, default=0.5, metavar='P', help='probability of CutMix where both are on')
    _add('--mixup-mode', default='batch', metavar='MODE', help='batch, pair, elem or half')
    _add('--mixup-off-epoch', type=_natural, default=0, metavar='N', help='no mixing from this epoch on; 0: never off')
    _add('--smoothing', type=_smoothing, default=0.1, metavar='X', help='label smoothing')
    _add(
        '--train-interpolation',
        default='random',
        choices=('', 'random', *_INTERPOLATIONS),
        help='interpolation of the training images',
    )
    _add('--drop', type=_part, default=0.0, metavar='P', help='dropout')
    _add('--drop-path', type=_part, metavar='P', help='stochastic depth (default: none)')
    _add('--drop-block', type=_part, metavar='P', help='drop block (default: none)')


def _add_model_state_options(parser: argparse.ArgumentParser) -> None:
    _add = _adder(parser, 'batch norm')
    _add('--bn-momentum', type=_real, metavar='M', help="batch norm's momentum (default: the model's)")
    _add('--bn-eps', type=_positive, metavar='EPS', help="batch norm's epsilon (default: the model's)")
    _add('--sync-bn', action='store_true', help="batch norm's statistics over the batches of all processes")
    _add(
        '--dist-bn',
        default='reduce',
        choices=('', 'reduce', 'broadcast'),
        help="how the processes share batch norm's statistics after each epoch",
    )
    _add('--split-bn', action='store_true', help='separate batch norm statistics for each of --aug-splits')

    _add = _adder(parser, 'moving average of the weights')
    _add('--model-ema', action='store_true', help='keep a moving average of the weights, and validate it')
    _add('--model-ema-force-cpu', action='store_true', help='keep the moving average on the CPU, without validating it')
    _add('--model-ema-decay', type=_part, default=0.9998, metavar='X', help='decay of the moving average per update')
    _add('--model-ema-warmup', action='store_true', help='let the decay of the moving average grow at first')


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    _add = _adder(parser, 'run')
    _add('--seed', type=_seed, default=42, metavar='S', help='random seed')
    _add('--worker-seeding', default='all', choices=('all', 'part'), help='how timm seeds the loader workers at first')
    _add('--log-interval', type=_count, default=50, metavar='N', help='updates between two log lines')
    _add('--val-interval', type=_count, default=1, metavar='N', help='epochs between two validations and checkpoints')
    _add(
        '--recovery-interval',
        type=_natural,
        default=0,
        metavar='N',
        help='updates from one recovery checkpoint to next',
    )
    _add('--checkpoint-hist', type=_count, default=10, metavar='N', help='best checkpoints to keep')
    _add('-j', '--workers', type=_natural, default=4, metavar='N', help='loader workers of each process')
    _add('--pin-mem', action='store_true', help='pin the memory of the loaders')
    _add('--no-prefetcher', action='store_true', help="do without timm's prefetcher")
    _add('--output', default='', metavar='DIR', help='folder of all runs (default: ./output/train)')
    _add(
        '--experiment', default='', metavar='NAME', help="the run's folder in it (default: time, model and image size)"
    )
    _add('--eval-metric', default='top1', choices=('top1', 'top5', 'loss'), help='what makes a checkpoint the best')
    _add(
        '--train-accuracy',
        action='store_true',
        help='measure top-1 in training, too: train_top1_larger_label (the label with the larger weight counts as '
        "right) and train_top1_expected (the predicted label's weight counts)",
    )
    _add('--use-multi-epochs-loader', action='store_true', help="timm's loader that starts the next epoch early")
    _add('--log-wandb', action='store_true', help='log to Weights & Biases')
    _add('--wandb-project', metavar='NAME', help='project of --log-wandb')
    _add('--wandb-tags', default=[], nargs='+', metavar='TAG', help='tags of --log-wandb')
    _add('--wandb-resume-id', default='', metavar='ID', help='the run of --log-wandb to go on with')


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


def build_parser() -> argparse.ArgumentParser:
    """The whole parser: timm's options, those that are refused by name, the mixing group and the padded crop."""
    parser = argparse.ArgumentParser(
        PROGRAM,
        USAGE,
        "Train a timm model with timm's arguments.",
    )
    add_version(parser)
    parser.add_argument(
        '-c',
        '--config',
        default='',
        metavar='RECIPE',
        help=f'YAML file, or a shipped recipe: {", ".join(shipped_recipes())}; the command line beats it '
        '(default: none)',
    )
    _add_data_options(parser)
    _add_model_options(parser)
    _add_device_options(parser)
    _add_optimizer_options(parser)
    _add_schedule_options(parser)
    _add_augmentation_options(parser)
    _add_model_state_options(parser)
    _add_run_options(parser)
    for option in REFUSED:
        parser.add_argument(option, action=_Refuse, nargs='*', default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    declare(parser)
    declare_padding(parser)
    return parser
