"""The machine that the figures belong to."""

import argparse
import contextlib
import os
import platform
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from hmix_timm.blend import compiled


def describe_machine(args: argparse.Namespace) -> dict[str, Any]:
    """Processor, threads, device and versions."""
    machine = {
        'processor': processor_name(),
        'cores': os.cpu_count(),
        'threads': args.threads,
        'device': torch.cuda.get_device_name() if args.device == 'cuda' else args.device,
    }
    versions = {'python': platform.python_version(), 'torch': torch.__version__, 'numpy': np.__version__}
    loop = compiled.load()
    return machine | versions | {'timm': timm.__version__, 'uint8 mixed by': 'torch' if loop is None else loop[0]}


def processor_name() -> str:
    """The processor's name as Linux tells it, or else what Python knows."""
    with contextlib.suppress(OSError):
        for line in Path('/proc/cpuinfo').read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()
