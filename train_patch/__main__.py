"""The launcher: timm's train.py, or the lean script, with --mix-mode.

    hmix-train path/to/timm/train.py --data-dir /imagenet --model resnet50 --mix-mode hmix
    torchrun --nproc_per_node 8 -m train_patch path/to/timm/train.py --data-dir /imagenet --mix-mode hmix
    hmix-train --data-dir /imagenet --model resnet50 --mix-mode hmix

The first argument is a script if it ends in .py; everything after it is the script's. Nothing here imports timm before
the script's folder leads `sys.path`, so that the script of a timm checkout gets the timm beside it, as it does under
`python train.py`.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

OLDEST_TIMM = (1, 0, 20)


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a training script.

    Args:
        argv: command line without the program's name; `sys.argv[1:]` if None.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or not argv[0].endswith('.py'):
        from . import train

        train.main(argv)
        return
    path = Path(argv[0])
    if not path.is_file():
        _refuse(f'{path}: no such script')
    sys.argv = argv
    sys.path.insert(0, str(path.resolve().parent))
    _check_timm()
    from .launcher.timm_script import NotATrainScript, load_script

    try:
        script = load_script(path)
    except NotATrainScript as error:
        _refuse(str(error))
    script.main()


def _check_timm() -> None:
    import timm

    numbers = re.match(r'(\d+)\.(\d+)\.(\d+)', timm.__version__)
    if numbers is None or tuple(map(int, numbers.groups())) < OLDEST_TIMM:
        oldest = '.'.join(map(str, OLDEST_TIMM))
        _refuse(f'timm {timm.__version__} at {Path(timm.__file__).parent} is too old: this needs {oldest} or newer')


def _refuse(message: str) -> None:
    print(f'hmix-train: error: {message}', file=sys.stderr)
    raise SystemExit(2)


if __name__ == '__main__':
    main()
