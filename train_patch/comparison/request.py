"""From the command line of hmix-compare to a `Comparison`: its options, and the checks of what they say."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hmix_timm.families import FAMILIES
from hmix_timm.modes import mix_modes

from ..common.command import add_version, at_least
from ..common.errors import WrongArguments
from ..data.digits import digits_path
from ..mixing import declare, share_options
from ..recipes.published import PAPER_MODES, PUBLISHED
from ..recipes.reader import RECIPE_FOLDER, find_recipe, shipped_recipes
from .comparison import Comparison, Variant
from .training_arguments import USAGE, resolve

DIGITS_RECIPE = RECIPE_FOLDER / 'digits.yaml'

# Training options that each run needs for itself → how to ask for that here.
_OWN_OPTIONS = {
    '--mix-mode': '--modes says which mix modes to train',
    '--cutmix-mode': '--cutmix-modes says which masks to train',
    '--mode': '--modes says which mix modes to train',
    '--seed': '--seeds says which seeds to train with',
    '--output': '--output DIR holds all runs',
    '--experiment': '--output DIR holds all runs',
    '--resume': 'interrupted runs are resumed when the command is given again',
    '--config': 'the recipe is the first argument',
    '--nnodes': 'start a run on several machines with torchrun, from its line of --dry-run',
}
_TIMMS_OPTIONS = ('--cutmix', '--cutmix-m')  # they do not abbreviate --cutmix-mode
# the part of the mixing group that belongs to the whole comparison; the rest belongs to single variants
_SHARED_MIXING = ('mix_mode', 'cutmix_mode', 'mix_preset', 'mix_families', 'mix_digest')


def build_parser() -> argparse.ArgumentParser:
    """Builds the parser of hmix-compare's own options; all other options are training's."""
    parser = argparse.ArgumentParser(
        prog='hmix-compare',
        usage=USAGE,
        description='Train one recipe under several mix modes and seeds, and print the table of the paper.',
        allow_abbrev=False,
    )
    add = parser.add_argument
    recipes = ', '.join(shipped_recipes())
    add(
        'recipe',
        metavar='RECIPE',
        help=f'YAML file, or a shipped recipe: {recipes}; must come first (default: digits)',
    )
    varied = parser.add_mutually_exclusive_group()
    varied.add_argument(
        '--modes',
        nargs='+',
        choices=tuple(mix_modes()),
        metavar='MODE',
        help=f'mix modes to train: {", ".join(mix_modes())} (default: {" ".join(PAPER_MODES)})',
    )
    varied.add_argument(
        '--cutmix-modes',
        nargs='+',
        choices=tuple(FAMILIES),
        metavar='MASK',
        help=f"masks to train in place of the recipe's CutMix, with the recipe's mixing: {', '.join(FAMILIES)}",
    )
    add(
        '--seeds',
        nargs='+',
        type=at_least(0),
        default=[0, 1, 2],
        metavar='K',
        help='seeds to train with (default: 0 1 2)',
    )
    add('--output', type=Path, metavar='DIR', help='folder of all runs and results (default: comparison/<recipe>)')
    add('--script', type=Path, metavar='TRAIN.PY', help="timm's train.py to train with (default: this project's own)")
    add(
        '--jobs',
        type=at_least(1),
        default=1,
        metavar='N',
        help='runs to train at once, each with a GPU of its own or an equal share of the cores (default: 1)',
    )
    add(
        '--nproc-per-node',
        '--nproc_per_node',
        type=at_least(1),
        metavar='N',
        help='processes of each run, which torchrun starts (default: a run is one plain process)',
    )
    add('--dry-run', action='store_true', help='print the launch line of each unfinished run; train and write nothing')
    add_version(parser)
    group = parser.add_argument_group('mixing', 'each option goes to the rows that use it')
    for action in _variant_actions():  # as text, which training resolves
        kind: dict[str, Any] = {'metavar': action.metavar}
        if action.nargs == 0:
            kind = {'action': 'store_const', 'const': ''}
        group.add_argument(*action.option_strings, help=action.help, **kind)
    return parser


def _variant_actions() -> list[argparse.Action]:
    """Returns the part of the mixing group that belongs to single rows."""
    scratch = argparse.ArgumentParser(add_help=False)
    declare(scratch)
    return [action for action in scratch._actions if action.dest not in _SHARED_MIXING]


def read_comparison(options: argparse.Namespace, passed: Sequence[str]) -> Comparison:
    """Checks the command line and the recipe, also with training's own parser.

    Args:
        options: from `build_parser()`.
        passed: the words that it did not know.

    Raises:
        WrongArguments: an option is wrong; the message names it and its value.
    """
    if options.jobs > 1 and options.nproc_per_node:
        raise WrongArguments(f'--jobs {options.jobs} cannot go with --nproc-per-node: that run has the machine alone')
    if options.script is not None and not options.script.is_file():
        raise WrongArguments(f'--script {options.script}: no such file')
    _check_passed(passed)
    recipe = find_recipe(options.recipe).resolve()
    script = None if options.script is None else options.script.resolve()
    option, asked, names = '--mix-mode', '--modes', dict.fromkeys(options.modes or PAPER_MODES)
    colours = {name: mode.colour for name, mode in mix_modes().items()}
    if options.cutmix_modes:
        option, asked, names = '--cutmix-mode', '--cutmix-modes', dict.fromkeys(options.cutmix_modes)
        colours = {name: family.colour for name, family in FAMILIES.items()}
    given = {action.dest: getattr(options, action.dest) for action in _variant_actions()}
    typed = {dest: value for dest, value in given.items() if value is not None}
    used = share_options(typed, option[2:].replace('-', '_'), list(names), asked)
    data = ['--data-dir', str(digits_path())] if recipe == DIGITS_RECIPE else []
    lines = [['-c', str(recipe), option, name, *_words(used[name]), *data, *passed] for name in names]
    of_paper = recipe.parent == RECIPE_FOLDER and recipe.stem in PUBLISHED  # any other is not read by itself
    resolved = resolve(script, [*lines, *[['-c', str(recipe)]] * of_paper])
    if not (resolved[0].get('data_dir') or resolved[0].get('data') or resolved[0]['dataset'].startswith('hfds/')):
        raise WrongArguments(f'recipe {recipe.stem} needs data: give its folder with --data-dir')
    folder = Path('comparison', recipe.stem + ('-cutmix-modes' if options.cutmix_modes else ''))
    return Comparison(
        recipe=recipe,
        variants=tuple(
            Variant(name, colours[name], bool(used[name]), tuple(line), values)
            for name, line, values in zip(names, lines, resolved, strict=False)
        ),
        seeds=tuple(dict.fromkeys(options.seeds)),
        output=(options.output or folder).absolute(),
        script=script,
        jobs=options.jobs,
        nproc_per_node=options.nproc_per_node,
        arguments=(*passed, *_words(typed)),
        plain=resolved[-1] if of_paper else {},
    )


def _words(options: Mapping[str, str]) -> list[str]:
    """Returns options as the words of a command line; the value of a flag is ''."""
    return [word for dest, value in options.items() for word in ('--' + dest.replace('_', '-'), value) if word]


def _check_passed(passed: Sequence[str]) -> None:
    """Raises WrongArguments for training options that each run needs for itself, and for a recipe that is not first."""
    for word in passed:
        if word.endswith(('.yaml', '.yml')) and not word.startswith('-'):
            raise WrongArguments(f'{word!r}: a recipe must be the first argument')
        name = '--config' if word.startswith('-c') else word.split('=')[0]
        for option, instead in _OWN_OPTIONS.items():  # training's parser takes abbreviations
            if name.startswith('--') and option.startswith(name) and name not in _TIMMS_OPTIONS:
                raise WrongArguments(f'{word} cannot be passed through: {instead}')
