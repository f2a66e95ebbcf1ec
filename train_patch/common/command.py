"""What commands do alike: they end with one clear line, and look at what they are to write before they work."""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from hmix_timm import __version__
from hmix_timm.families import load_families

from .errors import RunError
from .files import first_line
from .weights import only_weights

INTERRUPTED = 130
"""Exit status after Ctrl-C, a shell's own for a program ended by SIGINT."""


def run_command(program: str, work: Callable[[], None]) -> int:
    """Runs a command's work, prints user-fixable errors and Ctrl-C as one line, and runs no code from files of weights.

    Args:
        program: name of the command, for that line.
        work: all that the command does.

    Returns:
        The exit status: 0, 1 for a `RunError` or an error of the operating system, 130 after Ctrl-C.
    """
    try:
        with only_weights():
            work()
    except RunError as error:
        return _ended(program, str(error), 1)
    except OSError as error:
        return _ended(program, f'{error.filename}: {first_line(error)}' if error.filename else first_line(error), 1)
    except KeyboardInterrupt:
        print(file=sys.stderr)  # the cursor is behind ^C, or a progress bar
        _ended(program, 'interrupted', INTERRUPTED)
        sys.stdout.flush()
        # at once: a loader that was interrupted while it held a lock would wait for that lock in its finalizer
        os._exit(INTERRUPTED)
    return 0


def _ended(program: str, message: str, status: int) -> int:
    print(f'{program}: {message}', file=sys.stderr, flush=True)
    return status


def add_version(parser: argparse.ArgumentParser) -> None:
    """`--version`, which like `--help` answers before torch is imported."""
    parser.add_argument(
        '--version', action='version', version=f'%(prog)s {__version__}', help='show the version and exit'
    )


def add_families(parser: argparse.ArgumentParser) -> None:
    """`--mix-families`: a file that registers families of the user's own."""
    parser.add_argument(
        '--mix-families', metavar='FILE', help='Python file that registers mask families of your own (default: none)'
    )


def load_given_families(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Registers the families of `--mix-families`, if it is given, or ends with the parser's error."""
    if args.mix_families is None:
        return
    try:
        load_families(args.mix_families)
    except ValueError as error:
        parser.error(f'argument --mix-families: {error}')


def at_least(low: int) -> Callable[[str], int]:
    """A parser's type: a whole number that is not below `low`."""

    def convert(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f'must be a whole number >= {low}, got {text}')
        return int(text)

    return convert


def problem_with_output(path: Path) -> str | None:
    """Why a file cannot be written under this name, found out by writing beside it; None where it can.

    Folders that are missing are looked at as if they were made first.
    """
    if path.is_dir():
        return f'{path} is a folder'
    if path.exists() and not path.is_file():
        return f'{path} is not a regular file'
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        return f'{folder} is not a folder'
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(2**12))  # an empty file fits on a full disk
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return f'cannot write to {folder}: {first_line(error)}'
    return None


def device_problem(device: str) -> str | None:
    """Why torch cannot compute on a device; None where it can. Imports torch."""
    import torch

    try:
        torch.zeros(1, device=torch.device(device)).add_(1)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        return f'{device} cannot be used here: {first_line(error)}'
    return None
