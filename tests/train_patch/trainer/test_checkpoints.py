"""A run that is killed at any moment and resumed gives the results of an unbroken one, and believes no checkpoint."""

import contextlib
import io
import itertools
import os
import random
import shutil
import signal
import time
from collections import OrderedDict

import pytest
import torch
from timm.scheduler import create_scheduler_v2

from train_patch.common.errors import RunError
from train_patch.trainer.checkpoints import (
    finished_checkpoints,
    holds_run,
    next_epoch,
    read_checkpoint,
    save_checkpoint,
    write_checkpoint,
)
from train_patch.trainer.output import Output, read_table


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


def test_the_reason_for_half_a_checkpoint_is_raised():
    """Torch's writer, which is left with half an archive, raises another error over it."""

    class Full(io.BytesIO):
        def write(self, data):
            if not self.tell():
                return super().write(data)
            raise OSError('disk full')

    with pytest.raises(RuntimeError, match='unexpected pos'):
        torch.save({'weight': torch.ones(3)}, Full())
    with pytest.raises(OSError, match='disk full'):
        write_checkpoint({'weight': torch.ones(3)}, Full())


def test_a_signal_waits_until_a_checkpoint_is_written(signals, tmp_path):
    class Interrupting:
        def __reduce__(self):
            signal.raise_signal(signal.SIGINT)
            return OrderedDict, ()

    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path / 'last', {'epoch': 7, 'scaler': Interrupting()})
    assert torch.load(tmp_path / 'last') == {'epoch': 7, 'scaler': {}}


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
    for part in ('state_dict', 'state_dict_ema', 'optimizer', 'epoch', 'metric', 'lr_scheduler'):
        assert_equal(ours.get(part), theirs.get(part), part)
    assert weights(folder, 'model_best.pth.tar')['epoch'] == weights(reference, 'model_best.pth.tar')['epoch']
    assert sorted(os.listdir(folder)) == sorted(os.listdir(reference))


@pytest.fixture(scope='module')
def stateful(lean, tmp_path_factory):
    """An unbroken run of six epochs."""
    return lean(tmp_path_factory.mktemp('stateful') / 'run', f'{STATEFUL} --epochs 6').folder


@pytest.fixture
def copied(stateful, tmp_path):
    """A copy of the finished run, to be spoiled."""
    return shutil.copytree(stateful, tmp_path / 'copy')


def test_resume_gives_the_table_and_the_weights_of_an_unbroken_run(lean, stateful, tmp_path):
    """Killed once while the folder of an epoch is written."""
    run = lean(tmp_path / 'run', f'{STATEFUL} --epochs 6', status=-signal.SIGKILL, kill_after='checkpoint-2.pth.tar')
    assert len(run.rows) == 3
    run = lean(tmp_path / 'run', f'{STATEFUL} --epochs 6 --resume auto')
    assert f'Resumed from {run.folder}/last.pth.tar at epoch 3.' in run.log
    assert_same_run(run.folder, stateful)


@pytest.mark.slow
def test_a_run_killed_at_random_moments_resumes_as_an_unbroken_one(lean, stateful, tmp_path):
    """Five kills, from the first batch of a run to the middle of an epoch or a write.

    A run that ends before its kill has to be right as well, and another one starts for the kills that are left.
    """
    moments = random.Random(0)
    kills, folder = 0, tmp_path / 'run0'
    for attempt in itertools.count(1):
        run = lean.start(folder, f'{STATEFUL} --epochs 6 --resume auto')
        lines = moments.randint(1, 6)
        while run.log.count('Train: ') < lines and '*** Best' not in run.log:
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
def test_a_run_killed_before_every_touch_of_the_disk_resumes_as_an_unbroken_one(lean, tmp_path):
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
    assert calls >= 14, 'the run no longer goes through the functions that are made to kill it'


# Which checkpoint is resumed


def test_a_truncated_checkpoint_is_refused_by_name_and_passed_over_by_auto(lean, stateful, copied):
    newest = copied / 'checkpoint-5.pth.tar'
    content = newest.read_bytes()
    for size in (0, 0.999, 0.5):
        for path in (newest, copied / 'last.pth.tar'):
            path.unlink()
            path.write_bytes(content[: int(size * len(content))])
        with pytest.raises(RunError, match=f'cannot use the checkpoint {newest}: it is damaged'):
            read_checkpoint(newest)
    run = lean(copied, f'{STATEFUL} --epochs 6 --resume {newest}', status=1)
    assert f'cannot use the checkpoint {newest}: it is damaged' in run.last_line
    run = lean(copied, f'{STATEFUL} --epochs 6 --resume auto')
    assert f'cannot use the checkpoint {copied}/last.pth.tar' in run.log
    assert f'Resumed from {copied}/checkpoint-4.pth.tar at epoch 5' in run.log
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


def test_auto_has_nothing_to_train_where_all_is_done(lean, stateful, copied):
    run = lean(copied, f'{STATEFUL} --epochs 6 --resume auto')
    assert 'Train: ' not in run.log and 'Best metric' in run.log
    assert_same_run(copied, stateful)


def test_epochs_are_trained_again_in_another_folder_alone(lean, stateful, copied, tmp_path):
    for line in (f'--resume {copied}/checkpoint-3.pth.tar', '--resume auto --start-epoch 4'):
        run = lean(copied, f'{STATEFUL} --epochs 6 {line}', status=2)
        assert f'{copied}/last.pth.tar is of epoch 5, and the run would begin at epoch 4 again' in run.last_line
    assert_same_run(copied, stateful)
    run = lean(tmp_path / 'run', f'{STATEFUL} --epochs 6 --resume {copied}/last.pth.tar --start-epoch 4 --seed 1')
    before, after = read_table(stateful / 'summary.csv'), read_table(run.folder / 'summary.csv')
    assert list(after) == list(range(6)) and 'at epoch 4.\nIts arguments have changed: seed 42 → 1.' in run.log
    assert [epoch for epoch in before if before[epoch] == after[epoch]] == [0, 1, 2, 3]
    assert weights(run.folder, 'checkpoint-5.pth.tar')['metric'] == float(after[5]['eval_loss'])


def test_a_second_run_does_not_write_over_the_first(lean, copied):
    run = lean(copied, f'{STATEFUL} --epochs 6', status=2)
    assert f'--experiment: {copied} holds a run already' in run.last_line


def test_a_run_is_resumed_into_another_folder_that_stands_alone(lean, stateful, tmp_path):
    """Also where a variable of torch is set that, beside the one of a run, has torch.load refuse every file."""
    line = f'{STATEFUL} --epochs 6 --resume {stateful}/checkpoint-3.pth.tar'
    run = lean(tmp_path / 'other', line, environment={'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD': '1'})
    assert run.text('summary.csv') == (stateful / 'summary.csv').read_text()
    assert weights(run.folder, 'model_best.pth.tar')['epoch'] == weights(stateful, 'model_best.pth.tar')['epoch']
    assert [path.name for path in finished_checkpoints(run.folder)][:4] == [
        'last.pth.tar',
        'checkpoint-5.pth.tar',
        'checkpoint-4.pth.tar',
        'checkpoint-3.pth.tar',
    ]


def test_weights_can_be_resumed_without_the_optimizer(lean, stateful, tmp_path):
    path = stateful / 'last.pth.tar'
    run = lean(tmp_path / 'run', f'{STATEFUL} --lr 1e-30 --warmup-epochs 0 --epochs 7 --resume {path} --no-resume-opt')
    assert weights(run.folder)['optimizer']['state'][0]['step'] == 2  # two batches, and not those of six epochs before
    torch.testing.assert_close(
        weights(run.folder)['state_dict']['fc.weight'], weights(stateful)['state_dict']['fc.weight']
    )


@pytest.mark.parametrize(
    ('change', 'line', 'message'),
    [
        ({}, '--model test_vit --model-kwargs patch_size=8', 'the checkpoint {path} does not fit this run: '),
        ({'optimizer': {'x': 1}}, '', "the checkpoint {path} does not fit this run: 'param_groups'"),
        ({'epoch': 'x'}, '', '{path} is not a checkpoint of a run: weights alone go to --initial-checkpoint'),
        ({'optimizer': None}, '', '{path} is not a checkpoint of a run: weights alone go to --initial-checkpoint'),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused(lean, stateful, tmp_path, change, line, message):
    path, checkpoint = tmp_path / 'changed.pth.tar', {**weights(stateful), **change}
    torch.save({name: part for name, part in checkpoint.items() if part is not None}, path)
    run = lean(tmp_path / 'run', f'{STATEFUL} {line} --resume {path} -j 0', status=1)
    assert run.last_line.startswith('hmix-train: error: ' + message.format(path=path)) and len(run.last_line) < 500


# Checkpoints of others, and of earlier versions


def test_no_entry_of_a_checkpoint_has_a_file_removed_or_replaced(lean, stateful, copied):
    """Version 0.1.0 believed the list of kept checkpoints that it had written into each of them."""
    victim = copied.parent / 'victim' / 'checkpoint-0.pth.tar'
    victim.parent.mkdir()
    victim.write_text('precious')
    entries = {
        'checkpoint_files': [(str(victim), 99.0), ('../victim/checkpoint-0.pth.tar', 99.0)],
        'best_epoch': '0/../../victim/x',
        'best_metric': 0.0,
        'pending': ('0/../../victim/x', 99.0),
    }
    torch.save({**weights(copied), 'saver': entries}, copied / 'last.pth.tar')
    lean(copied, f'{STATEFUL} --epochs 7 --checkpoint-hist 1 --resume auto')
    assert victim.read_text() == 'precious' and os.listdir(victim.parent) == [victim.name]
    assert len(list(copied.glob('checkpoint-*'))) == 1


def test_a_run_of_an_earlier_version_that_ended_in_mid_epoch_resumes_from_its_last_whole_epoch(lean, stateful, copied):
    recovery = copied / 'recovery-5-1.pth.tar'
    os.replace(copied / 'last.pth.tar', recovery)
    torch.save({**weights(copied, recovery.name), 'epoch': 4, 'batches_done': 1}, recovery)
    shutil.copy(copied / 'checkpoint-4.pth.tar', copied / 'last.pth.tar')
    run = lean(copied, f'{STATEFUL} --epochs 6 --resume {recovery}', status=1)
    assert f'cannot use the checkpoint {recovery}: it is from the middle of an epoch' in run.last_line
    run = lean(copied, f'{STATEFUL} --epochs 6 --resume auto')
    assert f'{recovery} is from the middle of an epoch, which begins anew' in run.log
    assert f'Resumed from {copied}/last.pth.tar at epoch 5.' in run.log
    recovery.unlink()
    assert_same_run(copied, stateful)


def test_reading_a_checkpoint_runs_nothing(tmp_path):
    path, made = tmp_path / 'last.pth.tar', tmp_path / 'made'
    code = type('Code', (), {'__reduce__': lambda self: (os.mkdir, (str(made),))})()
    torch.save({'epoch': 3, 'state_dict': {}, 'optimizer': {}, 'more': code}, path)
    with pytest.raises(RunError, match='holds more than weights and plain values'):
        read_checkpoint(path)
    assert not made.exists()
    torch.jit.script(torch.nn.ReLU()).save(path)  # torch before 2.6 runs what is in it in spite of `weights_only`
    with pytest.raises(RunError, match='TorchScript archive'):
        read_checkpoint(path)


@pytest.mark.parametrize(('checkpoint', 'expected'), [({'epoch': 4, 'version': 2}, 5), ({'epoch': 4}, 4)])
def test_the_epoch_after_a_checkpoint_is_that_of_its_version(checkpoint, expected):
    """timm's before version 2 counted on before it saved."""
    assert next_epoch(checkpoint) == expected


# Folders


def test_checkpoints_are_listed_from_the_most_advanced_down(tmp_path):
    for name in ('model_best', *(f'checkpoint-{epoch}' for epoch in range(12)), 'last', 'checkpoint-x', 'recovery-3-1'):
        (tmp_path / f'{name}.pth.tar').touch()
    (tmp_path / 'checkpoint-99.pth.tar.tmp').touch()
    names = ['last', *(f'checkpoint-{epoch}' for epoch in range(11, -1, -1)), 'model_best']
    assert finished_checkpoints(tmp_path) == [tmp_path / f'{name}.pth.tar' for name in names]
    assert finished_checkpoints(tmp_path / 'none') == []


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
def test_a_table_or_a_checkpoint_makes_a_folder_a_runs(tmp_path, name, expected):
    assert not holds_run(tmp_path / 'none')
    (tmp_path / name).touch()
    assert holds_run(tmp_path) is expected


def save_epochs(folder, *metrics, first=0, resume=None, count=3):
    """Writes the results of epochs as a run would, with another run's table and checkpoints if it resumes it."""
    output = Output(folder, {'model': 'm', 'resume': 'auto', 'checkpoint_hist': count}, 'top1', resume, first)
    if resume is not None:
        output.keep(resume, next_epoch(read_checkpoint(resume)) - 1)
    for epoch, metric in enumerate(metrics, start=first):
        output.record(epoch, {'train_loss': 1.0, 'eval_top1': float(metric)}, {}, {'state_dict': {}, 'optimizer': {}})


METRICS = [3, 9, 1, 8, 8, 2, 10, 4, 7, 11, 5, 6, 12, 0]


@pytest.mark.parametrize(
    ('resumed_at', 'lost'), [(2, 'checkpoint'), (6, ''), (6, 'model_best'), (11, 'checkpoint'), (11, 'model_best')]
)
def test_a_resumed_run_keeps_the_checkpoints_of_an_unbroken_one(tmp_path, resumed_at, lost):
    """Also where a kill came between the last checkpoint and the files that follow it."""
    save_epochs(tmp_path / 'unbroken', *METRICS)
    save_epochs(tmp_path / 'broken', *METRICS[:resumed_at])
    last = tmp_path / 'broken/last.pth.tar'
    for path in (tmp_path / 'broken').glob('*.pth.tar'):
        if path.name == f'{lost}.pth.tar' or path.name == f'{lost}-{resumed_at - 1}.pth.tar':
            path.unlink()
    save_epochs(tmp_path / 'broken', *METRICS[resumed_at:], first=resumed_at, resume=last)
    assert sorted(os.listdir(tmp_path / 'broken')) == sorted(os.listdir(tmp_path / 'unbroken'))
    assert weights(tmp_path / 'broken', 'model_best.pth.tar')['epoch'] == 12


@pytest.mark.parametrize('lost', [(), ('checkpoint-1',), ('checkpoint-1', 'model_best')])
def test_the_best_model_is_taken_along_into_another_folder(tmp_path, lost):
    save_epochs(tmp_path / 'first', 1, 3, 2)
    for name in lost:
        (tmp_path / 'first' / f'{name}.pth.tar').unlink()
    save_epochs(tmp_path / 'second', first=3, resume=tmp_path / 'first/last.pth.tar')
    taken = tmp_path / 'second/model_best.pth.tar'
    assert taken.exists() is (len(lost) < 2)
    assert not taken.exists() or read_checkpoint(taken)['epoch'] == 1


def test_the_best_epochs_of_another_folder_take_no_place_in_this_one(tmp_path):
    save_epochs(tmp_path / 'first', 5, 6)
    save_epochs(tmp_path / 'second', 1, 2, 3, first=2, resume=tmp_path / 'first/last.pth.tar', count=2)
    names = {path.name for path in (tmp_path / 'second').glob('checkpoint-*')}
    assert names == {'checkpoint-1.pth.tar', 'checkpoint-4.pth.tar'}  # the resumed one came along
    assert len(list((tmp_path / 'first').glob('checkpoint-*'))) == 2
    assert weights(tmp_path / 'second', 'model_best.pth.tar')['epoch'] == 1
