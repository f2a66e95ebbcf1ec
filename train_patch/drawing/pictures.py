"""What the commands that plot share: the grid of mixes, and writing a figure whole."""

from pathlib import Path
from typing import Any

import numpy as np

from hmix_timm.masks import Mask

from ..common.files import write_atomically


def blended(own: np.ndarray, other: np.ndarray, mask: Mask) -> np.ndarray:
    """M ⊙ own + (1 − M) ⊙ other as the mixers blend it; images (H, W, 3) uint8, clipped where M is outside [0, 1]."""
    import torch

    from hmix_timm.blend import blend_

    images = [torch.from_numpy(image.copy()).permute(2, 0, 1).float() for image in (own, other)]
    mixed = blend_(images[0], images[1], mask)
    return mixed.round_().clamp_(0, 255).byte().permute(1, 2, 0).numpy()


def mix_grid(own: np.ndarray, other: np.ndarray, masks: dict[str, Mask], title: str) -> Any:
    """The paper's Figure 3: two originals, their mixes, the mixing masks underneath, one colour scale.

    Args:
        own: image A, (H, W, 3) uint8.
        other: image B, the same shape.
        masks: name → mask, the share of image A.
        title: title of the figure.

    Returns:
        A matplotlib `Figure`.
    """
    size = own.shape[0], own.shape[1]
    columns = 2 + len(masks)
    figure = new_figure((1.9 * columns + 0.6, 4.6))
    axes = figure.subplots(2, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for ax, image, name in zip(axes[0], (own, other), ('Original A', 'Original B'), strict=False):
        ax.imshow(image)
        ax.set_title(name, fontsize=11)
    shown = None
    for ax, ax_mask, (name, mask) in zip(axes[0, 2:], axes[1, 2:], masks.items(), strict=True):
        ax.imshow(blended(own, other, mask))
        ax.set_title(name, fontsize=11)
        shown = ax_mask.imshow(mask.array(size), vmin=0.0, vmax=1.0, cmap='viridis')
        ax_mask.set_title(f'A {mask.mean:.3f}, B {1.0 - mask.mean:.3f}', fontsize=9)
    beside, within = axes[0, 0], axes[1, 1]
    beside.text(-0.08, 0.5, 'Mixed images', transform=beside.transAxes, rotation=90, ha='right', va='center')
    words = 'Mixing masks M\n(share of A),\nlabel weights'
    within.text(0.5, 0.5, words, transform=within.transAxes, ha='center', va='center')
    figure.colorbar(shown, ax=axes, fraction=0.012, pad=0.01, ticks=[0.0, 0.5, 1.0])
    figure.suptitle(title, fontsize=12)
    return figure


def new_figure(size: tuple[float, float], layout: Any = 'constrained') -> Any:
    """A matplotlib `Figure` of that many inches, without pyplot and its global state."""
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout=layout)


def save_figure(figure: Any, path: Path) -> None:
    """Writes a figure in the format of its name's suffix, atomically; makes its folder.

    Raises:
        RunError: the file cannot be written.
    """
    write_atomically(path, lambda file: figure.savefig(file, format=path.suffix[1:].lower(), dpi=150))
