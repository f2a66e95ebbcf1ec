"""Importing torch and timm in two thirds of the time."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keeps the garbage collector off what is imported in the block: then, while training, and at the process's end.

    Torch and timm make some 400,000 objects that live as long as the process, and the collector would look through all
    of them again and again. Loader workers gain, too: what nobody looks at stays shared with the process they were
    forked from.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if enabled:
            gc.enable()
