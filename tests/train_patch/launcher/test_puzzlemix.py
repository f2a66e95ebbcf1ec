"""--mix-mode puzzlemix in timm's script: how the script's functions are wrapped."""

import argparse
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from train_patch.common.errors import RunError
from train_patch.launcher.in_loop import InLoopMixing, with_arguments
from train_patch.mixing import resolve


def test_the_bare_model_is_asked_in_the_scripts_precision_and_validation_is_left_alone():
    mixing = resolve({'mix_mode': 'puzzlemix', 'mix_preset': 'cifar100'}, {})
    mixing = replace(mixing, kept={'prob': 1.0, 'label_smoothing': 0.0})
    in_loop = InLoopMixing(mixing, argparse.Namespace(num_classes=4, no_prefetcher=False), lambda mixer: None)
    images = torch.rand(8, 3, 32, 32)
    batch = images.clone(), torch.arange(8) % 4
    collated, contexts = [], []

    def create_loader(dataset, input_size, is_training=False, collate_fn=None, std=None, input_size_choices=None):
        collated.append(collate_fn)
        return [batch]

    def train_one_epoch(epoch, model, loader, amp_autocast=None):
        assert len(loader) == 1
        return [(images, target, contexts[:]) for images, target in loader]

    def amp_autocast():
        contexts.append('entered')
        return torch.autocast('cpu', dtype=torch.bfloat16)

    create = with_arguments(create_loader, in_loop.collate_only)
    loader = create('images', (3, 32, 32), is_training=True, collate_fn='mixing', std=(0.5, 0.5, 0.5))
    create('images', (3, 32, 32), collate_fn='own')
    assert collated == [None, 'own']
    with pytest.raises(RunError, match=r'^--mix-mode puzzlemix with --train-img-sizes: .* 36×36 into'):
        create('images', (3, 32, 32), is_training=True, std=(0.5, 0.5, 0.5), input_size_choices=[32, 36])
    assert create.__wrapped__ is create_loader  # so that others still find the script's signature

    model = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(4))
    model(images)
    np.random.seed(9)  # λ = 0.503
    compiled = torch.compile(model, backend=lambda *_: 1 / 0)  # would fail if it were called
    mixing_epoch = with_arguments(train_one_epoch, in_loop.mix)
    ((mixed, targets, entered),) = mixing_epoch(0, compiled, loader, amp_autocast)
    assert entered == ['entered']
    assert not torch.equal(mixed, images) and targets.shape == (8, 4)
