"""HMix and GMix for everyone who trains with timm: swap-ins for `timm.data`'s mixers.

    from hmix_timm import Mixup, FastCollateMixup, NaFlexMixup

Reference: C. Park, S. Yun, S. Chun, "A Unified Analysis of Mixed Sample Data Augmentation: A Loss Function
Perspective", NeurIPS 2022, https://arxiv.org/abs/2208.09913.
"""

from typing import TYPE_CHECKING, Any

from .families import register_family
from .masks import BoxMask, DenseMask, ProductMask
from .mixup import FastCollateMixup, Mixup
from .puzzle import PuzzleMix, input_gradient

if TYPE_CHECKING:
    from .naflex import NaFlexMixup

__all__ = [
    'BoxMask',
    'DenseMask',
    'FastCollateMixup',
    'Mixup',
    'NaFlexMixup',
    'ProductMask',
    'PuzzleMix',
    'input_gradient',
    'register_family',
]
__version__ = '0.1.0'


def __getattr__(name: str) -> Any:
    # not at once: timm has no NaFlex before 1.0.20, and all the rest works from 0.4.12 on
    if name == 'NaFlexMixup':
        try:
            from .naflex import NaFlexMixup
        except ImportError as error:
            import timm

            raise ImportError(f'NaFlexMixup needs timm 1.0.20 or newer, and this is {timm.__version__}') from error
        return NaFlexMixup
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
