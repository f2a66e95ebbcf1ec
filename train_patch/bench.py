"""What mixing costs on this machine, beside the installed timm's mixers: `hmix-bench`, `python -m train_patch.bench`.

    hmix-bench                                        # the tables of the README: 64 images of 224×224, one thread
    hmix-bench --device cuda --batch-size 256 --dtype bfloat16 --only mixers
    hmix-bench --only loader --data-dir /data/imagenet/train --workers 8
    hmix-bench --only scaling --json scaling.json
    hmix-bench --only puzzle --model resnet50
    hmix-bench --mix-families my_masks.py --mix-modes mixup stripes

Four parts. `mixers`: one call of every mixer in every mode, ours and timm's called in turns in one process and from
the same seeds; medians, and medians of the ratios within a turn. `loader`: images per second of timm's
`create_loader`, with real decoding and worker processes. `scaling`: time per value over image sizes and batch sizes,
which a linear cost keeps level. `puzzle`: the parts of PuzzleMix, and a training step with it and with CutMix; it needs
scipy.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hmix_timm.modes import mix_modes

from .common.command import (
    add_families,
    add_version,
    at_least,
    device_problem,
    load_given_families,
    problem_with_output,
    run_command,
)
from .common.files import write_json
from .common.tables import markdown

PROGRAM = 'hmix-bench'
PARTS = ('mixers', 'loader', 'scaling', 'puzzle')


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM, description='What mixing costs on this machine, beside the installed timm.'
    )
    add_version(parser)
    parser.add_argument('--only', choices=PARTS, help='run one part (default: all of them)')
    parser.add_argument(
        '--mix-modes',
        nargs='+',
        metavar='MODE',
        help='mix modes to measure (default: mixup and each mask by itself, those of --mix-families too)',
    )
    add_families(parser)
    parser.add_argument(
        '--device',
        choices=('cpu', 'cuda', 'mps'),
        default='cpu',
        help="device of the float batches and of the loader's images (default: cpu)",
    )
    parser.add_argument('--batch-size', type=at_least(1), default=64, help='images in a batch, even (default: 64)')
    parser.add_argument('--size', type=at_least(1), default=224, help='height and width in pixels (default: 224)')
    parser.add_argument(
        '--dtype',
        choices=('float32', 'float64', 'float16', 'bfloat16'),
        default='float32',
        help='dtype of the float batches (default: float32)',
    )
    parser.add_argument('--threads', type=at_least(1), default=1, help='threads of torch in this process (default: 1)')
    parser.add_argument('--repeats', type=at_least(1), default=20, help='timed calls of every mixer (default: 20)')
    parser.add_argument('--workers', type=at_least(1), default=2, help='worker processes of the loader (default: 2)')
    parser.add_argument('--epochs', type=at_least(1), default=5, help='timed epochs of every loader (default: 5)')
    parser.add_argument(
        '--images', type=at_least(1), default=768, help='photographs that the loader reads (default: 768)'
    )
    parser.add_argument(
        '--data-dir',
        type=Path,
        metavar='DIR',
        help="image folder for the loader (default: cuttings of scikit-learn's photographs)",
    )
    parser.add_argument(
        '--model', default='resnet18', help="timm's classifier for training steps with PuzzleMix (default: resnet18)"
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all figures to FILE, too (default: no file)')
    return parser


def check_arguments(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Ends with the parser's error where arguments do not fit each other or name what is not there; needs no torch."""
    if args.batch_size % 2:
        parser.error(f"argument --batch-size: must be even, as timm's mixers need it, got {args.batch_size}")
    if args.device == 'mps' and args.dtype == 'float64':
        parser.error('argument --dtype: mps has no float64')
    load_given_families(parser, args)
    modes = {name: mode for name, mode in mix_modes().items() if mode.draws_masks}
    if args.mix_modes is None:
        args.mix_modes = [name for name, mode in modes.items() if not (mode.mixup and mode.family)]
    for name in args.mix_modes:
        if name not in modes:
            parser.error(f'argument --mix-modes: must be of {", ".join(modes)}, got {name}')
    args.mix_modes = list(dict.fromkeys(args.mix_modes))
    if args.data_dir is None:
        if args.images < args.batch_size:
            parser.error(f'argument --images: must fill a batch of {args.batch_size}, got {args.images}')
    elif not args.data_dir.is_dir():
        parser.error(f'argument --data-dir: {args.data_dir} is not a folder')
    if args.json is not None:
        if not args.json.absolute().parent.is_dir():
            parser.error(f'argument --json: {args.json.absolute().parent} is not a folder')
        problem = problem_with_output(args.json)
        if problem is not None:
            parser.error(f'argument --json: {problem}')


def available_parts() -> list[str]:
    """All parts but those that need a package which is not installed."""
    if importlib.util.find_spec('scipy') is None:
        print('puzzle: left out, scipy is not installed', file=sys.stderr)
        return [part for part in PARTS if part != 'puzzle']
    return list(PARTS)


def measure(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Measures, prints and writes what the arguments ask for."""
    # torch's profiler, which counts memory here, tells of every start and stop; its log is set up when torch is loaded
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')
    import timm.models
    import torch

    from .benching import calls as mixers
    from .benching import loader, machine, puzzle

    problem = device_problem(args.device)
    if problem is not None:
        parser.error(f'argument --device: {problem}')
    if args.data_dir is not None and not loader.holds_images(args.data_dir):
        parser.error(f'argument --data-dir: {args.data_dir} holds no images in class folders')
    if not timm.models.is_model(args.model):
        parser.error(f'argument --model: timm has no model {args.model}')
    torch.set_num_threads(args.threads)
    parts = {
        'mixers': mixers.bench_mixers,
        'loader': loader.bench_loader,
        'scaling': mixers.bench_scaling,
        'puzzle': puzzle.bench_puzzle,
    }
    written: dict[str, Any] = {'machine': machine.describe_machine(args)}
    print(', '.join(f'{name} {value}' for name, value in written['machine'].items()))
    for name in [args.only] if args.only else available_parts():
        for title, table in parts[name](args).items():
            written.setdefault('tables', {})[title] = table
            print(f'\n{title}\n\n{markdown(table)}', flush=True)
    if args.json is not None:
        write_json(args.json, written)


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of `hmix-bench`; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    check_arguments(parser, args)
    return run_command(PROGRAM, lambda: measure(parser, args))


if __name__ == '__main__':
    sys.exit(main())
