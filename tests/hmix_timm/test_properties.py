"""Properties of mixing for any shape, dtype, memory format, mode, mask and hyper-parameter."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hmix_timm import FastCollateMixup, Mixup
from hmix_timm.families import make_slot

settings.register_profile('mixing', settings.get_profile('any_machine'), derandomize=True, max_examples=60)
settings.load_profile('mixing')

sides = st.integers(1, 40)
batches = st.integers(1, 9)
channels = st.integers(1, 4)
seeds = st.integers(0, 2**32 - 1)
fractions = st.floats(0.0, 1.0)
lams = st.one_of(fractions, st.sampled_from([0.0, 1e-300, 1e-12, 0.5, 1.0 - 1e-12, 1.0]))
float_modes = st.sampled_from(['batch', 'pair', 'elem'])
collate_modes = st.sampled_from(['batch', 'pair', 'elem', 'half'])
formats = st.sampled_from(['contiguous', 'channels_last', 'strided'])
dtypes = st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16])
slots = st.one_of(
    st.just({'cutmix_mode': 'bbox'}),
    st.fixed_dictionaries({'cutmix_mode': st.just('hmix')}, optional={'hmix_ratio': fractions}),
    st.fixed_dictionaries({'cutmix_mode': st.just('hmix'), 'hmix_gamma': st.floats(1e-3, 1e3)}),
    st.fixed_dictionaries(
        {'cutmix_mode': st.just('gmix')}, optional={'gmix_kernel': st.sampled_from(['reference', 'paper'])}
    ),
)
mixers = st.fixed_dictionaries(
    {
        'mixup_alpha': st.one_of(st.just(0.0), st.floats(1e-3, 10.0)),
        'cutmix_alpha': st.floats(1e-3, 10.0),
        'prob': st.sampled_from([1.0, 0.5]),
        'switch_prob': fractions,
    }
)


def lay_out(x, memory_format):
    if memory_format == 'channels_last':
        return x.contiguous(memory_format=torch.channels_last)
    if memory_format == 'strided':
        wide = torch.zeros(*x.shape[:-1], 2 * x.shape[-1], dtype=x.dtype)
        wide[..., ::2] = x
        return wide[..., ::2]
    return x.contiguous()


def halves(count):
    """Class 1 for the first half, class 0 for the second: partners differ."""
    return torch.tensor([1] * (count // 2) + [0] * (count - count // 2))


@given(batches, channels, sides, sides, float_modes, formats, slots, mixers, seeds)
def test_the_label_weight_is_the_mean_of_the_applied_mask(count, depth, height, width, mode, fmt, slot, mixer, seed):
    mix = Mixup(**mixer, **slot, mode=mode, num_classes=2, label_smoothing=0.0)
    labels = halves(count)
    x = lay_out(labels.view(-1, 1, 1, 1).expand(count, depth, height, width).float(), fmt)
    np.random.seed(seed)
    mixed, target = mix(x, labels)
    assert mixed is x and target.dtype == torch.float32
    means = mixed.double().flatten(1).mean(1)
    np.testing.assert_allclose(means.numpy(), target[:, 1].double().numpy(), rtol=0, atol=1e-6)


@given(batches, sides, sides, float_modes, formats, slots, mixers, seeds, dtypes)
def test_a_mixed_value_lies_between_its_two_sources(count, height, width, mode, fmt, slot, mixer, seed, dtype):
    generator = torch.Generator().manual_seed(seed % 1000)
    images = (torch.randn(count, 2, height, width, generator=generator) * 3).to(dtype)
    x = lay_out(images.clone(), fmt)
    strides = x.stride()
    np.random.seed(seed)
    mixed, target = Mixup(**mixer, **slot, mode=mode, num_classes=2)(x, halves(count))
    partners = images.flip(0)
    assert mixed.dtype == dtype and mixed.stride() == strides
    assert (mixed >= torch.minimum(images, partners)).all()
    assert (mixed <= torch.maximum(images, partners)).all()
    torch.testing.assert_close(target.float().sum(1), torch.ones(count))


@given(batches, sides, sides, collate_modes, slots, mixers, seeds)
def test_collated_values_lie_between_their_sources_and_nothing_is_written(
    count, height, width, mode, slot, mixer, seed
):
    images = np.random.default_rng(seed).integers(0, 256, (count, 3, height, width), dtype=np.uint8)
    samples = [(image.copy(), label) for image, label in zip(images, halves(count).tolist(), strict=True)]
    for image, _ in samples:
        image.flags.writeable = False
    np.random.seed(seed)
    mixed, target = FastCollateMixup(**mixer, **slot, mode=mode, num_classes=2, label_smoothing=0.0)(samples)
    kept = len(mixed)
    assert kept == ((count + 1) // 2 if mode == 'half' else count) == len(target)
    low, high = np.minimum(images, images[::-1])[:kept], np.maximum(images, images[::-1])[:kept]
    assert (mixed.numpy() >= low).all() and (mixed.numpy() <= high).all()
    torch.testing.assert_close(target.sum(1), torch.ones(kept))


@given(sides, sides, lams, slots, seeds)
def test_masks_are_in_range_and_their_mean_is_the_weight(height, width, lam, slot, seed):
    np.random.seed(seed)
    mask, weight = make_slot(**slot).draw_mask((height, width), lam)
    dense = mask.array((height, width))
    assert np.isfinite(dense).all() and dense.min() >= 0.0 and dense.max() <= 1.0
    assert weight == pytest.approx(dense.mean(), abs=1e-12)
    if slot['cutmix_mode'] == 'hmix' and dense.any():
        assert weight == pytest.approx(lam, abs=1e-12), "HMix's mean is λ wherever its box lies"


@pytest.mark.parametrize('lam', [0.05, 0.1, 0.9, 0.95])
def test_the_mean_of_gmix_is_lam_where_no_border_cuts_its_bump(lam):
    np.random.seed(1)
    whole = 0
    for _ in range(200):
        mask, weight = make_slot('gmix').draw_mask((301, 301), lam)
        if abs(np.abs(mask.y).argmax() - 150) < 40 and abs(np.abs(mask.x).argmax() - 150) < 40:
            whole += 1
            assert weight == pytest.approx(lam, abs=2e-3)
    assert whole > 5
