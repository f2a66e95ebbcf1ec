"""Mix modes side by side: one mask each, at the same λ."""

from collections.abc import Mapping

import numpy as np

from hmix_timm import Mixup
from hmix_timm.draws import numpy_seed
from hmix_timm.masks import Mask, mixup_mask
from hmix_timm.modes import mix_modes

from ..mixing import Mixing


def grid_masks(
    mixings: Mapping[str, Mixing], lam: float, images: tuple[np.ndarray, np.ndarray], seed: int
) -> dict[str, Mask]:
    """Draws a mask of each mix mode at the same λ and from the same seed: boxes and bumps have the same centre.

    Args:
        mixings: mix mode → how it mixes.
        lam: λ.
        images: own and partner, (H, W, 3) uint8.
        seed: of numpy's generator, which is left as it was found.

    Returns:
        Title → mask.
    """
    masks: dict[str, Mask] = {}
    pair = images[0].transpose(2, 0, 1), images[1].transpose(2, 0, 1)
    for name, mixing in mixings.items():
        mode = mix_modes()[name]
        title, use_cutmix = mode.title, bool(mode.family)
        mixer = mixing.mixer(Mixup, 1)
        if mode.mixup and mode.family:
            with numpy_seed(seed):
                use_cutmix = np.random.rand() < mixer.switch_prob
            title += f'\n({mixer.family.title if use_cutmix else mix_modes()["mixup"].title} drawn)'
        mask: Mask = mixup_mask(lam if mode.mixes else 1.0)
        if use_cutmix:
            with numpy_seed(seed):
                mask, _ = mixer.draw_mask(images[0].shape[:2], lam, images=pair)
            title = '\n'.join(filter(None, [title, mixer.family.describe(vars(mixer)).replace(', ', ',\n')]))
        masks[f'{title}\n({name})' if title in masks else title] = mask
    return masks
