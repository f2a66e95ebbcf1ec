"""Scikit-learn's handwritten digits as an image folder: real images that need no download.

The 1,797 grey images of 8×8 pixels (UCI's optical recognition of handwritten digits, as scikit-learn ships them) become

    <cache>/hmix_timm/digits-v1/train/<digit>/*.png        TRAIN_PER_CLASS images a digit
    <cache>/hmix_timm/digits-v1/validation/<digit>/*.png   all the others

enlarged to 32×32, the smallest size with which timm's small models work well. The training split is small on purpose:
with few images a network overfits them, and the effect of an augmentation becomes visible.
"""

import os
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.errors import RunError
from ..common.files import new_folder
from .scikit_images import digits

# A new number for every change of the images: a folder is complete once it has its name, and never changes.
FOLDER_NAME = 'digits-v1'
IMAGE_SIZE = 32
NUM_IMAGES = 1797
TRAIN_PER_CLASS = 10
SPLIT_SEED = 0


def digits_path() -> Path:
    """The image folder's path, under `XDG_CACHE_HOME`, else under `~/.cache`. Creates nothing."""
    cache = os.environ.get('XDG_CACHE_HOME', '')
    # the XDG specification: a relative path is invalid and to be ignored
    root = Path(cache) if os.path.isabs(cache) else Path.home() / '.cache'
    return root / 'hmix_timm' / FOLDER_NAME


def digits_folder() -> Path:
    """Writes the image folder on the first call, and returns its path, for `--data-dir`.

    It holds `train/<digit>/*.png` and `validation/<digit>/*.png`, 8-bit grey, 32×32. Under its name the folder is
    always complete, also when two processes write it at once or one is killed.

    Raises:
        RunError: scikit-learn is needed for the first call and is not installed; the folder cannot be written; or
            files were taken out of it or added to it.
    """
    folder = digits_path()
    if not folder.exists():
        images, labels = digits()
        try:
            with new_folder(folder) as draft:
                _write_images(draft, images, labels)
        except RunError:
            if not folder.is_dir():  # else another process was quicker, and wrote the same images
                raise
    found = sum(1 for _ in folder.glob('*/*/*.png'))
    if found != NUM_IMAGES:
        raise RunError(f'{folder} holds {found} images where {NUM_IMAGES} belong: delete that folder and try again')
    return folder


def _write_images(root: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Writes both splits below `root`.

    Args:
        root: an existing folder.
        images: grey values from 0 to 16, of shape (N, 8, 8).
        labels: class numbers, of shape (N,).
    """
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    for label in np.unique(labels):
        for number, index in enumerate(order[labels[order] == label]):
            folder = root / ('train' if number < TRAIN_PER_CLASS else 'validation') / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            grey = Image.fromarray(np.rint(images[index] * (255 / 16)).astype(np.uint8))
            grey.resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC).save(folder / f'{index:04d}.png')
