"""The kinds of masks, apart from how they are drawn.

A mask M is the share of its own image that each pixel keeps, `x̃ = M ⊙ x_i + (1 − M) ⊙ x_j` (paper, Eq. 1), and the
label weight is the mean of M. Of the three kinds only the last one is an H × W array before an image is blended:

* `BoxMask`: 0 in a box, one value outside (Mixup has an empty box, CutMix has 1 outside, HMix has both);
* `ProductMask`: a constant plus the product of a column and a row profile (GMix: a Gaussian is separable);
* `DenseMask`: any array.

A `Mix` is one of them and says beside it what of the partner is shown.
"""

import math
from dataclasses import InitVar, dataclass
from numbers import Integral

import numpy as np

Size = tuple[int, int]
"""Height and width in pixels."""

Box = tuple[int, int, int, int]
"""yl, yh, xl, xh in pixels; the upper ends are exclusive. The order is timm's."""


def _expanded(mask: 'BoxMask | ProductMask', size: Size) -> np.ndarray:
    """The mask as an array of shape (H, W), float64."""
    offset, y, x = mask.factors(size)
    return float(offset) + np.multiply.outer(y, x, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class BoxMask:
    """M = 0 inside the box and `outside` everywhere else.

    Args:
        outside: mask value outside the box, in [0, 1].
        box: pixels in which M = 0; may be empty.
        box_fraction: neither read nor kept; the masks of 0.1.0 said here which share of the image their box has.
    """

    outside: float
    box: Box = (0, 0, 0, 0)
    box_fraction: InitVar[float | None] = None

    def mean(self, size: Size) -> float:
        """Mean of M over an image of that size."""
        return float(self.outside) * (1.0 - box_fraction(self.box, size))

    def factors(self, size: Size) -> tuple[float, np.ndarray, np.ndarray]:
        """M = c + y xᵀ as `(c, y, x)`, with y of shape (H,) and x of shape (W,), float64."""
        y, x = np.zeros(size[0]), np.zeros(size[1])
        y[self.box[0] : self.box[1]] = -self.outside
        x[self.box[2] : self.box[3]] = 1.0
        return self.outside, y, x

    array = _expanded


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

    def mean(self, size: Size) -> float:
        """Mean of M over the image."""
        sums = [float(profile.sum(dtype=np.float64)) for profile in (self.y, self.x)]
        return float(self.offset) + sums[0] * sums[1] / (len(self.y) * len(self.x))

    def factors(self, size: Size) -> tuple[float, np.ndarray, np.ndarray]:
        """M = c + y xᵀ as `(c, y, x)`, with y of shape (H,) and x of shape (W,), float64."""
        return self.offset, self.y, self.x

    array = _expanded


@dataclass(frozen=True, eq=False)
class DenseMask:
    """M = any array.

    Args:
        values: shape (H, W), floating, in [0, 1]; or boolean, and then pixels are copied, which is faster.
    """

    values: np.ndarray

    def mean(self, size: Size) -> float:
        """Mean of M over the image."""
        values = self.values
        return np.count_nonzero(values) / values.size if values.dtype == bool else float(values.mean(dtype=np.float64))

    def factors(self, size: Size) -> None:
        """None: an array has none."""

    def array(self, size: Size) -> np.ndarray:
        """The mask as an array of shape (H, W), float64."""
        return np.asarray(self.values, dtype=np.float64)


@dataclass(frozen=True, eq=False)
class Resized:
    """The whole partner, resized into a box; around the box, the partner as it is.

    Row y of a box of h rows shows row ⌊y H / h⌋ of the partner, as torch's `interpolate` with mode 'nearest' does.

    Args:
        box: where it is shown.
    """

    box: Box


@dataclass(frozen=True, eq=False)
class Mix:
    """A mask, and what of the partner is shown under it: `x̃ = M ⊙ x_i + (1 − M) ⊙ T(x_j)`.

    Args:
        mask: M.
        partner: T; None shows the partner as it is.
    """

    mask: 'BoxMask | ProductMask | DenseMask'
    partner: Resized | None = None

    def mean(self, size: Size) -> float:
        """Mean of M over the image."""
        return self.mask.mean(size)

    def factors(self, size: Size) -> tuple[float, np.ndarray, np.ndarray] | None:
        """Those of M."""
        return self.mask.factors(size)

    def array(self, size: Size) -> np.ndarray:
        """M as an array of shape (H, W), float64."""
        return self.mask.array(size)


Mask = BoxMask | ProductMask | DenseMask | Mix


class WrongMask(ValueError):
    """What a family drew is no mask; the message names the family.

    torch's loader puts the whole traceback of a worker into the message: its last line is shown.
    """

    def __str__(self) -> str:
        return super().__str__().rpartition('WrongMask: ')[2].strip()


def problem_with(mask: object, size: Size) -> str | None:
    """Names the fault of a mask for images of `size`; None if it is sound.

    It looks at the extremes of a box or of two profiles, which takes a few microseconds, and at all values of an array.
    """
    if isinstance(mask, Mix):
        shown = mask.partner
        if not isinstance(shown, (Resized, type(None))):
            return f'its partner is a {type(shown).__name__}, neither Resized nor None'
        if isinstance(mask.mask, Mix):
            return 'it is a Mix of a Mix'
        return (shown and _problem_with_box(shown.box, size)) or problem_with(mask.mask, size)
    number = getattr(mask, 'offset', getattr(mask, 'outside', 0.0))
    if not hasattr(number, '__float__') or np.ndim(number):
        return f'its constant is a {type(number).__name__}, no number'
    if isinstance(mask, BoxMask):
        if problem := _problem_with_box(mask.box, size):
            return problem
        extremes = [float(number)]
    elif isinstance(mask, (ProductMask, DenseMask)):
        arrays = [mask.values] if isinstance(mask, DenseMask) else [mask.y, mask.x]
        for array in arrays:
            if not isinstance(array, np.ndarray) or isinstance(array, np.ma.MaskedArray):
                return f'its values are a {type(array).__name__}, not a numpy array'
            if array.dtype.kind not in 'biuf':
                return f'its values are {array.dtype}, no real numbers'
        shape = sum((array.shape for array in arrays), ())
        if shape != size:
            return f'its shape is {shape}, not {size}'
        extremes, *others = ([float(array.min()), float(array.max())] for array in arrays)
        if isinstance(mask, ProductMask):
            extremes = [float(number) + y * x for y in extremes for x in others[0]]
    else:
        return f'it is a {type(mask).__name__}, no BoxMask, ProductMask, DenseMask or Mix'
    if not math.isfinite(sum(extremes)):
        return 'it has values that are not finite'
    if min(extremes) < -1e-6 or max(extremes) > 1.0 + 1e-6:
        return f'it has values from {min(extremes):g} to {max(extremes):g}, outside [0, 1]'
    return None


def _problem_with_box(box: Box, size: Size) -> str | None:
    given = isinstance(box, (tuple, list, np.ndarray)) and len(box) == 4
    if not given or not all(isinstance(edge, Integral) for edge in box):
        return f'its box {box} is not four whole numbers'
    yl, yh, xl, xh = box
    if 0 <= yl <= yh <= size[0] and 0 <= xl <= xh <= size[1]:
        return None
    return f'its box {box} does not lie in {size[0]}×{size[1]} pixels'


def mixup_mask(lam: float) -> BoxMask:
    """Mixup: M = λ (paper, Eq. 2)."""
    return BoxMask(float(lam))


def box_fraction(box: Box, size: Size) -> float:
    """Area of a box as a fraction of the image's."""
    return (box[1] - box[0]) * (box[3] - box[2]) / float(size[0] * size[1])
