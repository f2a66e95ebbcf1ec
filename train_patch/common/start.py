"""How all commands start and end."""

import functools
import importlib
import os
import sys
from collections.abc import Callable, Sequence

from hmix_timm.masks import WrongMask

from .errors import RunError, is_users_bug
from .files import first_line

INTERRUPTED = 130
"""Exit status after Ctrl-C, as a shell reports it for a program that SIGINT ended."""


def command(program: str) -> Callable[[Callable[[list[str]], int | None]], Callable[..., int]]:
    """Turns a function of the command line into a command's `main`, which prints user-fixable errors as one line.

    Args:
        program: name of the command, for that line.

    Returns:
        A decorator. The function it returns takes the arguments (those of the process if left out) and returns the
        exit status: the function's own (None is 0), 2 for wrong arguments, 1 for another `RunError`, for what a family
        drew that is no mask, or for an error of the operating system. Ctrl-C ends the process with one line and 130.
    """

    def decorate(work: Callable[[list[str]], int | None]) -> Callable[..., int]:
        @functools.wraps(work)
        def main(argv: Sequence[str] | None = None) -> int:
            os.environ.pop('HMIX_TRAIN_LAUNCH', None)  # started by a launched script, a command mixes as it is told
            try:
                return work(list(sys.argv[1:] if argv is None else argv)) or 0
            except (RunError, WrongMask) as error:
                return _end(program, f'error: {error}', getattr(error, 'status', 1))
            except OSError as error:
                if is_users_bug(error):
                    raise
                return _end(program, f'error: {f"{error.filename}: " * bool(error.filename)}{first_line(error)}', 1)
            except KeyboardInterrupt:
                _end(f'\n{program}', 'interrupted', INTERRUPTED)  # the cursor is behind ^C, or behind a progress bar
                sys.stdout.flush()
                # at once: a loader that was interrupted while it held a lock would wait for that lock in its finalizer
                os._exit(INTERRUPTED)

        return main

    return decorate


def _end(program: str, message: str, status: int) -> int:
    print(f'{program}: {message}', file=sys.stderr, flush=True)
    return status


def start(program: str, module: str) -> int | None:
    """Imports the module of a command and runs its `main`; Ctrl-C ends it with one line from the first import on.

    Args:
        program: name of the command, for that line.
        module: full name of the module.

    Returns:
        The exit status; None is 0.
    """
    try:
        main = importlib.import_module(module).main
    except KeyboardInterrupt:
        return _end(f'\n{program}', 'interrupted', INTERRUPTED)
    return main()


# the installed commands (setup.cfg)
train = functools.partial(start, 'hmix-train', 'train_patch.__main__')
compare = functools.partial(start, 'hmix-compare', 'train_patch.compare')
preview = functools.partial(start, 'hmix-preview', 'train_patch.preview')
bench = functools.partial(start, 'hmix-bench', 'train_patch.bench')
figures = functools.partial(start, 'hmix-figures', 'train_patch.figures')
