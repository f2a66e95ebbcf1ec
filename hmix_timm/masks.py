"""The kinds of masks, apart from how they are drawn.

A mask M is the share of its own image that each pixel keeps, `x̃ = M ⊙ x_i + (1 − M) ⊙ x_j` (paper, Eq. 1), and the
label weight is the mean of M. Of the three kinds only the last one is an H × W array before an image is blended:

* `BoxMask`: 0 in a box, one value outside (Mixup has an empty box, CutMix has 1 outside, HMix has both);
* `ProductMask`: a constant plus the product of a column and a row profile (GMix: a Gaussian is separable);
* `DenseMask`: any array.
"""

from dataclasses import dataclass

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

    @property
    def mean(self) -> float:
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

    @property
    def mean(self) -> float:
        """Mean of M over the image."""
        return float(self.values.mean(dtype=np.float64))

    def array(self, size: Size) -> np.ndarray:
        """The mask as an array of shape (H, W), float64."""
        return np.asarray(self.values, dtype=np.float64)


Mask = BoxMask | ProductMask | DenseMask


def _expanded(mask: BoxMask | ProductMask, size: Size) -> np.ndarray:
    offset, y, x = mask.factors(size)
    return offset + np.outer(y, x)


def problem_with(mask: object, size: Size) -> str | None:
    """Names the fault of a mask for images of `size`; None if it is sound."""
    if not isinstance(mask, (BoxMask, ProductMask, DenseMask)):
        return f'it is a {type(mask).__name__}, neither BoxMask nor ProductMask nor DenseMask'
    if isinstance(mask, BoxMask):
        yl, yh, xl, xh = mask.box
        if not (0 <= yl <= yh <= size[0] and 0 <= xl <= xh <= size[1]):
            return f'its box {mask.box} does not lie in {size[0]}×{size[1]} pixels'
        if abs(mask.box_fraction - (yh - yl) * (xh - xl) / (size[0] * size[1])) > 1e-6:
            return (
                f'its box_fraction {mask.box_fraction!r} is not the share of {mask.box} in {size[0]}×{size[1]} pixels'
            )
    elif isinstance(mask, DenseMask) and not isinstance(mask.values, np.ndarray):
        return f'its values are a {type(mask.values).__name__}, not a numpy array'
    values = mask.array(size)
    if values.shape != size:
        return f'its shape is {values.shape}, not {size}'
    if not np.isfinite(values).all():
        return 'it has values that are not finite'
    if values.min() < -1e-6 or values.max() > 1.0 + 1e-6:
        return f'it has values from {values.min():g} to {values.max():g}, outside [0, 1]'
    return None


def mixup_mask(lam: float) -> BoxMask:
    """Mixup: M = λ (paper, Eq. 2)."""
    return BoxMask(float(lam))


def box_fraction(box: Box, size: Size) -> float:
    """Area of a box as a fraction of the image's."""
    return (box[1] - box[0]) * (box[3] - box[2]) / float(size[0] * size[1])
