"""Processes that a launched script starts: each mixes as the launch says, or its parent says that it cannot."""

import subprocess
import sys
import time
import venv
from dataclasses import replace
from pathlib import Path

import pytest

from .conftest import SCRIPTS, check_hmix
from .test_any_script import DEIT, HMIX
from .test_timm_script import LIKE

CHECKOUT = Path(__file__).parents[3]
STARTING = SCRIPTS / 'starting.py'
PYTHON = sys.executable
TORCHRUN = f'{PYTHON} -m torch.distributed.run --nproc_per_node 2 --rdzv_backend c10d --rdzv_endpoint localhost:0'
ITSELF = 'none in starting.py itself: the processes that it has started say how they mix'


@pytest.fixture(scope='module')
def start(launch):
    """Launches a script that starts a command: `start('elsewhere', 'python main.py')`."""

    def run(way, command, before='--mix-mode hmix', **kwargs):
        return launch(before, STARTING, f'{way} {command}', CHECKOUT=str(CHECKOUT), **kwargs)

    return run


@pytest.fixture(scope='module')
def left(start, image_folder, tmp_path_factory):
    """A timm script that was started by a script and outlived it, in a Python with a sitecustomize of its own."""
    home = tmp_path_factory.mktemp('left')
    (home / 'mine.py').write_text(
        "from hmix_timm import BoxMask, register_family\n@register_family('left')\n"
        'def left(size, lam, options, draws):\n    return BoxMask(lam)\n'
    )
    (home / 'temporary').mkdir()
    venv.create(home / 'venv', symlinks=True)
    (packages,) = (home / 'venv' / 'lib').glob('*/site-packages')
    (packages / 'others.pth').write_text('\n'.join(path for path in sys.path if path))
    (packages / 'sitecustomize.py').write_text("import sys\nprint('own', __name__, *sys.path, flush=True)\n")
    line = f'{LIKE} --data-dir {image_folder} --num-classes 4 --output {{folder}} --epochs 1'
    command = f'exec {home}/venv/bin/python -u {line} > {home}/log 2>&1'
    before = '--mix-families=mine.py --mix-mode left'
    run = start('leaving', f'sh -c "{command}"', before, cwd=home, TMPDIR=f'{home}/temporary').passed()
    assert run.mixing_lines == [ITSELF]
    deadline, batches = time.monotonic() + 300, run.folder / 'run' / 'batches.txt'
    while not (batches.exists() and batches.read_text()) or list((home / 'temporary').glob('hmix-train-*')):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return replace(run, log=(home / 'log').read_text())


def test_a_timm_script_that_a_script_starts_is_run_as_the_launcher_runs_it(left):
    assert left.mixing_lines[0].startswith('FastCollateMixup(Left(')
    assert 'mix_mode: left' in (left.folder / 'run' / 'args.yaml').read_text()
    batches = (left.folder / 'run' / 'batches.txt').read_text().splitlines()
    assert len(batches) == 4 and any(batch.endswith('True') for batch in batches)


def test_a_sitecustomize_that_the_childs_python_has_runs_as_before(left):
    (line,) = (line for line in left.log.splitlines() if line.startswith('own'))
    assert line.startswith('own sitecustomize') and 'launcher/site' not in line


@pytest.mark.slow
def test_a_job_of_submitit_mixes_as_the_launch_says(start):
    pytest.importorskip('submitit')
    run = start('submitit {folder}/jobs', f'{DEIT} --output {{folder}} --smoothing 0.1').passed()
    check_hmix(run.record()['batches'])
    assert sorted(run.mixing_lines) == [HMIX, ITSELF]


@pytest.mark.slow
def test_a_module_that_a_script_starts_and_its_loader_workers_of_a_forkserver_mix_as_the_launch_says(start):
    command = f'{PYTHON} -m packaged.train --output {{folder}} --start-method forkserver'
    run = start('here', command, cwd=SCRIPTS).passed()
    check_hmix(run.record()['batches'], tolerance=0.01)
    check_hmix(run.record()['of_the_subclass'], tolerance=0.01)
    assert run.record()['package'] == 'packaged'
    assert ['HMix(alpha=1, ratio=0.75)' in line for line in run.mixing_lines if line != ITSELF] == [True, True]


@pytest.mark.slow
def test_the_processes_of_a_torchrun_that_a_script_starts_mix(start):
    run = start('elsewhere', f'{TORCHRUN} {DEIT} --output {{folder}}').passed()
    for rank in range(2):
        check_hmix(run.record(rank)['batches'])
    assert run.mixing_lines.count(HMIX) == 1


@pytest.mark.slow
def test_an_inner_launch_beats_the_outer_one(start):
    run = start('elsewhere', f'sh -c "{PYTHON} -m train_patch --mix-mode gmix {DEIT} --output {{folder}}"').passed()
    assert run.record()['mixer'].startswith('Mixup(GMix(') and len(run.mixing_lines) == 2


@pytest.mark.parametrize(('way', 'flags', 'reason'), [
    ('elsewhere', '-I', 'by -I'),
    ('elsewhere', f'{STARTING} elsewhere {PYTHON} -uE -W ignore', 'by -E'),
    ('emptied', '', 'without HMIX_TRAIN_LAUNCH'),
])  # fmt: skip
def test_a_python_that_cannot_be_reached_is_said(start, tmp_path, way, flags, reason):
    (tmp_path / 'child.py').write_text('import sys\nprint("alive", *sys.argv[1:])\n')
    run = start(way, f'{PYTHON} {flags} {tmp_path}/child.py -S').passed()
    warnings = [line for line in run.log.splitlines() if line.startswith('hmix-train: warning')]
    assert len(warnings) == 1 and f'out of reach, {reason}: {PYTHON}' in warnings[0]
    assert 'alive -S' in run.log


def test_without_an_option_of_ours_no_warning_is_needed(start, tmp_path):
    (tmp_path / 'child.py').write_text('')
    assert 'warning' not in start('elsewhere', f'{PYTHON} -I {tmp_path}/child.py', before='').passed().log


def test_only_programs_that_may_train_are_taken_for_it(start):
    assert 'has ended, and --mix-mode hmix had no effect' in start('elsewhere', 'git --version').refused(1)


# Each but the last is a process that imports timm by one of the names; torch is imported once, for it takes long.
UNMIXED = """
import argparse, gc, importlib, os, sys, torch, torchvision
gc.freeze()  # at its end each process would look through all of torch
if os.fork() == 0:
    sys.modules['train_patch.launcher.children'] = None  # as where it cannot be imported
    try:
        import timm.data
    except ImportError:
        print('goes on')
    sys.exit()
os.wait()
names = ['hmix_timm.naflex', 'train_patch.launcher.mixers', 'timm.data.mixup', 'timm']
for name in names:
    if name == names[-1] or os.fork() == 0:
        break
    print('ended', os.waitstatus_to_exitcode(os.wait()[1]), flush=True)
importlib.import_module(name)
from timm.data import Mixup
import timm.data.mixup
assert timm.data.mixup.Mixup is Mixup
if name == names[0]:
    parser = argparse.ArgumentParser()
    parser.add_argument('--mixup', default=0.0)
    parser.parse_args([])
    torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1).step()
    print('trained')
if name == names[2]:
    import hmix_timm.transforms
if name == names[3]:
    from torchvision.transforms.v2 import CutMix
    assert CutMix.__module__ == 'torchvision.transforms.v2'
print('made', Mixup(num_classes=5), flush=True)
"""


@pytest.fixture(scope='module')
def unmixed(start, tmp_path_factory):
    """Processes that make a mixer and do not call it, and the first of them, which makes none and trains."""
    child = tmp_path_factory.mktemp('unmixed') / 'child.py'
    child.write_text(UNMIXED)
    return start('elsewhere', f'{PYTHON} {child} word')


def test_a_process_reaches_timm_by_whatever_it_imports_first(unmixed):
    assert unmixed.log.count(f'\nmade {HMIX}\n') == 3, unmixed.log
    assert unmixed.log.count('about to train without --mix-mode hmix') == 1, unmixed.log


def test_a_process_that_does_not_mix_ends_with_an_error_of_its_own(unmixed):
    assert (unmixed.status, unmixed.log.count('ended 1\n')) == (1, 3), unmixed.log
    assert unmixed.log.count('child.py has ended, and --mix-mode hmix had no effect') == 3  # one says another error
    assert 'about to train without --mix-mode hmix' in unmixed.log and 'trained' not in unmixed.log
    assert 'it mixes only where its own --mixup (here 0.0) says so' in unmixed.log
    assert f'{PYTHON} imports timm and cannot mix: ' in unmixed.log and 'goes on' not in unmixed.log


def test_a_plain_python_starts_with_few_modules_more(start, tmp_path):
    code = 'import sys; print(*sorted(sys.modules))'
    plain = subprocess.run([PYTHON, '-c', code], capture_output=True, text=True, check=True).stdout.split()
    child = tmp_path / 'child.py'
    child.write_text(code)
    loaded = start('elsewhere', f'{PYTHON} {child}').log.splitlines()[0].split()
    assert set(loaded) - set(plain) <= {'sitecustomize', 'train_patch.launcher.site.sitecustomize'}
