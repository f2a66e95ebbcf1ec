"""The launcher's command line: our options, then a script, then everything that is the script's.

Nothing here imports torch or timm: the script's folder must lead `sys.path` before that.
"""

import argparse
import difflib
import importlib.util
import itertools
import os
import symtable
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from typing import NoReturn

from ..common.errors import WrongArguments, wrong_arguments
from ..mixing import Mixing, declare, is_own_name, load_mix_families, read_mixing, remember_typed
from ..recipes.reader import read_recipe

TIMMS_NAMES = (
    'parser', 'config_parser', '_parse_args', 'main', 'Mixup', 'FastCollateMixup', 'create_loader', 'train_one_epoch',
)  # fmt: skip
"""A script of timm's shape defines or imports each of these at its top level."""


CHECK = '--mix-check'
"""The option that has the first mixed batches looked at."""


@dataclass(frozen=True)
class CommandLine:
    """A command line with a script.

    Args:
        own: our options, which stand before the script.
        script: path of a file, or name of a module.
        is_module: whether it was given as `-m NAME`.
        arguments: the script's `sys.argv[1:]`.
    """

    own: list[str]
    script: str
    is_module: bool
    arguments: list[str]

    @property
    def name(self) -> str:
        """The script's name in messages."""
        return f'-m {self.script}' if self.is_module else Path(self.script).name


class OwnParser(argparse.ArgumentParser):
    """Parses the options before a script, and raises its errors as `WrongArguments`."""

    def __init__(self) -> None:
        super().__init__('hmix-train', add_help=False, allow_abbrev=False)
        declare(self)
        self.add_argument('--mixer', metavar='MODULE:CLASS', type=_mixer, action='append', default=[])
        self.add_argument('--mix-others', choices=('refuse', 'keep'), default='refuse')
        self.add_argument(CHECK, action='store_true')

    def error(self, message: str) -> NoReturn:
        """Raises WrongArguments."""
        raise WrongArguments(message)


def _mixer(text: str) -> str:
    module, colon, name = text.partition(':')
    if not (colon and name.isidentifier() and all(part.isidentifier() for part in module.split('.'))):
        raise argparse.ArgumentTypeError(f"must be a module and a class in it, as 'utils.mixup:Mixup', got {text!r}")
    return text


def split(argv: Sequence[str]) -> CommandLine | None:
    """Finds the script in a command line.

    Args:
        argv: command line without the program's name.

    Returns:
        None without a script: the line is that of the project's own.

    Raises:
        WrongArguments: the file of `--mix-families` cannot be used, or an unknown option stands before a script.
    """
    with wrong_arguments():
        load_mix_families(argv, {})
        actions = OwnParser()._option_string_actions
    own: list[str] = []
    passed_on: list[str] = []
    words = list(argv)
    while words:
        option, equals, _ = words[0].partition('=')
        if option == '-m' and len(words) > 1:
            return CommandLine(own, words[1], True, passed_on + words[2:])
        if option.endswith('.py') and not option.startswith('-'):
            return CommandLine(own, words[0], False, passed_on + words[1:])
        if (main := os.path.join(words[0], '__main__.py')) and os.path.isfile(main):
            return CommandLine(own, main, False, passed_on + words[1:])
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
    """Raises WrongArguments if the first word, which is not one of our options, hides a script that comes later."""
    for before, path in itertools.pairwise(words):
        if path.endswith('.py') and before != '--mix-families' and Path(path).is_file():
            raise WrongArguments(
                f'{words[0]} stands before {path} and is no option of hmix-train: put it behind the script if it is '
                "the script's"
            )


def read_own_options(line: CommandLine, like_timms: bool) -> Mixing:
    """Resolves the options before a script that is not run as timm's, which must not have any behind it.

    Args:
        line: the command line.
        like_timms: whether the script is like timm's, and the installed timm is too old to run it so.

    Raises:
        WrongArguments: an option is wrong, or stands behind the script or in its recipe, where it would be dropped.
    """
    with wrong_arguments():
        _refuse_options_behind(line, like_timms)
        parser = OwnParser()
        mixing = read_mixing(parser, parser.parse_args(line.own, remember_typed()))
    if mixing.needs_model:
        raise WrongArguments(
            f'{mixing.asked} needs the model that is trained, which a script does not show to its mixer: it runs with '
            "timm's train.py and with hmix-train's own script"
        )
    return mixing


def _refuse_options_behind(line: CommandLine, like_timms: bool) -> None:
    where, why = f'behind {line.name}', "is not timm's and would not know it"
    ours = OwnParser()._option_string_actions

    def is_ours(option: str) -> bool:  # a script that is not timm's may have `--mix-precision`
        near = difflib.get_close_matches(option.replace('_', '-'), ours, 1, 0.85)
        return is_own_name(option) and (like_timms or bool(near))

    found = [word for word in line.arguments if word.startswith('--') and is_ours(word.partition('=')[0])]
    if like_timms:
        why = 'takes it there only with timm 1.0.20 or newer'
        peek = argparse.ArgumentParser(add_help=False)
        peek.add_argument('-c', '--config')
        recipe = peek.parse_known_args(line.arguments)[0].config
        if not found and recipe:
            where, found = f'in the recipe of {line.name}', [key for key in read_recipe(recipe) if is_own_name(key)]
    if found:
        raise ValueError(f'{found[0]} stands {where}, which {why}: put it before the script')


def check_module(name: str) -> None:
    """Raises WrongArguments if `python -m name` would find nothing to run; imports no package: mixers come first."""
    top, *inner = name.split('.')
    found = importlib.util.find_spec(top)
    for part in [*inner, '__main__']:
        if found is None or (part == '__main__' and found.submodule_search_locations is None):
            break
        found = PathFinder.find_spec(f'{found.name}.{part}', found.submodule_search_locations or [])
    if found is None:
        raise WrongArguments(f'-m {name}: there is no such module, or it is a package without a module __main__')


def names_missing(path: str) -> list[str]:
    """The `TIMMS_NAMES` that a script lacks, read without executing it; none if it is timm's or made from it.

    Raises:
        WrongArguments: there is no such file, or it is not Python.
    """
    try:
        table = symtable.symtable(importlib.util.decode_source(Path(path).read_bytes()), path, 'exec')
    except OSError as error:
        raise WrongArguments(f'{path}: {error.strerror}') from error
    except (SyntaxError, ValueError) as error:
        raise WrongArguments(f'{path} is not a Python script: {error}') from error
    names = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    return [name for name in TIMMS_NAMES if name not in names]


def lead_path(folder: str) -> None:
    """Puts a script's folder where `python script.py` has it: first on `sys.path`, in place of the launcher's.

    The folder that Python put there for the launcher goes; if this package was found through it, it goes to the end.
    Another one that stands there stays, as second.
    """
    if getattr(sys.flags, 'safe_path', False):  # neither Python nor the script's own start would put a folder there
        return
    first, home = Path(sys.path[0]).resolve(), Path(__file__).resolve().parents[2]
    started = getattr(sys.modules['__main__'], '__spec__', None) is None and Path(sys.argv[0]).resolve().parent
    if first == (started or Path.cwd()):
        del sys.path[0]
    sys.path.insert(0, folder)
    if first == home and str(home) not in sys.path:
        sys.path.append(str(home))


def check_timm() -> None:
    """Raises WrongArguments if another timm was imported, as by a file of families, than the script's folder has."""
    loaded, found = getattr(sys.modules.get('timm'), '__file__', None), PathFinder.find_spec('timm')
    if loaded and found and found.origin and not os.path.samefile(found.origin, loaded):
        raise WrongArguments(
            f'timm was imported from {loaded} before the script, which has its own at {found.origin}: a file of '
            '--mix-families may import it where it draws a mask'
        )
