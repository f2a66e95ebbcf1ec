"""A comparison that is ended at any moment goes on where it was, and leaves no training process behind.

The tests that resume timm's own script run where TIMM_TRAIN_SCRIPT names one.
"""

import contextlib
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from train_patch.compare import main
from train_patch.trainer.output import read_table

from .test_compare import launch_lines

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != 'linux', reason='processes are looked up in /proc'),
]

SCRIPT = os.environ.get('TIMM_TRAIN_SCRIPT')


def children_of(pid):
    return [int(child) for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def files_of(pid):
    return {os.readlink(fd) for fd in Path(f'/proc/{pid}/fd').iterdir()}


def is_running(pid):
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


class TooLate(Exception):
    """The runs had come to their end before the signal."""


@dataclass
class Interrupted:
    """A comparison in a process of its own, ended while its runs are under way."""

    argv: list
    folders: list
    epochs: int
    tables: dict = field(default_factory=dict)
    training: dict = field(default_factory=dict)

    def end(self, lean, number):
        """Ends it with a signal once each run has two epochs."""
        call = lean.start_command('compare', self.argv, self.folders[0])
        while any(len(read_table(folder / 'summary.csv')) < 2 for folder in self.folders):
            if not is_running(call.pid):
                assert lean.wait(call).status == 0, call.log
                raise TooLate
            time.sleep(0.01)
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it, or a run, has come to its end
            self.training = {pid: files_of(pid) for pid in children_of(call.pid)}
            os.kill(call.pid, number)
        if lean.wait(call).status == 0:
            raise TooLate
        assert call.status == (128 + number if number != signal.SIGKILL else -signal.SIGKILL), call.log
        assert number == signal.SIGKILL or not any(map(is_running, self.training))
        while any(map(is_running, self.training)):
            time.sleep(0.05)
        self.tables = {folder: read_table(folder / 'summary.csv') for folder in self.folders}
        if any(len(table) == self.epochs for table in self.tables.values()):
            raise TooLate


def interrupted_in_time(lean, arguments, output, number, more, folders):
    """A comparison that a signal ended in time, however fast the machine is."""
    for epochs in (12, 48, 192, 768, 3072):
        runs = [output / str(epochs) / folder for folder in folders]
        argv = arguments(output / str(epochs), '--epochs', epochs, '--checkpoint-hist', '1', *more)
        call = Interrupted(argv, runs, epochs)
        with contextlib.suppress(TooLate):
            call.end(lean, number)
            return call
    raise AssertionError('the signal never came in time')


@pytest.mark.skipif(SCRIPT is None, reason='TIMM_TRAIN_SCRIPT names no script')
def test_a_comparison_with_timms_script_that_was_killed_goes_on_where_it_was(lean, arguments, tmp_path, rows_of):
    more = ['--modes', 'gmix', '--seeds', '0', '--script', SCRIPT]
    call = interrupted_in_time(lean, arguments, tmp_path, signal.SIGKILL, more, ['gmix/seed0'])
    (folder,) = call.folders
    assert main(call.argv) == 0
    lines = (folder / 'summary.csv').read_text().splitlines()
    assert [line.partition(',')[0] for line in lines] == ['epoch', *map(str, range(call.epochs))]
    table = read_table(folder / 'summary.csv')
    for epoch in list(call.tables[folder])[:-1]:
        assert table[epoch] == call.tables[folder][epoch]
    result = rows_of(folder.parents[1] / 'results.csv')[0]
    assert float(result['top1_mean']) == float(table[call.epochs - 1]['eval_top1'])


@pytest.fixture(scope='module')
def ended_by_ctrl_c(lean, arguments, tmp_path_factory):
    """A comparison of two runs at once that Ctrl-C has ended, and its training processes."""
    more = ['--modes', 'none', 'cutmix', '--seeds', '0', '--jobs', '2']
    folders = ['none/seed0', 'cutmix/seed0']
    return interrupted_in_time(lean, arguments, tmp_path_factory.mktemp('ended'), signal.SIGINT, more, folders)


def test_training_processes_hold_the_lock(ended_by_ctrl_c):
    """Where no kernel ends them with their comparison, this is what tells the next call of those left behind."""
    lock = ended_by_ctrl_c.folders[0].parents[1] / '.lock'
    assert len(ended_by_ctrl_c.training) == 2
    assert all(str(lock) in files for files in ended_by_ctrl_c.training.values())


def test_ctrl_c_ends_all_runs_that_are_trained_at_once(ended_by_ctrl_c):
    assert not any(map(is_running, ended_by_ctrl_c.training))


def test_runs_that_were_ended_at_once_go_on_at_once_and_give_what_unbroken_runs_give(
    ended_by_ctrl_c, rows_of, processes, tmp_path
):
    output = ended_by_ctrl_c.folders[0].parents[1]
    times = {folder: rows_of(folder / 'times.csv') for folder in ended_by_ctrl_c.folders}
    assert main(ended_by_ctrl_c.argv) == 0
    assert [row['runs'] for row in rows_of(output / 'results.csv')] == ['1', '1']
    for line in launch_lines([word.replace(str(output), str(tmp_path)) for word in ended_by_ctrl_c.argv]):
        processes.module(*line).passed()
    for folder in ended_by_ctrl_c.folders:
        unbroken = tmp_path / folder.relative_to(output) / 'summary.csv'
        assert (folder / 'summary.csv').read_text() == unbroken.read_text()
        settled = len(ended_by_ctrl_c.tables[folder]) - 1
        assert rows_of(folder / 'times.csv')[:settled] == times[folder][:settled]  # wall times never repeat
