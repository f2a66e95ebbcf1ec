"""Scikit-learn's handwritten digits as an image folder: real images that need no download.

The 1,797 grey images of 8×8 pixels (UCI's optical recognition of handwritten digits, as scikit-learn ships them) become

    <cache>/hmix_timm/digits-v1/train/<digit>/*.png        TRAIN_PER_CLASS images a digit
    <cache>/hmix_timm/digits-v1/validation/<digit>/*.png   all the others

enlarged to 32×32, the smallest size that timm's small models take well. The training split is small on purpose: with
few images a network learns them by heart, and what an augmentation is worth becomes visible.
"""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from ..common.errors import RunError
from ..common.files import first_line
from .scikit_images import digits

# A new number for every change of what is written: a folder is complete once it has its name, and never changes.
FOLDER_NAME = 'digits-v1'
IMAGE_SIZE = 32
NUM_IMAGES = 1797
TRAIN_PER_CLASS = 10
SPLIT_SEED = 0


def digits_path() -> Path:
    """Where the image folder lies, or will: under `XDG_CACHE_HOME`, else under `~/.cache`. Creates nothing."""
    cache = os.environ.get('XDG_CACHE_HOME', '')
    # the XDG specification: a relative path is invalid and to be ignored
    root = Path(cache) if os.path.isabs(cache) else Path.home() / '.cache'
    return root / 'hmix_timm' / FOLDER_NAME


def digits_folder() -> Path:
    """The image folder with `train/<digit>/*.png` and `validation/<digit>/*.png`, written on the first call.

    The PNGs are 8-bit grey, 32×32. They are written into a temporary folder beside the final one, which is then
    renamed: under its name the folder is always complete, also when two processes write it at once or one is killed.

    Returns:
        The folder's path, for `--data-dir`.

    Raises:
        RunError: scikit-learn is needed for the first call and is not installed; the folder cannot be written; or it
            is there, but files were taken out of it or added to it.
    """
    folder = digits_path()
    if not folder.exists():
        _write_once(folder)
    found = sum(1 for _ in folder.glob('*/*/*.png'))
    if found != NUM_IMAGES:
        raise RunError(f'{folder} holds {found} images where {NUM_IMAGES} belong: delete that folder and try again')
    return folder


def _write_once(folder: Path) -> None:
    images, labels = digits()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f'{folder.name}.tmp-', dir=folder.parent))
        try:
            _write_images(draft, images, labels)
            try:
                os.rename(draft, folder)
            except OSError:
                # A folder that is not empty is never replaced: another process was quicker, and wrote the same images.
                if not folder.is_dir():
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise RunError(f'cannot write the digits to {folder}: {first_line(error)}') from error


def _write_images(root: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Writes both splits below `root`.

    Args:
        root: an existing folder.
        images: grey values from 0 to 16, of shape (N, 8, 8).
        labels: class numbers, of shape (N,).
    """
    order = np.random.default_rng(SPLIT_SEED).permutation(len(labels))
    for label in np.unique(labels):
        members = order[labels[order] == label]
        for split, chosen in (('train', members[:TRAIN_PER_CLASS]), ('validation', members[TRAIN_PER_CLASS:])):
            folder = root / split / str(label)
            folder.mkdir(parents=True)
            for index in chosen:
                grey = np.rint(images[index] * (255 / 16)).astype(np.uint8)
                enlarged = Image.fromarray(grey).resize((IMAGE_SIZE, IMAGE_SIZE), Image.Resampling.BICUBIC)
                enlarged.save(folder / f'{index:04d}.png')
