"""--train-padding: pad, crop at random, keep the rest of timm's transform; wrong uses are refused."""

import argparse
import inspect
import random

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import AugMixDataset, create_dataset, create_loader, create_transform
from torchvision import transforms

from train_patch.data.crop import add_crop_argument, check_padding, declare_padding, padded_crop_loader, use_padded_crop

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


def chi_square(counts):
    counts = np.asarray(counts, dtype=float)
    return ((counts - counts.mean()) ** 2 / counts.mean()).sum()


def test_timm_crops_are_something_else():
    """Why this module is there: none of timm's own crop modes gives a plain crop of the padded image."""
    image = positions_image()
    for kwargs in ({}, {'train_crop_mode': 'rkrc'}, {'train_crop_mode': 'rkrr'}, {'no_aug': True}):
        transform = create_transform(SIZE, is_training=True, color_jitter=None, use_prefetcher=True, **kwargs)
        blue = [(np.asarray(transform(image))[2] == 0).any() for _ in range(50)]
        assert not any(blue), 'no zero padding'


def test_offsets_are_uniform_and_flips_are_kept():
    transform = use_padded_crop(
        create_transform(SIZE, is_training=True, color_jitter=None, use_prefetcher=True, hflip=0.5), PADDING
    )
    image = positions_image()
    found = [offset_and_flip(np.asarray(transform(image))) for _ in range(4000)]
    dy, dx, flips = (np.asarray(v) for v in zip(*found, strict=True))
    joint = np.zeros((PLACES, PLACES))
    np.add.at(joint, (dy + PADDING, dx + PADDING), 1)
    # 80 degrees of freedom: mean 80, standard deviation 12.6
    assert joint.min() > 0 and chi_square(joint.ravel()) < 130
    assert abs(flips.mean() - 0.5) < 0.04
    plain = use_padded_crop(
        create_transform(SIZE, is_training=True, color_jitter=None, use_prefetcher=True, hflip=0.0), PADDING
    )
    assert not any(offset_and_flip(np.asarray(plain(image)))[2] for _ in range(50))


def test_the_rest_of_the_transform_stays():
    before = create_transform(SIZE, is_training=True, color_jitter=0.3, auto_augment='rand-m5', re_prob=0.2, vflip=0.1)
    steps = list(before.transforms)
    after = use_padded_crop(before, PADDING)
    assert [id(t) for t in after.transforms[2:]] == [id(t) for t in steps[1:]]
    assert before.transforms == steps, 'the given transform is not changed'
    crop = after.transforms[1]
    assert isinstance(crop, transforms.RandomCrop) and crop.padding == PADDING and crop.fill == 0
    assert crop.padding_mode == 'constant' and tuple(crop.size) == (SIZE, SIZE)
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


@pytest.mark.parametrize('padding', [0, -1, 1.5, '4', None, True])
def test_wrong_padding(padding):
    with pytest.raises(ValueError, match='at least 1'):
        use_padded_crop(create_transform(SIZE, is_training=True), padding)


@pytest.mark.parametrize(
    'transform',
    [
        create_transform(SIZE, is_training=False),
        create_transform(SIZE, is_training=True, no_aug=True),
        create_transform(SIZE, is_training=True, train_crop_mode='rkrc'),
        create_transform(SIZE, is_training=True, separate=True),
        transforms.Compose([]),
        None,
    ],
    ids=['eval', 'no_aug', 'rkrc', 'separate', 'empty', 'none'],
)
def test_nothing_to_replace(transform):
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


def make_loader(folder, create, is_training, **kwargs):
    split = 'train' if is_training else 'validation'
    dataset = create_dataset('', root=str(folder), split=split, is_training=is_training)
    return create(
        dataset,
        input_size=(3, SIZE, SIZE),
        batch_size=8,
        is_training=is_training,
        color_jitter=None,
        mean=(0.0, 0.0, 0.0),
        std=(1 / 255, 1 / 255, 1 / 255),
        crop_pct=1.0,
        device=torch.device('cpu'),
        **kwargs,
    )


@pytest.mark.parametrize('use_prefetcher', [True, False])
def test_real_loader_with_persistent_workers(folder, use_prefetcher):
    create = padded_crop_loader(create_loader, PADDING)
    kwargs = {'num_workers': 2, 'persistent_workers': True, 'use_prefetcher': use_prefetcher}
    loader = make_loader(folder, create, True, **kwargs)
    epochs = []
    for _ in range(2):
        images = torch.cat([batch for batch, _ in loader]).round().to(torch.uint8).numpy()
        epochs.append([offset_and_flip(image) for image in images])
        assert len(epochs[-1]) == 48
    offsets = {(dy, dx) for epoch in epochs for dy, dx, _ in epoch}
    assert len(offsets) > 30 and max(max(map(abs, o)) for o in offsets) == PADDING
    assert {flip for epoch in epochs for *_, flip in epoch} == {True, False}
    assert epochs[0] != epochs[1]
    evaluation = make_loader(folder, create, False, **kwargs)
    assert all(offset_and_flip(i.round().byte().numpy()) == (0, 0, False) for batch, _ in evaluation for i in batch)


def test_off_is_timms_own_function():
    assert padded_crop_loader(create_loader, 0) is create_loader
    assert padded_crop_loader(create_loader, None) is create_loader
    wrapped = padded_crop_loader(create_loader, PADDING)
    assert wrapped is not create_loader and inspect.signature(wrapped) == inspect.signature(create_loader)


def test_training_flag_given_by_position(folder):
    dataset = create_dataset('', root=str(folder), split='train', is_training=True)
    padded_crop_loader(create_loader, PADDING)(
        dataset, (3, SIZE, SIZE), 8, True, num_workers=0, persistent_workers=False, use_prefetcher=False
    )
    assert isinstance(dataset.transform.transforms[1], transforms.RandomCrop)


def test_augmix_splits_are_refused(folder):
    dataset = AugMixDataset(create_dataset('', root=str(folder), split='train', is_training=True))
    create = padded_crop_loader(create_loader, PADDING)
    with pytest.raises(ValueError, match='augmentation splits'):
        create(dataset, (3, SIZE, SIZE), 8, is_training=True, num_aug_splits=2, use_prefetcher=False)


def timm_like_parser():
    parser = argparse.ArgumentParser()
    parser.add_argument('--no-aug', action='store_true', default=False)
    parser.add_argument('--train-crop-mode', type=str, default=None)
    parser.add_argument('--aug-splits', type=int, default=0)
    parser.add_argument('--scale', type=float, nargs='+', default=[0.08, 1.0])
    parser.add_argument('--ratio', type=float, nargs='+', default=[3.0 / 4.0, 4.0 / 3.0])
    parser.add_argument('--naflex-loader', action='store_true', default=False)
    parser.add_argument('--train-img-sizes', type=int, nargs='+', default=None)
    add_crop_argument(parser)
    return parser


def test_argument_from_command_line_and_recipe():
    parser = timm_like_parser()
    assert parser.parse_args([]).train_padding is None
    assert parser.parse_args(['--train-padding', '4']).train_padding == 4
    parser.set_defaults(train_padding=4)
    assert parser.parse_args([]).train_padding == 4
    assert parser.parse_args(['--train-padding', '0']).train_padding == 0
    parser.set_defaults(**vars(parser.parse_args([])))  # a run's args.yaml given back
    assert parser.parse_args([]).train_padding == 4


def test_declaring_twice_changes_nothing():
    parser = timm_like_parser()
    parse_args, actions = parser.parse_args, len(parser._actions)
    add_crop_argument(parser)
    assert parser.parse_args is parse_args and len(parser._actions) == actions
    assert '--train-padding' in parser.format_help()


@pytest.mark.parametrize(
    'recipe, argv, message',
    [
        ({}, ['--train-padding', '-1'], 'at least 0 (0: off), got -1'),
        ({}, ['--train-padding', 'x'], "invalid int value: 'x'"),
        ({'train_padding': '4px'}, [], "invalid int value: '4px'"),
        ({'train_padding': 2.5}, [], 'got 2.5'),
        ({'train_padding': True}, [], 'got True'),
        ({'train_padding': 4}, ['--no-aug'], 'not allowed with --no-aug'),
        ({'train_padding': 4}, ['--train-crop-mode', 'rkrr'], 'not allowed with --train-crop-mode rkrr'),
        ({'train_padding': 4}, ['--aug-splits', '3'], 'not allowed with --aug-splits 3'),
        ({'train_padding': 4}, ['--naflex-loader'], 'not allowed with --naflex-loader'),
        ({'train_padding': 4}, ['--train-img-sizes', '32', '48'], 'not allowed with --train-img-sizes'),
        ({'train_padding': 4, 'scale': [0.8, 1.0]}, [], 'not allowed with --scale'),
        ({}, ['--train-padding', '4', '--ratio', '1', '1'], 'not allowed with --ratio'),
    ],
)
def test_wrong_arguments_are_the_parsers_error(recipe, argv, message, capsys):
    parser = timm_like_parser()
    parser.set_defaults(**recipe)
    with pytest.raises(SystemExit) as error:
        parser.parse_args(argv)
    assert error.value.code == 2
    stderr = capsys.readouterr().err
    assert message in stderr and '--train-padding' in stderr


@pytest.mark.parametrize('argv', [['--train-crop-mode', 'rrc'], ['--scale', '0.08', '1.0'], ['--aug-splits', '0']])
def test_allowed_beside_it(argv):
    assert timm_like_parser().parse_args([*argv, '--train-padding', '4']).train_padding == 4
    assert timm_like_parser().parse_args(['--no-aug', '--train-padding', '0']).no_aug


def test_a_loader_that_does_not_say_what_it_is_for_is_left_alone(folder):
    """timm's own default is a loader for evaluation."""
    dataset = create_dataset('', root=str(folder), split='train', is_training=True)
    padded_crop_loader(create_loader, PADDING)(
        dataset, (3, SIZE, SIZE), 8, num_workers=0, persistent_workers=False, use_prefetcher=False
    )
    assert not any(isinstance(step, transforms.RandomCrop) for step in dataset.transform.transforms)


def arguments(**changes):
    return argparse.Namespace(**{'train_padding': 4, **changes})


@pytest.mark.parametrize(
    'changes',
    [
        {},
        *({'no_aug': value} for value in (False, None)),
        *({'train_crop_mode': value} for value in (None, '', 'rrc')),
        *({'aug_splits': value} for value in (0, None)),
        *({'naflex_loader': value} for value in (False, None)),
        *({'train_img_sizes': value} for value in (None, [], ())),
        *({'scale': value} for value in (None, [0.08, 1.0], (0.08, 1.0))),
        *({'ratio': value} for value in (None, [0.75, 4 / 3], (0.75, 4 / 3))),
        {'scale': (0.5, 1.0), 'train_padding': 0},
        {'scale': (0.5, 1.0), 'train_padding': None},
    ],
)
def test_what_changes_nothing_may_stand_beside_it(changes):
    """As text, list or tuple: whatever a version of timm's script has as its default, or none of it at all."""
    check_padding(arguments(**changes))


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        ({'scale': [0.08, 0.9]}, '--scale 0.08 0.9, which belongs to the random resized crop that it replaces'),
        ({'scale': (0.1, 1.0)}, '--scale 0.1 1.0, which belongs to'),
        ({'ratio': [0.75, 1.5]}, '--ratio 0.75 1.5, which belongs to'),
        ({'ratio': (1, 4 / 3)}, '--ratio 1 1.3333333333333333, which belongs to'),
        ({'no_aug': True}, '--no-aug True, which leaves no random resized crop to replace'),
        ({'train_crop_mode': 'rkrc'}, '--train-crop-mode rkrc, which leaves'),
        ({'train_img_sizes': [32]}, '--train-img-sizes 32, which leaves'),
    ],
)
def test_what_cannot_stand_beside_it_is_named_with_its_reason(changes, says):
    with pytest.raises(ValueError) as caught:
        check_padding(arguments(**changes))
    assert str(caught.value).startswith(f'--train-padding is not allowed with {says}')


def test_the_help_says_what_padding_is_for_and_that_it_is_off():
    parser = argparse.ArgumentParser()
    declare_padding(parser)
    text = ' '.join(parser.format_help().split())
    assert '--train-padding N train on random crops of the image with N zero pixels around it' in text
    assert text.endswith('CIFAR uses 4 (default: off)')


def test_a_script_may_give_its_own_words_and_namespace():
    parser = timm_like_parser()
    args = parser.parse_args(namespace=argparse.Namespace(lr=3), args=['--train-padding', '2'])
    assert (args.lr, args.train_padding) == (3, 2)
