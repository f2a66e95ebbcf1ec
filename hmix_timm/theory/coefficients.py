"""Regularization coefficients a_jk = E[(1 − M_j)(1 − M_k)] (paper, Eq. 9), from the very masks that the mixers draw.

Training on mixed images regularizes products of input gradients at two pixels j and k, and Hessian entries, with the
weight a_jk (Theorem 1). `coefficient_map` averages a_{i,i+d} over all pixels i for which i and i + d are both in the
image, for every displacement d: Figure 4.

The masks come from `hmix_timm.families`, boxes from the installed timm: what is computed here is what is trained
with, borders and rounding included. The paper's masks are M = c + y xᵀ, so that the sum over pixel pairs falls apart
into correlations along one axis, and a map over all H · W placements costs seconds. What the paper's formulas say, and
when they hold, is in `closed_forms`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np

from ..checks import check_choice, check_number
from ..draws import NotEnumerable, PlacedDraws, numpy_seed
from ..families import Slot, make_slot
from ..masks import DenseMask, Mask, Size, mixup_mask
from ..modes import mix_modes

EXACT_PLACEMENTS = 2**16
"""Images of up to so many pixels (256 × 256) have every placement of a mask enumerated."""

SAMPLES = 2**14
"""Masks drawn where enumeration is out of reach and the caller says no number."""

_BATCHES = 64
_CHUNK = 2**12


@dataclass(frozen=True, eq=False)
class CoefficientMap:
    """Mean over in-image pixel pairs (i, i + d) of a_{i,i+d}, for every displacement d.

    Args:
        values: shape (2 H − 1, 2 W − 1), float64; displacement (dy, dx) is at [H − 1 + dy, W − 1 + dx].
        standard_error: of each value, the same shape; None where the values are exact.
        masks: number of masks behind the values: all of them, or those drawn.
    """

    values: np.ndarray
    standard_error: np.ndarray | None
    masks: int

    def at(self, dy: int, dx: int) -> float:
        """The value at a displacement in pixels; IndexError outside the map."""
        height, width = (n // 2 for n in self.values.shape)
        if abs(dy) > height or abs(dx) > width:
            raise IndexError(f'displacement must be within ±{height}, ±{width}, got {dy}, {dx}')
        return float(self.values[height + dy, width + dx])


def coefficient_map(
    mix_mode: str,
    lam: float,
    size: Size = (64, 64),
    *,
    switch_prob: float = 0.5,
    samples: int | None = None,
    seed: int = 0,
    **options: Any,
) -> CoefficientMap:
    """Regularization coefficients of a mix mode as the mixers draw it, clipped at the borders (paper, Eq. 9, Figure 4).

    Exact by enumeration of the mask's H · W placements on images of up to `EXACT_PLACEMENTS` pixels; by Monte Carlo,
    with a standard error, on larger ones, for masks that draw more than one place (a ratio with `hmix_gamma`, noise),
    and wherever `samples` is given.

    Args:
        mix_mode: one of `hmix_timm.modes.mix_modes()` that mixes; the coefficients of 'none' are 0.
        lam: λ, 0 to 1.
        size: height and width in pixels.
        switch_prob: Stochastic Mixup & CutMix's probability of CutMix; its coefficients are the average.
        samples: number of masks to draw; None enumerates where that is affordable.
        seed: of the Monte Carlo draws. numpy's global generator is left as it was found.
        **options: the mask's options and `correct_lam`, as of the mixers (`hmix_ratio`, `gmix_kernel`, …).

    Raises:
        ValueError: an argument is out of its range.
    """
    modes = {name: mode for name, mode in mix_modes().items() if mode.draws_masks}
    check_choice('mix_mode', mix_mode, modes)
    check_number('lam', lam, high=1.0)
    check_number('switch_prob', switch_prob, high=1.0)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f'size must be a height and a width in pixels, both >= 1, got {size!r}')
    if samples is not None and samples < _BATCHES:
        raise ValueError(f'samples must be >= {_BATCHES}, got {samples!r}')
    mode = modes[mix_mode]
    slot = make_slot(mode.family or 'bbox', **options)
    if not mode.mixup:
        return _slot_map(slot, lam, size, samples, seed)
    mixup = CoefficientMap(mean_products([mixup_mask(lam)], size), None, 1)
    if not mode.family:
        return mixup
    placed = _slot_map(slot, lam, size, samples, seed)
    error = None if placed.standard_error is None else switch_prob * placed.standard_error
    values = switch_prob * placed.values + (1.0 - switch_prob) * mixup.values
    return CoefficientMap(values, error, placed.masks + 1)


def _slot_map(slot: Slot, lam: float, size: Size, samples: int | None, seed: int) -> CoefficientMap:
    if samples is None and size[0] * size[1] <= EXACT_PLACEMENTS:
        try:
            return CoefficientMap(mean_products(placed_masks(size, lam, slot), size), None, size[0] * size[1])
        except NotEnumerable:
            pass  # Monte Carlo, as the docstring says, and with the standard error that says so
    count = (samples or SAMPLES) // _BATCHES
    with numpy_seed(seed):
        batches = np.stack(
            [mean_products((slot.draw_mask(size, lam)[0] for _ in range(count)), size) for _ in range(_BATCHES)]
        )
    return CoefficientMap(batches.mean(axis=0), batches.std(axis=0, ddof=1) / _BATCHES**0.5, count * _BATCHES)


def placed_masks(size: Size, lam: float, slot: Slot) -> Iterator[Mask]:
    """The mask of a slot at each of its H · W placements, all equally likely.

    Raises:
        NotEnumerable: the family draws more than one box or centre.
    """
    for y in range(size[0]):
        for x in range(size[1]):
            yield slot.draw_mask(size, lam, PlacedDraws((y, x)))[0]


def mean_products(masks: Iterable[Mask], size: Size) -> np.ndarray:
    """Mean over masks and in-image pixel pairs of (1 − M_i)(1 − M_{i+d}), for every displacement d.

    Returns:
        Shape (2 H − 1, 2 W − 1), float64; displacement (dy, dx) is at [H − 1 + dy, W − 1 + dx].
    """
    masks = iter(masks)
    height, width = size
    total = np.zeros((2 * height - 1, 2 * width - 1))
    # number of pixel pairs per displacement
    pairs = np.outer(*(n - np.abs(np.arange(1 - n, n)) for n in size))
    count = 0
    while chunk := list(islice(masks, _CHUNK)):
        dense = [mask for mask in chunk if isinstance(mask, DenseMask)]
        separable = [mask for mask in chunk if not isinstance(mask, DenseMask)]
        for mask in dense:
            total += _autocorrelation(1.0 - mask.array(size))
        if separable:
            offsets, columns, rows = zip(*(mask.factors(size) for mask in separable), strict=True)
            rest, y, x = 1.0 - np.array(offsets), np.stack(columns), np.stack(rows)
            # 1 − M = rest − y xᵀ, and (rest − y_i x_i)(rest − y_j x_j) is a sum of products along one axis each
            starts_y, starts_x = _correlate(y, np.ones_like(y)), _correlate(x, np.ones_like(x))
            weighted = rest[:, None] * starts_y
            total += (rest**2).sum() * pairs
            total -= weighted.T @ starts_x + weighted[:, ::-1].T @ starts_x[:, ::-1]
            total += _correlate(y, y).T @ _correlate(x, x)
        count += len(chunk)
    return total / (pairs * count)


def _correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Σ_i a_i b_{i+d} along the last axis of two (P, n) arrays, d = 1 − n … n − 1, shape (P, 2 n − 1)."""
    n = a.shape[-1]
    spectrum = np.conj(np.fft.rfft(a, 2 * n)) * np.fft.rfft(b, 2 * n)
    return np.roll(np.fft.irfft(spectrum, 2 * n), n - 1, axis=-1)[:, : 2 * n - 1]


def _autocorrelation(a: np.ndarray) -> np.ndarray:
    """Σ_i a_i a_{i+d} of an (H, W) array for every displacement d, shape (2 H − 1, 2 W − 1)."""
    height, width = a.shape
    shape = 2 * height, 2 * width
    sums = np.fft.irfft2(np.abs(np.fft.rfft2(a, shape)) ** 2, shape)
    return np.roll(sums, (height - 1, width - 1), axis=(0, 1))[: 2 * height - 1, : 2 * width - 1]
