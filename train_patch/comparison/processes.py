"""Training processes that do not outlive their comparison, and a folder that only one comparison trains into."""

import contextlib
import ctypes
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

STOP_SECONDS = 40  # torchrun grants the processes that it started 30
ORPHAN_SECONDS = 60
_PR_SET_PDEATHSIG = 1


class FolderInUse(RuntimeError):
    """Another comparison trains into the folder; the message says which."""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[IO[str]]:
    """Hold the lock of a folder.

    The lock belongs to the open file: training processes inherit it, so a comparison that was killed leaves its folder
    locked for as long as one of them is still at work. Then this waits for their end.

    Args:
        path: The lock file, made if need be. It says who holds the lock, and is never deleted.

    Yields:
        The open file, for the training processes to inherit.

    Raises:
        FolderInUse: somebody holds it.
    """
    with path.open('a+') as file:
        deadline = time.monotonic() + ORPHAN_SECONDS
        while not _try_lock(file):
            file.seek(0)
            holder = json.loads(file.read() or '{}')
            if not _is_gone(holder) or time.monotonic() > deadline:
                who = f'process {holder["pid"]} on {holder["host"]}' if holder else 'another process'
                raise FolderInUse(f'{path.parent} is in use: {who} trains into it')
            time.sleep(0.2)
        file.truncate(0)
        file.write(json.dumps({'pid': os.getpid(), 'host': platform.node()}))
        file.flush()
        yield file


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_gone(holder: dict[str, Any]) -> bool:
    """Whether the lock's holder was on this machine and has ended."""
    if holder.get('host') != platform.node():
        return False
    try:
        os.kill(holder['pid'], 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


@contextlib.contextmanager
def training(command: Sequence[str], log: Path, lock: IO[str]) -> Iterator[subprocess.Popen[bytes]]:
    """Run a training process, which is ended at the latest when the block is left.

    Where this process itself is killed, Linux ends the training process; elsewhere the inherited lock tells the next
    comparison that it is still there.

    Args:
        command: What to run.
        log: File that its output is appended to.
        lock: What `locked` yielded.

    Yields:
        The process.
    """
    with log.open('ab') as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[lock.fileno()],
            start_new_session=True,  # Ctrl-C reaches the comparison alone, which then ends the whole group
            preexec_fn=_end_with_parent() if sys.platform == 'linux' else None,
        )
    try:
        yield process
    finally:
        _stop(process)


def _end_with_parent() -> Callable[[], None]:
    """For `preexec_fn`: the kernel sends SIGTERM when the parent dies, for whatever reason."""
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork, after which as little as possible should happen
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
