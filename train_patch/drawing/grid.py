"""Mix modes side by side: one mask each, at the same λ."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from hmix_timm.checks import check_choice
from hmix_timm.draws import numpy_seed
from hmix_timm.families import FAMILIES, Slot, make_slot
from hmix_timm.masks import Mask, Size, mixup_mask
from hmix_timm.modes import mix_modes

from ..mixing import resolve, share_options

Slots = dict[str, tuple[dict[str, Any], Slot | None]]
"""Mix mode → the constructor arguments that make it, and what its CutMix slot draws."""


def grid_slots(modes: Sequence[str], typed: Mapping[str, Any], recipe: Mapping[str, Any]) -> Slots:
    """What each mix mode draws.

    Args:
        modes: mix modes.
        typed: options of the mixing group; each is for the modes that have a use for it.
        recipe: keys of a recipe.

    Raises:
        ValueError: there is no such mode, it has no mask that could be drawn by itself, or an option is wrong or of no
            use to any of the modes.
    """
    for name in modes:
        check_choice('--grid', name, mix_modes())
    slots: Slots = {}
    for name, own in share_options(typed, 'mix_mode', modes, '--grid').items():
        mode = mix_modes()[name]
        mixing = resolve({**own, 'mix_mode': name}, recipe)
        if mixing.needs_model:
            raise ValueError(f'{mixing.asked} asks the model in training for its masks, and --grid has none')
        arguments = mixing.overrides
        options = {k: v for k, v in arguments.items() if mode.family and k in FAMILIES[mode.family].keywords}
        correct_lam = arguments.get('correct_lam', True)
        slots[name] = arguments, make_slot(mode.family, correct_lam=correct_lam, **options) if mode.family else None
    return slots


def grid_masks(slots: Slots, lam: float, size: Size, seed: int) -> dict[str, Mask]:
    """A mask of each mix mode at the same λ and from the same seed, so that boxes and bumps have the same centre.

    Args:
        slots: from `grid_slots`.
        lam: λ.
        size: height and width in pixels.
        seed: of numpy's generator, which is left as it was found.

    Returns:
        Title → mask.
    """
    masks: dict[str, Mask] = {}
    for name, (arguments, slot) in slots.items():
        mode = mix_modes()[name]
        title = mode.title
        with numpy_seed(seed):
            if mode.mixup and slot is not None:
                use_cutmix = np.random.rand() < arguments['switch_prob']
                drawn = slot.family.title if use_cutmix else mix_modes()['mixup'].title
                title, slot = f'{title}\n({drawn} drawn)', slot if use_cutmix else None
        with numpy_seed(seed):
            if slot is None:
                masks[title] = mixup_mask(lam if mode.mixes else 1.0)
            else:
                described = slot.family.describe({k: arguments.get(k) for k in slot.family.keywords})
                masks['\n'.join(filter(None, [title, described]))] = slot.draw_mask(size, lam)[0]
    return masks
