"""Coefficient maps: against brute force, the paper's formulas, real batches of the mixers, and timm's own boxes."""

from collections import Counter

import numpy as np
import pytest
import torch

from hmix_timm import Mixup
from hmix_timm.draws import NUMPY_DRAWS, PlacedDraws, numpy_seed
from hmix_timm.families import gmix_mask, hmix_mask, make_slot
from hmix_timm.masks import BoxMask, DenseMask, ProductMask
from hmix_timm.theory import coefficients
from hmix_timm.theory.coefficients import coefficient_map, gmix_formula, mean_products

from .oracles import brute_force_map, cutmix_matrix, hmix_matrix, inside_boxes, map_of

SIZE = (8, 6)


def test_mean_products_equal_brute_force_for_every_kind_of_mask():
    rng = np.random.default_rng(0)
    size = (5, 4)
    masks = [
        BoxMask(0.7, (1, 3, 0, 2)),
        DenseMask(rng.random(size)),
        BoxMask(0.4),
        *(ProductMask(rng.random(), rng.normal(size=5), rng.normal(size=4)) for _ in range(3)),
        DenseMask(rng.random(size)),
    ]
    for some in (masks, masks[1:2], masks[:1], [BoxMask(value) for value in np.linspace(0.0, 1.0, 5000)]):
        expected = brute_force_map(np.stack([mask.array(size) for mask in some]))
        np.testing.assert_allclose(mean_products(iter(some), size), expected, atol=1e-12)


@pytest.mark.parametrize('lam', [0.05, 0.3, 0.5, 0.75, 1.0])
def test_boxes_wholly_inside_have_the_coefficients_of_equation_10(lam):
    masks = [BoxMask(1.0, box) for box in inside_boxes(SIZE, 1 - lam)]
    np.testing.assert_allclose(mean_products(masks, SIZE), map_of(cutmix_matrix(lam, SIZE)), atol=1e-13)


@pytest.mark.parametrize(
    ('lam', 'ratio', 'literal'), [(0.05, 0.9, True), (0.3, 0.5, True), (0.8, 0.0, True), (0.5, 0.5, False)]
)
def test_hmix_with_boxes_wholly_inside_has_the_papers_coefficients(lam, ratio, literal):
    # the default mask is the literal one where the sides are whole pixels: at λ = r = 1/2 they are 4 and 3
    boxes = inside_boxes(SIZE, (1 - lam) * ratio)
    masks = [hmix_mask(SIZE, lam, ratio, box, correct_lam=not literal) for box in boxes]
    np.testing.assert_allclose(mean_products(masks, SIZE), map_of(hmix_matrix(lam, ratio, SIZE)), atol=1e-13)


@pytest.mark.parametrize('lam', [0.2, 0.5, 0.9])
def test_gmix_as_printed_has_the_coefficients_of_equation_11_without_borders(lam):
    reach = 32  # the bump is below 1e-6 from here on
    centres = [(y, x) for y in range(-reach, SIZE[0] + reach) for x in range(-reach, SIZE[1] + reach)]
    found = mean_products((gmix_mask(SIZE, lam, centre, 'paper') for centre in centres), SIZE)
    distance = np.hypot(np.arange(-7, 8)[:, None], np.arange(-5, 6))
    expected = gmix_formula(distance, lam, SIZE)
    np.testing.assert_allclose(found * len(centres) / (SIZE[0] * SIZE[1]), expected, atol=1e-5)


def test_equation_11_at_both_ends():
    assert gmix_formula(0.0, 0.0, SIZE) == 1.0 and gmix_formula(0.0, 1.0, SIZE) == gmix_formula(3.0, 1.0, SIZE) == 0.0


@pytest.mark.parametrize(('size', 'lam'), [((9, 7), 0.5), ((9, 7), 0.9), ((8, 8), 0.0), ((4, 4), 1.0)])
def test_listed_boxes_are_those_that_the_installed_timm_draws(size, lam):
    count = 6000
    with numpy_seed(7):
        drawn = Counter(NUMPY_DRAWS.box(size, lam) for _ in range(count))
    listed = Counter(PlacedDraws(pixel, size).box(size, lam) for pixel in np.ndindex(size))
    assert set(drawn) == set(listed)
    for box, times in listed.items():
        p = times / (size[0] * size[1])
        assert abs(drawn[box] - count * p) < 6 * np.sqrt(count * p * (1 - p))


@pytest.mark.parametrize(
    ('mode', 'options'),
    [
        ('cutmix', {}),
        ('hmix', {'hmix_ratio': 0.75}),
        ('hmix', {'hmix_ratio': 0.6, 'correct_lam': False}),
        ('gmix', {'gmix_kernel': 'paper'}),
        ('gmix', {'gmix_kernel': 'reference'}),
    ],
)
def test_a_map_describes_what_the_mixer_does_to_a_batch(mode, options):
    # an enormous alpha makes every λ 0.5; image i is 1, its partner 0, so that the mixed image is the mask
    half, size = 1500, (7, 5)
    mixer = Mixup(0.0, 1e9, mode='elem', num_classes=2, cutmix_mode={'cutmix': 'bbox'}.get(mode, mode), **options)
    x = torch.cat((torch.ones(half, 1, *size), torch.zeros(half, 1, *size))).double()
    with numpy_seed(1):
        mixed, _ = mixer(x, torch.zeros(2 * half, dtype=torch.long))
    exact = coefficient_map(mode, 0.5, size, **options).values
    if options == {'gmix_kernel': 'reference'}:  # which has a jump at λ = 0.5
        exact = (exact + coefficient_map(mode, 0.5 - 1e-6, size, **options).values) / 2
    # products lie in [0, 1], so that the standard error is below 0.5 / √half = 0.013
    np.testing.assert_allclose(brute_force_map(mixed[:half, 0].numpy()), exact, atol=0.04)


def test_monte_carlo_agrees_within_its_standard_error():
    arguments = {'mix_mode': 'hmix', 'hmix_ratio': 0.5, 'lam': 0.6, 'size': (8, 5)}
    exact = coefficient_map(**arguments)
    assert exact.standard_error is None and exact.masks == 40
    found = [coefficient_map(**arguments, samples=650, seed=seed) for seed in range(25)]
    assert found[0].masks == 640
    some = ([7, 9, 7, 10, 2], [4, 4, 2, 6, 5])
    z = np.array([((one.values - exact.values) / one.standard_error)[some] for one in found])
    assert np.abs(z).max() < 6
    assert 0.5 < np.square(z).mean() < 2  # the standard error is neither too small nor too large


def test_the_standard_error_is_that_of_64_independent_parts():
    slot = make_slot('gmix')
    with numpy_seed(5):
        drawn = [slot.draw_mask((2, 3), 0.4)[0].array((2, 3)) for _ in range(128)]
    parts = [brute_force_map(np.stack(drawn[k : k + 2])) for k in range(0, 128, 2)]
    found = coefficient_map('gmix', 0.4, [2, 3], samples=128, seed=5)  # a size from a file is a list
    np.testing.assert_allclose(found.values, np.mean(parts, axis=0), atol=1e-13)
    np.testing.assert_allclose(found.standard_error, np.std(parts, axis=0, ddof=1) / 8, rtol=1e-9)


def test_a_random_ratio_lies_between_its_extremes():
    # Beta(γ, γ) with γ → 0 is Bernoulli(1/2): Stochastic Mixup & CutMix, as the paper says, but for clipped boxes that
    # HMix's blend outside pays back, also at r = 1
    drawn = coefficient_map('hmix', 0.5, (12, 12), hmix_gamma=1e-3)
    ends = [coefficient_map('hmix', 0.5, (12, 12), hmix_ratio=r).values for r in (0.0, 1.0)]
    np.testing.assert_allclose(ends[0], 0.25, atol=1e-12)
    assert drawn.masks == 2**14
    assert (np.abs(drawn.values - np.mean(ends, axis=0)) < 6 * drawn.standard_error + 1e-3).all()


def test_images_too_large_to_list_have_their_masks_drawn(monkeypatch):
    monkeypatch.setattr(coefficients, 'EXACT_PLACEMENTS', 12)
    assert coefficient_map('gmix', 0.3, (3, 4)).masks == 12
    drawn = coefficient_map('gmix', 0.3, (2, 7))
    assert drawn.standard_error is not None and drawn.masks == 2**14


def test_stochastic_is_the_average_and_has_the_error_of_its_drawn_part():
    for samples in (None, 64):
        cutmix = coefficient_map('cutmix', 0.3, (6, 8), samples=samples)
        for given, share in (({}, 0.5), ({'switch_prob': 0.25}, 0.25)):
            stochastic = coefficient_map('stochastic', 0.3, (6, 8), samples=samples, **given)
            assert stochastic.masks == cutmix.masks + 1
            np.testing.assert_allclose(stochastic.values, share * cutmix.values + (1 - share) * 0.49, atol=1e-13)
            if samples:
                np.testing.assert_allclose(stochastic.standard_error, share * cutmix.standard_error)


def test_a_displacement_is_looked_up_in_pixels():
    result = coefficient_map('cutmix', 0.5, (6, 9))
    assert result.values.shape == (11, 17) and coefficient_map('mixup', 0.3).values.shape == (127, 127)
    assert result.at(2, -3) == result.values[7, 5] == pytest.approx(result.at(-2, 3))
    assert result.at(5, -8) == result.values[10, 0]
    for outside in ((6, 0), (-6, 0), (0, 9), (0, -9)):
        with pytest.raises(IndexError, match='±5, ±8'):
            result.at(*outside)


def test_numpys_generator_is_left_alone():
    np.random.seed(3)
    expected = np.random.random(3)
    np.random.seed(3)
    coefficient_map('cutmix', 0.3, (6, 5))
    coefficient_map('hmix', 0.3, (6, 5), samples=64)
    assert (np.random.random(3) == expected).all()


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'mix_mode': 'none'}, 'mix_mode must be one of mixup, cutmix, stochastic, hmix, gmix'),
        ({'lam': 1.001}, 'lam must be a finite number between 0 and 1'),
        ({'lam': -0.001}, 'lam must be'),
        ({'size': (0, 4)}, 'size must be'),
        ({'size': (4, 4, 4)}, 'size must be'),
        ({'hmix_ratio': -1}, 'hmix_ratio must be'),
        ({'gmix_kernel': 'paper'}, "gmix_kernel is for cutmix_mode='gmix'"),
        ({'switch_prob': 1.001}, 'switch_prob must be a finite number between 0 and 1'),
        ({'samples': 63}, 'samples must be a whole number >= 64, got 63'),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        coefficient_map(**{'mix_mode': 'hmix', 'lam': 0.5, 'size': (4, 4), **arguments})
