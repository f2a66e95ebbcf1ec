"""The lean script on several processes (gloo on the CPU), and what its draws depend on."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from timm.data import create_loader
from timm.data.distributed_sampler import RepeatAugSampler
from torch.utils.data import Dataset

from train_patch.trainer.data import EpochSeeded, draw_seed
from train_patch.trainer.summary import read_table

SMALL = '--model test_resnet --num-classes 4 --img-size 32 --device cpu --lr 0.05 --warmup-epochs 0'


def torchrun(image_folder, run_environment, folder, line):
    """Starts two processes as a user does; the other tests fork theirs from what has imported torch already."""
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    command += ['-m', 'train_patch.train', '--data-dir', str(image_folder), *shlex.split(SMALL)]
    command += ['--output', str(folder.parent), '--experiment', folder.name, *shlex.split(line)]
    with open(f'{folder}.log', 'w') as log:
        return subprocess.Popen(command, env=run_environment, stdout=log, stderr=log, start_new_session=True)


def copied(image_folder, folder, times):
    """A data set with every training image several times."""
    shutil.copytree(image_folder, folder)
    for path in folder.glob('train/*/*.jpg'):
        for index in range(1, times):
            shutil.copy(path, path.with_stem(f'{path.stem}_{index}'))
    return folder


@pytest.mark.parametrize(
    ('ranks', 'line'),
    [
        (
            2,
            '-j 1 -b 4 --aug-splits 3 --aa rand-m9-mstd0.5 --resplit --split-bn --jsd --dist-bn reduce --model-ema',
        ),
        (
            4,
            '-j 0 -b 9 --mix-mode hmix --grad-accum-steps 2 --aug-repeats 2 --dist-bn broadcast --amp '
            '--amp-dtype bfloat16',
        ),
    ],
)
def test_trains_on_several_processes(lean, image_folder, tmp_path, ranks, line):
    data = copied(image_folder, tmp_path / 'data', 8) if '--aug-repeats' in line else image_folder
    run = lean(tmp_path / 'run', f'{line} --epochs 1', data=data, processes=ranks)
    assert len(run.rows) == 1
    for rank in range(ranks):
        assert f'Process {rank} of {ranks} on cpu, gloo.' in run.log
    assert len(re.findall(r'^--result', run.log, re.M)) == 1
    assert len(re.findall(r'^Train: 0 \[   0', run.log, re.M)) == 1


def test_losses_are_those_of_all_images_whichever_process_had_them(lean, tmp_path):
    """Weights that stand still, so that one process over the same images gives the same means."""
    line = '--model test_vit --model-kwargs patch_size=8 --no-aug --lr 1e-30 --epochs 1 --train-accuracy -j 0'
    (ours,) = lean(tmp_path / 'two', f'-b 4 {line}', processes=2).rows
    (theirs,) = lean(tmp_path / 'one', f'-b 8 {line}').rows
    assert ours.keys() == theirs.keys()
    for column, value in theirs.items():
        assert float(ours[column]) == pytest.approx(float(value), rel=1e-5), column


def living(sessions):
    """Processes of these sessions, without those that only wait to be collected."""
    found = subprocess.run(['ps', '-s', ','.join(sessions), '-o', 'stat=,args='], capture_output=True, text=True)
    return [line for line in found.stdout.splitlines() if not line.startswith('Z')]


@pytest.mark.skipif(
    RepeatAugSampler(range(32), num_replicas=2, rank=0).num_selected_samples > 0,
    reason='this timm repeats small data sets, too',
)
def test_a_data_set_too_small_for_repeated_augmentation_is_named(lean, tmp_path):
    run = lean(tmp_path / 'run', '-b 4 --epochs 1 --aug-repeats 2 -j 0', processes=2, status=2)
    assert 'error: --aug-repeats 2: timm ' in run.log
    assert 'selects no batch of the 32 training images' in run.log


@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_its_checkpoint_is_resumed(image_folder, run_environment, lean, tmp_path):
    folder, log = tmp_path / 'run', tmp_path / 'run.log'
    process = torchrun(image_folder, run_environment, folder, '-b 8 -j 1 --epochs 100000 --checkpoint-hist 1')
    while not read_table(folder / 'summary.csv'):
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.05)
    found = subprocess.run(['ps', '-o', 'pid=', '--ppid', str(process.pid)], capture_output=True, text=True, check=True)
    ranks = found.stdout.split()  # torchrun gives each a session of its own
    assert len(living(ranks)) > len(ranks) == 2
    os.kill(int(ranks[-1]), signal.SIGKILL)
    assert process.wait() != 0
    assert 'Signal 9 (SIGKILL)' in log.read_text()
    deadline = time.monotonic() + 300
    while (left := living(ranks)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not left, 'loader workers outlive the run'
    done = len(read_table(folder / 'summary.csv'))
    run = lean(folder, f'-b 8 --epochs {done + 1} -j 0 --resume auto')  # on one process now
    assert [int(row['epoch']) for row in run.rows] == list(range(done + 1))


class Draws(Dataset):
    """What the generators of a worker give for each sample."""

    transform = None

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return np.full((3, 2, 2), np.random.randint(256), np.uint8), int(torch.randint(2**40, ()))


def test_ranks_workers_and_epochs_draw_differently_and_again_the_same():
    def draws(rank, epochs):
        torch.manual_seed(42 + rank)
        data = EpochSeeded(Draws(), seed=42, rank=rank)
        loader = create_loader(data, (3, 2, 2), batch_size=4, num_workers=2, device=torch.device('cpu'))
        found = {}
        for epoch in epochs:
            loader.dataset.set_epoch(epoch)
            found[epoch] = torch.cat([target for _, target in loader]).tolist()
        return found

    first, second = draws(0, range(3)), draws(1, range(3))
    everything = [value for found in (first, second) for values in found.values() for value in values]
    assert len(set(everything)) == len(everything) == 2 * 3 * 16  # the two workers of each epoch are among them
    assert draws(0, range(3)) == first
    assert draws(0, [2]) == {2: first[2]}  # what workers that start in a resumed run draw


def test_seeds_of_near_keys_are_unrelated():
    seeds = {
        draw_seed(seed, epoch, rank, worker)
        for seed in range(6)
        for epoch in range(6)
        for rank in range(6)
        for worker in range(6)
    }
    assert len(seeds) == 6**4
    assert all(0 <= seed < 2**31 for seed in seeds)
