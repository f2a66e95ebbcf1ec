"""timm's whole loader, with and without mixing: the part `loader`."""

import argparse
import contextlib
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import timm.data
import torch

from ..common.errors import WrongArguments
from ..common.tables import Table
from ..data.scikit_images import cuttings
from .calls import REFERENCE, make_mixers, timms_title, titles
from .timing import median_ratio, progress, synchronize

JPEG_SIZE = (375, 500)
"""Height and width of the images that the loader decodes, about ImageNet's."""

UNMIXED = 'no mixing'


def check_folder(args: argparse.Namespace) -> None:
    """Raises WrongArguments unless --data-dir, where it is given, holds a batch of images."""
    if args.data_dir is None:
        return
    try:
        count = len(timm.data.create_dataset('', str(args.data_dir)))
    except (AssertionError, RuntimeError):  # there is no such folder, or no image in it
        count = 0
    if count < args.batch_size:
        raise WrongArguments(
            f'--data-dir must be a folder of class folders with at least {args.batch_size} images (--batch-size), '
            f'got {args.data_dir} with {count}'
        )


def bench_loader(args: argparse.Namespace) -> dict[str, Table]:
    """Returns images per second of timm's whole loader, with and without mixing."""
    mixers = make_mixers('FastCollateMixup', 'batch', args.mixings)
    shown = [str(timms_title(REFERENCE)), *titles([*args.mixings]).values()]
    collates: dict[str, Any] = {UNMIXED: None, **{name: mixers[name] for name in shown}}
    rates: dict[str, list[float]] = {name: [] for name in collates}
    with image_folder(args) as folder:
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
                rates[name].append(images / (time.perf_counter() - start))
    rates = {name: rate[1:] for name, rate in rates.items()}
    table = [
        {'loader': name, 'images per second': median(rate), f'÷ {UNMIXED}': median_ratio(rate, rates[UNMIXED])}
        for name, rate in rates.items()
    ]
    return {f"timm's create_loader, {args.workers} workers, {args.size}×{args.size}, {args.device}": table}


@contextlib.contextmanager
def image_folder(args: argparse.Namespace) -> Iterator[Path]:
    """--data-dir, or a temporary image folder of JPEGs, parts of scikit-learn's two photographs."""
    if args.data_dir is not None:
        yield args.data_dir
        return
    with tempfile.TemporaryDirectory() as folder:
        for i, image in enumerate(cuttings(args.images, JPEG_SIZE)):
            path = Path(folder, f'class{i % 2}', f'{i:06}.jpg')
            path.parent.mkdir(exist_ok=True)
            image.save(path, quality=90)
        yield Path(folder)
