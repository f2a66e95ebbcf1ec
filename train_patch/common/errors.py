"""The errors that end a command with one clear line."""


class RunError(RuntimeError):
    """A command cannot go on, for a reason that its user can fix; the message names the file or the option."""

    status = 1
    """Exit status of a command that it ends."""


class WrongArguments(RunError):
    """Arguments that cannot work; the message names the option and the value."""

    status = 2
