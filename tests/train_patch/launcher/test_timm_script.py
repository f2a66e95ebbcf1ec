"""The launcher on a timm train script, as real processes.

The checks run on a script of timm's shape, and on timm's own where the environment variable TIMM_TRAIN_SCRIPT names it.
"""

import csv
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

LIKE = Path(__file__).parent / 'timm_like.py'
REAL = os.environ.get('TIMM_TRAIN_SCRIPT')
needs_real = pytest.mark.skipif(
    not REAL, reason="TIMM_TRAIN_SCRIPT names no timm train.py: not run on timm's own script"
)

PYTHONPATH = os.environ.get('PYTHONPATH', '')

MODES = {
    'none': None,
    'mixup': 'Mixup(alpha=0.8)',
    'cutmix': 'CutMix(alpha=1)',
    'stochastic': 'Mixup(alpha=1) | CutMix(alpha=1), switch_prob=0.5',
    'hmix': 'HMix(alpha=1, ratio=0.75)',
    'gmix': 'GMix(alpha=1, kernel=reference)',
}
REAL_ARGUMENTS = '--model test_resnet --img-size 32 --epochs 2 --warmup-epochs 0 --lr 0.001 --device cpu -b 8 -j 2'


@pytest.fixture
def launch(image_folder, run_environment, tmp_path):
    """Runs a script through the launcher (or plain) and returns its process, output folder in tmp_path/output."""

    def run(script, line='', experiment='run', plain=False, data=True, path=None):
        command = [sys.executable] if plain else [sys.executable, '-m', 'train_patch']
        command += [str(script)]
        if data:
            command += ['--data-dir', str(image_folder), '--num-classes', '4']
        if str(script) == REAL:
            command += shlex.split(REAL_ARGUMENTS)
        command += ['--output', str(tmp_path / 'output'), '--experiment', experiment, *shlex.split(line)]
        environment = {**run_environment, 'PYTHONPATH': os.pathsep.join(filter(None, [path and str(path), PYTHONPATH]))}
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=300)

    return run


def passed(process):
    assert process.returncode == 0, process.stderr[-3000:]
    return process.stdout + process.stderr


def mixing_line(log):
    lines = [line for line in log.splitlines() if 'Mixing: ' in line]
    assert len(lines) == 1, log[-3000:]
    return lines[0].partition('Mixing: ')[2]


def batches(folder):
    """(epoch, loss, mixed) of every batch that the script of timm's shape trained on."""
    rows = [line.split() for line in (folder / 'batches.txt').read_text().splitlines()]
    return [(int(epoch), float(loss), mixed == 'True') for epoch, loss, mixed in rows]


@pytest.mark.parametrize('mode', ['none', 'stochastic', 'hmix', 'gmix'])
def test_a_mode_trains_and_says_what_it_does(launch, tmp_path, mode):
    log = passed(launch(LIKE, f'--mix-mode {mode} --epochs 1 --mixup 0.3 --cutmix 0.3'))
    assert (MODES[mode] is None and mixing_line(log) == 'none') or f'FastCollateMixup({MODES[mode]}, ' in mixing_line(
        log
    )
    rows = batches(tmp_path / 'output' / 'run')
    assert len(rows) == 4
    assert any(mixed for _, _, mixed in rows) == (mode != 'none')
    recorded = yaml.safe_load((tmp_path / 'output' / 'run' / 'args.yaml').read_text())
    assert recorded['mix_mode'] == mode
    assert recorded['hmix_ratio'] == (0.75 if mode == 'hmix' else None)


@pytest.mark.parametrize(
    ('line', 'mixer'),
    [
        ('--no-prefetcher --mixup-mode pair', 'Mixup(HMix(alpha=1, ratio=0.75), mode=pair,'),
        ('--mixup-mode elem', 'FastCollateMixup(HMix(alpha=1, ratio=0.75), mode=elem,'),
        ('--mixup-mode half', 'FastCollateMixup(HMix(alpha=1, ratio=0.75), mode=half,'),
        ('--naflex-loader', 'NaFlexMixup(HMix(alpha=1, ratio=0.75),'),
        ('--naflex-loader --no-prefetcher', 'NaFlexMixup(HMix(alpha=1, ratio=0.75),'),
    ],
)
def test_mixing_reaches_every_loader_and_stops_at_the_off_epoch(launch, tmp_path, line, mixer):
    log = passed(launch(LIKE, f'--mix-mode hmix --epochs 4 --mixup-off-epoch 2 {line}'))
    assert mixing_line(log).startswith(mixer)
    rows = batches(tmp_path / 'output' / 'run')
    for epoch in range(4):
        mixed = [m for e, _, m in rows if e == epoch]
        assert mixed
        assert any(mixed) if epoch < 2 else not any(mixed)


@pytest.mark.parametrize('line', ['--mixup 0.8 --cutmix 1.0 --mixup-mode elem', '--mixup 1 --no-prefetcher'])
def test_without_a_mode_the_run_is_plain_pythons(launch, tmp_path, line):
    passed(launch(LIKE, line, 'plain', plain=True))
    log = passed(launch(LIKE, line, 'ours'))
    assert 'Mixup(' in mixing_line(log)
    plain, ours = (batches(tmp_path / 'output' / name) for name in ('plain', 'ours'))
    assert len(plain) == len(ours) == 8
    for (_, timms, _), (_, mine, _) in zip(plain, ours, strict=True):
        assert mine == pytest.approx(timms, rel=1e-3)


def test_recipes_and_args_yaml(launch, tmp_path):
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text('mix_mode: gmix\nmix_preset: cifar100\nmixup: 0.2\nepochs: 1\nmixup_mode: pair\n')
    log = passed(launch(LIKE, f'-c {recipe}', 'first'))
    assert 'GMix(alpha=0.5, kernel=reference), mode=pair' in mixing_line(log)
    again = passed(launch(LIKE, f'-c {tmp_path}/output/first/args.yaml --experiment again', data=False))
    assert mixing_line(again) == mixing_line(log)
    assert batches(tmp_path / 'output' / 'again') == batches(tmp_path / 'output' / 'first')
    over = passed(launch(LIKE, f'-c {recipe} --mix-mode none', 'over'))
    assert mixing_line(over) == 'none'


@pytest.mark.parametrize('method', ['fork', 'spawn', 'forkserver'])
def test_loader_start_methods(launch, tmp_path, method):
    # a script leaves the start method of its loaders to the process, whose default a site can set
    site = tmp_path / 'site'
    site.mkdir()
    (site / 'sitecustomize.py').write_text(f'import multiprocessing\nmultiprocessing.set_start_method({method!r})\n')
    passed(launch(LIKE, '--epochs 3 --mix-mode hmix -j 1 --mixup-off-epoch 2', path=site))
    rows = batches(tmp_path / 'output' / 'run')
    assert any(mixed for epoch, _, mixed in rows if epoch < 2)
    assert not any(mixed for epoch, _, mixed in rows if epoch == 2)


def refused(process):
    assert process.returncode == 2, process.stderr[-2000:]
    assert 'Traceback' not in process.stderr
    return process.stderr.strip().splitlines()[-1]


def test_bad_scripts_and_recipes_are_refused_in_one_line(launch, tmp_path):
    other = tmp_path / 'other.py'
    other.write_text("import sys\nsys.exit('it ran')\n")
    message = refused(launch(other))
    assert 'not a timm train script' in message and '_parse_args' in message
    broken = tmp_path / 'broken.py'
    broken.write_text('def main(:\n')
    assert 'not a Python script' in refused(launch(broken))
    assert 'no such script' in refused(launch(tmp_path / 'missing.py'))
    own = tmp_path / 'own.py'
    own.write_text(LIKE.read_text().replace('from timm.data import FastCollateMixup, Mixup,', OWN_MIXERS))
    assert 'does not take Mixup from timm.data' in refused(launch(own))
    recipe = tmp_path / 'recipe.yaml'
    for text, parts in [
        ('mix_mode: hmx\n', ['--mix-mode', 'hmx', 'hmix']),
        ('mix_mod: hmix\n', ['mix_mod', 'mix_mode', 'recipe.yaml']),
        ('- mix_mode\n', ['recipe.yaml', 'mapping']),
    ]:
        recipe.write_text(text)
        message = refused(launch(LIKE, f'-c {recipe}'))
        assert all(part in message for part in parts), message
    assert 'nowhere.yaml' in refused(launch(LIKE, '-c nowhere.yaml'))


OWN_MIXERS = """from timm.data.mixup import FastCollateMixup, Mixup
from timm.data import"""


def test_help_shows_both(launch):
    text = passed(launch(LIKE, '--help'))
    for option in ('--mixup-off-epoch', '--mix-mode', '--mix-preset', '--hmix-ratio', '--gmix-kernel'):
        assert option in text


def test_the_scripts_folder_leads_the_path(launch, tmp_path):
    """A checkout's script gets the timm beside it."""
    checkout = tmp_path / 'checkout'
    (checkout / 'timm').mkdir(parents=True)
    (checkout / 'timm' / '__init__.py').write_text("__version__ = '0.9.7'\n")
    (checkout / 'train.py').write_text(LIKE.read_text())
    message = refused(launch(checkout / 'train.py'))
    assert 'timm 0.9.7' in message and str(checkout) in message and '1.0.20' in message


@needs_real
@pytest.mark.parametrize('mode', MODES)
def test_timms_script_in_every_mode(launch, tmp_path, mode):
    log = passed(launch(REAL, f'--mix-mode {mode}'))
    assert (MODES[mode] is None and mixing_line(log) == 'none') or f'FastCollateMixup({MODES[mode]}, ' in mixing_line(
        log
    )
    assert len(summary(tmp_path / 'output' / 'run')) == 2


@needs_real
@pytest.mark.parametrize(
    ('line', 'mixer'),
    [
        ('--no-prefetcher --mixup-mode elem', 'Mixup('),
        ('--mixup-mode pair --bce-loss', 'FastCollateMixup('),
        ('--mixup-mode half', 'FastCollateMixup('),
        ('--naflex-loader --model test_vit --naflex-train-seq-lens 4 9 --naflex-max-seq-len 9', 'NaFlexMixup('),
    ],
)
def test_timms_script_with_every_loader(launch, tmp_path, line, mixer):
    if 'naflex' in line:
        line = line.replace('test_vit', 'naflexvit_base_patch16_gap --model-kwargs embed_dim=32 depth=1 num_heads=2')
    log = passed(launch(REAL, f'--mix-mode hmix --mixup-off-epoch 1 {line}'))
    assert mixing_line(log).startswith(f'{mixer}HMix(alpha=1, ratio=0.75)')
    assert len(summary(tmp_path / 'output' / 'run')) == 2


@needs_real
@pytest.mark.parametrize(
    'line', ['--mixup 0.8 --cutmix 1.0', '--cutmix 1 --mixup-mode elem', '--mixup 1 --no-prefetcher']
)
def test_timms_script_without_a_mode_is_plain_pythons(launch, tmp_path, line):
    passed(launch(REAL, line, 'plain', plain=True))
    passed(launch(REAL, line, 'ours'))
    plain, ours = (summary(tmp_path / 'output' / name) for name in ('plain', 'ours'))
    assert len(plain) == len(ours) == 2
    for timms, mine in zip(plain, ours, strict=True):
        assert float(mine['train_loss']) == pytest.approx(float(timms['train_loss']), rel=1e-3)


@needs_real
def test_timms_script_resumes_and_repeats(launch, tmp_path):
    passed(launch(REAL, '--mix-mode gmix', 'first'))
    folder = tmp_path / 'output' / 'first'
    log = passed(launch(REAL, f'--mix-mode gmix --epochs 3 --resume {folder}/last.pth.tar', 'resumed'))
    assert 'GMix(' in mixing_line(log)
    assert [row['epoch'] for row in summary(tmp_path / 'output' / 'resumed')] == ['2']
    passed(launch(REAL, f'-c {folder}/args.yaml --experiment again', data=False))
    assert summary(tmp_path / 'output' / 'again') == summary(folder)


def summary(folder):
    with open(folder / 'summary.csv', newline='') as file:
        return list(csv.DictReader(file))
