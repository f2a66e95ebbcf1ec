"""What mixing costs on this machine, beside the installed timm's mixers: `hmix-bench`, or `python -m hmix_timm.bench`.

    hmix-bench                                        # the tables of the README: 64 images of 224×224, one thread
    hmix-bench --device cuda --batch-size 256 --dtype bfloat16 --only mixers
    hmix-bench --only loader --data-dir /data/imagenet/train --workers 8
    hmix-bench --only scaling --json scaling.json

Three parts. `mixers`: one call of every mixer in every mode, ours and timm's called in turns in one process and from
the same seeds; medians, and medians of the ratios within a turn. `loader`: images per second of timm's
`create_loader`, with real decoding and worker processes. `scaling`: time per value over image sizes and batch sizes,
which a linear cost keeps level.
"""

import argparse
import contextlib
import json
import os
import platform
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import timm
import timm.data
import torch

from .blend import compiled
from .files import write_json
from .mixup import FastCollateMixup, Mixup
from .presets import mixer_arguments

PARTS = ('mixers', 'loader', 'scaling')
MIXERS = {'Mixup': 'mixup', 'CutMix': 'cutmix', 'HMix': 'hmix', 'GMix': 'gmix'}
"""Mixer → row of the paper's tables."""

FLOAT_MODES = ('batch', 'pair', 'elem')
COLLATE_MODES = ('batch', 'pair', 'elem', 'half')
SIZES = (32, 64, 128, 224, 384)
BATCH_SIZES = (16, 64, 256, 1024)
SCALING_SIZE = 128
SCALING_BATCH_SIZE = 64
JPEG_SIZE = (500, 375)
"""Width and height of the photographs that the loader decodes, about ImageNet's."""

Call = Callable[[], Any]
Table = list[dict[str, Any]]


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog='hmix-bench', description='What mixing costs on this machine, beside the installed timm.'
    )
    parser.add_argument('--only', choices=PARTS, help='run one part instead of all')
    parser.add_argument('--device', choices=('cpu', 'cuda', 'mps'), default='cpu', help='device of the float batches')
    parser.add_argument('--batch-size', type=_positive, default=64, help='images in a batch, even (default: 64)')
    parser.add_argument('--size', type=_positive, default=224, help='height and width in pixels (default: 224)')
    parser.add_argument(
        '--dtype', choices=('float32', 'float64', 'float16', 'bfloat16'), default='float32', help='of the float batches'
    )
    parser.add_argument('--threads', type=_positive, default=1, help='threads of torch in this process (default: 1)')
    parser.add_argument('--repeats', type=_positive, default=20, help='timed calls of every mixer (default: 20)')
    parser.add_argument('--workers', type=_positive, default=2, help='worker processes of the loader (default: 2)')
    parser.add_argument('--epochs', type=_positive, default=5, help='timed epochs of every loader (default: 5)')
    parser.add_argument(
        '--images', type=_positive, default=768, help='photographs that the loader reads (default: 768)'
    )
    parser.add_argument(
        '--data-dir', type=Path, help="image folder for the loader; default: cuttings of scikit-learn's photographs"
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all figures to FILE, too')
    return parser


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends the program with exit status 2 where arguments do not fit each other or this machine."""
    if args.batch_size % 2:
        parser.error(f"argument --batch-size: must be even, as timm's mixers need it, got {args.batch_size}")
    if args.device == 'cuda' and not torch.cuda.is_available():
        parser.error('argument --device: cuda is not available here')
    if args.device == 'mps' and not torch.backends.mps.is_available():
        parser.error('argument --device: mps is not available here')
    if args.device == 'mps' and args.dtype == 'float64':
        parser.error('argument --dtype: mps has no float64')
    if args.data_dir is None:
        if args.images < args.batch_size:
            parser.error(f'argument --images: must fill a batch of {args.batch_size}, got {args.images}')
    elif not args.data_dir.is_dir():
        parser.error(f'argument --data-dir: {args.data_dir} is not a folder')
    elif not any(path.suffix.lower() in timm.data.get_img_extensions() for path in args.data_dir.glob('*/**/*')):
        parser.error(f'argument --data-dir: {args.data_dir} holds no images in class folders')
    if args.json is not None and not args.json.absolute().parent.is_dir():
        parser.error(f'argument --json: {args.json.absolute().parent} is not a folder')


def main(argv: Sequence[str] | None = None) -> None:
    """Entry point of `hmix-bench`."""
    parser = build_parser()
    args = parser.parse_args(argv)
    check_arguments(parser, args)
    torch.set_num_threads(args.threads)
    parts: dict[str, Callable[[argparse.Namespace], dict[str, Table]]] = {
        'mixers': bench_mixers,
        'loader': bench_loader,
        'scaling': bench_scaling,
    }
    report: dict[str, Any] = {'machine': describe_machine(args)}
    print(describe(report['machine']))
    for name in [args.only] if args.only else PARTS:
        for title, table in parts[name](args).items():
            report.setdefault('tables', {})[title] = table
            print(f'\n{title}\n\n{markdown(table)}', flush=True)
    if args.json is not None:
        write_json(args.json, report)


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
        calls = {name: bound(mixer, inputs) for name, mixer in make_mixers(class_name, mode).items()}
        times = alternate(calls, args.repeats, device)
        ratios.append({'path, mode': row, **beside_timms(times)})
        memory.append({'path, mode': row, **{name: extra_memory(call, device) for name, call in calls.items()}})
        if class_name == 'Mixup':
            bandwidth.append({'path, mode': row, **{name: copy_ms / median(ms) for name, ms in times.items()}})
    return {
        f'One call, {args.batch_size} images 3×{args.size}×{args.size}': ratios,
        'Peak extra memory of a call, MiB (beyond what it is given and returns)': memory,
        'Achieved bandwidth as a share of a plain copy of the batch': bandwidth,
    }


def bench_loader(args: argparse.Namespace) -> dict[str, Table]:
    """Images per second of timm's whole loader, with and without mixing."""
    collates: dict[str, Any] = {'no mixing': None, **make_mixers('FastCollateMixup', 'batch')}
    del collates["timm's CutMix"], collates['CutMix']
    rates: dict[str, list[float]] = {name: [] for name in collates}
    with image_folder(args) as folder:
        dataset = timm.data.create_dataset('', str(folder))
        if len(dataset) < args.batch_size:
            sys.exit(f'hmix-bench: {folder} holds {len(dataset)} images, fewer than a batch of {args.batch_size}')
        loaders = {
            name: timm.data.create_loader(
                timm.data.create_dataset('', str(folder)),
                input_size=(3, args.size, args.size),
                batch_size=args.batch_size,
                is_training=True,
                num_workers=args.workers,
                collate_fn=collate,
                device=torch.device(args.device),
            )
            for name, collate in collates.items()
        }
        for epoch in range(1 + args.epochs):  # the first one starts the workers
            for name, loader in loaders.items():
                progress(f'loader: {name}, epoch {epoch} of {args.epochs}')
                start = time.perf_counter()
                images = sum(len(batch) for batch, _ in loader)
                synchronize(args.device)
                if epoch:
                    rates[name].append(images / (time.perf_counter() - start))
    table = [
        {
            'loader': name,
            'images per second': median(rate),
            '÷ no mixing': median_ratio(rate, rates['no mixing']),
        }
        for name, rate in rates.items()
    ]
    return {f"timm's create_loader, {args.workers} workers, {args.size}×{args.size}, {args.device}": table}


def bench_scaling(args: argparse.Namespace) -> dict[str, Table]:
    """Nanoseconds for each value of a batch, over image sizes and over batch sizes."""
    tables: dict[str, Table] = {}
    sizes = [(SCALING_BATCH_SIZE, size) for size in SIZES]
    batches = [(batch_size, SCALING_SIZE) for batch_size in BATCH_SIZES]
    for title, shapes in (('sizes', sizes), ('batch sizes', batches)):
        table = tables.setdefault(f'Nanoseconds per value in mode pair, over {title}', [])
        for batch_size, size in shapes:
            progress(f'scaling: {batch_size} images of {size}×{size}')
            row: dict[str, Any] = {'images': f'{batch_size}×3×{size}×{size}'}
            inputs = {
                args.dtype: (
                    'Mixup',
                    make_batch(batch_size, size, getattr(torch, args.dtype), args.device),
                    args.device,
                ),
                'uint8': ('FastCollateMixup', (make_samples(batch_size, size, channels_last=False),), 'cpu'),
            }
            for path, (class_name, batch, device) in inputs.items():
                mixers = make_mixers(class_name, 'pair')
                calls = {f'{path} {name}': bound(mixers[name], batch) for name in MIXERS}
                times = alternate(calls, args.repeats, device)
                row |= {name: median(ms) * 1e6 / (batch_size * 3 * size * size) for name, ms in times.items()}
            table.append(row)
    return tables


def plain_copy_ms(images: torch.Tensor, repeats: int, device: str) -> float:
    """Milliseconds that copying a batch takes; mixing, too, reads and writes every value at least once."""
    copy = torch.empty_like(images)
    return median(alternate({'copy': lambda: copy.copy_(images)}, repeats, device)['copy'])


def make_mixers(class_name: str, mode: str) -> dict[str, Any]:
    """timm's Mixup and CutMix and all of ours, with the paper's hyper-parameters for ImageNet."""
    ours = {'Mixup': Mixup, 'FastCollateMixup': FastCollateMixup}[class_name]
    theirs = getattr(timm.data, class_name)
    mixers = {name: ours(mode=mode, **mixer_arguments(row)) for name, row in MIXERS.items()}
    timms = {}
    for name in ('Mixup', 'CutMix'):
        mixer = mixers[name]
        timms[f"timm's {name}"] = theirs(mixup_alpha=mixer.mixup_alpha, cutmix_alpha=mixer.cutmix_alpha, mode=mode)
    return timms | mixers


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


def alternate(calls: dict[str, Call], repeats: int, device: str) -> dict[str, list[float]]:
    """Milliseconds of every call, all of them in turns and from the same seeds; the first two turns are a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(-2, repeats):
        for name, call in calls.items():
            np.random.seed(max(turn, 0))
            synchronize(device)
            start = time.perf_counter()
            call()
            synchronize(device)
            if turn >= 0:
                times[name].append((time.perf_counter() - start) * 1e3)
    return times


def beside_timms(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Ratios to timm's mixers, and how long those take, from the milliseconds of every mixer in every turn."""
    timms_mixup, timms_cutmix = times["timm's Mixup"], times["timm's CutMix"]
    return {
        "HMix ÷ timm's Mixup": median_ratio(times['HMix'], timms_mixup),
        "GMix ÷ timm's Mixup": median_ratio(times['GMix'], timms_mixup),
        "Mixup ÷ timm's": median_ratio(times['Mixup'], timms_mixup),
        "CutMix ÷ timm's": median_ratio(times['CutMix'], timms_cutmix),
        "timm's Mixup, ms": median(timms_mixup),
        "timm's CutMix, ms": median(timms_cutmix),
    }


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios within a turn: what slows the machine down for a while slows both."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def synchronize(device: str) -> None:
    """Waits for the device."""
    if device != 'cpu':
        getattr(torch, device).synchronize()


def extra_memory(call: Call, device: str) -> float | None:
    """Peak memory of a call in MiB, above what is held before it and what it returns; None where torch cannot tell."""
    np.random.seed(0)
    if device == 'cpu':
        return _extra_memory_cpu(call)
    if device != 'cuda':
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    result = call()
    torch.cuda.synchronize()
    extra = torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
    del result
    return extra / 2**20


def _extra_memory_cpu(call: Call) -> float:
    """numpy's own peak and torch's, which need not fall together: the sum is an upper bound."""
    with tempfile.TemporaryDirectory() as folder:
        tracemalloc.start()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            tracemalloc.reset_peak()
            result = call()
            left, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        profile.export_chrome_trace(f'{folder}/trace.json')
        events = json.loads(Path(f'{folder}/trace.json').read_text())['traceEvents']
    changes = [(event['ts'], event['args']['Bytes']) for event in events if event['name'] == '[memory]']
    levels = np.cumsum([change for _, change in sorted(changes)] or [0])
    del result
    return (peak - left + levels.max() - levels[-1]) / 2**20


@contextlib.contextmanager
def image_folder(args: argparse.Namespace) -> Iterator[Path]:
    """--data-dir, or a temporary image folder of JPEGs cut from scikit-learn's two photographs."""
    if args.data_dir is not None:
        yield args.data_dir
        return
    try:
        from sklearn.datasets import load_sample_images
    except ImportError:
        sys.exit("hmix-bench: without --data-dir, --only loader needs scikit-learn: pip install 'hmix-timm[demo]'")
    from PIL import Image

    photographs = [Image.fromarray(array) for array in load_sample_images().images]
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        for i in range(args.images):
            photograph = photographs[i % len(photographs)]
            share = rng.uniform(0.6, 1.0)
            width, height = (int(side * share) for side in photograph.size)
            left, top = (int(rng.integers(0, a - b + 1)) for a, b in zip(photograph.size, (width, height), strict=True))
            cutting = photograph.resize(JPEG_SIZE, Image.Resampling.BICUBIC, (left, top, left + width, top + height))
            path = Path(folder, f'class{i % len(photographs)}', f'{i:06}.jpg')
            path.parent.mkdir(exist_ok=True)
            cutting.save(path, quality=90)
        yield Path(folder)


def describe_machine(args: argparse.Namespace) -> dict[str, Any]:
    """Processor, threads, device and versions."""
    machine = {
        'processor': processor_name(),
        'cores': os.cpu_count(),
        'threads': args.threads,
        'device': torch.cuda.get_device_name() if args.device == 'cuda' else args.device,
    }
    versions = {'python': platform.python_version(), 'torch': torch.__version__, 'numpy': np.__version__}
    loop = compiled.load()
    return machine | versions | {'timm': timm.__version__, 'uint8 mixed by': 'torch' if loop is None else loop[0]}


def processor_name() -> str:
    """The processor's name as Linux tells it, or else what Python knows."""
    with contextlib.suppress(OSError):
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def describe(machine: dict[str, Any]) -> str:
    """The machine and the versions in one line."""
    return ', '.join(f'{name} {value}' for name, value in machine.items())


def markdown(table: Table) -> str:
    """A table as Markdown; numbers with three digits."""
    lines = [list(table[0]), ['---', *['---:'] * (len(table[0]) - 1)]]
    lines += [[_cell(value) for value in row.values()] for row in table]
    return '\n'.join(f'| {" | ".join(line)} |' for line in lines)


def _cell(value: Any) -> str:
    if value is None:
        return '–'
    return value if isinstance(value, str) else f'{value:.0f}' if value >= 100 else f'{value:.3g}'


def progress(text: str) -> None:
    """Tells on standard error what is being measured."""
    print(text, file=sys.stderr, flush=True)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'must be a whole number >= 1, got {text}')
    return int(text)


if __name__ == '__main__':
    main()
