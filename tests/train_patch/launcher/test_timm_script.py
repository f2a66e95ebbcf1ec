"""The launcher on a timm train script, as real processes.

The checks run on a script of timm's shape, and on timm's own where the environment variable TIMM_TRAIN_SCRIPT names it.
"""

import csv
import os
import re
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

MODES = {
    'none': None,
    'mixup': 'Mixup(alpha=0.8)',
    'cutmix': 'CutMix(alpha=1)',
    'stochastic': 'Mixup(alpha=1) | CutMix(alpha=1), switch_prob=0.5',
    'hmix': 'HMix(alpha=1, ratio=0.75)',
    'gmix': 'GMix(alpha=1, kernel=reference)',
    'puzzlemix': 'alpha=1, beta=1.2',
}
REAL_ARGUMENTS = '--model test_resnet --img-size 32 --epochs 2 --warmup-epochs 0 --lr 0.001 --device cpu -b 8 -j 2'


@pytest.fixture
def train(launch, image_folder, tmp_path):
    """Launches a timm script (or runs it plain) on the shared images into a folder of `tmp_path / 'output'`."""

    def run(script, line='', experiment='run', data=True, before='', **kwargs):
        line = f'--output {tmp_path}/output --experiment {experiment} {line}'
        if data:
            line = f'--data-dir {image_folder} --num-classes 4 {line}'
        if str(script) == REAL:
            line = f'{REAL_ARGUMENTS} {line}'
        return launch(before, script, line, **kwargs)

    return run


def mixing_line(run):
    """What the one line of a log about mixing says, of a launch that ended well."""
    (line,) = run.passed().mixing_lines
    return line


def batches(folder):
    """(epoch, loss, mixed) of every batch that the script of timm's shape trained on."""
    rows = [line.split() for line in (folder / 'batches.txt').read_text().splitlines()]
    return [(int(epoch), float(loss), mixed == 'True') for epoch, loss, mixed in rows]


def expected_line(mode, mixer='FastCollateMixup'):
    """The start of the line about a mix mode, with timm's default loader or with another mixer."""
    return 'none' if MODES[mode] is None else f'{mixer}({MODES[mode]}, '


def test_options_before_the_script_are_resolved_with_those_behind_it_and_recorded(train, tmp_path, recipe):
    run = train(LIKE, f'-c {recipe} --mix-mode hmix --epochs 1 --mixup 0.3', before='--hmix-ratio 0.6')
    assert mixing_line(run).startswith('FastCollateMixup(HMix(alpha=1, ratio=0.6)'), 'not the mode of the recipe'
    assert 'replaced by --mix-mode hmix: --mixup 0.3' in run.log
    recorded = yaml.safe_load((tmp_path / 'output' / 'run' / 'args.yaml').read_text())
    assert (recorded['mix_mode'], recorded['hmix_ratio'], recorded['mixup'], recorded['cutmix']) == ('hmix', 0.6, 0, 1)


@pytest.mark.parametrize(
    ('line', 'mixer'),
    [
        ('--no-prefetcher --mixup-mode pair', 'Mixup(HMix(alpha=1, ratio=0.75), mode=pair,'),
        ('--mixup-mode half', 'FastCollateMixup(HMix(alpha=1, ratio=0.75), mode=half,'),
        ('--naflex-loader', 'NaFlexMixup(HMix(alpha=1, ratio=0.75),'),
        pytest.param('--naflex-loader --no-prefetcher', 'NaFlexMixup(HMix', marks=pytest.mark.slow),
    ],
)
def test_mixing_reaches_every_loader_and_stops_at_the_off_epoch(train, tmp_path, line, mixer):
    run = train(LIKE, f'--mix-mode hmix --epochs 2 --mixup-off-epoch 1 {line}')
    assert mixing_line(run).startswith(mixer)
    check_off_epoch(batches(tmp_path / 'output' / 'run'), 1)


def check_off_epoch(rows, off_epoch):
    """Batches are mixed before an epoch and not from it on."""
    epochs = {epoch for epoch, *_ in rows}
    assert min(epochs) < off_epoch <= max(epochs)
    for epoch in epochs:
        assert any(mixed for e, _, mixed in rows if e == epoch) == (epoch < off_epoch)


@pytest.mark.parametrize('line', ['--no-prefetcher', pytest.param('', marks=pytest.mark.slow)])
def test_puzzlemix_mixes_in_the_loop_and_stops_at_the_off_epoch(train, tmp_path, line):
    run = train(LIKE, f'--mix-mode puzzlemix --epochs 2 --mixup-off-epoch 1 {line}')
    assert mixing_line(run).startswith('PuzzleMix(')
    check_off_epoch(batches(tmp_path / 'output' / 'run'), 1)


def test_without_a_mode_the_run_is_plain_pythons(train, tmp_path):
    line = '--mixup 0.8 --cutmix 1.0 --mixup-mode elem --epochs 1'
    train(LIKE, line, 'plain', plain=True).passed()
    assert 'Mixup(' in mixing_line(train(LIKE, line, 'ours'))
    plain, ours = (batches(tmp_path / 'output' / name) for name in ('plain', 'ours'))
    assert len(plain) == len(ours) == 4
    for (_, timms, _), (_, mine, _) in zip(plain, ours, strict=True):
        assert mine == pytest.approx(timms, rel=1e-3)


@pytest.fixture
def recipe(tmp_path):
    """The path of a recipe of timm's kind, with keys of ours."""
    path = tmp_path / 'recipe.yaml'
    path.write_text('mix_mode: gmix\nmix_preset: cifar100\nmixup: 0.2\nepochs: 1\nmixup_mode: pair\n')
    return path


def test_a_recipe_may_name_a_mode_and_args_yaml_repeats_the_run(train, tmp_path, recipe):
    assert 'GMix(alpha=0.5, kernel=reference), mode=pair' in mixing_line(train(LIKE, f'-c {recipe}', 'first'))
    train(LIKE, f'-c {tmp_path}/output/first/args.yaml', 'again', data=False).passed()
    assert batches(tmp_path / 'output' / 'again') == batches(tmp_path / 'output' / 'first')


def test_a_recipe_of_the_package_and_options_beside_it_reach_the_script_which_parses_once(train, tmp_path):
    """timm 1.0.30's script takes locks while it parses, by options of its `config_parser`."""
    script = tmp_path / 'newest.py'
    text = LIKE.read_text().replace(
        "add_argument('-c', '--config', default='')",
        "add_argument('-c', '--config', default='')\n"
        "config_parser.add_argument('--sweep-locks', nargs='+')\n"
        "config_parser.add_argument('--sweep-attempt', nargs=2)",
    )
    text = text.replace(
        '    if known.config', "    print('joins', known.sweep_locks, known.sweep_attempt)\n    if known.config"
    )
    script.write_text(text)
    line = '--sweep-locks a b --conf cifar100_resnet56 --sweep-attempt job 1'
    run = train(script, f'{line} --mix-mode gmix --model test_resnet --train-padding 0 -b 8 --epochs 1')
    assert mixing_line(run).startswith('FastCollateMixup(GMix(')
    assert run.log.count("joins ['a', 'b'] ['job', '1']") == run.log.count('joins') == 1
    recorded = yaml.safe_load((tmp_path / 'output' / 'run' / 'args.yaml').read_text())
    recipe = yaml.safe_load((Path(__file__).parents[3] / 'train_patch/recipes/cifar100_resnet56.yaml').read_text())
    assert recorded['weight_decay'] == recipe['weight_decay']


def test_a_recipe_may_name_families_for_a_script_that_takes_its_mixers_from_where_timm_defines_them(train, tmp_path):
    script = tmp_path / 'train.py'
    old = 'from timm.data import FastCollateMixup, Mixup,'
    script.write_text(LIKE.read_text().replace(old, f'from timm.data.mixup import {old[22:-1]}\nfrom timm.data import'))
    families = tmp_path / 'my_masks.py'
    families.write_text(
        'from hmix_timm import BoxMask, register_family\n'
        "@register_family('corner', options={'part': 0.5})\n"
        'def corner(size, lam, options, draws):\n'
        '    height, width = (int(side * options.part) for side in size)\n'
        '    return BoxMask(1.0, (0, height, 0, width))\n'
    )
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text(f'mix_families: {families}\nmix_mode: corner\ncorner_part: 0.25\nepochs: 1\n')
    assert mixing_line(train(script, f'-c {recipe}')).startswith('FastCollateMixup(Corner(alpha=1, part=0.25)')


@pytest.mark.slow
def test_loader_workers_of_a_forkserver_mix_and_stop(train, tmp_path):
    run = train(LIKE, '--epochs 3 --mix-mode hmix -j 1 --mixup-off-epoch 2', start_method='forkserver')
    mixing_line(run)
    check_off_epoch(batches(tmp_path / 'output' / 'run'), 2)


def test_parsing_leaves_nothing_behind_for_the_next(launch, tmp_path):
    script = tmp_path / 'sweep.py'
    script.write_text(
        'import sys\n'
        'from train_patch.launcher.timm_script import TimmScript\n'
        f'parser = TimmScript({str(LIKE)!r}).module.parser\n'
        "for line in ['--mix-mode hmix --num-classes 4', '--num-classes 4', '--mix-mode gmix --num-classes 4']:\n"
        '    args = parser.parse_args(line.split())\n'
        "    print('parsed', args.mix_mode, args.cutmix, args.hmix_ratio, args.gmix_kernel)\n"
    )
    log = launch('', script, plain=True).passed().log
    parsed = [line for line in log.splitlines() if line.startswith('parsed')]
    assert parsed == ['parsed hmix 1.0 0.75 None', 'parsed None 0.0 None None', 'parsed gmix 1.0 None reference']


@pytest.mark.parametrize('name', ['Mixup', 'FastCollateMixup'])
def test_a_script_with_a_mixer_of_its_own_is_refused(train, tmp_path, name):
    own = tmp_path / 'own.py'
    own.write_text(LIKE.read_text().replace('\nconfig_parser', f'\nclass {name}:\n    pass\n\n\nconfig_parser', 1))
    assert f'does not take {name} from timm.data' in train(own).refused()


def test_wrong_values_and_recipes_are_refused_in_one_line(launch, image_folder, tmp_path):
    recipes = {
        'mix_mode: hmx\n': "--mix-mode must be one of .*'hmx'",
        'mix_mod: hmix\n': '.*mix_mod.*mix_mode',
        '- mix_mode\n': '.*3.yaml.*name: value',
        'mix_mode: hmix\nmix_mode: gmix\n': '.*4.yaml.*mix_mode.*twice',
    }
    wrong = {
        f'--mix-mode hmx {LIKE}': "--mix-mode must be one of .*'hmx'",
        f'{LIKE} --mix-mode hmx': "--mix-mode must be one of .*'hmx'",
        f'--mix-literal=3 {LIKE}': 'argument --mix-literal: ignored explicit argument',
        f'--hmix-ratio 0.5 {LIKE}': '--hmix-ratio needs --mix-mode',
        f'{LIKE} --mix-families nowhere.py': '--mix-families nowhere.py: there is no such file',
        f'{LIKE} -c nowhere.yaml': "recipe 'nowhere.yaml' is neither a file nor",
        f'{LIKE} --train-padding -1': '--train-padding must be',
        f'{LIKE} --aa no-such-policy': '--aa no-such-policy: timm does not know this policy',
    }
    for number, (text, message) in enumerate(recipes.items(), 1):
        path = tmp_path / f'{number}.yaml'
        path.write_text(text)
        wrong[f'{LIKE} -c {path}'] = message
    lines = [f'{line} --data-dir {image_folder} --output {tmp_path}/output' for line in wrong]
    for said, message in zip(launch.refusals(lines), wrong.values(), strict=True):
        assert re.match(message, said), said
    assert not (tmp_path / 'output').exists()


@pytest.mark.parametrize('line', ['--mixup 0.3', '--mix-mode puzzlemix'])
def test_the_padded_crop_is_used_with_and_without_puzzlemix(train, tmp_path, line):
    """Its images differ from those of the random resized crop; equal runs are equal, as elsewhere is seen."""
    for name, padding in (('plain', 0), ('padded', 3)):
        train(LIKE, f'{line} --epochs 1 -j 1 --train-padding {padding}', name).passed()
    plain, padded = (batches(tmp_path / 'output' / name) for name in ('plain', 'padded'))
    assert plain != padded and all(any(mixed for *_, mixed in rows) for rows in (plain, padded))


@pytest.mark.parametrize(('line', 'status', 'said'), [('', 0, 'Mixing: '), ('--naflex-loader', 2, '--naflex-loader')])
def test_names_that_a_newer_timm_may_take_away_stop_only_what_needs_them(
    image_folder, tmp_path, processes, line, status, said
):
    line = f'--mix-mode hmix --data-dir {image_folder} --num-classes 4 --epochs 1 --output {tmp_path} {line}'
    function = 'tests.train_patch.launcher.launching:launch_with_newer_timm'
    done = processes.call(function, {'argv': [str(LIKE), *line.split()]}).wait()
    assert (done.status, said in done.stderr) == (status, True), done.stderr


def test_images_that_puzzlemix_cannot_cut_end_the_run_before_training(train):
    run = train(LIKE, '--mix-mode puzzlemix --img-size 40')
    assert re.search('--mix-mode puzzlemix: .*sides that work', run.refused(1))


def test_help_shows_the_options_of_timm_and_of_mixing(train):
    text = train(LIKE, '--help').passed().log
    for option in (
        '--mixup-off-epoch',
        '--mix-mode',
        '--mix-preset',
        '--hmix-ratio',
        '--gmix-kernel',
        '--train-padding',
        'cifar100_resnet56',
    ):
        assert option in text


def test_older_timm_beside_the_script_takes_our_options_before_it_only(tmp_path, recipe):
    """A checkout's script gets the timm beside it, which a real start shows."""
    checkout = tmp_path / 'checkout'
    (checkout / 'timm').mkdir(parents=True)
    (checkout / 'timm' / '__init__.py').write_text("__version__ = '0.9.7'\n")
    (checkout / 'train.py').write_text(LIKE.read_text())
    command = [sys.executable, '-m', 'train_patch', str(checkout / 'train.py'), '-c', str(recipe)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, cwd=Path(__file__).parents[3])
    assert done.returncode == 2, done.stderr
    (message,) = done.stderr.splitlines()
    assert 'mix_mode' in message and '1.0.20' in message


NAFLEX_MODEL = '--model naflexvit_base_patch16_gap --model-kwargs embed_dim=32 depth=1 num_heads=2'


@needs_real
@pytest.mark.parametrize(
    ('mode', 'line', 'mixer'),
    [
        pytest.param('none', '', None, marks=pytest.mark.slow),
        ('stochastic', '--mixup-mode pair --bce-loss', 'FastCollateMixup'),
        ('hmix', '--no-prefetcher --mixup-mode elem', 'Mixup'),
        ('gmix', f'--naflex-loader {NAFLEX_MODEL} --naflex-train-seq-lens 4 9 --naflex-max-seq-len 9', 'NaFlexMixup'),
        ('puzzlemix', '', 'PuzzleMix'),
        pytest.param('puzzlemix', '--no-prefetcher --model cifar_resnet56', 'PuzzleMix', marks=pytest.mark.slow),
    ],
)
def test_timms_script_in_every_mode_and_with_every_loader(train, tmp_path, mode, line, mixer):
    run = train(REAL, f'--mix-mode {mode} --mixup-off-epoch 1 {line}')
    assert mixing_line(run).startswith(expected_line(mode, mixer))
    assert len(summary(tmp_path / 'output' / 'run')) == 2


@needs_real
@pytest.mark.parametrize(
    'line',
    [
        '--mixup 0.8 --cutmix 1.0',
        pytest.param('--cutmix 1 --mixup-mode elem --no-prefetcher', marks=pytest.mark.slow),
    ],
)
def test_timms_script_without_a_mode_is_plain_pythons(train, tmp_path, line):
    train(REAL, line, 'plain', plain=True).passed()
    train(REAL, line, 'ours').passed()
    plain, ours = (summary(tmp_path / 'output' / name) for name in ('plain', 'ours'))
    assert len(plain) == len(ours) == 2
    for timms, mine in zip(plain, ours, strict=True):
        assert float(mine['train_loss']) == pytest.approx(float(timms['train_loss']), rel=1e-3)


@needs_real
def test_timms_script_resumes_and_repeats(train, tmp_path):
    train(REAL, '--mix-mode gmix', 'first').passed()
    folder = tmp_path / 'output' / 'first'
    run = train(REAL, f'--mix-mode gmix --epochs 3 --resume {folder}/last.pth.tar', 'resumed')
    assert 'GMix(' in mixing_line(run)
    assert [row['epoch'] for row in summary(tmp_path / 'output' / 'resumed')] == ['2']
    train(REAL, f'-c {folder}/args.yaml', 'again', data=False).passed()
    assert summary(tmp_path / 'output' / 'again') == summary(folder)


def summary(folder):
    with open(folder / 'summary.csv', newline='') as file:
        return list(csv.DictReader(file))


def test_naflex_mixes_without_an_off_epoch(train, tmp_path):
    """The option is not what turns mixing on: without it every epoch is mixed."""
    run = train(LIKE, '--mix-mode gmix --gmix-kernel paper --epochs 2 --naflex-loader --no-prefetcher')
    assert mixing_line(run).startswith('NaFlexMixup(GMix(alpha=1, kernel=paper),')
    mixed = {epoch: any(m for e, _, m in batches(tmp_path / 'output' / 'run') if e == epoch) for epoch in (0, 1)}
    assert mixed == {0: True, 1: True}
