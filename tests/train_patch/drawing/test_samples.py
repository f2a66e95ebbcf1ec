"""A preview's samples are a training's: the same images, crop, augmentation and mixer, from the seed alone."""

import re
import sys

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from train_patch import preview
from train_patch.common.errors import RunError, WrongArguments
from train_patch.drawing.record import RecordingMixup
from train_patch.drawing.samples import Photographs, data_config_of, load_images, make_loader, record_batches
from train_patch.trainer.arguments import parse_arguments
from train_patch.trainer.data import build_loaders

PUZZLE = '--mix-mode puzzlemix --model test_resnet --img-size 32 --no-aug'


def asked(*line):
    options, rest = preview.build_parser().parse_known_args(line)
    return preview.parse_training(options, rest, rest[rest.index('-c') + 1] if '-c' in rest else None)


def record(line, seed=3, count=1, **changes):
    args, mixing = asked(*line.split())
    vars(args).update(changes)
    return record_batches(args, mixing, seed, count)


@pytest.mark.parametrize('line', ['--mixup 1 --img-size 32', PUZZLE])
def test_the_seed_alone_decides(line):
    """Crops, flips, a model's weights and all that mixing draws."""

    def shown(seed):
        np.random.seed()  # whatever was drawn before
        (batch,), _ = record(line, seed)
        return batch.images.tolist(), batch.masks.tolist(), None if batch.saliency is None else batch.saliency.tolist()

    assert shown(3) == shown(3) != shown(4)


@pytest.mark.parametrize(
    ('line', 'described'),
    [
        ('--mix-mode gmix --mixup-mode elem', 'FastCollateMixup(GMix(alpha=1, kernel=reference), mode=elem, '),
        ('--mixup 0.25 --mixup-prob 0.5', 'FastCollateMixup(Mixup(alpha=0.25), mode=batch, prob=0.5, '),
        ('--cutmix 0.5 --cutmix-mode hmix --hmix-ratio 0.25', 'FastCollateMixup(HMix(alpha=0.5, ratio=0.25), '),
        ('--mix-mode none', 'FastCollateMixup(no mixing'),
        (PUZZLE, 'PuzzleMix(alpha=1, beta=1.2, '),
    ],
)
def test_the_mixer_is_described_as_the_one_that_training_has(line, described):
    assert record(f'--img-size 32 {line}')[1].startswith(described)


@pytest.mark.parametrize(
    ('given', 'named', 'expected'),
    [(None, 2, 2), (1, 2, 2), (5, 2, 5), (None, 0, 1000), (3000, 0, 3000)],
)
def test_the_mixer_has_room_for_every_class(monkeypatch, given, named, expected):
    """Those of the data, those that were asked for, and ImageNet's where the data do not say."""
    monkeypatch.setattr(Photographs, 'class_to_idx', {'flower': 0, 'temple': 1} if named else {})
    assert re.search(rf', num_classes={expected}\b', record('--mix-mode hmix --img-size 32', num_classes=given)[1])


@pytest.mark.parametrize('trained', [False, True])
def test_the_weights_that_are_given_decide_puzzlemixs_saliency(trained, tmp_path, caplog):
    torch.manual_seed(1)
    torch.save(timm.create_model('test_resnet', num_classes=2).state_dict(), tmp_path / 'weights.pth')
    (plain,), _ = record(PUZZLE)
    caplog.clear()
    (batch,), _ = record(f'{PUZZLE} --initial-checkpoint {tmp_path}/weights.pth' if trained else PUZZLE)
    np.testing.assert_array_equal(batch.images, plain.images)
    assert np.array_equal(batch.saliency, plain.saliency) != trained
    assert ('The model is untrained' in caplog.text) != trained


@pytest.mark.parametrize(
    ('line', 'padding'),
    [('-c digits', 0), ('--images digits', 0), ('-c cifar100_wrn28_2 --images digits --hflip 0 --color-jitter 0', 4)],
)
def test_digits_are_never_rescaled_or_cut(line, padding):
    """They are shifted by at most the padding of the recipe."""
    args, _ = asked(*line.split(), '--mix-mode', 'hmix')
    dataset = load_images(args)
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
        '--train-padding 4 --train-interpolation bilinear --model test_vit',
        '--no-aug --interpolation bicubic',
        '--scale 0.5 0.9 --color-jitter 0.1 --mean 0.5 --std 0.5',
    ],
)
def test_the_transform_is_that_of_a_training_with_the_same_arguments(line, image_folder):
    words = ['--model', 'test_resnet', *line.split(), '--data-dir', str(image_folder), '--mixup', '1']
    shown, args = asked(*words)[0], parse_arguments([*words, '-b', '2', '-j', '0', '--num-classes', '4'])[0]
    shown_images = load_images(shown)
    make_loader(shown_images, shown, data_config_of(shown), RecordingMixup(1.0, num_classes=4))
    args.world_size, args.rank, args.distributed, args.prefetcher = 1, 0, False, True
    trained = load_images(args)
    build_loaders(args, (trained, None), data_config_of(args), torch.device('cpu'), None)
    assert repr(shown_images.transform) == repr(trained.transform)


def test_the_photographs_are_a_flower_and_a_temple_of_one_size_and_grey_for_a_grey_model():
    (batch,), _ = record('--img-size 64 --no-aug --mix-mode none')
    flower, temple = (batch.images[batch.classes.index(name)] for name in ('flower', 'temple'))
    red, green, blue = flower.mean((1, 2))
    assert red > green > blue  # an orange flower before green leaves
    assert temple[2].mean() > blue + 50  # a temple below the sky
    (grey,), _ = record('--img-size 64 --no-aug --mix-mode none --in-chans 1')
    assert grey.images.shape == (2, 1, 64, 64)


def test_two_images_can_be_mixed_and_each_has_the_name_of_its_class(tmp_path):
    for name, colour in (('dark', 'black'), ('light', 'white')):
        (tmp_path / 'train' / name).mkdir(parents=True)  # and no validation
        Image.new('RGB', (8, 8), colour).save(tmp_path / 'train' / name / '0.png')
    (tmp_path / 'classes.txt').write_text('light\ndark\n')
    for class_map in ('', f'--class-map {tmp_path}/classes.txt'):
        (batch,), _ = record(f'--data-dir {tmp_path} --mix-mode hmix --img-size 32 --no-aug {class_map}')
        assert {name: image.max() for name, image in zip(batch.classes, batch.images, strict=True)} == {
            'dark': 0,
            'light': 255,
        }


@pytest.mark.parametrize(
    ('line', 'says'),
    [
        ('--data-dir nowhere', '--data-dir nowhere: there is no such folder'),
        ('--data-dir {folder} --train-split test', 'there is no folder test/ in it'),
        ('--data-dir {one}', 'at least 2 images to mix, got 1'),
        ('--model resnet5O', '--model resnet5O: timm has no data configuration'),
        ('--dataset hfds/somebody/something', '--dataset hfds/somebody/something'),  # not replaced by the photographs
        ('--dataset torch/cifar10 --data-dir {one}', '--dataset torch/cifar10'),
        ('--aa rando', '--aa rando: timm does not know this policy'),
        ('--mix-mode puzzlemix --img-size 40', 'sides that work: '),
    ],
)
def test_images_that_cannot_be_shown_are_named(line, says, image_folder, tmp_path, monkeypatch):
    (tmp_path / 'train' / 'a').mkdir(parents=True)
    Image.new('RGB', (8, 8)).save(tmp_path / 'train' / 'a' / '0.png')
    monkeypatch.setitem(sys.modules, 'datasets', None)  # not installed, so that nobody is asked for it
    mode = '' if 'mix-mode' in line else ' --mix-mode hmix'
    with pytest.raises(RunError, match=says) as refused:
        record(line.format(folder=image_folder, one=tmp_path) + mode)
    assert isinstance(refused.value, WrongArguments) or 'data' in line


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('--model test_resnet', ((3, 160, 160), (0.5, 0.5, 0.5))),
        ('--model test_resnet --img-size 40 --mean 0.25', ((3, 40, 40), (0.25, 0.25, 0.25))),
        ('--model cifar_resnet56', ((3, 32, 32), (125.3 / 255, 123.0 / 255, 113.9 / 255))),  # one of this project's own
    ],
)
def test_the_data_configuration_is_the_models_and_the_arguments(line, expected):
    config = data_config_of(asked(*line.split(), '--mix-mode', 'hmix')[0])
    assert (config['input_size'], config['mean']) == (expected[0], pytest.approx(expected[1]))
