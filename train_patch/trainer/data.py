"""The images of a run: checked before anything is built, read strictly, drawn anew in every epoch."""

import argparse
import multiprocessing
import os
from collections.abc import Callable, Collection, Iterable
from functools import partial
from typing import Any

import numpy as np
import torch
from PIL import Image
from timm import __version__, utils
from timm.data import ImageDataset, create_dataset, create_loader

# timm's own search for the folder of a split, synonyms included (`val` for `validation`): with another rule the check
# of --data-dir would look at the wrong folders, and a missing split would be read from the root, training and
# validation images together.
from timm.data.dataset_factory import _search_split as search_split
from torch.utils.data import Dataset, get_worker_info

from ..common.errors import RunError, WrongArguments
from ..common.processes import end_worker_with_parent
from ..data.crop import padded_crop_loader


class UnreadableImage(RunError):
    """An image file that cannot be opened or decoded; the message names it."""


def image_channels(args: argparse.Namespace) -> int:
    """Channels of the images that the model gets."""
    return args.input_size[0] if args.input_size else args.in_chans or 3


def image_mode(args: argparse.Namespace) -> str:
    """PIL mode in which the images are read."""
    return args.input_img_mode or ('RGB' if image_channels(args) == 3 else 'L')


def load_datasets(args: argparse.Namespace) -> tuple[Any, Any | None]:
    """The data sets of training and validation (None without --val-split), checked as far as they can be unread.

    Raises:
        WrongArguments: there is no such data set, or its classes do not fit; the message names the option.
    """
    if not args.train_split:
        raise WrongArguments(f'--train-split must name the images to train on, got {args.train_split!r}')
    splits = [split for split in (args.train_split, args.val_split) if split]
    kwargs = dict(
        root=args.data_dir,
        class_map=args.class_map,
        download=args.dataset_download,
        input_img_mode=image_mode(args),
        input_key=args.input_key,
        target_key=args.target_key,
    )
    check_data_folder(args.data_dir, args.dataset, splits)
    try:
        train, *validation = [create_dataset(args.dataset, split=split, **kwargs) for split in splits]
    except Exception as error:  # from timm, torchvision and others, assertions among them
        reason = ' '.join(str(error).split()).replace('download=True', '--dataset-download')
        source = f'--dataset {args.dataset}' if args.dataset else f'--data-dir {args.data_dir}'
        raise WrongArguments(f'{source}: {reason or type(error).__name__}') from error
    if validation and not args.class_map:
        _check_classes(set(class_indices(train)), set(class_indices(validation[0])))
    if args.num_classes is not None:
        check_num_classes(args.num_classes, train, args.class_map, given=True)
    return strict(train), strict(validation[0]) if validation else None


def check_data_folder(root: str | None, dataset: str, splits: Collection[str]) -> None:
    """Checks the folder of an ImageFolder data set (no data set type, or `torch/folder`) before it is scanned.

    Args:
        root: value of --data-dir.
        dataset: value of --dataset.
        splits: the splits that the run will read.

    Raises:
        WrongArguments: the folder or one of its splits is missing; the message names the option and the path.
    """
    if dataset not in ('', 'torch/folder', 'torch/image_folder'):
        return
    if not root:
        raise WrongArguments('--data-dir is missing: the folder that holds train/ and validation/')
    if not os.path.exists(root):
        raise WrongArguments(f'--data-dir {root}: there is no such folder')
    for split in splits if os.path.isdir(root) else ():  # it may be a .tar
        if search_split(root, split) == root:
            raise WrongArguments(f'--data-dir {root}: there is no folder {split}/ in it')


def class_indices(dataset: Any) -> dict[str, int]:
    """Class name → index of a timm or torchvision data set; empty where the data set does not say."""
    return getattr(getattr(dataset, 'reader', dataset), 'class_to_idx', None) or {}


def _check_classes(train: set[str], validation: set[str]) -> None:
    """Checks that all classes have images of both kinds, where the data sets name their classes."""
    for missing, have, lack in (
        (train - validation, 'training', 'validation'),
        (validation - train, 'validation', 'training'),
    ):
        if missing and train and validation:
            names = ', '.join(sorted(missing)[:5]) + (', …' if len(missing) > 5 else '')
            raise WrongArguments(
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
        WrongArguments: they differ; the message says the number to pass.
    """
    found = max(class_indices(dataset).values(), default=num_classes - 1) + 1
    if num_classes < found or (num_classes > found and not class_map):
        option = f'--num-classes {num_classes}' if given else f"--num-classes is missing, and the model's {num_classes}"
        raise WrongArguments(f'{option}: the data has {found} classes; pass --num-classes {found}')


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
    """The same data set, reading strictly if it is one of timm's image data sets."""
    if type(dataset) is not ImageDataset:
        return dataset
    return StrictImageDataset('', reader=dataset.reader, input_img_mode=dataset.input_img_mode)


def draw_seed(*keys: int) -> int:
    """A seed below 2**31 from seed, epoch, rank, worker …: near keys give unrelated seeds."""
    return int(np.random.SeedSequence(keys).generate_state(1)[0] >> 1)


class EpochSeeded(Dataset):
    """A data set whose loader workers draw from seed, epoch, rank and worker alone.

    timm's workers stay alive over the epochs and are seeded at their start only, so that a resumed run would repeat
    the draws of the first epoch. Here each worker is seeded again where a new epoch begins; epoch 0 is left to timm.
    The inner data set applies the transform that timm's loader sets here.

    Args:
        dataset: any map-style data set.
        seed: of the run.
        rank: of this process.
    """

    transform: Any = None

    def __init__(self, dataset: Any, seed: int, rank: int) -> None:
        self.dataset = dataset
        self.seed = seed
        self.rank = rank
        self.epoch = torch.zeros((), dtype=torch.int64).share_memory_()  # seen by workers that are already running
        self.seeded_epoch = 0

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        worker, epoch = get_worker_info(), int(self.epoch)
        if worker is not None and epoch != self.seeded_epoch:
            utils.random_seed(draw_seed(self.seed, epoch, self.rank, worker.id))
            self.seeded_epoch = epoch
        return self.dataset[index]


def loader_arguments(args: argparse.Namespace, data_config: dict[str, Any]) -> dict[str, Any]:
    """The arguments of timm's `create_loader` for the training images: size, statistics, augmentation."""
    interpolation = '' if args.no_aug else args.train_interpolation
    return dict(
        input_size=data_config['input_size'],
        mean=data_config['mean'],
        std=data_config['std'],
        is_training=True,
        no_aug=args.no_aug,
        re_prob=args.reprob,
        re_mode=args.remode,
        re_count=args.recount,
        scale=args.scale,
        ratio=args.ratio,
        hflip=args.hflip,
        vflip=args.vflip,
        color_jitter=args.color_jitter,
        auto_augment=args.aa,
        interpolation=interpolation or data_config['interpolation'],
    )


def build_loaders(
    args: argparse.Namespace,
    datasets: tuple[Any, Any | None],
    data_config: dict[str, Any],
    device: torch.device,
    collate_fn: Callable[..., Any] | None,
) -> tuple[Any, Any | None]:
    """The loaders of training and validation, whose workers can be repeated by a resumed run and never outlive it.

    Args:
        args: the run's arguments, with rank and world size.
        datasets: from `load_datasets`.
        data_config: timm's: input size, mean, standard deviation, interpolation, crop.
        device: where the prefetcher puts the batches.
        collate_fn: the mixer, if the workers mix.

    Raises:
        WrongArguments: there are fewer training images than one batch for each process.
    """
    train, validation = datasets
    if len(train) < args.batch_size * args.world_size:
        raise WrongArguments(
            f'--batch-size {args.batch_size}: {len(train)} training images are less than one batch '
            f'for each of {args.world_size} process(es)'
        )
    shared = dict(
        num_workers=args.workers,
        pin_memory=args.pin_mem,
        device=device,
        distributed=args.distributed,
        use_prefetcher=args.prefetcher,
        persistent_workers=args.workers > 0,  # older timm does not look
    )
    seeded = EpochSeeded(train, args.seed, args.rank)
    loader = padded_crop_loader(create_loader, args.train_padding)(
        seeded,
        batch_size=args.batch_size,
        num_aug_repeats=args.aug_repeats,
        collate_fn=collate_fn,
        **shared,
        **loader_arguments(args, data_config),
    )
    train.transform = seeded.transform
    if args.aug_repeats and not len(loader):  # older timm's repeated augmentation counts images in whole 256s
        raise WrongArguments(
            f'--aug-repeats {args.aug_repeats:g}: timm {__version__} selects no batch of the '
            f'{len(train)} training images; 256 images are enough for it, or a newer timm'
        )
    eval_loader = None
    if validation is not None:
        sizes = {name: data_config[name] for name in ('input_size', 'mean', 'std', 'interpolation', 'crop_pct')}
        batch_size = args.validation_batch_size or args.batch_size
        eval_loader = create_loader(validation, batch_size=batch_size, is_training=False, **shared, **sizes)
    if args.distributed and device.type == 'cpu' and args.workers:
        _start_workers_from_a_server(filter(None, (loader, eval_loader)))
    return loader, eval_loader


def _start_workers_from_a_server(loaders: Iterable[Any]) -> None:
    """Has the workers forked by a fork server.

    A worker forked while one of gloo's threads holds a lock waits for that lock for ever; a fork server has no such
    threads. It imports once all that each worker, which runs the main module again, would import.
    """
    multiprocessing.set_forkserver_preload([f'{__package__}.setup'])
    for loader in map(_torch_loader, loaders):
        loader.multiprocessing_context = 'forkserver'
        loader.worker_init_fn = partial(end_worker_with_parent, loader.worker_init_fn)


def _torch_loader(loader: Any) -> Any:
    """torch's loader, which timm's prefetcher goes through."""
    return getattr(loader, 'loader', loader)


def start_epoch(loader: Any, args: argparse.Namespace, epoch: int) -> None:
    """Makes all draws of an epoch depend on seed, rank and epoch; the first epoch draws as in timm's own script.

    Args:
        loader: of the training data, from `build_loaders`; not yet iterated in this epoch.
        args: for seed and rank.
        epoch: counted from 0.
    """
    if epoch:
        seed = draw_seed(args.seed, epoch)
        utils.random_seed(seed, args.rank)
        # a generator of its own: workers that start (after a resume) draw a number that running ones do not
        _torch_loader(loader).generator = torch.Generator().manual_seed(seed)
    loader.dataset.epoch.fill_(epoch)
    if hasattr(loader.sampler, 'set_epoch'):
        loader.sampler.set_epoch(epoch)
