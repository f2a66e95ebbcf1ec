"""The first samples of a training, in the loader that a training with the same arguments would have."""

import argparse
import itertools
import logging
from typing import Any

import torch
from PIL import Image
from timm.data import create_loader, resolve_data_config
from timm.models import get_pretrained_cfg
from timm.utils import random_seed
from torch.utils.data import Dataset
from tqdm import tqdm

from hmix_timm import input_gradient

from ..common.errors import WrongArguments, wrong_arguments
from ..data import cifar_networks as models  # noqa: F401  # registers the CIFAR networks with timm
from ..data.crop import padded_crop_loader
from ..data.scikit_images import photographs
from ..mixing import Mixing
from ..trainer.augmentation import check_augmentation
from ..trainer.data import class_indices, image_mode, load_datasets, loader_arguments
from ..trainer.setup import build_model
from .record import Batch, RecordingMixup, RecordingPuzzleMix, recorded_batches

_logger = logging.getLogger('preview')


def record_batches(args: argparse.Namespace, mixing: Mixing, seed: int, count: int) -> tuple[list[Batch], str]:
    """Records the first batches that a training with these arguments gets, but batches of two and from another seed.

    Args:
        args: training's, resolved. PuzzleMix's model has the weights of --initial-checkpoint or --pretrained; without
            them, the random ones that training starts from.
        mixing: how training mixes.
        seed: of all random numbers.
        count: number of batches.

    Returns:
        The batches, and the mixer in words.

    Raises:
        WrongArguments: there are no such images or no such model, or an option is wrong; the message names it.
        RunError: the weights of the model cannot be used.
    """
    data_config = data_config_of(args)
    dataset = load_images(args)
    indices = class_indices(dataset)
    names = sorted(indices, key=lambda name: indices[name])
    random_seed(seed)
    with wrong_arguments():
        check_augmentation(args)
        if mixing.needs_model:
            mixer = _puzzle_mixer(args, mixing, dataset, len(names), data_config)
        else:
            mixer = mixing.mixer(RecordingMixup, max(args.num_classes or 1, len(names) or 1000))
    loader = make_loader(dataset, args, data_config, None if mixing.needs_model else mixer)
    batches = itertools.islice(recorded_batches(loader, mixer, names), count)
    description = repr(mixer).replace('Recording', '' if mixing.needs_model else 'FastCollate', 1)
    return list(tqdm(batches, total=count, unit='batch', leave=False)), description


def _puzzle_mixer(
    args: argparse.Namespace, mixing: Mixing, dataset: Any, classes: int, data_config: dict[str, Any]
) -> RecordingPuzzleMix:
    args.num_classes = args.num_classes or classes or None
    args.rank, args.distributed = 0, False
    model = build_model(args, dataset, torch.device('cpu'))
    if not (args.initial_checkpoint or args.pretrained):
        _logger.warning('The model is untrained: --initial-checkpoint FILE or --pretrained shows what training keeps.')
    mixer = mixing.puzzle(input_gradient(model), data_config['std'], args.num_classes, RecordingPuzzleMix)
    mixer.check_size(*data_config['input_size'][1:])
    return mixer


class Photographs(Dataset):
    """Scikit-learn's two photographs as a data set for timm's loader, which sets `transform`."""

    class_to_idx = {'flower': 0, 'temple': 1}  # noqa: RUF012
    transform: Any = None

    def __init__(self, img_mode: str) -> None:
        self.images = [Image.fromarray(array).convert(img_mode) for array in photographs((320, 320))]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.images[index]), index


def load_images(args: argparse.Namespace) -> Any:
    """Returns the training images that the arguments name, or else the photographs.

    Raises:
        WrongArguments: there is no such data set, or it cannot be mixed.
    """
    if not args.data_dir and not args.dataset.startswith('hfds/'):  # those have no folder
        return Photographs(image_mode(args))
    dataset, _ = load_datasets(argparse.Namespace(**{**vars(args), 'val_split': ''}))
    if len(dataset) < 2:
        raise WrongArguments(f'--data-dir must hold at least 2 images to mix, got {len(dataset)}')
    return dataset


def data_config_of(args: argparse.Namespace) -> dict[str, Any]:
    """Returns timm's data configuration for the arguments and their model, without building the model.

    Raises:
        WrongArguments: timm has no such model.
    """
    found = get_pretrained_cfg(args.model)
    if found is None:
        raise WrongArguments(f'--model {args.model}: timm has no data configuration for it')
    return resolve_data_config(vars(args), pretrained_cfg=found.to_dict())


def make_loader(dataset: Any, args: argparse.Namespace, data_config: dict[str, Any], collate_fn: Any) -> Any:
    """Makes timm's prefetching training loader, of batches of two and without workers."""
    return padded_crop_loader(create_loader, args.train_padding)(
        dataset,
        batch_size=2,
        num_workers=0,
        persistent_workers=False,  # older timm versions require it of a loader without workers
        collate_fn=collate_fn,
        device=torch.device('cpu'),
        **loader_arguments(args, data_config),
    )
