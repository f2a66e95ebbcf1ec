"""Pictures of what mixing does to your images: `hmix-preview`, or `python -m train_patch.preview`.

    hmix-preview --mix-mode hmix                                          # two photographs
    hmix-preview --images digits --mix-mode puzzlemix --initial-checkpoint runs/first/model_best.pth.tar
    hmix-preview --images digits --mix-mode gmix --mixup-mode elem
    hmix-preview -c recipe.yaml --data-dir /data/imagenet --mix-mode hmix --seed 7
    hmix-preview --grid mixup cutmix hmix gmix --lam 0.65 --hmix-ratio 0.5     # the paper's Figure 3

Images go through timm's training transform, `FastCollateMixup` and timm's loader, in batches of two: a row of the
picture is a sample as a training run with these arguments would get it. The mask is not worked out a second time: the
mixer is run again from the same random state on a white and a black image, and what comes out is the mask. PuzzleMix
asks the model, which has the weights of --initial-checkpoint or --pretrained, and its saliency is shown, too.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hmix_timm.checks import check_number
from hmix_timm.modes import mix_modes

from .common.command import add_version, check_output
from .common.start import command
from .common.timm_version import require_timm_for_training
from .common.weights import only_weights
from .data.digits import digits_folder
from .drawing.grid import grid_masks, grid_slots
from .mixing import Mixing, declare, load_mix_families
from .recipes.reader import RECIPE_FOLDER, find_recipe, read_recipe, shipped_recipes
from .trainer.arguments import WrongArguments, parse_arguments

PROGRAM = 'hmix-preview'
USAGE = (
    'hmix-preview [-o FILE] [--rows N] [--seed S] [-c RECIPE] [--images SET | --data-dir DIR] '
    '[--grid MODE ... [--lam L]] [any training argument]'
)
IMAGES = ('photos', 'digits')
DIGITS_RECIPE = RECIPE_FOLDER / 'digits.yaml'
MAX_ROWS = 32
MAX_SIDE = 1024
FILE_TYPES = ('.png', '.jpg', '.jpeg', '.pdf', '.svg', '.webp')

# With this one the first rows show something in every mix mode and in modes batch, pair and elem alike: no λ among
# them is near 0 or 1, where half of all λ ~ Beta(1, 1) would be hard to see.
SEED = 91

# what a training loader would do that this one does not
_NOT_SHOWN = ('naflex_loader', 'aug_splits', 'jsd_loss', 'train_img_sizes')


def build_parser() -> argparse.ArgumentParser:
    """The command's own options; everything else is training's."""
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
        help=f'picture to write, of the type that its name ends in: {", ".join(FILE_TYPES)} (default: preview.png)',
    )
    parser.add_argument('--rows', type=int, metavar='N', help=f'samples to show, up to {MAX_ROWS} (default: 4)')
    parser.add_argument(
        '--seed',
        type=int,
        default=SEED,
        metavar='S',
        help=f'seed of all that is drawn (default: {SEED}, which shows something in the first rows)',
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        '--data-dir',
        metavar='DIR',
        help="folder with train/ and in it one for each class (default: the recipe's)",
    )
    source.add_argument(
        '--images',
        choices=IMAGES,
        help="images that come with scikit-learn; the digits as the recipe digits takes them (default: the recipe's "
        'images, or else photos)',
    )
    grid = parser.add_argument_group('mix modes side by side, on the same pair and at the same λ')
    grid.add_argument(
        '--grid', nargs='+', metavar='MODE', help=f'some of {", ".join(mix_modes())} (default: no grid, but samples)'
    )
    grid.add_argument('--lam', type=float, metavar='L', help='λ of the grid, from 0 to 1 (default: 0.65)')
    return parser


def _help_on_training() -> str:
    group = argparse.ArgumentParser(add_help=False, usage=argparse.SUPPRESS)
    declare(group)
    return (
        'Training arguments are those of hmix-train; what does not change the images has no effect. Among them:\n'
        f'  -c RECIPE   a YAML file, or a shipped recipe: {", ".join(shipped_recipes())}\n'
        f'  --img-size N, up to {MAX_SIDE}, --aa, --reprob, --train-padding, …   what happens before mixing\n'
        '  --mixup A, --cutmix A, --mixup-prob P, --mixup-mode MODE, --smoothing X, …   mixing as timm has it\n'
        'Without a recipe and without any mixing the mix mode is hmix.\n\n' + group.format_help()
    )


@command(PROGRAM)
@only_weights()
def main(argv: list[str]) -> None:
    """Writes the picture that the command line asks for."""
    try:
        load_mix_families(argv, {})  # their options and modes are in the help, too
        parser = build_parser()
    except ValueError as error:
        argparse.ArgumentParser(PROGRAM, USAGE).error(str(error))
    options, line = parser.parse_known_args(argv)
    try:
        _check_options(options)
        figure = (_grid_figure if options.grid else _samples_figure)(options, line)
    except (ValueError, WrongArguments) as error:
        parser.error(str(error))
    from .drawing.pictures import save_figure

    save_figure(figure, options.output)
    print(options.output)


def _check_options(options: argparse.Namespace) -> None:
    """Raises ValueError for what is wrong with the command's own options."""
    if options.output.suffix.lower() not in FILE_TYPES:
        raise ValueError(f'--output must end in one of {", ".join(FILE_TYPES)}, got {options.output}')
    check_output('--output', options.output)
    if options.rows is not None and not 1 <= options.rows <= MAX_ROWS:
        raise ValueError(f'--rows must be from 1 to {MAX_ROWS}, got {options.rows}')
    if not 0 <= options.seed < 2**32:
        raise ValueError(f'--seed must be from 0 to {2**32 - 1}, got {options.seed}')
    if options.grid and options.rows is not None:
        raise ValueError('--rows is not for --grid, which shows one pair')
    if options.lam is not None:
        if not options.grid:
            raise ValueError('--lam is for --grid, which is not given')
        check_number('--lam', options.lam, high=1.0)


def _recipe_name(line: Sequence[str]) -> str | None:
    peek = argparse.ArgumentParser(add_help=False)
    peek.add_argument('-c', '--config')
    return peek.parse_known_args(list(line))[0].config


def _read_shown_recipe(name: str | None) -> dict[str, Any]:
    """The recipe, {} without one.

    Raises:
        ValueError: it cannot be read, or asks for what this command cannot show.
    """
    recipe = read_recipe(name) if name else {}
    for key in _NOT_SHOWN:
        if recipe.get(key):
            raise ValueError(f'{key} of recipe {name} must be off: what it delivers is not what this command can show')
    return recipe


def parse_training(options: argparse.Namespace, line: Sequence[str]) -> tuple[argparse.Namespace, Mixing]:
    """What training makes of its arguments, with the images that the command's own options name."""
    name = _recipe_name(line)
    on_digits = name is not None and find_recipe(name) == DIGITS_RECIPE
    images = options.images
    if images is None and on_digits and not options.data_dir:
        images = 'digits'
    if images == 'digits' and name is None:
        line = ['-c', str(DIGITS_RECIPE), *line]
    if options.data_dir is not None:
        line = [*line, '--data-dir', options.data_dir]
    args, mixing = parse_arguments(line, PROGRAM, USAGE, strict=False)
    if mixing.replaced:
        print(mixing.replaced)
    side = max(args.img_size or 0, *(args.input_size or [0])[-2:])
    if side > MAX_SIDE:
        raise ValueError(f'--img-size must be up to {MAX_SIDE} here, got {side}')
    if images is not None:
        args.dataset, args.data_dir = '', str(digits_folder()) if images == 'digits' else None
        args.num_classes = None  # of the data that the recipe is for
    return args, mixing


def _samples_figure(options: argparse.Namespace, line: list[str]) -> Any:
    """The picture of what a training's loader delivers."""
    name = _recipe_name(line)
    _read_shown_recipe(name)
    args, mixing = parse_training(options, line)
    if mixing.mode is None and not mixing.active:
        if name is not None:
            raise ValueError('nothing is mixed: the recipe does not, and there is no --mix-mode')
        args, mixing = parse_training(options, [*line, '--mix-mode', 'hmix'])
    require_timm_for_training()  # takes seconds to import timm, for which no typo waits
    from .drawing.preview_plot import plot_samples

    if mixing.needs_model:
        from .drawing.puzzle_samples import record_puzzle_samples as record
    else:
        from .drawing.samples import record_samples as record
    samples, mixer = record(args, mixing, options.seed, 4 if options.rows is None else options.rows)
    print(f'Mixing: {mixer}', flush=True)
    return plot_samples(samples, mixer)


def _grid_figure(options: argparse.Namespace, line: list[str]) -> Any:
    """The picture of mix modes side by side: the group's options are for all of them that have a use for it."""
    recipe = _read_shown_recipe(_recipe_name(line))
    group = argparse.ArgumentParser(PROGRAM, USAGE, add_help=False, allow_abbrev=False)
    declare(group)
    known, others = group.parse_known_args(line)
    typed = {dest: value for dest, value in vars(known).items() if value not in (None, False)}
    for dest in ('mix_mode', 'cutmix_mode', 'mix_alpha', 'mix_literal'):
        if dest in typed:
            raise ValueError(
                f'--{dest.replace("_", "-")} is not for --grid, which shows one pair with every mode at one λ'
            )
    lam = 0.65 if options.lam is None else options.lam
    slots = grid_slots(options.grid, typed, recipe)
    args, mixing = parse_training(options, [*others, '--mix-mode', 'none'])
    require_timm_for_training()
    from .drawing.pictures import mix_grid
    from .drawing.preview_plot import to_rgb
    from .drawing.samples import record_samples

    (sample, *_), _ = record_samples(args, mixing, options.seed, 1)
    own, other = to_rgb(sample.own), to_rgb(sample.other)
    return mix_grid(own, other, grid_masks(slots, lam, own.shape[:2], options.seed), f'λ = {lam:g}')


if __name__ == '__main__':
    sys.exit(main())
