"""The images that come with scikit-learn: two photographs and 1,797 handwritten digits, without a download."""

from typing import Any

import numpy as np
from PIL import Image, ImageOps

from hmix_timm.masks import Size

from ..common.errors import RunError


def _datasets() -> Any:
    try:
        import sklearn.datasets
    except ModuleNotFoundError as error:
        raise RunError(
            "these images come with scikit-learn, which is not installed: pip install 'hmix-timm[demo]'"
        ) from error
    return sklearn.datasets


def photographs(size: Size | None = None) -> tuple[np.ndarray, np.ndarray]:
    """A flower and a temple.

    Args:
        size: height and width to cut to the middle and scale to; as they are, 427 × 640, if left out.

    Returns:
        Two arrays (H, W, 3) uint8.

    Raises:
        RunError: scikit-learn is not installed.
    """
    flower, temple = (_datasets().load_sample_image(name) for name in ('flower.jpg', 'china.jpg'))
    if size is None:
        return flower, temple
    sides = size[1], size[0]
    flower, temple = (
        np.asarray(ImageOps.fit(Image.fromarray(image), sides, Image.Resampling.BICUBIC)) for image in (flower, temple)
    )
    return flower, temple


def digits() -> tuple[np.ndarray, np.ndarray]:
    """The digits of UCI's optical recognition of handwritten digits, in scikit-learn's order.

    Returns:
        Grey values from 0 to 16, (1797, 8, 8) float64, and the digits (1797,) int64.

    Raises:
        RunError: scikit-learn is not installed.
    """
    data = _datasets().load_digits()
    return data.images, data.target
