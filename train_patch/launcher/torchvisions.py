"""torchvision's `MixUp` and `CutMix` in a launched script, and copies of them: our transforms in their place."""

import inspect
import sys
from collections.abc import Callable, Mapping
from typing import Any

import torch

from hmix_timm.families import FAMILIES

from ..common.errors import RunError
from .mixers import judge_drawn, owe, paid
from .witness import MIXED, leave


def launch_transform(
    overrides: Mapping[str, Any], asked: str, check: bool, made: Callable[[Any, str], object]
) -> Callable[[type, str], type]:
    """Makes the class that takes the place of a transform.

    Args:
        overrides: constructor arguments of timm's mixers that replace the script's.
        asked: '--mix-mode hmix', '--cutmix-mode gmix', …; '' for '--mix-mode none'.
        check: whether --mix-check was given, which cannot look at them.
        made: is called with each instance, and its repr as the mixer that it is.

    Returns:
        A function from a class with torchvision's arguments, or those of its reference scripts, and the module that it
        is found in, to ours.
    """
    family = FAMILIES[overrides.get('cutmix_mode', 'bbox')]
    selector, _, name = (asked or '--mix-mode mixup').partition(' ')
    mix_mode = name if selector == '--mix-mode' else family.mix_mode
    options = {keyword: overrides[keyword] for keyword in family.keywords if keyword in overrides}

    def in_place_of(theirs: type, home: str) -> type:
        ours = sys.modules.get('hmix_timm.transforms')
        if ours and not hasattr(ours, 'Mix'):  # half executed: a script that imports our transforms chooses itself
            return theirs
        from hmix_timm.transforms import Mix  # imports torchvision's, which take their time and are rarely used

        signature = inspect.signature(theirs)
        defaults = {name: parameter.default for name, parameter in signature.parameters.items()}

        class LaunchMix(Mix):
            witness, mixup_enabled = '', True
            correct_lam = overrides.get('correct_lam', True)

            def __init__(self, *args: Any, **kwargs: Any) -> None:
                if check:
                    raise RunError(f'--mix-check cannot look at {theirs.__module__}.{theirs.__name__}')
                given = {'labels_getter': 'default', 'p': 1.0, **defaults, **signature.bind(*args, **kwargs).arguments}
                alpha = overrides.get('cutmix_alpha') or overrides.get('mixup_alpha') or given['alpha']
                common = {name: given[name] for name in ('num_classes', 'labels_getter')}
                super().__init__(mix_mode, alpha=alpha, **common, **options)
                self.p = 0.0 if overrides.get('prob') == 0.0 else given['p']
                made(self, repr(self))

            def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
                judge_drawn()
                drawn = super().make_params(flat_inputs)
                if self.p < 1.0 and torch.rand(()).item() >= self.p:
                    return {'masks': [None] * len(drawn['masks']), 'weights': [1.0]}
                owe(self, 'transform')
                return drawn

            def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
                if inpt is not params['labels'] and params['masks'][0] is not None:
                    paid(self)
                    leave(self.witness, MIXED)
                return super().transform(inpt, params)

        # the name by which every process finds its own
        LaunchMix.__module__, LaunchMix.__name__, LaunchMix.__qualname__ = home, *[theirs.__name__] * 2
        return LaunchMix

    return in_place_of


def replaced_by(overrides: Mapping[str, Any]) -> list[str]:
    """torchvision's transforms that are replaced, 'module:Class': both by a mix mode, CutMix alone by another mask."""
    names = ('MixUp', 'CutMix') if 'cutmix_alpha' in overrides else ('CutMix',) if overrides else ()
    return [f'torchvision.transforms.v2:{name}' for name in names]
