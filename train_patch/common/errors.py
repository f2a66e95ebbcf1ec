"""The errors that end a command with one clear line."""

import contextlib
import traceback
from collections.abc import Iterator


class RunError(RuntimeError):
    """A command cannot go on, for a reason that its user can fix; the message names the file or the option."""

    status = 1
    """Exit status of a command that it ends."""


class WrongArguments(RunError, ValueError):
    """Arguments that cannot work; the message names the option and the value."""

    status = 2


@contextlib.contextmanager
def wrong_arguments() -> Iterator[None]:
    """Turns a ValueError of the block, which checks arguments and does nothing else, into `WrongArguments`.

    An error in a user's file of families goes on: its traceback ends there.
    """
    try:
        yield
    except ValueError as error:
        if is_users_bug(error):
            raise
        raise WrongArguments(str(error)) from error


@contextlib.contextmanager
def told_as(where: str, kind: type[RunError] = WrongArguments) -> Iterator[None]:
    """Turns any exception of the block, which is other people's code, into an error that says where and why.

    Args:
        where: option, value and fault, before the reason.
        kind: of the error; its reason is one line of 300 characters at most.
    """
    try:
        yield
    except Exception as error:  # half a dozen types, by package and version
        raise kind(f'{where}: {" ".join(str(error).split())[:300] or type(error).__name__}') from error


def is_users_bug(error: BaseException) -> bool:
    """Whether code in a user's file of families raised it, and not a check of this package's that it called."""
    modules = [frame.f_globals.get('__name__', '') for frame, _ in traceback.walk_tb(error.__traceback__)]
    return any(name.startswith('hmix_timm_families_') for name in modules) and not modules[-1].startswith('hmix_timm.')
