"""From a command line and a recipe to checked arguments. A recipe's values are held to what the command line takes."""

import argparse
import difflib
import sys
from collections.abc import Sequence
from typing import Any

from ..common.errors import WrongArguments as WrongArguments
from ..data.crop import check_padding
from ..mixing import Mixing, load_mix_families, mixing_keys, read_mixing, remember_typed
from ..recipes.reader import read_recipe
from .options import DATASET_TYPES, PROGRAM, REFUSED, USAGE, Keywords, build_parser, refusal


def parse_arguments(
    argv: Sequence[str] | None = None, program: str = PROGRAM, usage: str = USAGE, strict: bool = True
) -> tuple[argparse.Namespace, Mixing]:
    """Recipe and command line → checked arguments; anything wrong ends the process with status 2.

    Args:
        argv: the arguments; those of the process if left out.
        program: name of the command that takes them.
        usage: of that command.
        strict: whether a recipe's key that is unknown, or that this script does not take, is an error.

    Returns:
        The arguments, and how the run mixes.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    config_parser = argparse.ArgumentParser(program, usage, add_help=False)
    config_parser.add_argument('-c', '--config')
    name = config_parser.parse_known_args(argv)[0].config
    try:
        recipe = read_recipe(name) if name else {}
        load_mix_families(argv, recipe)  # the parser declares their options, too
        parser = build_parser()
        parser.prog, parser.usage = program, usage
    except ValueError as error:
        config_parser.error(str(error))
    try:
        parser.set_defaults(**_recipe_defaults(parser, recipe, strict))
    except ValueError as error:
        parser.error(f'--config {name}: {error}')
    args = parser.parse_args(argv, remember_typed())
    del args.config
    try:
        _check_arguments(args)
        check_padding(args)
        mixing = read_mixing(parser, args)
    except ValueError as error:
        parser.error(str(error))
    return args, mixing


def _recipe_defaults(parser: argparse.ArgumentParser, recipe: dict[str, Any], strict: bool) -> dict[str, Any]:
    """A recipe's values, each held to what the command line takes for its option."""
    refused = {option[2:].replace('-', '_'): option for option in REFUSED}
    actions = {
        action.dest: action for action in parser._actions if action.dest not in (*refused, 'help', 'version', 'config')
    }
    values = {}
    for key, value in recipe.items():
        if key in mixing_keys():
            values[key] = value
        elif key in actions:
            try:
                values[key] = _recipe_value(actions[key], value)
            except (TypeError, ValueError, argparse.ArgumentTypeError) as error:
                raise ValueError(f'{key}: {value!r}: {error}') from error
        elif not strict:
            continue
        elif key not in refused:
            nearest = difflib.get_close_matches(str(key).replace('-', '_'), actions, n=1)
            hint = f'; the nearest known one is {nearest[0]!r}' if nearest else ''
            raise ValueError(f'unknown key {key!r}{hint}')
        elif value != REFUSED[refused[key]]:
            raise ValueError(refusal(refused[key]))
    return values


def _recipe_value(action: argparse.Action, value: Any) -> Any:
    if value is None and action.default is None:
        return None
    if isinstance(action.const, bool):  # store_true
        if not isinstance(value, bool):
            raise TypeError('must be true or false')
        return value
    if isinstance(action, Keywords):
        if not isinstance(value, dict):
            raise TypeError('must be a mapping of keyword arguments')
        return value
    if action.nargs in ('+', '*') or isinstance(action.nargs, int):
        items = value if isinstance(value, list) else [value]
        if isinstance(action.nargs, int) and len(items) != action.nargs:
            raise ValueError(f'must be a list of {action.nargs}')
        return [_recipe_item(action, item) for item in items]
    return _recipe_item(action, value)


def _recipe_item(action: argparse.Action, item: Any) -> Any:
    if item is None or isinstance(item, (bool, list, dict)):
        raise TypeError('must be a single value, as on the command line')
    item = action.type(str(item)) if callable(action.type) else str(item)
    if action.choices is not None and item not in action.choices:
        raise ValueError(f'must be one of {", ".join(map(repr, action.choices))}')
    return item


def _check_arguments(args: argparse.Namespace) -> None:
    """Raises ValueError for what one option alone cannot tell."""

    def refuse(wrong: object, message: str) -> None:
        if wrong:
            raise ValueError(message)

    two_folders = args.data and args.data_dir and args.data != args.data_dir
    refuse(two_folders, f'--data-dir {args.data_dir} and the positional {args.data} are two different folders')
    args.data_dir = args.data_dir or args.data
    half = args.amp and args.model_dtype not in (None, 'float32')
    refuse(half, f'--model-dtype {args.model_dtype} does not go with --amp, which needs float32 weights')
    refuse(args.aug_splits == 1, '--aug-splits 1: one split makes no sense; 0, or 2 and more')
    refuse(args.jsd_loss and not args.aug_splits, '--jsd-loss needs --aug-splits 2 or more')
    unsplit = args.split_bn and not (args.aug_splits or args.resplit)
    refuse(unsplit, '--split-bn needs --aug-splits 2 or more, or --resplit')
    refuse(args.split_bn and args.sync_bn, '--split-bn and --sync-bn do not go together')
    refuse(args.resume == 'auto' and not args.experiment, '--resume auto needs --experiment, the folder to go on with')
    lost = args.wandb_resume_id and not (args.log_wandb and args.resume)
    refuse(lost, '--wandb-resume-id needs --log-wandb and --resume')
    no_text = args.class_map and not args.class_map.endswith('.txt')
    refuse(no_text, f'--class-map {args.class_map}: a text file (.txt) with one class name per line')
    for name in ('data_dir', 'dataset', 'train_split', 'val_split'):
        value = getattr(args, name) or ''  # webdataset would hand a pipe to a shell
        refuse('pipe:' in value, f'--{name.replace("_", "-")} {value}: shell commands are not taken')
    unknown = args.dataset and args.dataset.partition('/')[0] not in DATASET_TYPES
    refuse(unknown, f'--dataset {args.dataset}: must be TYPE/NAME with a type of {", ".join(DATASET_TYPES)}')
    lost = args.torchcompile_mode and not args.torchcompile
    refuse(lost, f'--torchcompile-mode {args.torchcompile_mode} needs --torchcompile')
    for name in ('scale', 'ratio'):
        low, high = getattr(args, name)
        refuse(low > high, f'--{name} {low:g} {high:g}: the smaller one comes first')
    channels = args.input_size[0] if args.input_size else args.in_chans or 3
    for name in ('mean', 'std'):
        values = getattr(args, name)
        wrong = values and len(values) not in (1, channels)
        refuse(wrong, f'--{name}: {len(values or ())} numbers; one, or one for each of {channels} channels')
