"""Which checkpoints a folder holds, which one a run goes on from, and which ones stay."""

import os
import random

import pytest
import torch

from train_patch.common.errors import RunError
from train_patch.trainer.checkpoints import (
    find_checkpoint,
    finished_checkpoints,
    holds_run,
    position,
    read_checkpoint,
    recovery_checkpoints,
)
from train_patch.trainer.saver import Saver


def names(paths):
    return [path.name.removesuffix('.pth.tar') for path in paths]


def write(folder, name, epoch, **more):
    torch.save({'epoch': epoch, 'version': 2, 'state_dict': {}, 'optimizer': {}, **more}, folder / f'{name}.pth.tar')


@pytest.fixture
def twelve(tmp_path):
    """Checkpoints of twelve epochs, so that 10 sorts before 9 as text, and some that are none."""
    for epoch in range(12):
        write(tmp_path, f'checkpoint-{epoch}', epoch)
    for name in ('checkpoint-x.pth.tar', 'checkpoint-99.pth.tar.tmp', 'notes.txt', 'acheckpoint-50.pth.tar'):
        (tmp_path / name).touch()
    return tmp_path


def test_finished_checkpoints_from_the_highest_number_down(twelve):
    assert names(finished_checkpoints(twelve)) == [f'checkpoint-{epoch}' for epoch in range(11, -1, -1)]


def test_last_leads_and_the_best_model_ends_the_list(twelve):
    write(twelve, 'last', 11)
    write(twelve, 'model_best', 3)
    listed = names(finished_checkpoints(twelve))
    assert (listed[0], listed[1], listed[-1], len(listed)) == ('last', 'checkpoint-11', 'model_best', 14)


def test_recovery_checkpoints_by_epoch_and_batch_as_numbers(tmp_path):
    for name in ('recovery-9-100', 'recovery-10-9', 'recovery-10-20', 'recovery-10'):
        write(tmp_path, name, 9)
    assert names(recovery_checkpoints(tmp_path)) == ['recovery-10-20', 'recovery-10-9', 'recovery-9-100']


def test_a_missing_folder_holds_nothing(tmp_path):
    folder = tmp_path / 'none'
    assert (finished_checkpoints(folder), recovery_checkpoints(folder), holds_run(folder)) == ([], [], False)
    assert find_checkpoint(folder) is None


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('summary.csv', True),
        ('last.pth.tar', True),
        ('checkpoint-12.pth.tar', True),
        ('recovery-3-14.pth.tar', True),
        ('args.yaml', False),
        ('checkpoint-12.pth.tar.tmp', False),
    ],
)
def test_what_makes_a_folder_a_runs(tmp_path, name, expected):
    (tmp_path / name).touch()
    assert holds_run(tmp_path) is expected


def test_a_damaged_checkpoint_is_passed_over_for_the_next_lower_number(twelve, caplog):
    (twelve / 'checkpoint-11.pth.tar').write_bytes(b'half')
    (twelve / 'last.pth.tar').write_bytes(b'')
    assert find_checkpoint(twelve) == twelve / 'checkpoint-10.pth.tar'
    assert 'last.pth.tar' in caplog.text and 'checkpoint-11.pth.tar' in caplog.text


@pytest.mark.parametrize(
    ('recovery', 'found'),
    [('recovery-12-1', 'recovery-12-1'), ('recovery-11-40', 'checkpoint-11'), ('recovery-9-99', 'checkpoint-11')],
)
def test_a_recovery_checkpoint_counts_only_beyond_the_finished_epochs(twelve, recovery, found):
    epoch, batches = map(int, recovery.split('-')[1:])
    write(twelve, recovery, epoch - 1, batches_done=batches)
    assert find_checkpoint(twelve).name == f'{found}.pth.tar'


def test_nothing_usable_is_an_error_and_not_a_fresh_start(tmp_path):
    (tmp_path / 'recovery-0-2.pth.tar').write_bytes(b'half')
    with pytest.raises(RunError, match=f'none of the checkpoints in {tmp_path} can be used'):
        find_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ('checkpoint', 'expected'),
    [
        ({'epoch': 4, 'version': 2}, (5, 0)),
        ({'epoch': 4}, (4, 0)),  # timm's before version 2 counted on before it saved
        ({'epoch': 4, 'version': 2, 'batches_done': 7}, (5, 7)),
    ],
)
def test_position(checkpoint, expected):
    assert position(checkpoint) == expected


def test_weights_alone_are_no_checkpoint(tmp_path):
    torch.save({'weight': torch.zeros(1)}, tmp_path / 'weights.pth')
    with pytest.raises(RunError, match='is not a checkpoint of a run'):
        read_checkpoint(tmp_path / 'weights.pth')


def kept(folder):
    return sorted(int(path.name.split('-')[1].split('.')[0]) for path in folder.glob('checkpoint-*'))


def best(metrics, decreasing, count):
    """The epochs of the best metrics; of equal ones the earlier."""
    order = sorted(range(len(metrics)), key=lambda epoch: (metrics[epoch] * (1 if decreasing else -1), epoch))
    return order[:count]


@pytest.mark.parametrize('decreasing', [False, True])
@pytest.mark.parametrize('max_history', [1, 3, 20])
def test_the_best_epochs_are_kept(tmp_path, decreasing, max_history):
    metrics = [random.Random(0).choice([1, 5, 7, 9, 10, 11, 30]) for _ in range(14)]
    metrics = [metric + epoch % 3 for epoch, metric in enumerate(metrics)]
    saver = Saver(tmp_path, decreasing, max_history)
    for epoch, metric in enumerate(metrics):
        saver.save_checkpoint({'state_dict': {}, 'optimizer': {}}, epoch, metric)
        done = metrics[: epoch + 1]
        (first, *_) = best(done, decreasing, 1)
        assert kept(tmp_path) == sorted(best(done, decreasing, max_history))
        assert read_checkpoint(tmp_path / 'model_best.pth.tar')['epoch'] == first
        assert (saver.best_epoch, saver.best_metric) == (first, metrics[first])
        assert read_checkpoint(tmp_path / 'last.pth.tar')['epoch'] == epoch


@pytest.mark.parametrize('resumed_at', [2, 6, 11])
def test_a_resumed_saver_keeps_what_an_unbroken_one_keeps(tmp_path, resumed_at):
    metrics = [3, 9, 1, 8, 8, 2, 10, 4, 7, 11, 5, 6, 12, 0]

    def save(folder, epochs, path=None):
        folder.mkdir(exist_ok=True)
        saver = Saver(folder, decreasing=False, max_history=3)
        if path is not None:
            saver.restore(path, read_checkpoint(path))
        for epoch in epochs:
            saver.save_checkpoint({'state_dict': {}, 'optimizer': {}}, epoch, metrics[epoch])
        return saver

    unbroken = save(tmp_path / 'unbroken', range(14))
    save(tmp_path / 'broken', range(resumed_at))
    resumed = save(tmp_path / 'broken', range(resumed_at, 14), tmp_path / 'broken/last.pth.tar')
    assert resumed.history == unbroken.history
    assert unbroken.history == [
        ('checkpoint-12.pth.tar', 12),
        ('checkpoint-9.pth.tar', 11),
        ('checkpoint-6.pth.tar', 10),
    ]
    assert sorted(os.listdir(tmp_path / 'broken')) == sorted(os.listdir(tmp_path / 'unbroken'))


def test_two_recovery_checkpoints_stay(tmp_path):
    saver = Saver(tmp_path, decreasing=False, max_history=1)
    for batch in (8, 9, 10, 11):
        saver.save_recovery({'state_dict': {}, 'optimizer': {}}, 9, batch)
    saver.save_recovery({'state_dict': {}, 'optimizer': {}}, 10, 2)
    assert names(recovery_checkpoints(tmp_path)) == ['recovery-10-2', 'recovery-9-11']
    assert position(read_checkpoint(tmp_path / 'recovery-10-2.pth.tar')) == (10, 2)


def test_resuming_an_earlier_epoch_gives_up_the_recoveries_ahead_of_it(tmp_path):
    """Left there, `--resume auto` would later go on from batches of the run that was given up."""
    saver = Saver(tmp_path, decreasing=False, max_history=9)
    for epoch in range(3):
        saver.save_checkpoint({'state_dict': {}, 'optimizer': {}}, epoch, epoch)
    saver.save_recovery({'state_dict': {}, 'optimizer': {}}, 3, 5)
    path = tmp_path / 'checkpoint-1.pth.tar'
    Saver(tmp_path, decreasing=False, max_history=9).restore(path, read_checkpoint(path))
    assert recovery_checkpoints(tmp_path) == []


def test_what_a_run_goes_on_from_stays_in_mid_epoch_too(tmp_path):
    saver = Saver(tmp_path, decreasing=False, max_history=1)
    for batch in (4, 5, 6):
        saver.save_recovery({'state_dict': {}, 'optimizer': {}}, 1, batch)
    path = tmp_path / 'recovery-1-5.pth.tar'
    Saver(tmp_path, decreasing=False, max_history=1).restore(path, read_checkpoint(path))
    assert names(recovery_checkpoints(tmp_path)) == ['recovery-1-5']


def test_the_first_batches_alone_can_be_gone_on_from(tmp_path):
    """Nothing is finished yet: a recovery from the first epoch is all there is."""
    write(tmp_path, 'recovery-0-3', -1, batches_done=3)
    (tmp_path / 'last.pth.tar').write_bytes(b'half')
    assert find_checkpoint(tmp_path).name == 'recovery-0-3.pth.tar'


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_reading_a_checkpoint_runs_nothing(tmp_path):
    write(tmp_path, 'last', 3, more=Hostile(str(tmp_path / 'made')))
    with pytest.raises(RunError, match='holds more than weights and plain values'):
        read_checkpoint(tmp_path / 'last.pth.tar')
    assert not (tmp_path / 'made').exists()


def save_epochs(folder, *metrics, max_history=1):
    folder.mkdir(exist_ok=True)
    saver = Saver(folder, decreasing=False, max_history=max_history)
    for epoch, metric in enumerate(metrics):
        saver.save_checkpoint({'state_dict': {}, 'optimizer': {}}, epoch, metric)
    return saver


def test_the_best_are_copied_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(1, 'Operation not permitted')

    monkeypatch.setattr(os, 'link', refuse)
    save_epochs(tmp_path, 1.0, 3.0, 2.0)
    assert sorted(os.listdir(tmp_path)) == ['checkpoint-1.pth.tar', 'last.pth.tar', 'model_best.pth.tar']
    assert read_checkpoint(tmp_path / 'model_best.pth.tar')['epoch'] == 1
    assert read_checkpoint(tmp_path / 'last.pth.tar')['epoch'] == 2


def test_what_a_kill_left_half_made_is_in_nobodys_way(tmp_path):
    (tmp_path / 'checkpoint-0.pth.tar.tmp').write_bytes(b'half')
    (tmp_path / 'model_best.pth.tar.tmp').write_bytes(b'half')
    save_epochs(tmp_path, 1.0)
    assert read_checkpoint(tmp_path / 'checkpoint-0.pth.tar')['epoch'] == 0
    # links, not copies: an epoch's weights are on the disk once
    assert (tmp_path / 'model_best.pth.tar').samefile(tmp_path / 'last.pth.tar')


def test_a_best_checkpoint_that_cannot_be_written_is_named_and_not_left_half_made(tmp_path, monkeypatch):
    def refuse(source, target, real=os.replace, **kwargs):
        if 'model_best' in str(target):
            raise OSError(28, 'No space left on device')
        return real(source, target)

    monkeypatch.setattr(os, 'replace', refuse)
    with pytest.raises(RunError, match=r'cannot write .*model_best\.pth\.tar: No space left on device'):
        save_epochs(tmp_path, 1.0)
    assert sorted(os.listdir(tmp_path)) == ['checkpoint-0.pth.tar', 'last.pth.tar']


@pytest.mark.parametrize('lost', [(), ('checkpoint-1',), ('checkpoint-1', 'model_best')])
def test_the_best_model_is_taken_along_into_another_folder(tmp_path, lost):
    save_epochs(tmp_path / 'first', 1.0, 3.0, 2.0)
    for name in lost:
        (tmp_path / 'first' / f'{name}.pth.tar').unlink()
    path = tmp_path / 'first/last.pth.tar'
    saver = Saver(tmp_path, decreasing=False, max_history=1)
    saver.restore(path, read_checkpoint(path))
    assert (saver.best_epoch, saver.best_metric) == (1, 3.0)
    taken = tmp_path / 'model_best.pth.tar'
    assert taken.exists() is (len(lost) < 2)
    if taken.exists():
        assert read_checkpoint(taken)['epoch'] == 1


def test_the_best_epochs_of_another_folder_take_no_place_in_this_one(tmp_path):
    save_epochs(tmp_path / 'first', 5.0, 6.0, max_history=2)
    path = tmp_path / 'first/last.pth.tar'
    saver = Saver(tmp_path, decreasing=False, max_history=2)
    saver.restore(path, read_checkpoint(path))
    for epoch, metric in ((2, 1.0), (3, 2.0), (4, 3.0)):
        saver.save_checkpoint({'state_dict': {}, 'optimizer': {}}, epoch, metric)
    assert kept(tmp_path) == [1, 4]  # the one that was gone on from came along
    assert kept(tmp_path / 'first') == [0, 1]
    assert (saver.best_epoch, saver.best_metric) == (1, 6.0)


def test_the_numbered_checkpoint_of_the_best_epoch_is_what_restores_the_best_model(tmp_path):
    """A kill after the epoch was kept and before `model_best` followed leaves an older one."""
    save_epochs(tmp_path, 1.0, 3.0, max_history=2)
    path = tmp_path / 'last.pth.tar'
    (tmp_path / 'model_best.pth.tar').unlink()
    os.link(tmp_path / 'checkpoint-0.pth.tar', tmp_path / 'model_best.pth.tar')
    Saver(tmp_path, decreasing=False, max_history=2).restore(path, read_checkpoint(path))
    assert read_checkpoint(tmp_path / 'model_best.pth.tar')['epoch'] == 1


def test_a_checkpoint_of_another_script_brings_no_best_model(tmp_path):
    save_epochs(tmp_path / 'first', 1.0)
    write(tmp_path / 'first', 'last', 4)  # without the bookkeeping
    path = tmp_path / 'first/last.pth.tar'
    saver = Saver(tmp_path, decreasing=False, max_history=1)
    saver.restore(path, read_checkpoint(path))
    assert saver.best_metric is None and not (tmp_path / 'model_best.pth.tar').exists()
