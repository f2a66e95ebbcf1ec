"""Which timm is there, and which one the work at hand needs."""

import re
from pathlib import Path

from .errors import RunError

OLDEST_FOR_MIXING = (0, 4, 12)
OLDEST_FOR_TRAINING = (1, 0, 20)
"""Versions of timm that the mixers need, and training through timm's library."""


def timm_version(oldest: tuple[int, ...], work: str) -> tuple[int, ...]:
    """Version of the timm that is imported.

    Args:
        oldest: the first version that will do.
        work: what needs it, for the message.

    Raises:
        RunError: it is older.
    """
    import timm

    found = re.match(r'(\d+)\.(\d+)\.(\d+)', timm.__version__)
    version = tuple(map(int, found.groups())) if found else ()
    if version < oldest:
        needed = '.'.join(map(str, oldest))
        raise RunError(
            f'timm {timm.__version__} at {Path(timm.__file__).parent} is too old: {work} needs {needed} or newer'
        )
    return version


def require_timm_for_training() -> None:
    """Raises RunError where timm's library is too old to train through it; imports timm."""
    timm_version(OLDEST_FOR_TRAINING, "training through timm's library")
