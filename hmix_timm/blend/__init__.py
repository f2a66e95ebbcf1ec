"""mask + images → mixed images: float batches in place, uint8 samples at collate.

Nothing here is random and nothing knows which family a mask came from. Image j is the batch-reversed partner of image
i, as in timm; the middle sample of an odd batch is its own partner and stays as it is. A mask of None leaves its sample
alone.

On the CPU the two images of a pair are mixed one block (an image, or a channel of a large one) after the other, through
scratch of that size: memory for a second batch would cost more in page faults than the arithmetic does. On other
devices a few kernels mix the whole batch with its reversed copy.
"""

import math
from collections.abc import Callable, Sequence
from types import EllipsisType
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from ..masks import BoxMask, Mask

Masks = Sequence[Mask | None]
Image = TypeVar('Image', torch.Tensor, np.ndarray)

BLOCK_VALUES = 1 << 18
"""Images of up to this many values are one block, of larger ones every channel is: 1 MiB of float32, near the cache."""

TO_INTEGER = torch.tensor(1.5 * 2**23, device='cpu')
"""float32 has no fractions there: added to a small number it leaves the nearest integer in the low bits."""


def mix_(x: torch.Tensor, masks: Masks) -> torch.Tensor:
    """Mixes every sample of a batch with its partner, in place.

    Args:
        x: batch (B, C, H, W) of any floating dtype, memory format and device.
        masks: one mask (or None) for each sample.

    Returns:
        x.
    """
    if all(mask is None for mask in masks):
        return x
    if x.device.type == 'cpu':
        return mix_pairs_(x, masks)
    return mix_whole_(x, masks)


def blend_(own: torch.Tensor, other: torch.Tensor, mask: Mask) -> torch.Tensor:
    """own ← M ⊙ own + (1 − M) ⊙ other, in place.

    Args:
        own: image (C, H, W), floating or uint8.
        other: image of the same shape and dtype; not written to.
        mask: the mask of `own`.

    Returns:
        own.
    """
    _apply_(own, other, _plan(mask, own.dtype))
    return own


def mix_pairs_(x: torch.Tensor, masks: Masks) -> torch.Tensor:
    """`mix_` pair by pair, through scratch for one block."""
    images, repeat = _as_stored(x)
    plan = _planner(x.dtype, repeat)
    scratch = _scratch(images[0], x.dtype)
    for i in range(len(x) // 2):
        j = len(x) - 1 - i
        _mix_pair_(images[i], images[j], plan(masks[i]), plan(masks[j]), scratch)
    return x


def mix_uint8(images: Sequence[np.ndarray], masks: Masks, out: np.ndarray) -> None:
    """Mixes uint8 samples with their partners into `out`, rounding to the nearest grey level.

    Args:
        images: all samples of the batch, each (C, H, W) uint8 in any memory layout; not written to.
        masks: one mask (or None) for each sample of `out`.
        out: (N, C, H, W) uint8; sample i < N of the batch goes to out[i]. N is the batch size, or half of it.
    """
    if len(out) < len(images) and all(_pixels(image).flags.c_contiguous for image in images):
        _mix_firsts_interleaved(images, masks, out)
    else:
        _mix_uint8_planar(images, masks, out)
    if len(images) % 2:
        out[len(images) // 2] = images[len(images) // 2]


def mix_whole_(x: torch.Tensor, masks: Masks) -> torch.Tensor:
    """`mix_` with one batch-sized temporary, a few kernels whatever the batch size, and no host synchronisation.

    In half precision the temporary is in float32, so that results are rounded once.
    """
    same = all(mask is masks[0] for mask in masks)
    if not (same and isinstance(masks[0], BoxMask)):
        return _lerp_whole_(x, _batch_weight(masks[:1] if same else masks, x))
    plan = _plan(masks[0], x.dtype)
    if plan.weight is None:
        if plan.box is not None:
            x[plan.box] = x[plan.box].flip(0)
        return x
    partner = x.flip(0)
    x.lerp_(partner, plan.weight)
    if plan.box is not None:
        x[plan.box] = partner[plan.box]
    return x


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """A small host array on the device, without making the host wait for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == 'cuda':
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


class _Plan(NamedTuple):
    """What a mask does to an image: lerp to the partner by `weight` = 1 − M, then copy the box from it; or nothing."""

    weight: float | torch.Tensor | None = None
    box: tuple[EllipsisType, slice, slice] | None = None

    @property
    def reads(self) -> tuple[EllipsisType, slice, slice] | EllipsisType | None:
        """The pixels of the partner that it takes."""
        return self.box if self.weight is None else ...


NOTHING = _Plan()


def _plan(mask: Mask | None, dtype: torch.dtype, repeat: int = 1) -> _Plan:
    """The plan for images of `dtype` in which every column stands `repeat` times."""
    if mask is None:
        return NOTHING
    if isinstance(mask, BoxMask):
        yl, yh, xl, xh = mask.box
        box = (..., slice(yl, yh), slice(xl * repeat, xh * repeat)) if mask.box_fraction else None
        return _Plan(1.0 - mask.outside if mask.outside != 1.0 else None, box)
    exact = np.float64 if dtype == torch.float64 else np.float32
    columns = mask.x if repeat == 1 else np.repeat(mask.x, repeat)
    weight = torch.from_numpy((-mask.y[:, None]).astype(exact)) * torch.from_numpy(columns.astype(exact))
    return _Plan(weight if mask.offset == 1.0 else weight.add_(1.0 - mask.offset))


def _planner(dtype: torch.dtype, repeat: int = 1) -> Callable[[Mask | None], _Plan]:
    """`_plan`, remembering the last mask: in batch and pair mode neighbours share one."""
    last: Mask | None = None
    made = NOTHING

    def plan(mask: Mask | None) -> _Plan:
        nonlocal last, made
        if mask is not last:
            last, made = mask, _plan(mask, dtype, repeat)
        return made

    return plan


def _mix_pair_(
    image_i: torch.Tensor, image_j: torch.Tensor, plan_i: _Plan, plan_j: _Plan, scratch: torch.Tensor
) -> None:
    for own, other in zip(_blocks(image_i), _blocks(image_j), strict=True):
        if plan_j.reads is not None:
            scratch[plan_j.reads] = own[plan_j.reads]
        _apply_(own, other, plan_i)
        _apply_(other, scratch, plan_j)


def _apply_(own: torch.Tensor, other: torch.Tensor, plan: _Plan) -> None:
    if plan.weight is not None:
        if own.dtype in (torch.float32, torch.float64):
            own.lerp_(other, plan.weight)
        else:
            # reduced precision and integers are blended in float32 and rounded once
            mixed = own.float().lerp_(other.float(), plan.weight)
            own.copy_(mixed if own.is_floating_point() else mixed.round_())
    if plan.box is not None:
        own[plan.box] = other[plan.box]


def _as_stored(x: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Channels-last images as (B, H, W · C), and C, the number of times that every column stands there."""
    if x.ndim == 4 and x.stride(1) == 1 and x.stride(3) == x.shape[1] > 1:
        return x.permute(0, 2, 3, 1).flatten(2), x.shape[1]
    return x, 1


def _blocks(image: Image) -> Sequence[Image]:
    """Views of an image's blocks."""
    return [image] if image.ndim < 3 or math.prod(image.shape) <= BLOCK_VALUES else list(image)


def _scratch(image: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty_like(_blocks(image)[0], dtype=dtype)


def _pixels(image: np.ndarray) -> np.ndarray:
    """(C, H, W) → (H, W, C)."""
    return image.transpose(1, 2, 0)


class _FloatPair:
    """Room for a block of an image and of its partner in float32, and the same memory as integers."""

    def __init__(self, image: np.ndarray) -> None:
        block = torch.from_numpy(_blocks(image)[0])
        self.own, self.other = (torch.empty_like(block, dtype=torch.float32) for _ in range(2))
        self.own_bits, self.other_bits = self.own.view(torch.int32), self.other.view(torch.int32)


def _mix_uint8_planar(images: Sequence[np.ndarray], masks: Masks, out: np.ndarray) -> None:
    plan = _planner(torch.float32)
    scratch = _FloatPair(out[0])
    last = len(images) - 1
    for i in range(len(images) // 2):
        j = last - i
        out_j, mask_j = (out[j], masks[j]) if j < len(out) else (None, None)
        _mix_pair_uint8(images[i], images[j], out[i], out_j, plan(masks[i]), plan(mask_j), scratch)


def _mix_firsts_interleaved(images: Sequence[np.ndarray], masks: Masks, out: np.ndarray) -> None:
    """Mixes the first images of the pairs as H × (W · C), in which timm's loader hands them over.

    Where only one of a pair is wanted, it is sooner put into the order of `out` than the two that it is mixed from.
    """
    channels, height, width = out.shape[1:]
    sources = [_pixels(image).reshape(height, width * channels) for image in images]
    mixed = np.empty_like(sources[0])
    planar = mixed.reshape(height, width, channels).transpose(2, 0, 1)
    plan = _planner(torch.float32, channels)
    scratch = _FloatPair(mixed)
    for i in range(len(images) // 2):
        _mix_pair_uint8(sources[i], sources[-1 - i], mixed, None, plan(masks[i]), NOTHING, scratch)
        out[i] = planar


def _mix_pair_uint8(
    own: np.ndarray,
    other: np.ndarray,
    out_i: np.ndarray,
    out_j: np.ndarray | None,
    plan_i: _Plan,
    plan_j: _Plan,
    scratch: _FloatPair,
) -> None:
    """Writes an image as plan_i mixes it, and if it is wanted, its partner as plan_j does."""
    if plan_i.weight is not None or plan_j.weight is not None:
        own, other = _planar(own), _planar(other)
        # with nothing to write for j, any place is as good
        blocks = map(_blocks, (own, other, out_i, out_i if out_j is None else out_j))
        for own_, other_, out_i_, out_j_ in zip(*blocks, strict=True):
            _lerp_pair_uint8(own_, other_, out_i_, out_j_, plan_i.weight, plan_j.weight, scratch)
    _copy_uint8(own, other, out_i, plan_i)
    if out_j is not None:
        _copy_uint8(other, own, out_j, plan_j)


def _copy_uint8(own: np.ndarray, other: np.ndarray, out: np.ndarray, plan: _Plan) -> None:
    """Copies what a plan does not lerp."""
    if plan.weight is None:
        out[...] = own
    if plan.box is not None:
        out[plan.box] = other[plan.box]


def _planar(image: np.ndarray) -> np.ndarray:
    """The image in C × H × W memory that torch may look at; timm's loader hands over H × W × C."""
    flags = image.flags
    return image if flags.c_contiguous and flags.writeable else np.array(image, order='C')


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
        # what one of them gains the other loses
        np.add(own, other, out=out_j)
        np.subtract(out_j, out_i, out=out_j)
        return
    if weight_i is not None:
        scratch.own.copy_(source)
    scratch.other.lerp_(scratch.own, weight_j).add_(TO_INTEGER)
    torch.from_numpy(out_j).copy_(scratch.other_bits)


def _lerp_whole_(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    partner = x.flip(0)
    if x.dtype == weight.dtype:
        return x.lerp_(partner, weight)
    return x.copy_((partner * weight).addcmul_(x, 1.0 - weight))


def _batch_weight(masks: Masks, x: torch.Tensor) -> torch.Tensor:
    """1 − M on x's device in float32 or wider: (len(masks), 1, ..., H, W), or ones for H and W where M is constant."""
    height, width = x.shape[-2:]
    exact = torch.promote_types(x.dtype, torch.float32)
    rows = np.zeros((len(masks), 1 + height + width), np.float64 if exact == torch.float64 else np.float32)
    rows[:, 0] = 1.0
    for row, mask in zip(rows, masks, strict=True):
        if isinstance(mask, BoxMask):
            yl, yh, xl, xh = mask.box
            row[0] = mask.outside
            row[1 + yl : 1 + yh] = -mask.outside
            row[1 + height + xl : 1 + height + xh] = 1.0
        elif mask is not None:
            row[0], row[1 : 1 + height], row[1 + height :] = mask.factors((height, width))
    if not rows[:, 1:].any():
        keep = to_device(rows[:, :1], x.device).reshape(len(masks), *([1] * (x.ndim - 1)))
        return 1.0 - keep
    offset, y, x_ = to_device(rows, x.device).split((1, height, width), dim=1)
    keep = torch.addcmul(offset[:, :, None], y[:, :, None], x_[:, None, :])
    return (1.0 - keep).reshape(len(masks), *([1] * (x.ndim - 3)), height, width)
