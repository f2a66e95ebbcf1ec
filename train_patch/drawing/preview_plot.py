"""The picture of a preview: a row for each sample."""

import sys
import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from .pictures import new_figure
from .record import Sample

_WIDTH = 9.2  # inches, as are all of these
_ROW = 2.35
_TOP = 0.9
_TITLE_WIDTH = 110  # characters
_NAME_WIDTH = 21  # columns that a class name has above a panel, of which an East Asian character takes two


def plot_samples(samples: Sequence[Sample], title: str) -> Any:
    """A matplotlib `Figure` with a row for each sample: image i, image j, mask, mixed image and label weights.

    The saliency of both images stands before the mask where it depends on them.
    """
    height = _ROW * len(samples) + _TOP
    columns = 4 if samples[0].saliency is None else 6
    figure = new_figure((_WIDTH * columns / 4, height), layout=None)
    # set by hand: matplotlib's own layout takes longer than all the rest
    axes = figure.subplots(
        len(samples),
        columns,
        squeeze=False,
        gridspec_kw=dict(left=0.01, right=0.91, bottom=0.05 / height, top=1 - _TOP / height, wspace=0.05, hspace=0.24),
    )
    fonts, missing = fonts_for({label for sample in samples for label in sample.labels})
    if missing:
        print(f'no installed font has {" ".join(sorted(missing))}: such classes are shown by number', file=sys.stderr)

    def shown(label: str, target: int) -> str:
        return f'class {target}' if missing.intersection(label) else shortened(label, _NAME_WIDTH)

    scale = None
    for row, sample in zip(axes, samples, strict=True):
        label_i, label_j = map(shown, sample.labels, sample.targets)
        scale = row[-2].imshow(sample.mask, vmin=0.0, vmax=1.0, cmap='viridis')
        for ax, image in ((row[0], sample.own), (row[1], sample.other), (row[-1], sample.mixed)):
            ax.imshow(to_rgb(image))
        for ax, saliency in zip(row[2:-2], sample.saliency or (), strict=True):
            ax.imshow(saliency, vmin=0.0, cmap='magma')
        weights = f'{sample.weight:.3f} {label_i}\n{1.0 - sample.weight:.3f} {label_j}'
        maps = ('saliency of i', 'saliency of j') if sample.saliency else ()
        texts = (f'image i\n{label_i}', f'image j\n{label_j}', *maps, 'mask M', weights)
        for ax, text in zip(row, texts, strict=True):
            ax.set_axis_off()
            # a class name is no formula, whatever dollar signs it has
            ax.set_title(text, fontsize=9, fontfamily=fonts, parse_math=False)
    bar = figure.add_axes((0.93, 0.1, 0.012, 0.8 - _TOP / height))
    figure.colorbar(scale, cax=bar, ticks=[0.0, 0.5, 1.0], label="M: image i's share")
    figure.suptitle(textwrap.fill(title, _TITLE_WIDTH), fontsize=9, y=1 - 0.12 / height, va='top')
    return figure


def to_rgb(image: np.ndarray) -> np.ndarray:
    """(C, H, W) uint8 → (H, W, 3) uint8 for showing; a grey image gets three equal channels."""
    return np.broadcast_to(image.transpose(1, 2, 0), (*image.shape[1:], 3))


def shortened(text: str, width: int) -> str:
    """At most `width` columns of text on one line, its middle left out where it is longer."""
    text = ''.join(character if character.isprintable() else ' ' for character in text)
    if _columns(text) <= width:
        return text
    head, tail = '', ''
    for number in range(len(text)):
        longer = (head, text[-1 - number // 2] + tail) if number % 2 else (head + text[number // 2], tail)
        if _columns(''.join(longer)) > width - 1:
            break
        head, tail = longer
    return f'{head}…{tail}'


def _columns(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(character) in 'WF' else 1 for character in text)


def fonts_for(texts: Iterable[str]) -> tuple[list[str], set[str]]:
    """The fonts that are needed to write texts, matplotlib's own first, and the characters that none of them has."""
    from matplotlib import font_manager

    missing = {character for text in texts for character in text if character.isprintable()}
    families = ['DejaVu Sans']
    own = font_manager.get_font(font_manager.findfont('DejaVu Sans')).get_charmap()
    missing = {character for character in missing if ord(character) not in own}
    for entry in font_manager.fontManager.ttflist if missing else ():
        if entry.name.startswith('Last Resort'):  # has a box with a picture of the alphabet for every character
            continue
        try:
            charmap = font_manager.get_font(entry.fname).get_charmap()
        except (OSError, RuntimeError):  # a font file that is damaged or gone
            continue
        found = {character for character in missing if ord(character) in charmap}
        if found:
            families.append(entry.name)
            missing -= found
        if not missing:
            break
    return families, missing
