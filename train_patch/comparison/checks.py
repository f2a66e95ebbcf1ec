"""Asking training, before any run is started, what it makes of the arguments and whether it could begin."""

import argparse
import contextlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..common.errors import RunError
from ..common.timm_version import require_timm_for_training
from ..recipes.reader import SafeDumper, SafeLoader

Arguments = dict[str, Any]


@dataclass(frozen=True)
class Prospect:
    """What is known of the runs before they start.

    Args:
        epochs: how many epochs each trains for, cool-down included.
        validation_images: how many images top-1 is measured on; None where the data set cannot say.
    """

    epochs: int
    validation_images: int | None


def resolve(script: Path | None, lines: Sequence[Sequence[str]]) -> list[Arguments]:
    """What training's own parser makes of command lines.

    Args:
        script: a timm train script, or None for this project's own.
        lines: the arguments of one run each.

    Returns:
        The arguments of each as its `args.yaml` would hold them.

    Raises:
        ValueError: training would refuse one of them; says why, in training's words.
    """
    if script is None:
        return [_plain(_parsed(line)) for line in lines]
    # in a process of its own: it gets the timm beside the script, and nothing that the script does stays behind
    command = [sys.executable, '-m', 'train_patch.comparison.checks', str(script)]
    done = subprocess.run(command, input=json.dumps([*map(list, lines)]), capture_output=True, text=True)
    if done.returncode:
        raise ValueError(message_of(done.stderr))
    return yaml.load(done.stdout, SafeLoader)


def _parsed(line: Sequence[str]) -> argparse.Namespace:
    """What the project's own script makes of a command line; its parser ends the process where it refuses one."""
    from ..trainer.arguments import parse_arguments

    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            return parse_arguments(line)[0]
    except SystemExit as error:
        if error.code != 2:  # a signal, not the parser
            raise
        raise ValueError(message_of(said.getvalue())) from error


def _plain(args: argparse.Namespace) -> Arguments:
    return yaml.load(yaml.dump(vars(args), Dumper=SafeDumper), SafeLoader)


def main() -> None:
    """Resolves command lines for timm's script, which is named on the command line; see `resolve`."""
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


def message_of(said: str) -> str:
    """What a process complained about, without the name that it goes by: the last line that looks like an error.

    Args:
        said: what it wrote.

    Returns:
        That line, else the last one.
    """
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line for line in lines if re.match(r'([\w.]+(Error|Exception|Interrupt)\b|(\S+: )?error:|ERROR:)', line)]
    return re.sub(r'^((\S+: )?error|ERROR): ', '', (errors or lines or ['no output'])[-1])


def look_ahead(
    arguments: Mapping[str, Any], script: Path | None, distributed: bool, prepare: Callable[[], object] | None
) -> Prospect | None:
    """Checks what training would check before its first batch: once, not in every run.

    Args:
        arguments: of one run, resolved.
        script: a timm train script, or None for this project's own.
        distributed: whether the run is one of torchrun's.
        prepare: called before the data are looked at; None where nothing may be written, so that nothing is downloaded.

    Returns:
        What is known of the runs then; None where the data are not on this machine and nothing may be written.

    Raises:
        ValueError: training would end at once; says why.
        RunError: timm is too old to train through it.
    """
    require_timm_for_training()
    from timm.optim import create_optimizer_v2, optimizer_kwargs
    from timm.scheduler import create_scheduler_v2, scheduler_kwargs
    from torch import nn, zeros

    from ..trainer.checks import check_arguments
    from ..trainer.data import load_datasets

    args = _parsed([])  # an older script of timm's may lack an option
    vars(args).update(arguments)
    args.data_dir = args.data_dir or args.data
    if distributed:
        args.aug_repeats = 0  # it asks for many processes, of which this is none
    try:
        if script is None:
            check_arguments(args)
        optimizer = create_optimizer_v2([nn.Parameter(zeros(1))], **{**optimizer_kwargs(cfg=args), 'lr': 0.1})
        epochs = create_scheduler_v2(optimizer, **scheduler_kwargs(args), updates_per_epoch=1)[1]
        if prepare is not None:
            prepare()
        elif args.dataset_download or not os.path.exists(args.data_dir or ''):
            return None
        with download_lock(args):
            _, validation = load_datasets(args)
    except RunError as error:
        raise ValueError(str(error)) from error
    return Prospect(epochs, len(validation) if isinstance(validation, Sized) else None)


@contextlib.contextmanager
def download_lock(args: argparse.Namespace) -> Iterator[None]:
    """Lets one comparison at a time download into a folder: two at once would write the same files."""
    if args.dataset_download:
        os.makedirs(args.data_dir, exist_ok=True)
    if not args.dataset_download or not os.access(args.data_dir, os.W_OK):
        yield
        return
    from filelock import FileLock

    with FileLock(os.path.join(args.data_dir, '.hmix-compare.lock')):
        yield


if __name__ == '__main__':
    main()
