"""A run that is killed at any moment and resumed gives what a run gives that nobody killed."""

import contextlib
import itertools
import os
import random
import shutil
import signal
import time

import pytest
import torch
from timm.scheduler import create_scheduler_v2

from train_patch.trainer.summary import read_table


def plateau_or_cosine():
    """Plateau is the one schedule with a state; timm 1.0.20's does not work with the newest torch."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1)
    try:
        create_scheduler_v2(optimizer, sched='plateau')
    except TypeError:
        return '--sched cosine'
    return '--sched plateau --patience-epochs 0'


# All that has a state: moving average, optimizer, plateau's memory, draws of mixer, erasing, dropout, augmentation.
STATEFUL = (
    f'{plateau_or_cosine()} -j 1 --mix-mode hmix --aa rand-m9-mstd0.5 --reprob 0.5 --drop 0.2 '
    '--model-ema --model-ema-decay 0.9 --eval-metric loss --opt adamw --lr 0.002 --warmup-epochs 1'
)


def weights(folder, name='last.pth.tar'):
    return torch.load(folder / name, weights_only=True)


def assert_equal(ours, theirs, path=''):
    """Equality of nested containers, of their tensors to the last bit."""
    if isinstance(theirs, torch.Tensor):
        assert torch.equal(ours, theirs), path
    elif isinstance(theirs, dict):
        assert ours.keys() == theirs.keys(), path
        for key, value in theirs.items():
            assert_equal(ours[key], value, f'{path}.{key}')
    elif isinstance(theirs, (list, tuple)):
        assert len(ours) == len(theirs), path
        for index, value in enumerate(theirs):
            assert_equal(ours[index], value, f'{path}[{index}]')
    else:
        assert ours == theirs, path


def assert_same_run(folder, reference):
    """Tables and the last checkpoint are equal to the last bit; nothing half-written is left under a final name."""
    assert (folder / 'summary.csv').read_text() == (reference / 'summary.csv').read_text()
    ours, theirs = weights(folder), weights(reference)
    for part in ('state_dict', 'state_dict_ema', 'optimizer', 'epoch', 'metric', 'lr_scheduler', 'saver'):
        assert_equal(ours.get(part), theirs.get(part), part)
    assert weights(folder, 'model_best.pth.tar')['epoch'] == weights(reference, 'model_best.pth.tar')['epoch']
    assert sorted(os.listdir(folder)) == sorted(os.listdir(reference))


@pytest.fixture(scope='module')
def stateful(lean, tmp_path_factory):
    """A run of six epochs that nobody killed."""
    return lean(tmp_path_factory.mktemp('stateful') / 'run', f'{STATEFUL} --epochs 6').folder


@pytest.mark.slow
def test_killed_at_random_moments(lean, stateful, tmp_path):
    """Five kills, from the first batch of a run to the middle of an epoch or a write.

    A run that ends before its kill has to be right as well, and another one starts for the kills that are left.
    """
    moments = random.Random(0)
    kills, folder = 0, tmp_path / 'run0'
    for attempt in itertools.count(1):
        run = lean.start(folder, f'{STATEFUL} --epochs 6 --resume auto')
        lines = moments.randint(1, 6)
        while run.log.count('Train: ') < lines and '--result' not in run.log:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.1))
        with contextlib.suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        if lean.wait(run).status == 0:
            assert_same_run(folder, stateful)
            folder = tmp_path / f'run{attempt}'
        else:
            assert run.status == -signal.SIGKILL, run.log
            kills += 1
            if kills == 5:
                break
    lean(folder, f'{STATEFUL} --epochs 6 --resume auto')
    assert_same_run(folder, stateful)


@pytest.mark.slow
def test_killed_before_every_touch_of_the_disk(lean, tmp_path):
    """Each write, rename, link and removal in turn is the one that a run does not live to see."""
    line = '-j 0 -b 32 --epochs 2 --checkpoint-hist 1 --eval-metric loss --resume auto'
    reference = lean(tmp_path / 'reference', line).folder
    calls = 0
    for call in (*range(1, 13, 4), *range(13, 200)):  # the first epoch touches the same files as the second
        folder = tmp_path / f'run{call}'
        run = lean.wait(lean.start(folder, line, kill_at=call))
        if run.status == 0:
            break
        assert run.status == -signal.SIGKILL, run.log
        lean(folder, line)
        assert_same_run(folder, reference)
        shutil.rmtree(folder)
        calls = call
    assert calls >= 16, 'the run no longer goes through the functions that are made to kill it'


@pytest.fixture
def copied(stateful, tmp_path):
    """A copy of the finished run, to be spoiled."""
    return shutil.copytree(stateful, tmp_path / 'copy')


def spoil(folder, epoch, size):
    """Cuts the two newest checkpoints off after a part of their bytes."""
    content = (folder / 'last.pth.tar').read_bytes()
    for name in ('last.pth.tar', f'checkpoint-{epoch}.pth.tar'):
        (folder / name).unlink()
        (folder / name).write_bytes(content[: int(size * len(content))])


@pytest.mark.parametrize('size', [0, 0.5, 0.999])
def test_truncated_checkpoint_is_refused_by_name(lean, copied, size):
    spoil(copied, 5, size)
    newest = copied / 'checkpoint-5.pth.tar'
    run = lean(copied, f'{STATEFUL} --epochs 6 --resume {newest}', status=1)
    assert f'cannot use the checkpoint {newest}: it is damaged' in run.last_line


def test_truncated_checkpoint_is_passed_over_by_auto(lean, stateful, copied):
    spoil(copied, 5, 0.5)
    run = lean(copied, f'{STATEFUL} --epochs 6 --resume auto')
    assert f'cannot use the checkpoint {copied}/last.pth.tar' in run.log
    assert f'Resumed from {copied}/checkpoint-4.pth.tar at epoch 5' in run.log
    assert_same_run(copied, stateful)


@pytest.mark.parametrize(
    ('entry', 'value', 'named'),
    [
        ('checkpoint_files', [('{victim}', 1.0)], "checkpoint_files: '{victim}'"),
        ('checkpoint_files', [('../victim/checkpoint-0.pth.tar', 1.0)], 'checkpoint_files: '),
        ('best_epoch', '0/../../victim/x', "'0/../../victim/x' is not a number"),
        ('pending', ('0/../../victim/x', 99.0), "'0/../../victim/x' is not a number"),
    ],
)
def test_a_checkpoint_cannot_name_files_to_remove_or_replace(lean, copied, entry, value, named):
    victim = copied.parent / 'victim' / 'checkpoint-0.pth.tar'
    victim.parent.mkdir()
    victim.write_text('precious')
    if entry == 'checkpoint_files':
        value = [(name.format(victim=victim), metric) for name, metric in value]
    path = copied / 'last.pth.tar'
    checkpoint = weights(copied)
    checkpoint['saver'][entry] = value
    torch.save(checkpoint, path)
    line = f'{STATEFUL} --epochs 7 --checkpoint-hist 1'
    run = lean(copied, f'{line} --resume {path}', status=1)
    assert (
        f'cannot use the checkpoint {path}: a run writes no such entry: {named.format(victim=victim)}' in run.last_line
    )
    assert f'Resumed from {copied}/checkpoint-5.pth.tar' in lean(copied, f'{line} --resume auto').log
    assert victim.read_text() == 'precious' and os.listdir(victim.parent) == [victim.name]


def test_no_variable_of_torch_makes_a_sound_checkpoint_damaged(lean, stateful, copied):
    """torch.load refuses every file where both of its variables are set."""
    line = f'{STATEFUL} --epochs 6 --resume {copied}/checkpoint-4.pth.tar'
    run = lean.wait(lean.start(copied, line, environment={'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD': '1'}))
    assert run.status == 0, run.log
    assert_same_run(copied, stateful)


def test_auto_refuses_a_folder_where_nothing_can_be_used(lean, copied):
    for path in copied.glob('*.pth.tar'):
        path.unlink()
        path.write_bytes(b'not a checkpoint')
    run = lean(copied, f'{STATEFUL} --resume auto', status=1)
    assert f'none of the checkpoints in {copied} can be used' in run.last_line


def test_auto_starts_afresh_in_a_fresh_folder(lean, tmp_path):
    run = lean(tmp_path / 'fresh', '-j 0 --epochs 1 --resume auto')
    assert f'--resume auto: no checkpoint in {tmp_path}/fresh, starting from the beginning' in run.log
    assert len(run.rows) == 1


def test_auto_has_nothing_to_train_where_all_is_done(lean, copied):
    before = (copied / 'summary.csv').read_text()
    run = lean(copied, f'{STATEFUL} --epochs 6 --resume auto')
    assert 'Train: ' not in run.log and (copied / 'summary.csv').read_text() == before
    assert 'Best metric' in run.log


def test_start_epoch_goes_before_what_the_checkpoint_says(lean, stateful, copied):
    """Its rows from there on are trained again, with another seed."""
    path = copied / 'last.pth.tar'
    run = lean(copied, f'{STATEFUL} --epochs 6 --resume {path} --start-epoch 4 --seed 1')
    before = read_table(stateful / 'summary.csv')
    after = read_table(copied / 'summary.csv')
    assert list(after) == list(range(6)) and 'at epoch 4, batch 0' in run.log
    assert [epoch for epoch in before if before[epoch] == after[epoch]] == [0, 1, 2, 3]


def test_a_second_run_does_not_write_over_the_first(lean, copied):
    run = lean(copied, f'{STATEFUL} --epochs 6', status=2)
    assert f'--experiment: {copied} holds a run already' in run.last_line


def test_by_path_into_another_folder(lean, stateful, tmp_path):
    """The table and the best model come along, so that the new folder stands alone."""
    path = stateful / 'checkpoint-3.pth.tar'
    run = lean(tmp_path / 'other', f'{STATEFUL} --epochs 6 --resume {path}')
    assert run.text('summary.csv') == (stateful / 'summary.csv').read_text()
    assert weights(run.folder, 'model_best.pth.tar')['epoch'] == weights(stateful, 'model_best.pth.tar')['epoch']


def test_checkpoint_of_another_model_is_refused(lean, stateful, tmp_path):
    path = stateful / 'last.pth.tar'
    run = lean(tmp_path / 'run', f'--model test_vit --model-kwargs patch_size=8 --resume {path} -j 0', status=1)
    assert f'the checkpoint {path} does not fit this run: ' in run.last_line


def test_weights_alone_are_refused(lean, stateful, tmp_path):
    torch.save(weights(stateful)['state_dict'], tmp_path / 'weights.pth')
    run = lean(tmp_path / 'run', f'--resume {tmp_path}/weights.pth -j 0', status=1)
    assert 'is not a checkpoint of a run: weights alone go to --initial-checkpoint' in run.last_line


RECOVERY = (
    '-j 1 -b 8 --epochs 2 --opt adamw --lr 0.002 --recovery-interval 1 --log-interval 1 --model-ema '
    '--sched-on-updates --resume auto'
)


@pytest.fixture(scope='module')
def unbroken(lean, tmp_path_factory):
    """A run of two epochs of four updates that nobody killed."""
    return lean(tmp_path_factory.mktemp('unbroken') / 'run', RECOVERY)


@pytest.fixture(scope='module')
def recovered(lean, tmp_path_factory):
    """The same run, killed after the second update of the second epoch, and resumed."""
    folder = tmp_path_factory.mktemp('recovered') / 'run'
    run = lean.wait(lean.start(folder, RECOVERY, kill_after='recovery-1-2.pth.tar'))
    assert run.status == -signal.SIGKILL
    return lean(folder, RECOVERY)


def test_recovery_makes_the_updates_that_are_left(recovered):
    assert f'Resumed from {recovered.folder}/recovery-1-2.pth.tar at epoch 1, batch 2.' in recovered.log
    trained = [text[:17] for text in recovered.log.splitlines() if text.startswith('Train: ')]
    assert trained == ['Train: 1 [   2/4 ', 'Train: 1 [   3/4 ']


def test_recovery_leaves_no_epoch_out_and_none_twice(recovered):
    assert [row['epoch'] for row in recovered.rows] == ['0', '1']


def test_recovery_goes_on_with_the_schedule(recovered, unbroken):
    assert recovered.rows[1]['lr'] == unbroken.rows[1]['lr']


@pytest.mark.parametrize('run', ['recovered', 'unbroken'])
def test_recovery_goes_on_with_the_optimizers_state(request, run):
    """AdamW counts its updates for each weight: four in each epoch."""
    states = weights(request.getfixturevalue(run).folder)['optimizer']['state'].values()
    assert {float(state['step']) for state in states} == {8.0}
