"""GridMix: a grid of cells, each of image i with probability λ.

K. Baek, D. Bang, H. Shim, "GridMix: Strong regularization through local context mapping", Pattern Recognition 109,
2021, https://doi.org/10.1016/j.patcog.2020.107594: the mixing alone, without its loss on the labels of single cells.
OpenMixup trains another method under this name (GridMixup, a regular lattice of equal holes). α = 1 and 4 × 4 cells
are this package's choice; they are cells of 8 of CIFAR's 32 pixels.
"""

from types import SimpleNamespace

import numpy as np

from ..draws import Draws
from ..masks import DenseMask, Mask, Size
from .family import Family, Option


def grid_mask(size: Size, kept: np.ndarray) -> DenseMask:
    """1 in those cells of a grid over the image that are kept, (rows, columns) bool."""
    rows, columns = (np.arange(pixels) * cells // pixels for pixels, cells in zip(size, kept.shape, strict=True))
    return DenseMask(kept.take(columns, 1).take(rows, 0))


def draw(size: Size, lam: float, options: SimpleNamespace, draws: Draws) -> Mask:
    """Draws a number for each cell."""
    return grid_mask(size, draws.uniform(options.cells**2).reshape(options.cells, -1) < lam)


FAMILY = Family(
    name='gridmix',
    title='GridMix',
    draw=draw,
    mix_mode='gridmix',
    options=(Option('cells', 4, 'cells of GridMix along each side of the image', 1, 256),),
    presets={'imagenet': {'alpha': 1.0}, 'cifar100': {'alpha': 1.0}},
    colour='#117733',
)
