"""SaliencyMix: M = 0 in CutMix's box around the most salient pixel of image j, and 1 outside.

A. F. M. S. Uddin, M. S. Monira, W. Shin, T. Chung, S.-H. Bae, "SaliencyMix: A Saliency Guided Data Augmentation
Strategy for Better Regularization", ICLR 2021, https://arxiv.org/abs/2006.01791. Its published code
(https://github.com/afm-shahab-uddin/SaliencyMix) hands normalized floats to OpenCV, which takes their bytes for grey
levels, so that its boxes lie anywhere. Here the saliency is the picture's: floats become grey levels first.
"""

from types import SimpleNamespace

import numpy as np

from ..draws import Draws
from ..masks import BoxMask, Mask, Size
from .family import Family

REACHES = (12, 24, 48, 28, 56, 112)
"""Half sides in pixels of the squares with which a pixel is compared."""


def saliency(image: np.ndarray) -> np.ndarray:
    """OpenCV's fine-grained static saliency of an RGB (or any other) image (C, H, W): (H, W), 0 to 255.

    It is the contrast of each pixel to the means of the squares around it, what is lighter and what is darker each
    relative to its largest value (Montabone and Soto, Image and Vision Computing 28, 2010).
    """
    image = image.reshape(-1, *image.shape[-2:])
    weights = (0.299, 0.587, 0.114) if len(image) == 3 else np.full(len(image), 1.0 / len(image))
    grey = np.tensordot(weights, image, 1)
    if image.dtype != np.uint8:
        grey = (grey - grey.min()) * (255.0 / max(np.ptp(grey), 1e-30))
    grey = _smoothed(_smoothed(np.rint(grey).astype(np.int32)))
    # sums up to each row and column, and beyond the borders those up to them
    most, (height, width) = max(REACHES), grey.shape
    rows, columns = (np.arange(-most, n + 1 + most).clip(0, n) for n in grey.shape)
    sums = np.pad(grey.cumsum(0).cumsum(1), ((1 + most, most), (1 + most, most)), 'edge')
    sums[: 1 + most], sums[:, : 1 + most] = 0, 0
    both = np.zeros((2, height, width), np.int32)
    for reach in REACHES:
        top, bottom = (slice(at, at + height) for at in (1 + most - reach, 1 + most + reach))
        left, right = (slice(at, at + width) for at in (1 + most - reach, 1 + most + reach))
        others = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left] - grey
        count = np.outer(rows[bottom] - rows[top], columns[right] - columns[left]) - 1
        contrast = (grey - others / np.maximum(count, 1).astype(np.float32)).astype(np.int32)
        both += np.maximum(contrast, 0), np.maximum(-contrast, 0)
    lighter, darker = (255 * side // max(side.max(), 1) for side in both)
    return 255 * (lighter + darker) // max(lighter.max(), darker.max(), 1)


def _smoothed(grey: np.ndarray) -> np.ndarray:
    """By 3 × 3 binomial weights, rounded; the image is reflected at its borders."""
    sums = grey
    for axis, length in enumerate(grey.shape):
        at = np.arange(length)
        before, after = np.minimum(abs(at - 1), length - 1), np.maximum(length - 1 - abs(length - 2 - at), 0)
        sums = sums.take(before, axis) + 2 * sums + sums.take(after, axis)
    return (sums + 8) // 16


def draw(size: Size, lam: float, options: SimpleNamespace, draws: Draws, images: list[np.ndarray]) -> Mask:
    """Draws nothing: the box has √(1 − λ) of the image's sides, and its place follows from the partner."""
    peak = np.unravel_index(saliency(images[1]).argmax(), size)
    halves = (int(pixels * (1.0 - float(lam)) ** 0.5) // 2 for pixels in size)
    spans = [(max(at - half, 0), min(at + half, n)) for at, half, n in zip(map(int, peak), halves, size, strict=True)]
    return BoxMask(1.0, (*spans[0], *spans[1]))


FAMILY = Family(
    name='saliencymix',
    title='SaliencyMix',
    draw=draw,
    mix_mode='saliencymix',
    presets={'imagenet': {'alpha': 1.0}, 'cifar100': {'alpha': 1.0}},
    colour='#4B0082',
    sees='images',
)
