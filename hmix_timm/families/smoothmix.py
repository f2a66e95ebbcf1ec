"""SmoothMix: M = 1 − exp(−d² / 2σ²) around a pixel; it draws no λ.

J.-H. Lee, M. Z. Zaheer, M. Astrid, S.-I. Lee, "SmoothMix: a Simple Yet Effective Data Augmentation to Train Robust
Classifiers", CVPR Workshops 2020, with σ ~ U(0.25, 0.5) of the image's side, here √(H W): GMix as printed at
λ = 1 − π σ². The code of OpenMixup puts the centre half a pixel above and left of the pixel drawn; here it is on it.
"""

import math
from types import SimpleNamespace

from ..draws import Draws
from ..masks import Mask, Size
from .family import Family, Option
from .gmix import gmix_mask


def draw(size: Size, lam: None, options: SimpleNamespace, draws: Draws) -> Mask:
    """Draws the pixel at the centre, uniform over the image, and σ."""
    centre = draws.centre(size)
    sigma = options.low + (options.high - options.low) * draws.scalar()
    return gmix_mask(size, 1.0 - math.pi * sigma**2, centre, 'paper')


FAMILY = Family(
    name='smoothmix',
    title='SmoothMix',
    draw=draw,
    mix_mode='smoothmix',
    options=(
        Option('low', 0.25, "SmoothMix's smallest σ, in sides of the image", 0.0),
        Option('high', 0.5, "SmoothMix's largest σ, in sides of the image", 0.0),
    ),
    presets={'imagenet': {'alpha': None}, 'cifar100': {'alpha': None}},
    colour='#DDCC77',
)
