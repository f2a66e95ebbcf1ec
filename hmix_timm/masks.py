"""The kinds of masks, apart from how they are drawn.

A mask M is the share of its own image that each pixel keeps, `x̃ = M ⊙ x_i + (1 − M) ⊙ x_j` (paper, Eq. 1), and the
label weight is the mean of M. Of the three kinds only the last one is an H × W array before an image is blended:

* `BoxMask`: 0 in a box, one value outside (Mixup has an empty box, CutMix has 1 outside, HMix has both);
* `ProductMask`: a constant plus the product of a column and a row profile (GMix: a Gaussian is separable);
* `DenseMask`: any array.
"""

import math
from dataclasses import InitVar, dataclass

import numpy as np

Size = tuple[int, int]
"""Height and width in pixels."""

Box = tuple[int, int, int, int]
"""yl, yh, xl, xh in pixels; the upper ends are exclusive. The order is timm's."""


@dataclass(frozen=True, eq=False)
class BoxMask:
    """M = 0 inside the box and `outside` everywhere else.

    Args:
        outside: mask value outside the box, in [0, 1].
        box: pixels in which M = 0; may be empty.
        box_fraction: not read; the masks of 0.1.0 said here which share of the image their box has.
    """

    outside: float
    box: Box = (0, 0, 0, 0)
    box_fraction: InitVar[float] = 0.0

    def mean(self, size: Size) -> float:
        """Mean of M over an image of that size."""
        return self.outside * (1.0 - box_fraction(self.box, size))

    def factors(self, size: Size) -> tuple[float, np.ndarray, np.ndarray]:
        """M = c + y xᵀ as `(c, y, x)`, with y of shape (H,) and x of shape (W,), float64."""
        y, x = np.zeros(size[0]), np.zeros(size[1])
        y[self.box[0] : self.box[1]] = -self.outside
        x[self.box[2] : self.box[3]] = 1.0
        return self.outside, y, x

    def array(self, size: Size) -> np.ndarray:
        """The mask as an array of shape (H, W), float64."""
        return _expanded(self, size)


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
        return self.offset + float(self.y.sum()) * float(self.x.sum()) / (len(self.y) * len(self.x))

    def factors(self, size: Size) -> tuple[float, np.ndarray, np.ndarray]:
        """M = c + y xᵀ as `(c, y, x)`, with y of shape (H,) and x of shape (W,), float64."""
        return self.offset, self.y, self.x

    def array(self, size: Size) -> np.ndarray:
        """The mask as an array of shape (H, W), float64."""
        return _expanded(self, size)


@dataclass(frozen=True, eq=False)
class DenseMask:
    """M = any array.

    Args:
        values: shape (H, W), floating or boolean, in [0, 1].
    """

    values: np.ndarray

    def mean(self, size: Size) -> float:
        """Mean of M over the image."""
        return float(self.values.mean(dtype=np.float64))

    def array(self, size: Size) -> np.ndarray:
        """The mask as an array of shape (H, W), float64."""
        return np.asarray(self.values, dtype=np.float64)


Mask = BoxMask | ProductMask | DenseMask


def _expanded(mask: BoxMask | ProductMask, size: Size) -> np.ndarray:
    offset, y, x = mask.factors(size)
    return offset + np.outer(y, x)


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
    if isinstance(mask, BoxMask):
        yl, yh, xl, xh = mask.box
        if not (0 <= yl <= yh <= size[0] and 0 <= xl <= xh <= size[1]):
            return f'its box {mask.box} does not lie in {size[0]}×{size[1]} pixels'
        extremes = [float(mask.outside)]
    elif isinstance(mask, (ProductMask, DenseMask)):
        arrays = [mask.values] if isinstance(mask, DenseMask) else [mask.y, mask.x]
        for array in arrays:
            if not isinstance(array, np.ndarray):
                return f'its values are a {type(array).__name__}, not a numpy array'
        shape = sum((array.shape for array in arrays), ())
        if shape != size:
            return f'its shape is {shape}, not {size}'
        extremes, *others = ([float(array.min()), float(array.max())] for array in arrays)
        if isinstance(mask, ProductMask):
            extremes = [float(mask.offset) + y * x for y in extremes for x in others[0]]
    else:
        return f'it is a {type(mask).__name__}, neither BoxMask nor ProductMask nor DenseMask'
    if not math.isfinite(sum(extremes)):
        return 'it has values that are not finite'
    if min(extremes) < -1e-6 or max(extremes) > 1.0 + 1e-6:
        return f'it has values from {min(extremes):g} to {max(extremes):g}, outside [0, 1]'
    return None


def mixup_mask(lam: float) -> BoxMask:
    """Mixup: M = λ (paper, Eq. 2)."""
    return BoxMask(float(lam))


def box_fraction(box: Box, size: Size) -> float:
    """Area of a box as a fraction of the image's."""
    return (box[1] - box[0]) * (box[3] - box[2]) / float(size[0] * size[1])
