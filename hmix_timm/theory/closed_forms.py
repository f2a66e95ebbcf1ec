"""The paper's formulas for a_jk = E[(1 − M_j)(1 − M_k)], each with the assumptions under which it holds.

Formulas describe idealized masks: a box that lies wholly inside the image, a bump on an unbounded plane. The mixers
clip both at the borders; what they really draw is in `coefficients`.

Where the printed paper slips:

* Section 4 gives Stochastic Mixup & CutMix the mask M = (1 − λ)1 with probability q. Mixup's mask is M = λ1 (Eq. 2),
  and only with λ1 does the coefficient stated beside it, (1 − λ)², follow.
* The same paragraph gives Mixup the probability q and then writes q a_cutmix + (1 − q) a_mixup. With its q = 0.5 both
  are the average. Here `switch_prob` is CutMix's probability, as in timm.
* Eq. 10 counts n − s start positions for a box of side s on a side of n pixels, where n − s + 1 fit: its box never
  covers the last pixel.
* Eq. 11 doubles the minus sign in the exponents of its first two lines: −π times (−‖i−p‖² − ‖j−p‖²) would grow with the
  distance. The second line also drops the 1 / N² of the first. The last line is right.
* Section 4's GMix does not have E[M] = λ, which Theorem 1 asks for: on an unbounded plane 1 − M averages 2 (1 − λ).
* The proof of Theorem 2 sets M = 1 − λ + …; only λ + … gives E[(1 − M_j)(1 − M_k)] = a_jk (see `construction`).
"""

import math

import numpy as np

from ..checks import check_number
from ..families import FAMILIES
from ..masks import Size


def mixup_coefficient(lam: float) -> float:
    """Mixup: (1 − λ)², for every pair of pixels. Holds without further assumption."""
    return (1.0 - lam) ** 2


def stochastic_coefficient(mixup: np.ndarray, cutmix: np.ndarray, switch_prob: float = 0.5) -> np.ndarray:
    """Stochastic Mixup & CutMix: the average of the two, `switch_prob` being CutMix's probability. Always holds."""
    return switch_prob * cutmix + (1.0 - switch_prob) * mixup


def box_coverage(n: int, side: int) -> np.ndarray:
    """One axis of Eq. 10: probability that a segment of `side` pixels covers both pixel j and pixel k.

    The segment covers the pixels u + 1 … u + side (counted from 1) for u uniform over the n − side start positions
    0 … n − side − 1. It is never clipped, and never covers pixel n.

    Args:
        n: pixels on the axis.
        side: pixels of the segment, 0 ≤ side < n.

    Returns:
        Shape (n, n), float64, for j, k = 1 … n.

    Raises:
        ValueError: side is not in range; side = n leaves no start position and Eq. 10 divides by 0.
    """
    if not 0 <= side < n:
        raise ValueError(f'side must be >= 0 and < n = {n} for a box wholly inside the image (Eq. 10), got {side!r}')
    t = np.arange(1, n + 1)
    low, high = np.maximum(t - side, 0), np.minimum(t, n - side)
    overlap = np.minimum(high[:, None] - low[None, :], high[None, :] - low[:, None])
    return np.maximum(overlap, 0) / (n - side)


def cutmix_matrix(lam: float, size: Size) -> np.ndarray:
    """CutMix, Eq. 10: a_jk for all pairs of pixels.

    Holds for a box of sides [√(1 − λ) H] and [√(1 − λ) W], [·] being the integer part, wholly inside the image with the
    start positions of `box_coverage`. timm's box has these sides, but is centred on any pixel and clipped.

    Returns:
        Shape (H, W, H, W), float64: the first two axes are pixel j, the last two pixel k.

    Raises:
        ValueError: the box fills the image.
    """
    y, x = _coverages(1.0 - lam, size)
    return np.einsum('ac,bd->abcd', y, x)


def hmix_matrix(lam: float, ratio: float, size: Size) -> np.ndarray:
    """HMix: b² + b (1 − b)(p_j + p_k) + (1 − b)² p_jk for all pairs of pixels, with q = (1 − λ) r, b = 1 − λ / (1 − q).

    p_jk is Eq. 10 for a box of side √q and p_j = p_jj. Holds under Eq. 10's assumptions for a box of sides [√q H] and
    [√q W], with the paper's literal mask value λ / (1 − q) outside (`correct_lam=False`); that value is also the
    mixers' default where the sides are integers, because such a box has the area fraction q exactly.

    Returns:
        Shape (H, W, H, W), float64: the first two axes are pixel j, the last two pixel k.

    Raises:
        ValueError: the box fills the image.
    """
    y, x = _coverages((1.0 - lam) * ratio, size)
    b = _hmix_rest(lam, ratio)
    both = np.einsum('ac,bd->abcd', y, x)
    single = np.outer(np.diag(y), np.diag(x))
    either = single[:, :, None, None] + single[None, None, :, :]
    return b**2 + b * (1.0 - b) * either + (1.0 - b) ** 2 * both


def cutmix_map(lam: float, size: Size) -> np.ndarray:
    """Mean of `cutmix_matrix` over in-image pixel pairs (i, i + d), laid out as `CoefficientMap.values`."""
    y, x = _coverages(1.0 - lam, size)
    return np.outer(_diagonal_means(y), _diagonal_means(x))


def hmix_map(lam: float, ratio: float, size: Size) -> np.ndarray:
    """Mean of `hmix_matrix` over in-image pixel pairs (i, i + d), laid out as `CoefficientMap.values`."""
    y, x = _coverages((1.0 - lam) * ratio, size)
    b = _hmix_rest(lam, ratio)
    first = np.outer(*(_diagonal_means(np.diag(c)[:, None].repeat(len(c), axis=1)) for c in (y, x)))
    both = np.outer(_diagonal_means(y), _diagonal_means(x))
    # p_k at displacement d is p_j at −d
    return b**2 + b * (1.0 - b) * (first + first[::-1, ::-1]) + (1.0 - b) ** 2 * both


def gmix_coefficient(
    distance: np.ndarray | float, lam: float, size: Size, gmix_kernel: str = 'reference'
) -> np.ndarray:
    """GMix: a_jk as a function of the distance between j and k.

    * 'paper', Eq. 11: (1 − λ) exp(−π d² / (4 (1 − λ) N²)).
    * 'reference', λ ≥ 0.5: ((1 − λ) / 2) exp(−π d² / (2 (1 − λ) N²)).
    * 'reference', λ < 0.5: 1 − 2 λ + (λ / 2) exp(−π d² / (2 λ N²)).

    Holds on an unbounded plane: bump centres everywhere, with the density of one image's worth of probability on N² =
    H · W pixels, nothing cut off by a border; and where the bump is wide beside a pixel, so that the sum over pixels is
    the integral. Eq. 11 is for the kernel as printed (`gmix_kernel='paper'`) and does not describe the other.

    Args:
        distance: pixels between j and k.
        lam: λ, 0 to 1.
        size: height and width in pixels.
        gmix_kernel: 'reference' or 'paper'.

    Returns:
        The shape of distance, float64.
    """
    check_number('lam', lam, high=1.0)
    FAMILIES['gmix'].keywords['gmix_kernel'].check('gmix_kernel', gmix_kernel)
    area = float(size[0] * size[1])
    squared = np.asarray(distance, dtype=np.float64) ** 2
    rest = 1.0 - lam
    if gmix_kernel == 'paper':
        return rest * _gaussian(squared, 4.0 * rest * area)
    if lam >= 0.5:
        return rest / 2.0 * _gaussian(squared, 2.0 * rest * area)
    return 1.0 - 2.0 * lam + lam / 2.0 * _gaussian(squared, 2.0 * lam * area)


def _gaussian(squared: np.ndarray, spread: float) -> np.ndarray:
    # spread 0 is λ = 0 or 1: the factor in front is 0 too
    return np.exp(-math.pi * squared / max(spread, 1e-30))


def _coverages(fraction: float, size: Size) -> tuple[np.ndarray, np.ndarray]:
    """`box_coverage` of both axes, for a box of the given area fraction."""
    height, width = size
    root = math.sqrt(fraction)
    return box_coverage(height, int(height * root)), box_coverage(width, int(width * root))


def _hmix_rest(lam: float, ratio: float) -> float:
    """1 − M outside HMix's box, the paper's literal value."""
    return 1.0 - lam / (1.0 - (1.0 - lam) * ratio)


def _diagonal_means(matrix: np.ndarray) -> np.ndarray:
    """Mean of matrix[i, i + d] over i, for d = 1 − n … n − 1."""
    n = len(matrix)
    return np.array([np.diagonal(matrix, d).mean() for d in range(1 - n, n)])
