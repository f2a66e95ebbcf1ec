"""The images of a preview, in the loader that a training with the same arguments would have."""

import argparse
from typing import Any

import torch
from PIL import Image
from timm.data import create_loader, resolve_data_config
from timm.models import get_pretrained_cfg
from torch.utils.data import Dataset

from ..data import cifar_networks as models  # noqa: F401  # registers the CIFAR networks with timm
from ..data.crop import padded_crop_loader
from ..data.scikit_images import photographs
from ..trainer.arguments import WrongArguments
from ..trainer.checks import image_mode
from ..trainer.data import class_indices, load_datasets
from ..trainer.loaders import loader_arguments


class Photographs(Dataset):
    """Scikit-learn's two photographs as a data set for timm's loader, which sets `transform`."""

    class_to_idx = {'flower': 0, 'temple': 1}  # noqa: RUF012

    def __init__(self, img_mode: str) -> None:
        self.images = [Image.fromarray(array).convert(img_mode) for array in photographs((320, 320))]
        self.transform: Any = None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        return self.transform(self.images[index]), index


def load_images(args: argparse.Namespace) -> Any:
    """The training images that the arguments name, else the photographs.

    Raises:
        WrongArguments: there is no such data set, or it cannot be mixed.
        RunError: scikit-learn is needed and is not installed.
    """
    if not args.data_dir and not args.dataset.startswith('hfds/'):  # those have no folder
        return Photographs(image_mode(args))
    dataset, _ = load_datasets(argparse.Namespace(**{**vars(args), 'val_split': ''}))
    if len(dataset) < 2:
        raise WrongArguments(f'--data-dir must hold at least 2 images to mix, got {len(dataset)}')
    return dataset


def class_names(dataset: Any) -> list[str]:
    """Names of a data set's classes in the order of their indices; empty where it has none."""
    indices = class_indices(dataset)
    return sorted(indices, key=lambda name: indices[name])


def data_config_of(args: argparse.Namespace) -> dict[str, Any]:
    """timm's data configuration for the arguments and their model, without building the model.

    Raises:
        WrongArguments: timm has no such model.
    """
    found = get_pretrained_cfg(args.model)
    if found is None:
        raise WrongArguments(f'--model {args.model}: timm has no data configuration for it')
    return resolve_data_config(vars(args), pretrained_cfg=found.to_dict())


def make_loader(dataset: Any, args: argparse.Namespace, data_config: dict[str, Any], collate_fn: Any) -> Any:
    """timm's prefetching training loader, of batches of two and without workers."""
    return padded_crop_loader(create_loader, args.train_padding)(
        dataset,
        batch_size=2,
        num_workers=0,
        persistent_workers=False,  # which older timm versions want of a loader without workers
        collate_fn=collate_fn,
        device=torch.device('cpu'),
        **loader_arguments(args, data_config),
    )
