"""timm's whole loader, with and without mixing: the part `loader`."""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import timm.data
import torch

from ..common.errors import RunError
from ..common.tables import Table
from ..data.scikit_images import photographs
from .calls import REFERENCE, make_mixers, timms_title, titles
from .timing import median_ratio, progress, synchronize

JPEG_SIZE = (500, 375)
"""Width and height of the photographs that the loader decodes, about ImageNet's."""

UNMIXED = 'no mixing'


def bench_loader(args: argparse.Namespace) -> dict[str, Table]:
    """Images per second of timm's whole loader, with and without mixing."""
    mixers = make_mixers('FastCollateMixup', 'batch', args.mix_modes)
    shown = [str(timms_title(REFERENCE)), *titles(args.mix_modes).values()]
    collates: dict[str, Any] = {UNMIXED: None, **{name: mixers[name] for name in shown}}
    rates: dict[str, list[float]] = {name: [] for name in collates}
    with image_folder(args) as folder:
        count = len(timm.data.create_dataset('', str(folder)))
        if count < args.batch_size:
            raise RunError(f'{folder} holds {count} images, fewer than a batch of {args.batch_size}')
        loaders = {
            name: timm.data.create_loader(
                timm.data.create_dataset('', str(folder)),
                input_size=(3, args.size, args.size),
                batch_size=args.batch_size,
                is_training=True,
                num_workers=args.workers,
                collate_fn=collate,
                device=torch.device(args.device),
            )
            for name, collate in collates.items()
        }
        for epoch in range(1 + args.epochs):  # the first one starts the workers
            for name, loader in loaders.items():
                progress(f'loader: {name}, epoch {epoch} of {args.epochs}')
                start = time.perf_counter()
                images = sum(len(batch) for batch, _ in loader)
                synchronize(args.device)
                seconds = time.perf_counter() - start
                if epoch:
                    rates[name].append(images / seconds)
    table = [
        {'loader': name, 'images per second': median(rate), f'÷ {UNMIXED}': median_ratio(rate, rates[UNMIXED])}
        for name, rate in rates.items()
    ]
    return {f"timm's create_loader, {args.workers} workers, {args.size}×{args.size}, {args.device}": table}


def holds_images(folder: Path) -> bool:
    """Whether there is an image in some class folder."""
    return any(path.suffix.lower() in timm.data.get_img_extensions() for path in folder.glob('*/**/*'))


@contextlib.contextmanager
def image_folder(args: argparse.Namespace) -> Iterator[Path]:
    """--data-dir, or a temporary image folder of JPEGs cut from scikit-learn's two photographs."""
    if args.data_dir is not None:
        yield args.data_dir
        return
    from PIL import Image

    pictures = [Image.fromarray(array) for array in photographs()]
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.images):
            photograph = pictures[i % len(pictures)]
            share = rng.uniform(0.6, 1.0)
            width, height = (int(side * share) for side in photograph.size)
            left, top = (int(rng.integers(0, a - b + 1)) for a, b in zip(photograph.size, (width, height), strict=True))
            cutting = photograph.resize(JPEG_SIZE, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
            path = Path(folder, f'class{i % len(pictures)}', f'{i:06}.jpg')
            path.parent.mkdir(exist_ok=True)
            cutting.save(path, quality=90)
        yield Path(folder)
