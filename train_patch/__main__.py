"""The launcher: any script that mixes with timm's `Mixup`, timm's train.py, or the project's own script.

    hmix-train --mix-mode hmix path/to/deit/main.py <its own arguments>
    torchrun --nproc_per_node 8 -m train_patch --mix-mode gmix path/to/main.py <its own arguments>
    hmix-train path/to/timm/train.py --data-dir /imagenet --model resnet50 --mix-mode hmix
    hmix-train --data-dir /imagenet --model resnet50 --mix-mode hmix

Options of ours stand before the script (`SCRIPT.py`, or `-m package.module`), everything after it is the script's; for
timm's train.py both places work. Without a script it is the project's own, `train_patch/train.py`. Nothing here imports
timm before the script's folder leads `sys.path`, so that the script of a timm checkout gets the timm beside it, as it
does under `python train.py`.
"""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from .common.errors import RunError
from .common.timm_version import OLDEST_FOR_MIXING, OLDEST_FOR_TRAINING, timm_version
from .launcher import command_line
from .launcher.command_line import CommandLine


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a training script.

    Args:
        argv: command line without the program's name; `sys.argv[1:]` if None.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    status = 2
    try:
        line = command_line.split(argv)
        run = _prepare(line) if line else _projects_own(argv)
        status = 1
        run()
    except RunError as error:
        print(f'hmix-train: error: {error}', file=sys.stderr)
        raise SystemExit(status) from None


def _projects_own(argv: list[str]) -> Callable[[], object]:
    def run() -> None:
        from . import train

        train.main(argv)

    return run


def _prepare(line: CommandLine) -> Callable[[], object]:
    """What runs the script of a command line: as timm's train.py, or as any other."""
    like_timms = not line.is_module and not command_line.names_missing(line.script)
    command_line.lead_path(os.getcwd() if line.is_module else str(Path(line.script).resolve().parent))
    if like_timms and timm_version(OLDEST_FOR_MIXING, 'mixing') >= OLDEST_FOR_TRAINING:
        from .launcher.timm_script import TimmScript

        sys.argv = [line.script, *line.own, *line.arguments]
        return TimmScript(line.script).main
    # what a command line alone can tell comes before torch and timm, which take seconds to import
    command_line.refuse_own_options(line, like_timms)
    mixing = command_line.resolve_own(line.own)
    if line.is_module:
        command_line.check_module(line.script)
    timm_version(OLDEST_FOR_MIXING, 'mixing')
    from .launcher.any_script import AnyScript

    return AnyScript(line, mixing).main


if __name__ == '__main__':
    main()
