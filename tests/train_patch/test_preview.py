"""hmix-preview: what it shows is what the loader delivers and what the mixer did."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from timm.data import create_loader
from timm.utils import random_seed

from hmix_timm import FastCollateMixup
from hmix_timm.masks import SlotOptions, dense_mask
from train_patch import preview
from train_patch.preview import RecordingMixup, ScikitImages, grid_masks, main, preview_samples, resolve_mixing

SIZE = (24, 20)
SLOTS = {
    'mixup': {'mixup_alpha': 1.0},
    'cutmix': {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0},
    'stochastic': {'mixup_alpha': 1.0, 'cutmix_alpha': 1.0},
    'hmix': {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_gamma': 0.5},
    'gmix': {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'gmix'},
}


def batch(count):
    rng = np.random.default_rng(count)
    return [(rng.integers(0, 256, (3, *SIZE), dtype=np.uint8), i % 7) for i in range(count)]


@pytest.mark.parametrize('count', [2, 5, 8])
@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem', 'half'])
@pytest.mark.parametrize('slot', SLOTS)
def test_recorded_masks_and_weights_are_those_applied(slot, mode, count):
    arguments = {**SLOTS[slot], 'mode': mode, 'num_classes': 7, 'label_smoothing': 0.1, 'prob': 0.8}
    np.random.seed(3)
    expected = FastCollateMixup(**arguments)(batch(count))
    expected_next = np.random.random()
    np.random.seed(3)
    mixer = RecordingMixup(**arguments)
    images, targets = mixer(batch(count))
    assert torch.equal(images, expected[0]) and torch.equal(targets, expected[1])
    assert np.random.random() == expected_next  # the replay takes nothing from the generator

    (record,) = mixer.records
    samples = batch(count)
    assert len(record.masks) == len(record.weights) == len(images)
    for i, mixed in enumerate(images.numpy()):
        own, other = samples[i][0].astype(float), samples[count - 1 - i][0].astype(float)
        # the recorded mask is exact to 1/510, and the mixed image to half a grey level
        np.testing.assert_allclose(record.masks[i] * own + (1 - record.masks[i]) * other, mixed, atol=1.01)
        assert record.masks[i].mean() == pytest.approx(record.weights[i], abs=1 / 500)
        target = np.full(7, 0.1 / 7)
        target[samples[i][1]] += 0.9 * record.weights[i]
        target[samples[count - 1 - i][1]] += 0.9 * (1 - record.weights[i])
        np.testing.assert_allclose(targets[i], target, atol=1e-6)


def test_samples_are_what_the_loader_delivers():
    def loader_with(collate_fn):
        random_seed(11)
        return create_loader(
            ScikitImages('digits', 'RGB'), (3, 32, 32), 2, is_training=True, re_prob=0.3, collate_fn=collate_fn,
            num_workers=0, persistent_workers=False, device=torch.device('cpu'),
        )  # fmt: skip

    arguments = {**SLOTS['hmix'], 'num_classes': 10}
    plain = []
    for x, _ in loader_with(FastCollateMixup(**arguments)):
        plain.extend(x)
        if len(plain) >= 5:
            break
    mixer = RecordingMixup(**arguments)
    loader = loader_with(mixer)
    samples = preview_samples(loader, mixer, [str(n) for n in range(10)], rows=5)
    assert len(samples) == 5
    for sample, expected in zip(samples, plain, strict=False):
        restored = expected * loader.std[0] + loader.mean[0]
        np.testing.assert_allclose(sample.mixed, restored.clamp(0, 255), atol=0.51)
    # the loader works a batch ahead of what it delivers: a record of the wrong batch would not fit
    erased = 0
    for sample in samples:
        blend = sample.mask * sample.own + (1.0 - sample.mask) * sample.other.astype(float)
        off = np.abs(blend - sample.mixed) > 1.51  # the mask is exact to half a grey level, both images are rounded
        erased += off.any()
        assert off.mean() < 0.4
    assert 0 < erased < 5


def run(tmp_path, *arguments):
    output = tmp_path / 'out' / 'preview.png'
    assert main([*map(str, arguments), '--output', str(output)]) == 0
    with Image.open(output) as image:
        image.load()
        assert image.format == 'PNG'
        return np.asarray(image.convert('RGB'))


def test_photographs_by_default_and_seeded(tmp_path, capsys):
    first = run(tmp_path, '--rows', '1')
    assert 'Mixing: FastCollateMixup(HMix(alpha=1, ratio=0.75), mode=batch' in capsys.readouterr().out
    assert first.std() > 30
    assert (run(tmp_path, '--rows', '1') == first).all()
    assert (run(tmp_path, '--rows', '1', '--seed', '1') != first).any()
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['preview.png']


def test_recipe_and_image_folder(tmp_path, image_folder, capsys):
    recipe = tmp_path / 'recipe.yaml'
    settings = {
        'model': 'test_resnet', 'img_size': 40, 'lr': 0.1, 'aa': 'rand-m5', 'reprob': 0.3, 'smoothing': 0.0,
        'mixup': 0.4, 'mix_mode': 'gmix', 'gmix_kernel': 'paper', 'mixup_mode': 'elem', 'data_dir': str(image_folder),
    }  # fmt: skip
    recipe.write_text(yaml.safe_dump(settings))
    run(tmp_path, '--config', recipe, '--rows', '3')
    out = capsys.readouterr().out
    assert 'GMix(alpha=1, kernel=paper), mode=elem, prob=1, label_smoothing=0' in out
    # another mode on the command line: the recipe's kernel was GMix's
    run(tmp_path, '-c', recipe, '--rows', '1', '--mix-mode', 'hmix', '--hmix-ratio', '0.2', '--mixup-mode', 'pair')
    assert 'HMix(alpha=1, ratio=0.2), mode=pair' in capsys.readouterr().out


@pytest.mark.parametrize('settings', [{'train_padding': 4, 'img_size': 32}, {'no_aug': True, 'img_size': 32}])
def test_recipes_crop(settings, tmp_path, image_folder):
    args = preview.make_parser().parse_args(['--images', 'digits'])
    config = preview.data_config_of(args, settings)
    dataset, classes = preview.make_dataset(args, settings, config['input_size'][0])
    assert classes == [str(n) for n in range(10)]
    mixer = RecordingMixup(1.0, num_classes=10)
    preview.make_loader(dataset, {**settings, 'hflip': 0.0, 'color_jitter': 0.0}, config, mixer)
    plain = np.asarray(Image.fromarray(dataset.arrays[5]).resize((32, 32), Image.Resampling.BICUBIC))
    for _ in range(5):
        image = np.asarray(dataset[5][0])[0]
        # the digit is shifted by at most 4 pixels and never rescaled
        padded = np.pad(plain, 4 if 'train_padding' in settings else 0)
        windows = np.lib.stride_tricks.sliding_window_view(padded, (32, 32))
        assert (windows == image).all(axis=(2, 3)).any()


def test_grid_has_one_lambda_and_one_centre(tmp_path):
    image = run(tmp_path, '--grid', 'none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix', '--lam', '0.8')
    assert image.shape[1] > image.shape[0]
    masks = grid_masks(('none', 'mixup', 'cutmix', 'hmix', 'gmix'), 0.8, (64, 64), SlotOptions(hmix_ratio=0.5), seed=4)
    dense = {name: dense_mask(mask, (64, 64)) for name, mask in masks.items()}
    assert (dense['No mixing'] == 1).all() and (dense['Mixup'] == 0.8).all()
    assert dense['HMix'].mean() == pytest.approx(0.8)
    inside = {name: np.argwhere(dense[name] == 0) for name in ('CutMix', 'HMix')}
    assert len(inside['HMix']) < len(inside['CutMix'])
    lowest = np.unravel_index(dense['GMix'].argmin(), (64, 64))
    for name in ('CutMix', 'HMix'):
        assert dense[name][lowest] == 0


def test_grid_of_a_stochastic_mode_shows_either(tmp_path):
    titles = {next(iter(grid_masks(['stochastic'], 0.5, (8, 8), SlotOptions(), seed))) for seed in range(20)}
    assert titles == {'Stochastic\n(CutMix drawn)', 'Stochastic\n(Mixup drawn)'}


@pytest.mark.parametrize(
    ('typed', 'recipe', 'expected'),
    [
        ({}, {}, {'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_ratio': 0.75}),
        ({'mix_mode': 'mixup', 'mix_alpha': 0.3}, {'cutmix': 1.0}, {'mixup_alpha': 0.3, 'cutmix_alpha': 0.0}),
        ({'mix_mode': 'stochastic', 'mix_alpha': 0.3}, {}, {'mixup_alpha': 0.3, 'cutmix_alpha': 0.3}),
        ({'mix_mode': 'hmix', 'mix_preset': 'cifar100'}, {}, {'hmix_ratio': 0.5}),
        ({'mix_mode': 'hmix'}, {'mix_preset': 'cifar100', 'hmix_gamma': 2.0}, {'hmix_ratio': 0.5, 'hmix_gamma': 2.0}),
        ({'hmix_ratio': 0.2}, {'mix_mode': 'hmix', 'hmix_gamma': 2.0}, {'hmix_ratio': 0.2}),
        ({}, {'mixup': 0.2, 'smoothing': 0.0}, {'mixup_alpha': 0.2, 'cutmix_alpha': 0.0, 'label_smoothing': 0.0}),
        ({'cutmix_minmax': [0.2, 0.4]}, {}, {'cutmix_minmax': [0.2, 0.4]}),
        ({'mix_mode': 'none'}, {}, {'prob': 0.0}),
        # the recipe's alpha was GMix's
        ({'mix_mode': 'hmix'}, {'mix_mode': 'gmix', 'mix_alpha': 0.3}, {'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix'}),
    ],
)
def test_mixing_options_resolve_as_in_training(typed, recipe, expected):
    arguments = resolve_mixing(typed, recipe)
    assert {key: arguments.get(key) for key in expected} == expected
    assert ('hmix_gamma' in arguments) == ('hmix_gamma' in expected)
    RecordingMixup(**arguments, num_classes=10)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--mix-mode', 'other'], "argument --mix-mode: invalid choice: 'other'"),
        (['--mixup-mode', 'other'], 'argument --mixup-mode: invalid choice'),
        (['--grid', 'mixup', 'other'], 'argument --grid: invalid choice'),
        (['--hmix-ratio', '1.5'], '--hmix-ratio must be a finite number between 0 and 1, got 1.5'),
        (['--hmix-ratio', '0.5', '--hmix-gamma', '1'], '--hmix-gamma draws the ratio that --hmix-ratio fixes'),
        (['--mixup-prob', '2'], '--mixup-prob must be a finite number between 0 and 1, got 2.0'),
        (['--mix-alpha', '0'], '--mix-alpha must be a finite number > 0, got 0.0'),
        (['--mixup', '-1'], '--mixup must be a finite number >= 0, got -1.0'),
        (['--mix-mode', 'cutmix', '--hmix-ratio', '0.5'], '--hmix-ratio is for --mix-mode hmix, not for cutmix'),
        (['--mix-mode', 'cutmix', '--mixup', '1'], '--mixup is replaced by --mix-mode cutmix'),
        (['--mixup', '1', '--gmix-kernel', 'paper'], '--gmix-kernel needs --mix-mode'),
        (['--lam', '0.5'], '--lam is for --grid'),
        (['--grid', 'hmix', '--lam', '1.5'], '--lam must be a finite number between 0 and 1, got 1.5'),
        (['--grid', 'hmix', '--mix-alpha', '1'], '--mix-alpha is not for --grid'),
        (['--grid', 'hmix', '--rows', '2'], '--rows is not for --grid'),
        (['--rows', '0'], '--rows must be >= 1, got 0'),
        (['--data-dir', 'nowhere'], '--data-dir must be a folder with a folder train/'),
        (['--train-split', 'val'], '--train-split is for --data-dir'),
        (['--config', 'nowhere.yaml'], '--config must be a YAML file, got nowhere.yaml'),
        (['--data-dir', 'x', '--images', 'digits'], 'not allowed with argument'),
    ],
)
def test_wrong_options_end_with_status_2(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ('recipe', 'message'),
    [
        ('lr: 0.1', 'nothing is mixed'),
        ('aug_splits: 3\nmix_mode: hmix', 'aug_splits in'),
        ('naflex_loader: true\nmix_mode: hmix', 'naflex_loader in'),
        ('mix_mode: other', 'mix_mode must be one of none, mixup'),
        ('mix_mode: hmix\nmix_preset: other', 'preset must be one of imagenet, cifar100'),
        ('mix_mode: gmix\ngmix_kernel: other', '--gmix-kernel must be one of reference, paper'),
        ('[1, 2]', 'must hold keys and values'),
    ],
)
def test_wrong_recipes_end_with_status_2(recipe, message, tmp_path, capsys):
    path = tmp_path / 'recipe.yaml'
    path.write_text(recipe)
    with pytest.raises(SystemExit) as error:
        main(['--config', str(path), '--output', str(tmp_path / 'preview.png')])
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_without_scikit_learn_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn', None)  # how Python marks a module that cannot be imported
    with pytest.raises(SystemExit) as error:
        main([])
    assert error.value.code == "hmix-preview needs scikit-learn: pip install 'hmix-timm[demo]'"


def test_runs_as_a_module(tmp_path, run_environment):
    command = [sys.executable, '-m', 'train_patch.preview', '--images', 'digits', '--rows', '1', '-o', 'a.png']
    result = subprocess.run(command, cwd=tmp_path, env=run_environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == 'a.png'
    assert (tmp_path / 'a.png').read_bytes()[:8] == b'\x89PNG\r\n\x1a\n'
