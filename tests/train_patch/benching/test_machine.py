"""The machine as it is described beside the figures."""

import argparse
import os
import platform
import sys

import numpy as np
import pytest
import timm
import torch

from train_patch.benching import machine


def test_every_fact_stands_under_its_name(monkeypatch):
    monkeypatch.setattr(machine, 'processor_name', lambda: 'an abacus')
    monkeypatch.setattr(machine.compiled, 'load', lambda: ('C', None))
    expected = {
        'processor': 'an abacus',
        'cores': os.cpu_count(),
        'threads': 3,
        'device': 'mps',
        'python': '.'.join(map(str, sys.version_info[:3])),
        'torch': torch.__version__,
        'numpy': np.__version__,
        'timm': timm.__version__,
        'uint8 mixed by': 'C',
    }
    found = machine.describe_machine(argparse.Namespace(threads=3, device='mps'))
    assert list(found.items())[:4] == list(expected.items())[:4]
    assert {name: str(value).rstrip('+') for name, value in found.items()} == {k: str(v) for k, v in expected.items()}
    monkeypatch.setattr(machine.compiled, 'load', lambda: None)
    assert machine.describe_machine(argparse.Namespace(threads=3, device='cpu'))['uint8 mixed by'] == 'torch'


def test_a_gpu_is_called_by_its_name(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'GPU 9000')
    monkeypatch.setattr(machine.compiled, 'load', lambda: None)
    assert machine.describe_machine(argparse.Namespace(threads=1, device='cuda'))['device'] == 'GPU 9000'


def test_the_processor_is_that_of_the_first_line_that_names_one(monkeypatch, tmp_path):
    file = tmp_path / 'cpuinfo'
    file.write_text('processor\t: 0\nmodel\t\t: 85\nmodel name\t: Some CPU: fast @ 2 GHz \nmodel name\t: Another\n')
    monkeypatch.setattr(machine, 'Path', lambda name: {'/proc/cpuinfo': file}[name])
    assert machine.processor_name() == 'Some CPU: fast @ 2 GHz'


@pytest.mark.parametrize('text', [None, 'Hardware\t: a board\n'])
def test_without_that_line_python_is_asked(text, monkeypatch, tmp_path):
    file = tmp_path / 'cpuinfo'
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr(machine, 'Path', lambda name: {'/proc/cpuinfo': file}[name])
    monkeypatch.setattr(platform, 'processor', lambda: 'arm')
    monkeypatch.setattr(platform, 'machine', lambda: 'aarch64')
    assert machine.processor_name() == 'arm'
    monkeypatch.setattr(platform, 'processor', lambda: '')
    assert machine.processor_name() == 'aarch64'
