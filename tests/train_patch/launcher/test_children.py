"""Processes that a launched script starts: each mixes as the launch says, or its parent says that it cannot."""

import subprocess
import sys
import time
import venv
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


@pytest.fixture
def start(launch):
    """Launches a script that starts a command: `start('elsewhere', 'python main.py')`."""

    def run(way, command, before='--mix-mode hmix', **kwargs):
        return launch(before, STARTING, f'{way} {command}', CHECKOUT=str(CHECKOUT), **kwargs)

    return run


@pytest.mark.parametrize('way', ['elsewhere', pytest.param('submitit {folder}/jobs', marks=pytest.mark.slow)])
def test_a_script_that_another_starts_mixes_as_the_launch_says(start, way):
    if 'submitit' in way:
        pytest.importorskip('submitit')
    python = '' if 'submitit' in way else PYTHON
    run = start(way, f'{python} {DEIT} --output {{folder}} --smoothing 0.1').passed()
    check_hmix(run.record()['batches'])
    assert sorted(run.mixing_lines) == [HMIX, ITSELF]
    assert run.record()['argv'][1:] == ['--output', str(run.folder), '--smoothing', '0.1']
    assert run.record()['path'] == str(DEIT.parent) or 'submitit' in way


def test_a_module_that_a_script_starts_mixes(start):
    run = start('here', f'{PYTHON} -m packaged.train --output {{folder}}', cwd=SCRIPTS).passed()
    check_hmix(run.record()['batches'], tolerance=0.01)
    check_hmix(run.record()['of_the_subclass'], tolerance=0.01)


def test_a_process_that_outlives_its_parent_mixes_and_leaves_no_folder(start, tmp_path):
    run = start('leaving', f'{PYTHON} {DEIT} --output {{folder}}', TMPDIR=str(tmp_path)).passed()
    assert run.mixing_lines == [ITSELF]
    log = run.folder / 'record0.pt'
    deadline = time.monotonic() + 300
    while not log.exists() or list(tmp_path.glob('hmix-train-*')):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    check_hmix(run.record()['batches'])


@pytest.mark.slow
def test_the_processes_of_a_torchrun_that_a_script_starts_mix(start):
    run = start('elsewhere', f'{TORCHRUN} {DEIT} --output {{folder}}').passed()
    for rank in range(2):
        check_hmix(run.record(rank)['batches'])
    assert run.mixing_lines.count(HMIX) == 1


def test_a_sitecustomize_that_the_childs_python_has_runs_as_before(start, tmp_path):
    venv.create(tmp_path / 'venv', symlinks=True)
    (packages,) = (tmp_path / 'venv' / 'lib').glob('*/site-packages')
    (packages / 'others.pth').write_text('\n'.join(path for path in sys.path if path))
    (packages / 'sitecustomize.py').write_text("import sys\nprint('own', __name__, *sys.path, flush=True)\n")
    run = start('elsewhere', f'{tmp_path}/venv/bin/python {DEIT} --output {{folder}}').passed()
    check_hmix(run.record()['batches'])
    (line,) = (line for line in run.log.splitlines() if line.startswith('own'))
    assert line.startswith('own sitecustomize') and 'launcher/site' not in line


@pytest.mark.parametrize('written', ['--mix-families {} --mix-mode left', '--mix-families={} --mix-mode left'])
def test_a_timm_script_that_a_script_starts_is_run_as_the_launcher_runs_it(start, image_folder, tmp_path, written):
    (tmp_path / 'mine.py').write_text(
        "from hmix_timm import BoxMask, register_family\n@register_family('left')\n"
        'def left(size, lam, options, draws):\n    return BoxMask(lam)\n'
    )
    line = f'{PYTHON} -u {LIKE} --data-dir {image_folder} --num-classes 4 --output {{folder}} --epochs 1'
    run = start('elsewhere', line, before=written.format('mine.py'), cwd=tmp_path).passed()
    assert run.mixing_lines[0].startswith('FastCollateMixup(Left(')
    assert 'mix_mode: left' in (run.folder / 'run' / 'args.yaml').read_text()


def test_an_inner_launch_beats_the_outer_one(start):
    run = start('elsewhere', f'sh -c "{PYTHON} -m train_patch --mix-mode gmix {DEIT} --output {{folder}}"').passed()
    assert run.record()['mixer'].startswith('Mixup(GMix(') and len(run.mixing_lines) == 2


@pytest.mark.parametrize(('way', 'flags', 'reason'), [
    ('elsewhere', '-I', 'by -I'),
    ('elsewhere', '-uE -W ignore', 'by -E'),
    ('emptied', '', 'without HMIX_TRAIN_LAUNCH'),
])  # fmt: skip
def test_a_python_that_cannot_be_reached_is_said(start, tmp_path, way, flags, reason):
    (tmp_path / 'child.py').write_text('import sys\nprint("alive", *sys.argv[1:])\n')
    run = start(way, f'{PYTHON} {flags} {tmp_path}/child.py -S').passed()
    warnings = [line for line in run.log.splitlines() if line.startswith('hmix-train: warning')]
    assert len(warnings) == 1 and f'out of reach, {reason}: {PYTHON}' in warnings[0]
    assert 'alive -S' in run.log
    run = start(way, f'{PYTHON} {flags} {tmp_path}/child.py', before='')
    assert 'warning' not in run.log  # what runs there mixes by timm, as was asked for


@pytest.mark.parametrize('command', [f'{PYTHON} -c pass', 'git --version'])
def test_only_programs_that_may_train_are_taken_for_it(start, command):
    run = start('elsewhere', command)
    if 'git' in command:
        assert 'has ended, and --mix-mode hmix had no effect' in run.refused(1)
    else:
        assert run.passed().mixing_lines == [ITSELF]


@pytest.mark.parametrize(('line', 'reason'), [
    ('--mixup 0 --cutmix 0', 'about to train without --mix-mode hmix'),
    ('--eval', 'main.py has ended, and --mix-mode hmix had no effect'),
])  # fmt: skip
def test_a_process_that_does_not_mix_ends_with_an_error_of_its_own(start, line, reason):
    run = start('elsewhere', f'{PYTHON} {DEIT} --output {{folder}} {line}')
    assert run.status == 1 and reason in run.log
    assert not (run.folder / 'record0.pt').exists()


@pytest.mark.parametrize('method', ['spawn', 'forkserver'])
def test_workers_of_a_process_that_a_script_starts_mix(start, method):
    command = f'{PYTHON} -m packaged.train --output {{folder}} --start-method {method}'
    run = start('here', command, cwd=SCRIPTS).passed()
    check_hmix(run.record()['batches'], tolerance=0.01)


def test_a_process_reaches_timm_by_whatever_it_imports_first(start, tmp_path):
    for name in ('timm', 'hmix_timm.naflex', 'train_patch.launcher.mixers', 'timm.data.mixup'):
        (tmp_path / 'child.py').write_text(
            f'import {name}\nfrom timm.data import Mixup\nimport timm.data.mixup\n'
            'assert timm.data.mixup.Mixup is Mixup\nprint("made", repr(Mixup(num_classes=5)))\n'
        )
        run = start('elsewhere', f'{PYTHON} {tmp_path}/child.py')
        assert f'made {HMIX}' in run.log, name


def test_a_plain_python_starts_with_few_modules_more(start, tmp_path):
    code = 'import sys; print(*sorted(sys.modules))'
    plain = subprocess.run([PYTHON, '-c', code], capture_output=True, text=True, check=True).stdout.split()
    child = tmp_path / 'child.py'
    child.write_text(code)
    loaded = start('elsewhere', f'{PYTHON} {child}').log.splitlines()[0].split()
    assert set(loaded) - set(plain) <= {'sitecustomize', 'train_patch.launcher.site.sitecustomize'}
