"""Launches scripts quickly: imports torch and timm once, then forks one process per launch.

Reads requests from stdin, a JSON object per line: `argv` of `python -m train_patch`, or of `python` with `plain`,
`cwd`, `environment` (what differs from the server's), `start_method` of multiprocessing and `log`, a file for the
output. Answers with the exit status.
"""

import json
import multiprocessing
import os
import runpy
import signal
import sys
import traceback

import torch
import torchvision.transforms  # noqa: F401

from train_patch.__main__ import main
from train_patch.launcher import any_script, timm_script  # noqa: F401  # imports all that a launch imports

TIME_LIMIT = 300


def launch(request):
    """What `python -m train_patch` or `python script.py` does in a process of its own."""
    os.setsid()
    signal.alarm(TIME_LIMIT)
    log = os.open(request['log'], os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.chdir(request['cwd'])
    os.environ.update(request['environment'])
    if request['start_method']:
        multiprocessing.set_start_method(request['start_method'], force=True)
    sys.path[0] = os.getcwd()
    if request['plain']:
        sys.argv = request['argv']
        sys.path[0] = os.path.dirname(os.path.abspath(sys.argv[0]))
        runpy.run_path(sys.argv[0], run_name='__main__')
    else:
        sys.argv = ['train_patch', *request['argv']]
        main()


def serve():
    torch.set_num_threads(1)
    for line in sys.stdin:
        request = json.loads(line)
        pid = os.fork()
        if pid == 0:
            status = 0
            try:
                launch(request)
            except SystemExit as end:
                status = end.code if isinstance(end.code, int) else int(end.code is not None)
                if isinstance(end.code, str):
                    print(end.code, file=sys.stderr)
            except BaseException:
                traceback.print_exc()
                status = 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(status, flush=True)


if __name__ == '__main__':
    serve()
