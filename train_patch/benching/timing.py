"""How calls are measured, and on which machine: time in turns, peak memory."""

import argparse
import json
import os
import platform
import re
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import timm
import torch

from hmix_timm.blend import compiled

Call = Callable[[], Any]


def alternate(calls: Mapping[str, Call], repeats: int, device: str) -> dict[str, list[float]]:
    """Milliseconds of every call, all of them in turns and from the same seeds; two turns before them are a warm-up."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(-2, repeats):
        for name, call in calls.items():
            np.random.seed(max(turn, 0))
            synchronize(device)
            start = time.perf_counter()
            call()
            synchronize(device)
            times[name].append((time.perf_counter() - start) * 1e3)
    return {name: ms[2:] for name, ms in times.items()}


def median_ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios within a turn: a load that slows the machine down for a while slows both."""
    return median(a / b for a, b in zip(ours, theirs, strict=True))


def synchronize(device: str) -> None:
    """Waits for the device; a CPU has nothing to wait for."""
    getattr(torch, device).synchronize()


def extra_memory(call: Call, device: str) -> float | None:
    """Peak memory of a call in MiB, beyond what is held before it and what it returns; None where torch cannot tell."""
    np.random.seed(0)
    if device == 'cpu':
        return _extra_memory_cpu(call)
    if device != 'cuda':
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    result = call()
    torch.cuda.synchronize()
    extra = torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
    del result
    return extra / 2**20


def _extra_memory_cpu(call: Call) -> float:
    """numpy's own peak and torch's, which need not fall together: the sum is an upper bound."""
    with tempfile.TemporaryDirectory() as folder:
        tracemalloc.start()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
            tracemalloc.reset_peak()
            result = call()
            left, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        profile.export_chrome_trace(f'{folder}/trace.json')
        events = json.loads(Path(f'{folder}/trace.json').read_text())['traceEvents']
    changes = [(event['ts'], event['args']['Bytes']) for event in events if event['name'] == '[memory]']
    levels = np.cumsum([change for _, change in sorted(changes)] or [0])
    del result
    return (peak - left + levels.max() - levels[-1]) / 2**20


def progress(text: str) -> None:
    """Says on standard error what is being measured."""
    print(text, file=sys.stderr, flush=True)


def describe_machine(args: argparse.Namespace) -> dict[str, Any]:
    """Processor, threads, device and versions."""
    known = Path('/proc/cpuinfo')  # Linux; elsewhere Python knows the processor's name
    named = re.search(r'^model name\s*:\s*(.+)', known.read_text() if known.exists() else '', re.M)
    loop = compiled.load()
    return {
        'processor': named[1] if named else platform.processor(),
        'cores': os.cpu_count(),
        'threads': args.threads,
        'device': torch.cuda.get_device_name() if args.device == 'cuda' else args.device,
        'python': platform.python_version(),
        'torch': torch.__version__,
        'numpy': np.__version__,
        'timm': timm.__version__,
        'uint8 mixed by': loop[0] if loop else 'torch',
    }
