"""The launcher: any script that mixes with timm's `Mixup`, timm's train.py, or the project's own script.

    hmix-train --mix-mode hmix path/to/deit/main.py <its own arguments>
    torchrun --nproc_per_node 8 -m train_patch --mix-mode gmix path/to/main.py <its own arguments>
    hmix-train path/to/timm/train.py --data-dir /imagenet --model resnet50 --mix-mode hmix
    hmix-train --data-dir /imagenet --model resnet50 --mix-mode hmix

Our options stand before the script (`SCRIPT.py`, or `-m package.module`), everything after it is the script's; for
timm's train.py both places work. Without a script it is the project's own, `train_patch/train.py`. Nothing here imports
timm before the script's folder leads `sys.path`, so that the script of a timm checkout gets the timm beside it, as it
does under `python train.py`.
"""

import gc
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from .common.errors import RunError
from .common.processes import end_with_torchrun
from .common.timm_version import OLDEST_FOR_MIXING, OLDEST_FOR_TRAINING, require_timm_for_training, timm_version
from .launcher import command_line
from .launcher.command_line import CommandLine
from .launcher.site.sitecustomize import VARIABLE


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a training script.

    Args:
        argv: command line without the program's name; `sys.argv[1:]` if None.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    os.environ.pop(VARIABLE, None)  # of an outer launch: this one holds
    try:
        line = command_line.split(argv)
        run = _prepare(line) if line else _checked(_run_own, argv, argv)
        run()
    except RunError as error:
        print(f'hmix-train: error: {error}', file=sys.stderr)
        raise SystemExit(error.status) from None


def _run_own(argv: list[str]) -> None:
    from .trainer.arguments import parse_arguments

    end_with_torchrun()
    parse_arguments(argv)  # answers --help and refuses a typo before torch and timm are imported
    require_timm_for_training()
    gc.disable()  # importing torch and timm makes half a million objects that live as long as the process
    from . import train

    gc.freeze()
    gc.enable()
    train.main(argv)


def _run_timms(argv: list[str]) -> None:
    from .launcher.timm_script import TimmScript

    sys.argv = argv
    TimmScript(argv[0]).module.main()


def _checked(run: Callable[[list[str]], object], own: Sequence[str], argv: list[str]) -> Callable[[], object]:
    """A script's run with its arguments; it is looked at if our options say so."""
    if command_line.CHECK not in own:
        return partial(run, argv)
    from .launcher import seen

    argv.remove(command_line.CHECK)
    return partial(seen.run, partial(run, argv))


def _prepare(line: CommandLine) -> Callable[[], object]:
    """Prepares the script of a command line as timm's train.py, or as any other; returns the function that runs it."""
    of_any_script = {'--mixer', '--mix-others'} & {word.partition('=')[0] for word in line.own}
    like_timms = not line.is_module and not command_line.names_missing(line.script) and not of_any_script
    command_line.lead_path(os.getcwd() if line.is_module else str(Path(line.script).resolve().parent))
    command_line.check_timm()
    if like_timms and timm_version(OLDEST_FOR_MIXING, 'mixing') >= OLDEST_FOR_TRAINING:
        command_line.OwnParser().parse_args(line.own)
        return _checked(_run_timms, line.own, [line.script, *line.own, *line.arguments])
    # errors of the command line come before torch and timm, which take seconds to import
    mixing = command_line.read_own_options(line, like_timms)
    if line.is_module:
        command_line.check_module(line.script)
    gc.disable()
    timm_version(OLDEST_FOR_MIXING, 'mixing')
    from .launcher import any_script

    gc.freeze()
    gc.enable()
    return partial(any_script.run, line, mixing)


if __name__ == '__main__':
    main()
