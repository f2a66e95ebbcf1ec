"""Training processes and the lock of a folder, with shell scripts for training."""

import contextlib
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time

import pytest

from train_patch.comparison import processes
from train_patch.comparison.processes import FolderInUse, end_all, holding_signals, locked, start_training

HERE = {'pid': os.getpid(), 'host': platform.node()}


@pytest.fixture
def lock(tmp_path):
    return tmp_path / '.lock'


@contextlib.contextmanager
def held(path, written):
    """Holds a lock as another comparison does that has written this into it; gives the open file."""
    with path.open('w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(written)
        file.flush()
        yield file


def somebody_gone():
    """The number of a process that has ended."""
    process = subprocess.Popen(['true'])
    process.wait()
    return process.pid


def test_a_lock_says_who_holds_it(lock):
    lock.write_text('of an earlier comparison, and longer than what is written now: ' + 'x' * 200)
    with locked(lock) as file:
        assert json.loads(lock.read_text()) == HERE and file.name == str(lock)
    assert lock.exists()


def test_a_folder_is_locked_for_one_comparison_at_a_time(lock):
    with locked(lock), pytest.raises(FolderInUse) as caught, locked(lock):
        pass
    assert str(caught.value) == f'{lock.parent} is in use: process {HERE["pid"]} on {HERE["host"]} trains into it'
    with locked(lock):  # its end is the lock's end
        pass


@pytest.mark.parametrize(
    ('written', 'who'),
    [
        ('', 'another process'),
        ('{"pid": 1', 'another process'),
        (json.dumps({'pid': 4, 'host': 'elsewhere'}), 'process 4 on elsewhere'),
        (
            json.dumps({'pid': 1, 'host': platform.node()}),
            f'process 1 on {platform.node()}',
        ),  # may belong to another user
    ],
)
def test_the_holder_of_a_lock_is_named_at_once(lock, monkeypatch, written, who):
    monkeypatch.setattr(time, 'sleep', lambda seconds: pytest.fail('it waits'))
    with held(lock, written), pytest.raises(FolderInUse, match=f'is in use: {who} trains into it'), locked(lock):
        pass


def test_a_lock_whose_holder_is_gone_is_waited_for(lock):
    """A training process of a comparison that was killed still has it."""
    with held(lock, json.dumps({'pid': somebody_gone(), 'host': platform.node()})) as file:
        threading.Timer(0.1, lambda: fcntl.flock(file, fcntl.LOCK_UN)).start()
        with locked(lock):
            assert json.loads(lock.read_text()) == HERE


def test_a_lock_is_not_waited_for_for_ever(lock, monkeypatch):
    monkeypatch.setattr(processes, 'ORPHAN_SECONDS', 0.1)
    gone = somebody_gone()
    start = time.monotonic()
    holder = json.dumps({'pid': gone, 'host': platform.node()})
    with held(lock, holder), pytest.raises(FolderInUse, match=f'process {gone} on'), locked(lock):
        pass
    assert time.monotonic() - start > 0.1


def test_a_holder_that_belongs_to_another_user_is_there(lock, monkeypatch):
    def refuse(pid, number):
        raise PermissionError  # what the kernel says to everybody but root

    monkeypatch.setattr(os, 'kill', refuse)
    with held(lock, json.dumps(HERE)), pytest.raises(FolderInUse, match=f'process {HERE["pid"]} on'), locked(lock):
        pass


@pytest.fixture
def handled():
    """The signals that came to this process, which has handlers of its own for those that end a comparison."""
    came = []
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, lambda signum, _: came.append(signum)) for number in numbers}
    yield came
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_wait_for_the_end_of_the_block(handled, number):
    with holding_signals():
        signal.raise_signal(number)
        signal.raise_signal(number)
        assert handled == []
    assert handled == [number, number]
    signal.raise_signal(number)
    assert handled == [number] * 3


def test_signals_come_where_the_block_fails_too(handled):
    with pytest.raises(ValueError, match='failed'), holding_signals():
        signal.raise_signal(signal.SIGTERM)
        raise ValueError('failed')
    assert handled == [signal.SIGTERM]


@pytest.fixture
def start(lock, tmp_path):
    """`start(script)`: a training process that is a shell script; `start.log` is its log."""
    started = []

    def call(*command):
        with locked(lock) as file:
            started.append(start_training(command, call.log, file))
        return started[-1]

    call.log = tmp_path / 'train.log'
    yield call
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_what_training_says_is_appended_to_its_log(start):
    start.log.write_text('of an earlier time\n')
    assert start('sh', '-c', 'cat; echo out; echo err >&2; echo end; exit 3').wait() == 3  # and no terminal to read
    assert start.log.read_text() == 'of an earlier time\nout\nerr\nend\n'


def test_training_keeps_the_lock_of_a_comparison_that_is_gone(start, lock):
    process = start('sleep', '100')
    with pytest.raises(FolderInUse), locked(lock):
        pass
    process.kill()
    process.wait()
    with locked(lock):
        pass


def test_ctrl_c_in_the_terminal_does_not_reach_training(start):
    process = start('sleep', '100')
    assert os.getpgid(process.pid) == os.getsid(process.pid) == process.pid != os.getpgrp()


@pytest.mark.skipif(sys.platform != 'linux', reason='the kernel has to offer it')
def test_training_is_to_end_with_its_comparison(start):
    ask = (
        'import ctypes; number = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(number)); print(number.value)'
    )
    assert start(sys.executable, '-S', '-c', ask).wait() == 0
    assert int(start.log.read_text()) in (signal.SIGTERM, signal.SIGKILL)


def is_running(pid):
    """Whether a process is there and not only waiting to be collected."""
    state = subprocess.run(['ps', '-o', 'stat=', '-p', str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith('Z')


def child_of(start):
    """The number of a process that training started, once it has said so."""
    while not start.log.exists() or not start.log.read_text().endswith('\n'):
        time.sleep(0.01)
    return int(start.log.read_text())


def test_the_end_of_training_is_that_of_all_it_started(start):
    process = start('sh', '-c', 'sleep 1000 & echo $!; wait')
    child = child_of(start)
    end_all([process])
    assert process.returncode == -signal.SIGTERM
    deadline = time.monotonic() + 60
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(child)


def test_training_that_cleans_up_is_given_the_time(start):
    process = start('sh', '-c', 'trap "echo saved >> $0; exit 4" TERM; echo $$; sleep 100 & wait', str(start.log))
    child_of(start)
    end_all([process])
    assert process.returncode == 4 and start.log.read_text().endswith('saved\n')


def test_training_that_does_not_end_by_itself_is_ended_the_hard_way(start, monkeypatch):
    monkeypatch.setattr(processes, 'STOP_SECONDS', 0.2)
    process = start('sh', '-c', 'trap "" TERM; echo $$; while true; do sleep 0.05; done')
    child_of(start)
    end_all([process])
    assert process.returncode == -signal.SIGKILL


def test_training_that_has_ended_is_left_alone(start):
    done, running = start('sh', '-c', 'exit 5'), None
    done.wait()
    running = start('sleep', '100')
    end_all([done, running])
    assert (done.returncode, running.returncode) == (5, -signal.SIGTERM)
