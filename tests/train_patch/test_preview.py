"""hmix-preview as a command: what it writes and says, and how mistakes end."""

import os
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from hmix_timm import FastCollateMixup
from hmix_timm.families import FAMILIES
from train_patch.preview import MAX_ROWS, SEED, main


def run(tmp_path, *arguments):
    output = tmp_path / 'out' / 'preview.png'
    assert main([*map(str, arguments), '--output', str(output)]) == 0
    with Image.open(output) as image:
        image.load()
        assert image.format == 'PNG'
        return np.asarray(image.convert('RGB'))


@pytest.fixture
def refused(tmp_path, capsys, monkeypatch):
    """The line with which a command ends that writes nothing."""
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())

    def ask(*arguments):
        with pytest.raises(SystemExit) as stopped:
            main(list(map(str, arguments)))
        assert stopped.value.code == 2
        assert sorted(tmp_path.iterdir()) == before
        return capsys.readouterr().err.strip().splitlines()[-1]

    return ask


def test_photographs_with_hmix_by_default(tmp_path, capsys):
    assert run(tmp_path, '--rows', '1').std() > 30
    assert 'Mixing: FastCollateMixup(HMix(alpha=1, ratio=0.75), mode=batch' in capsys.readouterr().out
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['preview.png']


def test_the_seed_decides_what_is_drawn(tmp_path):
    first = run(tmp_path, '--rows', '1', '--img-size', '48')
    assert (run(tmp_path, '--rows', '1', '--img-size', '48') == first).all()
    assert (run(tmp_path, '--rows', '1', '--img-size', '48', '--seed', '1') != first).any()


@pytest.mark.parametrize('mode', ['mixup', 'cutmix', 'stochastic', 'hmix', 'gmix'])
@pytest.mark.parametrize('mixup_mode', ['batch', 'pair', 'elem'])
def test_the_default_seed_shows_something(mode, mixup_mode):
    """timm's transforms draw from other generators, so the mixer draws as it does here."""
    mixer = FastCollateMixup.from_mode(mode, mode=mixup_mode, num_classes=2, label_smoothing=0.0)
    batch = [(np.zeros((3, 224, 224), np.uint8), label) for label in (0, 1)]
    np.random.seed(SEED)
    weights = np.concatenate([mixer(batch)[1].numpy().ravel() for _ in range(2)])
    assert weights.min() > 0.1


@pytest.fixture
def recipe(tmp_path, image_folder):
    path = tmp_path / 'recipe.yaml'
    settings = {
        'model': 'test_resnet', 'img_size': 40, 'lr': 0.1, 'aa': 'rand-m5', 'reprob': 0.3, 'smoothing': 0.0,
        'mixup': 0.4, 'mix_mode': 'gmix', 'gmix_kernel': 'paper', 'mixup_mode': 'elem', 'data_dir': str(image_folder),
        'a_key_of_another_script': 3,
    }  # fmt: skip
    path.write_text(yaml.safe_dump(settings))
    return path


def test_a_recipe_and_its_image_folder(recipe, tmp_path, capsys):
    run(tmp_path, '--config', recipe, '--rows', '3')
    out = capsys.readouterr().out
    assert 'GMix(alpha=1, kernel=paper), mode=elem, prob=1, label_smoothing=0, num_classes=4' in out
    assert 'replaced by --mix-mode gmix: --mixup 0.4' in out


def test_the_command_line_beats_a_recipe(recipe, tmp_path, capsys):
    run(tmp_path, '-c', recipe, '--rows', '1', '--mix-mode', 'hmix', '--hmix-ratio', '0.2', '--mixup-mode', 'pair')
    assert 'HMix(alpha=1, ratio=0.2), mode=pair' in capsys.readouterr().out


def test_a_shipped_recipe_by_its_name(tmp_path, capsys):
    run(tmp_path, '-c', 'cifar100_wrn28_2', '--mix-mode', 'hmix', '--rows', '1')
    assert 'HMix(alpha=1, ratio=0.5)' in capsys.readouterr().out


def test_hmix_in_the_cutmix_slot_of_a_recipe(tmp_path, capsys):
    run(tmp_path, '--mixup', '0.8', '--cutmix', '1', '--cutmix-mode', 'hmix', '--rows', '1', '--img-size', '48')
    assert 'Mixup(alpha=0.8) | HMix(alpha=1, ratio=0.75), switch_prob=0.5' in capsys.readouterr().out


def test_without_mixing_every_image_is_its_own(tmp_path, capsys):
    run(tmp_path, '--mix-mode', 'none', '--rows', '1', '--img-size', '48')
    assert 'no mixing' in capsys.readouterr().out


def test_a_grid_of_mix_modes(tmp_path):
    modes = ['none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix']
    image = run(tmp_path, '--grid', *modes, '--lam', '0.8', '--hmix-ratio', '0.5', '--img-size', '48')
    assert image.shape[1] > 2 * image.shape[0]


@pytest.fixture
def flat(tmp_path):
    """A file that registers a family; what it registers is forgotten afterwards."""
    before = dict(FAMILIES)
    path = tmp_path / 'my_masks.py'
    path.write_text(
        'from hmix_timm import BoxMask, register_family\n'
        "@register_family('flat', title='Flat', options={'by': 1.0})\n"
        'def flat(size, lam, options, draws):\n'
        '    return BoxMask(lam)\n'
    )
    yield path
    FAMILIES.clear()
    FAMILIES.update(before)


@pytest.mark.parametrize('chosen', ['--mix-mode flat', '--cutmix-mode flat --cutmix 1', '--grid flat --flat-by 2'])
def test_a_family_of_ones_own(chosen, flat, tmp_path, capsys):
    run(tmp_path, '--mix-families', flat, *chosen.split(), '--img-size', '32')
    assert ('Flat(alpha=1, by=1)' in capsys.readouterr().out) == ('--grid' not in chosen)


def test_a_family_of_ones_own_is_in_the_help(flat, capsys):
    with pytest.raises(SystemExit):
        main(['--mix-families', str(flat), '--help'])
    said = capsys.readouterr().out
    assert 'gmix,flat' in said and '--flat-by B' in said


@pytest.mark.parametrize(('suffix', 'kind'), [('jpg', 'JPEG'), ('PNG', 'PNG'), ('webp', 'WEBP')])
def test_the_file_is_what_its_name_says(suffix, kind, tmp_path):
    path = tmp_path / f'picture.{suffix}'
    assert main(['--rows', '1', '--img-size', '32', '-o', str(path)]) == 0
    with Image.open(path) as image:
        assert image.format == kind


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (
            '--mix-mode other',
            "--mix-mode must be one of none, mixup, cutmix, stochastic, hmix, gmix, puzzlemix, got 'other'",
        ),
        ('--grid hmix puzzlemix', '--mix-mode puzzlemix asks the model in training'),
        ('--mix-mode hmix --mixup-mode other', '--mixup-mode must be one of batch'),
        ('--grid mixup other', '--grid must be one of'),
        ('--mix-mode hmix --hmix-ratio 1.5', '--hmix-ratio must be a finite number between 0 and 1, got 1.5'),
        ('--mixup 1 --mixup-prob 2', '--mixup-prob must be a finite number between 0 and 1, got 2.0'),
        ('--mixup -1', '--mixup must be a finite number >= 0, got -1.0'),
        ('--mix-mode cutmix --hmix-ratio 0.5', '--hmix-ratio is for --mix-mode hmix, not for cutmix'),
        ('--mixup 1 --gmix-kernel paper', '--gmix-kernel needs --mix-mode'),
        ('--lam 0.5', '--lam is for --grid'),
        ('--grid hmix --lam 1.5', '--lam must be a finite number between 0 and 1, got 1.5'),
        ('--grid hmix --mix-alpha 1', '--mix-alpha is not for --grid'),
        ('--grid hmix --rows 2', '--rows is not for --grid'),
        ('--rows 0', f'--rows must be from 1 to {MAX_ROWS}, got 0'),
        ('--rows 1000', f'--rows must be from 1 to {MAX_ROWS}, got 1000'),
        ('--img-size 100000', '--img-size must be up to 1024 here, got 100000'),
        ('--seed -1', '--seed must be from 0 to'),
        ('--data-dir nowhere', '--data-dir nowhere: there is no such folder'),
        ('--config nowhere', "recipe 'nowhere' is neither a file nor a shipped recipe"),
        ('--data-dir x --images digits', 'not allowed with argument'),
        ('--no-such-option', 'unrecognized arguments: --no-such-option'),
        ('--aug-splits 2', '--aug-splits 2 compares augmentations'),
        ('-o picture', '--output must end in one of .png'),
        ('-o picture.tiff', '--output must end in one of .png'),
        ('-o .', '--output must end in one of .png'),
        ('-o /proc/nowhere/x.png', '--output cannot write to /proc'),
        ('--mix-families nowhere.py', '--mix-families nowhere.py: there is no such file'),
    ],
)
def test_wrong_options_end_with_one_line(arguments, message, refused):
    line = refused(*arguments.split())
    assert line.startswith('hmix-preview: error: ') and message in line


def test_a_folder_as_output_is_refused(refused, tmp_path, capsys):
    (tmp_path / 'pictures.png').mkdir()
    with pytest.raises(SystemExit):
        main(['-o', 'pictures.png'])
    assert 'pictures.png is a folder' in capsys.readouterr().err
    assert not list((tmp_path / 'pictures.png').iterdir())


@pytest.mark.parametrize(
    ('recipe', 'message'),
    [
        ('lr: 0.1', 'nothing is mixed'),
        ('aug_splits: 3\nmix_mode: hmix', 'aug_splits of recipe'),
        ('naflex_loader: true\nmix_mode: hmix', 'naflex_loader of recipe'),
        ('mix_mode: other', '--mix-mode must be one of none, mixup'),
        ('mix_mode: hmix\nmix_preset: other', '--mix-preset must be one of imagenet, cifar100'),
        ('mix_mode: gmix\ngmix_kernel: other', '--gmix-kernel must be one of reference, paper'),
        ('mixup: 1\nepochs: many', "epochs: 'many'"),
        ('[1, 2]', 'must hold lines of "name: value"'),
    ],
)
def test_wrong_recipes_end_with_one_line(recipe, message, tmp_path_factory, refused):
    path = tmp_path_factory.mktemp('recipes') / 'recipe.yaml'
    path.write_text(recipe)
    assert message in refused('--config', path)


def test_neither_help_nor_a_typo_waits_for_torch():
    lines = [
        '--help',
        '--version',
        '--typo',
        '--rows 0',
        '-c digts',
        '--mix-mode hmx',
        '--grid hmix --typo',
        '--grid hmx',
    ]
    code = f"""
import sys
from train_patch import preview
for line in {lines}:
    try:
        preview.main(line.split())
    except SystemExit:
        print('imported:', [name for name in ('torch', 'timm', 'matplotlib', 'sklearn') if name in sys.modules])
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.stdout.count('imported: []\n') == len(lines), done.stdout + done.stderr


def test_without_scikit_learn_it_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'sklearn', None)  # how Python marks a module that cannot be imported
    assert main(['-o', str(tmp_path / 'x.png')]) == 1
    assert "pip install 'hmix-timm[demo]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_ctrl_c_ends_with_one_line_and_status_130(tmp_path, processes):
    process = processes.module('train_patch.preview', '--rows', MAX_ROWS, '-o', 'a.png', cwd=tmp_path)
    process.wait_until(lambda: 'Mixing: ' in process.stdout)  # the picture is drawn next
    process.interrupt()
    assert process.wait().status == 130
    assert process.stderr.splitlines()[-1] == 'hmix-preview: interrupted'
    assert os.listdir(tmp_path) == []
