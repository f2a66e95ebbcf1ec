"""Asks training's own parser and checks, before any run starts, what the arguments mean and whether they can work."""

import argparse
import contextlib
import gc
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence, Sized
from pathlib import Path
from typing import Any

import yaml

from ..common.errors import RunError, WrongArguments
from ..common.files import locked_folder
from ..common.timm_version import require_timm_for_training
from ..recipes.reader import SafeDumper, SafeLoader
from .comparison import Comparison

USAGE = (
    'hmix-compare [RECIPE] [--modes MODE[:KEY=VALUE,...] ...] [--vary KEY=VALUE,... ...] [--seeds K ...] '
    '[--output DIR] [--script TRAIN.PY] [--jobs N | --nproc-per-node N | --submit slurm|local] [--dry-run] '
    '[any training argument]\n'
    '       hmix-compare --table DIR [DIR ...] [--metric COLUMN] [--baseline ROW ...] [--format FORM]'
)


def resolve(script: Path | None, lines: Sequence[Sequence[str]]) -> list[dict[str, Any]]:
    """Resolves command lines with training's own parser.

    Args:
        script: a timm train script, or None for this project's own.
        lines: the arguments of one run each.

    Returns:
        The arguments of each as its `args.yaml` would hold them.

    Raises:
        WrongArguments: the script refuses one of them; the message is its own.
        RunError: the script has a bug; the message ends with its traceback.
        SystemExit: this project's own script refuses one of them.
    """
    if script is None:
        from ..trainer.arguments import parse_arguments

        return [_plain(parse_arguments(line, 'hmix-compare', USAGE)[0]) for line in lines]
    # in a process of its own, which imports the timm beside the script
    command = [sys.executable, '-m', __name__, str(script)]
    done = subprocess.run(command, input=json.dumps([*map(list, lines)]), capture_output=True, text=True)
    if 'Traceback (most recent call last)' in done.stderr and done.returncode:
        raise RunError(f'{script} ends with an error of its own:\n{done.stderr.strip()}')
    if done.returncode:
        raise WrongArguments(error_message(done.stderr))
    return yaml.load(done.stdout, SafeLoader)


def _plain(args: argparse.Namespace) -> dict[str, Any]:
    return yaml.load(yaml.dump(vars(args), Dumper=SafeDumper), SafeLoader)


def main() -> None:
    """Resolves command lines with timm's script, which is the argument; reads them from stdin as JSON, writes YAML."""
    from ..launcher.timm_script import TimmScript

    path, lines = sys.argv[1], json.load(sys.stdin)
    sys.path.insert(0, str(Path(path).resolve().parent))
    resolved = []
    try:
        with contextlib.redirect_stdout(sys.stderr):
            sys.argv = [path, *lines[0]]
            script = TimmScript(path)
            for line in lines:
                sys.argv = [path, *line]
                resolved.append(_plain(script.module._parse_args()[0]))
    except RunError as error:
        sys.exit(f'error: {error}')
    yaml.dump(resolved, sys.stdout, SafeDumper)
    gc.freeze()  # Python would look through all of torch at its end, for a second and more


def error_message(output: str) -> str:
    """Returns the last line of a process's output that looks like an error, else the last line, without its prefix."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r'([\w.]+(Error|Exception|Interrupt)\b|(\S+: )?error:|ERROR:)', line)]
    return re.sub(r'^((\S+: )?error|ERROR): ', '', (errors or lines or ['no output'])[-1])


def look_ahead(comparison: Comparison, prepare: Callable[[], object] | None) -> bool:
    """Checks once what training would check in every run before its first batch, and counts images.

    Args:
        comparison: gets the number of validation images, if all rows have as many.
        prepare: called before the data are read; None if nothing may be written, so that nothing is downloaded.

    Returns:
        Whether the data were there; False only if nothing may be written.

    Raises:
        RunError: training would end at once; the message says why.
    """
    require_timm_for_training()
    from ..trainer.arguments import parse_arguments
    from ..trainer.data import load_datasets
    from ..trainer.setup import check_arguments

    counts: set[int | None] = set()
    for place, variant in enumerate(comparison.variants):
        if place and not variant.training:  # it differs from the first one in its mixing
            continue
        args = parse_arguments([])[0]  # an older script of timm's may lack an option
        vars(args).update(variant.resolved)
        args.data_dir = args.data_dir or args.data
        if comparison.processes > 1:
            args.aug_repeats = 0  # it needs several processes, and this is one
        if comparison.script is None:
            check_arguments(args)
        if prepare is not None:
            prepare()
        elif args.dataset_download or not os.path.exists(args.data_dir or ''):
            return False
        if args.dataset.startswith(('hfids/', 'tfds/', 'wds/')):  # timm's script alone reads them, as a stream
            counts.add(None)
            continue
        # two comparisons that download into a folder would write the same files
        alone = locked_folder(Path(args.data_dir)) if args.dataset_download else contextlib.nullcontext()
        with alone:
            _, validation = load_datasets(args)
        counts.add(len(validation) if isinstance(validation, Sized) else None)
    comparison.images = counts.pop() if len(counts) == 1 else None
    return True


if __name__ == '__main__':
    main()
