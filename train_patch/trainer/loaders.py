"""timm's loaders over the data sets of a run, with workers that a resumed run can repeat and that never outlive it."""

import argparse
import multiprocessing
from collections.abc import Callable
from functools import partial
from typing import Any

import timm
import torch
from timm import utils
from timm.data import AugMixDataset, create_loader
from torch.utils.data import IterableDataset

from ..common.processes import end_worker_with_parent
from ..data.crop import padded_crop_loader
from .arguments import WrongArguments
from .data import EpochSeeded, draw_seed


def build_loaders(
    args: argparse.Namespace,
    datasets: tuple[Any, Any | None],
    data_config: dict[str, Any],
    device: torch.device,
    collate_fn: Callable[..., Any] | None,
) -> tuple[Any, Any | None]:
    """The loaders of training and validation.

    Args:
        args: the run's arguments, with rank and world size.
        datasets: what `load_datasets` returned.
        data_config: timm's: input size, mean, standard deviation, interpolation, crop.
        device: where the prefetcher puts the batches.
        collate_fn: the mixer, where it mixes in the workers.

    Raises:
        WrongArguments: there are fewer training images than one batch for each process.
    """
    train, validation = datasets
    shared = dict(
        input_size=data_config['input_size'],
        mean=data_config['mean'],
        std=data_config['std'],
        pin_memory=args.pin_mem,
        img_dtype=getattr(torch, args.model_dtype or 'float32'),
        device=device,
        distributed=args.distributed,
        use_prefetcher=args.prefetcher,
        persistent_workers=args.workers > 0,  # older timm does not look
    )
    train_loader = _build_train_loader(args, train, data_config, collate_fn, shared)
    loaders: tuple[Any, Any | None] = (train_loader, None)
    if validation is not None:
        iterable = args.dataset.startswith(('tfds/', 'wds/', 'hfids/'))
        validation_loader = create_loader(
            validation,
            batch_size=args.validation_batch_size or args.batch_size,
            is_training=False,
            interpolation=data_config['interpolation'],
            num_workers=min(2, args.workers) if args.distributed and iterable else args.workers,  # less padding
            crop_pct=data_config['crop_pct'],
            **shared,
        )
        loaders = train_loader, validation_loader
    if args.distributed and device.type == 'cpu' and args.workers:
        _start_workers_from_a_server(loaders)
    return loaders


def loader_arguments(args: argparse.Namespace, data_config: dict[str, Any]) -> dict[str, Any]:
    """What timm's `create_loader` is told of the training images: size, statistics, augmentation."""
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
        re_split=args.resplit,
        train_crop_mode=args.train_crop_mode,
        scale=args.scale,
        ratio=args.ratio,
        hflip=args.hflip,
        vflip=args.vflip,
        color_jitter=args.color_jitter,
        color_jitter_prob=args.color_jitter_prob,
        grayscale_prob=args.grayscale_prob,
        gaussian_blur_prob=args.gaussian_blur_prob,
        auto_augment=args.aa,
        interpolation=interpolation or data_config['interpolation'],
    )


def _build_train_loader(
    args: argparse.Namespace,
    dataset: Any,
    data_config: dict[str, Any],
    collate_fn: Callable[..., Any] | None,
    shared: dict[str, Any],
) -> Any:
    images = None if isinstance(dataset, IterableDataset) else len(dataset)
    if images is not None and images < args.batch_size * args.world_size:
        raise WrongArguments(
            f'--batch-size {args.batch_size}: {images} training images are less than one batch '
            f'for each of {args.world_size} process(es)'
        )
    if args.aug_splits:
        dataset = AugMixDataset(dataset, num_splits=args.aug_splits)
    if images is not None:
        dataset = EpochSeeded(dataset, args.seed, args.rank)
    loader = padded_crop_loader(create_loader, args.train_padding)(
        dataset,
        batch_size=args.batch_size,
        num_aug_repeats=args.aug_repeats,
        num_aug_splits=args.aug_splits,
        num_workers=args.workers,
        collate_fn=collate_fn,
        use_multi_epochs_loader=args.use_multi_epochs_loader,
        worker_seeding=args.worker_seeding,
        **{**shared, **loader_arguments(args, data_config)},
    )
    if args.aug_repeats and not len(loader):  # older timm's repeated augmentation counts images in whole 256s
        raise WrongArguments(
            f'--aug-repeats {args.aug_repeats:g}: timm {timm.__version__} selects no batch of the '
            f'{len(dataset)} training images; 256 images are enough for it, or a newer timm'
        )
    return loader


def _start_workers_from_a_server(loaders: tuple[Any, Any | None]) -> None:
    """Has the workers forked by a fork server.

    A worker forked while one of gloo's threads holds a lock waits for that lock for ever; a fork server has no such
    threads. It imports what the workers need once.
    """
    multiprocessing.set_forkserver_preload(['train_patch.trainer.preload'])
    for timms_loader in loaders:
        if timms_loader is not None:
            loader = _torch_loader(timms_loader)
            loader.multiprocessing_context = 'forkserver'
            loader.worker_init_fn = partial(end_worker_with_parent, loader.worker_init_fn)


def _torch_loader(loader: Any) -> Any:
    """torch's loader, which timm's prefetcher goes through."""
    return getattr(loader, 'loader', loader)


def start_draws(loader: Any, args: argparse.Namespace, epoch: int) -> None:
    """Makes all draws of an epoch depend on seed, rank and epoch; the first epoch draws as in timm's own script.

    Args:
        loader: of the training data.
        args: for seed and rank.
        epoch: the epoch, or a number of its own for an epoch that starts in the middle.
    """
    if epoch:
        seed = draw_seed(args.seed, epoch)
        utils.random_seed(seed, args.rank)
        # a generator of its own: workers that start (after a resume) draw a number that running ones do not
        _torch_loader(loader).generator = torch.Generator().manual_seed(seed)
    for part in (loader.dataset, loader.sampler):
        if hasattr(part, 'set_epoch'):
            part.set_epoch(epoch)
