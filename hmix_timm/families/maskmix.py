"""MaskMix: a grid of cells, of which ⌈λ n⌉ of n, drawn at random, are image i's.

Q. Zhao, Y. Huang, W. Hu, F. Zhang, J. Liu, "MixPro: Data Augmentation with MaskMix and Progressive Attention Labeling
for Vision Transformer", ICLR 2023, https://arxiv.org/abs/2304.12043: the mask alone; its labels need the model's
attention. α = 1 and patches of 56 pixels of 224, 4 a side, are those of its published code
(https://github.com/fistyee/MixPro). That code gives the label the share of cells, also where the last ones are cut off
by the border, and takes MaskMix for half of the batches, Mixup or CutMix for the others.
"""

import math
from types import SimpleNamespace

import numpy as np

from ..draws import Draws
from ..masks import Mask, Size
from .family import Family, Option
from .gridmix import grid_mask


def draw(size: Size, lam: float, options: SimpleNamespace, draws: Draws) -> Mask:
    """Draws an order of the cells."""
    kept = np.zeros(options.cells**2, bool)
    kept[draws.permutation(kept.size)[: math.ceil(kept.size * float(lam))]] = True
    return grid_mask(size, kept.reshape(options.cells, -1))


FAMILY = Family(
    name='maskmix',
    title='MaskMix',
    draw=draw,
    mix_mode='maskmix',
    options=(Option('cells', 4, 'cells of MaskMix along each side: 4 are patches of 56 pixels of 224', 1, 256),),
    presets={'imagenet': {'alpha': 1.0}, 'cifar100': {'alpha': 1.0}},
    colour='#AA4499',
)
