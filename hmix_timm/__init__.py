"""HMix and GMix for everyone who trains with timm: swap-ins for `timm.data`'s mixers.

    from hmix_timm import Mixup, FastCollateMixup, NaFlexMixup

Reference: C. Park, S. Yun, S. Chun, "A Unified Analysis of Mixed Sample Data Augmentation: A Loss Function
Perspective", NeurIPS 2022, https://arxiv.org/abs/2208.09913.
"""

import importlib
from typing import TYPE_CHECKING, Any

from .families import register_family
from .masks import BoxMask, DenseMask, ProductMask

if TYPE_CHECKING:
    from .mixup import FastCollateMixup, Mixup
    from .naflex import NaFlexMixup

__all__ = ['BoxMask', 'DenseMask', 'FastCollateMixup', 'Mixup', 'NaFlexMixup', 'ProductMask', 'register_family']
__version__ = '0.1.0'

_MIXERS = {'Mixup': '.mixup', 'FastCollateMixup': '.mixup', 'NaFlexMixup': '.naflex'}


def __getattr__(name: str) -> Any:
    # not at once: the mixers import torch and timm, for which a command's --help need not wait
    if name not in _MIXERS:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    try:
        module = importlib.import_module(_MIXERS[name], __name__)
    except ImportError as error:
        if name != 'NaFlexMixup':
            raise
        import timm

        raise ImportError(f'NaFlexMixup needs timm 1.0.20 or newer, and this is {timm.__version__}') from error
    globals()[name] = getattr(module, name)
    return globals()[name]
