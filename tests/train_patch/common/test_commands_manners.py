"""The manners of all commands, in real processes: quick answers, and one line for mistakes and Ctrl-C."""

import configparser
import importlib
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import timm

from hmix_timm import __version__
from train_patch.data.digits import digits_folder

SETUP = configparser.ConfigParser()
SETUP.read(Path(__file__).parents[3] / 'setup.cfg')
COMMANDS = dict(line.split(' = ') for line in SETUP['options.entry_points']['console_scripts'].split('\n') if line)
"""Program → the function that the installed script calls."""

WORK = {
    'hmix-train': '--data-dir {images} --model test_resnet --num-classes 4 --img-size 32 -b 8 -j 0 --epochs 9999 '
    '--device cpu --log-interval 1 --output {out} --experiment run',
    'hmix-compare': '--modes none --seeds 0 --epochs 9999 --output {out}',
    'hmix-preview': '--rows 32 --output {out}/x.png',
    'hmix-bench': '--repeats 9999 --batch-size 4 --size 32 --images 8 --json {out}/x.json',
    'hmix-figures': '--figures 5 --output {out}',
}
"""Program → a line that works for long, and writes into one folder."""

LIBRARIES = ('torch', 'timm', 'matplotlib', 'sklearn')
START = """
import importlib, json, sys
program, function, lines = json.loads(sys.argv[1])
module, name = function.split(':')
for line in lines:
    sys.argv = [program, *line.split()]
    try:
        status = getattr(importlib.import_module(module), name)()
    except SystemExit as end:
        status = end.code
    loaded = [library for library in {LIBRARIES} if sys.modules.get(library)]
    print('ended:', status or 0, loaded, flush=True)
sys.exit(status)
""".replace('{LIBRARIES}', repr(LIBRARIES))


@pytest.fixture(params=COMMANDS)
def program(request):
    return request.param


def start(program, *lines):
    """Runs the lines of a command one after the other in a new Python."""
    told = json.dumps([program, COMMANDS[program], lines])
    return subprocess.run([sys.executable, '-c', START, told], capture_output=True, text=True, timeout=120)


def run_without(program, line, missing, file_size):
    """Runs a line without a package, or where no file can be larger than some bytes (None: as it is)."""
    if missing:
        for name in [name for name in sys.modules if name.partition('.')[0] == missing]:
            del sys.modules[name]
        sys.modules[missing] = None  # how Python marks a module that cannot be imported
    if file_size is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size, file_size))
    return run(program, line)


def run(program, line):
    module, name = COMMANDS[program].split(':')
    sys.argv = [program, *line.split()]
    return getattr(importlib.import_module(module), name)()


@pytest.fixture
def work(program, processes, image_folder, tmp_path):
    """Runs a line of `WORK`, which is expected to end at once, and returns its status and its last line of stderr."""
    digits_folder()

    def call(missing=None, file_size=None):
        line = WORK[program].format(images=image_folder, out=tmp_path / 'out')
        arguments = {'program': program, 'line': line, 'missing': missing, 'file_size': file_size}
        done = processes.call(f'{__name__}:run_without', arguments).wait()
        assert 'Traceback' not in done.stderr, done.stderr
        assert [path for path in tmp_path.rglob('out/**/*') if path.is_file() and path.name != '.lock'] == []
        return done.status, done.stderr.splitlines()[-1]

    return call


TYPOS = {
    'hmix-train': ['--typo', '--epochs 0', '-c digts', '--mix-mode hmx', '--hmix-ratio 2 --mix-mode hmix'],
    'hmix-compare': ['--typo', 'digts', '--modes hmx', '--seeds x'],
    'hmix-preview': [
        '--typo',
        '--rows 0',
        '-c digts',
        '--mix-mode hmx',
        '--grid hmix --typo',
        '--grid hmx',
        '-o /proc/x.png',
    ],
    'hmix-bench': ['--typo', '--only nothing', '--batch-size 3', '--mix-modes x'],
    'hmix-figures': [
        '--output x --typo',
        '--output x --figures 9',
        '--output x --img-size 0',
        '--output x --checkpoint none.pth',
        '--output /proc/x',
    ],
}


def test_neither_help_nor_version_nor_a_typo_waits_for_a_library(program):
    done = start(program, '--help', '--version', *TYPOS[program])
    statuses = [line for line in done.stdout.splitlines() if line.startswith('ended: ')]
    assert statuses == ['ended: 0 []'] * 2 + ['ended: 2 []'] * len(TYPOS[program]), done.stderr
    assert f'usage: {program} ' in done.stdout and f'\n{program} {__version__}\n' in done.stdout
    errors = [line for line in done.stderr.splitlines() if line.startswith(f'{program}: error: ')]
    assert len(errors) == len(TYPOS[program]) and '--typo' in errors[0]


def test_a_full_disk_is_found_and_named_before_the_work(work, program, tmp_path):
    status, line = work(file_size=1024)  # for every user as on a full disk
    assert status in (1, 2) and line.startswith(f'{program}: error: ') and str(tmp_path) in line


def run_with_old_timm(program, line):
    timm.__version__ = '0.4.11'
    return run(program, line)


def test_a_timm_that_is_too_old_is_named(program, processes, image_folder, tmp_path):
    line = WORK[program].format(images=image_folder, out=tmp_path / 'out')
    done = processes.call(f'{__name__}:run_with_old_timm', {'program': program, 'line': line}).wait()
    message = f'{program}: error: timm 0.4.11 at {Path(timm.__file__).parent} is too old: '
    assert done.status == 1 and done.stderr.splitlines()[-1].startswith(message), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('program', 'package'),
    [('hmix-preview', 'matplotlib'), ('hmix-figures', 'matplotlib'), ('hmix-compare', 'matplotlib')],
)
def test_a_package_that_is_not_installed_is_named(work, program, package):
    status, line = work(missing=package)
    assert status == 1 and line == f"{program}: error: {package} not installed: pip install 'hmix-timm[demo]'"


UNDER_WAY = {
    'hmix-train': lambda process, out: 'Train: 0' in process.stdout + process.stderr,
    'hmix-compare': lambda process, out: (out / 'none' / 'seed0' / 'train.log').exists(),
    'hmix-preview': lambda process, out: 'Mixing: ' in process.stdout,
    'hmix-bench': lambda process, out: 'mixers: float32' in process.stderr,
    'hmix-figures': lambda process, out: 'figure 5: training' in process.stderr,
}
LAST_LINES = {
    'hmix-train': 'Interrupted.',
    'hmix-compare': 'hmix-compare: stopped by SIGINT; the same command resumes it',
}


def test_ctrl_c_ends_with_one_line_and_status_130(program, processes, image_folder, tmp_path):
    out = tmp_path / 'out'
    words = WORK[program].format(images=image_folder, out=out).split()
    module = 'train_patch' if program == 'hmix-train' else program.replace('hmix-', 'train_patch.')
    process = processes.module(module, *words)
    process.wait_until(lambda: UNDER_WAY[program](process, out))
    process.interrupt()
    assert process.wait().status == 130, process.stderr
    assert 'Traceback' not in process.stderr
    assert process.stderr.splitlines()[-1] == LAST_LINES.get(program, f'{program}: interrupted')
