"""Odd input: shapes, dtypes and labels that are refused by name or mixed like all others, with numba and without."""

import numpy as np
import pytest
import torch

from hmix_timm import FastCollateMixup, Mixup
from hmix_timm.blend import compiled

MODES = ['batch', 'pair', 'elem', 'half']


@pytest.fixture(params=['numba', 'torch'])
def loop(request, monkeypatch):
    """Both ways of mixing uint8 samples; the first one where the extra 'fast' is installed."""
    if request.param == 'torch':
        monkeypatch.setattr(compiled, 'load', lambda: None)
    elif compiled.load() is None:
        pytest.skip("the extra 'fast' is not installed")


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('odd', [(3, 8, 8), (1, 64, 64), (64, 64), (3, 64, 63)])
def test_images_of_unequal_shape_are_named(loop, mode, odd):
    samples = [(np.zeros(odd if index == 2 else (3, 64, 64), np.uint8), index) for index in range(4)]
    with pytest.raises(ValueError, match=r'one shape, got \(.*\) at index 2 beside \(3, 64, 64\)'):
        FastCollateMixup(num_classes=4, mode=mode)(samples)


def test_samples_that_are_not_uint8_are_refused():
    with pytest.raises(ValueError, match='uint8 images, got float32'):
        FastCollateMixup(num_classes=2)([(np.zeros((3, 4, 4), np.float32), 0)] * 2)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('shape', [(9, 7), (3, 2, 9, 7), (4, 9, 7), (1, 9, 7)])
@pytest.mark.parametrize('slot', [{'cutmix_mode': 'hmix'}, {'cutmix_mode': 'gmix'}, {}], ids=str)
def test_samples_of_any_number_of_axes_are_mixed(loop, mode, shape, slot):
    """White images with black partners: the mean of each is its label weight."""
    samples = [(np.full(shape, 255 * (index < 2), np.uint8), int(index < 2)) for index in range(4)]
    mixer = FastCollateMixup(0.0, 1.0, mode=mode, num_classes=2, label_smoothing=0.0, **slot)
    for seed in range(5):
        np.random.seed(seed)
        mixed, target = mixer(samples)
        assert mixed.shape[1:] == shape
        means = mixed.double().flatten(1).mean(1) / 255
        np.testing.assert_allclose(means, target[:, 1].double(), atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize(
    ('target', 'message'),
    [
        (torch.arange(3), r'one class index for each of 4 images, got shape \(3,\)'),
        (torch.eye(4), r'class indices, shape \(4,\), got one-hot or soft labels \(4, 4\)'),
        (torch.zeros(4, 2, 2), r'one class index for each of 4 images, got shape \(4, 2, 2\)'),
        (torch.tensor(1), r'one class index for each of 4 images, got shape \(\)'),
    ],
)
@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem'])
def test_labels_of_a_wrong_shape_are_refused_before_anything_is_mixed(target, message, mode):
    x = torch.rand(4, 3, 8, 8)
    before = x.clone()
    with pytest.raises(ValueError, match=message):
        Mixup(num_classes=4, mode=mode)(x, target)
    assert torch.equal(x, before)


def test_one_hot_labels_of_samples_are_refused():
    samples = [(np.zeros((3, 8, 8), np.uint8), torch.eye(4)[index]) for index in range(4)]
    with pytest.raises(ValueError, match='one-hot or soft labels'):
        FastCollateMixup(num_classes=4)(samples)


def test_a_column_of_class_indices_is_taken_as_in_timm():
    _, target = Mixup(num_classes=4, prob=0.0, label_smoothing=0.0)(torch.rand(4, 3, 8, 8), torch.arange(4)[:, None])
    assert torch.equal(target, torch.eye(4))
