"""Checks that the installed timm is new enough."""

import re
from pathlib import Path

from .errors import RunError

OLDEST_FOR_MIXING = (0, 4, 12)
OLDEST_FOR_TRAINING = (1, 0, 20)
"""Oldest versions of timm for the mixers, and for training through timm's library."""


def timm_version(oldest: tuple[int, ...], work: str) -> tuple[int, ...]:
    """Imports timm and returns its version.

    Args:
        oldest: the oldest version that will do.
        work: the work that needs it, for the message.

    Raises:
        RunError: timm is older; the message names version and place.
    """
    import timm

    version = tuple(map(int, re.findall(r'\d+', timm.__version__)[:3]))
    if version < oldest:
        needed = '.'.join(map(str, oldest))
        raise RunError(
            f'timm {timm.__version__} at {Path(timm.__file__).parent} is too old: {work} needs {needed} or newer'
        )
    return version


def require_timm_for_training() -> None:
    """Imports timm and raises RunError if it is too old to train through its library."""
    timm_version(OLDEST_FOR_TRAINING, "training through timm's library")
