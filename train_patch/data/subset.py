"""A small, class-balanced part of a data set as an image folder: `python -m train_patch.data.subset`.

    python -m train_patch.data.subset torch/fashion_mnist fashion_mnist_1000 --data-dir DIR --per-class 100
    hmix-compare fashion_mnist_1000 --data-dir fashion_mnist_1000

With few images a network learns them by heart, and what an augmentation is worth becomes visible. The rule needs no
random numbers, so that anyone gets the same images: the first of each class in the order of the training split.
Validation images are all there are. Both splits are written as PNG, without loss, to

    OUTPUT/train/<class>/<index>.png        OUTPUT/validation/<class>/<index>.png

where <index> is the image's number in its split, and <class> the number of its class, with leading zeros: read as an
image folder, the classes keep their numbers.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from timm.data import create_dataset

from ..common.errors import RunError
from ..trainer.data import check_data_folder, strict


def first_of_each_class(labels: Sequence[int], per_class: int) -> list[int]:
    """Chooses the subset.

    Args:
        labels: class numbers, in the order of the data set.
        per_class: how many images of each class.

    Returns:
        The indices of the first `per_class` images of every class, ascending.

    Raises:
        ValueError: a class has fewer images; the message names it.
    """
    classes, counts = np.unique(labels, return_counts=True)
    for label, count in zip(classes, counts, strict=True):
        if count < per_class:
            raise ValueError(f'--per-class {per_class}: class {label} has only {count} training images')
    return sorted(int(i) for label in classes for i in np.flatnonzero(np.asarray(labels) == label)[:per_class])


def write_subset(train: Any, validation: Any, per_class: int, output: Path) -> tuple[int, int]:
    """Writes the image folder; under its name it is always complete.

    Args:
        train: map-style data set of PIL images and class numbers.
        validation: the same, for the validation split; all of it is written.
        per_class: training images of each class.
        output: the folder to write; must not exist.

    Returns:
        The number of training and of validation images.

    Raises:
        ValueError: a class has fewer training images.
        RunError: the folder cannot be written.
    """
    labels = [int(train[index][1]) for index in range(len(train))]
    chosen = first_of_each_class(labels, per_class)
    class_digits = len(str(max(labels)))
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f'{output.name}.tmp-', dir=output.parent) as draft:
            folder = Path(draft) / 'complete'
            _write_split(folder / 'train', train, chosen, class_digits)
            _write_split(folder / 'validation', validation, range(len(validation)), class_digits)
            folder.rename(output)
    except OSError as error:
        raise RunError(f'cannot write {output}: {error.strerror or error}') from error
    return len(chosen), len(validation)


def _write_split(folder: Path, dataset: Any, indices: Iterable[int], class_digits: int) -> None:
    index_digits = len(str(len(dataset) - 1))
    for index in indices:
        image, label = dataset[index]
        class_folder = folder / f'{int(label):0{class_digits}d}'
        class_folder.mkdir(parents=True, exist_ok=True)
        image.save(class_folder / f'{index:0{index_digits}d}.png')


def build_parser() -> argparse.ArgumentParser:
    """The command line; data options are named as in training."""
    parser = argparse.ArgumentParser(
        prog='python -m train_patch.data.subset',
        description='Write the first images of each class, and all validation images, as an image folder.',
    )
    add = parser.add_argument
    add('dataset', metavar='TYPE/NAME', help='data set as for --dataset in training: torch/…, hfds/…; "" for a folder')
    add('output', type=Path, metavar='OUTPUT', help='image folder to write; must not exist')
    add('--data-dir', metavar='DIR', help='root of the data set')
    add('--dataset-download', action='store_true', help='let torch/… and hfds/… data sets download themselves')
    add('--train-split', default='train', metavar='NAME', help='training split (default: train)')
    add('--val-split', default='validation', metavar='NAME', help='validation split (default: validation)')
    add('--per-class', type=int, required=True, metavar='N', help='training images of each class')
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command; wrong arguments end with status 2, what cannot be read or written with 1."""
    parser = build_parser()
    args = parser.parse_args(argv)
    try:
        if args.per_class < 1:
            raise ValueError(f'--per-class {args.per_class}: must be at least 1')
        if args.output.exists():
            raise ValueError(f'{args.output} is already there')
        check_data_folder(args.data_dir, args.dataset, (args.train_split, args.val_split))
        train, validation = (
            strict(
                create_dataset(
                    args.dataset,
                    root=args.data_dir,
                    split=split,
                    download=args.dataset_download,
                    input_img_mode='',  # as they are: grey images stay grey
                )
            )
            for split in (args.train_split, args.val_split)
        )
        counts = write_subset(train, validation, args.per_class, args.output)
    except ValueError as error:
        parser.error(str(error))
    except RuntimeError as error:  # RunError, and torchvision where the data set is not there
        parser.exit(1, f'{parser.prog}: error: {error}\n')
    print(f'{args.output}: {counts[0]} training and {counts[1]} validation images')
    return 0


if __name__ == '__main__':
    sys.exit(main())
