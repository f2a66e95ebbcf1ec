"""The option group on an argparse parser: declares it, and resolves what was parsed."""

import argparse
import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from hmix_timm.families import FAMILIES, PRESETS, Option

from ..recipes.reader import check_keys, read_recipe
from .asked import KEPT, SELECTORS, Mixing, check_mixing, option_name
from .resolve import group_options, load_file, mixing_keys, resolve

ABOUT = (
    "--mix-mode is a row of the tables in 'A Unified Analysis of Mixed Sample Data Augmentation' and replaces "
    '--mixup, --cutmix, --cutmix-minmax and --mixup-switch-prob as a whole. --cutmix-mode keeps them and changes '
    'the mask of the CutMix among them. Without both, those options hold as they are.'
)

_ABSENT = object()


def load_mix_families(argv: Sequence[str], recipe: Mapping[str, Any]) -> None:
    """Executes the file that `--mix-families` or a recipe's `mix_families` names, so that its families have options.

    Args:
        argv: command line; abbreviations of `--mix-families` are not seen here.
        recipe: keys of a recipe.

    Raises:
        ValueError: the file is missing or registers no family; the message names it. What it raises goes on.
    """
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument('--mix-families', nargs='?')
    load_file(peek.parse_known_args(list(argv))[0].mix_families or recipe.get('mix_families'))


def peek_recipes(
    argv: Sequence[str], program: str | None = None, usage: str | None = None, nargs: str | None = None
) -> tuple[list[str], list[dict[str, Any]]]:
    """Reads the recipes that `-c` names, and executes the files of families that they and the command line name.

    A parser is made after this, since families have options.

    Args:
        argv: command line.
        program: name of the command.
        usage: of that command.
        nargs: argparse's, of `-c`.

    Returns:
        Names and contents of the recipes; without one a single '' and {}.

    Raises:
        ValueError: a recipe or a file of families cannot be used; the message names it.
    """
    peek = argparse.ArgumentParser(program, usage, add_help=False)
    peek.add_argument('-c', '--config', nargs=nargs, default='')
    named = peek.parse_known_args(list(argv))[0].config
    names = named if isinstance(named, list) else [named]
    recipes = [read_recipe(name) if name else {} for name in names]
    for recipe in recipes:
        load_mix_families(argv, recipe)
    return names, recipes


def read_parameters(argv: Sequence[str]) -> list[dict[str, Any]]:
    """The recipes whose parameters of mixing a command with `declare_parameters` takes."""
    recipes = peek_recipes(argv, nargs='*')[1]
    for recipe in recipes:
        check_recipe_keys(recipe)
    return recipes


def declare_parameters(parser: argparse.ArgumentParser, about: str) -> None:
    """Adds `-c` and the parameters of mix modes to the parser of a command that shows several of them."""
    parser.add_argument(
        '-c',
        '--config',
        nargs='+',
        metavar='RECIPE',
        help="recipes, or args.yaml of runs, whose parameters of mixing are taken (default: the preset's)",
    )
    declare(parser, about, without=SELECTORS)


def typed_options(args: argparse.Namespace) -> dict[str, Any]:
    """The options of the group that a command line gives."""
    return {dest: value for dest in group_options() if (value := getattr(args, dest, None)) not in (None, False)}


def declare(parser: argparse.ArgumentParser, about: str = ABOUT, without: Collection[str] = ()) -> None:
    """Adds the group to a parser, and changes nothing else; a parser that has the group is left as it is.

    The values stay text until they are resolved, where a recipe's values pass the same checks.

    Args:
        parser: of a command or a script.
        about: what the help says of the group.
        without: options to leave out.

    Raises:
        ValueError: an option of a registered family has the name of an option that the parser has.
    """
    if any(action.dest == 'mix_preset' for action in parser._actions):
        return
    before = tuple(parser._option_string_actions)
    group = parser.add_argument_group('Mixing (hmix-timm)', about)
    for dest, option in group_options().items():
        if dest in without:
            continue
        shown = {'action': 'store_true'} if option.default is False else {'metavar': _metavar(option)}
        text = option.help if '(default: ' in option.help else f'{option.help} (default: {_default(dest, option)})'
        try:
            group.add_argument(option_name(dest), help=text.replace('%', '%%'), **shown)  # type: ignore[arg-type]
        except argparse.ArgumentError as error:
            raise ValueError(f'a family cannot have an option {option_name(dest)}: there is one already') from error
    _keep_abbreviations(parser, before)


def _metavar(option: Option) -> str:
    if option.choices:
        return f'{{{",".join(option.choices)}}}'
    return option.name.upper() if option.type is str else option.name[0].upper()


def _default(dest: str, option: Option) -> str:
    """The value of a family's option without a preset, or with each of them."""
    family = FAMILIES[dest.partition('_')[0]]
    values = {preset: family.preset_options(preset).get(dest, option.default) for preset in PRESETS}
    if len(set(values.values())) > 1:
        return ', '.join(f'{value} with {preset}' for preset, value in values.items())
    return 'off' if option.default is None else str(option.default)


def _keep_abbreviations(parser: argparse.ArgumentParser, before: Sequence[str]) -> None:
    """Lets what abbreviated one option of a parser go on meaning it: `--cutmix-m` is still --cutmix-minmax."""
    for own in set(parser._option_string_actions) - set(before):
        full = before
        for length in range(3, len(own)):
            full = [option for option in full if option.startswith(own[:length])]
            if len({id(parser._option_string_actions[option]) for option in full}) == 1:
                parser._option_string_actions.setdefault(own[:length], parser._option_string_actions[full[0]])


def remember_typed(namespace: argparse.Namespace | None = None) -> argparse.Namespace:
    """A namespace for `parse_args` in which `read_mixing` tells typed values from defaults."""
    namespace = argparse.Namespace() if namespace is None else namespace
    # argparse gives a default only to what the namespace lacks
    vars(namespace).update({dest: _ABSENT for dest in mixing_keys() if not hasattr(namespace, dest)})
    return namespace


def read_mixing(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Mixing:
    """Resolves what a parser has parsed, puts the resolved values into `args`, and checks that a mixer can be made.

    Args:
        parser: has the group; its defaults are the recipe. A parser without timm's mixing options is that of a script
            that is not timm's; its own options decide the rest.
        args: what it made of `remember_typed()`; is changed.

    Raises:
        ValueError: the message names the option.
    """
    keys = mixing_keys()
    typed = {dest: value for dest in keys if (value := getattr(args, dest, _ABSENT)) is not _ABSENT}
    mixing = resolve(typed, {dest: parser.get_default(dest) for dest in keys})
    vars(args).update(mixing.values)
    if '--mixup' in parser._option_string_actions:
        mixing = replace(mixing, kept={argument: getattr(args, dest) for dest, argument in KEPT.items()})
        check_mixing(mixing, args)
        _check_resumed(args)
    return mixing


def _check_resumed(args: argparse.Namespace) -> None:
    """Raises ValueError where a run goes on in its folder with other mixing, or its own family draws other masks."""
    if not (resume := getattr(args, 'resume', '')):
        return
    own = Path(args.output or 'output/train', args.experiment)
    there = own if resume == 'auto' else Path(resume).parent
    record = there / 'args.yaml'
    recorded = read_recipe(record) if record.is_file() else {}
    digest = recorded.get('mix_digest')
    if digest and args.mix_digest and digest != args.mix_digest:
        raise ValueError(
            f'--resume {resume}: {args.mix_families} draws other masks than in the run so far: mix_digest is '
            f'{digest} in {record}, and {args.mix_digest} now; undo the edit, or train in another folder'
        )
    keys = {*mixing_keys(), *KEPT} & recorded.keys() - {'mix_families', 'smoothing'}
    other = [f'{key}: {recorded[key]}' for key in sorted(keys) if recorded[key] != getattr(args, key)]
    if other and there.absolute() == own.absolute():
        raise ValueError(
            f'--resume {resume}: the run so far is mixed otherwise, with {", ".join(other)} in {record}; '
            'give the same, or another --experiment'
        )


def check_recipe_keys(keys: Iterable[str], known: Collection[str] = ()) -> None:
    """Raises ValueError for unknown keys of a recipe that look like one of this package's, each with the nearest.

    timm's scripts take any key of a recipe and use those that they know, so that `mix_mod: hmix` would train
    without HMix.

    Args:
        keys: of the recipe.
        known: keys that the script knows.
    """
    known, own = {*known, *mixing_keys(), *KEPT}, {*group_options(), 'train_padding'}
    known |= own
    unknown = [key for key in keys if key not in known]
    near = {key: difflib.get_close_matches(key, known, n=1, cutoff=0.8) for key in unknown}
    check_keys([key for key in unknown if is_own_name(key) or own.intersection(near[key])], own)


def is_own_name(name: str) -> bool:
    """Whether an option or a key of a recipe has a name of the group, or begins like one."""
    dest = str(name).lstrip('-').replace('-', '_')
    return dest in group_options() or dest.startswith(('mix_', *(f'{family}_' for family in FAMILIES)))
