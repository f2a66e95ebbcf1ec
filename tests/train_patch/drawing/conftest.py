"""Checkpoints of small networks, as timm's script leaves them."""

import argparse

import pytest
import timm
import torch
import yaml


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
    """Checkpoints of a comparison, of networks for grey images, with the args.yaml of each run: mode → path."""
    paths = {}
    for mode in ('none', 'cutmix'):
        folder = tmp_path / 'comparison' / mode / 'seed0'
        folder.mkdir(parents=True)
        paths[mode] = folder / 'last.pth.tar'
        torch.save(
            {'state_dict': timm.create_model('test_resnet', num_classes=4, in_chans=1).state_dict()}, paths[mode]
        )
        settings = {'model': 'test_resnet', 'num_classes': 4, 'data_dir': str(image_folder), 'dataset': ''}
        settings |= {'input_size': [1, 32, 32], 'mean': [0.4], 'std': [0.2], 'img_size': None, 'in_chans': None}
        (folder / 'args.yaml').write_text(yaml.safe_dump({**settings, 'model_kwargs': {'drop_rate': 0.25}}))
    return paths
