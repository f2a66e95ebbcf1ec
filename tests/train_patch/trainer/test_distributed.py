"""One process, and two that meet over gloo, forked from this one and asked what they hold."""

import os
import pickle
import signal
import socket
import sys
import traceback
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

from train_patch.common.processes import Terminated
from train_patch.trainer import distributed as processes
from train_patch.trainer.distributed import (
    DIST_TIMEOUT,
    from_first,
    join_processes,
    leave_processes,
    mean_over_processes,
)

from .test_loop import arguments

VARIABLES = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT', 'SLURM_PROCID', 'SLURM_NTASKS')


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    """No launcher's environment, and the handlers of signals as they were."""
    for name in (*VARIABLES, 'SLURM_LOCALID', 'PMI_SIZE', 'OMPI_COMM_WORLD_SIZE'):
        monkeypatch.delenv(name, raising=False)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGCHLD)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def args_of(line=''):
    args = arguments(line)
    for name in ('distributed', 'rank', 'world_size'):
        delattr(args, name)
    return args


def test_a_single_process_is_the_first_of_one_and_ends_on_sigterm(caplog):
    caplog.set_level('INFO', 'train')
    args = args_of('--device cpu --local-rank 3')
    assert join_processes(args) == torch.device('cpu')
    assert (args.distributed, args.local_rank, args.rank, args.world_size) == (False, 0, 0, 1)
    assert 'Training with a single process on cpu.' in caplog.text
    with pytest.raises(Terminated):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize(('available', 'device'), [(True, 'cuda'), (False, 'cpu')])
def test_without_a_device_it_is_the_gpu_where_there_is_one(monkeypatch, caplog, available, device):
    caplog.set_level('INFO', 'train')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: available)
    assert join_processes(args_of()) == torch.device(device)
    assert f'Training with a single process on {device} (no --device given).' in caplog.text


def test_one_process_shares_nothing():
    args = arguments()
    value, mean = object(), torch.ones(2)
    assert from_first(args, value, torch.device('cpu')) is value
    assert mean_over_processes(args, mean) is mean


@pytest.mark.parametrize(
    ('device', 'expected'), [('cuda', 'cuda:1'), ('cpu', 'cpu'), ('cuda:0', 'cuda:1'), ('mps', 'mps:1')]
)
def test_each_process_of_a_machine_has_a_gpu_of_its_own(monkeypatch, caplog, device, expected):
    caplog.set_level('INFO', 'train')
    chosen, joined = [], []
    monkeypatch.setattr(torch.cuda, 'set_device', chosen.append)
    monkeypatch.setattr(dist, 'init_process_group', lambda backend, **kwargs: joined.append((backend, kwargs)))
    monkeypatch.setattr(dist, 'get_backend', lambda: 'some')
    monkeypatch.setattr(dist, 'get_default_backend_for_device', lambda where: f'for {where}')
    for name, value in (('RANK', '5'), ('LOCAL_RANK', '1'), ('WORLD_SIZE', '8')):
        monkeypatch.setenv(name, value)
    handler = signal.getsignal(signal.SIGTERM)
    args = args_of(f'--device {device}')
    assert join_processes(args) == torch.device(expected)
    assert (args.distributed, args.local_rank, args.rank, args.world_size) == (True, 1, 5, 8)
    assert chosen == ([torch.device(expected)] if 'cuda' in device else [])
    meeting = {'init_method': 'env://', 'rank': 5, 'world_size': 8, 'timeout': DIST_TIMEOUT}
    assert joined == [(f'for {expected}', meeting)]
    assert f'Process 5 of 8 on {expected}, some.' in caplog.text
    assert signal.getsignal(signal.SIGTERM) is handler  # one of several dies at once
    assert DIST_TIMEOUT.total_seconds() == 600


@pytest.mark.parametrize(('backend', 'ended'), [('gloo', []), ('nccl', [True])])
def test_a_group_is_ended_unless_it_is_gloos(monkeypatch, backend, ended):
    found = []
    monkeypatch.setattr(processes, 'dist', SimpleNamespace(
        get_backend=lambda: backend, destroy_process_group=lambda: found.append(True)
    ))  # fmt: skip
    leave_processes()
    assert found == ended


def work(rank):
    """What each of two processes does: joins, and shares values and means."""
    args = args_of('--device cpu')
    device = join_processes(args)
    shared = from_first(args, {'from': rank, 'path': None if rank else 'last'}, device)
    mean = mean_over_processes(args, torch.tensor([1.0, 10.0]) * (rank + 1))
    leave_processes()
    return (args.distributed, args.rank, args.world_size, str(device)), shared, mean.tolist()


def test_two_processes_have_the_firsts_value_and_the_mean_of_both():
    with socket.socket() as reserved:
        reserved.bind(('127.0.0.1', 0))
        port = reserved.getsockname()[1]
    pipes = []
    for rank in range(2):
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                meeting = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port), 'WORLD_SIZE': '2'}
                os.environ.update(meeting, RANK=str(rank), LOCAL_RANK=str(rank))
                os.write(writing, pickle.dumps(work(rank)))
            except BaseException:
                traceback.print_exc()
                sys.stderr.flush()
            os._exit(0)
        os.close(writing)
        pipes.append((pid, reading))
    results = []
    for pid, reading in pipes:
        with os.fdopen(reading, 'rb') as pipe:
            results.append(pickle.loads(pipe.read()))
        os.waitpid(pid, 0)
    first = {'from': 0, 'path': 'last'}
    assert results == [((True, rank, 2, 'cpu'), first, [1.5, 15.0]) for rank in range(2)]
