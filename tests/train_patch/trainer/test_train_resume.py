"""A run that is killed at any moment and taken up again gives what a run gives that nobody killed."""

import contextlib
import os
import random
import shutil
import signal
import time

import pytest
import torch
from timm.scheduler import create_scheduler_v2


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


def assert_same_run(folder, reference):
    """Tables and the last checkpoint are equal to the last bit; nothing half-written is left under a final name."""
    assert (folder / 'summary.csv').read_text() == (reference / 'summary.csv').read_text()
    ours, theirs = weights(folder), weights(reference)
    for part in ('state_dict', 'state_dict_ema'):
        assert ours.get(part, {}).keys() == theirs.get(part, {}).keys()
        for key, value in ours.get(part, {}).items():
            assert torch.equal(value, theirs[part][key]), key
    for part in ('epoch', 'metric', 'lr_scheduler'):
        assert ours[part] == theirs[part], part
    assert weights(folder, 'model_best.pth.tar')['epoch'] == weights(reference, 'model_best.pth.tar')['epoch']
    assert sorted(os.listdir(folder)) == sorted(os.listdir(reference))


@pytest.fixture(scope='module')
def stateful(lean, tmp_path_factory):
    """A run of six epochs that nobody killed."""
    return lean(tmp_path_factory.mktemp('stateful') / 'run', f'{STATEFUL} --epochs 6').folder


def test_killed_at_random_moments(lean, stateful, tmp_path):
    moments = random.Random(0)
    folder, kills = tmp_path / 'run', 0
    for _ in range(8):
        run = lean.start(folder, f'{STATEFUL} --epochs 6 --resume auto')
        # from building the model to the middle of an epoch or of a write: runs differ in length with the machine's load
        deadline = time.monotonic() + 60
        while 'Train: ' not in run.log and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.5))
        with contextlib.suppress(ProcessLookupError):  # the run may have come to its end before
            os.killpg(run.pid, signal.SIGKILL)
        if lean.wait(run).status == 0:
            break
        kills += 1
    lean(folder, f'{STATEFUL} --epochs 6 --resume auto')
    assert kills >= 2
    assert_same_run(folder, stateful)


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
    assert calls >= 20, 'the run no longer goes through the functions that are made to kill it'


@pytest.fixture
def copied(stateful, tmp_path):
    """A copy of the finished run, to be spoiled."""
    return shutil.copytree(stateful, tmp_path / 'copy')


@pytest.mark.parametrize('size', [0, 0.5, 0.999])
def test_truncated_checkpoint_is_passed_over_by_auto_and_refused_by_name(lean, stateful, copied, size):
    newest = copied / 'checkpoint-5.pth.tar'
    content = (copied / 'last.pth.tar').read_bytes()
    for name in ('last.pth.tar', 'checkpoint-5.pth.tar'):
        (copied / name).unlink()
        (copied / name).write_bytes(content[: int(size * len(content)) if size < 1 else size])
    run = lean(copied, f'{STATEFUL} --epochs 6 --resume {newest}', status=1)
    assert f'cannot use the checkpoint {newest}: it is damaged' in run.last_line
    if size == 0.5:
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


def test_auto_starts_afresh_in_a_fresh_folder_and_ends_where_all_is_done(lean, stateful, copied, tmp_path):
    run = lean(tmp_path / 'fresh', '-j 0 --epochs 1 --resume auto')
    assert f'--resume auto: no checkpoint in {tmp_path}/fresh, starting from the beginning' in run.log
    before = (copied / 'summary.csv').read_text()
    run = lean(copied, f'{STATEFUL} --epochs 6 --resume auto')
    assert 'Train: ' not in run.log and (copied / 'summary.csv').read_text() == before
    assert 'Best metric' in run.log


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
    run = lean(tmp_path / 'run', f'--model test_vit --resume {path} -j 0', status=1)
    assert f'the checkpoint {path} does not fit this run: ' in run.last_line
    torch.save(weights(stateful)['state_dict'], tmp_path / 'weights.pth')
    run = lean(tmp_path / 'run', f'--resume {tmp_path}/weights.pth -j 0', status=1)
    assert 'is not a checkpoint of a run: weights alone go to --initial-checkpoint' in run.last_line


def test_recovery_goes_on_in_the_middle_of_an_epoch(lean, tmp_path):
    """Killed after the second of four updates: the other two are made, and no epoch is missing, short or twice."""
    line = '-j 1 -b 8 --epochs 2 --recovery-interval 1 --log-interval 1 --model-ema --sched-on-updates --resume auto'
    folder = tmp_path / 'run'
    whole = lean(tmp_path / 'whole', line)
    run = lean.start(folder, line)
    recovery = folder / 'recovery-1-2.pth.tar'
    while not recovery.exists():
        time.sleep(0.001)
    os.killpg(run.pid, signal.SIGKILL)
    lean.wait(run)
    (folder / 'recovery-1-3.pth.tar').unlink(missing_ok=True)  # the kill may have come one update late
    for name in ('last.pth.tar', 'checkpoint-1.pth.tar', 'model_best.pth.tar'):
        if (folder / name).exists() and weights(folder, name)['epoch'] == 1:
            pytest.skip('the run ended before it could be killed')
    again = lean(folder, line)
    assert f'Resumed from {recovery} at epoch 1, batch 2.' in again.log
    trained = [text for text in again.log.splitlines() if text.startswith('Train: 1')]
    assert [text[:17] for text in trained] == ['Train: 1 [   2/4 ', 'Train: 1 [   3/4 ']
    assert [row['epoch'] for row in again.rows] == ['0', '1']
    assert again.rows[1]['lr'] == whole.rows[1]['lr']
    steps = {id(s): s['step'] for s in weights(folder)['optimizer']['state'].values() if 'step' in s}
    assert set(steps.values()) <= {8}
