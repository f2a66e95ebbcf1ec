"""Blending uint8 samples while they are collated, by numpy and torch."""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import torch

from ..masks import Mix
from .plan import NOTHING, Masks, Plan, blocks, planner, shown

TO_INTEGER = torch.tensor(1.5 * 2**23, device='cpu')
"""float32 has no fractions there: added to a small number it leaves the nearest integer in the low bits."""

MixUint8 = Callable[[Sequence[np.ndarray], Masks, np.ndarray], None]


def with_partners(mix: MixUint8) -> MixUint8:
    """`mix_uint8` in one of its two forms, for a `Mix`, too: such a sample is mixed by itself."""

    @functools.wraps(mix)
    def mix_all(images: Sequence[np.ndarray], masks: Masks, out: np.ndarray) -> None:
        if not any(isinstance(mask, Mix) for mask in masks):
            return mix(images, masks, out)
        if not all(isinstance(mask, Mix) for mask in masks):
            mix(images, [None if isinstance(mask, Mix) else mask for mask in masks], out)
        for i, mask in enumerate(masks[: len(out)]):
            if isinstance(mask, Mix):
                j = len(images) - 1 - i
                pair = [images[i], shown(images[j], Plan(resized=mask.partner))]
                mix(pair, [None if i == j else mask.mask], out[i : i + 1])

    return mix_all


@with_partners
def mix_uint8(images: Sequence[np.ndarray], masks: Masks, out: np.ndarray) -> None:
    """Mixes uint8 samples with their partners into `out`, rounding to the nearest grey level.

    Args:
        images: all samples of the batch, each (C, H, W) or (…, H, W) uint8 in any memory layout; not written to.
        masks: one mask (or None) for each sample of `out`.
        out: (N, *shape) uint8; sample i < N of the batch goes to out[i]. N is the batch size, or half of it.
    """
    if out.ndim == 4 and len(out) < len(images) and all(_pixels(image).flags.c_contiguous for image in images):
        _mix_firsts_interleaved(images, masks, out)
    else:
        plan = planner(torch.float32, in_bits=True)
        scratch = _FloatPair(out[0])
        for i in range(len(images) // 2):
            j = len(images) - 1 - i
            out_j, mask_j = (out[j], masks[j]) if j < len(out) else (None, None)
            _mix_pair_uint8(images[i], images[j], out[i], out_j, plan(masks[i]), plan(mask_j), scratch)
    if len(images) % 2:
        out[len(images) // 2] = images[len(images) // 2]


def _pixels(image: np.ndarray) -> np.ndarray:
    """(C, H, W) → (H, W, C)."""
    return image.transpose(1, 2, 0)


class _FloatPair:
    """Scratch for a block of an image and of its partner in float32, and the same memory as integers."""

    def __init__(self, image: np.ndarray) -> None:
        block = torch.from_numpy(blocks(image)[0])
        self.own, self.other = (torch.empty_like(block, dtype=torch.float32) for _ in range(2))
        self.own_bits, self.other_bits = self.own.view(torch.int32), self.other.view(torch.int32)


def _mix_firsts_interleaved(images: Sequence[np.ndarray], masks: Masks, out: np.ndarray) -> None:
    """Mixes the first images of the pairs as H × (W · C), the layout in which timm's loader hands them over.

    Putting one mixed image into the order of `out` is faster than doing so with the two that it is mixed from.
    """
    channels, height, width = out.shape[1:]
    sources = [_pixels(image).reshape(height, width * channels) for image in images]
    mixed = np.empty_like(sources[0])
    planar = mixed.reshape(height, width, channels).transpose(2, 0, 1)
    plan = planner(torch.float32, channels, in_bits=True)
    scratch = _FloatPair(mixed)
    for i in range(len(images) // 2):
        _mix_pair_uint8(sources[i], sources[-1 - i], mixed, None, plan(masks[i]), NOTHING, scratch)
        out[i] = planar


def _mix_pair_uint8(
    own: np.ndarray,
    other: np.ndarray,
    out_i: np.ndarray,
    out_j: np.ndarray | None,
    plan_i: Plan,
    plan_j: Plan,
    scratch: _FloatPair,
) -> None:
    """Writes an image mixed by plan_i and, unless out_j is None, its partner mixed by plan_j."""
    blends = plan_i.weight is not None or plan_j.weight is not None
    if blends or plan_i.bits is not None or plan_j.bits is not None:
        own, other = _planar(own), _planar(other)
    if blends:
        # with nothing to write for j, out_i only stands in for it
        parts = map(blocks, (own, other, out_i, out_i if out_j is None else out_j))
        for own_, other_, out_i_, out_j_ in zip(*parts, strict=True):
            _lerp_pair_uint8(own_, other_, out_i_, out_j_, plan_i.weight, plan_j.weight, scratch)
    _copy_uint8(own, other, out_i, plan_i)
    if out_j is not None:
        _copy_uint8(other, own, out_j, plan_j)


def _copy_uint8(own: np.ndarray, other: np.ndarray, out: np.ndarray, plan: Plan) -> None:
    """Copies the pixels that a plan does not lerp."""
    if plan.bits is not None:
        np.bitwise_xor(own, other, out=out)
        np.bitwise_and(out, plan.bits, out=out)
        np.bitwise_xor(out, own, out=out)
    elif plan.weight is None:
        out[...] = own
    if plan.box is not None:
        out[plan.box] = other[plan.box]


def _planar(image: np.ndarray) -> np.ndarray:
    """The image in C × H × W memory that torch can read; timm's loader hands over H × W × C."""
    flags = image.flags
    # numpy calls an image C-contiguous whose axis of a single pixel is turned round
    readable = flags.c_contiguous and flags.writeable and min(image.strides) >= 0
    return image if readable else np.array(image, order='C')


def _lerp_pair_uint8(
    own: np.ndarray,
    other: np.ndarray,
    out_i: np.ndarray,
    out_j: np.ndarray,
    weight_i: float | torch.Tensor | None,
    weight_j: float | torch.Tensor | None,
    scratch: _FloatPair,
) -> None:
    """out_i ← own lerped to other by weight_i, out_j ← other lerped to own by weight_j; None leaves out as it is."""
    source = torch.from_numpy(own)
    scratch.own.copy_(source)
    scratch.other.copy_(torch.from_numpy(other))
    if weight_i is not None:
        scratch.own.lerp_(scratch.other, weight_i).add_(TO_INTEGER)
        torch.from_numpy(out_i).copy_(scratch.own_bits)
    if weight_j is None:
        return
    if weight_j is weight_i:
        # one gains as much as the other loses: own + other − mixed, in which uint8's wrapping around cancels out
        np.add(own, other, out=out_j)
        np.subtract(out_j, out_i, out=out_j)
        return
    if weight_i is not None:
        scratch.own.copy_(source)
    scratch.other.lerp_(scratch.own, weight_j).add_(TO_INTEGER)
    torch.from_numpy(out_j).copy_(scratch.other_bits)
