"""The images that come with scikit-learn: two photographs and 1,797 handwritten digits, without a download."""

from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps

from hmix_timm.masks import Size

from ..common.command import require_packages


def photographs(size: Size | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A flower and a temple.

    Args:
        size: height and width to cut to the middle and scale to; as they are, 427 × 640, if left out.

    Returns:
        Two arrays (H, W, 3) uint8.

    Raises:
        RunError: scikit-learn is not installed.
    """
    require_packages('sklearn')
    from sklearn.datasets import load_sample_image

    flower, temple = (Image.fromarray(load_sample_image(name)) for name in ('flower.jpg', 'china.jpg'))
    if size is not None:
        sides = size[1], size[0]
        flower, temple = (ImageOps.fit(image, sides, Image.Resampling.BICUBIC) for image in (flower, temple))
    return np.asarray(flower), np.asarray(temple)


def cuttings(count: int, size: Size) -> Iterator[Image.Image]:
    """Yields random parts of the photographs, the flower and the temple in turns, the same parts every time.

    Args:
        count: number of images.
        size: height and width to scale to.
    """
    import torch
    from torchvision.transforms import InterpolationMode, RandomResizedCrop

    cut = RandomResizedCrop(size, scale=(0.36, 1.0), interpolation=InterpolationMode.BICUBIC)
    pictures = [Image.fromarray(array) for array in photographs()]
    torch.manual_seed(0)
    for i in range(count):
        yield cut(pictures[i % 2])


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The digits of UCI's optical recognition of handwritten digits, in scikit-learn's order.

    Returns:
        Grey values from 0 to 16, (1797, 8, 8) float64, and the digits (1797,) int64.

    Raises:
        RunError: scikit-learn is not installed.
    """
    require_packages('sklearn')
    from sklearn.datasets import load_digits

    data = load_digits()
    return data.images, data.target
