"""The lock of a folder, signals, and the end of processes and of all that they have started."""

import contextlib
import signal
import subprocess
import time

import pytest

from train_patch.common.errors import WrongArguments
from train_patch.comparison import guard
from train_patch.comparison.guard import end_all, locked


@pytest.fixture
def lock(tmp_path, monkeypatch):
    monkeypatch.setattr(guard, 'ORPHAN_SECONDS', 0.5)
    return tmp_path / '.lock'


def test_a_lock_is_for_one_comparison_at_a_time(lock):
    lock.write_text('of an earlier comparison' * 9)
    with (
        locked(lock),
        pytest.raises(WrongArguments, match=r'is in use: process \d+ on \S+ trains into it$'),
        locked(lock),
    ):
        pass
    with locked(lock):
        pass


def test_a_lock_is_waited_for_while_an_orphan_ends(lock):
    """A training process inherits the lock of a comparison that is killed."""
    with locked(lock) as file:
        subprocess.Popen(['sleep', '0.3'], pass_fds=[file.fileno()])
    with locked(lock):
        pass


def test_training_keeps_the_lock_of_a_comparison_that_is_gone(lock):
    with locked(lock) as file:
        process = subprocess.Popen(['sleep', '100'], pass_fds=[file.fileno()])
    with pytest.raises(WrongArguments, match='is in use'), locked(lock):
        pass
    process.kill()
    process.wait()
    with locked(lock):
        pass


@pytest.fixture
def start(tmp_path):
    """`start(script)`: a shell script in a session of its own that has written a number; gives both."""
    started = []

    def call(script):
        log = tmp_path / f'{len(started)}'
        started.append(subprocess.Popen(['sh', '-c', script], stdout=log.open('w'), start_new_session=True))
        while not log.read_text().endswith('\n'):
            time.sleep(0.01)
        return started[-1], int(log.read_text())

    yield call
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def is_running(pid):
    state = subprocess.run(['ps', '-o', 'stat=', '-p', str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith('Z')


def test_the_end_of_a_process_is_that_of_all_it_started(start):
    done, _ = start('echo 0; exit 5')
    done.wait()
    process, child = start('sleep 1000 & echo $!; wait')
    end_all([done, process])
    assert (done.returncode, process.returncode) == (5, -signal.SIGTERM)
    deadline = time.monotonic() + 60
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not is_running(child)


def test_a_process_that_cleans_up_is_given_the_time(start):
    process, _ = start('trap "exit 4" TERM; echo 0; sleep 100 & wait')
    end_all([process])
    assert process.returncode == 4


def test_a_process_that_does_not_end_by_itself_is_killed(start, monkeypatch):
    monkeypatch.setattr(guard, 'STOP_SECONDS', 0.2)
    process, _ = start('trap "" TERM; echo 0; while true; do sleep 0.05; done')
    end_all([process])
    assert process.returncode == -signal.SIGKILL
