"""Sources of random numbers: numpy's generator as in timm's `Mixup`, `random` and torch's as in its `NaFlexMixup`,
or an enumeration of placements, for analysis.

Families ask a source for boxes, pixels and numbers without knowing which one it is. torch and timm are imported inside
functions: they take seconds, and every command's `--help` imports the table of families.
"""

import contextlib
import math
import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from .masks import Box, Size


class Draws:
    """The random numbers of a mask, in the order in which the methods are called.

    These come from numpy's global generator, as in timm's `Mixup`.
    """

    def box(self, size: Size, lam: float, minmax: Sequence[float] | None = None) -> Box:
        """The installed timm's CutMix box: its sides are √(1 − lam) of the image's, or between `minmax` of them.

        Returns:
            yl, yh, xl, xh in pixels, the upper ends exclusive; cut off at the borders.
        """
        from . import private

        return private.cutmix_box(size, lam, minmax)

    def centre(self, size: Size) -> tuple[int, int]:
        """A pixel (y, x), uniform over the image."""
        y = np.random.randint(0, size[0])
        return y, np.random.randint(0, size[1])

    def scalar(self) -> float:
        """A number, uniform in [0, 1)."""
        return float(self.uniform(1)[0])

    def beta(self, a: float, b: float | None = None) -> float:
        """A number ~ Beta(a, b), b = a if None."""
        return np.random.beta(a, a if b is None else b)

    def uniform(self, n: int) -> np.ndarray:
        """n numbers, uniform in [0, 1), float64."""
        return np.random.random_sample(n)

    def normal(self, shape: int | tuple[int, ...]) -> np.ndarray:
        """An array of standard normal numbers, float64."""
        return np.random.standard_normal(shape)

    def integers(self, low: int, high: int) -> int:
        """A whole number, uniform from low to high − 1."""
        return np.random.randint(low, high)

    def permutation(self, n: int) -> np.ndarray:
        """The numbers from 0 to n − 1 in random order, int64."""
        return np.random.permutation(n)


class NaFlexDraws(Draws):
    """Draws from `random` and torch's default generator, as timm's `NaFlexMixup` does; boxes lie wholly inside."""

    def box(self, size: Size, lam: float, minmax: Sequence[float] | None = None) -> Box:
        side = math.sqrt(1.0 - lam)
        height, width = int(size[0] * side), int(size[1] * side)
        y = random.randint(0, size[0] - height)
        x = random.randint(0, size[1] - width)
        return y, y + height, x, x + width

    def centre(self, size: Size) -> tuple[int, int]:
        y = random.randint(0, size[0] - 1)
        return y, random.randint(0, size[1] - 1)

    def beta(self, a: float, b: float | None = None) -> float:
        import torch

        return torch.distributions.Beta(a, a if b is None else b).sample().item()

    def uniform(self, n: int) -> np.ndarray:
        import torch

        return torch.rand(n, dtype=torch.float64).numpy()

    def normal(self, shape: int | tuple[int, ...]) -> np.ndarray:
        import torch

        return torch.randn(shape, dtype=torch.float64).numpy()

    def integers(self, low: int, high: int) -> int:
        return random.randrange(low, high)

    def permutation(self, n: int) -> np.ndarray:
        import torch

        return torch.randperm(n).numpy()


NUMPY_DRAWS = Draws()
NAFLEX_DRAWS = NaFlexDraws()


class NotEnumerable(Exception):
    """A family draws more than one box or one centre; the message names it."""


class PlacedDraws(Draws):
    """One of the H · W equally likely placements of a family that draws a single box or a single centre.

    Args:
        pixel: where the box or the bump is centred.
        size: height and width of the image.
    """

    def __init__(self, pixel: tuple[int, int], size: Size) -> None:
        self.pixel, self.size, self.placed = pixel, size, False

    def box(self, size: Size, lam: float, minmax: Sequence[float] | None = None) -> Box:
        """The box that the installed timm draws around the pixel."""
        from . import private

        odd = private.rounding()
        if odd is None or minmax is not None:
            raise NotEnumerable('boxes of cutmix_minmax, or of a timm that draws them in an unknown way')
        return private.box_around(size, float(lam), *self.centre(size), odd)

    def centre(self, size: Size) -> tuple[int, int]:
        """The pixel."""
        if self.placed or tuple(size) != tuple(self.size):
            raise NotEnumerable('more than one box or centre, or one in a part of the image')
        self.placed = True
        return self.pixel

    def _refuse(self, *given: Any) -> Any:
        raise NotEnumerable('numbers besides a box or a centre')

    beta = uniform = normal = integers = permutation = _refuse  # type: ignore[assignment]


@contextlib.contextmanager
def numpy_seed(seed: int) -> Iterator[None]:
    """Seeds numpy's global generator, the one that timm's mixers draw from, and afterwards restores its state."""
    state = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(state)
