"""Coefficient maps: against brute force, against what the mixers do to real batches, and timm's own boxes."""

from collections import Counter

import numpy as np
import pytest
import torch

from hmix_timm import Mixup
from hmix_timm.draws import NUMPY_DRAWS, PlacedDraws, numpy_seed
from hmix_timm.families import make_slot
from hmix_timm.masks import BoxMask, DenseMask, ProductMask
from hmix_timm.theory import coefficients
from hmix_timm.theory.coefficients import coefficient_map, mean_products, placed_masks


def brute_force_map(masks: np.ndarray) -> np.ndarray:
    """E over masks (P, H, W) and over pixels i of (1 − M_i)(1 − M_{i+d}), spelled out in loops over displacements."""
    _, height, width = masks.shape
    rest = 1.0 - masks
    result = np.empty((2 * height - 1, 2 * width - 1))
    for dy in range(1 - height, height):
        for dx in range(1 - width, width):
            products = [
                rest[:, y, x] * rest[:, y + dy, x + dx]
                for y in range(max(0, -dy), height - max(0, dy))
                for x in range(max(0, -dx), width - max(0, dx))
            ]
            result[height - 1 + dy, width - 1 + dx] = np.mean(products)
    return result


def test_mean_products_equal_brute_force():
    rng = np.random.default_rng(0)
    size = (5, 4)
    masks = [
        BoxMask(0.7, (1, 3, 0, 2), 4 / 20),
        BoxMask(0.4),
        *(ProductMask(rng.random(), rng.normal(size=5), rng.normal(size=4)) for _ in range(3)),
    ]
    expected = brute_force_map(np.stack([mask.array(size) for mask in masks]))
    np.testing.assert_allclose(mean_products(masks, size), expected, atol=1e-13)


@pytest.mark.parametrize(('size', 'lam'), [((9, 7), 0.5), ((9, 7), 0.9), ((8, 8), 0.0), ((4, 4), 1.0)])
def test_edges_are_those_of_the_installed_timm(size, lam):
    count = 6000
    with numpy_seed(7):
        drawn = Counter(NUMPY_DRAWS.box(size, lam) for _ in range(count))
    listed = Counter(PlacedDraws((y, x)).box(size, lam) for y in range(size[0]) for x in range(size[1]))
    assert set(drawn) == set(listed)
    for box, times in listed.items():
        p = times / (size[0] * size[1])
        assert abs(drawn[box] - count * p) < 6 * np.sqrt(count * p * (1 - p))


def test_numpy_state_is_left_alone():
    np.random.seed(3)
    expected = np.random.random(3)
    np.random.seed(3)
    coefficient_map('cutmix', 0.3, (6, 5))
    coefficient_map('hmix', 0.3, (6, 5), samples=64)
    assert (np.random.random(3) == expected).all()


@pytest.mark.parametrize(
    ('mode', 'mixer_arguments'),
    [
        ('cutmix', {}),
        ('hmix', {'hmix_ratio': 0.75}),
        ('hmix', {'hmix_ratio': 0.6, 'correct_lam': False}),
        ('gmix', {'gmix_kernel': 'paper'}),
        ('gmix', {'gmix_kernel': 'reference'}),
    ],
)
def test_map_describes_what_the_mixer_does_to_a_batch(mode, mixer_arguments):
    # an enormous alpha makes every λ 0.5; image i is 1, its partner 0, so that the mixed image is the mask
    half, size = 6000, (7, 5)
    cutmix_mode = {'cutmix': 'bbox'}.get(mode, mode)
    mixer = Mixup(0.0, 1e9, mode='elem', num_classes=2, cutmix_mode=cutmix_mode, **mixer_arguments)
    x = torch.cat((torch.ones(half, 1, *size), torch.zeros(half, 1, *size))).double()
    with numpy_seed(1):
        mixed, _ = mixer(x, torch.zeros(2 * half, dtype=torch.long))
    sampled = brute_force_map(mixed[:half, 0].numpy())
    exact = coefficient_map(mode, 0.5, size, **mixer_arguments).values
    if mode == 'gmix' and mixer_arguments['gmix_kernel'] == 'reference':  # which has a jump at λ = 0.5
        exact = (exact + coefficient_map(mode, 0.5 - 1e-6, size, **mixer_arguments).values) / 2
    # products lie in [0, 1], so that the standard error is below 0.5 / √half = 0.0065
    np.testing.assert_allclose(sampled, exact, atol=0.025)


@pytest.mark.parametrize(
    'arguments', [{'mix_mode': 'cutmix'}, {'mix_mode': 'hmix', 'hmix_ratio': 0.5}, {'mix_mode': 'gmix'}]
)
def test_monte_carlo_agrees_within_its_standard_error(arguments):
    arguments = {**arguments, 'lam': 0.6, 'size': (8, 5)}
    exact = coefficient_map(**arguments)
    assert exact.standard_error is None and exact.masks == 40
    z = []
    for seed in range(25):
        estimate = coefficient_map(**arguments, samples=640, seed=seed)
        assert estimate.masks == 640 and estimate.standard_error is not None
        z.append(
            [(estimate.at(*d) - exact.at(*d)) / estimate.standard_error[7 + d[0], 4 + d[1]] for d in DISPLACEMENTS]
        )
    z = np.array(z)
    assert np.abs(np.array(z)).max() < 6
    assert 0.5 < np.square(z).mean() < 2  # the standard error is neither too small nor too large


DISPLACEMENTS = [(0, 0), (2, 0), (0, -2), (3, 2), (-5, 1)]


def test_random_ratio_lies_between_its_extremes():
    # Beta(γ, γ) with γ → 0 is Bernoulli(1/2): Stochastic Mixup & CutMix, as the paper says, but for clipped boxes that
    # HMix's blend outside pays back, also at r = 1
    size, lam = (12, 12), 0.5
    drawn = coefficient_map('hmix', lam, size, hmix_gamma=1e-3)
    ends = [coefficient_map('hmix', lam, size, hmix_ratio=r).values for r in (0.0, 1.0)]
    np.testing.assert_allclose(ends[0], 0.25, atol=1e-12)
    assert drawn.standard_error is not None
    assert (np.abs(drawn.values - np.mean(ends, axis=0)) < 6 * drawn.standard_error + 1e-3).all()


def test_stochastic_is_the_average():
    cutmix = coefficient_map('cutmix', 0.3, (6, 8)).values
    stochastic = coefficient_map('stochastic', 0.3, (6, 8), switch_prob=0.25).values
    np.testing.assert_allclose(stochastic, 0.25 * cutmix + 0.75 * 0.7**2, atol=1e-13)


def test_mean_of_rest_is_one_minus_lambda_for_hmix():
    masks = list(placed_masks((9, 6), 0.4, make_slot('hmix', hmix_ratio=0.8)))
    assert len(masks) == 54
    for mask in masks:
        assert mask.array((9, 6)).mean() == pytest.approx(0.4, abs=1e-12)


def test_at_reads_displacements():
    result = coefficient_map('cutmix', 0.5, (6, 9))
    assert result.values.shape == (11, 17)
    assert result.at(2, -3) == result.values[7, 5]
    assert result.at(2, -3) == pytest.approx(result.at(-2, 3))
    with pytest.raises(IndexError, match='±5, ±8'):
        result.at(6, 0)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'mix_mode': 'none'}, 'mix_mode must be one of mixup, cutmix, stochastic, hmix, gmix'),
        ({'lam': 1.5}, 'lam must be'),
        ({'size': (0, 4)}, 'size must be'),
        ({'hmix_ratio': -1}, 'hmix_ratio must be'),
        ({'gmix_kernel': 'other'}, 'gmix_kernel must be one of reference, paper'),
        ({'switch_prob': 2}, 'switch_prob must be'),
        ({'samples': 3}, 'samples must be >= 64'),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        mix_mode = 'gmix' if 'gmix_kernel' in arguments else 'hmix'
        coefficient_map(**{'mix_mode': mix_mode, 'lam': 0.5, 'size': (4, 4), **arguments})


def test_dense_masks_equal_brute_force():
    rng = np.random.default_rng(0)
    dense = [DenseMask(rng.random((5, 4))) for _ in range(2)]
    for masks in (dense, [dense[0], BoxMask(0.7, (1, 3, 0, 2), 4 / 20), dense[1]]):
        expected = brute_force_map(np.stack([mask.array((5, 4)) for mask in masks]))
        np.testing.assert_allclose(mean_products(masks, (5, 4)), expected, atol=1e-13)


def test_many_masks_are_taken_in_parts(monkeypatch):
    masks = [BoxMask(value) for value in np.linspace(0.0, 1.0, 7)]
    whole = mean_products(masks, (2, 3))
    monkeypatch.setattr(coefficients, '_CHUNK', 3)
    np.testing.assert_allclose(mean_products(iter(masks), (2, 3)), whole, atol=1e-14)


def test_images_are_64_pixels_high_and_wide_by_default():
    result = coefficient_map('mixup', 0.3)
    assert result.values.shape == (127, 127) and result.masks == 1 and result.standard_error is None
    np.testing.assert_allclose(result.values, 0.49, atol=1e-9)


@pytest.mark.parametrize('size', [(3, 4), (1, 12), (12, 1)])
def test_placements_are_listed_up_to_a_number_of_pixels(size, monkeypatch):
    monkeypatch.setattr(coefficients, 'SAMPLES', 64)
    monkeypatch.setattr(coefficients, 'EXACT_PLACEMENTS', 12)
    assert coefficient_map('gmix', 0.3, size).standard_error is None
    assert coefficient_map('gmix', 0.3, size, samples=128).masks == 128
    monkeypatch.setattr(coefficients, 'EXACT_PLACEMENTS', 11)
    drawn = coefficient_map('gmix', 0.3, size)
    assert drawn.standard_error is not None and drawn.masks == 64


def test_the_standard_error_is_that_of_64_independent_parts():
    slot = make_slot('gmix')
    with numpy_seed(5):
        parts = [
            brute_force_map(np.stack([slot.draw_mask((2, 3), 0.4)[0].array((2, 3)) for _ in '12'])) for _ in range(64)
        ]
    mean = sum(parts) / 64
    error = np.sqrt(sum((part - mean) ** 2 for part in parts) / 63 / 64)
    found = coefficient_map('gmix', 0.4, (2, 3), samples=128, seed=5)
    np.testing.assert_allclose(found.values, mean, atol=1e-13)
    np.testing.assert_allclose(found.standard_error, error, rtol=1e-9)
    assert found.masks == 128


def test_the_error_of_stochastic_is_that_of_its_drawn_half():
    cutmix = coefficient_map('cutmix', 0.3, (4, 5), samples=64)
    stochastic = coefficient_map('stochastic', 0.3, (4, 5), samples=64, switch_prob=0.25)
    np.testing.assert_allclose(stochastic.standard_error, 0.25 * cutmix.standard_error)
    assert stochastic.masks == 65
    even = coefficient_map('stochastic', 0.3, (4, 5), samples=64)
    np.testing.assert_allclose(even.values, (cutmix.values + 0.49) / 2)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'lam': 1.001}, 'lam must be a finite number between 0 and 1'),
        ({'lam': -0.001}, 'lam must be'),
        ({'switch_prob': 1.001}, 'switch_prob must be a finite number between 0 and 1'),
        ({'size': (4,)}, 'size must be'),
        ({'size': (4, 4, 4)}, 'size must be'),
        ({'samples': 63}, 'samples must be >= 64'),
    ],
)
def test_arguments_just_beyond_their_ends_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        coefficient_map(**{'mix_mode': 'cutmix', 'lam': 0.5, 'size': (4, 4), **arguments})


def test_displacements_reach_to_the_last_pixel():
    result = coefficient_map('mixup', 0.5, (3, 5))
    assert result.at(2, -4) == result.at(-2, 4) == pytest.approx(0.25)
    for wrong in ((3, 0), (-3, 0), (0, 5), (0, -5)):
        with pytest.raises(IndexError, match='±2, ±4'):
            result.at(*wrong)
