"""Ending processes together with the process that they work for."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_PR_SET_PDEATHSIG = 1


class Terminated(KeyboardInterrupt):
    """SIGTERM came, which ends a run as Ctrl-C does."""


def raise_on_sigterm() -> None:
    """Makes SIGTERM raise `Terminated` in the main thread."""
    own = os.getpid()

    def terminate(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own:  # a loader worker that torch has not set up yet
            os._exit(128 + number)
        # loader workers of the same process group end, too, for which torch would raise an error
        signal.signal(signal.SIGCHLD, _ignore)
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)


@contextmanager
def noting_signals(*more: str) -> Iterator[list[int]]:
    """Notes the signals that end a program, in place of being ended by them while a run is started or a file written.

    Ignored signals stay ignored, also in child processes: nohup ignores SIGHUP. Handlers in C stay, too.

    Args:
        more: names of other signals to note.

    Yields:
        The list that the numbers of the signals are added to.
    """
    came: list[int] = []
    names = ('SIGINT', 'SIGTERM', 'SIGHUP', *more)
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]  # Windows has not all
    handlers = {number: signal.getsignal(number) for number in numbers}
    handlers = {number: handler for number, handler in handlers.items() if handler not in (None, signal.SIG_IGN)}
    for number in handlers:
        signal.signal(number, lambda number, frame: came.append(number))
    try:
        yield came
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


@contextmanager
def holding_signals() -> Iterator[None]:
    """Lets signals wait for the end of the block; those that come before an error in it are dropped.

    They are those that end a program, and SIGCHLD, by which torch learns of a loader worker that was killed.
    """
    with noting_signals('SIGCHLD') as came:
        yield
    for number in sorted(set(came)):  # SIGCHLD, of the highest number, last: workers end with what ends the run
        signal.raise_signal(number)


def was_terminated() -> bool:
    """Whether SIGTERM has come; a finalizer may have swallowed `Terminated`."""
    return hasattr(signal, 'SIGCHLD') and signal.getsignal(signal.SIGCHLD) is _ignore  # Windows has none


def _ignore(number: int, frame: FrameType | None) -> None:
    """Handles SIGCHLD; with SIG_DFL, Python would complain about a signal that is on its way."""


def end_child_with_parent() -> Callable[[], None] | None:
    """Returns a function for `subprocess.Popen(preexec_fn=…)` with which the child ends when this process dies.

    Returns:
        The function, which asks the kernel for SIGTERM; None where the kernel is not Linux and offers no such thing.
    """
    if sys.platform != 'linux':
        return None
    prctl = ctypes.CDLL(None).prctl  # before the fork, after which as little as possible should happen
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask


def end_with_torchrun() -> None:
    """Asks the kernel to end this process when torchrun, or submitit on this machine, which started it, dies.

    torchrun ends its processes when it is asked to end. If it is killed, they would train on beside those of a new
    launch, or wait ten minutes for others that never come. Processes that a shell or a cluster started are left alone.
    """
    if {'TORCHELASTIC_RUN_ID', 'SUBMITIT_LOCAL_JOB_ID'} & os.environ.keys() and sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end_worker_with_parent(worker_init_fn: Callable[[int], None] | None, worker_id: int) -> None:
    """Initializes a loader worker, and ends it when the process that it works for is killed.

    torch's workers watch the process that forked them. Under a fork server that is the server, which lives as long as
    they do; so a thread of the worker waits for the real parent.

    Args:
        worker_init_fn: the loader's own initialization.
        worker_id: the worker's number.
    """
    parent = multiprocessing.parent_process()
    assert parent is not None

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    if worker_init_fn is not None:
        worker_init_fn(worker_id)
