"""torchvision's `MixUp` and `CutMix` in a launched script: our transforms, put where scripts look for them."""

from collections.abc import Callable, Mapping
from typing import Any

from torchvision.transforms import v2

from hmix_timm.families import FAMILIES
from hmix_timm.transforms import Mix

from ..common.errors import RunError
from .witness import MIXED, leave


def put_in_torchvisions_place(
    overrides: Mapping[str, Any], asked: str, check: bool, made: Callable[[Any, str], object]
) -> None:
    """Puts ours in the place of torchvision's: of both where a mix mode was asked for, of CutMix with a mask alone.

    Args:
        overrides: constructor arguments of timm's mixers that replace the script's; without any, nothing is replaced.
        asked: '--mix-mode hmix', '--cutmix-mode gmix', …; '' for '--mix-mode none'.
        check: whether --mix-check was given, which cannot look at them.
        made: is called with each instance, and its repr as the mixer that it is.
    """
    if not overrides:
        return
    family = FAMILIES[overrides['cutmix_mode']]
    selector, _, name = (asked or '--mix-mode mixup').partition(' ')
    mix_mode = name if selector == '--mix-mode' else family.mix_mode
    off = overrides.get('prob') == 0.0
    alpha_asked = overrides.get('cutmix_alpha') or overrides.get('mixup_alpha')
    options = {keyword: overrides[keyword] for keyword in family.keywords if keyword in overrides}

    class LaunchMix(Mix):
        witness, mixup_enabled, _mixed = '', True, False
        correct_lam = overrides.get('correct_lam', True)

        def __init__(self, *, alpha: float = 1.0, num_classes: int | None = None, labels_getter: Any = 'default'):
            if check:
                raise RunError("--mix-check cannot look at torchvision's MixUp and CutMix")
            alpha = alpha_asked or alpha
            super().__init__(
                mix_mode, alpha=alpha_asked or alpha, num_classes=num_classes, labels_getter=labels_getter, **options
            )
            made(self, 'no mixing' if off else repr(self))

        def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
            drawn = super().make_params(flat_inputs)
            if off:
                return {'masks': [None] * len(drawn['masks']), 'weights': [1.0]}
            if not self._mixed:
                self._mixed = True
                leave(self.witness, MIXED)
            return drawn

    for place in ('MixUp', 'CutMix') if selector == '--mix-mode' else ('CutMix',):
        # under the names by which every process finds its own
        setattr(v2, place, type(place, (LaunchMix,), {'__module__': v2.__name__}))
