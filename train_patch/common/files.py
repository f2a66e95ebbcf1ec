"""Writing files and folders atomically: under its name one is the old or the new, never half of either."""

import json
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from .errors import RunError


def write_atomically(path: str | Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file under a new temporary name beside `path`, then renames it.

    Args:
        path: the final name; its folder is made where it is missing.
        write: called with the open binary file.

    Raises:
        RunError: the disk is full, or the folder cannot be written. After this and any other error the temporary file
            is gone, and what had the final name still has it.
    """
    temporary = f'{path}.{secrets.token_hex(4)}.tmp'
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        try:
            with open(temporary, 'xb') as file:  # follows no link, takes no file of another writer
                write(file)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise
    except OSError as error:
        raise RunError(f'cannot write {path}: {first_line(error)}') from error


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Gives a folder beside `path` to write into, and renames it to `path` at the end of the block.

    Raises:
        RunError: the folder cannot be written, or something else is at `path`; nothing is left beside it.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f'{path.name}.tmp-', dir=path.parent) as draft:
            complete = Path(draft, 'complete')
            complete.mkdir()
            yield complete
            complete.rename(path)
    except OSError as error:
        raise RunError(f'cannot write {path}: {first_line(error)}') from error


def write_bytes(path: str | Path, content: bytes) -> None:
    """Writes bytes atomically."""
    write_atomically(path, lambda file: file.write(content))


def write_json(path: str | Path, value: Any) -> None:
    """Writes JSON atomically; raises ValueError for numbers that JSON does not have (nan, inf)."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    write_bytes(path, (text + '\n').encode())


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Holds a lock of a folder, which it makes where it is missing; waits for another process that holds it.

    Says on standard error where the file system has no lock for a folder, as a network's may not.
    """
    import fcntl  # Windows has none, and most of this module needs none

    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            print(f'{folder} cannot be locked ({first_line(error)}): let no other command write there', file=sys.stderr)
        yield
    finally:
        os.close(descriptor)


def first_line(error: BaseException) -> str:
    """Returns the reason for an error on one line; of the operating system's error only its words."""
    words = error.strerror if isinstance(error, OSError) else None
    return words or next(iter(str(error).splitlines()), type(error).__name__)
