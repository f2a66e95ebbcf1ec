"""Configuration as yacs has it: nodes with defaults, `--opts NODE.KEY VALUE` on the command line."""

import ast
import contextlib
from types import SimpleNamespace


def get_config(opts):
    config = SimpleNamespace(
        AUG=SimpleNamespace(MIXUP=0.8, CUTMIX=1.0, MIXUP_PROB=1.0, MIXUP_SWITCH_PROB=0.5, MIXUP_MODE='batch'),
        MODEL=SimpleNamespace(NUM_CLASSES=5, LABEL_SMOOTHING=0.1),
        OUTPUT='',
    )
    for name, value in zip(opts[::2], opts[1::2], strict=True):
        *nodes, key = name.split('.')
        target = config
        for node in nodes:
            target = getattr(target, node)
        with contextlib.suppress(ValueError, SyntaxError):
            value = ast.literal_eval(value)
        setattr(target, key, value)
    return config
