"""Draws what mixing does to your images: `hmix-preview`, or `python -m train_patch.preview`.

    hmix-preview --mix-mode hmix                                          # two photographs
    hmix-preview --images digits --mix-mode puzzlemix --initial-checkpoint runs/first/model_best.pth.tar
    hmix-preview --images digits --mix-mode gmix --mixup-mode elem
    hmix-preview -c recipe.yaml --data-dir /data/imagenet --mix-mode hmix --seed 7
    hmix-preview --grid mixup cutmix hmix gmix --lam 0.65 --hmix-ratio 0.5     # the paper's Figure 3

Images go through timm's training transform, `FastCollateMixup` and timm's loader, in batches of two: a row of the
picture is a sample as a training run with these arguments would get it. The mask is not computed a second time: the
mixer runs again from the same random state on a white and a black image, which gives the mask. PuzzleMix asks the
model, which has the weights of --initial-checkpoint or --pretrained, and its saliency is shown, too.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from hmix_timm.checks import check_choice, check_number
from hmix_timm.modes import mix_modes

from .common.command import add_version, at_least, check_output, require_packages
from .common.errors import wrong_arguments
from .common.start import command
from .common.timm_version import require_timm_for_training
from .common.weights import only_weights
from .data.digits import digits_folder
from .mixing import Mixing, declare, peek_recipes, side_by_side, typed_options
from .recipes.reader import RECIPE_FOLDER, find_recipe, shipped_recipes
from .trainer.arguments import parse_arguments

PROGRAM = 'hmix-preview'
USAGE = (
    'hmix-preview [-o FILE] [--rows N] [--seed S] [-c RECIPE] [--images SET | --data-dir DIR] '
    '[--grid [MODE ...] [--lam L]] [any training argument]'
)
DIGITS_RECIPE = RECIPE_FOLDER / 'digits.yaml'
MAX_ROWS = 32
MAX_SIDE = 1024
FILE_TYPES = ('.png', '.jpg', '.jpeg', '.pdf', '.svg', '.webp')

# With this one the first rows show something in every mix mode and in modes batch, pair and elem alike: no λ among
# them is near 0 or 1, where half of all λ ~ Beta(1, 1) would be hard to see.
SEED = 91


def build_parser() -> argparse.ArgumentParser:
    """The command's own options; all others are training's."""
    parser = argparse.ArgumentParser(
        PROGRAM,
        USAGE,
        'Show what mixing does: images, masks, mixed images and label weights in one picture.',
        epilog=_help_on_training(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_version(parser)
    parser.add_argument(
        '-o',
        '--output',
        type=Path,
        default=Path('preview.png'),
        metavar='FILE',
        help=f'picture to write; its suffix, one of {", ".join(FILE_TYPES)}, is its format (default: preview.png)',
    )
    parser.add_argument(
        '--rows', type=at_least(1, up_to=MAX_ROWS), metavar='N', help=f'samples to show, up to {MAX_ROWS} (default: 4)'
    )
    parser.add_argument(
        '--seed',
        type=at_least(0, up_to=2**32 - 1),
        default=SEED,
        metavar='S',
        help=f'seed of all random numbers (default: {SEED}, which shows something in the first rows)',
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        '--data-dir', metavar='DIR', help="folder with train/ and in it one for each class (default: the recipe's)"
    )
    source.add_argument(
        '--images',
        choices=('photos', 'digits'),
        help="images that come with scikit-learn; the digits as the recipe digits takes them (default: the recipe's "
        'images, or else photos)',
    )
    grid = parser.add_argument_group('mix modes side by side, on the same pair and at the same λ')
    grid.add_argument(
        '--grid',
        nargs='*',
        metavar='MODE',
        help=f'some of {", ".join(_modes_of_grid())}; without a MODE all of them (default: no grid, but samples)',
    )
    grid.add_argument('--lam', type=float, metavar='L', help='λ of the grid, from 0 to 1 (default: 0.65)')
    return parser


def _help_on_training() -> str:
    group = argparse.ArgumentParser(add_help=False, usage=argparse.SUPPRESS)
    declare(group)
    return (
        'Training arguments are those of hmix-train; those that do not change the images have no effect. Among them:\n'
        f'  -c RECIPE   a YAML file, or a shipped recipe: {", ".join(shipped_recipes())}\n'
        f'  --img-size N, up to {MAX_SIDE}, --aa, --reprob, --train-padding, …   what happens before mixing\n'
        '  --mixup A, --cutmix A, --mixup-prob P, --mixup-mode MODE, --smoothing X, …   mixing as timm has it\n'
        'Without a recipe and without any mixing the mix mode is hmix.\n\n' + group.format_help()
    )


def _modes_of_grid() -> list[str]:
    return [name for name, mode in mix_modes().items() if not mode.needs_model]


@command(PROGRAM)
@only_weights()
def main(argv: list[str]) -> None:
    """Writes the picture that the command line asks for."""
    with wrong_arguments():
        (name,), (recipe,) = peek_recipes(argv, PROGRAM, USAGE)
        options, line = build_parser().parse_known_args(argv)
        _check_options(options)
    figure = _samples_figure(options, line, name) if options.grid is None else _grid_figure(options, line, name, recipe)
    from .drawing.pictures import save_figure

    save_figure(figure, options.output)
    print(options.output)


def _check_options(options: argparse.Namespace) -> None:
    """Raises ValueError for a wrong option of the command's own."""
    check_choice('the suffix of --output', options.output.suffix.lower(), FILE_TYPES)
    check_output('--output', options.output)
    if options.grid is not None and options.rows is not None:
        raise ValueError('--rows is not for --grid, which shows one pair')
    if options.lam is not None:
        if options.grid is None:
            raise ValueError('--lam is for --grid, which is not given')
        check_number('--lam', options.lam, high=1.0)


def parse_training(options: argparse.Namespace, line: list[str], name: str | None) -> tuple[argparse.Namespace, Mixing]:
    """Reads training's arguments.

    Args:
        options: the command's own, which choose the images.
        line: all other arguments.
        name: of the recipe among them.

    Returns:
        Training's arguments and how it mixes.
    """
    images = options.images
    if images is None and not options.data_dir and name and find_recipe(name) == DIGITS_RECIPE:
        images = 'digits'
    line = ['-c', str(DIGITS_RECIPE), *line] if images == 'digits' and not name else line
    line = line if options.data_dir is None else [*line, '--data-dir', options.data_dir]
    args, mixing = parse_arguments(line, PROGRAM, USAGE, strict=False)
    if mixing.replaced:
        print(mixing.replaced)
    check_number('--img-size', max(args.img_size or 0, *(args.input_size or [0])[-2:]), high=MAX_SIDE)
    if images is not None:
        args.dataset, args.data_dir = '', str(digits_folder()) if images == 'digits' else None
        args.num_classes, args.class_map, args.train_split = None, '', 'train'  # of the images, not of the recipe's
    return args, mixing


def _samples_figure(options: argparse.Namespace, line: list[str], name: str | None) -> Any:
    """Draws the samples that a training's loader delivers."""
    with wrong_arguments():
        args, mixing = parse_training(options, line, name)
        if mixing.mode is None and not mixing.active:
            if name:
                raise ValueError('nothing is mixed: the recipe does not mix, and --mix-mode is not given')
            args, mixing = parse_training(options, [*line, '--mix-mode', 'hmix'], name)
    _require()
    from .drawing.pictures import plot_samples
    from .drawing.samples import record_batches

    rows = options.rows or 4
    batches, mixer = record_batches(args, mixing, options.seed, rows if args.mixup_mode == 'half' else (rows + 1) // 2)
    print(f'Mixing: {mixer}', flush=True)
    return plot_samples(batches, rows, mixer)


def _grid_figure(options: argparse.Namespace, line: list[str], name: str | None, recipe: dict[str, Any]) -> Any:
    """Draws mix modes side by side: each takes those of the mixing options that it has."""
    group = argparse.ArgumentParser(PROGRAM, USAGE, add_help=False, allow_abbrev=False)
    declare(group)
    known, others = group.parse_known_args(line)
    typed = typed_options(known)
    modes = options.grid or _modes_of_grid()
    with wrong_arguments():
        for dest in ('mix_mode', 'cutmix_mode', 'mix_alpha', 'mix_literal'):
            if dest in typed:
                option = f'--{dest.replace("_", "-")}'
                raise ValueError(f'{option} is not for --grid, which shows one pair with every mode at one λ')
        for mode in modes:
            check_choice('--grid', mode, _modes_of_grid())
        mixings = side_by_side(typed, modes, '--grid', [recipe])
        args, mixing = parse_training(options, [*others, '--mix-mode', 'none'], name)
    _require()
    from .drawing.grid import grid_masks
    from .drawing.pictures import mix_grid, to_rgb
    from .drawing.samples import record_batches

    (batch,), _ = record_batches(args, mixing, options.seed, 1)
    lam = 0.65 if options.lam is None else options.lam
    own, other = map(to_rgb, batch.images)
    return mix_grid(own, other, grid_masks(mixings, lam, (own, other), options.seed), f'λ = {lam:g}')


def _require() -> None:
    """Raises RunError where something is missing; takes seconds to import timm, for which no typo waits."""
    require_packages('matplotlib', 'sklearn', 'tqdm')
    require_timm_for_training()


if __name__ == '__main__':
    sys.exit(main())
