"""A preview's images are a training's: the same crop, the same augmentation, the same checks."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from train_patch import preview
from train_patch.common.errors import RunError
from train_patch.drawing.images import Photographs, class_names, data_config_of, load_images, make_loader
from train_patch.drawing.record import RecordingMixup
from train_patch.trainer.arguments import parse_arguments
from train_patch.trainer.loaders import _build_train_loader


def arguments(*line):
    options, rest = preview.build_parser().parse_known_args(line)
    return preview.parse_training(options, rest)[0]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))


@pytest.mark.parametrize(
    ('line', 'padding'),
    [
        ('-c digits', 0),
        ('--images digits', 0),
        ('-c cifar100_wrn28_2 --images digits --hflip 0 --color-jitter 0', 4),
    ],
)
def test_digits_are_never_rescaled_or_cut(line, padding, cache):
    """They are shifted by at most the padding of the recipe."""
    args = arguments(*line.split(), '--mix-mode', 'hmix')
    dataset = load_images(args)
    assert class_names(dataset) == [str(digit) for digit in range(10)]
    make_loader(dataset, args, data_config_of(args), RecordingMixup(1.0, num_classes=10))
    with Image.open(dataset.filename(5, absolute=True)) as file:
        plain = np.pad(np.asarray(file), padding)
    windows = np.lib.stride_tricks.sliding_window_view(plain, (32, 32))
    for _ in range(5):
        assert (windows == np.asarray(dataset[5][0])[0]).all(axis=(2, 3)).any()


@pytest.mark.parametrize(
    'line',
    [
        '--img-size 40 --aa rand-m5 --reprob 0.3 --hflip 0.2',
        '--train-padding 4 --train-interpolation bicubic',
        '--train-padding 4 --train-interpolation bilinear --model test_vit',
        '--no-aug --interpolation bicubic',
        '--scale 0.5 0.9 --color-jitter 0.1 --mean 0.5 --std 0.5',
    ],
)
def test_the_transform_is_that_of_a_training_with_the_same_arguments(line, image_folder):
    words = ['--model', 'test_resnet', *line.split(), '--data-dir', str(image_folder), '--mixup', '1']
    shown, args = arguments(*words), parse_arguments([*words, '-b', '2', '-j', '0', '--num-classes', '4'])[0]
    shown_images = load_images(shown)
    make_loader(shown_images, shown, data_config_of(shown), RecordingMixup(1.0, num_classes=4))
    args.world_size, args.rank, args.distributed, args.prefetcher = 1, 0, False, True
    trained = load_images(args)
    shared = {'device': torch.device('cpu'), 'distributed': False, 'use_prefetcher': True, 'persistent_workers': False}
    _build_train_loader(args, trained, data_config_of(args), None, shared)
    assert repr(shown_images.transform) == repr(trained.transform)


def test_a_grey_model_gets_grey_photographs():
    args = arguments('--in-chans', '1', '--mix-mode', 'hmix')
    dataset = load_images(args)
    assert isinstance(dataset, Photographs) and dataset.images[0].mode == 'L'
    assert class_names(dataset) == ['flower', 'temple']


@pytest.mark.parametrize(
    ('line', 'says'),
    [
        ('--data-dir nowhere', '--data-dir nowhere: there is no such folder'),
        ('--data-dir {folder} --train-split test', 'there is no folder test/ in it'),
        ('--model resnet5O', '--model resnet5O: timm has no data configuration'),
    ],
)
def test_what_cannot_be_shown_is_named(line, says, image_folder):
    args = arguments(*line.format(folder=image_folder).split(), '--mix-mode', 'hmix')
    with pytest.raises(RunError, match=says):
        load_images(args)
        data_config_of(args)


def test_one_image_cannot_be_mixed(tmp_path):
    (tmp_path / 'train' / 'a').mkdir(parents=True)
    Image.new('RGB', (8, 8)).save(tmp_path / 'train' / 'a' / '0.png')
    with pytest.raises(RunError, match='at least 2 images to mix, got 1'):
        load_images(arguments('--data-dir', str(tmp_path), '--mix-mode', 'hmix'))


def test_the_photographs_are_a_flower_and_a_temple_of_one_size():
    dataset = Photographs('RGB')
    dataset.transform = np.asarray
    flower, temple = (Image.fromarray(image).resize((1, 1)) for image, _ in (dataset[0], dataset[1]))
    assert len(dataset) == 2 and [dataset[index][1] for index in (0, 1)] == [0, 1]
    assert dataset.class_to_idx == {'flower': 0, 'temple': 1}
    assert dataset[0][0].shape == dataset[1][0].shape == (320, 320, 3)
    red, green, blue = flower.getpixel((0, 0))
    assert red > green > blue  # an orange flower before green leaves
    assert temple.getpixel((0, 0))[2] > blue + 50  # a temple below the sky


@pytest.fixture
def two(tmp_path):
    """A folder with two training images and no validation."""
    for label in ('a', 'b'):
        (tmp_path / 'train' / label).mkdir(parents=True)
        Image.new('RGB', (8, 8)).save(tmp_path / 'train' / label / '0.png')
    return tmp_path


def test_two_images_can_be_mixed_and_no_validation_is_asked_for(two):
    dataset = load_images(arguments('--data-dir', str(two), '--mix-mode', 'hmix'))
    assert len(dataset) == 2 and class_names(dataset) == ['a', 'b']


def test_names_stand_in_the_order_of_their_numbers(two):
    (two / 'classes.txt').write_text('b\na\n')
    dataset = load_images(
        arguments('--data-dir', str(two), '--mix-mode', 'hmix', '--class-map', str(two / 'classes.txt'))
    )
    assert class_names(dataset) == ['b', 'a']
    assert class_names(torch.utils.data.TensorDataset(torch.zeros(2))) == []


def test_a_data_set_without_a_folder_is_not_replaced_by_the_photographs(monkeypatch):
    monkeypatch.setitem(sys.modules, 'datasets', None)  # not installed, so that nobody is asked for it
    with pytest.raises(RunError, match='--dataset hfds/somebody/something'):
        load_images(arguments('--dataset', 'hfds/somebody/something', '--mix-mode', 'hmix'))


def test_a_data_set_that_is_not_there_is_named_where_it_has_a_folder(tmp_path):
    with pytest.raises(RunError, match='--dataset torch/cifar10'):
        load_images(arguments('--dataset', 'torch/cifar10', '--data-dir', str(tmp_path), '--mix-mode', 'hmix'))


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('--model test_resnet', ((3, 160, 160), (0.5, 0.5, 0.5))),
        ('--model test_resnet --img-size 40 --mean 0.25', ((3, 40, 40), (0.25, 0.25, 0.25))),
        ('--model cifar_resnet56', ((3, 32, 32), None)),  # one of this project's own
    ],
)
def test_the_data_configuration_is_the_models_and_the_arguments(line, expected):
    config = data_config_of(arguments(*line.split(), '--mix-mode', 'hmix'))
    size, mean = expected
    assert config['input_size'] == size and (mean is None or config['mean'] == pytest.approx(mean))


def test_the_loader_mixes_batches_of_two_in_this_process(two):
    args = arguments('--data-dir', str(two), '--mix-mode', 'hmix', '--img-size', '32')
    mixer = RecordingMixup(1.0, num_classes=2)
    dataset = load_images(args)
    loader = make_loader(dataset, args, data_config_of(args), mixer)
    ((images, targets),) = list(loader)
    assert images.shape == (2, 3, 32, 32) and targets.shape == (2, 2) and images.device.type == 'cpu'
    assert len(mixer.records) == 1  # a worker's mixer would have remembered it in its own process
