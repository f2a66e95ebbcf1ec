"""Processes that do not outlive the one that they work for, however that one ends."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

_PR_SET_PDEATHSIG = 1


class Terminated(KeyboardInterrupt):
    """SIGTERM came: what Ctrl-C does to a run, somebody else does."""


def raise_on_sigterm() -> None:
    """Has SIGTERM raise `Terminated` in the main thread."""
    own = os.getpid()

    def terminate(number: int, frame: FrameType | None) -> None:
        if os.getpid() != own:  # a loader worker that has only begun: from there on, torch ends it without a word
            os._exit(128 + number)
        # where the whole group is sent it, loader workers end, too: torch would raise an error for them on the way out
        signal.signal(signal.SIGCHLD, _ignore)
        raise Terminated

    signal.signal(signal.SIGTERM, terminate)


def was_terminated() -> bool:
    """Whether SIGTERM has come; what it raises is lost where it meets a finalizer."""
    return hasattr(signal, 'SIGCHLD') and signal.getsignal(signal.SIGCHLD) is _ignore  # Windows has none


def _ignore(number: int, frame: FrameType | None) -> None:
    """Not SIG_DFL, at which Python complains of a signal that is on its way."""


def end_child_with_parent() -> Callable[[], None] | None:
    """For `subprocess.Popen(preexec_fn=…)`: the kernel sends the child SIGTERM when this process dies, killed or not.

    Returns:
        The function to run in the child, or None where the kernel is not Linux and offers no such thing.
    """
    if sys.platform != 'linux':
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork, after which as little as possible should happen
    parent = os.getpid()

    def ask() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died in between
            os._exit(1)

    return ask


def end_with_torchrun() -> None:
    """Has the kernel end this process, where torchrun started it, when torchrun dies.

    torchrun ends its processes when it is asked to end. Where it is killed they would train on, beside those of the
    command that is given again, or wait ten minutes for others that never come. Processes that a shell or a cluster
    started may well outlive it, and are left alone.
    """
    if 'TORCHELASTIC_RUN_ID' in os.environ and sys.platform == 'linux':
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end_worker_with_parent(worker_init_fn: Callable[[int], None] | None, worker_id: int) -> None:
    """Initializes a loader worker, and ends it where the process that it works for is killed.

    torch's workers watch the process that forked them, as the kernel would. Under a fork server that is the server,
    which lives as long as they do; so a thread of the worker waits for the real parent.

    Args:
        worker_init_fn: what the loader would have called.
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
