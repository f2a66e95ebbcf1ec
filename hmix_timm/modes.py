"""Mix modes: the rows of the paper's tables, and the constructor arguments that make each of them (section 5)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .checks import check_choice
from .families import FAMILIES, PRESETS

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
        mixup_alpha: preset → Mixup's Beta parameter; empty where the Mixup slot is off.
        needs_model: whether it takes saliencies from the model in training: `PuzzleMix`.
    """

    title: str
    colour: str
    family: str = ''
    mixup_alpha: Mapping[str, float] = field(default_factory=dict)
    needs_model: bool = False

    @property
    def mixup(self) -> bool:
        """Whether the Mixup slot is on."""
        return bool(self.mixup_alpha)

    @property
    def draws_masks(self) -> bool:
        """Whether `Mixup`, `FastCollateMixup` and `NaFlexMixup` do the mixing."""
        return bool(self.family) or self.mixup

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
        'mixup': MixMode('Mixup', '#56B4E9', mixup_alpha={'imagenet': 0.8, 'cifar100': 1.0}),
        'cutmix': masks.pop('cutmix'),
        'stochastic': MixMode('Stochastic', '#009E73', 'bbox', mixup_alpha={'imagenet': 1.0, 'cifar100': 1.0}),
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
        raise ValueError(f'mix_mode {mix_mode!r} needs the model in training: use hmix_timm.{mode.title}, not Mixup')
    family = FAMILIES[mode.family or 'bbox']
    arguments = {
        'mixup_alpha': mode.mixup_alpha.get(preset, 0.0),
        'cutmix_alpha': family.presets[preset]['alpha'] or 1.0 if mode.family else 0.0,
        'cutmix_minmax': None,
        'switch_prob': 0.5,  # section 4: Stochastic Mixup & CutMix chooses with q = 0.5
        'cutmix_mode': family.name,
        **family.preset_options(preset),
    }
    return arguments if mode.mixes else {**arguments, 'mixup_alpha': 1.0, 'prob': 0.0}


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
