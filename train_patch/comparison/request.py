"""From the command line of hmix-compare to a `Comparison`: its options, and the checks of what they say."""

import argparse
import itertools
import os
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from hmix_timm.families import FAMILIES
from hmix_timm.modes import mix_modes

from ..common.command import add_version, at_least
from ..common.errors import WrongArguments
from ..data.digits import digits_path
from ..mixing import declare, share_options
from ..mixing.asked import option_name
from ..recipes.published import PAPER_MODES
from ..recipes.reader import RECIPE_FOLDER, find_recipe, shipped_recipes
from .comparison import Comparison, Variant
from .evaluation import KINDS
from .results import check_baselines
from .submit import job_parameters
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

_PATHS = ('data_dir', 'mix_families', 'class_map', 'initial_checkpoint', 'pretrained_path')


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
        metavar='MODE',
        help=f'mix modes to train: {", ".join(mix_modes())} (default: {" ".join(PAPER_MODES)}); '
        'a mode may have settings of its own: hmix:hmix_ratio=0.5,mix_alpha=0.2',
    )
    varied.add_argument(
        '--cutmix-modes',
        nargs='+',
        metavar='MASK',
        help=f"masks to train in place of the recipe's CutMix, with the recipe's mixing: {', '.join(FAMILIES)}",
    )
    add(
        '--vary',
        action='append',
        default=[],
        metavar='KEY=VALUE,VALUE,...',
        help='train the modes that have a use for an argument with each of its values; several make a grid',
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
    how = parser.add_mutually_exclusive_group()
    how.add_argument(
        '--jobs',
        type=at_least(1),
        metavar='N',
        help='runs to train at once, each with a GPU of its own or an equal share of the cores (default: 1; on the '
        'digits one for each core)',
    )
    how.add_argument(
        '--nproc-per-node',
        '--nproc_per_node',
        type=at_least(1),
        metavar='N',
        help='processes of each run, which torchrun starts (default: a run is one plain process)',
    )
    how.add_argument('--submit', choices=('slurm', 'local'), help='train each run as a job of Slurm or of this machine')
    add(
        '--submit-option',
        nargs='+',
        default=[],
        metavar='KEY=VALUE',
        help="parameters of submitit's AutoExecutor: slurm_partition=… nodes=… gpus_per_node=… timeout_min=… "
        '(default: one process a run, or one for each GPU of a node; a day)',
    )
    results = parser.add_argument_group('results')
    results.add_argument(
        '--table',
        nargs='+',
        metavar='DIR',
        help='train nothing: make the table of all runs in these folders; several recipes are columns, under the names '
        'of their folders',
    )
    results.add_argument(
        '--format', choices=('md', 'csv', 'latex'), default='md', help='form of --table on the screen (default: md)'
    )
    results.add_argument('--metric', metavar='COLUMN', help='column of summary.csv (default: eval_top1, or eval_map)')
    results.add_argument(
        '--last', type=at_least(1), default=1, metavar='K', help='mean over the last K validated epochs (default: 1)'
    )
    results.add_argument(
        '--baseline', nargs='+', metavar='ROW', help='modes, or names of rows, to compare with (default: none cutmix)'
    )
    results.add_argument('--holm', action='store_true', help="correct for the number of rows by Holm's method")
    evaluation = parser.add_argument_group(
        'evaluation', 'of the last checkpoint of each finished run, also of runs of --table'
    )
    evaluation.add_argument(
        '--evaluate',
        nargs='+',
        choices=KINDS,
        default=[],
        metavar='WHAT',
        help=f'measure also {", ".join(KINDS)} (default: nothing)',
    )
    evaluation.add_argument('--data-dir', metavar='DIR', help='the data, also where they are now for runs of --table')
    evaluation.add_argument(
        '--attack-eps',
        type=_size_of_attack,
        default=8 / 255,
        metavar='E',
        help="largest change of a pixel's value, from 0 to 1, by fgsm and pgd (default: 8/255)",
    )
    evaluation.add_argument(
        '--evaluate-images',
        type=at_least(1),
        default=1000,
        metavar='N',
        help='validation images for fgsm, pgd, corruption and occlusion, evenly spaced (default: 1000)',
    )
    add('--dry-run', action='store_true', help='print the launch line of each unfinished run; train and write nothing')
    add_version(parser)
    group = parser.add_argument_group('mixing', 'each option goes to the rows that use it')
    for action in _variant_actions():  # as text, which training resolves
        flag = {'action': 'store_const', 'const': 'true'}
        kind: dict[str, Any] = flag if action.nargs == 0 else {'metavar': action.metavar}
        group.add_argument(*action.option_strings, help=action.help, **kind)
    return parser


def _size_of_attack(text: str) -> float:
    try:
        value = float(Fraction(text))
    except (ValueError, ZeroDivisionError):
        value = -1.0
    if not 0.0 < value <= 1.0:
        raise argparse.ArgumentTypeError(f'must be a number or a fraction above 0 and up to 1, got {text!r}')
    return value


def _variant_actions() -> list[argparse.Action]:
    """Returns the part of the mixing group that belongs to single rows."""
    scratch = argparse.ArgumentParser(add_help=False)
    declare(scratch)
    return [action for action in scratch._actions if action.dest not in _SHARED_MIXING]


def _setting(text: str) -> tuple[str, str]:
    key, equals, value = text.partition('=')
    if not (key and equals):
        raise WrongArguments(f'{text!r} must be KEY=VALUE (--modes MODE:KEY=VALUE, --vary, --submit-option)')
    return key.lstrip('-').replace('-', '_'), value


def read_comparison(options: argparse.Namespace, passed: Sequence[str]) -> Comparison:
    """Checks the command line and the recipe, also with training's own parser.

    Args:
        options: from `build_parser()`.
        passed: the words that it did not know.

    Raises:
        WrongArguments: an option is wrong; the message names it and its value.
    """
    if options.submit_option and not options.submit:
        raise WrongArguments('--submit-option needs --submit')
    options.submit_option = job = job_parameters(dict(map(_setting, options.submit_option)))
    options.nodes = job['nodes']
    if job['tasks_per_node'] * options.nodes > 1:
        options.nproc_per_node = job['tasks_per_node']
    if options.script is not None and not options.script.is_file():
        raise WrongArguments(f'--script {options.script}: no such file')
    recipe = find_recipe(options.recipe).resolve()
    passed = [*passed, *(['--data-dir', options.data_dir] if options.data_dir is not None else [])]
    script = None if options.script is None else options.script.resolve()
    option, asked, colours = '--mix-mode', '--modes', {name: mode.colour for name, mode in mix_modes().items()}
    if options.cutmix_modes:
        option, asked, colours = '--cutmix-mode', '--cutmix-modes', {n: f.colour for n, f in FAMILIES.items()}
    modes = [text.partition(':')[::2] for text in options.cutmix_modes or options.modes or PAPER_MODES]
    if unknown := [name for name, _ in modes if name not in colours]:
        raise WrongArguments(f'{asked} {unknown[0]}: must be one of {", ".join(colours)}')
    selector, names = option[2:].replace('-', '_'), list(dict.fromkeys(name for name, _ in modes))
    given = {action.dest: getattr(options, action.dest) for action in _variant_actions()}
    typed = {dest: value for dest, value in given.items() if value is not None}
    used = share_options(typed, selector, names, asked)
    rows = _grid(modes, share_options(dict(map(_setting, options.vary)), selector, names, asked))
    _check_passed([*passed, *(option_name(key) for _, settings in rows for key in settings)])
    data = ['--data-dir', str(digits_path())] if recipe == DIGITS_RECIPE else []
    lines = [
        ['-c', str(recipe), option, name, *_words(used[name], settings), *data, *passed, *_words(settings)]
        for name, settings in rows
    ]
    resolved = resolve(script, lines)
    if not (resolved[0].get('data_dir') or resolved[0].get('data') or resolved[0]['dataset'].startswith('hfds/')):
        raise WrongArguments(f'recipe {recipe.stem} needs data: give its folder with --data-dir')
    lines, resolved = zip(*map(_from_anywhere, lines, resolved), strict=True)
    shown = [tuple((key, ','.join(value.split())) for key, value in settings.items()) for _, settings in rows]
    variants = tuple(
        Variant(name, words, colours[name], line, values)
        for (name, _), words, line, values in zip(rows, shown, lines, resolved, strict=True)
    )
    _check_rows(variants)
    check_baselines(options.baseline, variants)
    folder = Path('comparison', recipe.stem + ('-cutmix-modes' if options.cutmix_modes else ''))
    output = (options.output or folder).absolute()
    return Comparison(recipe, variants, output, script, options, (*passed, *_words(typed)))


def _from_anywhere(line: Sequence[str], resolved: Mapping[str, Any]) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The words of a line and what they resolve to, with absolute paths, also where the recipe names them."""
    paths = {key: os.path.abspath(path) for key in _PATHS if (path := resolved.get(key))}
    others = [(option_name(key), value) for key, value in resolved.items() if key not in paths]
    words = [  # what another option says, such as the mode, stays as it is, whatever a folder is called
        os.path.abspath(word) if word in map(resolved.get, paths) and (before, word) not in others else word
        for before, word in itertools.pairwise(['', *line])
    ]
    more = [word for key, path in paths.items() if path not in words for word in (option_name(key), path)]
    return (*words, *more), {**resolved, **paths}


def _grid(modes: Sequence[Sequence[str]], varied: Mapping[str, Mapping[str, str]]) -> list[tuple[str, dict[str, str]]]:
    """Each (mode, its own settings) with each combination of the values that vary for it besides."""
    rows = []
    for name, settings in modes:
        own = dict(_setting(part) for part in settings.split(',') if part)
        axes = [[(key, one) for one in values.split(',')] for key, values in varied[name].items() if key not in own]
        rows += [(name, {**own, **dict(point)}) for point in itertools.product(*axes)]
    return [row for place, row in enumerate(rows) if row not in rows[:place]]


def _check_rows(variants: Sequence[Variant]) -> None:
    """Raises WrongArguments for a setting that does nothing, and for two rows that train the same."""
    for place, variant in enumerate(variants):
        for key, value in variant.settings:
            if key not in variant.resolved:
                raise WrongArguments(f'row {variant.name!r}: training has no option {key!r}')
            if value == 'false' and variant.resolved[key]:
                raise WrongArguments(f'row {variant.name!r}: the recipe turns {key} on, and no option turns it off')
        for other in variants[:place]:
            if other.resolved == variant.resolved:
                raise WrongArguments(f'rows {other.name!r} and {variant.name!r} would train the same')


def _words(options: Mapping[str, str], without: Collection[str] = ()) -> list[str]:
    """Options as the words of a command line: true and false turn a flag on and off, spaces part several values."""
    given = {key: value for key, value in options.items() if key not in without and value != 'false'}
    words = {key: [] if value == 'true' else value.split() or [''] for key, value in given.items()}
    return [word for key, values in words.items() for word in (option_name(key), *values)]


def _check_passed(passed: Sequence[str]) -> None:
    """Raises WrongArguments for training options that each run needs for itself, and for a recipe that is not first."""
    for word in passed:
        if word.endswith(('.yaml', '.yml')) and not word.startswith('-'):
            raise WrongArguments(f'{word!r}: a recipe must be the first argument')
        name = '--config' if word.startswith('-c') else word.split('=')[0]
        for option, instead in _OWN_OPTIONS.items():  # training's parser takes abbreviations
            if name.startswith('--') and option.startswith(name) and name not in _TIMMS_OPTIONS:
                raise WrongArguments(f'{word} cannot be passed through: {instead}')
