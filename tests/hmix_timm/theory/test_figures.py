"""hmix-figures as a user runs it: the files it writes, their numbers, its errors."""

import argparse
import json
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from hmix_timm.families import make_slot
from hmix_timm.theory import digits
from hmix_timm.theory.coefficients import placed_masks
from hmix_timm.theory.figures import main


def pixels(path):
    with Image.open(path) as image:
        image.load()
        assert image.format == 'PNG'
        return np.asarray(image.convert('RGB'))


@pytest.fixture(scope='module')
def output(tmp_path_factory):
    folder = tmp_path_factory.mktemp('figures') / 'new' / 'folder'
    assert main(['--output', str(folder), '--figures', '2', '3', '4']) == 0
    return folder


def test_writes_the_figures_asked_for_and_nothing_else(output):
    assert sorted(path.name for path in output.iterdir()) == [
        'figure2.png',
        'figure3.png',
        'figure4.png',
        'figures.json',
    ]
    for number in (2, 3, 4):
        image = pixels(output / f'figure{number}.png')
        assert image.shape[1] > 1000
        assert image.std() > 20


def test_figure4_numbers(output):
    numbers = json.loads((output / 'figures.json').read_text())['figure4']
    assert set(numbers) == {'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix', 'gmix_paper', 'gmix_eq11'}
    assert all(set(row) == {'0', '16', '32'} for row in numbers.values())
    options = {
        'cutmix': make_slot('bbox'),
        'hmix': make_slot('hmix', hmix_ratio=0.75),
        'gmix': make_slot('gmix'),
        'gmix_paper': make_slot('gmix', gmix_kernel='paper'),
    }
    for name, option in options.items():
        rest = np.stack([1.0 - mask.array((64, 64)) for mask in placed_masks((64, 64), 0.5, option)])
        for d in (0, 16, 32):
            expected = (rest[:, :, : 64 - d] * rest[:, :, d:]).mean()
            assert numbers[name][str(d)] == pytest.approx(expected, abs=1e-12)
    for d in ('0', '16', '32'):
        assert numbers['mixup'][d] == 0.25
        assert numbers['stochastic'][d] == pytest.approx((0.25 + numbers['cutmix'][d]) / 2)
        assert numbers['gmix_eq11'][d] == pytest.approx(0.5 * np.exp(-np.pi * int(d) ** 2 / (4 * 0.5 * 64**2)))


def test_figure_3_shows_lambda_065(output):
    means = json.loads((output / 'figures.json').read_text())['figure3']['mask_mean']
    assert means['Mixup'] == 0.65
    assert means['HMix'] == pytest.approx(0.65, abs=1e-9)
    assert means['CutMix'] == pytest.approx(0.65, abs=0.02)  # the box is chosen to lie inside, up to whole pixels


@pytest.fixture
def checkpoints(tmp_path):
    """Three checkpoints as timm's CheckpointSaver writes them; the last has the weights of the first."""
    paths = []
    for run, seed in enumerate((0, 1, 0)):
        torch.manual_seed(seed)
        model = timm.create_model('test_resnet', num_classes=4)
        paths.append(tmp_path / f'run{run}' / 'model_best.pth.tar')
        paths[-1].parent.mkdir()
        torch.save({'state_dict': model.state_dict(), 'args': argparse.Namespace(model='test_resnet')}, paths[-1])
    return paths


def test_figure5_of_checkpoints(tmp_path, image_folder, checkpoints, capsys):
    arguments = [
        '--output',
        tmp_path,
        '--figures',
        '5',
        '--model',
        'test_resnet',
        '--num-classes',
        '4',
        '--img-size',
        '32',
    ]
    arguments += ['--data-dir', image_folder, '-b', '3', '-j', '0', '--checkpoint', *checkpoints]
    assert main([str(a) for a in arguments]) == 0
    numbers = json.loads((tmp_path / 'figures.json').read_text())['figure5']
    assert list(numbers) == [f'run{run}/model_best.pth.tar' for run in range(3)]
    first, second, same = numbers.values()
    assert set(first) == {'0', '1', '2', '4', '8', '16'}
    assert first == same and first != second
    for row in numbers.values():
        assert 0 < row['8'] < row['0'] <= 1
    assert pixels(tmp_path / 'figure5.png').std() > 20
    assert '6/6' in capsys.readouterr().err  # the progress of 16 images in batches of 3


def test_digits_training_learns_and_leaves_the_generators_alone():
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    model, images, accuracy = digits.train_digits('cutmix', seed=0, epochs=3)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()
    assert not model.training
    assert images.shape == (797, 1, 16, 16)
    assert accuracy > 50  # of ten classes
    again = digits.train_digits('cutmix', seed=0, epochs=3)[2]
    assert again == accuracy


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'arguments are required: --output'),
        (['--output', 'OUT', '--figures', '7'], 'argument --figures: invalid choice: 7'),
        (['--output', 'OUT', '--model', 'resnet18'], '--model is for --checkpoint'),
        (['--output', 'OUT', '--checkpoint', 'x.pth'], '--checkpoint needs --model'),
        (['--output', 'OUT', '--checkpoint', 'x.pth', '--model', 'resnet18'], '--checkpoint needs --data-dir'),
        (
            ['--output', 'OUT', '--checkpoint', 'x', '--model', 'resnet18', '--data-dir', 'OUT'],
            '--checkpoint must be a file, got x',
        ),
        (
            ['--output', 'OUT', '--checkpoint', 'x', '--model', 'resnot', '--data-dir', 'OUT'],
            "timm knows, got 'resnot'",
        ),
        (['--output', 'OUT', '--checkpoint', 'x', '--figures', '1'], '--checkpoint is for Figure 5'),
        (['--output', 'OUT', '--img-size', '0'], '--img-size must be >= 1, got 0'),
    ],
)
def test_wrong_options_end_with_status_2(arguments, message, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        main([str(tmp_path / 'figures') if a == 'OUT' else a for a in arguments])
    assert error.value.code == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / 'figures').exists()


def test_without_matplotlib_the_message_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)  # how Python marks a module that cannot be imported
    with pytest.raises(SystemExit) as error:
        main(['--output', str(tmp_path)])
    assert error.value.code == "hmix-figures needs matplotlib: pip install 'hmix-timm[demo]'"
