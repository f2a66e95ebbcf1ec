"""HMix and GMix for everyone who trains with timm: swap-ins for `timm.data`'s mixers.

    from hmix_timm import Mixup, FastCollateMixup, NaFlexMixup

Reference: C. Park, S. Yun, S. Chun, "A Unified Analysis of Mixed Sample Data Augmentation: A Loss Function
Perspective", NeurIPS 2022, https://arxiv.org/abs/2208.09913.
"""

from .mixup import FastCollateMixup, Mixup
from .naflex import NaFlexMixup

__all__ = ['FastCollateMixup', 'Mixup', 'NaFlexMixup']
__version__ = '0.1.0'
