"""Shared by the tests of training: a quick way to start real runs, and the arguments of a small one."""

import csv
import shlex

import pytest

SMALL = '--model test_resnet --num-classes 4 --img-size 32 -b 16 --lr 0.05 --warmup-epochs 0 --device cpu'


class LeanRun:
    """A run of the lean script that has ended, or (`status` None) is under way."""

    def __init__(self, folder, process):
        self.folder, self.process, self.pid = folder, process, process.pid

    @property
    def status(self):
        return self.process.status

    @property
    def log(self):
        return self.process.stdout

    @property
    def last_line(self):
        return self.log.strip().splitlines()[-1]

    def text(self, name):
        return (self.folder / name).read_text()

    @property
    def rows(self):
        with open(self.folder / 'summary.csv', newline='') as file:
            return list(csv.DictReader(file))


class Lean:
    """Starts runs, one at a time, in processes and sessions of their own."""

    def __init__(self, processes, image_folder):
        self.processes = processes
        self.image_folder = image_folder

    def start(self, folder, line='', small=True, data=None, **kwargs):
        """Starts a run into `folder`; small: with the arguments of a small run on `data` or the shared images."""
        argv = [*shlex.split(SMALL), '--data-dir', str(data or self.image_folder)] if small else []
        argv += ['--output', str(folder.parent), '--experiment', folder.name, *shlex.split(line)]
        return self.start_command('train', argv, folder, **kwargs)

    def start_command(self, command, argv, folder, processes=1, kill_at=None, kill_after=None, environment=None):
        """Starts `train` or `compare` with these arguments; see `lean.py` for the others."""
        arguments = dict(command=command, argv=[*map(str, argv)], processes=processes)
        arguments |= dict(kill_at=kill_at, kill_after=kill_after)
        environment = environment or {}
        return LeanRun(
            folder, self.processes.call('tests.train_patch.lean:run', arguments, one_log=True, **environment)
        )

    def wait(self, run):
        """Waits for its end; its status is that of the first process that did not end well."""
        run.process.wait()
        return run

    def __call__(self, folder, line='', status=0, **kwargs):
        """Runs to the end and checks the exit status."""
        run = self.wait(self.start(folder, line, **kwargs))
        assert run.status == status, run.log[-3000:]
        return run


@pytest.fixture(scope='session')
def lean(image_folder, processes):
    """A Lean: `lean(folder, 'arguments')` trains into `folder` as `hmix-train` would."""
    return Lean(processes, image_folder)
