"""Distributions of masks: against what the mixers do to images and labels, and brute force over placements."""

import sys
import warnings
from itertools import pairwise

import numpy as np
import pytest
import torch

from hmix_timm import DenseMask, Mixup, register_family
from hmix_timm.draws import NotEnumerable, PlacedDraws, numpy_seed
from hmix_timm.families import FAMILIES, make_slot
from hmix_timm.theory import laws
from hmix_timm.theory.approximation import approximate_loss, original_loss, partner_moments
from hmix_timm.theory.laws import Estimate, bernoulli_law, estimate, mask_support, mixer_supports, mixup_law, slot_law

SIZE = (3, 2)


@pytest.fixture
def noise():
    """A dense family that draws a number for every pixel, so that its placements have no list."""

    @register_family('noise', alpha=2.0)
    def draw(size, lam, options, draws):
        return DenseMask((draws.uniform(size[0] * size[1]) < lam).reshape(size).astype(float))

    yield 'noise'
    del FAMILIES['noise']


@pytest.mark.parametrize(('alpha', 'beta'), [(1, 1), (0.2, 0.2), (0.3, 0.7), (0.5, 1.5), (2, 3), (1e9, 1e9)])
def test_lambda_has_the_moments_of_its_beta_distribution(alpha, beta):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        support = mask_support(mixup_law, alpha, beta, nodes=6)
    assert len(support.weight) == 6
    moment = 1.0
    for k in range(12):
        assert (support.weight**k @ support.probability).item() == pytest.approx(moment, rel=1e-10)
        moment *= (alpha + k) / (alpha + beta + k)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ((0.0, 1.0), 'alpha must be a finite number > 0'),
        ((1.0, 0.0), 'beta must be a finite number > 0'),
        ((1.0, 1.0, 0), 'nodes must be a whole number >= 1'),
        ((2000.0, 1.0), 'alpha and beta are too large for a quadrature, got 2000.0 and 1.0'),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=f'^{message}'):
        mask_support(mixup_law, *arguments)


def test_without_scipy_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'scipy.special', None)  # how Python marks a module that cannot be imported
    with pytest.raises(ImportError, match=r"needs scipy \(pip install 'hmix-timm\[demo\]'\)"):
        mask_support(mixup_law)


def test_the_papers_examples_in_two_dimensions():
    assert [part.tolist() for part in mixup_law(0.3)] == [[0.3], [[0.3, 0.3]], [1.0]]
    weight, masks, probability = bernoulli_law(0.3)
    assert weight.tolist() == [0.3] * 4
    found = dict(zip(map(tuple, masks.tolist()), probability.tolist(), strict=True))
    assert found == pytest.approx({(0, 0): 0.49, (0, 1): 0.21, (1, 0): 0.21, (1, 1): 0.09})
    assert all(part.dtype == torch.float64 for part in (*mixup_law(0.3), weight, masks, probability))


def test_the_law_of_a_slot_has_every_placement_once():
    support = slot_law(make_slot(), SIZE)(0.6)
    expected = np.ones((3, 2, *SIZE))
    for y, x in np.ndindex(SIZE):
        low_y, high_y, low_x, high_x = PlacedDraws((y, x), SIZE).box(SIZE, 0.6)
        expected[y, x, low_y:high_y, low_x:high_x] = 0
    np.testing.assert_array_equal(support.masks.numpy(), expected.reshape(6, 6))
    np.testing.assert_allclose(support.probability.numpy(), np.full(6, 1 / 6))


def test_the_label_weight_of_a_law_is_the_mean_of_the_mask_or_lambda():
    correct = slot_law(make_slot(), SIZE)(0.6)
    np.testing.assert_allclose(correct.weight.numpy(), correct.masks.mean(dim=1).numpy())
    literal = slot_law(make_slot(correct_lam=False), SIZE)(0.6)
    np.testing.assert_array_equal(literal.weight.numpy(), np.full(6, 0.6))


def test_a_law_repeats_the_mask_in_every_channel():
    support = slot_law(make_slot('gmix'), SIZE, channels=3)(0.3)
    grey = slot_law(make_slot('gmix'), SIZE)(0.3)
    np.testing.assert_array_equal(support.masks.numpy(), np.tile(grey.masks.numpy(), 3))


def test_a_family_without_a_list_of_placements_has_no_law(noise):
    with pytest.raises(NotEnumerable, match='numbers besides a box or a centre'):
        slot_law(make_slot(noise), SIZE)(0.5)


def drawn_moments(mixer, count):
    """E[w], E[K], E[K Kᵀ] as the mixer mixes: image i is 1 and its partner 0, so that the mixed image is the mask."""
    x = torch.cat((torch.ones(count, 1, *SIZE), torch.zeros(count, 1, *SIZE))).double()
    y = torch.cat((torch.zeros(count), torch.ones(count))).long()
    mixed, target = mixer(x, y)
    masks, weight = mixed[:count].flatten(1).numpy(), target[:count, 0].double().numpy()[:, None]
    first = weight * (1 - masks) + (1 - weight) * masks
    second = np.einsum('n,ni,nj->ij', weight[:, 0], 1 - masks, 1 - masks)
    second += np.einsum('n,ni,nj->ij', 1 - weight[:, 0], masks, masks)
    return weight.mean(), first.mean(axis=0), second / count


MIXERS = {
    'none': {},
    'mixup': {},
    'cutmix': {},
    'stochastic': {'switch_prob': 0.8, 'mixup_alpha': 0.3},
    'hmix': {'hmix_ratio': 0.6},
    'gmix': {'prob': 0.7},
}


@pytest.mark.parametrize('name', MIXERS)
def test_a_listed_support_is_what_the_mixer_does_to_a_batch(name):
    mixer = Mixup.from_mode(name, **MIXERS[name], mode='elem', num_classes=2, label_smoothing=0.0)
    (support,) = mixer_supports(mixer, SIZE, nodes=200)
    assert support.probability.sum().item() == pytest.approx(1.0)
    with numpy_seed(0):
        weight, first, second = drawn_moments(mixer, 2000)
    moments = partner_moments(support)
    # all of it lies in [0, 1], so that the standard error is below 0.5 / √2000 = 0.011; the quadrature errs by less
    assert (support.weight @ support.probability).item() == pytest.approx(weight, abs=0.035)
    np.testing.assert_allclose(moments.first.numpy(), first, atol=0.035)
    np.testing.assert_allclose(moments.second.numpy(), second, atol=0.035)


@pytest.mark.parametrize(
    ('prob', 'switch_prob', 'shares'),
    # an image as it is, λ at three points with Mixup, and all boxes
    [(0.6, 0.75, [0.4, 0.15, 0.45]), (1.0, 0.0, [0.0, 1.0]), (1.0, 1.0, [0.0, 0.0, 1.0]), (0.0, 0.5, [1.0])],
)
def test_slots_come_with_their_probabilities(prob, switch_prob, shares):
    mixer = Mixup.from_mode('stochastic', mixup_alpha=0.3, cutmix_alpha=2.0, prob=prob, switch_prob=switch_prob)
    (support,) = mixer_supports(mixer, (2, 2), nodes=3)
    counts = [1, *[3] * (prob * (1 - switch_prob) > 0), len(support.weight)]
    ends = np.cumsum([0, *counts]).clip(max=counts[-1])
    found = [support.probability[a:b].sum().item() for a, b in pairwise(ends) if a < b]
    assert found == pytest.approx([shares[0], *filter(None, shares[1:])])


@pytest.mark.parametrize('name', ['cutmix', 'hmix'])
@pytest.mark.parametrize('size', [(4, 4), (3, 5)])
def test_moments_over_boxes_are_exact_whatever_the_number_of_nodes(name, size):
    """By hand: boxes change where (1 - λ) r is (k / H)² or (k / W)²; Gauss between these, with Beta(2, 2)'s density."""
    mixer = Mixup.from_mode(name, cutmix_alpha=2.0)
    ratio = mixer.hmix_ratio if name == 'hmix' else 1.0
    ends = [1 - (k / n) ** 2 / ratio for n in size for k in range(n + 1)]
    ends = sorted({0.0, *(round(end, 12) for end in ends if end > 0)})
    points, weights = np.polynomial.legendre.leggauss(4)
    expected = 0.0
    for low, high in pairwise(ends):
        for lam, weight in zip((low + high + (high - low) * points) / 2, weights * (high - low) / 2, strict=True):
            for pixel in np.ndindex(size):
                mask, label = mixer.draw_mask(size, lam, PlacedDraws(pixel, size))
                own = mask.array(size)
                second = label * (1 - own) ** 2 + (1 - label) * own**2
                expected += weight * 6 * lam * (1 - lam) * second.mean() / (size[0] * size[1])
    for nodes in (2, 16):
        found = estimate(
            mixer_supports(mixer, size, nodes=nodes), lambda s: partner_moments(s).second.diagonal().mean()
        )
        assert found == (pytest.approx(expected, rel=1e-9), None)


def data(count=10):
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x - x.mean(dim=0), (torch.arange(count) % 2).double()


def curved_model(x):
    return torch.sin(x[:, 0] + x[:, 3]) + 0.5 * x[:, 1] * x[:, 4] - 0.3 * x[:, 5] ** 2


def original(support):
    return original_loss(curved_model, *data(), support)


def approximate(support):
    return approximate_loss(curved_model, *data(), partner_moments(support))


def test_the_loss_of_drawn_masks_agrees_within_its_standard_error():
    mixer = Mixup.from_mode('hmix', num_classes=2)
    exact = estimate(mixer_supports(mixer, SIZE, nodes=200), original)
    assert exact.standard_error is None
    found = [estimate(mixer_supports(mixer, SIZE, samples=640, seed=seed), original) for seed in range(20)]
    z = [(one.value - exact.value) / one.standard_error for one in found]
    assert np.abs(z).max() < 4
    assert 0.5 < np.square(z).mean() < 2  # the standard error is neither too small nor too large


def test_the_approximate_loss_of_drawn_masks_agrees_within_its_standard_error():
    mixer = Mixup.from_mode('gmix', num_classes=2)
    exact = estimate(mixer_supports(mixer, SIZE, nodes=200), approximate)
    found = estimate(mixer_supports(mixer, SIZE, samples=1600), approximate)
    assert 0 < found.standard_error < 0.02
    assert abs(found.value - exact.value) < 4 * found.standard_error


def test_a_family_without_a_list_has_a_loss_with_a_standard_error(noise):
    # independent pixels, M ~ Bernoulli(λ), w = mean of M: listed by hand over all 2⁶ masks, λ ~ Beta(2, 2)
    lams = mask_support(mixup_law, 2.0, 2.0, 30)
    masks = torch.tensor([[(k >> i) & 1 for i in range(6)] for k in range(64)], dtype=torch.float64)
    kept = masks.sum(dim=1)
    probability = (lams.weight[:, None] ** kept * (1 - lams.weight[:, None]) ** (6 - kept)).T @ lams.probability
    x, y = data()
    expected = 0.0
    for mask, p in zip(masks, probability, strict=True):
        mixed = mask * x[:, None] + (1 - mask) * x[None, :]
        label = mask.mean() * y[:, None] + (1 - mask.mean()) * y[None, :]
        value = curved_model(mixed.flatten(0, 1)).view_as(label)
        expected += p.item() * (torch.log1p(torch.exp(value)) - label * value).mean().item()
    found = estimate(mixer_supports(Mixup.from_mode(noise), SIZE), original)
    assert found.standard_error is not None and found.standard_error < 0.02
    assert abs(found.value - expected) < 5 * found.standard_error


def test_images_too_large_to_list_have_their_masks_drawn(monkeypatch):
    mixer = Mixup.from_mode('gmix', gmix_kernel='paper')  # nothing jumps
    # nodes · (H · W placements) · (channels · H · W values)
    monkeypatch.setattr(laws, 'EXACT_VALUES', 3 * 6 * 12)
    assert len(mixer_supports(mixer, SIZE, channels=2, nodes=3)) == 1
    drawn = mixer_supports(mixer, SIZE, channels=2, nodes=4)
    assert [support.masks.shape for support in drawn] == [(64, 12)] * 64


def test_numpys_generator_is_left_alone():
    np.random.seed(3)
    expected = np.random.random(3)
    np.random.seed(3)
    mixer_supports(Mixup.from_mode('hmix'), SIZE, samples=64)
    assert (np.random.random(3) == expected).all()


def test_too_few_samples_for_a_standard_error_are_refused():
    with pytest.raises(ValueError, match='samples must be a whole number >= 64, got 63'):
        mixer_supports(Mixup.from_mode('hmix'), SIZE, samples=63)


def test_an_estimate_is_the_mean_over_supports_and_its_error():
    assert estimate([2.0], lambda value: value) == Estimate(2.0, None)
    assert estimate([1.0, 2.0, 6.0], lambda value: value) == pytest.approx((3.0, np.sqrt((4 + 1 + 9) / 2 / 3)))
