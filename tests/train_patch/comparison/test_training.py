"""The parts of the machine that runs get, what is noticed while they train, and what their logs say."""

import os
import time

import pytest
import torch

from train_patch.comparison.checks import message_of
from train_patch.comparison.runs import all_runs
from train_patch.comparison.training import EpochWatch, Table, _threads, environments, shares


def test_runs_share_the_cores_equally():
    assert shares(3, [], cores=8) == [{'OMP_NUM_THREADS': '2'}] * 3


def test_no_run_goes_without_a_thread():
    assert shares(4, [], cores=2) == [{'OMP_NUM_THREADS': '1'}] * 4


def test_each_run_has_a_gpu_of_its_own():
    assert shares(2, ['3', '5', 'GPU-8ab'], cores=8) == [
        {'OMP_NUM_THREADS': '4', 'CUDA_VISIBLE_DEVICES': '3'},
        {'OMP_NUM_THREADS': '4', 'CUDA_VISIBLE_DEVICES': '5'},
    ]


def test_more_runs_than_gpus_are_refused():
    with pytest.raises(ValueError, match='--jobs 3: each run has a GPU of its own, and there are 2 here'):
        shares(3, ['0', '1'], cores=8)


def test_the_threads_that_a_user_set_stay_as_they_are(plan, arguments, tmp_path, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert environments(plan(arguments(tmp_path, '--jobs', '2'))) == [{'OMP_NUM_THREADS': '3'}] * 2


def test_cores_are_shared_where_nothing_was_set(plan, arguments, tmp_path, monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS')
    cores = len(os.sched_getaffinity(0))
    share = [{'OMP_NUM_THREADS': str(max(1, cores // 2))}] * 2
    assert environments(plan(arguments(tmp_path, '--jobs', '2'))) == share


def test_one_run_at_a_time_has_the_machine_as_it_is(plan, arguments, tmp_path, monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS')
    assert environments(plan(arguments(tmp_path))) == [{}]


@pytest.fixture
def run(plan, arguments, tmp_path):
    run = all_runs(plan(arguments(tmp_path)))[0]
    run.folder.mkdir(parents=True)
    return run


def write(run, epochs, time_of=None):
    """A table of so many epochs (below 10), which has the same size whatever their numbers are."""
    run.summary.write_text('epoch,eval_top1\n' + ''.join(f'{epoch},10\n' for epoch in epochs))
    if time_of is not None:
        os.utime(run.summary, ns=(time_of, time_of))


def test_a_table_is_read_when_it_changed(run):
    table = Table(run)
    assert table.epochs == 0
    write(run, [0, 1])
    table.look()
    assert table.epochs == 2


def test_a_table_that_did_not_change_is_not_read(run):
    write(run, [0, 1], time_of=10**18)
    table = Table(run)
    write(run, [0, 4], time_of=10**18)  # what the file system says of it is the same
    table.look(time.monotonic() + 10)
    assert table.epochs == 2


def test_a_table_is_read_once_a_second_at_most(run):
    now = time.monotonic()
    table = Table(run)
    write(run, [0])
    table.look(now + 0.5)
    assert table.epochs == 0
    table.look(now + 1.5)
    assert table.epochs == 1


def test_a_table_is_read_when_the_clock_was_set_back(run):
    write(run, [0, 1], time_of=2 * 10**18)
    table = Table(run)
    write(run, [0, 4], time_of=10**18)
    table.look()
    assert table.epochs == 5


def test_epochs_are_timed_between_rows():
    watch = EpochWatch()
    # resumed at epoch 3; the row of epoch 4 holds the start
    for epochs, now in ((3, 100.0), (3, 105.0), (5, 120.0), (7, 122.0), (7, 125.0), (10, 130.0)):
        watch.see(epochs, now)
    assert watch.epoch_seconds() == 2.0  # five epochs from 120 to 130


@pytest.mark.parametrize('seen', [[], [(0, 1.0)], [(0, 1.0), (4, 9.0)]])
def test_one_row_times_nothing(seen):
    watch = EpochWatch()
    for epochs, now in seen:
        watch.see(epochs, now)
    assert watch.epoch_seconds() is None


@pytest.mark.parametrize(
    ('said', 'message'),
    [
        ('Traceback (…):\n  File "x.py"\ntorch.OutOfMemoryError: out of memory\nbye\n\n', None),
        ('usage: …\nhmix-train: error: argument --lr: invalid float value\n', 'argument --lr: invalid float value'),
        ('usage: …\n__main__.py: error: --epochs 0\n', '--epochs 0'),
        ('Train: 0\nERROR: the loss is nan in epoch 3\n', 'the loss is nan in epoch 3'),
        ('one line\nKilled\n', 'Killed'),
        (' \n', 'no output'),
    ],
)
def test_the_line_that_says_what_went_wrong(said, message):
    assert message_of(said) == (message or 'torch.OutOfMemoryError: out of memory')


def test_a_table_that_was_replaced_is_read(run):
    """As a new file of the same size and time: it has another number in the file system."""
    write(run, [0, 1], time_of=10**18)
    table = Table(run)
    run.summary.rename(run.folder / 'kept')
    write(run, [0, 4], time_of=10**18)
    table.look()
    assert table.epochs == 5


def test_a_longer_table_of_the_same_time_is_read(run):
    write(run, [0, 1], time_of=10**18)
    table = Table(run)
    write(run, [0, 1, 2], time_of=10**18)
    table.look()
    assert table.epochs == 3


def test_a_table_that_vanished_holds_nothing(run):
    write(run, [0, 1])
    table = Table(run)
    run.summary.unlink()
    table.look()
    assert table.epochs == 0


def test_a_second_is_counted_from_the_last_reading(run):
    now = time.monotonic()
    table = Table(run)
    write(run, [0])
    table.look(now + 5)  # read now
    write(run, [0, 1])
    table.look(now + 0.5)
    assert table.epochs == 1


def test_one_run_at_a_time_on_the_digits_has_one_thread_unless_the_user_said_otherwise(plan, tmp_path, monkeypatch):
    comparison = plan(['digits', '--output', tmp_path, '--modes', 'none'])
    monkeypatch.delenv('OMP_NUM_THREADS')
    assert environments(comparison) == [{'OMP_NUM_THREADS': '1'}]
    monkeypatch.setenv('OMP_NUM_THREADS', '4')
    assert environments(comparison) == [{}]


@pytest.fixture
def gpus(monkeypatch):
    """A machine with so many GPUs that torch may use, of which the user has named some."""

    def choose(count, named=None):
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)
        monkeypatch.setenv('OMP_NUM_THREADS', '3')
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
        if named is not None:
            monkeypatch.setenv('CUDA_VISIBLE_DEVICES', named)

    return choose


@pytest.mark.parametrize(
    ('count', 'named', 'given'),
    [(3, None, ['0', '1']), (2, '5,GPU-8ab', ['5', 'GPU-8ab']), (2, '4,,6,9', ['4', '6']), (0, '', [None, None])],
)
def test_the_gpus_are_those_that_the_user_named_or_all(plan, arguments, tmp_path, gpus, count, named, given):
    gpus(count, named)
    parts = environments(plan(arguments(tmp_path, '--modes', 'none', '--jobs', '2', '--device', 'cuda')))
    assert [part.get('CUDA_VISIBLE_DEVICES') for part in parts] == given
    assert [part['OMP_NUM_THREADS'] for part in parts] == ['3', '3']


def test_on_the_cpu_no_run_has_a_gpu(plan, arguments, tmp_path, gpus):
    gpus(1)
    assert environments(plan(arguments(tmp_path, '--modes', 'none', '--jobs', '2'))) == [{'OMP_NUM_THREADS': '3'}] * 2


def test_as_many_gpus_as_runs_are_enough():
    assert [part['CUDA_VISIBLE_DEVICES'] for part in shares(2, ['7', '8'], cores=2)] == ['7', '8']


def test_one_device_is_not_shared_by_several_runs(plan, arguments, tmp_path):
    comparison = plan(arguments(tmp_path, '--modes', 'none', '--jobs', '2', '--device', 'cuda:1'))
    with pytest.raises(ValueError, match=r'^--device cuda:1 is one device; with --jobs 2 each run has one of its own$'):
        environments(comparison)


def test_the_number_of_threads_is_what_was_set_or_the_launchers_or_torchs(plan, arguments, tmp_path, monkeypatch):
    plain = plan(arguments(tmp_path, '--modes', 'none'))
    many = plan(arguments(tmp_path, '--modes', 'none', '--nproc-per-node', '2'))
    monkeypatch.setenv('OMP_NUM_THREADS', '5')
    assert _threads(plain, {'OMP_NUM_THREADS': '3'}) == 3
    assert _threads(plain, {}) == _threads(many, {}) == 5
    monkeypatch.delenv('OMP_NUM_THREADS')
    monkeypatch.setattr(torch, 'get_num_threads', lambda: 7)  # a machine of seven cores
    assert (_threads(plain, {}), _threads(many, {})) == (7, 1)


@pytest.mark.parametrize('word', ['ValueErrors', 'error in', 'NoError', 'an error: x'])
def test_a_line_that_only_speaks_of_errors_is_not_taken_for_one(word):
    assert message_of(f'{word} …\nthe end\n') == ('the end' if word != 'NoError' else 'NoError …')


def test_two_rows_time_the_epochs_between_them():
    watch = EpochWatch()
    for epochs, now in ((0, 1.0), (1, 50.0), (4, 56.0)):
        watch.see(epochs, now)
    assert watch.epoch_seconds() == 2.0


@pytest.mark.parametrize('device', ['cpu', 'mps', 'xpu'])
def test_runs_on_another_device_have_no_gpu_of_cuda(plan, arguments, tmp_path, gpus, device):
    gpus(3)
    parts = environments(plan(arguments(tmp_path, '--modes', 'none', '--jobs', '2', '--device', device)))
    assert parts == [{'OMP_NUM_THREADS': '3'}] * 2


def test_the_cores_are_those_that_this_process_may_use(plan, arguments, tmp_path, monkeypatch):
    monkeypatch.delenv('OMP_NUM_THREADS')
    monkeypatch.setattr(os, 'sched_getaffinity', lambda pid: set(range(6)) if pid == 0 else set(range(64)))
    parts = environments(plan(arguments(tmp_path, '--modes', 'none', '--jobs', '2')))
    assert parts == [{'OMP_NUM_THREADS': '3'}] * 2
