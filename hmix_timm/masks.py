"""λ → mask: the only place that knows what CutMix, HMix and GMix are.

A mask M says how much of its own image every pixel keeps, `x̃ = M ⊙ x_i + (1 − M) ⊙ x_j` (paper, Eq. 1), and the label
weight is the mean of M. Two kinds of mask cover every family, and neither needs an H × W array until an image is
blended:

* `BoxMask`: 0 in a box, one value outside (Mixup has an empty box, CutMix has 1 outside, HMix has both);
* `ProductMask`: a constant plus the product of a column and a row profile (GMix: a Gaussian is separable).

A family is one function `(size, lam, options, draws) → mask` and a line in `FAMILIES`. Every random number that it
needs comes from `draws`, so that the same function serves timm's generators, NaFlex's, and an enumeration of
placements.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import FunctionType, SimpleNamespace
from typing import Any, Protocol

import numpy as np
from timm.data import mixup as timm_mixup

Size = tuple[int, int]
"""Height and width in pixels."""

Box = tuple[int, int, int, int]
"""yl, yh, xl, xh in pixels; the upper ends are exclusive. The order is timm's."""

GMIX_KERNELS = ('reference', 'paper')


@dataclass(frozen=True)
class BoxMask:
    """M = 0 inside the box and `outside` everywhere else.

    Args:
        outside: mask value outside the box, in [0, 1].
        box: pixels in which M = 0; may be empty.
        box_fraction: area of the box as a fraction of the image's.
    """

    outside: float
    box: Box = (0, 0, 0, 0)
    box_fraction: float = 0.0

    @property
    def mean(self) -> float:
        """Mean of M over the image."""
        return self.outside * (1.0 - self.box_fraction)

    def factors(self, size: Size) -> tuple[float, np.ndarray, np.ndarray]:
        """M = c + y xᵀ as `(c, y, x)`, with y of shape (H,) and x of shape (W,), float64."""
        y, x = np.zeros(size[0]), np.zeros(size[1])
        y[self.box[0] : self.box[1]] = -self.outside
        x[self.box[2] : self.box[3]] = 1.0
        return self.outside, y, x


@dataclass(frozen=True, eq=False)
class ProductMask:
    """M = offset + y xᵀ.

    Args:
        offset: the constant.
        y: column profile, shape (H,), float64.
        x: row profile, shape (W,), float64.
    """

    offset: float
    y: np.ndarray
    x: np.ndarray

    @property
    def mean(self) -> float:
        """Mean of M over the image."""
        return self.offset + float(self.y.sum()) * float(self.x.sum()) / (len(self.y) * len(self.x))

    def factors(self, size: Size) -> tuple[float, np.ndarray, np.ndarray]:
        """M = c + y xᵀ as `(c, y, x)`, with y of shape (H,) and x of shape (W,), float64."""
        return self.offset, self.y, self.x


Mask = BoxMask | ProductMask


def dense_mask(mask: Mask, size: Size) -> np.ndarray:
    """The mask as an array of shape (H, W), float64, for looking at and for analysis."""
    offset, y, x = mask.factors(size)
    return offset + np.outer(y, x)


class MaskOptions(Protocol):
    """What a family may ask of a mixer; a mixer is one, and so is `SlotOptions`."""

    cutmix_mode: str
    hmix_ratio: float
    hmix_gamma: float | None
    gmix_kernel: str
    correct_lam: bool
    cutmix_minmax: Sequence[float] | None


@dataclass
class SlotOptions:
    """Mask options by themselves, with the mixers' defaults, for use without a mixer."""

    cutmix_mode: str = 'bbox'
    hmix_ratio: float = 0.75
    hmix_gamma: float | None = None
    gmix_kernel: str = 'reference'
    correct_lam: bool = True
    cutmix_minmax: Sequence[float] | None = None


class Draws(Protocol):
    """Where a family's random numbers come from."""

    def box(self, size: Size, lam: float, minmax: Sequence[float] | None = None) -> Box:
        """A CutMix box whose sides are √(1 − lam) of the image's, or between `minmax` of them."""

    def centre(self, size: Size) -> tuple[int, int]:
        """A pixel (y, x), uniform over the image."""

    def ratio(self, gamma: float) -> float:
        """HMix's ratio r ~ Beta(gamma, gamma)."""


def _clip(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


def _with_scalar_clip(function: Any) -> Callable[..., Any]:
    """The same code with a clip for single numbers: numpy's takes longer than all else that a box costs."""
    numpy = SimpleNamespace(**{**vars(np), 'clip': _clip})
    scope = {**function.__globals__, 'np': numpy}
    return FunctionType(function.__code__, scope, function.__name__, function.__defaults__)


_rand_bbox = _with_scalar_clip(timm_mixup.rand_bbox)


class NumpyDraws:
    """Draws from numpy's global generator, as timm's `Mixup` does; boxes are the installed timm's own."""

    def box(self, size: Size, lam: float, minmax: Sequence[float] | None = None) -> Box:
        box = _rand_bbox(size, lam) if minmax is None else timm_mixup.rand_bbox_minmax(size, minmax)
        yl, yh, xl, xh = box
        return int(yl), int(yh), int(xl), int(xh)

    def centre(self, size: Size) -> tuple[int, int]:
        y = np.random.randint(0, size[0])
        return int(y), int(np.random.randint(0, size[1]))

    def ratio(self, gamma: float) -> float:
        return float(np.random.beta(gamma, gamma))


NUMPY_DRAWS = NumpyDraws()


def mixup_mask(lam: float) -> BoxMask:
    """Mixup: M = λ (paper, Eq. 2)."""
    return BoxMask(float(lam))


def cutmix_mask(size: Size, box: Box) -> BoxMask:
    """CutMix: M = 0 in the box and 1 outside (paper, Eq. 3)."""
    return BoxMask(1.0, box, _fraction(box, size))


def hmix_mask(size: Size, lam: float, ratio: float, box: Box, correct_lam: bool = True) -> BoxMask:
    """HMix: M = 0 in a box drawn at 1 − (1 − λ) r, a constant outside (paper, section 4).

    With s the area fraction of the clipped box the constant is λ / (1 − s), so that the mean of M is λ wherever the box
    lies. `correct_lam=False` is the paper's literal λ / (1 − (1 − λ) r), exact for a box that no border clips. Where
    the box covers everything (for the literal form: would, were it not clipped), M = 0.
    """
    lam = float(lam)
    fraction = _fraction(box, size)
    uncovered = 1.0 - (fraction if correct_lam else (1.0 - lam) * ratio)
    # the quotient never exceeds 1 but for the rounding of its operands
    return BoxMask(min(lam / uncovered, 1.0) if uncovered > 0.0 else 0.0, box, fraction)


def gmix_mask(size: Size, lam: float, centre: tuple[int, int], kernel: str = 'reference') -> ProductMask:
    """GMix: a Gaussian bump around a pixel, with g(s) = exp(−π d² / (s H W)) (paper, section 4).

    `kernel='reference'`, what the published code trains: M = g(λ) for λ < 0.5, else 1 − g(1 − λ); its mean is λ but for
    what the borders cut off. `kernel='paper'`, section 4 as printed: M = 1 − g(2 (1 − λ)).
    """
    lam = float(lam)
    if kernel == 'reference' and lam < 0.5:
        offset, sign, spread = 0.0, 1.0, lam
    else:
        offset, sign, spread = 1.0, -1.0, (1.0 - lam) * (2.0 if kernel == 'paper' else 1.0)
    if spread == 0.0:  # the bump has no area left: λ = 0 is all of image j, λ = 1 all of image i
        return ProductMask(offset, np.zeros(size[0]), np.zeros(size[1]))
    # a spread below this one leaves the centre pixel alone in the bump, as this one does
    scale = -math.pi / max(spread * size[0] * size[1], 1e-30)
    y, x = np.exp(scale * _squares(size[0], centre[0])), np.exp(scale * _squares(size[1], centre[1]))
    return ProductMask(offset, y if sign > 0.0 else -y, x)


def _squares(length: int, centre: int) -> np.ndarray:
    """Squared distances of the pixels 0 to `length` − 1 from pixel `centre`."""
    reach = max(length, length - centre, centre + 1)
    return _squares_within(reach)[reach - 1 - centre :][:length]


@lru_cache(maxsize=16)
def _squares_within(reach: int) -> np.ndarray:
    return np.arange(1 - reach, reach, dtype=np.float64) ** 2


def _fraction(box: Box, size: Size) -> float:
    return (box[1] - box[0]) * (box[3] - box[2]) / float(size[0] * size[1])


def _draw_cutmix(size: Size, lam: float, options: MaskOptions, draws: Draws) -> Mask:
    # lam goes on as it came: timm's arithmetic on a float32 λ is float32, and so are its boxes
    return cutmix_mask(size, draws.box(size, lam, options.cutmix_minmax))


def _draw_hmix(size: Size, lam: float, options: MaskOptions, draws: Draws) -> Mask:
    ratio = options.hmix_ratio if options.hmix_gamma is None else draws.ratio(options.hmix_gamma)
    box = draws.box(size, 1.0 - (1.0 - float(lam)) * ratio)
    return hmix_mask(size, lam, ratio, box, options.correct_lam)


def _draw_gmix(size: Size, lam: float, options: MaskOptions, draws: Draws) -> Mask:
    return gmix_mask(size, lam, draws.centre(size), options.gmix_kernel)


FAMILIES: dict[str, Callable[[Size, float, MaskOptions, Draws], Mask]] = {
    'bbox': _draw_cutmix,
    'hmix': _draw_hmix,
    'gmix': _draw_gmix,
}
"""What timm's CutMix slot can draw: `cutmix_mode` → family."""


def draw_mask(size: Size, lam: float, options: MaskOptions, draws: Draws = NUMPY_DRAWS) -> tuple[Mask, float]:
    """Draws the mask of the CutMix slot, and its label weight.

    Args:
        size: height and width of the image in pixels.
        lam: λ of this mask, in [0, 1].
        options: a mixer, or `SlotOptions`.
        draws: source of the random numbers.

    Returns:
        The mask, and the label weight of image i: the mean of the mask, or λ with `correct_lam=False` (but for
        `cutmix_minmax`, whose boxes know no λ).
    """
    mask = FAMILIES[options.cutmix_mode](size, lam, options, draws)
    if options.correct_lam or options.cutmix_minmax is not None:
        return mask, mask.mean
    return mask, float(lam)
