"""Putting the option group and the mixers into a timm train script, without editing it.

timm's script imports its mixers from `timm.data`, most of them when it is executed and `NaFlexMixup` inside `main()`.
So `timm.data` gets the project's classes first, then the script is executed as a module, then its parser gets the
option group. A script in which that would not take effect is refused.
"""

import argparse
import ast
import functools
import importlib.util
import logging
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import timm.data
import timm.data.naflex_loader
import yaml

import hmix_timm

from .. import models  # noqa: F401  # registers the CIFAR networks
from ..crop import add_crop_argument, padded_crop_loader
from ..mixing import add_mix_arguments, check_recipe_keys, mixing_active, slot_arguments_from

_logger = logging.getLogger('train_patch')

REQUIRED_NAMES = ('parser', '_parse_args', 'main', 'Mixup', 'FastCollateMixup', 'create_loader', 'train_one_epoch')
"""What makes a script a timm train script: each is defined or imported at its top level."""


@dataclass
class _Run:
    """What the script's arguments resolved to. A process runs one script, which makes its mixers after parsing them."""

    slot_arguments: dict[str, Any] = field(default_factory=dict)
    mixup_off_epoch: int = 0
    naflex_mixers: list['NaFlexMixup'] = field(default_factory=list)


_run = _Run()


class NotATrainScript(Exception):
    """The script cannot be patched; the message says why."""


class Mixup(hmix_timm.Mixup):
    """`hmix_timm.Mixup` with the launcher's options, said in the log."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, **_run.slot_arguments})
        log_once(f'Mixing: {self!r}')


class FastCollateMixup(hmix_timm.FastCollateMixup):
    """`hmix_timm.FastCollateMixup` with the launcher's options, said in the log."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, **_run.slot_arguments})
        log_once(f'Mixing: {self!r}')


class NaFlexMixup(hmix_timm.NaFlexMixup):
    """`hmix_timm.NaFlexMixup` with the launcher's options, said in the log."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, **_run.slot_arguments})
        _run.naflex_mixers.append(self)
        log_once(f'Mixing: {self!r}')


MIXERS: dict[str, type] = {'Mixup': Mixup, 'FastCollateMixup': FastCollateMixup, 'NaFlexMixup': NaFlexMixup}


def log_once(message: str) -> None:
    """Logs from the first process of a distributed run only; torchrun and SLURM name the process in the environment."""
    if int(os.environ.get('RANK') or os.environ.get('SLURM_PROCID') or 0) == 0:
        _logger.info(message)


def load_script(path: Path) -> ModuleType:
    """Executes a timm train script with the project's mixers in place and its parser patched; does not run `main()`.

    Args:
        path: the script.

    Returns:
        The script as a module.

    Raises:
        NotATrainScript: the file is missing, is not Python, lacks a name of `REQUIRED_NAMES`, or does not take its
            mixers from `timm.data`.
    """
    missing = sorted(set(REQUIRED_NAMES) - _top_level_names(path), key=REQUIRED_NAMES.index)
    if missing:
        raise NotATrainScript(f'{path} is not a timm train script: it has no {", ".join(missing)} at its top level')
    for name, mixer in MIXERS.items():
        setattr(timm.data, name, mixer)
    spec = importlib.util.spec_from_file_location('timm_train_script', path)
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = script
    spec.loader.exec_module(script)
    for name in ('Mixup', 'FastCollateMixup'):
        if getattr(script, name) is not MIXERS[name]:
            raise NotATrainScript(f'{path} does not take {name} from timm.data, so mixing could not be replaced there')
    _patch_parser(script)
    _patch_naflex(script)
    return script


def _top_level_names(path: Path) -> set[str]:
    """Names that a script binds at its top level, read without executing it."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except OSError as error:
        raise NotATrainScript(f'{path}: {error.strerror}') from error
    except (SyntaxError, ValueError) as error:
        raise NotATrainScript(f'{path} is not a Python script: {error}') from error
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names.update(alias.asname or alias.name for alias in node.names)
        elif isinstance(node, ast.Assign):
            names.update(name.id for target in node.targets for name in ast.walk(target) if isinstance(name, ast.Name))
    return names


def _patch_parser(script: ModuleType) -> None:
    """Adds the option groups, and hands what they resolve to on to the mixers and the loader."""
    parser: argparse.ArgumentParser = script.parser
    add_mix_arguments(parser)
    add_crop_argument(parser)
    resolved_parse_args = parser.parse_args
    timms_create_loader = script.create_loader
    timms_parse_args = script._parse_args

    def parse_args(args: Any = None, namespace: Any = None) -> Any:
        parsed = resolved_parse_args(args, namespace)
        _run.slot_arguments = slot_arguments_from(parsed)
        _run.mixup_off_epoch = parsed.mixup_off_epoch
        script.create_loader = padded_crop_loader(  # type: ignore[attr-defined]
            timms_create_loader, parsed.train_padding
        )
        if not mixing_active(parsed):
            log_once('Mixing: none')
        return parsed

    @functools.wraps(timms_parse_args)
    def _parse_args() -> Any:
        _check_recipe(script)
        return timms_parse_args()

    parser.parse_args = parse_args  # type: ignore[method-assign]
    script._parse_args = _parse_args  # type: ignore[attr-defined]


def _check_recipe(script: ModuleType) -> None:
    """The parser's error for a recipe that cannot be read or has a misspelt key of ours."""
    known, _ = script.config_parser.parse_known_args()
    if not known.config:
        return
    try:
        with open(known.config, encoding='utf-8') as file:
            recipe = yaml.safe_load(file)
        if not isinstance(recipe, dict):
            raise ValueError('a recipe is a YAML mapping of option names to values')
        check_recipe_keys(recipe)
    except OSError as error:
        script.parser.error(f'--config {known.config}: {error.strerror}')
    except (yaml.YAMLError, ValueError) as error:
        script.parser.error(f'--config {known.config}: {" ".join(str(error).split())}')


def _patch_naflex(script: ModuleType) -> None:
    """Makes --mixup-off-epoch reach NaFlex mixers, which timm's older scripts have no way to turn off.

    With the prefetcher those scripts ask the loader whether it mixes, which timm's NaFlex loader cannot answer.
    """
    timms_train_one_epoch: Callable[..., Any] = script.train_one_epoch

    @functools.wraps(timms_train_one_epoch)
    def train_one_epoch(epoch: int, *args: Any, **kwargs: Any) -> Any:
        off_epoch = _run.mixup_off_epoch
        for mixer in _run.naflex_mixers:
            mixer.mixup_enabled = not off_epoch or epoch < off_epoch
        return timms_train_one_epoch(epoch, *args, **kwargs)

    script.train_one_epoch = train_one_epoch  # type: ignore[attr-defined]
    loader_class = timm.data.naflex_loader.NaFlexPrefetchLoader
    if not hasattr(loader_class, 'mixup_enabled'):
        loader_class.mixup_enabled = property(
            lambda loader: getattr(loader.loader.dataset.mixup_fn, 'mixup_enabled', False)
        )
