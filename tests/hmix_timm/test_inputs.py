"""Odd input: shapes, dtypes and labels that are refused by name or mixed like all others, with numba and without."""

import numpy as np
import pytest
import torch

from hmix_timm import FastCollateMixup, Mixup
from hmix_timm.blend import compiled, mix_pairs_, mix_whole_
from hmix_timm.families import cutmix_mask, gmix_mask, hmix_mask
from hmix_timm.masks import DenseMask

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
    shapes = [(3, 64, 64), (3, 64, 64), odd, (3, 64, 64)]
    samples = [(np.zeros(shape, np.uint8), index) for index, shape in enumerate(shapes)]
    with pytest.raises(ValueError, match=r'one shape, got \(.*\) at index 2 beside \(3, 64, 64\)'):
        FastCollateMixup(num_classes=4, mode=mode)(samples)


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


MASKS = {
    'cutmix': cutmix_mask((8, 6), (1, 5, 2, 6)),
    'hmix': hmix_mask((8, 6), 0.4, 0.5, (0, 4, 1, 4)),
    'gmix': gmix_mask((8, 6), 0.3, (2, 3)),
    'dense': DenseMask(np.random.default_rng(0).random((8, 6))),
}


@pytest.mark.parametrize('masks', [[mask] * 4 for mask in MASKS.values()] + [list(MASKS.values())])
@pytest.mark.parametrize('dtype', [torch.uint8, torch.int16, torch.int64])
def test_integer_batches_are_rounded_to_the_nearest_on_every_path(masks, dtype):
    images = torch.randint(0, 256, (4, 3, 8, 6), generator=torch.Generator().manual_seed(0)).to(dtype)
    arrays = np.stack([mask.array((8, 6)) for mask in masks])[:, None]
    exact = arrays * images.double().numpy() + (1.0 - arrays) * images.flip(0).double().numpy()
    results = [mix(images.clone(), masks) for mix in (mix_pairs_, mix_whole_)]
    for mixed in results:
        assert mixed.dtype == dtype
        assert np.abs(mixed.double().numpy() - exact).max() <= 0.5 + 1e-4
    assert torch.equal(results[0], results[1])


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_dense_masks_are_blended_alike_on_every_path(dtype):
    mask = MASKS['dense']
    images = torch.randn(4, 3, 8, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    x = images.to(dtype)
    values = torch.from_numpy(mask.values)
    exact = values * x.double() + (1.0 - values) * x.double().flip(0)
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-6, torch.float16: 2e-3, torch.bfloat16: 2e-2}[dtype]
    for layout in (torch.contiguous_format, torch.channels_last):
        for mix in (mix_pairs_, mix_whole_):
            mixed = mix(x.clone(memory_format=layout), [mask] * 4)
            torch.testing.assert_close(mixed.double(), exact, rtol=tolerance, atol=tolerance)


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
