"""Pictures of mixes: samples in rows, mix modes side by side; making and writing figures."""

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hmix_timm.masks import Mask

from ..common.files import write_atomically

if TYPE_CHECKING:
    from .record import Batch

MIXES_SIDE_BY_SIDE = 6


def blended(own: np.ndarray, other: np.ndarray, mask: Mask) -> np.ndarray:
    """M ⊙ own + (1 − M) ⊙ other as the mixers blend it; images (H, W, 3) uint8, clipped where M is outside [0, 1]."""
    import torch

    from hmix_timm.blend import blend_

    images = [torch.from_numpy(image.copy()).permute(2, 0, 1).float() for image in (own, other)]
    return blend_(images[0], images[1], mask).round_().clamp_(0, 255).byte().permute(1, 2, 0).numpy()


def mix_grid(own: np.ndarray, other: np.ndarray, masks: dict[str, Mask], title: str) -> Any:
    """The paper's Figure 3: two originals, their mixes, the mixing masks underneath, one colour scale.

    More than `MIXES_SIDE_BY_SIDE` mixes stand in several such bands.

    Args:
        own: image i, (H, W, 3) uint8.
        other: image j, the same shape.
        masks: name → mask, the share of image i.
        title: title of the figure.

    Returns:
        A matplotlib `Figure`.
    """
    size = own.shape[0], own.shape[1]
    bands = math.ceil(len(masks) / MIXES_SIDE_BY_SIDE)
    mixes = math.ceil(len(masks) / bands)
    figure = new_figure((1.45 * (2 + mixes) + 0.6, 3.5 * bands + 0.3))
    axes = figure.subplots(2 * bands, 2 + mixes, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for upper, lower in zip(axes[::2], axes[1::2], strict=True):
        for ax, image, name in zip(upper, (own, other), ('image i', 'image j'), strict=False):
            ax.imshow(image)
            ax.set_title(name, fontsize=11, y=1)
        beside, within = upper[0], lower[1]
        beside.text(-0.08, 0.5, 'Mixed images', transform=beside.transAxes, rotation=90, ha='right', va='center')
        words = 'Mixing masks M\n(share of i),\nlabel weights'
        within.text(0.5, 0.5, words, transform=within.transAxes, ha='center', va='center')
    shown = None
    # of the last band some may be left over
    for ax, ax_mask, (name, mask) in zip(axes[::2, 2:].flat, axes[1::2, 2:].flat, masks.items(), strict=False):
        ax.imshow(blended(own, other, mask))
        ax.set_title(name, fontsize=11, y=1)
        shown = ax_mask.imshow(mask.array(size), vmin=0.0, vmax=1.0, cmap='viridis')
        ax_mask.set_title(f'i {mask.mean(size):.3f}, j {1.0 - mask.mean(size):.3f}', fontsize=10, y=1)
    figure.colorbar(shown, ax=axes, fraction=0.012, pad=0.01, ticks=[0.0, 0.5, 1.0])
    figure.suptitle(title, fontsize=12)
    return figure


def plot_samples(batches: 'Sequence[Batch]', rows: int, title: str) -> Any:
    """Draws a matplotlib `Figure` with a row for each sample: images i and j, mask, mixed image and label weights.

    The saliency of both images stands before the mask where it depends on them.

    Args:
        batches: complete.
        rows: number of samples; those that are left over are not shown.
        title: of the figure.
    """
    height = 2.35 * rows + 0.9  # inches
    columns = 4 if batches[0].saliency is None else 6
    figure = new_figure((2.3 * columns, height), layout=None)
    # set by hand: matplotlib's own layout takes longer than all the rest
    places = dict(left=0.01, right=0.91, bottom=0.05 / height, top=1 - 0.9 / height, wspace=0.05, hspace=0.24)
    axes = figure.subplots(rows, columns, squeeze=False, gridspec_kw=places)
    scale = None
    samples = [(batch, i) for batch in batches for i in range(len(batch.mixed))]
    for row, (batch, i) in zip(axes, samples, strict=False):
        j = len(batch.images) - 1 - i
        names = [_shortened(batch.classes[k]) for k in (i, j)]
        weights = f'{batch.weights[i]:.3f} {names[0]}\n{1.0 - batch.weights[i]:.3f} {names[1]}'
        maps = () if batch.saliency is None else ('saliency of i', 'saliency of j')
        texts = (f'image i\n{names[0]}', f'image j\n{names[1]}', *maps, 'mask M', weights)
        for ax, text in zip(row, texts, strict=True):
            ax.set_axis_off()
            ax.set_title(text, fontsize=9, y=1, parse_math=False)  # a class name is no formula, even with dollar signs
        for ax, image in ((row[0], batch.images[i]), (row[1], batch.images[j]), (row[-1], batch.mixed[i])):
            ax.imshow(to_rgb(image))
        if batch.saliency is not None:
            for ax, k in ((row[2], i), (row[3], j)):
                ax.imshow(batch.saliency[k], vmin=0.0, cmap='magma')
        scale = row[-2].imshow(batch.masks[i], vmin=0.0, vmax=1.0, cmap='viridis')
    bar = figure.add_axes((0.93, 0.1, 0.012, 0.8 - 0.9 / height))
    figure.colorbar(scale, cax=bar, ticks=[0.0, 0.5, 1.0], label="M: image i's share")
    figure.suptitle(textwrap.fill(title, 110), fontsize=9, y=1 - 0.12 / height, va='top')
    return figure


def _shortened(name: str, width: int = 21) -> str:
    """A name without its middle where it is too long to stand above an image."""
    return name if len(name) <= width else f'{name[: width // 2]}…{name[-(width // 2) :]}'


def to_rgb(image: np.ndarray) -> np.ndarray:
    """(C, H, W) uint8 → (H, W, 3) uint8 for showing; a grey image gets three equal channels."""
    return np.broadcast_to(image.transpose(1, 2, 0), (*image.shape[1:], 3))


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
