"""What the installed commands call: Ctrl-C ends them with one line also while their modules are being imported."""

import importlib
import sys


def train() -> int | None:
    """`hmix-train`."""
    return start('hmix-train', 'train_patch.__main__')


def compare() -> int | None:
    """`hmix-compare`."""
    return start('hmix-compare', 'train_patch.compare')


def preview() -> int | None:
    """`hmix-preview`."""
    return start('hmix-preview', 'train_patch.preview')


def bench() -> int | None:
    """`hmix-bench`."""
    return start('hmix-bench', 'train_patch.bench')


def figures() -> int | None:
    """`hmix-figures`."""
    return start('hmix-figures', 'train_patch.figures')


def start(program: str, module: str) -> int | None:
    """Runs `main` of a module, which is imported first; from then on Ctrl-C is its own matter.

    Args:
        program: name of the command, for the line after Ctrl-C.
        module: full name.

    Returns:
        The exit status; None is 0.
    """
    try:
        main = importlib.import_module(module).main
    except KeyboardInterrupt:
        print(f'\n{program}: interrupted', file=sys.stderr)
        return 130
    return main()
