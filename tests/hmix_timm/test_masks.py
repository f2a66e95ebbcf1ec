"""Masks by themselves: their arrays and means written out by hand, and which ones are not sound."""

import dataclasses

import numpy as np
import pytest

from hmix_timm.masks import BoxMask, DenseMask, ProductMask, box_fraction, mixup_mask, problem_with

SIZE = (3, 4)
BOX = BoxMask(0.6, (1, 3, 2, 4), 4 / 12)


def test_a_box_is_zero_inside_and_constant_outside():
    expected = [[0.6, 0.6, 0.6, 0.6], [0.6, 0.6, 0, 0], [0.6, 0.6, 0, 0]]
    np.testing.assert_allclose(BOX.array(SIZE), expected, atol=1e-15)
    assert BOX.mean == pytest.approx(0.6 * 8 / 12)


def test_a_product_is_its_profiles_and_a_constant():
    mask = ProductMask(0.1, np.array([0.5, 0.25, 0.0]), np.array([1.0, 0.0, 0.5, 0.8]))
    expected = [[0.6, 0.1, 0.35, 0.5], [0.35, 0.1, 0.225, 0.3], [0.1, 0.1, 0.1, 0.1]]
    np.testing.assert_allclose(mask.array(SIZE), expected)
    assert mask.mean == pytest.approx(np.mean(expected))
    assert mask.factors(SIZE) == (0.1, mask.y, mask.x)


def test_the_mean_of_half_precision_is_in_double():
    values = np.array([[0.1, 0.2, 0.7]], np.float16)
    assert DenseMask(values).mean == sum(map(float, values[0])) / 3  # no float16 lies as near
    assert DenseMask(np.array([[True, False, False]])).mean == 1 / 3
    assert DenseMask(values).array((1, 3)).dtype == np.float64


def test_the_share_of_a_box():
    assert box_fraction((1, 3, 2, 4), SIZE) == 4 / 12
    assert box_fraction((1, 2, 0, 3), SIZE) == 3 / 12
    mask = mixup_mask(0.3)
    assert (mask.outside, mask.box, mask.box_fraction) == (0.3, (0, 0, 0, 0), 0.0)


@pytest.mark.parametrize('box', [(0, 3, 0, 4), (1, 3, 2, 4), (0, 1, 0, 1), (3, 3, 4, 4), (2, 2, 1, 3), (1, 2, 3, 3)])
def test_boxes_up_to_the_edges_are_sound(box):
    assert problem_with(BoxMask(1.0, box, box_fraction(box, SIZE)), SIZE) is None


@pytest.mark.parametrize('box', [(-1, 1, 0, 1), (0, 1, -1, 1), (2, 1, 0, 1), (0, 1, 2, 1), (0, 4, 0, 1), (0, 1, 0, 5)])
def test_boxes_beyond_the_edges_are_not(box):
    assert 'does not lie in 3×4 pixels' in problem_with(BoxMask(1.0, box, 0.0), SIZE)


@pytest.mark.parametrize(('error', 'sound'), [(9e-7, True), (-9e-7, True), (2e-6, False), (-2e-6, False)])
def test_the_share_is_that_of_the_box(error, sound):
    mask = BoxMask(0.6, (1, 3, 2, 4), 4 / 12 + error)
    assert (problem_with(mask, SIZE) is None) is sound


@pytest.mark.parametrize(
    ('value', 'problem'),
    [
        (0.0, None),
        (1.0, None),
        (-9e-7, None),
        (1.0 + 9e-7, None),
        (-2e-6, 'it has values from -2e-06 to 0.5, outside [0, 1]'),
        (1.1, 'it has values from 0.5 to 1.1, outside [0, 1]'),
        (np.nan, 'it has values that are not finite'),
        (np.inf, 'it has values that are not finite'),
    ],
)
def test_values_lie_between_0_and_1(value, problem):
    values = np.full(SIZE, 0.5)
    values[2, 3] = value
    profile = ProductMask(0.5, np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0, 0.0, value - 0.5]))
    for mask in (DenseMask(values), *([profile] if np.isfinite(value) else [])):
        found = problem_with(mask, SIZE)
        if problem is None:
            assert found is None
        else:
            assert found == problem


@pytest.mark.parametrize(
    ('mask', 'problem'),
    [
        (0.5, 'it is a float, neither BoxMask nor ProductMask nor DenseMask'),
        (DenseMask([[0.5]]), 'its values are a list, not a numpy array'),
        (DenseMask(np.zeros((4, 3))), 'its shape is (4, 3), not (3, 4)'),
        (ProductMask(0.0, np.zeros(3), np.zeros(3)), 'its shape is (3, 3), not (3, 4)'),
        (ProductMask(0.0, np.zeros(4), np.zeros(4)), 'its shape is (4, 4), not (3, 4)'),
        (BOX, None),
    ],
)
def test_what_is_no_mask_of_this_size_is_named(mask, problem):
    assert problem_with(mask, SIZE) == problem


def test_the_share_that_is_wrong_is_told_with_its_box():
    found = problem_with(BoxMask(0.6, (1, 3, 2, 4), 0.5), SIZE)
    assert found == 'its box_fraction 0.5 is not the share of (1, 3, 2, 4) in 3×4 pixels'


@pytest.mark.parametrize(
    ('mask', 'field'),
    [(BOX, 'outside'), (ProductMask(0.0, np.ones(3), np.ones(4)), 'y'), (DenseMask(np.ones(SIZE)), 'values')],
)
def test_a_mask_is_not_changed_once_it_is_drawn(mask, field):
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(mask, field, None)


def test_masks_of_arrays_are_told_apart_by_themselves():
    """What is remembered for a mask is found again by it, and not by another one that holds the same array."""
    values = np.ones(SIZE)
    for make in (lambda: DenseMask(values), lambda: ProductMask(0.0, values[:, 0], values[0])):
        mask, other = make(), make()
        assert {mask: 1, other: 2}[mask] == 1
