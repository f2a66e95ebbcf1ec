"""Parses a command line and a recipe, whose values pass the checks of the command line, and checks them together."""

import argparse
import sys
from collections.abc import Collection, Sequence
from typing import Any

from ..common.errors import is_users_bug
from ..data.crop import check_padding
from ..mixing import Mixing, check_recipe_keys, mixing_keys, peek_recipes, read_mixing, remember_typed
from ..mixing.asked import option_name
from ..recipes.reader import check_keys
from .options import AUGMENTATION, NOT_TAKEN, OTHER_IMAGES, PROGRAM, USAGE, Keywords, build_parser

_UNTYPED = object()
_NULLS = {'color_jitter': None, 'smoothing': 0.0, 'scale': [0.08, 1.0], 'ratio': [3 / 4, 4 / 3]}
"""Options that have another default → the meaning of None in timm."""


def parse_arguments(
    argv: Sequence[str] | None = None, program: str = PROGRAM, usage: str = USAGE, strict: bool = True
) -> tuple[argparse.Namespace, Mixing]:
    """Recipe and command line → checked arguments; wrong ones end the process with status 2.

    Args:
        argv: the arguments; those of the process if None.
        program: name of the command that takes them.
        usage: of that command.
        strict: whether a recipe's key that is unknown, or that this script does not take, is an error; otherwise only
            one that is misspelt, or says that the images are others.

    Returns:
        The arguments, and how the run mixes.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    parser = argparse.ArgumentParser(program, usage, add_help=False)
    try:
        (name,), (recipe,) = peek_recipes(argv, program, usage)
        parser = build_parser(program, usage)
        known = {action.dest: action for action in parser._actions if action.dest not in ('help', 'version', 'config')}
        if strict:
            check_keys(recipe.keys() - known, known)
        check_recipe_keys(recipe, known)
        read = known if strict else known.keys() - (NOT_TAKEN.keys() - OTHER_IMAGES)
        recipe = {key: value for key, value in recipe.items() if key in read}
        # mixing is resolved from both sources together
        parser.set_defaults(**{key: recipe.pop(key) for key in mixing_keys() if key in recipe})
        untyped = argparse.Namespace(**dict.fromkeys(known.keys() - set(mixing_keys()), _UNTYPED))
        args = parser.parse_args(argv, remember_typed(untyped))
        if not {args.data, args.data_dir} <= {None, _UNTYPED}:
            recipe = {key: value for key, value in recipe.items() if key not in ('data', 'data_dir')}
        left = [key for key in known if getattr(args, key) in (_UNTYPED, None)]
        nulls = {key: _NULLS[key] for key in left if key in _NULLS and recipe.get(key, '') is None}
        words = [word for key in left if key in recipe.keys() - nulls for word in _words(known[key], recipe[key])]
        parser.prog = name or program
        defaults = parser.parse_args(words, remember_typed())
        parser.prog = program
        vars(args).update({key: getattr(defaults, key) for key in left} | nulls)
        del args.config
        _take_out_what_is_not_taken(args)
        _check_together(args, typed=known.keys() - left)
        check_padding(args)
        return args, read_mixing(parser, args)
    except ValueError as error:
        if is_users_bug(error):
            raise
        parser.error(str(error))


def _words(action: argparse.Action, value: Any) -> list[str]:
    """A recipe's value as it would stand on a command line; null is timm's None, which turns an option off."""
    option = action.option_strings[-1] if action.option_strings else '--data-dir'
    if value == action.default or (value is None and (not action.default or action.help == argparse.SUPPRESS)):
        return []
    if value is None and (action.type is not None or action.nargs is not None):
        raise ValueError(f'{option} in the recipe must have a value, got null; without the key it is {action.default}')
    if action.nargs == 0 and isinstance(value, bool):
        return [option] * value
    if isinstance(value, dict) and isinstance(action, Keywords):
        return [option, *(f'{key}={item!r}' for key, item in value.items())]
    if action.nargs in (None, '?', 0):
        return [f'{option}={"" if value is None else value}']
    items = value if isinstance(value, list) else [value]
    if isinstance(action.nargs, int) and len(items) != action.nargs:
        raise ValueError(f'{option} in the recipe: must be a list of {action.nargs}, got {value!r}')
    return [option, *map(str, items)]


def _take_out_what_is_not_taken(args: argparse.Namespace) -> None:
    """Removes timm's options that this script does not take; raises ValueError if one is not at timm's default."""
    given = {name: vars(args).pop(name) for name in NOT_TAKEN}
    refused = [option_name(name) for name, value in given.items() if value not in (None, NOT_TAKEN[name])]
    if refused:
        raise ValueError(
            f"{', '.join(refused)}: this script takes timm's default only; timm's own takes all: "
            'hmix-train path/to/timm/train.py …'
        )


def _check_together(args: argparse.Namespace, typed: Collection[str]) -> None:
    """Raises ValueError for options that do not go together, and for values that a type alone cannot judge."""
    ignored = [option_name(name) for name in AUGMENTATION if args.no_aug and name in typed and getattr(args, name)]
    two_folders = args.data and args.data_dir and args.data != args.data_dir
    kind = args.dataset.partition('/')[0]
    problems: list[tuple[Any, str]] = [
        (two_folders, f'--data-dir {args.data_dir} and the positional {args.data} are two different folders'),
        (
            kind not in ('', 'torch', 'hfds'),
            f"--dataset {args.dataset}: must be torch/… or hfds/…; timm's script has more",
        ),
        (args.resume == 'auto' and not args.experiment, '--resume auto needs --experiment, the folder of the run'),
        (
            args.wandb_resume_id and not (args.log_wandb and args.resume),
            '--wandb-resume-id needs --log-wandb and --resume',
        ),
        (
            args.class_map and not args.class_map.endswith('.txt'),
            f'--class-map {args.class_map}: a text file (.txt) with one class name per line',
        ),
        (args.torchcompile_mode and not args.torchcompile, '--torchcompile-mode needs --torchcompile'),
        (ignored, f'{", ".join(ignored)}: no effect with no_aug, which turns all augmentation off'),
    ]
    problems += [
        (low > high, f'--{name} {low:g} {high:g}: the smaller one comes first')
        for name, (low, high) in (('scale', args.scale), ('ratio', args.ratio))
    ]
    channels = args.input_size[0] if args.input_size else args.in_chans or 3
    problems += [
        (
            len(given) not in (1, channels),
            f'--{name}: {len(given)} numbers; one, or one for each of {channels} channels',
        )
        for name, given in (('mean', args.mean or [0]), ('std', args.std or [0]))
    ]
    for wrong, message in problems:
        if wrong:
            raise ValueError(message)
    args.data_dir = args.data_dir or args.data
