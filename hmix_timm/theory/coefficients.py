"""Regularization coefficients a_jk = E[(1 − M_j)(1 − M_k)] (paper, Eq. 9), from the very masks that the mixers draw.

Training on mixed images regularizes products of input gradients at two pixels j and k, and Hessian entries, with the
weight a_jk (Theorem 1). `coefficient_map` averages a_{i,i+d} over all pixels i for which i and i + d are both in the
image, for every displacement d: Figure 4.

The masks come from `hmix_timm.masks`, boxes from the installed timm: what is computed here is what is trained with,
borders and rounding included. Every mask is M = c + y xᵀ, so that the sum over pixel pairs falls apart into
correlations along one axis, and a map over all H · W placements costs seconds. What the paper's formulas say, and when
they hold, is in `closed_forms`.
"""

import contextlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice

import numpy as np
from timm.data.mixup import cutmix_bbox_and_lam

from ..checks import check_choice, check_number
from ..masks import Box, Mask, Size, SlotOptions, draw_mask, mixup_mask
from ..mixup import check_mask_options

MODES = ('mixup', 'cutmix', 'stochastic', 'hmix', 'gmix')
"""Modes that mix: `hmix_timm.presets.MIX_MODES` without 'none', whose coefficients are 0."""

CUTMIX_MODES = {'cutmix': 'bbox', 'hmix': 'hmix', 'gmix': 'gmix'}
"""Mode → what the mixers call it, for the modes that place a mask."""

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
    mode: str,
    lam: float,
    size: Size = (64, 64),
    *,
    hmix_ratio: float = 0.75,
    hmix_gamma: float | None = None,
    gmix_kernel: str = 'reference',
    correct_lam: bool = True,
    switch_prob: float = 0.5,
    samples: int | None = None,
    seed: int = 0,
) -> CoefficientMap:
    """Regularization coefficients of a mode as the mixers draw it, clipped at the borders (paper, Eq. 9, Figure 4).

    Exact by enumeration of the mask's H · W placements on images of up to `EXACT_PLACEMENTS` pixels; by Monte Carlo,
    with a standard error, on larger ones, with `hmix_gamma` (r is continuous), and wherever `samples` is given.

    Args:
        mode: one of `MODES`.
        lam: λ, 0 to 1.
        size: height and width in pixels.
        hmix_ratio: HMix's r.
        hmix_gamma: draw r ~ Beta(gamma, gamma) in place of `hmix_ratio` if not None.
        gmix_kernel: GMix's Gaussian, 'reference' or 'paper'.
        correct_lam: False for HMix's literal mask, as in the mixers.
        switch_prob: Stochastic Mixup & CutMix's probability of CutMix; its coefficients are the average.
        samples: number of masks to draw; None enumerates where that is affordable.
        seed: of the Monte Carlo draws. numpy's global generator is left as it was found.

    Raises:
        ValueError: an argument is out of its range.
    """
    check_choice('mode', mode, MODES)
    check_number('lam', lam, high=1.0)
    check_mask_options(hmix_ratio, hmix_gamma, gmix_kernel)
    check_number('switch_prob', switch_prob, high=1.0)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f'size must be a height and a width in pixels, both >= 1, got {size!r}')
    if samples is not None and samples < _BATCHES:
        raise ValueError(f'samples must be >= {_BATCHES}, got {samples!r}')
    mixup_map = CoefficientMap(mean_products([mixup_mask(lam)], size), None, 1)
    if mode == 'mixup':
        return mixup_map
    if mode == 'stochastic':
        cutmix = coefficient_map('cutmix', lam, size, samples=samples, seed=seed)
        error = None if cutmix.standard_error is None else switch_prob * cutmix.standard_error
        values = switch_prob * cutmix.values + (1.0 - switch_prob) * mixup_map.values
        return CoefficientMap(values, error, cutmix.masks + 1)

    options = SlotOptions(CUTMIX_MODES[mode], hmix_ratio, hmix_gamma, gmix_kernel, correct_lam)
    gamma_drawn = mode == 'hmix' and hmix_gamma is not None
    if samples is None and size[0] * size[1] <= EXACT_PLACEMENTS and not gamma_drawn:
        return CoefficientMap(mean_products(placed_masks(size, lam, options), size), None, size[0] * size[1])
    count = (samples or SAMPLES) // _BATCHES
    with numpy_seed(seed):
        batches = np.stack(
            [mean_products((draw_mask(size, lam, options)[0] for _ in range(count)), size) for _ in range(_BATCHES)]
        )
    return CoefficientMap(batches.mean(axis=0), batches.std(axis=0, ddof=1) / _BATCHES**0.5, count * _BATCHES)


def placed_masks(size: Size, lam: float, options: SlotOptions) -> Iterator[Mask]:
    """The mask of the CutMix slot at each of its H · W placements, all equally likely; not for `hmix_gamma`."""
    for y in range(size[0]):
        for x in range(size[1]):
            yield draw_mask(size, lam, options, PlacedDraws((y, x)))[0]


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
        offsets, columns, rows = zip(*(mask.factors(size) for mask in chunk), strict=True)
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


@dataclass(frozen=True)
class PlacedDraws:
    """The `Draws` of an enumeration: the box or the bump is centred on `pixel`."""

    pixel: tuple[int, int]

    def box(self, size: Size, lam: float, minmax: object = None) -> Box:
        """The box that the installed timm draws around the pixel."""
        if minmax is not None:
            raise ValueError(f'cutmix_minmax must be None for an enumeration of placements, got {minmax!r}')
        edges_y, edges_x = box_edges(size, float(lam))
        return (*edges_y[self.pixel[0]], *edges_x[self.pixel[1]])

    def centre(self, size: Size) -> tuple[int, int]:
        """The pixel."""
        return self.pixel

    def ratio(self, gamma: float) -> float:
        """Refuses: a continuous ratio has no placements."""
        raise ValueError(f'hmix_gamma must be None for an enumeration of placements, got {gamma!r}')


@lru_cache(maxsize=64)
def box_edges(size: Size, lam: float) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    """Lower and upper edge of the installed timm's CutMix box for each centre row, and for each centre column.

    How a box of odd side is rounded differs between timm's versions, so the edges are not worked out here but asked of
    timm: boxes are drawn from a known state of numpy's generator, their centres from the same state once more.

    Raises:
        RuntimeError: the boxes do not follow from uniform centres, rows drawn before columns.
    """
    count = 64 * max(size)  # misses a centre with probability n · exp(−64)
    with numpy_seed(0):
        (yl, yh, xl, xh), _ = cutmix_bbox_and_lam(size, lam, count=count)
    with numpy_seed(0):
        centres = [np.random.randint(0, n, size=count) for n in size]
    edges = []
    for n, centre, low, high in zip(size, centres, (yl, xl), (yh, xh), strict=True):
        found = sorted({(int(c), int(a), int(b)) for c, a, b in zip(centre, low, high, strict=True)})
        if [c for c, _, _ in found] != list(range(n)):
            raise RuntimeError(
                'the installed timm draws CutMix boxes in an order that is not known here, so that their placements '
                'cannot be enumerated; give samples= for a Monte Carlo estimate'
            )
        edges.append(tuple((a, b) for _, a, b in found))
    return edges[0], edges[1]


@contextlib.contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """Seeds numpy's global generator, the one that timm's mixers draw from, and afterwards restores its state."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
