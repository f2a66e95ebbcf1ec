"""Starts runs of the lean script, and comparisons, quickly: imports once, then forks one process per run.

Reads requests from stdin, a JSON object per line:
    command     'train' or 'compare'
    argv        the arguments of the command
    log         a file for the run's output
    processes   how many processes the run has; they find each other as those of torchrun do
    kill_at     the number of the call that changes a folder (see TOUCHING) before which the run kills itself
    kill_after  the name of the file that the run does not outlive; as with `kill_at`, null for none
Answers each with two lines: {"pid": …} of the first process at the start, and {"statuses": […]} at the end.
"""

import atexit
import json
import os
import signal
import socket
import sys
import threading
import traceback

from train_patch import compare, train
from train_patch.imports import uncollected

with uncollected():  # all that a run imports, before the forks
    import torch

    from train_patch.trainer import loaders, loop, resume, setup  # noqa: F401

COMMANDS = {'train': train.main, 'compare': compare.main}
TOUCHING = ('replace', 'link', 'unlink', 'remove')


def kill_at(call: int) -> None:
    calls = 0

    def killing(function):
        def touch(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == call:
                os.killpg(0, signal.SIGKILL)
            return function(*args, **kwargs)

        return touch

    for name in TOUCHING:
        setattr(os, name, killing(getattr(os, name)))


def kill_after(name: str) -> None:
    replace = os.replace

    def killing(source, target):
        replace(source, target)
        if os.path.basename(target) == name:
            os.killpg(0, signal.SIGKILL)

    os.replace = killing


def start(request: dict, environment: dict[str, str]) -> int:
    """Forks a process of a run and returns its number."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        status = run(request, environment)
    except BaseException:
        traceback.print_exc()
    finally:
        # as Python ends, but for taking all of torch apart, which takes longer than many a run
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def run(request: dict, environment: dict[str, str]) -> int:
    os.setsid()
    # a shell that starts the tests in the background has SIGINT ignored, and Python leaves it so
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log = os.open(request['log'], os.O_CREAT | os.O_APPEND | os.O_WRONLY)
    os.dup2(log, 1)
    os.dup2(log, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.environ.update(environment)
    if request['kill_at'] is not None:
        kill_at(request['kill_at'])
    if request['kill_after'] is not None:
        kill_after(request['kill_after'])
    try:
        return COMMANDS[request['command']](request['argv']) or 0
    except SystemExit as ended:
        return ended.code or 0


def environments(processes: int, port: int) -> list[dict[str, str]]:
    """What torchrun tells each process of a run."""
    if processes == 1:
        return [{}]
    shared = {'MASTER_ADDR': '127.0.0.1', 'MASTER_PORT': str(port), 'WORLD_SIZE': str(processes)}
    return [{**shared, 'RANK': str(rank), 'LOCAL_RANK': str(rank)} for rank in range(processes)]


def serve() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        # bound until the run is over, so that nobody else is given the port that its processes meet at
        with socket.socket() as reserved:
            reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            reserved.bind(('127.0.0.1', 0))
            port = reserved.getsockname()[1]
            pids = [start(request, environment) for environment in environments(request['processes'], port)]
            print(json.dumps({'pid': pids[0]}), flush=True)
            statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
        print(json.dumps({'statuses': statuses}), flush=True)


if __name__ == '__main__':
    serve()
