"""The paper's Figures 1 to 5, recomputed, and one more: `hmix-figures`, or `python -m train_patch.figures`.

    hmix-figures --output figures
    hmix-figures --output figures --figures 3 4 --mix-families my_masks.py
    hmix-figures --output figures --figures 5 --model resnet50 --data-dir /data/imagenet --img-size 64 \
        --checkpoint runs/none/model_best.pth.tar runs/cutmix/model_best.pth.tar
    hmix-figures --output figures --figures 6 --mix-preset cifar100 --results comparison/digits/results.csv \
        --checkpoint comparison/digits/none/seed*/last.pth.tar

Writes figure1.png and so on and, with the numbers behind them, figures.json. What each of them is, and from what it is
made, stands in `FIGURES`. Figure 6 is not the paper's: it asks whether networks trained without mixing tell beforehand
which mix mode will help. It needs what Figure 5 from your own runs needs, and so is no command of its own.
"""

import argparse
import importlib
import json
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hmix_timm.families import PRESETS

from .common.command import (
    add_families,
    add_version,
    at_least,
    check_device,
    check_output,
    require_packages,
)
from .common.errors import RunError
from .common.files import write_json
from .common.start import command
from .common.tables import markdown
from .common.weights import only_weights
from .drawing.pictures import save_figure
from .drawing.trained import PLAIN_DATASETS, checkpoint_names, run_settings, split_folder

PROGRAM = 'hmix-figures'

FIGURES = {
    1: "Theorem 1 on two moons, the paper's experiment: logistic regression trained with the original and with the "
    'approximate loss',
    2: "Mixup with λ from -0.75 to 0.75, as masks outside [0, 1] would mix (Theorem 2); scikit-learn's photographs in "
    "place of the paper's dog and cat",
    3: "mixes and masks of every family, the options as the paper's for CIFAR-100; scikit-learn's photographs",
    4: 'regularization coefficients at λ = 0.5 on 64×64 from the masks that the mixers draw, options as for ImageNet, '
    'and the formula of Eq. 11',
    5: "Eq. 12, gradient products left after training: small CNNs trained on scikit-learn's digits in place of the "
    "paper's networks on ImageNet at 64×64, or your own --checkpoint",
    6: 'not in the paper: Eq. 12 and Theorem 1 on networks trained without mixing, as a prediction for each mix mode, '
    'against its measured gain; small CNNs on digits, or your own --checkpoint and --results',
}
"""What each figure really is, for `--help`."""

PAPERS = [1, 2, 3, 4, 5]


def make_parser() -> argparse.ArgumentParser:
    """The command's options; names and meanings are timm's where timm has them."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Recompute the paper's Figures 1 to 5, and one more, and the numbers behind them.",
        epilog='\n'.join(['figures:', *(_listed(number, text) for number, text in FIGURES.items())]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    parser.add_argument(
        '--output', required=True, type=Path, metavar='DIR', help='folder for the PNGs and figures.json (required)'
    )
    parser.add_argument(
        '--figures',
        nargs='+',
        type=int,
        default=PAPERS,
        choices=tuple(FIGURES),
        metavar='N',
        help=f'of {" ".join(map(str, FIGURES))}, which are told apart below (default: {" ".join(map(str, PAPERS))})',
    )
    add_families(parser)
    own = parser.add_argument_group(
        'Figures 5 and 6 from your own runs', 'What args.yaml beside a checkpoint says of its run need not be given.'
    )
    own.add_argument(
        '--checkpoint', nargs='+', type=Path, metavar='PATH', help='checkpoints, a panel each (default: none)'
    )
    own.add_argument('--model', metavar='NAME', help="timm model of the checkpoints (default: args.yaml's)")
    own.add_argument(
        '--model-module', metavar='MODULE', help='Python module that registers the model with timm (default: none)'
    )
    own.add_argument(
        '--num-classes',
        type=at_least(1),
        metavar='N',
        help="classes of the checkpoints (default: args.yaml's, the model's)",
    )
    own.add_argument(
        '--dataset', metavar='NAME', help="data set by its name in timm (default: args.yaml's, a folder of images)"
    )
    own.add_argument(
        '--data-dir', type=Path, metavar='DIR', help="folder of images, or of splits of images (default: args.yaml's)"
    )
    own.add_argument(
        '--split',
        metavar='NAME',
        help='split to look at (default: validation, or the folder itself if it has no splits)',
    )
    own.add_argument(
        '--img-size',
        type=at_least(1),
        metavar='N',
        help="image size; the cost grows with its 4th power (default: args.yaml's, the model's)",
    )
    own.add_argument(
        '--max-images', type=at_least(1), metavar='N', help='evenly spaced images of the data (default: all)'
    )
    own.add_argument(
        '-b', '--batch-size', type=at_least(1), default=64, metavar='N', help='images at a time (default: 64)'
    )
    own.add_argument('-j', '--workers', type=at_least(0), default=2, metavar='N', help='loader workers (default: 2)')
    own.add_argument('--device', default='cpu', help='device of the model, as torch names it (default: cpu)')
    own.add_argument(
        '--results', type=Path, metavar='FILE', help='results.csv of hmix-compare, for Figure 6 (default: none)'
    )
    own.add_argument(
        '--mix-preset',
        choices=PRESETS,
        default='cifar100',
        help="parameters of the mix modes in Figure 6, the paper's section 5 (default: cifar100)",
    )
    return parser


def _listed(number: int, text: str) -> str:
    return textwrap.fill(text, 80, initial_indent=f'  {number}  ', subsequent_indent='     ')


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends with the parser's error where options contradict each other or a path is not there; needs no torch."""
    args.figures = sorted(set(args.figures))
    if args.checkpoint is None:
        for name in ('model', 'model_module', 'dataset', 'data_dir', 'split', 'num_classes', 'img_size', 'max_images'):
            if getattr(args, name) is not None:
                parser.error(f'--{name.replace("_", "-")} is for --checkpoint, which is not given')
        if args.results is not None:
            parser.error('--results is for --checkpoint, which is not given')
    else:
        _check_checkpoints(parser, args)
    if args.output.exists() and not args.output.is_dir():
        parser.error(f'--output must be a folder, got {args.output}')
    for name in (*(f'figure{number}.png' for number in args.figures), 'figures.json'):
        check_output('--output', args.output / name)
    try:
        read_numbers(args.output)
    except RunError as error:
        parser.error(f'--output: {error}')


def _check_checkpoints(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    if not {5, 6} & set(args.figures):
        figures = ' '.join(map(str, args.figures))
        parser.error(f'--checkpoint is for Figures 5 and 6, which --figures {figures} leaves out')
    for path in args.checkpoint:
        if not path.is_file():
            parser.error(f'--checkpoint must be a file, got {path}')
    try:
        checkpoint_names(args.checkpoint)
        runs = {path: run_settings(path) for path in args.checkpoint}
    except ValueError as error:
        parser.error(f'--checkpoint: {error}')
    for path, settings in runs.items():
        for name in ('model', 'data_dir'):
            if getattr(args, name) is None and settings.get(name) is None:
                option = f'--{name.replace("_", "-")}'
                parser.error(f'--checkpoint needs {option}: no args.yaml beside {path} says it')
        kind = str(settings.get('dataset') or '').partition('/')[0]
        if args.dataset is None and kind not in PLAIN_DATASETS:
            parser.error(f'--checkpoint: args.yaml beside {path} names {settings["dataset"]}: give it as --dataset')
        folder = Path(args.data_dir or settings['data_dir'])
        if not folder.is_dir():
            parser.error(f'--data-dir must be a folder of images, got {folder}')
        if not (args.dataset or settings.get('dataset')):
            try:
                split_folder(folder, args.split)
            except ValueError as error:
                parser.error(f'--data-dir or --split: {error}')
        if 6 in args.figures and settings.get('mix_mode') not in (None, 'none'):
            parser.error(
                f'--checkpoint: Figure 6 is about networks trained without mixing, and {path} was trained with '
                f'{settings["mix_mode"]}'
            )
    if (6 in args.figures) != (args.results is not None):
        parser.error('--results and --figures 6 belong together where there is a --checkpoint')
    if args.results is not None and not args.results.is_file():
        parser.error(f'--results must be a results.csv of hmix-compare, got {args.results}')


def read_numbers(folder: Path) -> dict[str, Any]:
    """What figures.json in a folder holds, of earlier figures; empty where there is none.

    Raises:
        RunError: it holds something else.
    """
    path = folder / 'figures.json'
    if not path.exists():
        return {}
    try:
        numbers = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise RunError(f'{path} is damaged: {error}') from error
    if not isinstance(numbers, dict):
        raise RunError(f'{path} is not what this command writes')
    return numbers


def plot(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Plots and writes what the arguments ask for."""
    check_device(args.device)
    from .drawing import networks
    from .drawing import theory_figures as plots

    if args.checkpoint is not None:
        _check_models(parser, args)
    makers: dict[int, Callable[[], Any]] = {
        1: plots.figure1,
        2: plots.figure2,
        3: plots.figure3,
        4: plots.figure4,
        5: networks.figure5_digits,
        6: lambda: networks.figure6_digits(args),
    }
    if args.checkpoint is not None:
        makers[5] = lambda: networks.figure5_checkpoints(args)
        makers[6] = lambda: networks.figure6_checkpoints(args)
    for number in args.figures:
        start = time.perf_counter()
        figure, numbers = makers[number]()
        path = args.output / f'figure{number}.png'
        save_figure(figure, path)
        known = {**read_numbers(args.output), f'figure{number}': numbers}
        write_json(args.output / 'figures.json', dict(sorted(known.items())))
        print(f'{path} ({time.perf_counter() - start:.1f} s)', flush=True)
        if number == 6:
            print(markdown(networks.prediction_table(numbers)))
    print(args.output / 'figures.json')


def _check_models(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    from timm.models import is_model

    from .drawing.networks import measured_gains

    if args.model_module is not None:
        try:
            importlib.import_module(args.model_module)
        except ImportError as error:
            parser.error(f'--model-module: {error}')
    for path in args.checkpoint:
        name = args.model or run_settings(path)['model']
        if not is_model(name):
            parser.error(f'--model must be a model that timm knows, got {name!r}')
    if args.results is not None:
        try:
            measured_gains(args.results)
        except ValueError as error:
            parser.error(f'--results: {error}')


@command(PROGRAM)
@only_weights()
def main(argv: list[str]) -> None:
    """Entry point of `hmix-figures`."""
    parser = make_parser()
    args = parser.parse_args(argv)
    check_arguments(parser, args)
    require_packages('matplotlib', 'sklearn', 'tqdm')
    plot(parser, args)


if __name__ == '__main__':
    sys.exit(main())
