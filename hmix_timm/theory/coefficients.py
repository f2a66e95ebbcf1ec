"""Regularization coefficients a_jk = E[(1 − M_j)(1 − M_k)] (paper, Eq. 9), from the masks that the mixers draw.

Training on mixed images regularizes products of input gradients at two pixels j and k, and Hessian entries, with the
weight a_jk (Theorem 1). `coefficient_map` averages a_{i,i+d} over all pixels i for which i and i + d are both in the
image, for every displacement d: Figure 4.

The masks come from `hmix_timm.families`, boxes from the installed timm, so the coefficients are those of training,
borders and rounding included. The paper's masks are M = c + y xᵀ, so that the sum over pixel pairs falls apart into
correlations along one axis, and a map over all H · W placements takes seconds. The paper's own formulas describe
idealized masks, without borders: docs/paper.md says when they hold.
"""

import contextlib
import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from ..checks import check_choice, check_count, check_number
from ..draws import NotEnumerable, numpy_seed
from ..families import Slot, make_slot
from ..masks import Mask, Size
from ..modes import mix_modes
from .laws import PARTS, placements

EXACT_PLACEMENTS = 2**16
"""On images of up to this many pixels (256 × 256) every placement of a mask is listed."""

SAMPLES = 2**14
"""Masks drawn where they cannot be listed and no number is given."""

_CHUNK = 2**6


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

    Exact on images of up to `EXACT_PLACEMENTS` pixels, from a list of the mask's H · W placements. By Monte Carlo, with
    a standard error, on larger ones, for masks that draw more than one place (a ratio with `hmix_gamma`, noise), and
    wherever `samples` is given.

    Args:
        mix_mode: one of `hmix_timm.modes.mix_modes()` that draws masks; the coefficients of 'none' are 0.
        lam: λ, 0 to 1.
        size: height and width in pixels.
        switch_prob: Stochastic Mixup & CutMix's probability of CutMix; its coefficients are the average.
        samples: number of masks to draw; None lists them where that is affordable.
        seed: of the Monte Carlo draws. numpy's global generator is left as it was found.
        **options: the mask's options and `correct_lam`, as of the mixers (`hmix_ratio`, `gmix_kernel`, …).

    Raises:
        ValueError: an argument is out of its range, or the masks depend on the images.
    """
    modes = {name: mode for name, mode in mix_modes().items() if mode.draws_masks}
    check_choice('mix_mode', mix_mode, modes)
    check_number('lam', lam, high=1.0)
    check_number('switch_prob', switch_prob, high=1.0)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f'size must be a height and a width in pixels, both >= 1, got {size!r}')
    if samples is not None:
        check_count('samples', samples, low=PARTS)
    mode, size = modes[mix_mode], (int(size[0]), int(size[1]))
    slot = make_slot(mode.family or 'bbox', **options)
    if slot.family.sees:
        raise ValueError(f'mix_mode {mix_mode!r} has no coefficients of its own: its masks depend on the images')
    mixup = np.full((2 * size[0] - 1, 2 * size[1] - 1), (1.0 - lam) ** 2)
    if not mode.family:
        return CoefficientMap(mixup, None, 1)
    family = _slot_map(slot, lam, size, samples, seed)
    if not mode.mixup:
        return family
    values = switch_prob * family.values + (1.0 - switch_prob) * mixup
    error = None if family.standard_error is None else switch_prob * family.standard_error
    return CoefficientMap(values, error, family.masks + 1)


def _slot_map(slot: Slot, lam: float, size: Size, samples: int | None, seed: int) -> CoefficientMap:
    if samples is None and size[0] * size[1] <= EXACT_PLACEMENTS:
        with contextlib.suppress(NotEnumerable):
            masks = (mask for mask, _ in placements(slot, size, lam))
            return CoefficientMap(mean_products(masks, size), None, size[0] * size[1])
    count = (samples or SAMPLES) // PARTS
    with numpy_seed(seed):
        parts = [mean_products([slot.draw_mask(size, lam)[0] for _ in range(count)], size) for _ in range(PARTS)]
    return CoefficientMap(np.mean(parts, axis=0), np.std(parts, axis=0, ddof=1) / math.sqrt(PARTS), count * PARTS)


def mean_products(masks: Iterable[Mask], size: Size) -> np.ndarray:
    """Mean over masks and in-image pixel pairs of (1 − M_i)(1 − M_{i+d}), for every displacement d.

    Returns:
        Shape (2 H − 1, 2 W − 1), float64; displacement (dy, dx) is at [H − 1 + dy, W − 1 + dx].
    """
    masks = iter(masks)
    pairs = np.outer(*(n - np.abs(np.arange(1 - n, n)) for n in size))  # number of pixel pairs for each displacement
    total = np.zeros(pairs.shape)
    spectrum = np.zeros((2 * size[0], size[1] + 1))  # of dense masks; of their sum, to turn it back only once
    count = 0
    while chunk := list(islice(masks, _CHUNK)):
        known = [mask.factors(size) for mask in chunk]
        factored = [factors for factors in known if factors is not None]
        if dense := [1.0 - mask.array(size) for mask, factors in zip(chunk, known, strict=True) if factors is None]:
            # torch's transform of many arrays at once takes a fraction of numpy's time
            spectra = torch.fft.rfft2(torch.from_numpy(np.stack(dense)), (2 * size[0], 2 * size[1]))
            spectrum += torch.linalg.vector_norm(torch.view_as_real(spectra), dim=(0, -1)).square().numpy()
        if factored:
            offsets, columns, rows = map(np.array, zip(*factored, strict=True))
            # 1 − M = r − y xᵀ, and (r − y_i x_i)(r − y_j x_j) is a sum of products along one axis each
            rest = 1.0 - offsets
            single = (rest[:, None] * _correlate(columns, np.ones_like(columns))).T @ _correlate(
                rows, np.ones_like(rows)
            )
            both = _correlate(columns, columns).T @ _correlate(rows, rows)
            total += (rest**2).sum() * pairs - single - single[::-1, ::-1] + both
        count += len(chunk)
    sums = np.roll(np.fft.irfft2(spectrum, (2 * size[0], 2 * size[1])), (size[0] - 1, size[1] - 1), axis=(0, 1))
    return (total + sums[:-1, :-1]) / (pairs * count)


def _correlate(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Σ_i a_i b_{i+d} along the last axis of two (P, n) arrays, d = 1 − n … n − 1, shape (P, 2 n − 1)."""
    n = a.shape[-1]
    spectrum = np.conj(np.fft.rfft(a, 2 * n)) * np.fft.rfft(b, 2 * n)
    return np.roll(np.fft.irfft(spectrum, 2 * n), n - 1, axis=-1)[:, : 2 * n - 1]


def gmix_formula(distance: np.ndarray | float, lam: float, size: Size) -> np.ndarray:
    """Eq. 11, GMix's a_jk for the kernel as printed: (1 − λ) exp(−π d² / (4 (1 − λ) N²)).

    Holds on an unbounded plane, where no border cuts a bump off and 1 − M averages 2 (1 − λ), for bumps that are wide
    beside a pixel. It does not describe the default kernel.

    Args:
        distance: d, pixels between j and k.
        lam: λ, 0 to 1.
        size: height and width in pixels; N² is their product.

    Returns:
        The shape of distance, float64.
    """
    spread = 4.0 * max(1.0 - lam, 1e-30) * size[0] * size[1]  # λ = 1: the factor in front is 0
    return (1.0 - lam) * np.exp(-math.pi * np.square(distance) / spread)
