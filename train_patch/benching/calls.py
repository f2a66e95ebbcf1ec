"""Calls of mixers beside timm's, and a training step with PuzzleMix: the parts `mixers` and `puzzle`."""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from statistics import median
from typing import Any

import numpy as np
import timm.data
import torch
from timm.loss import SoftTargetCrossEntropy
from torchvision.transforms.functional import to_tensor

from hmix_timm.families import FAMILIES
from hmix_timm.mixup import FastCollateMixup, Mixup
from hmix_timm.modes import mix_modes, puzzle_arguments
from hmix_timm.puzzle import PuzzleMix, input_gradient

from ..common.errors import RunError
from ..common.tables import Table
from ..data.scikit_images import cuttings
from ..mixing import Mixing, resolve
from .timing import alternate, extra_memory, median_ratio, progress

FLOAT_MODES = ('batch', 'pair', 'elem')
COLLATE_MODES = ('batch', 'pair', 'elem', 'half')
REFERENCE = 'mixup'
"""Mix mode of timm with which a mask that timm does not have is compared."""

PUZZLE_SIZE, PUZZLE_CLASSES = 32, 100
"""Height and width of the images in a training step with PuzzleMix, and their classes: CIFAR-100's."""


def bench_mixers(args: argparse.Namespace) -> dict[str, Table]:
    """Returns times and ratios to timm's, and the peak extra memory, of every mixer in every mode."""
    times, memory = [], []
    batch = make_batch(args)
    cases = [(f'{args.dtype} {args.device}', 'Mixup', mode, batch, args.device) for mode in FLOAT_MODES]
    for path, channels_last in (('uint8 collate', False), ("uint8 collate, loader's layout", True)):
        samples: Any = (make_samples(args.batch_size, args.size, channels_last),)
        cases += [(path, 'FastCollateMixup', mode, samples, 'cpu') for mode in COLLATE_MODES]
    for path, class_name, mode, inputs, device in cases:
        row = f'{path}, {mode}'
        progress(f'mixers: {row}')
        mixers = make_mixers(class_name, mode, args.mixings)
        calls = {name: partial(mixer, *inputs) for name, mixer in mixers.items()}
        times.append({'path, mode': row, **beside_timms(alternate(calls, args.repeats, device), [*args.mixings])})
        memory.append({'path, mode': row, **{name: extra_memory(call, device) for name, call in calls.items()}})
    return {
        f'One call, {args.batch_size} images 3×{args.size}×{args.size}': times,
        'Peak extra memory of a call, MiB (beyond what it is given and returns)': memory,
    }


def bench_puzzle(args: argparse.Namespace) -> dict[str, Table]:
    """Returns the times of a training step with CutMix, which costs next to nothing, and with PuzzleMix."""
    progress(f'puzzle: training steps of {args.model}')
    torch.manual_seed(0)
    model = timm.create_model(args.model, num_classes=PUZZLE_CLASSES).to(args.device)
    images = torch.stack([to_tensor(image) for image in cuttings(args.batch_size, (PUZZLE_SIZE, PUZZLE_SIZE))])
    images = ((images - 0.5) / 0.25).to(args.device)
    target = torch.arange(args.batch_size, device=args.device) % PUZZLE_CLASSES
    shared: dict[str, Any] = {'num_classes': PUZZLE_CLASSES}
    try:
        puzzlemix = PuzzleMix(input_gradient(model), std=[0.25] * 3, **puzzle_arguments('cifar100'), **shared)
    except ImportError as error:  # scipy is missing
        raise RunError(str(error)) from error
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    loss_fn = SoftTargetCrossEntropy()

    def step(mixer: Any) -> None:
        model.train()
        mixed, soft = mixer(images.clone(), target)
        optimizer.zero_grad()
        loss_fn(model(mixed), soft).backward()
        optimizer.step()

    calls = {
        'CutMix': partial(step, Mixup.from_mode('cutmix', 'cifar100', **shared)),
        'PuzzleMix': partial(step, puzzlemix),
    }
    times = alternate(calls, args.repeats, args.device)
    table: Table = [
        {'mixing': name, 'ms': median(ms), '÷ CutMix': median_ratio(ms, times['CutMix'])} for name, ms in times.items()
    ]
    return {f'A training step of {args.model}, {args.batch_size} images 3×{PUZZLE_SIZE}×{PUZZLE_SIZE}': table}


def titles(names: Sequence[str]) -> dict[str, str]:
    """Mix mode → column of the tables: its title, and its name behind it where another mode has the same title."""
    found = {name: mix_modes()[name].title for name in names}
    shared = {title for title in found.values() if list(found.values()).count(title) > 1}
    return {name: f'{title} ({name})' if title in shared else title for name, title in found.items()}


def timms_title(name: str) -> str | None:
    """Column of timm's own mixer for a mix mode; None where timm has none."""
    mode = mix_modes()[name]
    return f"timm's {mode.title}" if not mode.family or FAMILIES[mode.family].timms_own else None


def make_mixers(class_name: str, mode: str, mixings: Mapping[str, Mixing]) -> dict[str, Any]:
    """timm's mixers where it has them, always its Mixup, and ours, each with the parameters of its mix mode."""
    ours = partial({'Mixup': Mixup, 'FastCollateMixup': FastCollateMixup}[class_name], mode=mode)
    theirs = getattr(timm.data, class_name)
    mixers = {}
    for name, mixing in {REFERENCE: resolve({'mix_mode': REFERENCE}, {}), **mixings}.items():
        title = timms_title(name)
        if title is not None:
            mixers[title] = theirs(mode=mode, **mixing.slots)
    return mixers | {title: mixings[name].mixer(ours, 1000) for name, title in titles([*mixings]).items()}


def beside_timms(times: Mapping[str, Sequence[float]], names: Sequence[str]) -> dict[str, float]:
    """Ratios to timm's mixers, and milliseconds of those.

    Args:
        times: name of a mixer → its milliseconds in every turn.
        names: mix modes. A mask that timm does not have is compared with timm's Mixup.
    """
    ratios, taken = {}, {}
    for name, title in titles(names).items():
        timms = timms_title(name) or str(timms_title(REFERENCE))
        ratios[f'{title} ÷ {timms}'] = median_ratio(times[title], times[timms])
        taken[f'{timms}, ms'] = median(times[timms])
    return ratios | taken


def make_batch(args: argparse.Namespace) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images (B, 3, H, W) and class indices (B,)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((args.batch_size, 3, args.size, args.size), generator=generator)
    target = torch.randint(0, 1000, (args.batch_size,), generator=generator)
    return images.to(args.device, getattr(torch, args.dtype)), target.to(args.device)


def make_samples(batch_size: int, size: int, channels_last: bool) -> list[tuple[np.ndarray, int]]:
    """Random uint8 samples, (3, H, W) each; with `channels_last` a view of (H, W, 3), as timm's loader makes them."""
    rng = np.random.default_rng(0)
    shape = (size, size, 3) if channels_last else (3, size, size)
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(batch_size)]
    return [(image.transpose(2, 0, 1) if channels_last else image, i % 1000) for i, image in enumerate(images)]
