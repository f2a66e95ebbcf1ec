"""HMix and GMix for everyone who trains with timm: swap-ins for `timm.data`'s mixers.

    from hmix_timm import Mixup, FastCollateMixup, NaFlexMixup

Reference: C. Park, S. Yun, S. Chun, "A Unified Analysis of Mixed Sample Data Augmentation: A Loss Function
Perspective", NeurIPS 2022, https://arxiv.org/abs/2208.09913.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .families import register_family
    from .masks import BoxMask, DenseMask, ProductMask
    from .mixup import FastCollateMixup, Mixup
    from .naflex import NaFlexMixup
    from .puzzle import PuzzleMix, input_gradient

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

_HOMES = {
    'BoxMask': 'masks',
    'DenseMask': 'masks',
    'FastCollateMixup': 'mixup',
    'Mixup': 'mixup',
    'NaFlexMixup': 'naflex',
    'ProductMask': 'masks',
    'PuzzleMix': 'puzzle',
    'input_gradient': 'puzzle',
    'register_family': 'families',
}


def __getattr__(name: str) -> Any:
    # A name is imported where it is first asked for: torch and timm take seconds, and no command should need them to
    # print its help; and timm has no NaFlex before 1.0.20, while all the rest works from 0.4.12 on.
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    try:
        value = getattr(import_module(f'.{_HOMES[name]}', __name__), name)
    except ImportError as error:
        if name != 'NaFlexMixup':
            raise
        import timm

        raise ImportError(f'NaFlexMixup needs timm 1.0.20 or newer, and this is {timm.__version__}') from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
