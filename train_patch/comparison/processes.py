"""Training processes that do not outlive their comparison, and a folder that only one comparison trains into."""

import contextlib
import fcntl
import json
import os
import platform
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from ..common.processes import end_child_with_parent

STOP_SECONDS = 40  # torchrun grants the processes that it started 30
ORPHAN_SECONDS = 60
ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Process = subprocess.Popen[bytes]


@contextlib.contextmanager
def handling_signals(handle: Callable[[int, Any], object]) -> Iterator[None]:
    """Handles the signals that end a comparison, except ignored ones: nohup ignores SIGHUP, and so do its children.

    Args:
        handle: called with the signal's number and the frame that it interrupts.
    """
    handlers = {number: signal.getsignal(number) for number in ENDING_SIGNALS}
    listened = {number: handler for number, handler in handlers.items() if handler is not signal.SIG_IGN}
    for number in listened:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in listened.items():
            signal.signal(number, handler)


class FolderInUse(RuntimeError):
    """Another comparison trains into the folder; the message says which."""


@contextlib.contextmanager
def locked(path: Path) -> Iterator[IO[str]]:
    """Holds the lock of a folder.

    The lock belongs to the open file: training processes inherit it, so a comparison that was killed leaves its folder
    locked for as long as one of them is still at work. Then this waits for their end. (filelock's locks cannot be
    inherited.)

    Args:
        path: the lock file, made if need be. It says who holds the lock, and is never deleted.

    Yields:
        The open file, for the training processes to inherit.

    Raises:
        FolderInUse: somebody holds it.
    """
    with path.open('a+') as file:
        deadline = time.monotonic() + ORPHAN_SECONDS
        while not _try_lock(file):
            holder = _read_holder(file)
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


def _read_holder(file: IO[str]) -> dict[str, Any]:
    file.seek(0)
    try:
        return json.loads(file.read())
    except ValueError:  # it has the lock, and has not yet written its name
        return {}


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
def holding_signals() -> Iterator[None]:
    """Lets the signals that end a comparison wait for the end of the block, so that no process is started unnoticed."""
    came: list[int] = []
    try:
        with handling_signals(lambda number, frame: came.append(number)):
            yield
    finally:
        for number in came:
            signal.raise_signal(number)


def start_training(command: Sequence[str], log: Path, lock: IO[str]) -> Process:
    """Starts a training process, for `end_all` to end.

    Where this process itself is killed, Linux ends the training process; elsewhere the inherited lock tells the next
    comparison that it is still there.

    Args:
        command: what to run.
        log: file that its output is appended to.
        lock: what `locked` yielded.
    """
    with log.open('ab') as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[lock.fileno()],
            start_new_session=True,  # Ctrl-C reaches the comparison alone, which then ends the whole group
            preexec_fn=end_child_with_parent(),
        )


def end_all(processes: Iterable[Process]) -> None:
    """Ends training processes with all that they have started, those that do not end by themselves the hard way."""
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
