"""Whether the installed Pillow and timm can carry out an augmentation policy, checked before a run starts."""

import argparse
import copy
from collections.abc import Iterator
from typing import Any

import PIL
import timm
from PIL import Image
from timm.data import auto_augment, create_transform

from ..common.errors import WrongArguments, told_as

# Farther from its mean than this many standard deviations no run ever draws a strength.
_REACH = 8
# The upper end of the strengths that an augmentation draws: a private name of timm's, which a newer one may lack.
_STRONGEST = getattr(auto_augment, '_LEVEL_DENOM', 10.0)


def check_augmentation(args: argparse.Namespace) -> None:
    """Carries out each operation of the policy --aa once at both ends of the strengths that it can draw.

    Pillow 13, for one, refuses to posterize to 0 bits, which timm's increasing policies ask for at full strength: a run
    would end in a loader worker, sooner or later.

    Args:
        args: of timm's script, of one made from it, or of this project's own.

    Raises:
        WrongArguments: timm does not know the policy, or an operation fails; the message names it and the remedy.
    """
    policy = getattr(args, 'aa', None)
    if not policy or getattr(args, 'no_aug', False):
        return
    with told_as(f'--aa {policy}: timm does not know this policy'):
        transform = create_transform(32, is_training=True, auto_augment=policy)
    image = Image.linear_gradient('L').resize((32, 32)).convert('RGB')
    for operation in _operations(transform):
        for strength in _ends(operation):
            asked = copy.copy(operation)
            asked.prob, asked.magnitude, asked.magnitude_std = 1.0, strength, 0
            try:
                asked(image)
            except Exception as error:  # anything that Pillow raises
                newer = int(PIL.__version__.split('.')[0]) >= 13
                remedy = "pip install 'pillow<13', or choose another policy" if newer else 'choose another policy'
                raise WrongArguments(
                    f'--aa {policy}: Pillow {PIL.__version__} cannot carry out {operation.name} as timm '
                    f'{timm.__version__} asks for it at strength {strength:g} ({error}); {remedy}'
                ) from error


def _operations(transform: Any) -> Iterator[Any]:
    """timm's operations in a transform: of RandAugment and AugMix single ones, of AutoAugment lists of them."""
    for step in transform.transforms:
        parts: Any = getattr(step, 'ops', None) or getattr(step, 'policy', [])
        for part in parts:
            yield from part if isinstance(part, list) else [part]


def _ends(operation: Any) -> tuple[float, float]:
    """The weakest and the strongest magnitude that an operation can draw."""
    magnitude, std = operation.magnitude, operation.magnitude_std
    low, high = (0, magnitude) if std == float('inf') else (magnitude - _REACH * std, magnitude + _REACH * std)
    limit = operation.magnitude_max or _STRONGEST
    return max(0.0, min(low, limit)), max(0.0, min(high, limit))
