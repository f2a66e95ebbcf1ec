"""Distributions of masks: against what the mixers really do to images and labels, and brute force over placements."""

import warnings

import numpy as np
import pytest
import torch

from hmix_timm import DenseMask, Mixup, register_family
from hmix_timm.draws import NotEnumerable, PlacedDraws, numpy_seed
from hmix_timm.families import FAMILIES, make_slot
from hmix_timm.masks import mixup_mask
from hmix_timm.theory import laws
from hmix_timm.theory.approximation import approximate_loss, original_loss, partner_moments
from hmix_timm.theory.laws import (
    Estimate,
    bernoulli_law,
    beta_quadrature,
    draw_masks,
    estimate,
    mask_support,
    mixer_supports,
    mixture,
    mixup_law,
    slot_law,
)

SIZE = (3, 2)


@pytest.fixture
def noise():
    """A dense family that draws a number for every pixel, so that its placements have no list."""

    @register_family('noise', alpha=2.0)
    def draw(size, lam, options, draws):
        return DenseMask((draws.uniform(size[0] * size[1]) < lam).reshape(size).astype(float))

    yield 'noise'
    del FAMILIES['noise']


@pytest.mark.parametrize(('alpha', 'beta'), [(1, 1), (0.2, 0.2), (0.5, 0.5), (0.3, 0.7), (2, 3)])
def test_quadrature_has_the_moments_of_the_beta_distribution(alpha, beta):
    points, weights = beta_quadrature(alpha, beta, 6)
    moment = 1.0
    for k in range(12):
        assert (weights * points**k).sum() == pytest.approx(moment, rel=1e-12)
        moment *= (alpha + k) / (alpha + beta + k)


@pytest.mark.parametrize(
    ('arguments', 'name'), [((0.0, 1.0), 'alpha'), ((1.0, -1.0), 'beta'), ((1.0, 1.0, 0), 'nodes')]
)
def test_wrong_arguments_are_named(arguments, name):
    with pytest.raises(ValueError, match=f'{name} must be'):
        mask_support(mixup_law, *arguments)


def test_the_law_of_a_slot_has_every_placement_once():
    support = slot_law(make_slot(), SIZE)(0.6)
    expected = []
    for pixel in np.ndindex(SIZE):
        low_y, high_y, low_x, high_x = PlacedDraws(pixel).box(SIZE, 0.6)
        mask = np.ones(SIZE)
        mask[low_y:high_y, low_x:high_x] = 0
        expected.append(mask.ravel())
    np.testing.assert_array_equal(support.masks.numpy(), expected)
    np.testing.assert_allclose(support.probability.numpy(), np.full(6, 1 / 6))


def test_the_label_weight_of_a_law_is_the_mean_of_the_mask_or_lambda():
    correct = slot_law(make_slot(), SIZE)(0.6)
    np.testing.assert_allclose(correct.weight.numpy(), correct.masks.mean(dim=1).numpy())
    literal = slot_law(make_slot(correct_lam=False), SIZE)(0.6)
    np.testing.assert_array_equal(literal.weight.numpy(), np.full(6, 0.6))


def test_a_law_repeats_the_mask_in_every_channel():
    support = slot_law(make_slot('gmix'), SIZE, channels=3)(0.3)
    grey = slot_law(make_slot('gmix'), SIZE)(0.3)
    assert support.masks.shape == (6, 18)
    np.testing.assert_array_equal(support.masks.numpy().reshape(6, 3, 6)[:, 2], grey.masks.numpy())


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
    'mixup': {},
    'cutmix': {},
    'stochastic': {'switch_prob': 0.8, 'mixup_alpha': 0.3},
    'hmix': {'hmix_ratio': 0.6},
    'gmix': {'prob': 0.7},
}


@pytest.mark.parametrize('name', MIXERS)
def test_exact_supports_are_what_the_mixer_does_to_a_batch(name):
    mixer = Mixup.from_mode(name, **MIXERS[name], mode='elem', num_classes=2, label_smoothing=0.0)
    (support,) = mixer_supports(mixer, SIZE, nodes=200)
    assert support.probability.sum().item() == pytest.approx(1.0)
    with numpy_seed(0):
        weight, first, second = drawn_moments(mixer, 12_000)
    moments = partner_moments(support)
    # all of it lies in [0, 1], so that the standard error is below 0.5 / √12000 = 0.0046; the quadrature errs by less
    assert (support.weight @ support.probability).item() == pytest.approx(weight, abs=0.02)
    np.testing.assert_allclose(moments.first.numpy(), first, atol=0.02)
    np.testing.assert_allclose(moments.second.numpy(), second, atol=0.02)


def test_no_mixing_is_a_mask_of_ones():
    (support,) = mixer_supports(Mixup.from_mode('none'), SIZE)
    assert (support.masks == 1).all() and (support.weight == 1).all()
    assert partner_moments(support).second.abs().max() == 0


def data(count=10):
    x = torch.randn(count, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return x - x.mean(dim=0), (torch.arange(count) % 2).double()


def curved_model(x):
    return torch.sin(x[:, 0] + x[:, 3]) + 0.5 * x[:, 1] * x[:, 4] - 0.3 * x[:, 5] ** 2


LOSSES = {
    'original': lambda support: original_loss(curved_model, *data(), support),
    'approximate': lambda support: approximate_loss(curved_model, *data(), partner_moments(support)),
}


def test_the_original_loss_of_drawn_masks_agrees_within_its_standard_error():
    mixer = Mixup.from_mode('hmix', num_classes=2)
    exact = estimate(mixer_supports(mixer, SIZE, nodes=200), LOSSES['original'])
    assert exact.standard_error is None
    z = []
    for seed in range(20):
        found = estimate(mixer_supports(mixer, SIZE, samples=640, seed=seed), LOSSES['original'])
        z.append((found.value - exact.value) / found.standard_error)
    assert np.abs(z).max() < 4
    assert 0.5 < np.square(z).mean() < 2  # the standard error is neither too small nor too large


def test_the_approximate_loss_of_drawn_masks_agrees_within_its_standard_error():
    mixer = Mixup.from_mode('gmix', num_classes=2)
    exact = estimate(mixer_supports(mixer, SIZE, nodes=200), LOSSES['approximate'])
    found = estimate(mixer_supports(mixer, SIZE, samples=6400), LOSSES['approximate'])
    assert 0 < found.standard_error < 0.01
    assert abs(found.value - exact.value) < 4 * found.standard_error


def test_a_family_without_a_list_has_a_loss_with_a_standard_error(noise):
    # independent pixels, M ~ Bernoulli(λ), w = mean of M: listed by hand over all 2⁶ masks, λ ~ Beta(2, 2)
    points, shares = beta_quadrature(2.0, 2.0, 30)
    masks = torch.tensor([[(k >> i) & 1 for i in range(6)] for k in range(64)], dtype=torch.float64)
    x, y = data()
    expected = 0.0
    for point, share in zip(points, shares, strict=True):
        probability = (masks * point + (1 - masks) * (1 - point)).prod(dim=1)
        for mask, p in zip(masks, probability, strict=True):
            mixed = mask * x[:, None] + (1 - mask) * x[None, :]
            label = mask.mean() * y[:, None] + (1 - mask.mean()) * y[None, :]
            value = curved_model(mixed.flatten(0, 1)).view_as(label)
            expected += share * p.item() * (torch.log1p(torch.exp(value)) - label * value).mean().item()
    supports = mixer_supports(Mixup.from_mode(noise), SIZE)
    assert len(supports) > 1
    found = estimate(supports, LOSSES['original'])
    assert found.standard_error is not None and found.standard_error < 0.02
    assert abs(found.value - expected) < 5 * found.standard_error


def test_images_too_large_to_list_have_their_masks_drawn():
    assert len(mixer_supports(Mixup.from_mode('cutmix'), (8, 8))) == 1
    assert len(mixer_supports(Mixup.from_mode('cutmix'), (64, 64), samples=64)) == 64
    assert len(mixer_supports(Mixup.from_mode('cutmix'), (48, 48), samples=None)) == 64


def test_numpys_generator_is_left_alone():
    np.random.seed(3)
    expected = np.random.random(3)
    np.random.seed(3)
    mixer_supports(Mixup.from_mode('hmix'), SIZE, samples=64)
    assert (np.random.random(3) == expected).all()


def test_too_few_samples_for_a_standard_error_are_refused():
    with pytest.raises(ValueError, match='samples must be >= 64, got 63'):
        mixer_supports(Mixup.from_mode('hmix'), SIZE, samples=63)


def test_an_estimate_is_the_mean_over_supports_and_its_error():
    assert estimate([2.0], lambda value: value) == Estimate(2.0, None)
    found = estimate([1.0, 2.0, 6.0], lambda value: value)
    assert found.value == 3.0
    assert found.standard_error == pytest.approx(np.sqrt((4 + 1 + 9) / 2 / 3))


def test_the_papers_laws_in_two_dimensions():
    mixup = mixup_law(0.3)
    assert [part.tolist() for part in mixup] == [[pytest.approx(0.3)], [[0.3, 0.3]], [1.0]]
    bernoulli = bernoulli_law(0.3)
    assert bernoulli.weight.tolist() == [0.3] * 4
    assert {
        tuple(mask): p for mask, p in zip(bernoulli.masks.tolist(), bernoulli.probability.tolist(), strict=True)
    } == {
        (0, 0): pytest.approx(0.49),
        (0, 1): pytest.approx(0.21),
        (1, 0): pytest.approx(0.21),
        (1, 1): pytest.approx(0.09),
    }
    assert all(part.dtype == torch.float64 for part in (*mixup, *bernoulli))


def test_lambda_is_uniform_at_16_points_by_default():
    support = mask_support(mixup_law)
    assert len(support.weight) == 16
    for power, moment in ((1, 1 / 2), (2, 1 / 3), (5, 1 / 6)):
        assert (support.weight**power @ support.probability).item() == pytest.approx(moment)
    skew = mask_support(mixup_law, 2.0, 1.0)
    assert (skew.weight @ skew.probability).item() == pytest.approx(2 / 3)


def test_one_distribution_of_several():
    found = mixture([(0.25, mixup_law(0.1)), (0.75, bernoulli_law(0.5))])
    assert found.weight.tolist() == [0.1, *[0.5] * 4]
    assert found.probability.tolist() == [0.25, *[0.1875] * 4]
    assert found.masks.tolist() == [[0.1, 0.1], [0, 0], [0, 1], [1, 0], [1, 1]]


@pytest.mark.parametrize(
    ('size', 'channels', 'nodes'), [((2, 2), 1, 6), ((2, 2), 2, 3), ((1, 4), 1, 6), ((4, 1), 1, 6)]
)
def test_supports_are_listed_up_to_a_number_of_values(size, channels, nodes, monkeypatch):
    # nodes · (H · W placements) · (channels · H · W values): 96
    monkeypatch.setattr(laws, 'EXACT_VALUES', 96)
    mixer = Mixup.from_mode('cutmix')
    assert len(mixer_supports(mixer, size, channels=channels, nodes=nodes)) == 1
    assert len(mixer_supports(mixer, size, channels=channels, nodes=nodes + 1)) == 64
    monkeypatch.setattr(laws, 'SAMPLES', 192)
    drawn = mixer_supports(mixer, size, channels=channels, nodes=nodes + 1)
    assert [support.masks.shape for support in drawn] == [(3, 4 * channels)] * 64


def test_slots_come_with_their_probabilities():
    mixer = Mixup.from_mode('stochastic', mixup_alpha=0.3, cutmix_alpha=2.0, prob=0.6, switch_prob=0.75)
    (support,) = mixer_supports(mixer, (2, 2), nodes=3)
    # nothing, λ at three points, and at three more points four boxes each
    assert support.probability.shape == (1 + 3 + 12,)
    shares = [support.probability[part].sum().item() for part in (slice(0, 1), slice(1, 4), slice(4, 16))]
    assert shares == pytest.approx([0.4, 0.15, 0.45])
    points, _ = beta_quadrature(0.3, 0.3, 3)
    np.testing.assert_allclose(support.weight[1:4].numpy(), points)
    for prob, switch_prob, count in ((1.0, 0.0, 4), (1.0, 1.0, 13), (0.0, 0.5, 1)):
        mixer = Mixup.from_mode('stochastic', prob=prob, switch_prob=switch_prob)
        assert len(mixer_supports(mixer, (2, 2), nodes=3)[0].weight) == count


def test_drawn_masks_are_those_of_batches():
    mixer = Mixup.from_mode('hmix', prob=0.5)
    with numpy_seed(2):
        masks, weights = draw_masks(mixer, SIZE, 20)
    assert sum(mask == mixup_mask(1.0) and weight == 1.0 for mask, weight in zip(masks, weights, strict=True)) in range(
        3, 18
    )
    for mask, weight in zip(masks, weights, strict=True):
        assert mask.mean == pytest.approx(weight)


@pytest.mark.parametrize(('arguments', 'name'), [((1.0, 0.0), 'beta'), ((-1.0, 1.0), 'alpha'), ((1, 1, 0.5), 'nodes')])
def test_arguments_at_their_ends_are_named(arguments, name):
    with pytest.raises(ValueError, match=f'^{name} must be a finite number >'):
        beta_quadrature(*arguments, *([3] if len(arguments) == 2 else []))


@pytest.mark.parametrize(('alpha', 'beta'), [(1.0, 1.0), (0.5, 0.5), (0.25, 0.75), (0.5, 1.5)])
def test_no_quadrature_warns(alpha, beta):
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        points, weights = beta_quadrature(alpha, beta, 3)
        single, one = beta_quadrature(alpha, beta, 1)
    assert weights.sum() == pytest.approx(1.0) and weights @ points == pytest.approx(alpha / (alpha + beta))
    assert single == pytest.approx([alpha / (alpha + beta)]) and one == pytest.approx([1.0])
