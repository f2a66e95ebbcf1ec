"""What a command line of the launcher says: options of ours, then a script, then everything that is the script's.

Nothing here imports torch or timm: the script's folder is to lead `sys.path` before that.
"""

import argparse
import ast
import importlib.util
import itertools
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..common.errors import RunError
from ..mixing import Mixing, declare, load_mix_families, read_mixing, remember_typed
from ..mixing.resolve import group_options
from ..recipes.reader import read_recipe

PREFIXES = ('--mix-', '--hmix-', '--gmix-')
"""How options of ours begin; a script that drops unknown options would drop them without a word."""

TIMMS_NAMES = ('parser', '_parse_args', 'main', 'Mixup', 'FastCollateMixup', 'create_loader', 'train_one_epoch')
"""What makes a script one of timm's shape: each is defined or imported at its top level."""


@dataclass(frozen=True)
class CommandLine:
    """A command line with a script.

    Args:
        own: our options, which stand before the script.
        script: path of a file, or name of a module.
        is_module: whether it was given as `-m NAME`.
        arguments: what the script finds in `sys.argv[1:]`.
    """

    own: list[str]
    script: str
    is_module: bool
    arguments: list[str]

    @property
    def name(self) -> str:
        """What messages call the script."""
        return f'-m {self.script}' if self.is_module else Path(self.script).name


def own_parser() -> argparse.ArgumentParser:
    """A parser of the options that stand before a script; the families that it knows must have been loaded."""
    parser = argparse.ArgumentParser(
        prog='hmix-train',
        usage='hmix-train [mixing options] SCRIPT.py|-m MODULE [arguments of the script]',
        add_help=False,
        allow_abbrev=False,
    )
    declare(parser)
    return parser


def split(argv: Sequence[str]) -> CommandLine | None:
    """Finds the script in a command line.

    Args:
        argv: command line without the program's name.

    Returns:
        None where there is no script: the line is that of the project's own.

    Raises:
        RunError: the file of `--mix-families` cannot be used, or an option that is not ours stands before a script.
    """
    try:
        load_mix_families(argv, {})
    except ValueError as error:
        raise RunError(str(error)) from error
    actions = own_parser()._option_string_actions
    own: list[str] = []
    passed_on: list[str] = []
    words = list(argv)
    while words:
        option, equals, _ = words[0].partition('=')
        if option == '-m' and len(words) > 1:
            return CommandLine(own, words[1], True, passed_on + words[2:])
        if option.endswith('.py') and not option.startswith('-'):
            return CommandLine(own, words[0], False, passed_on + words[1:])
        if equals and option in ('--local-rank', '--local_rank'):  # torch.distributed.launch puts it first
            passed_on.append(words.pop(0))
            continue
        if option not in actions:
            _refuse_script_behind(words)
            return None
        taken = 1 if equals or actions[option].nargs == 0 else 2
        own, words = own + words[:taken], words[taken:]
    return None


def _refuse_script_behind(words: Sequence[str]) -> None:
    """Raises RunError where the first word, which is no option of ours, hides a script that comes later."""
    for before, path in itertools.pairwise(words):
        if path.endswith('.py') and before != '--mix-families' and Path(path).is_file():
            raise RunError(
                f'{words[0]} stands before {path} and is no option of hmix-train: put it behind the script if it is '
                "the script's"
            )


def refuse_own_options(line: CommandLine, like_timms: bool) -> None:
    """Raises RunError where an option of ours stands among the arguments, or in the recipe, of a script that drops it.

    Args:
        line: a command line whose script is not run as timm's.
        like_timms: whether only the installed timm is too old for that.
    """
    where, why = f'behind {line.name}', "is not timm's and would not know it"
    if like_timms:
        why = 'takes it there only with timm 1.0.20 or newer'
    known = own_parser()._option_string_actions
    found = [word for word in line.arguments if _is_own(word.partition('=')[0].replace('_', '-'), known)]
    if not found and like_timms:
        peek = argparse.ArgumentParser(add_help=False)
        peek.add_argument('-c', '--config')
        recipe = peek.parse_known_args(line.arguments)[0].config
        where, found = f'in the recipe of {line.name}', sorted(set(_read(recipe)) & set(group_options()))
    if found:
        raise RunError(f'{found[0]} stands {where}, which {why}: put it before the script')


def resolve_own(own: list[str]) -> Mixing:
    """Resolves the options before a script.

    Raises:
        RunError: one of them is wrong; the message names it.
    """
    try:
        parser = own_parser()
        mixing = read_mixing(parser, parser.parse_args(own, remember_typed()))
    except ValueError as error:
        raise RunError(str(error)) from error
    if mixing.needs_model:
        raise RunError(
            f'{mixing.asked} needs the model that is trained, which a script does not show to its '
            "mixer: it runs with timm's train.py and with hmix-train's own script"
        )
    return mixing


def check_module(name: str) -> None:
    """Raises RunError where `python -m name` would find nothing to run; imports the packages that it is in."""
    try:
        found = importlib.util.find_spec(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f'{name}.'.startswith(f'{error.name}.'):  # a package's own import has failed
            raise
        found = None
    if found is None:
        raise RunError(f'-m {name}: there is no such module')
    if found.submodule_search_locations is not None and importlib.util.find_spec(f'{name}.__main__') is None:
        raise RunError(f'-m {name}: this is a package without a module __main__, so there is nothing to run')


def _is_own(option: str, known: Collection[str]) -> bool:
    return option in known or option.startswith(PREFIXES)


def _read(recipe: str | None) -> dict[str, Any]:
    try:
        return read_recipe(recipe) if recipe else {}
    except ValueError as error:
        raise RunError(str(error)) from error


def names_missing(path: str) -> list[str]:
    """What a script lacks of `TIMMS_NAMES`, read without executing it; nothing if it is timm's or made from it.

    Raises:
        RunError: there is no such file, or it is not Python.
    """
    try:
        tree = ast.parse(Path(path).read_bytes(), path)
    except OSError as error:
        raise RunError(f'{path}: {error.strerror}') from error
    except (SyntaxError, ValueError) as error:
        raise RunError(f'{path} is not a Python script: {error}') from error
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update(name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))
    return [name for name in TIMMS_NAMES if name not in names]


def lead_path(folder: str) -> None:
    """Puts a script's folder where `python script.py` has it: first on `sys.path`, in place of the launcher's.

    What Python put there for the launcher goes; where this package was found through it, that goes to the end.
    """
    if getattr(sys.flags, 'safe_path', False):  # neither Python nor the script's own start would put a folder there
        return
    launchers, sys.path[0] = Path(sys.path[0]).resolve(), folder
    home = Path(__file__).resolve().parents[2]
    if launchers == home and str(home) not in sys.path:
        sys.path.append(str(home))
