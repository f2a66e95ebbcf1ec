"""Arguments that commands share, and checks that find a mistake before the work begins."""

import argparse
import importlib.util
import math
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from hmix_timm import __version__

from .errors import RunError, WrongArguments
from .files import first_line

Row = tuple[list[str], dict[str, Any]]
"""An option: its flags, and the other arguments of `add_argument`."""

_PACKAGES = {'sklearn': 'scikit-learn'}
"""Module → package, where the names differ."""


def add_version(parser: argparse.ArgumentParser) -> None:
    """Adds `--version`, which like `--help` answers before torch is imported."""
    parser.add_argument(
        '--version', action='version', version=f'%(prog)s {__version__}', help='show the version and exit'
    )


def row(flags: str, shown: str | None, text: str, **keywords: Any) -> Row:
    """Arguments of `add_argument`: a flag shows no value (''), and an option with choices shows those (None)."""
    kind = {'metavar': shown} if shown != '' else {'action': 'store_true'}
    if keywords.get('default') not in (None, '', {}, []) and 'default' not in text:
        text += ' (default: %(default)s)'
    return flags.split(), {**kind, 'help': text, **keywords}


def add_rows(parser: Any, rows: Iterable[Row]) -> None:
    """Adds options to a parser or a group."""
    for flags, keywords in rows:
        parser.add_argument(*flags, **keywords)


def at_least(low: int, up_to: float = math.inf) -> Callable[[str], int]:
    """Returns an argparse type: a whole number from `low` to `up_to`."""
    allowed = f'>= {low}' if up_to == math.inf else f'from {low} to {up_to}'

    def convert(text: str) -> int:
        if not text.isdecimal() or not low <= int(text) <= up_to:
            raise argparse.ArgumentTypeError(f'must be a whole number {allowed}, got {text}')
        return int(text)

    return convert


def check_output(option: str, path: Path) -> None:
    """Raises WrongArguments, naming the option, where a file cannot be written; found out by writing beside it.

    A folder that is missing is taken for one that will be made.
    """
    if path.exists() and not path.is_file():
        raise WrongArguments(f'{option}: {path} is {"a folder" if path.is_dir() else "not a regular file"}')
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**12))  # an empty file fits on a full disk
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise WrongArguments(f'{option}: cannot write to {folder}: {first_line(error)}') from error


def check_device(name: str) -> None:
    """Raises WrongArguments where torch cannot compute on the --device. Imports torch; takes no memory of a GPU."""
    import torch

    try:
        device = torch.device(name)
        if device.type != 'cuda':
            torch.zeros(1, device=device).add_(1).item()
    except Exception as error:  # an unknown name; each backend has its own
        raise WrongArguments(f'--device {name}: cannot be used here: {first_line(error)}') from error
    if device.type == 'cuda' and (device.index or 0) >= torch.cuda.device_count():
        raise WrongArguments(f'--device {name}: there are {torch.cuda.device_count()} CUDA devices, counted from 0')


def require_packages(*modules: str, extra: str = 'demo') -> None:
    """Raises RunError, naming the packages and the extra that has them, where a module is not installed."""
    missing = [_PACKAGES.get(name, name) for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise RunError(f"{', '.join(missing)} not installed: pip install 'hmix-timm[{extra}]'")
