"""Writes a small, class-balanced part of a data set as an image folder: `python -m train_patch.data.subset`.

    python -m train_patch.data.subset torch/fashion_mnist fashion_mnist_1000 --data-dir DIR --per-class 100
    hmix-compare fashion_mnist_1000 --data-dir fashion_mnist_1000

With few images a network overfits them, and the effect of an augmentation becomes visible. The rule needs no
random numbers, so that anyone gets the same images: the first of each class in the order of the training split.
All validation images are kept. Both splits are written as PNG, without loss, to

    OUTPUT/train/<class>/<index>.png        OUTPUT/validation/<class>/<index>.png

where <index> is the image's number in its split, and <class> the number of its class, with leading zeros: read as an
image folder, the classes keep their numbers.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from timm.data import create_dataset

from ..common.command import at_least
from ..common.errors import RunError, WrongArguments
from ..common.files import first_line, new_folder
from ..common.start import command
from ..trainer.data import check_data_folder, strict

PROGRAM = 'python -m train_patch.data.subset'


def first_of_each_class(labels: Sequence[int], per_class: int) -> list[int]:
    """Chooses the subset.

    Args:
        labels: class numbers, in the order of the data set.
        per_class: images of each class.

    Returns:
        The indices of the first `per_class` images of every class, ascending.

    Raises:
        WrongArguments: a class has fewer images; the message names it.
    """
    classes, counts = np.unique(labels, return_counts=True)
    for label, count in zip(classes, counts, strict=True):
        if count < per_class:
            raise WrongArguments(f'--per-class {per_class}: class {label} has only {count} training images')
    return sorted(int(i) for label in classes for i in np.flatnonzero(np.asarray(labels) == label)[:per_class])


def labels_of(dataset: Any) -> list[int]:
    """Class numbers in the order of a map-style data set; decodes images only where it has no list of them."""
    reader = getattr(dataset, 'reader', dataset)
    if hasattr(reader, 'targets'):  # torchvision's
        return [int(label) for label in reader.targets]
    if hasattr(reader, 'samples'):  # timm's image folders
        return [int(label) for _, label in reader.samples]
    if hasattr(reader, 'label_key'):  # timm's hfds/…
        return [int(label) for label in reader.dataset[reader.label_key]]
    return [int(dataset[index][1]) for index in range(len(dataset))]


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
        WrongArguments: a class has fewer training images.
        RunError: the folder cannot be written.
    """
    labels = labels_of(train)
    chosen = first_of_each_class(labels, per_class)
    class_digits = len(str(max(labels)))
    with new_folder(output) as folder:
        _write_split(folder / 'train', train, chosen, class_digits)
        _write_split(folder / 'validation', validation, range(len(validation)), class_digits)
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
    description = 'Write the first images of each class, and all validation images, as an image folder.'
    parser = argparse.ArgumentParser(PROGRAM, description=description)
    add = parser.add_argument
    add('dataset', metavar='TYPE/NAME', help='data set as for --dataset in training: torch/…, hfds/…; "" for a folder')
    add('output', type=Path, metavar='OUTPUT', help='image folder to write; must not exist')
    add('--data-dir', metavar='DIR', help='root of the data set')
    add('--dataset-download', action='store_true', help='let torch/… and hfds/… data sets download themselves')
    add('--train-split', default='train', metavar='NAME', help='training split (default: train)')
    add('--val-split', default='validation', metavar='NAME', help='validation split (default: validation)')
    add('--per-class', type=at_least(1), required=True, metavar='N', help='training images of each class')
    return parser


@command(PROGRAM)
def main(argv: list[str]) -> None:
    """Writes the subset that the command line asks for."""
    args = build_parser().parse_args(argv)
    if args.output.exists():
        raise WrongArguments(f'{args.output} is already there')
    splits = args.train_split, args.val_split
    check_data_folder(args.data_dir, args.dataset, splits)
    options = {'root': args.data_dir, 'download': args.dataset_download, 'input_img_mode': ''}  # grey stays grey
    try:
        train, validation = (strict(create_dataset(args.dataset, split=split, **options)) for split in splits)
    except RuntimeError as error:  # torchvision's, where the data set is not there
        raise RunError(first_line(error)) from error
    counts = write_subset(train, validation, args.per_class, args.output)
    print(f'{args.output}: {counts[0]} training and {counts[1]} validation images')


if __name__ == '__main__':
    sys.exit(main())
