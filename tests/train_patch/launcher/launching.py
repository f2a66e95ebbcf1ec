"""What a process of the tests' server does to launch a script."""

import importlib
import multiprocessing
import sys
import tempfile

import process_server
import timm.data.auto_augment
import timm.data.mixup
import timm.models._features

from train_patch.__main__ import main


def launch(argv, start_method):
    """What `python -m train_patch` does, with a start method of multiprocessing that may be set (None: the default)."""
    tempfile.tempdir = None  # TMPDIR may be another than the server's
    if start_method:
        multiprocessing.set_start_method(start_method, force=True)
    sys.argv = ['train_patch', *argv]
    main()


def refuse(lines):
    """What `python -m train_patch` does with one command line after another; each ends before a script runs."""
    for argv in lines:
        sys.argv = ['train_patch', *argv]
        try:
            main()
        except SystemExit as end:
            print('ended', end.code)


def launch_with_newer_timm(argv):
    """What `python -m train_patch` does where timm lacks names that it does not promise."""
    for name in [name for name in sys.modules if name.partition('.')[0] in ('hmix_timm', 'train_patch')]:
        del sys.modules[name]
    del timm.data.auto_augment._LEVEL_DENOM, timm.models._features.feature_take_indices
    sys.modules['timm.data.naflex_mixup'] = None
    process_server.run_module('train_patch', argv)


def run_plain(argv):
    """What `python script.py` does."""
    target = timm.data.mixup.mixup_target
    if 'cuda' in target.__defaults__:  # timm up to 0.9.0 makes targets there, wherever the batch is
        target.__defaults__ = tuple('cpu' if value == 'cuda' else value for value in target.__defaults__)
    process_server.run_script(argv)


def run_with_timm(version, module, argv):
    """Calls a command where the installed timm says that it is of another version."""
    timm.__version__ = version
    sys.exit(importlib.import_module(module).main(argv))
