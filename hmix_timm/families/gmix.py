"""GMix: a Gaussian bump around a pixel.

C. Park, S. Yun, S. Chun, "A Unified Analysis of Mixed Sample Data Augmentation: A Loss Function Perspective", NeurIPS
2022, https://arxiv.org/abs/2208.09913, section 4; hyper-parameters from its section 5.
"""

import math
from functools import lru_cache
from types import SimpleNamespace

import numpy as np

from ..draws import Draws
from ..masks import Mask, ProductMask, Size
from .family import Family, Option


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


def draw(size: Size, lam: float, options: SimpleNamespace, draws: Draws) -> Mask:
    """Draws the pixel at the centre, uniform over the image."""
    return gmix_mask(size, lam, draws.centre(size), options.kernel)


FAMILY = Family(
    name='gmix',
    title='GMix',
    draw=draw,
    mix_mode='gmix',
    options=(
        Option(
            'kernel',
            'reference',
            "GMix's Gaussian: the one that the published code trains, or section 4 of the paper as printed",
            choices=('reference', 'paper'),
        ),
    ),
    presets={'imagenet': {'alpha': 1.0}, 'cifar100': {'alpha': 0.5}},
    colour='#CC79A7',
)
