"""The images of a run: checked before anything is built, read strictly, drawn anew in every epoch."""

import argparse
import os
import random
from collections.abc import Collection
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm.data import ImageDataset, create_dataset
from torch.utils.data import Dataset, get_worker_info

from ..common.errors import RunError
from ..private import search_split
from .arguments import WrongArguments
from .checks import image_mode


class UnreadableImage(RunError):
    """An image file that cannot be opened or decoded; the message names it."""


def load_datasets(args: argparse.Namespace) -> tuple[Any, Any | None]:
    """The data sets of training and validation (None without --val-split), checked as far as they can be unread.

    Raises:
        WrongArguments: there is no such data set, or its classes do not fit; the message names the option.
    """
    kwargs = dict(
        root=args.data_dir,
        class_map=args.class_map,
        download=args.dataset_download,
        batch_size=args.batch_size,
        input_img_mode=image_mode(args),
        input_key=args.input_key,
        target_key=args.target_key,
    )
    try:
        check_data_folder(args.data_dir, args.dataset, [s for s in (args.train_split, args.val_split) if s])
    except ValueError as error:
        raise WrongArguments(str(error)) from error
    try:
        train = create_dataset(
            args.dataset,
            split=args.train_split,
            is_training=True,
            seed=args.seed,
            repeats=args.epoch_repeats,
            num_samples=args.train_num_samples,
            **kwargs,
        )
        validation = None
        if args.val_split:
            validation = create_dataset(
                args.dataset, split=args.val_split, is_training=False, num_samples=args.val_num_samples, **kwargs
            )
    except Exception as error:  # timm's, torchvision's and others' own complaints, assertions among them
        reason = ' '.join(str(error).split()).replace('download=True', '--dataset-download')
        source = f'--dataset {args.dataset}' if args.dataset else f'--data-dir {args.data_dir}'
        raise WrongArguments(f'{source}: {reason or type(error).__name__}') from error
    try:
        check_classes(train, validation, args.class_map)
        if args.num_classes is not None:
            check_num_classes(args.num_classes, train, args.class_map, given=True)
    except ValueError as error:
        raise WrongArguments(str(error)) from error
    return strict(train), strict(validation)


def check_data_folder(root: str | None, dataset: str, splits: Collection[str]) -> None:
    """Checks the folder of an ImageFolder data set (no data set type, or `torch/folder`) before it is scanned.

    Args:
        root: value of --data-dir.
        dataset: value of --dataset.
        splits: the splits that the run will read.

    Raises:
        ValueError: the folder or one of its splits is missing; the message names the option and the path.
    """
    if dataset not in ('', 'torch/folder', 'torch/image_folder'):
        return
    if not root:
        raise ValueError('--data-dir is missing: the folder that holds train/ and validation/')
    if not os.path.exists(root):
        raise ValueError(f'--data-dir {root}: there is no such folder')
    if os.path.isfile(root):
        if not root.endswith('.tar'):
            raise ValueError(f'--data-dir {root}: neither a folder nor a .tar file')
        return
    for split in splits:
        folder = search_split(root, split)  # timm's own search; it falls back to the root, and so would mix the splits
        if folder == root:
            raise ValueError(f'--data-dir {root}: there is no folder {split}/ in it')
        if not os.path.isdir(folder):
            raise ValueError(f'--data-dir {root}: {folder} is not a folder')


def class_indices(dataset: Any) -> dict[str, int]:
    """Class name → index of a timm or torchvision data set; empty where the data set does not say."""
    return getattr(getattr(dataset, 'reader', dataset), 'class_to_idx', None) or {}


def check_classes(train: Any, validation: Any | None, class_map: str) -> None:
    """Checks that training and validation data have the same classes.

    Raises:
        ValueError: a class lacks images in one of them; the message names it.
    """
    if validation is None or class_map:
        return
    train_classes, validation_classes = set(class_indices(train)), set(class_indices(validation))
    if not train_classes or not validation_classes:
        return
    for missing, have, lack in (
        (train_classes - validation_classes, 'training', 'validation'),
        (validation_classes - train_classes, 'validation', 'training'),
    ):
        if missing:
            names = ', '.join(sorted(missing)[:5]) + (', …' if len(missing) > 5 else '')
            raise ValueError(
                f'--data-dir: {len(missing)} class(es) with {have} images have no {lack} images: {names} '
                '(every class needs a folder of the same name, with images, in both)'
            )


def check_num_classes(num_classes: int, dataset: Any, class_map: str, given: bool) -> None:
    """Checks the model's number of classes against the data's.

    Args:
        num_classes: of the model.
        dataset: the training data.
        class_map: value of --class-map; a map may use only some of the indices.
        given: whether --num-classes was given, or is the model's default.

    Raises:
        ValueError: they differ; the message says what to pass.
    """
    indices = class_indices(dataset)
    if not indices:
        return
    found = max(indices.values()) + 1
    if num_classes < found or (num_classes > found and not class_map):
        option = f'--num-classes {num_classes}' if given else f"--num-classes is missing, and the model's {num_classes}"
        raise ValueError(f'{option}: the data has {found} classes; pass --num-classes {found}')


class StrictImageDataset(ImageDataset):
    """timm's ImageDataset, but an unreadable file ends the run by name; timm's takes the next image in its place."""

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        """Image and target at `index`, after their transforms.

        Raises:
            UnreadableImage: the file cannot be opened or decoded.
        """
        try:
            file, target, *_ = self.reader[index]
            with file:
                opened = Image.open(file)
                image = opened.convert(self.input_img_mode) if self.input_img_mode else opened.copy()
        except Exception as error:  # PIL raises OSError, SyntaxError, ValueError, struct.error … for a broken file
            reason = ' '.join(str(error).split())
            name = self.filename(index, absolute=True)
            raise UnreadableImage(f'cannot read the image {name}: {reason}') from error
        if self.transform is not None:
            image = self.transform(image)
        if target is None:
            return image, -1
        return image, target if self.target_transform is None else self.target_transform(target)


def strict(dataset: Any) -> Any:
    """The same data set, reading strictly where it is one of timm's image data sets."""
    if type(dataset) is not ImageDataset:
        return dataset
    return StrictImageDataset('', reader=dataset.reader, input_img_mode=dataset.input_img_mode)


def draw_seed(*keys: int) -> int:
    """A seed below 2**31 from seed, epoch, rank, worker …: near keys give unrelated seeds."""
    return int(np.random.SeedSequence(keys).generate_state(1)[0] >> 1)


class EpochSeeded(Dataset):
    """A map-style data set whose loader workers draw from seed, epoch, rank and worker alone.

    timm's workers stay alive over the epochs and are seeded at their start only, so that a resumed run would draw what
    the first epoch drew. Here each worker is seeded again where a new epoch begins; epoch 0 is left to timm.

    Args:
        dataset: any map-style data set, timm's AugMixDataset included.
        seed: of the run.
        rank: of this process.
    """

    def __init__(self, dataset: Any, seed: int, rank: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.rank = rank
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by workers that are already running
        self.seeded_epoch = 0

    @property
    def transform(self) -> Any:
        """The inner data set's, for timm's loader to set."""
        return self.dataset.transform

    @transform.setter
    def transform(self, transform: Any) -> None:
        self.dataset.transform = transform

    def set_epoch(self, epoch: int) -> None:
        """Announces the epoch; call it before the loader is iterated."""
        self.epoch.fill_(epoch)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        worker, epoch = get_worker_info(), int(self.epoch)
        if worker is not None and epoch != self.seeded_epoch:
            seed = draw_seed(self.seed, epoch, self.rank, worker.id)
            random.seed(seed)
            np.random.seed(seed)
            torch.manual_seed(seed)
            self.seeded_epoch = epoch
        return self.dataset[index]
