"""The paper's Figures 1 to 5, recomputed, and its Theorem 3: `hmix-figures`, or `python -m train_patch.figures`.

    hmix-figures --output figures
    hmix-figures --output figures --figures 3 4 --mix-families my_masks.py --hmix-ratio 0.5
    hmix-figures --output figures -c comparison/digits/*/seed0/args.yaml        # α, r and the like of these runs
    hmix-figures --output figures --figures 5 --model resnet50 --data-dir /data/imagenet --img-size 64 \
        --checkpoint runs/none/model_best.pth.tar runs/cutmix/model_best.pth.tar

Writes figure1.png and so on and, with the numbers behind them, figures.json. `FIGURES` says what each shows and which
data it is made from.
"""

import argparse
import importlib
import json
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from hmix_timm.families import FAMILIES
from hmix_timm.modes import mix_modes

from .common.command import add_rows, add_version, at_least, check_device, check_output, require_packages, row
from .common.errors import WrongArguments, wrong_arguments
from .common.files import locked_folder, write_json
from .common.start import command
from .common.timm_version import OLDEST_FOR_MIXING, OLDEST_FOR_TRAINING, timm_version
from .common.weights import only_weights
from .drawing.pictures import save_figure
from .drawing.trained import OPTIONS, figure5_checkpoints, read_runs
from .mixing import Mixing, declare_parameters, read_parameters, side_by_side, typed_options
from .mixing.asked import option_name

PROGRAM = 'hmix-figures'

FIGURES = {
    1: "Theorem 1 on two moons, the paper's experiment: logistic regression trained with the original and with the "
    'approximate loss',
    2: "Mixup with λ from -0.75 to 0.75, as masks outside [0, 1] would mix (Theorem 2); scikit-learn's photographs in "
    "place of the paper's dog and cat",
    3: "mixes and masks of every family, by default with the paper's options for CIFAR-100; scikit-learn's photographs",
    4: 'regularization coefficients at λ = 0.5 on 64×64 from the masks that the mixers draw, by default with the '
    'options for ImageNet, and the formula of Eq. 11; not of methods whose masks depend on the images',
    5: "Eq. 12, gradient products left after training: small CNNs trained on scikit-learn's digits in place of the "
    "paper's networks on ImageNet at 64×64, or your own --checkpoint",
    6: "Theorem 3, which the paper has no figure of, on Figure 1's two moons: adversarial loss against the approximate "
    'mixing loss, for each method of the paper',
}
"""The content of each figure, for `--help`."""

PRESETS = {3: 'cifar100', 4: 'imagenet', 5: 'cifar100'}
"""Figures that show mix modes → the preset of their parameters."""

NUMBERS = 'figures.json'


def make_parser() -> argparse.ArgumentParser:
    """The command's options; names and meanings are timm's where timm has them."""
    listed = [
        textwrap.fill(f'{number}  {text}', 80, initial_indent='  ', subsequent_indent='     ')
        for number, text in FIGURES.items()
    ]
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Recompute the paper's Figures 1 to 5, check its Theorem 3, and write the numbers behind them.",
        epilog='\n'.join(['figures:', *listed]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    numbers = f'some of {" ".join(map(str, FIGURES))}, see below (default: all of them)'
    every = list(FIGURES)
    add_rows(
        parser,
        [
            row('--output', 'DIR', 'folder for the PNGs and figures.json (required)', required=True, type=Path),
            row('--figures', 'N', numbers, nargs='+', type=int, default=every, choices=every),
        ],
    )
    declare_parameters(parser, 'Parameters of the mix modes in Figures 3 and 4, and 5 without --checkpoint.')
    own = parser.add_argument_group(
        'Figure 5 from your own runs', 'Settings that args.yaml beside a checkpoint holds need not be given.'
    )
    count = at_least(1)
    split = "split to look at (default: args.yaml's, validation, or the folder itself if it has no splits)"
    size = "image size; the cost grows with its 4th power (default: args.yaml's, the model's)"
    add_rows(
        own,
        [
            row('--checkpoint', 'PATH', 'checkpoints, a panel each (default: none)', nargs='+', type=Path),
            row('--model', 'NAME', "timm model of the checkpoints (default: args.yaml's)"),
            row('--model-module', 'MODULE', 'Python module that registers the model with timm (default: none)'),
            row('--num-classes', 'N', "classes of the checkpoints (default: args.yaml's, the model's)", type=count),
            row('--dataset', 'NAME', "data set by its name in timm (default: args.yaml's, a folder of images)"),
            row('--data-dir', 'DIR', "folder of images, or of splits of images (default: args.yaml's)", type=Path),
            row('--split', 'NAME', split),
            row('--img-size', 'N', size, type=count),
            row('--max-images', 'N', 'evenly spaced images of the data (default: all)', type=count),
            row('-b --batch-size', 'N', 'images at a time', type=count, default=64),
            row('-j --workers', 'N', 'loader workers', type=at_least(0), default=2),
            row('--device', 'DEVICE', 'device of the model, as torch names it', default='cpu'),
        ],
    )
    return parser


def read_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parses the arguments, checks everything that needs no torch, and adds `runs` of `--checkpoint` and `mixings`.

    Raises:
        WrongArguments: options contradict each other, or a path is not there or cannot be written.
    """
    with wrong_arguments():
        recipes = read_parameters(argv)
        parser = make_parser()
    args = parser.parse_args(argv)
    args.figures = sorted(set(args.figures))
    for name in (*OPTIONS, 'model_module', 'max_images', 'batch_size', 'workers', 'device'):
        if args.checkpoint is None and getattr(args, name) != parser.get_default(name):
            raise WrongArguments(f'--{name.replace("_", "-")} is for --checkpoint, which is not given')
    if args.checkpoint is not None and 5 not in args.figures:
        figures = ' '.join(map(str, args.figures))
        raise WrongArguments(f'--checkpoint is for Figure 5, which --figures {figures} leaves out')
    if args.output.exists() and not args.output.is_dir():
        raise WrongArguments(f'--output must be a folder, got {args.output}')
    for name in (*(f'figure{number}.png' for number in args.figures), NUMBERS):
        check_output('--output', args.output / name)
    args.runs = read_runs(args) if args.checkpoint else {}
    args.mixings = mixings_of(args, recipes if args.config else [*args.runs.values()])
    return args


def mixings_of(args: argparse.Namespace, recipes: Sequence[Mapping[str, Any]]) -> dict[int, dict[str, Mixing]]:
    """Figure → mix mode → how it mixes, as the command line says, or else recipes, or else the paper.

    Raises:
        WrongArguments: a parameter is wrong, or none of the figures shows it.
    """
    modes = {name: mode for name, mode in mix_modes().items() if mode.draws_masks}
    single = [name for name, mode in modes.items() if not (mode.mixup and mode.family)]
    shown = {
        3: single,
        4: [name for name, mode in modes.items() if not (mode.family and FAMILIES[mode.family].sees)],
        5: ['none', 'mixup', 'cutmix'],
    }
    chosen = [number for number in shown if number in args.figures and not (number == 5 and args.checkpoint)]
    typed, asked = typed_options(args), f'--figures {" ".join(map(str, args.figures))}'
    for dest in [*typed, *['config'] * bool(args.config)]:
        if not chosen or (dest == 'mix_alpha' and 5 not in chosen):
            raise WrongArguments(f'{option_name(dest)} has no effect on {asked}')
    names = list(dict.fromkeys(name for number in chosen for name in shown[number]))
    with wrong_arguments():
        return {
            number: {name: found[name] for name in shown[number]}
            for number in chosen
            if (found := side_by_side(typed, names, asked, recipes, PRESETS[number]))
        }


def read_numbers(path: Path) -> dict[str, Any]:
    """Returns the numbers of earlier figures in a figures.json, {} where there is none.

    Raises:
        WrongArguments: it holds something else.
    """
    try:
        numbers = json.loads(path.read_text(encoding='utf-8')) if path.exists() else {}
    except ValueError as error:
        raise WrongArguments(f'--output: {path} is damaged: {error}') from error
    if not isinstance(numbers, dict):
        raise WrongArguments(f'--output: {path} was not written by {PROGRAM}')
    return numbers


def check_models(args: argparse.Namespace) -> None:
    """Raises RunError where the device, or the model of a run, is not there, or timm is too old for checkpoints."""
    timm_version(*((OLDEST_FOR_TRAINING, '--checkpoint') if args.runs else (OLDEST_FOR_MIXING, 'mixing')))
    check_device(args.device)
    if not args.runs:
        return
    if args.model_module is not None:
        try:
            importlib.import_module(args.model_module)
        except ImportError as error:
            raise WrongArguments(f'--model-module: {error}') from error
    from timm.models import is_model

    from .data import cifar_networks  # noqa: F401  # registers the CIFAR networks with timm

    for settings in args.runs.values():
        if not is_model(settings['model']):
            raise WrongArguments(f'--model must be a model that timm knows, got {settings["model"]!r}')


def draw(args: argparse.Namespace) -> None:
    """Draws the figures, and writes each, after the numbers behind it, as soon as it is there."""
    from .drawing import digit_networks, theory_figures

    figures: dict[int, Callable[[], Iterator[Any]]] = {
        1: theory_figures.figure1,
        2: theory_figures.figure2,
        3: lambda: theory_figures.figure3(args.mixings[3]),
        4: lambda: theory_figures.figure4(args.mixings[4]),
        5: lambda: figure5_checkpoints(args) if args.runs else digit_networks.figure5_digits(args.mixings[5]),
        6: theory_figures.figure6,
    }
    for number in args.figures:
        start = time.perf_counter()
        steps = figures[number]()
        found = next(steps)
        with locked_folder(args.output):  # another call may write other figures there
            numbers = {**read_numbers(args.output / NUMBERS), f'figure{number}': found}
            write_json(args.output / NUMBERS, dict(sorted(numbers.items())))
        path = args.output / f'figure{number}.png'
        save_figure(next(steps), path)
        print(f'{path} ({time.perf_counter() - start:.1f} s)', flush=True)
    print(args.output / NUMBERS)


@command(PROGRAM)
@only_weights()
def main(argv: list[str]) -> None:
    """Entry point of `hmix-figures`."""
    args = read_arguments(argv)
    read_numbers(args.output / NUMBERS)
    require_packages('matplotlib', 'scipy', 'sklearn', 'tqdm')
    check_models(args)
    draw(args)


if __name__ == '__main__':
    sys.exit(main())
