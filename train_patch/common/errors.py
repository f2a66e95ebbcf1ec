"""The one exception that ends a command with a single clear line."""


class RunError(RuntimeError):
    """A command cannot go on, for a reason that its user can act on; the message names the file or the option."""
