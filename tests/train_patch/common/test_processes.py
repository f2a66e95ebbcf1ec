"""Processes that end with the one that they work for."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time

import pytest

from train_patch.common.processes import (
    Terminated,
    end_with_torchrun,
    holding_signals,
    noting_signals,
    raise_on_sigterm,
    was_terminated,
)

linux = pytest.mark.skipif(sys.platform != 'linux', reason='the kernel has to offer it')

PARENT = """
import subprocess, sys, time
from train_patch.common.processes import end_child_with_parent
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], preexec_fn=end_child_with_parent())
print(child.pid, flush=True)
time.sleep(600)
"""

# What torchrun is to one of two processes: the other one never comes, and for that a process waits ten minutes.
TORCHRUN = """
import os, subprocess, sys, time
os.environ |= dict(TORCHELASTIC_RUN_ID='1', RANK='0', WORLD_SIZE='2', LOCAL_RANK='0', MASTER_PORT='0')
os.environ['MASTER_ADDR'] = '127.0.0.1'
child = subprocess.Popen([sys.executable, '-m', 'train_patch', '--device', 'cpu', '--val-split', ''])
while 'libtorch' not in open(f'/proc/{child.pid}/maps').read():
    time.sleep(0.01)
print(child.pid, flush=True)
time.sleep(600)
"""

WORKER = """
import multiprocessing, time
from functools import partial
from train_patch.common.processes import end_worker_with_parent

def work(queue):
    end_worker_with_parent(lambda number: queue.put(number), 7)
    queue.put(multiprocessing.current_process().pid)
    time.sleep(600)

if __name__ == '__main__':
    context = multiprocessing.get_context('forkserver')
    queue = context.Queue()
    context.Process(target=work, args=(queue,)).start()
    assert queue.get(timeout=60) == 7  # the loader's own initialization is not lost
    print(queue.get(), flush=True)
    time.sleep(600)
"""


def living(pid):
    """Whether a process is there and not only waiting to be collected."""
    state = subprocess.run(['ps', '-o', 'stat=', '-p', str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith('Z')


@linux
@pytest.mark.parametrize('code', [PARENT, TORCHRUN, WORKER], ids=['child', 'of torchrun', 'worker of a fork server'])
def test_a_child_does_not_outlive_a_parent_that_is_killed(tmp_path, code):
    (tmp_path / 'parent.py').write_text(code)
    command = [sys.executable, str(tmp_path / 'parent.py')]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        lived = living(child)
        os.kill(parent.pid, signal.SIGKILL)
    deadline = time.monotonic() + 60
    while living(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert lived and not living(child)


# Within this process: what the kernel and Python are asked for


def death_signal(new=None):
    """The signal that the kernel sends this process when its parent dies; sets another one where it is given."""
    prctl, found = ctypes.CDLL(None).prctl, ctypes.c_int()
    prctl(2, ctypes.byref(found), 0, 0, 0)
    if new is not None:
        prctl(1, new, 0, 0, 0)
    return found.value


@pytest.fixture
def no_death_signal():
    before = death_signal(0)
    yield
    death_signal(before)


def test_sigterm_is_an_interrupt_of_its_own(signals):
    raise_on_sigterm()
    signal.signal(signal.SIGCHLD, lambda number, frame: pytest.fail('was told of a worker'))
    with pytest.raises(pytest.fail.Exception), holding_signals():
        signal.raise_signal(signal.SIGCHLD)
    assert not was_terminated()
    with pytest.raises(Terminated), holding_signals():  # while a checkpoint is written; the workers may end first
        signal.raise_signal(signal.SIGCHLD)
        signal.raise_signal(signal.SIGTERM)
        written = True
    assert was_terminated() and written
    signal.raise_signal(signal.SIGCHLD)  # nobody is told any more of loader workers that end, too
    assert issubclass(Terminated, KeyboardInterrupt)  # what looks out for Ctrl-C need not look out for it


def test_sigterm_ends_a_worker_that_has_only_begun(signals):
    raise_on_sigterm()
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(Terminated):
            signal.raise_signal(signal.SIGTERM)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 143


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_are_noted_unless_they_are_ignored(signals, number):
    signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(OSError), noting_signals() as came:
        signal.raise_signal(number)
        signal.raise_signal(number)
        raise OSError
    assert came == [number, number] and signal.getsignal(number) == signal.default_int_handler
    signal.signal(number, signal.SIG_IGN)
    with noting_signals():
        assert signal.getsignal(number) == signal.SIG_IGN


@linux
@pytest.mark.parametrize(('torchrun', 'expected'), [(True, signal.SIGTERM), (False, 0)])
def test_a_process_ends_with_torchrun_and_with_no_other_parent(monkeypatch, no_death_signal, torchrun, expected):
    monkeypatch.delenv('TORCHELASTIC_RUN_ID', raising=False)
    if torchrun:
        monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    end_with_torchrun()
    assert death_signal() == expected
