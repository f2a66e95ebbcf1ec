"""The steps by which a mask is applied to an image, and the blocks of the image in which they are done."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import EllipsisType
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from ..masks import BoxMask, Mask, ProductMask

Masks = Sequence[Mask | None]
Image = TypeVar('Image', torch.Tensor, np.ndarray)

BLOCK_VALUES = 1 << 18
"""Images of up to this many values are one block, of larger ones every channel is: 1 MiB of float32, near the cache."""


class Plan(NamedTuple):
    """How a mask is applied: lerp to the partner by `weight` = 1 − M, then copy the box from it; or nothing."""

    weight: float | torch.Tensor | None = None
    box: tuple[EllipsisType, slice, slice] | None = None

    @property
    def reads(self) -> tuple[EllipsisType, slice, slice] | EllipsisType | None:
        """The pixels of the partner that it takes."""
        return self.box if self.weight is None else ...


NOTHING = Plan()


def make_plan(mask: Mask | None, dtype: torch.dtype, repeat: int = 1) -> Plan:
    """The plan for images of `dtype` in which every column stands `repeat` times."""
    if mask is None:
        return NOTHING
    if isinstance(mask, BoxMask):
        yl, yh, xl, xh = mask.box
        box = (..., slice(yl, yh), slice(xl * repeat, xh * repeat)) if yl < yh and xl < xh else None
        return Plan(1.0 - mask.outside if mask.outside != 1.0 else None, box)
    exact = np.float64 if dtype == torch.float64 else np.float32
    if isinstance(mask, ProductMask):
        columns = mask.x if repeat == 1 else np.repeat(mask.x, repeat)
        weight = torch.from_numpy((-mask.y[:, None]).astype(exact)) * torch.from_numpy(columns.astype(exact))
        return Plan(weight if mask.offset == 1.0 else weight.add_(1.0 - mask.offset))
    share = np.subtract(1.0, mask.values, dtype=exact)
    return Plan(torch.from_numpy(share if repeat == 1 else np.repeat(share, repeat, axis=1)))


def planner(dtype: torch.dtype, repeat: int = 1) -> Callable[[Mask | None], Plan]:
    """`make_plan`, remembering the last mask: in batch and pair mode neighbours share one."""
    return lru_cache(maxsize=1)(lambda mask: make_plan(mask, dtype, repeat))


def blocks(image: Image) -> Sequence[Image]:
    """Views of an image's blocks."""
    return [image] if image.ndim < 3 or math.prod(image.shape) <= BLOCK_VALUES else list(image)
