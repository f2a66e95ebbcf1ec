"""Trained networks and the images to look at them with: timm's checkpoints, what `args.yaml` beside them says, data."""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from ..common.errors import RunError
from ..common.files import first_line

_EVALUATION = ('validation', 'val', 'valid', 'eval', 'evaluation')
"""Folders in which timm, too, looks for a validation split."""

_SOURCES = ('checkpoint_path', 'pretrained', 'pretrained_cfg', 'pretrained_cfg_overlay', 'cache_dir')
"""Keywords of a model that say where its first weights come from; those of a checkpoint take their place."""

PLAIN_DATASETS = ('', 'folder', 'torch')
"""Kinds of data sets that an args.yaml may name: before the slash. Others may run code, and have to be typed."""


def checkpoint_names(paths: Sequence[Path]) -> list[str]:
    """What to call checkpoints: as much of the end of their paths as tells them apart, two parts at least.

    Raises:
        ValueError: two are the same file.
    """
    for index, path in enumerate(paths):
        for other in paths[:index]:
            if path.samefile(other):
                raise ValueError(f'the same file twice: {other} and {path}')
    parts = [path.absolute().parts for path in paths]
    length = 2
    while len({part[-length:] for part in parts}) < len(parts):
        length += 1
    return ['/'.join(part[-length:]) for part in parts]


def run_settings(checkpoint: Path) -> dict[str, Any]:
    """What `args.yaml` beside a checkpoint says about its run, as timm writes it; empty where there is none.

    Raises:
        ValueError: it cannot be read, or holds something else.
    """
    path = checkpoint.parent / 'args.yaml'
    if not path.exists():
        return {}
    try:
        settings = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f'{path} cannot be read: {first_line(error)}') from error
    if not isinstance(settings, dict):
        raise ValueError(f'{path} holds no settings')
    return settings


def split_folder(root: Path, split: str | None) -> Path:
    """The folder of a split: the one named, else the validation split, else `root` itself if it has no splits.

    Raises:
        ValueError: there is no such folder, or nothing says which split to take.
    """
    folders = sorted(path.name for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    found = (
        f'it holds {", ".join(folders[:8])}{", …" if len(folders) > 8 else ""}' if folders else 'it holds no folders'
    )
    if split is not None:
        if split not in folders:
            raise ValueError(f'there is no folder {split} in {root}: {found}')
        return root / split
    for name in _EVALUATION:
        if name in folders:
            return root / name
    if {'train', 'training'} & set(folders):
        raise ValueError(f'there is no validation split in {root}, and no --split that says what to take: {found}')
    return root


def load_model(args: argparse.Namespace, path: Path, settings: Mapping[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The model with a checkpoint's weights on the device, and timm's data configuration for it.

    Args:
        args: `model`, `num_classes`, `img_size`, each None where `settings` decides, and `device`.
        path: the checkpoint.
        settings: of its run.

    Raises:
        RunError: the checkpoint is damaged or is another model's, or timm does not make the model.
    """
    import torch
    from timm.data import resolve_data_config
    from timm.models import create_model, load_state_dict

    name, num_classes = args.model or settings['model'], args.num_classes or settings.get('num_classes')
    try:
        chans = settings.get('in_chans') or (settings.get('input_size') or [None])[0]
        given = {'num_classes': num_classes, 'in_chans': chans, **(settings.get('model_kwargs') or {})}
        used = {key: value for key, value in given.items() if value is not None and key not in _SOURCES}
        model = create_model(name, **used)
    except Exception as error:
        raise RunError(f'timm cannot make the model {name} for {path}: {first_line(error)}') from error
    try:
        # timm's training checkpoints hold their arguments as a Namespace beside the weights
        with torch.serialization.safe_globals([argparse.Namespace]):
            weights = load_state_dict(str(path), weights_only=True)
        shapes = {key: tuple(value.shape) for key, value in weights.items()}
    except Exception as error:  # whatever unpickling of damaged bytes comes to
        raise RunError(f'--checkpoint {path} cannot be read as a checkpoint: {first_line(error)}') from error
    wanted = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    unlike = [key for key in {**wanted, **shapes} if wanted.get(key) != shapes.get(key)]
    if unlike:
        mine, theirs = (found.get(unlike[0], 'not there') for found in (wanted, shapes))
        raise RunError(
            f'--checkpoint {path} does not fit {name} with {model.num_classes} classes: {unlike[0]} is {mine} in the '
            f'model and {theirs} in the file' + (f', and {len(unlike) - 1} more' if len(unlike) > 1 else '')
        )
    model.load_state_dict(weights)
    keys = ('in_chans', 'input_size', 'img_size', 'mean', 'std', 'interpolation', 'crop_pct', 'crop_mode')
    data = {key: settings[key] for key in keys if settings.get(key) is not None}
    if args.img_size is not None:
        data = {**{key: value for key, value in data.items() if key != 'input_size'}, 'img_size': args.img_size}
    return model.to(args.device).eval(), resolve_data_config(data, model=model)


def load_images(
    args: argparse.Namespace, settings: Mapping[str, Any], config: Mapping[str, Any], shuffled: bool = False
) -> Any:
    """Batches of images, normalized by timm's evaluation transform, and class indices; both stay on the CPU.

    Args:
        args: `dataset`, `data_dir`, each None where `settings` decides; `split`, `max_images`, `batch_size`, `workers`.
        settings: of the run.
        config: timm's data configuration.
        shuffled: whether images come in an arbitrary order, the same each time, instead of sorted by class.

    Raises:
        RunError: there is no such data.
    """
    import numpy as np
    from timm.data import ImageDataset, create_dataset, create_transform
    from torch.utils.data import DataLoader, Subset

    # as timm's script chooses it
    mode = settings.get('input_img_mode') or ('L' if config['input_size'][0] == 1 else 'RGB')
    name, root = args.dataset or settings.get('dataset') or '', Path(args.data_dir or settings['data_dir'])
    try:
        if name in ('', 'folder'):
            dataset: Any = ImageDataset(str(split_folder(root, args.split)), input_img_mode=mode)
        else:
            dataset = create_dataset(name, root=str(root), split=args.split or 'validation', input_img_mode=mode)
    except Exception as error:
        raise RunError(f'cannot read the images of --data-dir {root}: {first_line(error)}') from error
    dataset.transform = create_transform(
        config['input_size'],
        interpolation=config['interpolation'],
        mean=config['mean'],
        std=config['std'],
        crop_pct=config['crop_pct'],
        crop_mode=config['crop_mode'],
    )
    count = len(dataset)
    # images of every class, not the first classes
    picked = np.linspace(0, count - 1, min(args.max_images or count, count)).round().astype(int)
    if shuffled:
        picked = np.random.default_rng(0).permutation(picked)
    return DataLoader(Subset(dataset, picked.tolist()), batch_size=args.batch_size, num_workers=args.workers)
