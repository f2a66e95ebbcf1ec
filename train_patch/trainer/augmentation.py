"""Whether the installed Pillow and timm can carry out an augmentation policy, asked before a run starts."""

import argparse
import copy
from collections.abc import Iterator
from typing import Any

import PIL
import timm
from PIL import Image
from timm.data import create_transform
from timm.data.auto_augment import AugmentOp

from ..private import STRONGEST_LEVEL

# Farther from its mean than this many standard deviations no run ever draws a strength.
_REACH = 8


def check_augmentation(args: argparse.Namespace) -> None:
    """`check_policy` for a run's arguments, whose script may be timm's or one made from it.

    Raises:
        ValueError: the run's policy cannot be carried out.
    """
    if not getattr(args, 'no_aug', False):
        check_policy(getattr(args, 'aa', None))


def check_policy(policy: str | None) -> None:
    """Carries out each operation of an augmentation policy once at both ends of the strengths that it can draw.

    Pillow 13, for one, refuses to posterize to 0 bits, which timm's increasing policies ask for at full strength: a run
    would end in a loader worker, sooner or later.

    Args:
        policy: value of --aa; None or '' is no policy.

    Raises:
        ValueError: timm does not know the policy, or one of its operations fails; the message names it and the remedy.
    """
    if not policy:
        return
    try:
        transform = create_transform(32, is_training=True, auto_augment=policy)
    except Exception as error:  # assertions, KeyErrors and ValueErrors, by policy
        raise ValueError(f'--aa {policy}: timm does not know this policy ({type(error).__name__}: {error})') from error
    image = Image.linear_gradient('L').resize((32, 32)).convert('RGB')
    for operation in _operations(transform):
        for strength in _ends(operation):
            asked = copy.copy(operation)
            asked.prob, asked.magnitude, asked.magnitude_std = 1.0, strength, 0
            try:
                asked(image)
            except Exception as error:  # whatever Pillow raises
                newer = int(PIL.__version__.split('.')[0]) >= 13
                remedy = "pip install 'pillow<13', or choose another policy" if newer else 'choose another policy'
                raise ValueError(
                    f'--aa {policy}: Pillow {PIL.__version__} cannot carry out {operation.name} as timm '
                    f'{timm.__version__} asks for it at strength {strength:g} ({error}); {remedy}'
                ) from error


def _operations(transform: Any) -> Iterator[AugmentOp]:
    """timm's operations in a transform, whatever they are wrapped into."""
    if isinstance(transform, AugmentOp):
        yield transform
    elif isinstance(transform, (list, tuple)):
        for part in transform:
            yield from _operations(part)
    else:
        for name in ('transforms', 'ops', 'policy'):
            yield from _operations(getattr(transform, name, ()))


def _ends(operation: AugmentOp) -> tuple[float, float]:
    """The weakest and the strongest magnitude that an operation can draw."""
    magnitude, std = operation.magnitude, operation.magnitude_std
    low, high = (0, magnitude) if std == float('inf') else (magnitude - _REACH * std, magnitude + _REACH * std)
    limit = operation.magnitude_max or STRONGEST_LEVEL
    return max(0.0, min(low, limit)), max(0.0, min(high, limit))
