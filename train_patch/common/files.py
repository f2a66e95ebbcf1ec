"""Writing files whole: under its name a file is always the old one or the new one, never half of either."""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from .errors import RunError


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file under a temporary name beside `path`, then renames it.

    Args:
        path: the final name.
        write: called with the open binary file.

    Raises:
        RunError: the disk is full, or the folder cannot be written; nothing is left under either name.
    """
    temporary = f'{path}.tmp'
    try:
        with open(temporary, 'wb') as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except (OSError, RuntimeError) as error:  # RuntimeError: torch's zip writer, when the disk is full
        with suppress(OSError):
            os.unlink(temporary)
        raise RunError(f'cannot write {path}: {first_line(error)}') from error


def write_bytes(path: str | Path, content: bytes) -> None:
    """`write_atomically` for content that is there already."""
    write_atomically(path, lambda file: file.write(content))


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON, atomically; numbers that JSON does not know (nan, inf) raise ValueError."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + '\n').encode())


def first_line(error: BaseException) -> str:
    """What went wrong, on one line: the operating system's own words where it was the one that said no."""
    cause: BaseException | None = error
    while cause is not None:  # torch's writer wraps what the disk said
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return next(iter(str(error).splitlines()), type(error).__name__)
