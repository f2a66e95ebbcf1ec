"""Single mixers, beside timm's: the parts `mixers` and `scaling`."""

import argparse
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import timm.data
import torch

from hmix_timm.families import FAMILIES
from hmix_timm.mixup import FastCollateMixup, Mixup
from hmix_timm.modes import mix_modes, mixer_arguments

from ..common.tables import Table
from .timing import Call, alternate, extra_memory, median_ratio, progress

FLOAT_MODES = ('batch', 'pair', 'elem')
COLLATE_MODES = ('batch', 'pair', 'elem', 'half')
SIZES = (32, 64, 128, 224, 384)
BATCH_SIZES = (16, 64, 256, 1024)
SCALING_SIZE = 128
SCALING_BATCH_SIZE = 64
REFERENCE = 'mixup'
"""Mix mode of timm whose cost that of a mask unknown to timm is compared with."""


def bench_mixers(args: argparse.Namespace) -> dict[str, Table]:
    """Times, ratios to timm's and peak extra memory of every mixer in every mode."""
    ratios, memory, bandwidth = [], [], []
    batch = make_batch(args.batch_size, args.size, getattr(torch, args.dtype), args.device)
    copy_ms = plain_copy_ms(batch[0], args.repeats, args.device)
    samples = {
        'uint8 collate': make_samples(args.batch_size, args.size, channels_last=False),
        "uint8 collate, loader's layout": make_samples(args.batch_size, args.size, channels_last=True),
    }
    cases: list[tuple[str, str, str, Sequence[Any], str]]
    cases = [(f'{args.dtype} {args.device}', mode, 'Mixup', batch, args.device) for mode in FLOAT_MODES]
    cases += [(path, mode, 'FastCollateMixup', (it,), 'cpu') for path, it in samples.items() for mode in COLLATE_MODES]
    for path, mode, class_name, inputs, device in cases:
        row = f'{path}, {mode}'
        progress(f'mixers: {row}')
        calls = {name: bound(mixer, inputs) for name, mixer in make_mixers(class_name, mode, args.mix_modes).items()}
        times = alternate(calls, args.repeats, device)
        ratios.append({'path, mode': row, **beside_timms(times, args.mix_modes)})
        memory.append({'path, mode': row, **{name: extra_memory(call, device) for name, call in calls.items()}})
        if class_name == 'Mixup':
            bandwidth.append({'path, mode': row, **{name: copy_ms / median(ms) for name, ms in times.items()}})
    return {
        f'One call, {args.batch_size} images 3×{args.size}×{args.size}': ratios,
        'Peak extra memory of a call, MiB (beyond what it is given and returns)': memory,
        'Achieved bandwidth as a share of a plain copy of the batch': bandwidth,
    }


def bench_scaling(args: argparse.Namespace) -> dict[str, Table]:
    """Nanoseconds for each value of a batch, over image sizes and over batch sizes."""
    tables: dict[str, Table] = {}
    sizes = [(SCALING_BATCH_SIZE, size) for size in SIZES]
    batches = [(batch_size, SCALING_SIZE) for batch_size in BATCH_SIZES]
    for title, shapes in (('sizes', sizes), ('batch sizes', batches)):
        table = tables.setdefault(f'Nanoseconds per value in mode pair, over {title}', [])
        for batch_size, size in shapes:
            progress(f'scaling: {batch_size} images of {size}×{size}')
            batch = make_batch(batch_size, size, getattr(torch, args.dtype), args.device)
            samples = make_samples(batch_size, size, channels_last=False)
            paths: dict[str, tuple[str, Sequence[Any], str]]
            paths = {args.dtype: ('Mixup', batch, args.device), 'uint8': ('FastCollateMixup', (samples,), 'cpu')}
            row: dict[str, Any] = {'images': f'{batch_size}×3×{size}×{size}'}
            for path, (class_name, inputs, device) in paths.items():
                mixers = make_mixers(class_name, 'pair', args.mix_modes)
                calls = {f'{path} {name}': bound(mixers[name], inputs) for name in titles(args.mix_modes).values()}
                times = alternate(calls, args.repeats, device)
                row |= {name: median(ms) * 1e6 / (batch_size * 3 * size * size) for name, ms in times.items()}
            table.append(row)
    return tables


def titles(names: Sequence[str]) -> dict[str, str]:
    """Mix mode → column of the tables, its title; its name stands behind it where another mode has the same title."""
    found = {name: mix_modes()[name].title for name in names}
    shared = {title for title in found.values() if list(found.values()).count(title) > 1}
    return {name: f'{title} ({name})' if title in shared else title for name, title in found.items()}


def timms_title(name: str) -> str | None:
    """Column of timm's own mixer for a mix mode; None where timm has none."""
    mode = mix_modes()[name]
    timms_own = not mode.family or FAMILIES[mode.family].timms_own
    return f"timm's {mode.title}" if timms_own else None


def make_mixers(class_name: str, mode: str, names: Sequence[str]) -> dict[str, Any]:
    """timm's mixers where it has them, always its Mixup, and ours, with the paper's hyper-parameters for ImageNet."""
    ours = {'Mixup': Mixup, 'FastCollateMixup': FastCollateMixup}[class_name]
    theirs = getattr(timm.data, class_name)
    timms = {}
    for name in dict.fromkeys((REFERENCE, *names)):
        title = timms_title(name)
        if title is not None:
            slots = ('mixup_alpha', 'cutmix_alpha', 'cutmix_minmax', 'switch_prob')
            timms[title] = theirs(mode=mode, **{k: v for k, v in mixer_arguments(name).items() if k in slots})
    return timms | {title: ours(mode=mode, **mixer_arguments(name)) for name, title in titles(names).items()}


def beside_timms(times: Mapping[str, Sequence[float]], names: Sequence[str]) -> dict[str, float]:
    """Ratios to timm's mixers, and how long those take, from the milliseconds of every mixer in every turn.

    A mask that timm does not have is compared with timm's Mixup; such masks come first.
    """
    foreign, own = {}, {}
    for name, title in titles(names).items():
        timms = timms_title(name)
        if timms is None:
            timms = timms_title(REFERENCE)
            foreign[f'{title} ÷ {timms}'] = median_ratio(times[title], times[str(timms)])
        else:
            own[f"{title} ÷ timm's"] = median_ratio(times[title], times[timms])
    taken = {f'{name}, ms': median(ms) for name, ms in times.items() if name not in titles(names).values()}
    return foreign | own | taken


def plain_copy_ms(images: torch.Tensor, repeats: int, device: str) -> float:
    """Milliseconds that copying a batch takes; mixing, too, reads and writes every value at least once."""
    copy = torch.empty_like(images)
    return median(alternate({'copy': lambda: copy.copy_(images)}, repeats, device)['copy'])


def make_batch(batch_size: int, size: int, dtype: torch.dtype, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Random images (B, 3, H, W) and class indices (B,)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand((batch_size, 3, size, size), generator=generator)
    return images.to(device, dtype), torch.randint(0, 1000, (batch_size,), generator=generator).to(device)


def make_samples(batch_size: int, size: int, channels_last: bool) -> list[tuple[np.ndarray, int]]:
    """Random uint8 samples, (3, H, W) each; with `channels_last` a view of (H, W, 3), as timm's loader makes them."""
    rng = np.random.default_rng(0)
    shape = (size, size, 3) if channels_last else (3, size, size)
    images = [rng.integers(0, 256, shape, dtype=np.uint8) for _ in range(batch_size)]
    return [(image.transpose(2, 0, 1) if channels_last else image, i % 1000) for i, image in enumerate(images)]


def bound(mixer: Any, inputs: Sequence[Any]) -> Call:
    """The call mixer(*inputs)."""
    return lambda: mixer(*inputs)
