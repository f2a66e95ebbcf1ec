"""What holds for any shape, dtype, memory format, mode, mask and hyper-parameter, and the statistics of the draws."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from hmix_timm import FastCollateMixup, Mixup
from hmix_timm.draws import NUMPY_DRAWS
from hmix_timm.families import make_slot

settings.register_profile('mixing', settings.get_profile('any_machine'), derandomize=True, max_examples=120)
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
    assert mixed is x
    assert target.dtype == torch.float32
    means = mixed.double().flatten(1).mean(1)
    np.testing.assert_allclose(means.numpy(), target[:, 1].double().numpy(), rtol=0, atol=1e-6)


@given(
    batches, sides, sides, float_modes, formats, slots, mixers, seeds,
    st.sampled_from([torch.float64, torch.float32, torch.float16, torch.bfloat16]),
)  # fmt: skip
def test_a_mixed_value_lies_between_its_two_sources(count, height, width, mode, fmt, slot, mixer, seed, dtype):
    generator = torch.Generator().manual_seed(seed % 1000)
    images = (torch.randn(count, 2, height, width, generator=generator) * 3).to(dtype)
    x = lay_out(images.clone(), fmt)
    np.random.seed(seed)
    mixed, target = Mixup(**mixer, **slot, mode=mode, num_classes=2)(x, halves(count))
    partners = images.flip(0)
    assert mixed.dtype == dtype and mixed.stride() == x.stride()
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


@given(st.integers(1, 4), sides, sides, slots, mixers, seeds)
def test_pair_mode_is_symmetric(pairs, height, width, slot, mixer, seed):
    """Partners get one mask: what one gives away the other takes, and the sum of a pair is kept."""
    count = 2 * pairs
    images = torch.randn(
        count, 1, height, width, generator=torch.Generator().manual_seed(seed % 1000), dtype=torch.float64
    )
    np.random.seed(seed)
    mix = Mixup(**mixer, **slot, mode='pair', num_classes=count, label_smoothing=0.0)
    mixed, target = mix(images.clone(), torch.arange(count))
    torch.testing.assert_close(mixed + mixed.flip(0), images + images.flip(0))
    torch.testing.assert_close(target.diagonal(), target.diagonal().flip(0))


@given(sides, sides, lams, slots, seeds)
def test_masks_are_in_range_and_their_mean_is_the_weight(height, width, lam, slot, seed):
    np.random.seed(seed)
    mask, weight = make_slot(**slot).draw_mask((height, width), lam)
    dense = mask.array((height, width))
    assert np.isfinite(dense).all() and dense.min() >= 0.0 and dense.max() <= 1.0
    assert weight == pytest.approx(dense.mean(), abs=1e-12)
    if slot['cutmix_mode'] == 'hmix' and dense.any():
        assert weight == pytest.approx(lam, abs=1e-12), "HMix's mean is λ wherever its box lies"


@given(sides, sides, lams, seeds, st.sampled_from(['bbox', 'hmix', 'gmix']))
def test_each_family_draws_its_share_of_the_generator(height, width, lam, seed, kind):
    """A box and a centre are two integers below H and W; γ is one Beta more, drawn before them."""
    np.random.seed(seed)
    options = {'hmix_gamma': 2.0} if kind == 'hmix' else {}
    make_slot(kind, **options).draw_mask((height, width), lam)
    after = np.random.rand()
    np.random.seed(seed)
    if kind == 'hmix':
        np.random.beta(2.0, 2.0)
    np.random.randint(0, height)
    np.random.randint(0, width)
    assert np.random.rand() == after


@given(st.integers(8, 40), st.integers(8, 40), fractions, seeds)
def test_hmix_goes_to_mixup_as_its_ratio_goes_to_0(height, width, lam, seed):
    np.random.seed(seed)
    mask, _ = make_slot('hmix', hmix_ratio=1e-9).draw_mask((height, width), lam)
    np.testing.assert_allclose(mask.array((height, width)), lam, atol=1e-6)


@given(st.integers(8, 40), st.integers(8, 40), fractions, seeds)
def test_hmix_of_ratio_1_has_cutmixs_box(height, width, lam, seed):
    """And outside it 1, but for what pays back the part of the box that a border cut off, or a fraction of a pixel."""
    np.random.seed(seed)
    hmix, _ = make_slot('hmix', hmix_ratio=1.0).draw_mask((height, width), lam)
    np.random.seed(seed)
    cutmix, _ = make_slot('bbox').draw_mask((height, width), 1.0 - (1.0 - lam))
    assert hmix.box == cutmix.box
    covered = (cutmix.array((height, width)) == 0.0).mean()
    assert hmix.outside == pytest.approx(min(lam / (1.0 - covered), 1.0) if covered < 1.0 else 0.0, abs=1e-9)


def draw_many(slot, lam, size, count=4000):
    np.random.seed(1)
    return [slot.draw_mask(size, lam)[0] for _ in range(count)]


def test_lam_is_beta_distributed_with_the_papers_mean():
    np.random.seed(0)
    mix = Mixup(0.0, 0.5, cutmix_mode='hmix', num_classes=2, label_smoothing=0.0)
    weights = [mix(torch.zeros(2, 1, 8, 8), torch.tensor([1, 0]))[1][0, 1].item() for _ in range(4000)]
    assert stats.kstest(weights, stats.beta(0.5, 0.5).cdf).pvalue > 0.01
    assert np.mean(weights) == pytest.approx(0.5, abs=0.02)


def test_ratio_is_beta_distributed_anew_for_each_lam():
    size, lam = (400, 400), 0.2
    areas = np.array([mask.box_fraction for mask in draw_many(make_slot('hmix', hmix_gamma=2.0), lam, size)])
    np.random.seed(1)
    ratios, whole = [], []
    for _ in areas:
        ratios.append(np.random.beta(2.0, 2.0))
        yl, yh, xl, xh = NUMPY_DRAWS.box(size, 1.0 - (1.0 - lam) * ratios[-1])
        whole.append(yl > 0 and xl > 0 and yh < size[0] and xh < size[1])
    assert sum(whole) > 500
    # a box that no border clips has (1 − λ) r of the image's area, but for whole pixels
    np.testing.assert_allclose(areas[whole], (1.0 - lam) * np.array(ratios)[whole], atol=0.02)


@pytest.mark.parametrize('kernel', ['reference', 'paper'])
@pytest.mark.parametrize('lam', [0.2, 0.8])
def test_gmix_centres_are_uniform(kernel, lam):
    size = (6, 9)
    centres = []
    for mask in draw_many(make_slot('gmix', gmix_kernel=kernel), lam, size):
        centres.append((np.abs(mask.y).argmax(), np.abs(mask.x).argmax()))
    counts = np.zeros(size)
    np.add.at(counts, tuple(np.transpose(centres)), 1)
    assert stats.chisquare(counts.ravel()).pvalue > 0.01


def test_hmix_boxes_are_uniform():
    """At a small box every placement is as likely as any other, away from the borders."""
    size = (12, 20)
    counts = np.zeros(size)
    for mask in draw_many(make_slot('hmix', hmix_ratio=1.0), 1.0 - 4.0 / 240.0, size):
        counts[mask.box[0], mask.box[2]] += 1
    inner = counts[1:-2, 1:-2]
    assert inner.min() > 0
    assert stats.chisquare(inner.ravel()).pvalue > 0.01


def test_gmix_mean_is_lam_without_borders():
    """Averaged over centres in the middle of an image that the bump fits into."""
    size, whole = (301, 301), 0
    for lam in (0.05, 0.1, 0.9, 0.95):
        for mask in draw_many(make_slot('gmix'), lam, size, count=200):
            cy, cx = np.abs(mask.y).argmax(), np.abs(mask.x).argmax()
            if abs(cy - 150) < 40 and abs(cx - 150) < 40:
                whole += 1
                assert mask.mean == pytest.approx(lam, abs=2e-3)
    assert whole > 20
