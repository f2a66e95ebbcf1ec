"""Runs handed over to submitit: its local executor trains them for real; Slurm's programs are stood in for."""

import contextlib
import json
import os
import signal
import time
from pathlib import Path

import pytest
import yaml

from train_patch.compare import main
from train_patch.trainer.output import read_table


def running(folder, program=''):
    """Numbers of the processes that train into a folder or control those that do."""
    found = []
    for pid in filter(str.isdecimal, os.listdir('/proc')):
        with contextlib.suppress(OSError):
            line = Path(f'/proc/{pid}/cmdline').read_text()
            if str(folder) in line and program in line and int(pid) != os.getpid():
                found.append(int(pid))
    return found


def wait_until(has_come, what, seconds=300):
    deadline = time.monotonic() + seconds
    while not has_come():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir('/proc'), reason='processes are looked up in /proc')
def test_a_job_is_submitted_again_only_when_it_was_killed(arguments, tmp_path, capsys, lean, rows_of):
    """Two tasks a job; the command returns at once, a killed job ends with all that it started; then tabulated."""
    argv = arguments(tmp_path / 'out', '--modes', 'hmix', '--seeds', '3', '--epochs', '30', '--submit', 'local')
    argv += ['--submit-option', 'tasks_per_node=2', '--workers', '0']  # workers of several processes import torch anew
    started = lean.wait(lean.start_command('compare', argv, tmp_path / 'out'))
    assert '1 of 1 runs submitted; 0 have a job already; 0 are finished' in started.log
    assert running(tmp_path / 'out')
    folder = tmp_path / 'out' / 'hmix' / 'seed3'
    wait_until(lambda: len(read_table(folder / 'summary.csv')) > 1, 'no epoch ends')
    assert main(argv) == 0
    assert '0 of 1 runs submitted; 1 have a job already' in capsys.readouterr().out
    assert main([*argv[:-6], '--nproc-per-node', '2']) == 2  # and nobody trains beside it
    assert 'jobs train into it: hmix seed 3' in capsys.readouterr().err

    os.kill(int(json.loads((folder / 'submitted.json').read_text())['job']), signal.SIGKILL)
    wait_until(lambda: not running(folder), 'the training goes on')
    done = len(read_table(folder / 'summary.csv'))
    if done < 30:
        assert main(argv) == 0
        assert '1 of 1 runs submitted' in capsys.readouterr().out
    wait_until(lambda: not running(tmp_path / 'out'), 'the job does not end')
    assert main(argv) == 0 and '1 are finished' in capsys.readouterr().out
    log = (folder / 'train.log').read_text()
    assert 'Process 0 of 2' in log and ('Resumed from' in log or done == 30)
    assert main(['--table', str(tmp_path / 'out'), '--output', str(tmp_path)]) == 0
    assert [(row['mode'], row['runs']) for row in rows_of(tmp_path / 'results.csv')] == [('hmix', '1')]
    record = yaml.safe_load((tmp_path / 'out' / 'comparison.yaml').read_text())
    assert record['processes'] == ['--nproc-per-node=2']


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir('/proc'), reason='processes are looked up in /proc')
def test_a_job_at_its_time_limit_is_started_again_and_resumes(arguments, tmp_path):
    argv = arguments(tmp_path, '--modes', 'none', '--seeds', '3', '--epochs', '12', '--submit', 'local')
    assert main(argv) == 0
    folder = tmp_path / 'none' / 'seed3'
    wait_until(lambda: len(read_table(folder / 'summary.csv')) > 1, 'no epoch ends')
    (task,) = running(tmp_path, 'submitit.core._submit')
    os.kill(task, signal.SIGUSR2)  # as submitit does
    wait_until(lambda: not running(tmp_path), 'the job does not end')
    assert sorted(read_table(folder / 'summary.csv')) == list(range(12))
    assert (folder / 'train.log').read_text().count('Resumed from') == 1


@pytest.fixture
def slurm(tmp_path, monkeypatch):
    """Stand-ins for Slurm's programs; `sacct` says what is in `state`, `sbatch` counts its calls in `calls`."""
    programs = {
        'sbatch': 'cp "$1" $SLURM_TEST/$$.sh; echo $SLURM_TEST/$$.sh >> $SLURM_TEST/calls; echo Submitted batch job 12',
        'srun': 'exit 1',
        'sacct': 'printf "JobID|State|NodeList\\n12_0|$(cat $SLURM_TEST/state)|a\\n12_1|COMPLETED|a\\n"',
    }
    place = tmp_path / 'bin'
    place.mkdir()
    for name, script in programs.items():
        (place / name).write_text(f'#!/bin/sh\n{script}\n')
        (place / name).chmod(0o755)
    monkeypatch.setenv('PATH', f'{place}:{os.environ["PATH"]}')
    monkeypatch.setenv('SLURM_TEST', str(tmp_path))
    return tmp_path


def test_a_job_of_slurm_is_submitted_again_only_when_it_has_ended(slurm, arguments, capsys):
    argv = arguments(slurm / 'out', '--modes', 'none', 'hmix', '--seeds', '3', '--submit', 'slurm', '--submit-option')
    argv += ['slurm_partition=gpu', 'gpus_per_node=2', 'nodes=3', 'timeout_min=60']
    assert main(argv) == 0 and '2 of 2 runs submitted' in capsys.readouterr().out
    (script,) = (slurm / 'calls').read_text().split()
    text = Path(script).read_text()
    for asked in ('partition=gpu', 'gpus-per-node=2', 'nodes=3', 'ntasks-per-node=2', 'time=60', 'array=0-1'):
        assert f'#SBATCH --{asked}' in text
    record = yaml.safe_load((slurm / 'out' / 'comparison.yaml').read_text())
    assert record['processes'] == ['--nnodes=3', '--nproc-per-node=2']
    (slurm / 'state').write_text('PENDING')
    assert main(argv) == 0
    assert '1 of 2 runs submitted; 1 have a job already' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('more', 'says'),
    [
        (['--submit', 'slurm'], '--submit slurm: Could not detect "srun"'),
        (['--submit', 'local', '--submit-option', 'node=2'], "--submit local: Parameter 'node' need to be prefixed"),
        (['--submit', 'local', '--submit-option', 'nodes=2'], 'LocalExecutor can use only one node'),
    ],
)
def test_what_submitit_does_not_take_is_refused(arguments, tmp_path, refused, more, says):
    assert says in refused([*arguments(tmp_path / 'out', '--modes', 'none', '--seeds', '0'), *more])
