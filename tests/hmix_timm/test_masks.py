"""Masks by themselves: their arrays and means written out by hand, and the masks that are not sound."""

import numpy as np
import pytest

from hmix_timm.families import gmix_mask, hmix_mask
from hmix_timm.masks import BoxMask, DenseMask, Mix, ProductMask, Resized, problem_with

SIZE = (3, 4)
BOX = BoxMask(0.6, (1, 3, 2, 4))
PRODUCT = ProductMask(0.1, np.array([0.5, 0.25, 0.0]), np.array([1.0, 0.0, 0.5, 0.8]))


@pytest.mark.parametrize(
    ('mask', 'expected'),
    [
        (BOX, [[0.6, 0.6, 0.6, 0.6], [0.6, 0.6, 0, 0], [0.6, 0.6, 0, 0]]),
        (PRODUCT, [[0.6, 0.1, 0.35, 0.5], [0.35, 0.1, 0.225, 0.3], [0.1, 0.1, 0.1, 0.1]]),
        (DenseMask(np.eye(3, 4, dtype=bool)), np.eye(3, 4)),
        (Mix(BOX, Resized((0, 1, 0, 1))), BOX.array(SIZE)),
    ],
    ids=['box', 'product', 'dense', 'mix'],
)
def test_arrays_and_means(mask, expected):
    np.testing.assert_allclose(mask.array(SIZE), expected, atol=1e-15)
    assert mask.array(SIZE).dtype == np.float64
    assert mask.mean(SIZE) == pytest.approx(np.mean(expected))
    if factors := mask.factors(SIZE):
        c, y, x = factors
        np.testing.assert_allclose(c + np.outer(y, x), expected, atol=1e-15)


def test_the_mean_of_half_precision_is_in_double():
    values = np.array([[0.1, 0.2, 0.7]], np.float16)
    assert DenseMask(values).mean((1, 3)) == sum(map(float, values[0])) / 3  # no float16 lies as near


def test_hmix_pays_back_the_part_of_its_box_that_a_border_cuts_off():
    mask = hmix_mask((4, 4), 0.6, 0.5, (0, 2, 1, 3))  # the box has 4 of 16 pixels
    assert (mask.outside, mask.box, mask.mean((4, 4))) == (pytest.approx(0.8), (0, 2, 1, 3), pytest.approx(0.6))
    assert hmix_mask((4, 4), 0.6, 0.5, (0, 2, 1, 3), correct_lam=False).outside == pytest.approx(0.6 / 0.8)
    assert hmix_mask((4, 4), 0.0, 1.0, (0, 4, 0, 4)).outside == 0.0
    assert hmix_mask((4, 4), 0.0, 1.0, (0, 2, 1, 3), correct_lam=False).outside == 0.0
    assert hmix_mask((1, 200), 0.004, 1.0, (0, 1, 0, 199)).outside == pytest.approx(0.8)


@pytest.mark.parametrize('centre', [(-2, 9), (5, -1)])
@pytest.mark.parametrize('lam', [0.3, 0.8])
def test_gmix_may_have_its_centre_outside_the_image(lam, centre):
    rows, columns = np.ogrid[:4, :5]
    bump = np.exp(-np.pi * ((rows - centre[0]) ** 2 + (columns - centre[1]) ** 2) / (min(lam, 1 - lam) * 20))
    np.testing.assert_allclose(gmix_mask((4, 5), lam, centre).array((4, 5)), bump if lam < 0.5 else 1 - bump)


@pytest.mark.parametrize('box', [(0, 3, 0, 4), (1, 3, 2, 4), (0, 1, 0, 1), (3, 3, 4, 4), (2, 2, 1, 3), (1, 2, 3, 3)])
def test_boxes_up_to_the_edges_are_sound(box):
    assert problem_with(BoxMask(1.0, box), SIZE) is None


@pytest.mark.parametrize('box', [(-1, 1, 0, 1), (0, 1, -1, 1), (2, 1, 0, 1), (0, 1, 2, 1), (0, 4, 0, 1), (0, 1, 0, 5)])
def test_boxes_beyond_the_edges_are_not(box):
    assert 'does not lie in 3×4 pixels' in problem_with(BoxMask(1.0, box), SIZE)


def dense_with(value):
    values = np.full(SIZE, 0.5)
    values[2, 3] = value
    return DenseMask(values)


def product_with(value):
    return ProductMask(0.5, np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0, 0.0, value - 0.5]))


@pytest.mark.parametrize('value', [0.0, 1.0, -9e-7, 1.0 + 9e-7])
def test_values_from_0_to_1_are_sound_up_to_rounding(value):
    assert problem_with(dense_with(value), SIZE) is problem_with(product_with(value), SIZE) is None
    assert problem_with(BoxMask(value), SIZE) is None


@pytest.mark.parametrize(
    ('mask', 'problem'),
    [
        (dense_with(-2e-6), 'it has values from -2e-06 to 0.5, outside [0, 1]'),
        (product_with(1.1), 'it has values from 0.5 to 1.1, outside [0, 1]'),
        (dense_with(np.nan), 'it has values that are not finite'),
        (dense_with(np.inf), 'it has values that are not finite'),
        (0.5, 'it is a float, no BoxMask, ProductMask, DenseMask or Mix'),
        (DenseMask([[0.5]]), 'its values are a list, not a numpy array'),
        (DenseMask(np.zeros((4, 3))), 'its shape is (4, 3), not (3, 4)'),
        (ProductMask(0.0, np.zeros(3), np.zeros(3)), 'its shape is (3, 3), not (3, 4)'),
        (ProductMask(0.0, np.zeros(4), np.zeros(4)), 'its shape is (4, 4), not (3, 4)'),
        (BoxMask(-0.75, (0, 1, 0, 1)), 'it has values from -0.75 to -0.75, outside [0, 1]'),
        (BoxMask(np.nan), 'it has values that are not finite'),
        (ProductMask(0.5, np.array([0.0, np.inf, 0.0]), np.zeros(4)), 'it has values that are not finite'),
        (ProductMask(0.0, [1.0, 1.0, 1.0], np.ones(4)), 'its values are a list, not a numpy array'),
        (Mix(BOX, Resized((0, 4, 0, 1))), 'its box (0, 4, 0, 1) does not lie in 3×4 pixels'),
        (Mix(BOX, (0, 1, 0, 1)), 'its partner is a tuple, neither Resized nor None'),
        (Mix(DenseMask(np.zeros((4, 3))), Resized((0, 3, 0, 4))), 'its shape is (4, 3), not (3, 4)'),
        (Mix(Mix(BOX), Resized((0, 1, 0, 1))), 'it is a Mix of a Mix'),
        (BoxMask(1.0, (0, 1.5, 0, 2)), 'its box (0, 1.5, 0, 2) is not four whole numbers'),
        (Mix(BOX, Resized((0, 2))), 'its box (0, 2) is not four whole numbers'),
        (BoxMask(1.0, None), 'its box None is not four whole numbers'),
        (BoxMask(None), 'its constant is a NoneType, no number'),
        (ProductMask('0', np.zeros(3), np.zeros(4)), 'its constant is a str, no number'),
        (BoxMask(np.float16(0.5), np.array([0, 3, 0, 4])), None),
        (Mix(BOX), None),
    ],
)
def test_a_problem_is_named(mask, problem):
    assert problem_with(mask, SIZE) == problem
