"""Checkpoints of small networks, as timm's script leaves them."""

import argparse

import pytest
import timm
import torch
import yaml

from hmix_timm.theory import prediction


@pytest.fixture
def few_samples(monkeypatch):
    """Coefficients from 128 masks in place of 2,048: rougher, and soon there."""
    monkeypatch.setattr(prediction._weighted_coefficient, '__defaults__', (2**7,))


@pytest.fixture
def checkpoints(tmp_path):
    """Three checkpoints as timm's CheckpointSaver writes them; the last has the weights of the first."""
    paths = []
    for run, seed in enumerate((0, 1, 0)):
        torch.manual_seed(seed)
        model = timm.create_model('test_resnet', num_classes=4)
        paths.append(tmp_path / f'run{run}' / 'model_best.pth.tar')
        paths[-1].parent.mkdir()
        torch.save({'state_dict': model.state_dict(), 'args': argparse.Namespace(model='test_resnet')}, paths[-1])
    return paths


@pytest.fixture
def comparison(tmp_path, image_folder):
    """What hmix-compare leaves: two seeds without mixing, with the args.yaml of each run, and its results.csv."""
    for seed in (0, 1):
        folder = tmp_path / 'comparison' / 'none' / f'seed{seed}'
        folder.mkdir(parents=True)
        torch.manual_seed(seed)
        model = timm.create_model('test_resnet', num_classes=4, in_chans=1)
        torch.save({'state_dict': model.state_dict()}, folder / 'last.pth.tar')
        settings = {'model': 'test_resnet', 'num_classes': 4, 'data_dir': str(image_folder), 'mix_mode': 'none'}
        settings |= {'input_size': [1, 32, 32], 'mean': [0.4], 'std': [0.2], 'img_size': None, 'in_chans': None}
        (folder / 'args.yaml').write_text(yaml.safe_dump(settings))
    lines = [
        'mode,top1_mean,difference_to_none,top1_seed0,top1_seed1,top1_seed2',
        'none,60,,50,70,60',
        'mixup,64,,54,75,',  # +4 and +5
        'hmix,57,,49,65,57',  # -1, -5 and -3
        'gmix,70,,,,70',  # +10
        'puzzlemix,80,,70,80,90',  # has no masks without a model
    ]
    (tmp_path / 'comparison' / 'results.csv').write_text('\n'.join(lines) + '\n')
    return tmp_path / 'comparison'
