"""λ → mask, one method a file: nothing outside this package knows CutMix, HMix or GMix by name.

To add a method here, write a file like `gmix.py` and name it below; a user's own enters by `register_family`.
"""

from . import cutmix, fmix, gmix, gridmix, hmix, maskmix, resizemix, saliencymix, smoothmix
from .family import FAMILIES, PRESETS, DrawMask, Family, Option
from .gmix import gmix_mask
from .hmix import hmix_mask
from .register import load_families, register_family
from .slot import Slot, make_slot

_PUBLISHED = fmix, gridmix, smoothmix, resizemix, saliencymix, maskmix
FAMILIES |= {method.FAMILY.name: method.FAMILY for method in (cutmix, hmix, gmix, *_PUBLISHED)}

__all__ = [
    'FAMILIES',
    'PRESETS',
    'DrawMask',
    'Family',
    'Option',
    'Slot',
    'gmix_mask',
    'hmix_mask',
    'load_families',
    'make_slot',
    'register_family',
]
