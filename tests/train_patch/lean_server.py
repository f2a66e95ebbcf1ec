"""Starts runs of the lean script quickly: imports once, then forks one process per run.

Reads requests from stdin, a JSON object per line: `argv`, `log` (a file for the run's output) and when the run kills
itself with SIGKILL: `kill_at`, the number of the call that changes a folder (see TOUCHING) before which it does, and
`kill_after`, the name of the file that it does not outlive; each may be null.
Answers each with two lines: {"pid": …} at the start and {"status": …} at the end.
"""

import json
import os
import signal
import sys

import torch

from train_patch import train
from train_patch.trainer import resume, setup  # noqa: F401  # imports all that a run imports, before the forks

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


def serve() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            os.setsid()
            # a shell that starts the tests in the background has SIGINT ignored, and Python leaves it so
            signal.signal(signal.SIGINT, signal.default_int_handler)
            log = os.open(request['log'], os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
            os.dup2(log, 1)
            os.dup2(log, 2)
            if request['kill_at'] is not None:
                kill_at(request['kill_at'])
            if request['kill_after'] is not None:
                kill_after(request['kill_after'])
            train.main(request['argv'])
            return
        print(json.dumps({'pid': pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({'status': os.waitstatus_to_exitcode(status)}), flush=True)


if __name__ == '__main__':
    serve()
