"""Measures the cost of mixing on this machine, beside the installed timm's mixers: `hmix-bench`.

    hmix-bench                                        # the tables of docs/bench.md: 64 images of 224×224, one thread
    hmix-bench --device cuda --batch-size 256 --dtype bfloat16 --only mixers
    hmix-bench --only loader --data-dir /data/imagenet/train --workers 8 --json loader.json
    hmix-bench --only puzzle --model resnet50
    hmix-bench --mix-families my_masks.py --mix-modes mixup stripes --stripes-period 4
    hmix-bench -c comparison/digits/hmix/seed0/args.yaml        # α, r and the like of a run

Three parts. `mixers`: one call of every mixer in every mode, ours and timm's called in turns in one process and from
the same seeds; medians, and medians of the ratios within a turn. `loader`: images per second of timm's
`create_loader`, with real decoding and worker processes. `puzzle`: a training step with PuzzleMix and with CutMix; it
needs scipy.
"""

import argparse
import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hmix_timm.modes import mix_modes

from .common.command import add_rows, add_version, at_least, check_device, check_output, row
from .common.errors import WrongArguments, wrong_arguments
from .common.files import write_json
from .common.start import command
from .common.tables import markdown
from .common.timm_version import OLDEST_FOR_MIXING, timm_version
from .common.weights import only_weights
from .mixing import declare_parameters, read_parameters, side_by_side, typed_options

PARTS = ('mixers', 'loader', 'puzzle')


def build_parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    parser = argparse.ArgumentParser('hmix-bench', description='Measure the cost of mixing beside the installed timm.')
    add_version(parser)
    shown = 'mix modes to measure (default: mixup and each mask by itself, those of --mix-families too)'
    devices, dtypes = ('cpu', 'cuda', 'mps'), ('float32', 'float64', 'float16', 'bfloat16')
    where = "device of the float batches and of the loader's images"
    count = at_least(1)
    add_rows(
        parser,
        [
            row('--only', None, 'run one part (default: all of them)', choices=PARTS),
            row('--mix-modes', 'MODE', shown, nargs='+'),
            row('--device', None, where, choices=devices, default='cpu'),
            row('--dtype', None, 'dtype of the float batches', choices=dtypes, default='float32'),
            row('--batch-size', 'N', 'images in a batch, even', type=count, default=64),
            row('--size', 'N', 'height and width in pixels', type=count, default=224),
            row('--threads', 'N', 'threads of torch in this process', type=count, default=1),
            row('--repeats', 'N', 'timed calls of every mixer', type=count, default=20),
            row('--workers', 'N', 'worker processes of the loader', type=count, default=2),
            row('--epochs', 'N', 'timed epochs of every loader', type=count, default=5),
            row('--images', 'N', 'images that the loader reads where there is no --data-dir', type=count, default=768),
            row('--data-dir', 'DIR', 'image folder for the loader (default: parts of two photographs)', type=Path),
            row('--model', 'NAME', "timm's model for training steps with PuzzleMix", default='resnet18'),
            row('--json', 'FILE', 'also write all numbers to FILE (default: no file)', type=Path),
        ],
    )
    declare_parameters(parser, 'each option goes to the mix modes that use it; α goes to timm, too')
    return parser


def read_arguments(argv: Sequence[str]) -> argparse.Namespace:
    """Parses and checks the arguments, and adds `mixings`: mix mode → how it mixes. Needs no torch.

    Raises:
        WrongArguments: a value is wrong, or arguments cannot go together.
    """
    with wrong_arguments():
        recipes = read_parameters(argv)
        parser = build_parser()
    args = parser.parse_args(argv)
    if args.batch_size % 2:
        raise WrongArguments(f"--batch-size must be even, as timm's mixers need it, got {args.batch_size}")
    if args.device == 'mps' and args.dtype == 'float64':
        raise WrongArguments('--dtype must not be float64 with --device mps, which has none')
    if args.data_dir is None and args.images < args.batch_size:
        raise WrongArguments(f'--images must fill a batch of {args.batch_size}, got {args.images}')
    modes = {name: mode for name, mode in mix_modes().items() if mode.draws_masks}
    for name in args.mix_modes or ():
        if name not in modes:
            raise WrongArguments(f'--mix-modes must be of {", ".join(modes)}, got {name}')
    single = [name for name, mode in modes.items() if not (mode.mixup and mode.family)]
    with wrong_arguments():
        args.mixings = side_by_side(typed_options(args), args.mix_modes or single, '--mix-modes', recipes)
    if args.json is not None:
        check_output('--json', args.json)
    return args


@command('hmix-bench')
@only_weights()
def main(argv: list[str]) -> None:
    """Measures, prints and writes what the arguments ask for."""
    args = read_arguments(argv)
    timm_version(OLDEST_FOR_MIXING, 'mixing')
    # torch's profiler, which counts memory here, logs every start and stop; its log is set up when torch is loaded
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')
    import timm.models
    import torch

    from hmix_timm import Mixup

    from .benching import calls, loader, timing

    check_device(args.device)
    if not timm.models.is_model(args.model):
        raise WrongArguments(f'--model must be a model of timm, got {args.model}')
    loader.check_folder(args)
    torch.set_num_threads(args.threads)
    measure = {'mixers': calls.bench_mixers, 'loader': loader.bench_loader, 'puzzle': calls.bench_puzzle}
    written: dict[str, Any] = {'machine': timing.describe_machine(args), 'tables': {}}
    print(', '.join(f'{name} {value}' for name, value in written['machine'].items()))
    written['mixers'] = {name: repr(mixing.mixer(Mixup, 1000)) for name, mixing in args.mixings.items()}
    print('\n'.join(written['mixers'].values()))
    for part in [args.only] if args.only else PARTS:
        if part == 'puzzle' and not args.only and importlib.util.find_spec('scipy') is None:
            timing.progress('puzzle: left out, scipy is not installed')
            continue
        for title, table in measure[part](args).items():
            written['tables'][title] = table
            print(f'\n{title}\n\n{markdown(table)}', flush=True)
    if args.json is not None:
        write_json(args.json, written)


if __name__ == '__main__':
    sys.exit(main())
