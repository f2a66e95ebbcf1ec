"""The steps by which a mask is applied to an image, and the blocks of the image in which they are done."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from types import EllipsisType
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from ..masks import BoxMask, Mask, Mix, ProductMask, Resized

Masks = Sequence[Mask | None]
Image = TypeVar('Image', torch.Tensor, np.ndarray)

BLOCK_VALUES = 1 << 18
"""Images of up to this many values are one block, of larger ones every channel is: 1 MiB of float32, near the cache."""

Pixels = tuple[EllipsisType, slice, slice]


class Plan(NamedTuple):
    """How a mask is applied: lerp to the partner by `weight` = 1 − M, then copy the box from it; or nothing.

    In place of a weight of 0 and 1 there may be `bits`, 255 where the partner is copied and 0 elsewhere, uint8.
    `resized` says what of the partner is shown.
    """

    weight: float | torch.Tensor | None = None
    box: Pixels | None = None
    bits: np.ndarray | None = None
    resized: Resized | None = None

    @property
    def reads(self) -> Pixels | EllipsisType | None:
        """The pixels of the partner that it takes."""
        return self.box if self.weight is None else ...


NOTHING = Plan()


def make_plan(mask: Mask | None, dtype: torch.dtype, repeat: int = 1, in_bits: bool = False) -> Plan:
    """The plan for images of `dtype` in which every column stands `repeat` times; `in_bits` where there may be bits."""
    if mask is None:
        return NOTHING
    if isinstance(mask, BoxMask):
        yl, yh, xl, xh = mask.box
        box = (..., slice(yl, yh), slice(xl * repeat, xh * repeat)) if yl < yh and xl < xh else None
        return Plan(1.0 - float(mask.outside) if mask.outside != 1.0 else None, box)
    if isinstance(mask, Mix):
        return make_plan(mask.mask, dtype, repeat, in_bits)._replace(resized=mask.partner)
    exact = np.float64 if dtype == torch.float64 else np.float32
    if isinstance(mask, ProductMask):
        columns = mask.x if repeat == 1 else np.repeat(mask.x, repeat)
        rows = np.negative(mask.y[:, None], dtype=exact)  # in a dtype that has negative numbers
        weight = torch.from_numpy(rows) * torch.from_numpy(columns.astype(exact))
        return Plan(weight if mask.offset == 1.0 else weight.add_(1.0 - float(mask.offset)))
    copies = in_bits and mask.values.dtype == bool
    share = -(~mask.values).view(np.uint8) if copies else np.subtract(1.0, mask.values, dtype=exact)
    share = share if repeat == 1 else np.repeat(share, repeat, axis=1)
    return Plan(bits=share) if copies else Plan(torch.from_numpy(share))


def planner(dtype: torch.dtype, repeat: int = 1, in_bits: bool = False) -> Callable[[Mask | None], Plan]:
    """`make_plan`, remembering the last mask: in batch and pair mode neighbours share one."""
    return lru_cache(maxsize=1)(lambda mask: make_plan(mask, dtype, repeat, in_bits))


def shown(partner: Image, plan: Plan) -> Image:
    """What of the partner is shown: itself, or a new image with all of it resized into a box.

    Where the plan copies that box alone, nothing else of the new tensor is filled.
    """
    if plan.resized is None:
        return partner
    yl, yh, xl, xh = plan.resized.box
    height, width = partner.shape[-2:]
    rows, columns = np.arange(yh - yl) * height // max(yh - yl, 1), np.arange(xh - xl) * width // max(xh - xl, 1)
    pixels = ..., slice(yl, yh), slice(xl, xh)
    if isinstance(partner, np.ndarray):
        image = partner.copy(order='K')
        if partner.ndim == 3 and partner.strides[0] < partner.strides[2]:  # H × W × C in memory, which `take` copies
            image[pixels] = partner.transpose(1, 2, 0).take(rows, 0).take(columns, 1).transpose(2, 0, 1)
        else:
            image[pixels] = partner.take(rows, -2).take(columns, -1)
        return image
    image = torch.empty_like(partner) if plan.weight is None and plan.box == pixels else partner.clone()
    down, across = (to_device(index, partner.device) for index in (rows, columns))
    image[pixels] = partner.index_select(-2, down).index_select(-1, across)
    return image


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """A small host array on the device, without making the host wait for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == 'cuda':
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def blocks(image: Image) -> Sequence[Image]:
    """Views of an image's blocks: one by one, as autograd takes no writing to those that `unbind` makes at once."""
    if image.ndim < 3 or math.prod(image.shape) <= BLOCK_VALUES:
        return [image]
    return [image[i] for i in range(len(image))]
