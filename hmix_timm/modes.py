"""Mix modes: the rows of the paper's tables, and which constructor arguments make each of them (section 5)."""

from dataclasses import dataclass
from typing import Any

from .checks import check_choice
from .families import FAMILIES, PRESETS

_MIXUP_ALPHA = {'imagenet': 0.8, 'cifar100': 1.0}
_STOCHASTIC_ALPHA = {'imagenet': 1.0, 'cifar100': 1.0}
_SWITCH_PROB = 0.5  # section 4: Stochastic Mixup & CutMix chooses with q = 0.5

_PUZZLEMIX = {
    # as its authors trained CIFAR-100 and ImageNet (https://arxiv.org/abs/2009.06962, and its published code)
    'imagenet': {'neigh_size': 2, 't_size': -1},
    'cifar100': {'neigh_size': 4, 't_size': 4},
}


@dataclass(frozen=True)
class MixMode:
    """A value of `--mix-mode`.

    Args:
        title: for people.
        colour: in plots; Okabe and Ito's, told apart by colour-blind readers too.
        family: name of the mask in the CutMix slot; '' where that slot is off.
        mixup: whether the Mixup slot is on.
        needs_model: whether the model in training says what to keep of an image: `PuzzleMix`, not `Mixup`.
    """

    title: str
    colour: str
    family: str = ''
    mixup: bool = False
    needs_model: bool = False

    @property
    def draws_masks(self) -> bool:
        """Whether it is `Mixup` and its brothers that mix."""
        return bool(self.family or self.mixup)

    @property
    def mixes(self) -> bool:
        """Whether it mixes at all."""
        return self.draws_masks or self.needs_model


def mix_modes() -> dict[str, MixMode]:
    """Name → mix mode, in the order of the paper's tables; registered families come after them, PuzzleMix last.

    'none' is the vanilla row, 'stochastic' is Stochastic Mixup & CutMix.
    """
    masks = {family.mix_mode: MixMode(family.title, family.colour, family.name) for family in FAMILIES.values()}
    return {
        'none': MixMode('No mixing', '#000000'),
        'mixup': MixMode('Mixup', '#56B4E9', mixup=True),
        'cutmix': masks.pop('cutmix'),
        'stochastic': MixMode('Stochastic', '#009E73', 'bbox', mixup=True),
        **masks,
        'puzzlemix': MixMode('PuzzleMix', '#999999', needs_model=True),
    }


def mixer_arguments(mix_mode: str, preset: str = 'imagenet') -> dict[str, Any]:
    """Constructor arguments that make ``Mixup`` or ``FastCollateMixup`` a row of the paper's tables (section 5).

    Args:
        mix_mode: one of ``mix_modes()`` that needs no model. 'none' is a mixer that never mixes and still makes
            (smoothed) soft targets.
        preset: one of ``PRESETS``.

    Returns:
        A new dict with ``mixup_alpha``, ``cutmix_alpha``, ``cutmix_minmax``, ``switch_prob``, ``cutmix_mode``, the
        family's options where the paper names them, and for 'none' ``prob``.

    Raises:
        ValueError: mix mode or preset is unknown, or the mix mode needs a model.
    """
    check_choice('mix_mode', mix_mode, mix_modes())
    check_choice('preset', preset, PRESETS)
    mode = mix_modes()[mix_mode]
    if mode.needs_model:
        raise ValueError(f'mix_mode {mix_mode!r} asks a model what to keep: it is hmix_timm.{mode.title}, not Mixup')
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


def puzzle_arguments(preset: str = 'imagenet') -> dict[str, Any]:
    """Constructor arguments of ``PuzzleMix``, as published for the data set of a preset.

    Args:
        preset: one of ``PRESETS``.

    Returns:
        A new dict with ``alpha``, ``beta``, ``gamma``, ``eta``, ``neigh_size``, ``t_eps`` and ``t_size``.

    Raises:
        ValueError: the preset is unknown.
    """
    check_choice('preset', preset, PRESETS)
    return {'alpha': 1.0, 'beta': 1.2, 'gamma': 0.5, 'eta': 0.2, 't_eps': 0.8, **_PUZZLEMIX[preset]}
