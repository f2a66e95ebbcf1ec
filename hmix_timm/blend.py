"""mask + images → mixed images: float batches in place, uint8 samples at collate.

Nothing here is random and nothing knows which family a mask came from. Image j is the batch-reversed partner of image
i, as in timm; the middle sample of an odd batch is its own partner and stays as it is. A mask of None leaves its sample
alone. On the CPU pairs are blended one after the other through one image-sized scratch buffer, because a
batch-sized temporary costs more in page faults than the arithmetic does; on other devices one in-place `lerp_` with the
reversed batch does every mode in a few kernels.
"""

from collections.abc import Sequence

import numpy as np
import torch

from .masks import BoxMask, Mask

Masks = Sequence[Mask | None]


def mix_(x: torch.Tensor, masks: Masks) -> torch.Tensor:
    """Mixes every sample of a batch with its partner, in place.

    Args:
        x: batch (B, ..., H, W) of any floating dtype, memory format and device.
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
    if own.dtype in (torch.float32, torch.float64):
        return _lerp_(own, other, mask, _weight(mask, own))
    # reduced precision and integers are blended in float32 and rounded once
    exact = _lerp_(own.float(), other.float(), mask, _weight(mask, own.float()))
    return own.copy_(exact if own.is_floating_point() else exact.round_())


def mix_pairs_(x: torch.Tensor, masks: Masks) -> torch.Tensor:
    """`mix_` pair by pair through one image-sized scratch buffer."""
    batch_size = len(x)
    exact = x.dtype in (torch.float32, torch.float64)
    scratch = torch.empty_like(x[0], dtype=x.dtype if exact else torch.float32)
    weights = _LastWeight()
    for i in range(batch_size // 2):
        mask_i, mask_j = masks[i], masks[batch_size - 1 - i]
        if mask_i is None and mask_j is None:
            continue
        own, other = x[i], x[batch_size - 1 - i]
        if not exact:
            own, other = own.float(), other.float()
        if mask_j is not None:
            scratch.copy_(own)
        if mask_i is not None:
            _lerp_(own, other, mask_i, weights(mask_i, own))
        if mask_j is not None:
            _lerp_(other, scratch, mask_j, weights(mask_j, other))
        if not exact:
            x[i].copy_(own)
            x[batch_size - 1 - i].copy_(other)
    return x


def mix_whole_(x: torch.Tensor, masks: Masks) -> torch.Tensor:
    """`mix_` with one batch-sized temporary, a few kernels whatever the batch size, and no host synchronisation."""
    distinct = masks[:1] if all(mask is masks[0] for mask in masks) else masks
    only = distinct[0] if len(distinct) == 1 else None
    if isinstance(only, BoxMask) and only.outside == 1.0:
        yl, yh, xl, xh = only.box
        patch = x[..., yl:yh, xl:xh]
        patch.copy_(patch.flip(0))
        return x
    partner = x.flip(0)
    if isinstance(only, BoxMask) and only.box_fraction == 0.0:
        return x.lerp_(partner, 1.0 - only.outside)
    weight = _batch_weight(distinct, x)
    if x.dtype in (torch.float32, torch.float64):
        return x.lerp_(partner, weight)
    # lerp_ wants the weight in the images' dtype, which would round the mask away from its label weight
    return x.add_(partner.sub_(x).mul_(weight))


def to_device(array: np.ndarray, device: torch.device) -> torch.Tensor:
    """A small host array on the device, without making the host wait for it."""
    tensor = torch.from_numpy(np.ascontiguousarray(array))
    if device.type == 'cuda':
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def _batch_weight(masks: Masks, x: torch.Tensor) -> torch.Tensor:
    """1 − M of shape (len(masks), 1, ..., H, W) on x's device, float32 or wider."""
    height, width = x.shape[-2:]
    dtype = torch.promote_types(x.dtype, torch.float32)
    rows = np.zeros((len(masks), 1 + height + width), dtype=np.float64 if dtype == torch.float64 else np.float32)
    for row, mask in zip(rows, masks, strict=True):
        if mask is not None:
            offset, row_y, row_x = mask.factors((height, width))
            row[0], row[1 : 1 + height], row[1 + height :] = 1.0 - offset, -row_y, row_x
    constant, y, x_ = to_device(rows, x.device).split((1, height, width), dim=1)
    weight = torch.addcmul(constant[:, :, None], y[:, :, None], x_[:, None, :])
    return weight.reshape(len(masks), *([1] * (x.ndim - 3)), height, width)


def _weight(mask: Mask, image: torch.Tensor) -> torch.Tensor | None:
    """1 − M in the image's dtype and layout, or None for a box, which needs none."""
    if isinstance(mask, BoxMask):
        return None
    size = image.shape[-2], image.shape[-1]
    offset, y, x = mask.factors(size)
    dtype = np.float64 if image.dtype == torch.float64 else np.float32
    weight = torch.from_numpy(np.multiply.outer(-y.astype(dtype), x.astype(dtype)))
    weight += 1.0 - offset
    if image.stride()[-1] == 1 or image.ndim == 2:
        return weight
    # broadcasting over an innermost channel axis would leave loops of three: spell it out in the image's layout
    return torch.empty_like(image).copy_(weight)


class _LastWeight:
    """`_weight`, remembering the last mask: in batch and pair mode neighbours share one."""

    def __init__(self) -> None:
        self.mask: Mask | None = None
        self.weight: torch.Tensor | None = None

    def __call__(self, mask: Mask, image: torch.Tensor) -> torch.Tensor | None:
        if mask is not self.mask:
            self.mask, self.weight = mask, _weight(mask, image)
        return self.weight


def _lerp_(own: torch.Tensor, other: torch.Tensor, mask: Mask, weight: torch.Tensor | None) -> torch.Tensor:
    if not isinstance(mask, BoxMask):
        assert weight is not None
        return own.lerp_(other, weight)
    if mask.outside != 1.0:
        own.lerp_(other, 1.0 - mask.outside)
    yl, yh, xl, xh = mask.box
    if mask.box_fraction and mask.outside:  # with nothing of its own outside, the box is in the blend already
        own[..., yl:yh, xl:xh] = other[..., yl:yh, xl:xh]
    return own


def mix_uint8(images: Sequence[np.ndarray], masks: Masks, out: np.ndarray) -> None:
    """Mixes uint8 samples with their partners into `out`, rounding to the nearest grey level.

    Args:
        images: all samples of the batch, each (C, H, W) uint8; not written to.
        masks: one mask (or None) for each sample of `out`.
        out: (N, C, H, W) uint8; sample i < N of the batch goes to out[i]. N is the batch size, or half of it.
    """
    last = len(images) - 1
    for i, mask in enumerate(masks):
        own, other = images[i], images[last - i]
        if mask is None or i == last - i:
            out[i] = own
            continue
        if isinstance(mask, BoxMask) and mask.outside == 1.0:
            out[i] = own
        else:
            difference = np.subtract(other, own, dtype=np.float32)
            offset, y, x = mask.factors((own.shape[-2], own.shape[-1]))
            if isinstance(mask, BoxMask):
                difference *= np.float32(1.0 - mask.outside)
            else:
                difference *= (1.0 - offset) - np.multiply.outer(y, x).astype(np.float32)
            np.rint(difference, out=difference)
            np.add(difference, own, out=out[i], casting='unsafe')
        if isinstance(mask, BoxMask):
            yl, yh, xl, xh = mask.box
            out[i][..., yl:yh, xl:xh] = other[..., yl:yh, xl:xh]
