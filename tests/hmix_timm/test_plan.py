"""What each kind of mask asks for, by hand; and in which blocks it is done."""

import numpy as np
import pytest
import torch

from hmix_timm.blend import plan as plans
from hmix_timm.blend.plan import NOTHING, Plan, blocks, make_plan, planner
from hmix_timm.masks import BoxMask, DenseMask, ProductMask

TYPES = pytest.mark.parametrize(
    ('dtype', 'exact'),
    [(torch.float32, torch.float32), (torch.float64, torch.float64), (torch.bfloat16, torch.float32)],
)


def test_no_mask_asks_for_nothing():
    assert make_plan(None, torch.float32) is NOTHING and (NOTHING.weight, NOTHING.box, NOTHING.reads) == (None,) * 3


@pytest.mark.parametrize(
    ('mask', 'repeat', 'weight', 'box'),
    [
        (BoxMask(0.75), 1, 0.25, None),
        (BoxMask(0.0), 1, 1.0, None),
        (BoxMask(1.0), 1, None, None),
        (BoxMask(1.0, (1, 2, 3, 5), 0.1), 1, None, (..., slice(1, 2), slice(3, 5))),
        (BoxMask(1.0, (1, 2, 3, 5), 0.1), 3, None, (..., slice(1, 2), slice(9, 15))),
        (BoxMask(0.75, (1, 2, 3, 5), 0.1), 1, 0.25, (..., slice(1, 2), slice(3, 5))),
        (BoxMask(1.0, (2, 2, 3, 3), 0.0), 1, None, None),
    ],
)
def test_boxes(mask, repeat, weight, box):
    found = make_plan(mask, torch.float32, repeat)
    assert found == Plan(weight, box)
    assert found.reads == (box if weight is None else ...)


PROFILES = np.array([0.5, 0.25]), np.array([1.0, 0.0, 0.4])
OUTER = [[0.5, 0.0, 0.2], [0.25, 0.0, 0.1]]


@TYPES
@pytest.mark.parametrize('repeat', [1, 2])
@pytest.mark.parametrize('offset', [0.0, 0.25, 1.0])
def test_products(dtype, exact, repeat, offset):
    found = make_plan(ProductMask(offset, *PROFILES), dtype, repeat)
    assert found.box is None and found.reads is ... and found.weight.dtype == exact
    expected = np.repeat(1.0 - offset - np.array(OUTER), repeat, axis=1)
    np.testing.assert_allclose(found.weight.numpy(), expected, atol=1e-7)
    if exact is torch.float64:
        np.testing.assert_allclose(found.weight.numpy(), expected, atol=1e-15)


@TYPES
@pytest.mark.parametrize('repeat', [1, 2])
def test_arrays(dtype, exact, repeat):
    found = make_plan(DenseMask(np.array(OUTER)), dtype, repeat)
    assert found.box is None and found.reads is ... and found.weight.dtype == exact
    expected = np.repeat(1.0 - np.array(OUTER), repeat, axis=1)
    np.testing.assert_allclose(found.weight.numpy(), expected, atol=1e-7 if exact is torch.float32 else 1e-15)
    flags = make_plan(DenseMask(np.array([[True, False]])), dtype, repeat)
    assert flags.weight.dtype == exact and flags.weight.tolist() == [[0.0] * repeat + [1.0] * repeat]


def test_the_last_mask_is_remembered_and_no_other():
    plan = planner(torch.float64)
    first, second = (DenseMask(np.array([[value, 0.0]])) for value in (0.25, 0.5))
    found = plan(first)
    assert found.weight.tolist() == [[0.75, 1.0]] and found.weight.dtype == torch.float64
    assert plan(first) is found
    assert plan(second).weight.tolist() == [[0.5, 1.0]]
    assert plan(None) is NOTHING
    assert plan(first) is not found and plan(first).weight.tolist() == [[0.75, 1.0]]
    assert planner(torch.float32, 3)(BoxMask(1.0, (0, 1, 1, 2), 0.5)).box == (..., slice(0, 1), slice(3, 6))
    boxes = BoxMask(0.5), BoxMask(0.5)
    assert plan(boxes[0]) == plan(boxes[1]) == Plan(0.5)


@pytest.mark.parametrize('make', [torch.zeros, np.zeros])
def test_large_images_are_blocks_of_a_channel(make, monkeypatch):
    assert plans.BLOCK_VALUES * 4 == 2**20  # 1 MiB of float32
    image = make((3, 4, 5))
    monkeypatch.setattr(plans, 'BLOCK_VALUES', 60)
    (whole,) = blocks(image)
    assert whole is image
    monkeypatch.setattr(plans, 'BLOCK_VALUES', 59)
    channels = blocks(image)
    assert [channel.shape for channel in channels] == [(4, 5)] * 3
    channels[1][2, 3] = 1
    assert image[1, 2, 3] == 1
    monkeypatch.setattr(plans, 'BLOCK_VALUES', 1)
    (flat,) = blocks(image[0])
    assert flat.shape == (4, 5)
