"""The option group on an argparse parser: declares it, and resolves what was parsed."""

import argparse
import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from hmix_timm.families import FAMILIES, PRESETS, Family, Option
from hmix_timm.modes import mix_modes

from .asked import KEPT, Mixing, check_mixing, option_name
from .resolve import load_file, mix_dests, mixing_keys, resolve

_ABSENT = object()


def load_mix_families(argv: Sequence[str], recipe: Mapping[str, Any]) -> None:
    """Executes the file that `--mix-families` or a recipe's `mix_families` names, so that its families have options.

    Args:
        argv: command line; abbreviations of `--mix-families` are not seen here.
        recipe: keys of a recipe.

    Raises:
        ValueError: the file cannot be executed or registers no family; the message names it.
    """
    peek = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    peek.add_argument('--mix-families', nargs='?')
    load_file(peek.parse_known_args(list(argv))[0].mix_families or recipe.get('mix_families'))


def declare(parser: argparse.ArgumentParser) -> None:
    """Adds the group to a parser, and changes nothing else; a parser that has the group is left as it is.

    The values stay text until they are resolved, where a recipe's values pass the same checks.

    Raises:
        ValueError: an option of a registered family has the name of an option that the parser has.
    """
    if any(action.dest == 'mix_mode' for action in parser._actions):
        return
    timms = tuple(parser._option_string_actions)
    group = parser.add_argument_group(
        'Mixing (hmix-timm)',
        "--mix-mode is a row of the tables in 'A Unified Analysis of Mixed Sample Data Augmentation' and replaces "
        '--mixup, --cutmix, --cutmix-minmax and --mixup-switch-prob as a whole. --cutmix-mode keeps them and changes '
        'the mask of the CutMix among them. Without both, those options hold as they are.',
    )
    modes, masks = ','.join(mix_modes()), ','.join(FAMILIES)
    add = group.add_argument
    add('--mix-mode', metavar=f'{{{modes}}}', help="mixing of the whole run (default: as timm's options say)")
    add('--cutmix-mode', metavar=f'{{{masks}}}', help='mask that is drawn where CutMix is drawn (default: bbox)')
    presets = ','.join(PRESETS)
    add('--mix-preset', metavar=f'{{{presets}}}', help="parameters of the paper's section 5 (default: imagenet)")
    add('--mix-alpha', metavar='A', help="Beta parameter of --mix-mode, above 0 (default: the preset's)")
    add(
        '--mix-literal',
        action='store_true',
        help="the paper's formulas to the letter: λ as drawn is the label weight, whatever the borders cut off "
        '(default: the label weight is the mean of the mask)',
    )
    add(
        '--mix-families',
        action=_Once,
        metavar='FILE',
        help='Python file that registers families of your own (default: none)',
    )
    for family, dest, option in ((f, dest, o) for f in FAMILIES.values() for dest, o in f.keywords.items()):
        shown = f'{{{",".join(option.choices)}}}' if option.choices else option.name[0].upper()
        text = f'{option.help} (default: {_default_text(family, option)})'.replace('%', '%%')
        try:
            add(option_name(dest), metavar=shown, help=text)
        except argparse.ArgumentError as error:
            raise ValueError(
                f'family {family.name!r} cannot have an option {option.name!r}: '
                f'there is an option {option_name(dest)} already'
            ) from error
    _keep_abbreviations(parser, timms)


class _Once(argparse.Action):
    """Refuses an option that is there twice, where argparse would take the last one."""

    def __call__(self, parser: argparse.ArgumentParser, namespace: Any, values: Any, option_string: Any = None) -> None:
        if getattr(namespace, self.dest, None) not in (None, _ABSENT, values):
            parser.error(f'{option_string} is there twice; one file may import others')
        setattr(namespace, self.dest, values)


def _default_text(family: Family, option: Option) -> str:
    values = {preset: family.presets[preset].get(option.name, option.default) for preset in PRESETS}
    if len(set(values.values())) > 1:
        return ', '.join(f'{value} with {preset}' for preset, value in values.items())
    return 'off' if option.default is None else str(values[PRESETS[0]])


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
    for dest in mixing_keys():
        if not hasattr(namespace, dest):  # argparse gives a default only to what the namespace lacks
            setattr(namespace, dest, _ABSENT)
    return namespace


def read_mixing(parser: argparse.ArgumentParser, args: argparse.Namespace) -> Mixing:
    """Resolves what a parser has parsed, puts the resolved values into `args`, and checks that a mixer can be made.

    Args:
        parser: has the group; its defaults are the recipe. A parser without timm's mixing options is that of a script
            that is not timm's: the group alone is resolved.
        args: what it made of `remember_typed()`; is changed.

    Raises:
        ValueError: the message names the option.
    """
    keys = mixing_keys()
    typed = {dest: value for dest in keys if (value := getattr(args, dest, None)) is not _ABSENT and value is not None}
    recipe = {dest: parser.get_default(dest) for dest in keys}
    timms = any(action.dest == 'mixup' for action in parser._actions)
    mixing = resolve(typed, recipe, timms)
    vars(args).update(mixing.values)
    if timms:
        mixing = replace(mixing, kept={argument: getattr(args, dest) for dest, argument in KEPT.items()})
        check_mixing(mixing, args)
    return mixing


def check_recipe_keys(keys: Iterable[str], known: Collection[str] = ()) -> None:
    """Raises ValueError for a recipe key that looks like one of the group's but is not, naming the nearest.

    timm's scripts take any key of a recipe and use those that they know, so that `mix_mod: hmix` would train
    without HMix.

    Args:
        keys: of the recipe.
        known: keys that the script knows.
    """
    dests = mix_dests()
    prefixes = ('mix_', *(f'{family}_' for family in FAMILIES))
    for key in keys:
        name = str(key).replace('-', '_')
        if key not in dests and key not in known and (name in dests or name.startswith(prefixes)):
            nearest = difflib.get_close_matches(name, dests, n=1)
            hint = f'; the nearest known key is {nearest[0]!r}' if nearest else ''
            raise ValueError(f'unknown key {key!r} in the recipe{hint}')
