"""Mix modes: the rows of the paper's tables, and which constructor arguments make each of them (section 5)."""

from dataclasses import dataclass
from typing import Any

from .checks import check_choice
from .families import FAMILIES, PRESETS

_MIXUP_ALPHA = {'imagenet': 0.8, 'cifar100': 1.0}
_STOCHASTIC_ALPHA = {'imagenet': 1.0, 'cifar100': 1.0}
_SWITCH_PROB = 0.5  # section 4: Stochastic Mixup & CutMix chooses with q = 0.5


@dataclass(frozen=True)
class MixMode:
    """A value of `--mix-mode`.

    Args:
        title: for people.
        colour: in plots; Okabe and Ito's, told apart by colour-blind readers too.
        family: name of the mask in the CutMix slot; '' where that slot is off.
        mixup: whether the Mixup slot is on.
    """

    title: str
    colour: str
    family: str = ''
    mixup: bool = False

    @property
    def mixes(self) -> bool:
        """Whether it mixes at all."""
        return bool(self.family or self.mixup)


def mix_modes() -> dict[str, MixMode]:
    """Name → mix mode, in the order of the paper's tables; registered families come last.

    'none' is the vanilla row, 'stochastic' is Stochastic Mixup & CutMix.
    """
    masks = {family.mix_mode: MixMode(family.title, family.colour, family.name) for family in FAMILIES.values()}
    return {
        'none': MixMode('No mixing', '#000000'),
        'mixup': MixMode('Mixup', '#56B4E9', mixup=True),
        'cutmix': masks.pop('cutmix'),
        'stochastic': MixMode('Stochastic', '#009E73', 'bbox', mixup=True),
        **masks,
    }


def mixer_arguments(mix_mode: str, preset: str = 'imagenet') -> dict[str, Any]:
    """Constructor arguments that make ``Mixup`` or ``FastCollateMixup`` a row of the paper's tables (section 5).

    Args:
        mix_mode: one of ``mix_modes()``. 'none' is a mixer that never mixes and still makes (smoothed) soft targets.
        preset: one of ``PRESETS``.

    Returns:
        A new dict with ``mixup_alpha``, ``cutmix_alpha``, ``cutmix_minmax``, ``switch_prob``, ``cutmix_mode``, the
        family's options where the paper names them, and for 'none' ``prob``.

    Raises:
        ValueError: mix mode or preset is unknown.
    """
    check_choice('mix_mode', mix_mode, mix_modes())
    check_choice('preset', preset, PRESETS)
    mode = mix_modes()[mix_mode]
    arguments: dict[str, Any] = {'cutmix_minmax': None, 'switch_prob': _SWITCH_PROB, 'cutmix_mode': 'bbox'}
    if not mode.mixes:
        return {**arguments, 'mixup_alpha': 1.0, 'cutmix_alpha': 0.0, 'prob': 0.0}
    if not mode.family:
        return {**arguments, 'mixup_alpha': _MIXUP_ALPHA[preset], 'cutmix_alpha': 0.0}
    if mode.mixup:
        alpha = _STOCHASTIC_ALPHA[preset]
        return {**arguments, 'mixup_alpha': alpha, 'cutmix_alpha': alpha, 'cutmix_mode': mode.family}
    family = FAMILIES[mode.family]
    values = dict(family.presets[preset])
    arguments |= {'mixup_alpha': 0.0, 'cutmix_alpha': values.pop('alpha'), 'cutmix_mode': family.name}
    return arguments | {f'{family.name}_{option}': value for option, value in values.items()}
