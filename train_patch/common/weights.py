"""Loading files of weights without running code from them."""

import argparse
import contextlib
import os
import warnings
from collections.abc import Iterator

_FORCE, _FORCE_NOT = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


@contextlib.contextmanager
def only_weights() -> Iterator[None]:
    """Lets `torch.load` read weights and plain values alone in the block, whatever its caller or an older timm asks.

    Loading a pickle runs the code that it names. The block has torch's environment variable for this, which loader
    workers inherit, and not the opposite one, with which torch would refuse every file. Neither may reach somebody
    else's script: it may load a checkpoint of its own that holds more, such as a Namespace. So `hmix-compare`, which
    loads no weights itself, does not use this, and the launcher does so for the project's own script alone.
    """
    before = {name: os.environ.pop(name, None) for name in (_FORCE, _FORCE_NOT)}
    os.environ[_FORCE] = '1'
    try:
        yield
    finally:
        del os.environ[_FORCE]
        os.environ.update({name: value for name, value in before.items() if value is not None})


@contextlib.contextmanager
def plain_values() -> Iterator[None]:
    """Lets `torch.load(weights_only=True)` read a Namespace, in which timm keeps arguments, and no TorchScript archive.

    torch before 2.6 runs the code in such an archive all the same. It warns first, and here that stops it.
    """
    import torch

    torch.serialization.add_safe_globals([argparse.Namespace])
    with warnings.catch_warnings():
        warnings.filterwarnings('error', '.*TorchScript archive')
        yield
