"""What the tests of the lean script share: a quick way to start real runs, and the arguments of a small one."""

import csv
import json
import os
import shlex
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

SMALL = '--model test_resnet --num-classes 4 --img-size 32 -b 16 --lr 0.05 --warmup-epochs 0 --device cpu'


@dataclass
class LeanRun:
    """A run of the lean script that has ended, or (`status` None) is under way."""

    folder: Path
    log_path: Path
    pid: int
    status: int | None = None

    @property
    def log(self):
        return self.log_path.read_text()

    @property
    def last_line(self):
        return self.log.strip().splitlines()[-1]

    def text(self, name):
        return (self.folder / name).read_text()

    @property
    def rows(self):
        with open(self.folder / 'summary.csv', newline='') as file:
            return list(csv.DictReader(file))


class LeanServer:
    """Starts runs, one at a time, in processes and sessions of their own."""

    def __init__(self, process, image_folder, logs):
        self.process = process
        self.image_folder = image_folder
        self.logs = logs
        self.count = 0
        self.under_way = None

    def start(self, folder, line='', small=True, data=None, **kwargs):
        """Starts a run into `folder`; small: with the arguments of a small run on `data` or the shared images."""
        argv = [*shlex.split(SMALL), '--data-dir', str(data or self.image_folder)] if small else []
        argv += ['--output', str(folder.parent), '--experiment', folder.name, *shlex.split(line)]
        return self.start_command('train', argv, folder, **kwargs)

    def start_command(self, command, argv, folder, processes=1, kill_at=None, kill_after=None):
        """Starts `train` or `compare` with these arguments; see `lean_server.py` for the others."""
        if self.under_way:  # a test failed before it could wait
            os.killpg(self.under_way.pid, signal.SIGKILL)
            self.wait(self.under_way)
        self.count += 1
        log = self.logs / f'{self.count}.log'
        log.touch()
        request = dict(command=command, argv=[*map(str, argv)], log=str(log), processes=processes)
        self.process.stdin.write(json.dumps({**request, 'kill_at': kill_at, 'kill_after': kill_after}) + '\n')
        self.process.stdin.flush()
        self.under_way = LeanRun(folder, log, self._answer()['pid'])
        return self.under_way

    def wait(self, run):
        """Waits for its end; its status is that of the first process that did not end well."""
        statuses = self._answer()['statuses']
        run.status = next(filter(None, statuses), 0)
        self.under_way = None
        return run

    def __call__(self, folder, line='', status=0, **kwargs):
        """Runs to the end and checks the exit status."""
        run = self.wait(self.start(folder, line, **kwargs))
        assert run.status == status, run.log[-3000:]
        return run

    def _answer(self):
        line = self.process.stdout.readline()
        assert line, 'the server has died'
        return json.loads(line)


@pytest.fixture(scope='session')
def lean(image_folder, run_environment, tmp_path_factory):
    """A LeanServer: `lean(folder, 'arguments')` trains into `folder` as `hmix-train` would."""
    server = [sys.executable, str(Path(__file__).with_name('lean_server.py'))]
    with subprocess.Popen(
        server, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=run_environment
    ) as process:
        yield LeanServer(process, image_folder, tmp_path_factory.mktemp('logs'))
        process.stdin.close()
        process.wait(60)
