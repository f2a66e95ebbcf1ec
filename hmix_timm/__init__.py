"""HMix and GMix for everyone who trains with timm: swap-ins for `timm.data`'s mixers.

    from hmix_timm import Mixup, FastCollateMixup, NaFlexMixup

Reference: C. Park, S. Yun, S. Chun, "A Unified Analysis of Mixed Sample Data Augmentation: A Loss Function
Perspective", NeurIPS 2022, https://arxiv.org/abs/2208.09913.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .draws import Draws
from .families import Option, register_family
from .masks import BoxMask, DenseMask, Mix, ProductMask, Resized

if TYPE_CHECKING:
    from .mixup import FastCollateMixup, Mixup
    from .naflex import NaFlexMixup
    from .puzzle import PuzzleMix, input_gradient

__all__ = [
    'BoxMask',
    'DenseMask',
    'Draws',
    'FastCollateMixup',
    'Mix',
    'Mixup',
    'NaFlexMixup',
    'Option',
    'ProductMask',
    'PuzzleMix',
    'Resized',
    'input_gradient',
    'register_family',
]
__version__ = '0.2.0'

_HOMES = {
    'FastCollateMixup': 'mixup',
    'Mixup': 'mixup',
    'NaFlexMixup': 'naflex',
    'PuzzleMix': 'puzzle',
    'input_gradient': 'puzzle',
}
"""Modules that are imported when one of their names is first asked for.

torch and timm take seconds to import, and a command's help needs neither; and timm has no NaFlex before 1.0.20.
"""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    value = globals()[name] = getattr(import_module(f'.{_HOMES[name]}', __name__), name)
    return value


def __dir__() -> list[str]:
    return sorted([*__all__, *(name for name in globals() if name.startswith('__'))])
