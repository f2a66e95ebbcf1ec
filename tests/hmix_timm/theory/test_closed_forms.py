"""Closed forms against an enumeration under each one's own assumptions."""

import itertools
import math

import numpy as np
import pytest

from hmix_timm.families import cutmix_mask, gmix_mask, hmix_mask
from hmix_timm.masks import mixup_mask
from hmix_timm.theory.closed_forms import (
    box_coverage,
    cutmix_map,
    cutmix_matrix,
    gmix_coefficient,
    hmix_map,
    hmix_matrix,
    mixup_coefficient,
    stochastic_coefficient,
)

SIZE = (8, 6)


def products(masks) -> np.ndarray:
    """E[(1 − M_j)(1 − M_k)] for all pixels j and k, (H, W, H, W)."""
    rest = np.stack([1.0 - mask.array(SIZE) for mask in masks])
    return np.einsum('pab,pcd->abcd', rest, rest) / len(rest)


def inside_boxes(height: int, width: int):
    """Boxes of the given sides wholly inside, at the paper's n − s start positions."""
    for y, x in itertools.product(range(SIZE[0] - height), range(SIZE[1] - width)):
        yield y, y + height, x, x + width


def average(matrix: np.ndarray) -> np.ndarray:
    """Mean over in-image pixel pairs for every displacement."""
    height, width = SIZE
    total, count = np.zeros((2 * height - 1, 2 * width - 1)), np.zeros((2 * height - 1, 2 * width - 1))
    for a, b, c, d in np.ndindex(matrix.shape):
        total[c - a + height - 1, d - b + width - 1] += matrix[a, b, c, d]
        count[c - a + height - 1, d - b + width - 1] += 1
    return total / count


def test_mixup():
    np.testing.assert_allclose(products([mixup_mask(0.3)]), mixup_coefficient(0.3))


@pytest.mark.parametrize('lam', [0.05, 0.3, 0.5, 0.75, 0.99, 1.0])
def test_cutmix_equation_10(lam):
    sides = [int(n * math.sqrt(1 - lam)) for n in SIZE]
    expected = products([cutmix_mask(SIZE, box) for box in inside_boxes(*sides)])
    np.testing.assert_allclose(cutmix_matrix(lam, SIZE), expected, atol=1e-13)
    np.testing.assert_allclose(cutmix_map(lam, SIZE), average(expected), atol=1e-13)


@pytest.mark.parametrize(('lam', 'ratio'), [(0.05, 0.9), (0.3, 0.5), (0.5, 0.5), (0.65, 1.0), (0.8, 0.0)])
def test_hmix_literal_mask(lam, ratio):
    sides = [int(n * math.sqrt((1 - lam) * ratio)) for n in SIZE]
    expected = products([hmix_mask(SIZE, lam, ratio, box, correct_lam=False) for box in inside_boxes(*sides)])
    np.testing.assert_allclose(hmix_matrix(lam, ratio, SIZE), expected, atol=1e-13)
    np.testing.assert_allclose(hmix_map(lam, ratio, SIZE), average(expected), atol=1e-13)


def test_hmix_default_mask_where_sides_are_integers():
    lam, ratio = 0.5, 0.5  # q = 1/4: sides 4 and 3
    expected = products([hmix_mask(SIZE, lam, ratio, box) for box in inside_boxes(4, 3)])
    np.testing.assert_allclose(hmix_matrix(lam, ratio, SIZE), expected, atol=1e-13)


def test_hmix_goes_from_mixup_to_cutmix():
    np.testing.assert_allclose(hmix_matrix(0.4, 0.0, SIZE), mixup_coefficient(0.4))
    np.testing.assert_allclose(hmix_matrix(0.4, 1.0, SIZE), cutmix_matrix(0.4, SIZE))


def test_stochastic():
    masks = [cutmix_mask(SIZE, box) for box in inside_boxes(4, 3)]
    expected = products(masks + [mixup_mask(0.75)] * len(masks))
    result = stochastic_coefficient(mixup_coefficient(0.75), cutmix_matrix(0.75, SIZE))
    np.testing.assert_allclose(result, expected, atol=1e-13)


def test_the_last_pixel_is_never_covered():
    coverage = box_coverage(5, 2)
    assert coverage[4, 4] == 0
    assert np.diag(coverage).sum() == pytest.approx(2)  # 2 of 5 pixels at each of the 3 start positions
    assert coverage[0, 0] == pytest.approx(1 / 3) and coverage[1, 2] == pytest.approx(1 / 3)


def test_box_filling_the_image_is_refused():
    with pytest.raises(ValueError, match='wholly inside'):
        cutmix_matrix(0.0, SIZE)


@pytest.mark.parametrize('kernel', ['paper', 'reference'])
@pytest.mark.parametrize('lam', [0.2, 0.35, 0.5, 0.7, 0.9])
def test_gmix_on_an_unbounded_plane(kernel, lam):
    size, n2 = (12, 10), 12 * 10
    reach = 32 if kernel == 'paper' else 24  # the bump is below 1e-6 from here on
    pixels = [(3, 4), (3, 9), (10, 4), (11, 1)]
    rest_sums, product_sums = np.zeros(len(pixels)), np.zeros(len(pixels))
    inverted = kernel == 'reference' and lam < 0.5  # there M, and not 1 − M, is the bump
    for centre in itertools.product(range(-reach, size[0] + reach), range(-reach, size[1] + reach)):
        offset, y, x = gmix_mask(size, lam, centre, kernel).factors(size)
        bump = offset + np.outer(y, x) if inverted else 1.0 - offset - np.outer(y, x)
        values = np.array([bump[p] for p in pixels])
        rest_sums += values / n2
        product_sums += values[0] * values / n2
    expected = 1.0 - rest_sums[0] - rest_sums + product_sums if inverted else product_sums
    distance = np.array([math.dist(pixels[0], p) for p in pixels])
    np.testing.assert_allclose(gmix_coefficient(distance, lam, size, kernel), expected, atol=1e-5)


@pytest.mark.parametrize('kernel', ['paper', 'reference'])
@pytest.mark.parametrize(('lam', 'expected'), [(0.0, 1.0), (1.0, 0.0)])
def test_gmix_at_the_ends(kernel, lam, expected):
    assert gmix_coefficient(0.0, lam, SIZE, kernel) == expected


def test_equation_11_does_not_describe_the_reference_kernel():
    assert gmix_coefficient(0.0, 0.5, (64, 64), 'paper') == pytest.approx(0.5)
    assert gmix_coefficient(0.0, 0.5, (64, 64), 'reference') == pytest.approx(0.25)
