"""What several test files share: a folder of real images, and the processes they start and their environment."""

import contextlib
import gc
import json
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

# before torch is imported: the test processes share the machine, and several threads in each would only get in the way
os.environ.setdefault('OMP_NUM_THREADS', '1')
os.environ.setdefault('MKL_NUM_THREADS', '1')

import numpy as np
import process_server
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

CHECKOUT = Path(__file__).parents[1]

# no test may depend on the speed of the machine
settings.register_profile('any_machine', deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('any_machine')

SERVER = pytest.StashKey()


def pytest_cmdline_main(config):
    """Forks the server of processes here: torch and timm, which take seconds, are imported, and no test is yet."""
    if config.getoption('numprocesses', None) and not hasattr(config, 'workerinput'):
        return  # xdist's first process, which runs no test
    gc.disable()  # what is imported lives as long as the process: no need to look through a million objects for it
    import hmix_timm.mixup  # noqa: F401

    if not all('hmix_timm' in path for path in config.args):  # what mixes is tested without these, another second
        import matplotlib.figure  # noqa: F401
        import sklearn.datasets  # noqa: F401

    config.stash[SERVER] = process_server.start()


def pytest_collection_finish():
    """From here on it looks at what the tests make, and not at every 700 objects of it."""
    gc.freeze()
    gc.enable()
    gc.set_threshold(20_000)


@pytest.fixture(scope='session')
def image_folder(tmp_path_factory):
    """An ImageFolder of JPEG crops of two photographs, of different sizes: 4 classes, 8 train and 4 validation each."""
    from sklearn.datasets import load_sample_images

    root = tmp_path_factory.mktemp('images')
    photographs = load_sample_images().images
    rng = np.random.default_rng(0)
    for split, count in (('train', 8), ('validation', 4)):
        for label in range(4):
            folder = root / split / f'class{label}'
            folder.mkdir(parents=True)
            for index in range(count):
                photograph = photographs[label % 2]
                height, width = rng.integers(40, 90, 2)
                y = rng.integers(photograph.shape[0] - height)
                x = rng.integers(photograph.shape[1] - width)
                crop = photograph[y : y + height, x : x + width]
                Image.fromarray(np.ascontiguousarray(crop if label < 2 else crop[::-1])).save(folder / f'{index}.jpg')
    return root


@dataclass
class Process:
    """A process of a ProcessServer, that has ended or (`status` None) is running."""

    server: 'ProcessServer'
    folder: Path
    pid: int
    status: int | None = None

    @property
    def stdout(self):
        return (self.folder / 'stdout').read_text()

    @property
    def stderr(self):
        return (self.folder / 'stderr').read_text()

    def wait_until(self, has_come):
        """Returns when `has_come()`; fails where the process ends before."""
        while not has_come():
            try:
                os.kill(self.pid, 0)
            except ProcessLookupError:
                assert has_come(), self.stderr[-3000:]
                return
            time.sleep(0.01)

    def interrupt(self):
        """Ctrl-C, as the terminal does it: to the whole group; again if need be: Python loses one now and then."""
        with contextlib.suppress(ProcessLookupError):
            for _ in range(3):
                os.killpg(self.pid, signal.SIGINT)
                for _ in range(60):
                    time.sleep(0.05)
                    os.kill(self.pid, 0)

    def wait(self):
        if self.status is None:
            self.status = self.server.end()
        return self

    def passed(self):
        assert self.wait().status == 0, self.stderr[-3000:]
        return self


class ProcessServer:
    """Starts Python processes, one at a time, that need not import torch and timm first."""

    def __init__(self, requests, folder):
        self.requests = requests
        self.folder = folder
        self.count = 0
        self.running = None

    def module(self, module, *argv, **kwargs):
        """Starts `python -m module argv …`."""
        arguments = {'module': module, 'argv': [str(word) for word in argv]}
        return self.call('process_server:run_module', arguments, **kwargs)

    def call(self, function, arguments, cwd=None, one_log=False, stdin='', **environment):
        """Starts a process that calls a function, 'package.module:name', with arguments that JSON can hold.

        Args:
            function: what to call.
            arguments: its keyword arguments.
            cwd: the process's folder; the checkout by default.
            stdin: what the process reads there.
            one_log: Whether stdout and stderr go into one file, `stdout`, as in a terminal.
            environment: variables that differ from those of the tests.
        """
        if self.running:  # a test failed before it could wait
            os.killpg(self.running.pid, signal.SIGKILL)
            self.running.wait()
        self.count += 1
        folder = self.folder / str(self.count)
        folder.mkdir()
        for name, text in {'stdin': stdin, 'stdout': '', 'stderr': ''}.items():
            (folder / name).write_text(text)
        request = {'function': function, 'arguments': arguments, 'environment': environment}
        request |= {'cwd': str(cwd or CHECKOUT), 'stdin': str(folder / 'stdin'), 'stdout': str(folder / 'stdout')}
        request['stderr'] = request['stdout'] if one_log else str(folder / 'stderr')
        print(json.dumps(request), file=self.requests, flush=True)
        self.running = Process(self, folder, self._answer()['pid'])
        return self.running

    def end(self):
        """The exit status of the process that is running."""
        self.running = None
        return self._answer()['status']

    def _answer(self):
        line = self.requests.readline()
        assert line, 'the server has died'
        return json.loads(line)


@pytest.fixture(scope='session')
def processes(pytestconfig, tmp_path_factory):
    """A ProcessServer."""
    return ProcessServer(pytestconfig.stash[SERVER], tmp_path_factory.mktemp('processes'))


@pytest.fixture
def signals():
    """Signals are handled afterwards as they were before; Ctrl-C is not ignored, as in a shell's background."""
    before = {n: signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)
