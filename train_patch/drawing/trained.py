"""Figure 5 from the user's checkpoints: timm's files, the `args.yaml` beside them, and images to look at.

torch and timm are imported where they are used: options are checked before.
"""

import argparse
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..common.errors import RunError, WrongArguments, told_as
from ..common.weights import plain_values
from ..recipes.reader import read_recipe

Settings = dict[str, Any]
"""A run: its 'checkpoint', and arguments of its training by their names in timm; none that is None."""

OPTIONS = ('model', 'num_classes', 'img_size', 'dataset', 'data_dir', 'split')
"""Options that replace what args.yaml says."""

_SOURCES = ('checkpoint_path', 'pretrained', 'pretrained_cfg', 'pretrained_cfg_overlay', 'cache_dir')
"""Keywords of a model that say where its first weights come from; here only the checkpoint does."""

_OF_MODEL = {'num_classes': 'num_classes', 'in_chans': 'in_chans', 'global_pool': 'gp', 'bn_eps': 'bn_eps'}
"""Keywords of a model → arguments of a training that change what it computes."""

_PLAIN_DATASETS = ('', 'folder', 'torch')
"""Kinds of data sets (the name before the slash) that args.yaml may name; others may run code and must be typed."""

_EVALUATION = ('validation', 'val', 'valid', 'eval', 'evaluation')
"""Folders in which timm, too, looks for a validation split."""


def read_runs(args: argparse.Namespace) -> dict[str, Settings]:
    """Name → settings of the run of each `--checkpoint`.

    Args:
        args: `checkpoint` and `OPTIONS`, each None where args.yaml decides.

    Raises:
        WrongArguments: a checkpoint or its data are not there, or a setting is missing or cannot be used.
    """
    typed = {name: getattr(args, name) for name in OPTIONS if getattr(args, name) is not None}
    runs = {}
    for name, path in zip(checkpoint_names(args.checkpoint), args.checkpoint, strict=True):
        saved = _saved(path)
        if 'dataset' not in typed and str(saved.get('dataset', '')).partition('/')[0] not in _PLAIN_DATASETS:
            raise WrongArguments(
                f'--checkpoint: args.yaml beside {path} names {saved["dataset"]}: give it as --dataset'
            )
        other = [
            f'--{key.replace("_", "-")} {value} in place of {saved[key]}'
            for key, value in typed.items()
            if str(saved.get(key, value)) != str(value)
        ]
        if other:
            print(f'{name}: {", ".join(other)} in args.yaml')
        settings = {**saved, **typed, 'checkpoint': path}
        if 'img_size' in typed:
            settings.pop('input_size', None)
        for key in ('model', 'data_dir'):
            if key not in settings:
                raise WrongArguments(
                    f'--checkpoint needs --{key.replace("_", "-")}: no args.yaml beside {path} says it'
                )
        if not Path(settings['data_dir']).is_dir():
            raise WrongArguments(f'--data-dir must be a folder of images, got {settings["data_dir"]}')
        images_root(settings)
        runs[name] = settings
    return runs


def _saved(checkpoint: Path) -> Settings:
    """The settings in the args.yaml beside a checkpoint that say what it is and on which images it was validated.

    Nothing that runs code is taken: no class map but a text file, no file of families.
    """
    beside = checkpoint.parent / 'args.yaml'
    try:
        found = read_recipe(beside) if beside.exists() else {}
    except ValueError as error:
        raise WrongArguments(f'--checkpoint: {error}') from error
    size = found.get('input_size') or [found.get('in_chans'), found.get('img_size')]
    split, class_map = found.get('val_split'), str(found.get('class_map'))
    found |= {
        'data_dir': found.get('data_dir') or found.get('data'),
        'split': None if split in ('', 'validation') else split,  # timm, too, looks for that one under other names
        'in_chans': size[0],
        'img_size': size[-1],
        'class_map': class_map if class_map.endswith('.txt') else None,
        **dict.fromkeys(('mix_families', 'mix_digest')),
    }
    return {key: value for key, value in found.items() if value is not None}


def checkpoint_names(paths: Sequence[Path]) -> list[str]:
    """Names for checkpoints: their paths below the folder that holds all of them, at least folder and file.

    Raises:
        WrongArguments: one is not a file.
    """
    for path in paths:
        if not path.is_file():
            raise WrongArguments(f'--checkpoint must be a file, got {path}')
    files = [os.path.abspath(path) for path in paths]
    root = os.path.commonpath([os.path.dirname(os.path.dirname(file)) for file in files])
    return [os.path.relpath(file, root) for file in files]


def images_root(settings: Settings) -> Path:
    """The data folder; of a folder of images, that of the split: the one named, else validation, else the whole.

    Raises:
        WrongArguments: there is no such split; or none is named, and there is a training split alone.
    """
    root = Path(settings['data_dir'])
    if settings.get('dataset', '') not in ('', 'folder'):
        return root
    names = [settings['split']] if 'split' in settings else _EVALUATION
    for name in names:
        if (root / name).is_dir():
            return root / name
    if 'split' in settings or (root / 'train').is_dir():
        raise WrongArguments(f'--split: there is no folder {" or ".join(names)} in {root}')
    return root


def load_model(settings: Settings, device: str) -> tuple[Any, dict[str, Any]]:
    """The model with a checkpoint's weights on the device, and timm's data configuration for it.

    Raises:
        RunError: the checkpoint is damaged or is another model's, or timm does not make the model.
    """
    from timm.data import resolve_data_config
    from timm.models import create_model, load_checkpoint

    name, path = settings['model'], settings['checkpoint']
    with told_as(f'timm cannot make the model {name} for {path}', RunError):
        keywords = {key: value for key, value in settings.get('model_kwargs', {}).items() if key not in _SOURCES}
        model = create_model(name, **{own: settings.get(key) for own, key in _OF_MODEL.items()}, **keywords)
        config = resolve_data_config(settings, model=model)
    refused = f'--checkpoint {path} cannot be used for {name} with {model.num_classes} classes'
    with told_as(refused, RunError), plain_values():
        load_checkpoint(model, str(path), weights_only=True)
    return model.to(device).eval(), config


def load_images(settings: Settings, config: Mapping[str, Any], args: argparse.Namespace) -> Any:
    """A loader of images, normalized by timm's evaluation transform, and class indices; both stay on the CPU.

    Args:
        settings: of the run.
        config: timm's data configuration.
        args: `max_images`, `batch_size`, `workers`.

    Raises:
        RunError: there is no such data.
    """
    import numpy as np
    from timm.data import create_dataset, create_transform
    from torch.utils.data import DataLoader, Subset

    # as timm's script chooses it
    mode = settings.get('input_img_mode') or ('L' if config['input_size'][0] == 1 else 'RGB')
    name, root, split = settings.get('dataset', ''), str(images_root(settings)), settings.get('split', 'validation')
    with told_as(f'cannot read the images of --data-dir {root}', RunError):
        keys = {key: settings.get(key) for key in ('class_map', 'input_key')}
        dataset = create_dataset(name, root=root, split=split, input_img_mode=mode, **keys)
        dataset.transform = create_transform(**config)
    count = len(dataset)
    # images of every class, not the first classes
    picked = np.linspace(0, count - 1, min(args.max_images or count, count)).round().astype(int)
    return DataLoader(Subset(dataset, picked.tolist()), batch_size=args.batch_size, num_workers=args.workers)


def figure5_checkpoints(args: argparse.Namespace) -> Iterator[Any]:
    """Eq. 12 for checkpoints, a panel each: the numbers, and then the matplotlib `Figure`.

    Args:
        args: `runs` from `read_runs`, `device`, and those of `load_images`.

    Raises:
        RunError: a model or its images cannot be used.
    """
    from tqdm import tqdm

    from hmix_timm.theory.gradients import gradient_map

    from .theory_figures import along_x, figure5

    maps = {}
    for name, settings in args.runs.items():
        model, config = load_model(settings, args.device)
        loader = load_images(settings, config, args)
        with tqdm(loader, desc=f'figure 5: {name}', unit='batch') as progress:
            try:
                maps[name] = gradient_map(model, (images.to(args.device) for images, _ in progress))
            except FloatingPointError as error:
                raise RunError(f'{name}: {error}') from error
    yield {name: along_x(values) for name, values in maps.items()}
    yield figure5(maps, 'Normalized partial gradient products (Eq. 12) of trained networks')
