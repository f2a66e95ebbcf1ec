"""Blending float batches, in place or into a new batch, on any device.

On the CPU a batch is mixed one block after the other, through scratch of that size: memory for a second batch would
cost more in page faults than the arithmetic does. A block is many small images, or one, or a channel of a large one. On
other devices a few kernels mix the whole batch with its reversed copy.
"""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import numpy as np
import torch

from ..masks import BoxMask, DenseMask, Mask, Mix
from .plan import BLOCK_VALUES, Masks, Plan, blocks, make_plan, planner, shown, to_device

FEW, FEW_MASKS = 4, 32
"""Where fewer images than this are a block, mixing one by one is faster; the second where masks differ."""


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
    if x.device.type != 'cpu':
        return mix_whole_(x, masks)
    copies = all(mask is None or getattr(mask, 'outside', 0.0) == 1.0 for mask in masks)
    if copies and not x.requires_grad and FEW * x[0].numel() <= BLOCK_VALUES:  # larger ones torch shares among threads
        return mix_boxes_(x, masks)
    count = _at_once(x, masks)
    return mix_pairs_(x, masks) if count == 1 else mix_chunks_(x, masks, count)


def blend_(own: torch.Tensor, other: torch.Tensor, mask: Mask) -> torch.Tensor:
    """own ← M ⊙ own + (1 − M) ⊙ other, in place.

    Args:
        own: image (C, H, W), floating or uint8.
        other: image of the same shape and dtype; not written to.
        mask: the mask of `own`.

    Returns:
        own.
    """
    _apply_(own, other, make_plan(mask, own.dtype))
    return own


def mix_pairs_(x: torch.Tensor, masks: Masks) -> torch.Tensor:
    """`mix_` pair by pair, through scratch for one block."""
    images, plan = _planned(x, masks, 1)
    scratch = torch.empty_like(blocks(images[0])[0])
    for i in range(len(x) // 2):
        j = len(x) - 1 - i
        _mix_pair_(images[i], images[j], plan(i, i + 1), plan(j, j + 1), scratch)
    return x


def mix_boxes_(x: torch.Tensor, masks: Masks) -> torch.Tensor:
    """`mix_` where nothing but boxes is copied: as integers of NumPy, whose slices cost a tenth of a tensor's."""
    x[:0].zero_()  # so that autograd notices that x is written to
    images = x.detach().view(getattr(torch, f'int{8 * x.element_size()}')).numpy()
    boxes = [make_plan(mask, x.dtype).box or (..., slice(0), slice(0)) for mask in masks]
    for i in range(len(x) // 2):
        own, other, box_i, box_j = images[i], images[-1 - i], boxes[i], boxes[-1 - i]
        own[box_i], other[box_j] = other[box_i], own[box_j].copy(order='K')
    return x


def mix_chunks_(x: torch.Tensor, masks: Masks, count: int) -> torch.Tensor:
    """`mix_` by `count` pairs at a time, through copies of them; none of the masks is a `Mix`."""
    images, plan = _planned(x, masks, count)
    size = len(x)
    for i, j in pairwise([*range(0, size // 2, count), size // 2]):
        own, other = images[i:j], images[size - j : size - i]
        kept = own.flip(0)
        _apply_(own, other.flip(0), plan(i, j))
        _apply_(other, kept, plan(size - j, size - i))
    return x


def mix_rolled(x: torch.Tensor, masks: Masks) -> torch.Tensor:
    """Mixes every sample of a batch with the one before it, the first with the last, into a new batch.

    Args:
        x: batch (B, ..., H, W) of any real dtype, memory format and device; not written to.
        masks: one mask (or None) for each sample.
    """
    if x.device.type != 'cpu' or not x.numel():  # an empty batch has no first image whose size would say how
        return mix_whole_(x, masks, rolled=True)
    count = _at_once(x, masks)
    images, plan = _planned(x, masks, count)
    # NumPy has large arrays in huge pages, torch has not: small ones would cost three times what mixing does
    memory = torch.from_numpy(np.empty(x.numel() * x.element_size(), np.uint8)).view(x.dtype)
    out = memory.as_strided(images.shape, torch.empty_like(images, device='meta').stride())
    for i, j in pairwise([0, *range(1, len(x), count), len(x)]):
        _apply_(out[i:j].copy_(images[i:j]), images[i - 1 : j - 1] if i else images[-1:], plan(i, j))
    return out if images.ndim == x.ndim else out.unflatten(2, (x.shape[3], x.shape[1])).permute(0, 3, 1, 2)


def mix_whole_(x: torch.Tensor, masks: Masks, rolled: bool = False) -> torch.Tensor:
    """`mix_` with one batch-sized temporary, a few kernels whatever the batch size, and no host synchronisation.

    In half precision the temporary is in float32, so that results are rounded once. Integers take two.
    With `rolled` it is `mix_rolled`, and the result a new batch.
    """
    turned = partial(torch.roll, shifts=1, dims=0) if rolled else partial(torch.flip, dims=(0,))
    out = torch.empty_like(x) if rolled else x
    same = _same(masks)
    if not (same and isinstance(masks[0], BoxMask)) or not x.is_floating_point():
        masks = masks[:1] if same else masks
        plain = [mask.mask if isinstance(mask, Mix) else mask for mask in masks]
        partners = _shown_whole(turned(x), masks)
        if len(x) % 2 and not rolled:  # the middle one is its own partner as it is
            partners[len(x) // 2] = x[len(x) // 2]
        return _lerp_whole(x, partners, _batch_weight(plain, x), out)
    plan = make_plan(masks[0], x.dtype)
    if plan.weight is None:
        if rolled:
            out.copy_(x)
        if plan.box is not None:
            out[plan.box] = turned(x[plan.box])
        return out
    partner = turned(x)
    _lerp(x, partner, plan.weight, out)
    if plan.box is not None:
        out[plan.box] = partner[plan.box]
    return out


def _same(masks: Masks) -> bool:
    return all(mask is masks[0] for mask in masks)


def _at_once(x: torch.Tensor, masks: Masks) -> int:
    """How many images of a batch on the CPU are mixed at once."""
    count = BLOCK_VALUES // max(x[0].numel(), 1)
    few = count < (FEW if _same(masks) else FEW_MASKS)
    return 1 if few or any(isinstance(mask, Mix) for mask in masks) else count


def _planned(x: torch.Tensor, masks: Masks, count: int) -> tuple[torch.Tensor, Callable[[int, int], Plan]]:
    """The images as they are best mixed by `count` at once, and the plan for those from one index up to another."""
    single = count == 1 or _same(masks)
    stored = single and not any(isinstance(mask, Mix) for mask in masks)
    images, repeat = _as_stored(x) if stored else (x, 1)
    plan = planner(x.dtype, repeat)
    return images, lambda i, j: plan(masks[i]) if single else Plan(_batch_weight(masks[i:j], x))


def _mix_pair_(image_i: torch.Tensor, image_j: torch.Tensor, plan_i: Plan, plan_j: Plan, scratch: torch.Tensor) -> None:
    for own, other in zip(blocks(image_i), blocks(image_j), strict=True):
        kept, plan = scratch, plan_j
        if plan_j.resized is not None:
            kept, plan = shown(own, plan_j), plan_j._replace(resized=None)
        elif plan_j.reads is not None:
            scratch[plan_j.reads] = own[plan_j.reads]
        _apply_(own, other, plan_i)
        _apply_(other, kept, plan)


def _apply_(own: torch.Tensor, other: torch.Tensor, plan: Plan) -> None:
    other = shown(other, plan)
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


def _shown_whole(partners: torch.Tensor, masks: Masks) -> torch.Tensor:
    """Shows each partner as its mask, or one for all, says; in place."""
    for partner, mask in zip([partners] if len(masks) == 1 else partners.unbind(), masks, strict=True):
        if isinstance(mask, Mix):
            partner.copy_(shown(partner, Plan(resized=mask.partner)))
    return partners


def _lerp(x: torch.Tensor, partner: torch.Tensor, weight: float | torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    if x.requires_grad:  # for which torch has no `out`
        return out.copy_(torch.lerp(x, partner, weight))
    return torch.lerp(x, partner, weight, out=out)


def _lerp_whole(x: torch.Tensor, partner: torch.Tensor, weight: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    if x.dtype == weight.dtype:
        return _lerp(x, partner, weight, out)
    if not x.is_floating_point():
        return out.copy_(x.to(weight.dtype).lerp_(partner.to(weight.dtype), weight).round_())
    return out.copy_((partner * weight).addcmul_(x, 1.0 - weight))


def _batch_weight(masks: Masks, x: torch.Tensor) -> torch.Tensor:
    """1 − M on x's device in float32 or wider: (len(masks), 1, ..., H, W), or ones for H and W where M is constant."""
    height, width = x.shape[-2:]
    shape = len(masks), *([1] * (x.ndim - 3)), height, width
    exact = np.float64 if x.dtype == torch.float64 else np.float32
    if any(isinstance(mask, DenseMask) for mask in masks):
        arrays = [np.ones((height, width)) if mask is None else mask.array((height, width)) for mask in masks]
        return to_device((1.0 - np.stack(arrays)).astype(exact), x.device).reshape(shape)
    rows = np.zeros((len(masks), 1 + height + width), exact)
    rows[:, 0] = 1.0
    for row, mask in zip(rows, masks, strict=True):
        if isinstance(mask, BoxMask):
            yl, yh, xl, xh = mask.box
            row[0] = mask.outside
            row[1 + yl : 1 + yh] = -mask.outside
            row[1 + height + xl : 1 + height + xh] = 1.0
        elif mask is not None and not isinstance(mask, DenseMask):
            row[0], row[1 : 1 + height], row[1 + height :] = mask.factors((height, width))  # type: ignore[misc]
    if not rows[:, 1:].any():
        keep = to_device(rows[:, :1], x.device).reshape(len(masks), *([1] * (x.ndim - 1)))
        return 1.0 - keep
    offset, y, x_ = to_device(rows, x.device).split((1, height, width), dim=1)
    keep = torch.addcmul(offset[:, :, None], y[:, :, None], x_[:, None, :])
    return (1.0 - keep).reshape(shape)
