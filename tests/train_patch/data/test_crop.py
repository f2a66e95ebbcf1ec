"""--train-padding: pad, crop at random, keep the rest of timm's transform; wrong uses are refused."""

import argparse
import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import create_dataset, create_loader, create_transform
from torchvision import transforms

from train_patch.data.crop import check_padding, padded_crop_loader, use_padded_crop

SIZE, PADDING = 32, 4
PLACES = 2 * PADDING + 1


@pytest.fixture(autouse=True)
def seed():
    random.seed(0)
    torch.manual_seed(0)


def positions_image(size=SIZE):
    """An image whose pixel at (y, x) has the value (y + 1, x + 1, 255): a crop says where it came from."""
    y, x = np.mgrid[:size, :size]
    return Image.fromarray(np.stack([y + 1, x + 1, np.full_like(y, 255)], -1).astype(np.uint8))


def offset_and_flip(crop):
    """Where a crop of `positions_image` lies, as (dy, dx) in -4..4, and whether it is flipped. Checks every pixel.

    Args:
        crop: uint8 array, (3, 32, 32).
    """
    y, x = np.mgrid[:SIZE, :SIZE]
    inside = crop[2] > 0
    row, column = np.argwhere(inside)[len(np.argwhere(inside)) // 2]
    flipped = crop[1][inside].reshape(-1)[0] > crop[1][inside].reshape(-1)[-1]
    shown = crop[:, :, ::-1] if flipped else crop
    column = SIZE - 1 - column if flipped else column
    dy, dx = int(shown[0, row, column]) - 1 - row, int(shown[1, row, column]) - 1 - column
    from_y, from_x = y + dy, x + dx
    expected_inside = (from_y >= 0) & (from_y < SIZE) & (from_x >= 0) & (from_x < SIZE)
    expected = np.where(expected_inside, np.stack([from_y + 1, from_x + 1, np.full_like(y, 255)]), 0)
    assert np.array_equal(shown, expected), 'a plain crop of the zero-padded image'
    return dy, dx, bool(flipped)


def test_offsets_are_uniform_and_flips_are_kept():
    for hflip, crops in ((0.5, 2000), (0.0, 50)):
        timms = create_transform(SIZE, is_training=True, color_jitter=None, use_prefetcher=True, hflip=hflip)
        transform, image = use_padded_crop(timms, PADDING), positions_image()
        found = [offset_and_flip(np.asarray(transform(image))) for _ in range(crops)]
        dy, dx, flips = (np.asarray(v) for v in zip(*found, strict=True))
        counts = np.zeros((PLACES, PLACES))
        np.add.at(counts, (dy + PADDING, dx + PADDING), 1)
        # chi square with 80 degrees of freedom: mean 80, standard deviation 12.6
        assert ((counts - counts.mean()) ** 2 / counts.mean()).sum() < 130
        assert flips.mean() == pytest.approx(hflip, abs=0.04 * bool(hflip))


def test_the_rest_of_the_transform_stays():
    before = create_transform(SIZE, is_training=True, color_jitter=0.3, auto_augment='rand-m5', re_prob=0.2, vflip=0.1)
    steps = list(before.transforms)
    after = use_padded_crop(before, PADDING)
    assert [id(step) for step in after.transforms[2:]] == [id(step) for step in steps[1:]]
    assert before.transforms == steps, 'the given transform is not changed'
    assert after(positions_image()).shape == (3, SIZE, SIZE)


@pytest.mark.parametrize('input_size', [(3, 24, 40), 28])
@pytest.mark.parametrize('interpolation', ['random', 'bicubic'])
def test_other_image_sizes_are_resized_to_the_input_size_first(input_size, interpolation):
    transform = use_padded_crop(
        create_transform(input_size, is_training=True, use_prefetcher=True, interpolation=interpolation), PADDING
    )
    resize = transform.transforms[0]
    height, width = (input_size, input_size) if isinstance(input_size, int) else input_size[1:]
    white = Image.new('RGB', (64, 50), (255, 255, 255))
    assert resize(white).size == (width, height)
    assert resize.interpolation.value == ('bilinear' if interpolation == 'random' else interpolation)
    assert np.asarray(transform(white)).shape == (3, height, width)
    same = Image.new('RGB', (width, height))
    assert resize(same) is same, 'an image of the input size is not resampled'


@pytest.mark.parametrize(
    'transform',
    [create_transform(SIZE, is_training=True, no_aug=True), transforms.Compose([]), None],
    ids=['no_aug', 'empty', 'none'],
)
def test_a_transform_without_a_random_resized_crop_is_refused(transform):
    with pytest.raises(ValueError, match='random resized crop'):
        use_padded_crop(transform, PADDING)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('images')
    for split, count in (('train', 24), ('validation', 4)):
        for label in ('a', 'b'):
            (root / split / label).mkdir(parents=True)
            for index in range(count):
                positions_image().save(root / split / label / f'{index}.png')
    return root


def make_loader(folder, is_training, **kwargs):
    split = 'train' if is_training else 'validation'
    return padded_crop_loader(create_loader, PADDING)(
        create_dataset('', root=str(folder), split=split, is_training=is_training),
        input_size=(3, SIZE, SIZE),
        batch_size=8,
        is_training=is_training,
        color_jitter=None,
        mean=(0.0, 0.0, 0.0),
        std=(1 / 255, 1 / 255, 1 / 255),
        crop_pct=1.0,
        device=torch.device('cpu'),
        num_workers=2,
        **kwargs,
    )


@pytest.mark.parametrize('use_prefetcher', [True, False])
def test_a_training_loader_crops_in_its_workers_and_one_for_evaluation_does_not(folder, use_prefetcher):
    loader, epochs = make_loader(folder, True, use_prefetcher=use_prefetcher), []
    for _ in range(2):
        images = torch.cat([batch for batch, _ in loader]).round().to(torch.uint8).numpy()
        epochs.append([offset_and_flip(image) for image in images])
        assert len(epochs[-1]) == 48
    offsets = {(dy, dx) for epoch in epochs for dy, dx, _ in epoch}
    assert len(offsets) > 30 and max(max(map(abs, o)) for o in offsets) == PADDING
    assert {flip for epoch in epochs for *_, flip in epoch} == {True, False}
    assert epochs[0] != epochs[1]
    evaluation = make_loader(folder, False, use_prefetcher=use_prefetcher)
    assert all(offset_and_flip(i.round().byte().numpy()) == (0, 0, False) for batch, _ in evaluation for i in batch)


def test_off_is_timms_own_function_and_on_takes_its_arguments_by_position(folder):
    assert padded_crop_loader(create_loader, 0) is padded_crop_loader(create_loader, None) is create_loader
    create = padded_crop_loader(create_loader, PADDING)
    for words, cropped in (((3, SIZE, SIZE), 8, True), True), (((3, SIZE, SIZE), 8), False):  # timm's default is False
        dataset = create_dataset('', root=str(folder), split='train', is_training=True)
        create(dataset, *words, num_workers=0, persistent_workers=False, use_prefetcher=False)
        assert any(isinstance(step, transforms.RandomCrop) for step in dataset.transform.transforms) == cropped


@pytest.mark.parametrize(
    'changes',
    [
        {},
        dict.fromkeys(['no_aug', 'aug_splits', 'naflex_loader', 'train_img_sizes', 'scale', 'ratio']),
        {'no_aug': False, 'aug_splits': 0, 'naflex_loader': False, 'train_img_sizes': []},
        {'train_crop_mode': 'rrc', 'scale': [0.08, 1.0], 'ratio': [0.75, 4 / 3]},
        {'train_crop_mode': '', 'scale': (0.08, 1.0), 'ratio': (0.75, 4 / 3)},
        {'scale': (0.5, 1.0), 'train_padding': 0},
        {'scale': (0.5, 1.0), 'train_padding': None},
    ],
)
def test_arguments_that_change_no_crop_may_stand_beside_it(changes):
    """As text, list or tuple: the default of whatever version of timm's script, or none of it at all."""
    check_padding(argparse.Namespace(**{'train_padding': 4, **changes}))


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        *(({'train_padding': value}, f'(0: off), got {value!r}') for value in (-1, 2.5, True, '4px')),
        ({'scale': [0.08, 0.9]}, 'cannot go with --scale 0.08 0.9'),
        ({'ratio': (1, 4 / 3)}, 'cannot go with --ratio 1 1.3333333333333333'),
        ({'no_aug': True}, 'cannot go with --no-aug True'),
        ({'aug_splits': 3}, 'cannot go with --aug-splits 3'),
        ({'naflex_loader': True}, 'cannot go with --naflex-loader True'),
        ({'train_crop_mode': 'rkrc'}, 'cannot go with --train-crop-mode rkrc'),
        ({'train_img_sizes': [32, 48]}, 'cannot go with --train-img-sizes 32 48'),
    ],
)
def test_wrong_padding_and_arguments_of_other_crops_are_named(changes, says):
    with pytest.raises(ValueError, match=r'^--train-padding ') as refused:
        check_padding(argparse.Namespace(**{'train_padding': 4, **changes}))
    assert str(refused.value).endswith(says)
