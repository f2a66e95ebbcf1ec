"""The machine on which the numbers were measured."""

import argparse
import os
import platform
import re
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch

from hmix_timm.blend import compiled


def describe_machine(args: argparse.Namespace) -> dict[str, Any]:
    """Processor, threads, device and versions."""
    loop = compiled.load()
    return {
        'processor': processor_name(),
        'cores': os.cpu_count(),
        'threads': args.threads,
        'device': torch.cuda.get_device_name() if args.device == 'cuda' else args.device,
        'python': platform.python_version(),
        'torch': torch.__version__,
        'numpy': np.__version__,
        'timm': timm.__version__,
        'uint8 mixed by': 'torch' if loop is None else loop[0],
    }


def processor_name() -> str:
    """The processor's name from Linux, or else from Python."""
    known = Path('/proc/cpuinfo')
    named = re.search(r'^model name\s*:\s*(.+)', known.read_text() if known.exists() else '', re.M)
    return named[1].strip() if named else platform.processor() or platform.machine()
