"""The project's own script on several processes (gloo on the CPU)."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time

import pytest
from timm.data.distributed_sampler import RepeatAugSampler

from train_patch.trainer.output import read_table

SMALL = '--model test_resnet --num-classes 4 --img-size 32 --device cpu --lr 0.05 --warmup-epochs 0'


def torchrun(image_folder, folder, line):
    """Starts two processes as a user does; the other tests fork theirs from a process that has imported torch."""
    command = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    command += ['-m', 'train_patch.train', '--data-dir', str(image_folder), *shlex.split(SMALL)]
    command += ['--output', str(folder.parent), '--experiment', folder.name, *shlex.split(line)]
    with open(f'{folder}.log', 'w') as log:
        return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def copied(image_folder, folder, times):
    """A data set with every training image several times."""
    shutil.copytree(image_folder, folder)
    for path in folder.glob('train/*/*.jpg'):
        for index in range(1, times):
            shutil.copy(path, path.with_stem(f'{path.stem}_{index}'))
    return folder


def test_several_processes_train_one_run(lean, image_folder, tmp_path):
    line = '-j 0 -b 9 --mix-mode hmix --grad-accum-steps 2 --aug-repeats 2 --dist-bn broadcast --no-ddp-bb --epochs 1'
    run = lean(tmp_path / 'run', line, data=copied(image_folder, tmp_path / 'data', 8), processes=4)
    assert_one_run(run, 4, epochs=1)


def assert_one_run(run, ranks, epochs):
    assert len(run.rows) == epochs
    for rank in range(ranks):
        assert f'Process {rank} of {ranks} on cpu.' in run.log
    assert len(re.findall(r'^\*\*\* Best metric', run.log, re.M)) == 1
    assert len(re.findall(r'^Train: 0 \[   0', run.log, re.M)) == 1
    assert 'broadcast_buffers' not in run.log  # which torch deprecates


def test_losses_are_those_of_all_images_whichever_process_had_them(lean, tmp_path):
    """Weights that stand still, so that one process over the same images gives the same means."""
    line = '--model test_vit --model-kwargs patch_size=8 --no-aug --lr 1e-30 --epochs 1 -j 0'
    (ours,) = lean(tmp_path / 'two', f'-b 4 {line}', processes=2).rows
    (theirs,) = lean(tmp_path / 'one', f'-b 8 {line}').rows
    assert ours.keys() == theirs.keys()
    for column, value in theirs.items():
        assert float(ours[column]) == pytest.approx(float(value), rel=1e-5), column


def test_resume_on_two_processes_gives_the_table_of_an_unbroken_run(lean, tmp_path):
    line = '-j 0 -b 4 --epochs 2 --mix-mode gmix --aa rand-m9-mstd0.5 --opt adamw --lr 0.002 --model-ema'
    whole = lean(tmp_path / 'whole', line, processes=2)
    assert_one_run(whole, 2, epochs=2)
    lean(tmp_path / 'run', line, processes=2, kill_after='checkpoint-0.pth.tar', status=-signal.SIGKILL)
    lean(tmp_path / 'run', f'{line} --resume auto', processes=2)
    assert (tmp_path / 'run/summary.csv').read_text() == whole.text('summary.csv')


def test_synchronized_statistics_need_gpus(lean, tmp_path):
    run = lean(tmp_path / 'run', '-b 4 --epochs 1 --sync-bn -j 0', processes=2, status=2)
    assert '--sync-bn works on GPUs only; on the CPU --dist-bn shares the statistics' in run.log


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
def test_a_killed_process_ends_the_run_and_its_checkpoint_is_resumed(image_folder, lean, tmp_path):
    folder, log = tmp_path / 'run', tmp_path / 'run.log'
    process = torchrun(image_folder, folder, '-b 8 -j 1 --mix-mode hmix --epochs 100000 --checkpoint-hist 1')
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
    run = lean(folder, f'-b 8 --mix-mode hmix --epochs {done + 1} -j 0 --resume auto')  # on one process now
    assert [int(row['epoch']) for row in run.rows] == list(range(done + 1))
