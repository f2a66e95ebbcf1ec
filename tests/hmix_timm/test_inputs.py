"""Odd input: shapes, dtypes and labels that are refused by name or mixed like all others, with numba and without."""

import itertools
import re

import numpy as np
import pytest
import torch
from PIL import Image

from hmix_timm import FastCollateMixup, Mixup, PuzzleMix, private
from hmix_timm.blend import compiled

MODES = ['batch', 'pair', 'elem', 'half']


@pytest.fixture(params=['numba', 'torch'])
def loop(request, monkeypatch):
    """Both ways of mixing uint8 samples; the first one where the extra 'fast' is installed."""
    if request.param == 'torch':
        monkeypatch.setattr(compiled, 'load', lambda: None)
    elif compiled.load() is None:
        pytest.skip("the extra 'fast' is not installed")


@pytest.mark.parametrize('mode', ['batch', 'half'])
@pytest.mark.parametrize('odd', [(3, 8, 8), (1, 64, 64), (64, 64), (3, 64, 63)])
def test_images_of_unequal_shape_are_named(loop, mode, odd):
    samples = [(np.zeros(odd if index == 2 else (3, 64, 64), np.uint8), index) for index in range(4)]
    with pytest.raises(ValueError, match=r'one shape, got \(.*\) at index 2 beside \(3, 64, 64\)'):
        FastCollateMixup(num_classes=4, mode=mode)(samples)


def test_samples_that_are_not_uint8_are_refused():
    with pytest.raises(ValueError, match='uint8 images, got float32'):
        FastCollateMixup(num_classes=2)([(np.zeros((3, 4, 4), np.float32), 0)] * 2)


@pytest.mark.parametrize('shape', [(9, 7), (3, 2, 9, 7), (4, 9, 7), (1, 9, 7)])
def test_samples_of_any_number_of_axes_are_mixed(loop, shape):
    """White images with black partners: the mean of each is its label weight."""
    samples = [(np.full(shape, 255 * (index < 2), np.uint8), int(index < 2)) for index in range(4)]
    for seed, (mode, family) in enumerate(itertools.product(MODES, ['hmix', 'gmix', 'bbox'])):
        mixer = FastCollateMixup(0.0, 1.0, mode=mode, num_classes=2, label_smoothing=0.0, cutmix_mode=family)
        np.random.seed(seed)
        mixed, target = mixer(samples)
        assert mixed.shape[1:] == shape
        means = mixed.double().flatten(1).mean(1) / 255
        np.testing.assert_allclose(means, target[:, 1].double(), atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize(
    'sample',
    [Image.new('RGB', (8, 8)), (Image.new('RGB', (8, 8)), 0), {'image': np.zeros((3, 8, 8), np.uint8), 'label': 0},
     torch.zeros(3, 8, 8, dtype=torch.uint8), ([[0]], 0), (np.zeros((3, 8, 8), np.uint8),)],
    ids=['picture', 'picture with label', 'dict', 'image without label', 'list', 'tuple without label'],
)  # fmt: skip
def test_samples_that_are_no_arrays_with_labels_are_named(sample):
    good = (np.zeros((3, 8, 8), np.uint8), 0)
    with pytest.raises(ValueError, match=r'takes samples \(image, target\) .* got a \w+ at index 1$'):
        FastCollateMixup(num_classes=2)([good, sample])


def mixed_by_floats(target, **arguments):
    x = torch.rand(4, 3, 8, 8)
    return x, lambda: Mixup(num_classes=4, **arguments)(x, target)


def mixed_by_collate(target, **arguments):
    x = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    return x, lambda: FastCollateMixup(num_classes=4, **arguments)(list(zip(x, target, strict=True)))


def mixed_by_naflex(target, **arguments):
    naflex = pytest.importorskip('hmix_timm.naflex', exc_type=ImportError)
    x = torch.rand(4, 3, 8, 8)
    return x, lambda: naflex.NaFlexMixup(num_classes=4, **arguments)(list(x), target)


def mixed_by_puzzlemix(target):
    pytest.importorskip('scipy')
    x = torch.rand(4, 3, 8, 8)
    return x, lambda: PuzzleMix(lambda images, target: images.abs().mean(1), num_classes=4, blocks=(2,))(x, target)


MIXERS = [mixed_by_floats, mixed_by_collate, mixed_by_naflex, mixed_by_puzzlemix]


def refused(mixed, message):
    """Refused before an image is touched and a number drawn."""
    x, mix = mixed
    before, state = x.clone(), np.random.get_state()[1].tolist()
    with pytest.raises(ValueError, match=message):
        mix()
    assert torch.equal(x, before) and np.random.get_state()[1].tolist() == state


@pytest.mark.parametrize('mixed', MIXERS)
@pytest.mark.parametrize(
    ('target', 'message'),
    [
        (torch.eye(4), r'class indices, shape \(4,\), got one-hot or soft labels \(4, 4\).*soft_labels=True'),
        (torch.zeros(4, 2, 2), r'one class index for each of 4 images, got shape \(4, 2, 2\)'),
        (torch.tensor([0.7, 1.9, 0.2, 3.4]), 'class indices of an integer dtype, got torch.float'),
        (torch.tensor([0, 1, -1, 2]), 'from 0 to num_classes - 1 = 3, got -1'),
        (torch.tensor([0, 1, -100, 2], dtype=torch.int32), 'from 0 to num_classes - 1 = 3, got -100'),
        (torch.tensor([0, 4, 1, 2], dtype=torch.uint8), 'from 0 to num_classes - 1 = 3, got 4'),
    ],
)
def test_labels_that_are_no_class_indices_are_refused_before_anything_is_mixed(mixed, target, message):
    refused(mixed(target), message)


@pytest.mark.parametrize('mixed', [mixed_by_floats, mixed_by_naflex, mixed_by_puzzlemix])
@pytest.mark.parametrize('target', [torch.arange(3), torch.tensor(1)])
def test_labels_for_some_of_the_images_are_refused(mixed, target):
    refused(mixed(target), rf'one class index for each of 4 images, got shape {re.escape(str(tuple(target.shape)))}')


@pytest.mark.parametrize('mixed', MIXERS[1:3])
def test_labels_that_are_words_are_refused(mixed):
    refused(mixed(['cat', 'dog', 'cat', 'cow']), 'one class index for each of 4 images, got a list')


@pytest.mark.skipif(not private.TAKES_MULTI_LABEL, reason='the installed timm has no multi_label')
@pytest.mark.parametrize('mixed', MIXERS[:3])
@pytest.mark.parametrize('shape', [(2, 4), (4, 3), (4,), (4, 4, 1)])
def test_multi_label_rows_of_a_wrong_shape_are_refused(mixed, shape):
    if mixed is not mixed_by_collate or (len(shape) > 1 and shape[0] == 4):
        message = rf'multi_label=True takes a target of shape \(4, 4\), got shape {re.escape(str(shape))}'
        refused(mixed(torch.zeros(shape), multi_label=True), message)


@pytest.mark.parametrize('cutmix_mode', ['bbox', 'hmix', 'gmix'])
def test_rows_of_features_have_no_place_for_a_box(cutmix_mode):
    slot, rows = {'cutmix_alpha': 1.0, 'cutmix_mode': cutmix_mode, 'num_classes': 4}, torch.ones(4, 32)
    for mix in (
        lambda: Mixup(**slot)(rows, torch.arange(4)),
        lambda: Mixup(**slot)._mix_elem(rows),
        lambda: FastCollateMixup(**slot)([(row, 0) for row in rows.byte()]),
    ):
        with pytest.raises(ValueError, match=r'shape \(B, …, H, W\) where CutMix is on, got \(4, 32\)'):
            mix()


def test_a_list_of_images_is_refused_by_its_type():
    with pytest.raises(ValueError, match='images must be a tensor, got a list'):
        Mixup()([torch.rand(3, 8, 8)] * 4, torch.arange(4))


@pytest.mark.parametrize(('mode', 'side'), [('batch', 8), ('batch', 300), ('elem', 300)])
@pytest.mark.parametrize(
    ('made', 'message'),
    [
        (lambda side: torch.rand(4, 3, side, side, dtype=torch.complex64), 'must be real, got torch.complex64'),
        (lambda side: torch.rand(4, 1, side, side).expand(-1, 2, -1, -1), 'must not share memory'),
        (lambda side: torch.rand(4, 3, 2 * side).unfold(2, side, 1)[:, :, 1:], 'must not share memory'),
    ],
)
def test_complex_images_and_channels_that_share_memory_are_refused(made, message, side, mode):
    x = made(side)
    refused((x, lambda: Mixup(0.0, 1.0, cutmix_mode='gmix', mode=mode)(x, torch.arange(4))), message)


def test_naflex_refuses_complex_images_and_pictures_and_mixes_channels_that_share_memory():
    mixer = pytest.importorskip('hmix_timm.naflex', exc_type=ImportError).NaFlexMixup(num_classes=2)
    for image, got in ((torch.rand(3, 8, 8) + 1j, 'got torch.complex64'), (Image.new('RGB', (8, 8)), 'got a Image')):
        with pytest.raises(ValueError, match=f'real tensors .* {got} at index 1'):
            mixer([torch.rand(3, 8, 8), image], torch.arange(2))
    images = [torch.rand(1, 300, 300).expand(3, -1, -1) for _ in range(2)]
    mixed, _ = mixer(images, torch.arange(2))
    assert all(image.shape == (3, 300, 300) and torch.equal(image[0], image[2]) for image in mixed)


def test_a_column_of_class_indices_is_taken_as_in_timm():
    _, target = Mixup(num_classes=4, prob=0.0, label_smoothing=0.0)(torch.rand(4, 3, 8, 8), torch.arange(4)[:, None])
    assert torch.equal(target, torch.eye(4))
