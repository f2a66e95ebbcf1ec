"""λ → mask: one method a file. The only place that knows CutMix, HMix and GMix by name.

To add a method here, write a file like `gmix.py` and name it below; one of your own enters by `register_family`.
"""

from . import cutmix, gmix, hmix
from .cutmix import cutmix_mask
from .family import (
    FAMILIES,
    PRESETS,
    DrawMask,
    Family,
    Option,
    Slot,
    check_slots,
    is_family_option,
    make_slot,
    resolve_options,
)
from .gmix import gmix_mask
from .hmix import hmix_mask
from .register import load_families, register_family

FAMILIES |= {method.FAMILY.name: method.FAMILY for method in (cutmix, hmix, gmix)}

__all__ = [
    'FAMILIES',
    'PRESETS',
    'DrawMask',
    'Family',
    'Option',
    'Slot',
    'check_slots',
    'cutmix_mask',
    'gmix_mask',
    'hmix_mask',
    'is_family_option',
    'load_families',
    'make_slot',
    'register_family',
    'resolve_options',
]
