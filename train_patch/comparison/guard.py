"""Keeps one comparison in its folder, and ends its training processes with it."""

import contextlib
import os
import platform
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from ..common.errors import WrongArguments

ORPHAN_SECONDS = 10
STOP_SECONDS = 40  # torchrun gives its processes 30


@contextlib.contextmanager
def locked(path: Path) -> Iterator[IO[str]]:
    """Holds the lock of a folder.

    The lock belongs to the open file: training processes inherit it, which filelock's locks do not allow. So a
    comparison that was killed leaves its folder locked until the last of its training processes has ended. This waits
    a while for them.

    Args:
        path: the lock file, which names the holder of the lock. It is made if it is missing, and never deleted.

    Yields:
        The open file, for the training processes to inherit.

    Raises:
        WrongArguments: another comparison holds the lock.
    """
    with path.open('a+') as file:
        deadline = time.monotonic() + ORPHAN_SECONDS
        while not _try_lock(file):
            if time.monotonic() > deadline:
                file.seek(0)
                raise WrongArguments(f'{path.parent} is in use: {file.read() or "another process"} trains into it')
            time.sleep(0.2)
        file.truncate(0)
        file.write(f'process {os.getpid()} on {platform.node()}')
        file.flush()
        yield file


def _try_lock(file: IO[str]) -> bool:
    import fcntl  # Windows has none

    with contextlib.suppress(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False


def end_all(processes: Iterable[subprocess.Popen[bytes]]) -> None:
    """Ends processes together with their process groups, and kills those that do not end in time."""
    running = [process for process in processes if process.poll() is None]
    for process in running:
        os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + STOP_SECONDS
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
