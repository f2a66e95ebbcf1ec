"""The errors that end a command with one clear line."""

import contextlib
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
    """Turns a ValueError of the block, which checks arguments and does nothing else, into `WrongArguments`."""
    try:
        yield
    except ValueError as error:
        raise WrongArguments(str(error)) from error
