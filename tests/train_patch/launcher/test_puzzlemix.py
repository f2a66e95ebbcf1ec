"""--mix-mode puzzlemix in timm's script: what the loop is given."""

import argparse
from dataclasses import replace

import numpy as np
import pytest
import torch
from timm.data import FastCollateMixup, create_loader
from torch import nn
from torch.utils.data import TensorDataset

from train_patch.common.errors import RunError
from train_patch.launcher.in_loop import InLoopMixing
from train_patch.mixing import resolve

CLASSES = 4
MIXING = replace(
    resolve({'mix_mode': 'puzzlemix', 'mix_preset': 'cifar100'}, {}), kept={'prob': 1.0, 'label_smoothing': 0.0}
)
SEED = 9
"""Draws λ = 0.503, at which both images are seen."""


def make_args(**given):
    arguments = {
        'mix_mode': 'puzzlemix',
        'mix_preset': 'cifar100',
        'mix_alpha': 1.0,
        'mixup_prob': 1.0,
        'smoothing': 0.0,
        'num_classes': CLASSES,
        'no_prefetcher': False,
    }
    return argparse.Namespace(**{**arguments, **given})


class Samples(TensorDataset):
    """uint8 images as timm's loader gets them from a data set, or float ones without its prefetcher."""

    def __init__(self, prefetched):
        generator = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (8, 3, 32, 32), generator=generator, dtype=torch.uint8)
        self.images = images.numpy() if prefetched else (images / 255 - 0.5) / 0.5
        self.targets = np.arange(8) % CLASSES

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], int(self.targets[index])


def loader_of(mixing, prefetched, size=32):
    dataset = Samples(prefetched)
    loader = mixing.around_create_loader(create_loader)(
        dataset,
        input_size=(3, size, size),
        batch_size=8,
        is_training=True,
        use_prefetcher=prefetched,
        no_aug=True,
        num_workers=0,
        persistent_workers=False,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        device=torch.device('cpu'),
        collate_fn=FastCollateMixup(num_classes=CLASSES) if prefetched else None,
    )
    return loader


def timms_loop(epoch, model, loader, optimizer, args, mixup_fn=None, amp_autocast=None):
    """What timm's scripts do with a loader or a mixer."""
    if args.mixup_off_epoch and epoch >= args.mixup_off_epoch:
        if not args.no_prefetcher and loader.mixup_enabled:
            loader.mixup_enabled = False
        elif mixup_fn is not None:
            mixup_fn.mixup_enabled = False
    assert len(loader) == 1
    for images, target in loader:
        if args.no_prefetcher:
            images, target = mixup_fn(images, target)
    return images, target


@pytest.fixture
def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(CLASSES))


@pytest.mark.parametrize('prefetched', [True, False])
def test_batches_are_mixed_until_the_off_epoch(model, prefetched):
    args = make_args(no_prefetcher=not prefetched, mixup_off_epoch=1)
    made = []
    mixing = InLoopMixing(MIXING, args, made.append)
    loader = loader_of(mixing, prefetched)
    train = mixing.around_train_one_epoch(timms_loop)
    results = []
    for epoch in (0, 1):
        np.random.seed(SEED)
        results.append(train(epoch, model, loader, None, args, mixup_fn=object()))
    assert [mixer.std for mixer in made] == [(0.5, 0.5, 0.5)]
    (mixed, soft), (images, hard) = results
    assert images.mean().item() == pytest.approx(mixed.mean().item(), abs=0.2)  # both are normalized
    assert soft.shape == hard.shape == (8, CLASSES)
    assert ((soft > 0).sum(1) == 2).any()
    assert ((hard > 0).sum(1) == 1).all()


def test_the_bare_model_is_asked_in_the_scripts_precision(model):
    model(torch.zeros(1, 3, 32, 32))
    contexts = []

    def amp_autocast():
        contexts.append('entered')
        return torch.autocast('cpu', dtype=torch.bfloat16)

    compiled = torch.compile(model, backend=lambda *_: pytest.fail('compiled'))
    args = make_args(mixup_off_epoch=0)
    mixing = InLoopMixing(MIXING, args, lambda mixer: None)
    loader = loader_of(mixing, True)
    mixing.around_train_one_epoch(timms_loop)(0, compiled, loader, None, args, amp_autocast=amp_autocast)
    assert contexts == ['entered']


def test_the_validation_loader_is_left_alone():
    mixing = InLoopMixing(MIXING, make_args(), lambda mixer: None)
    calls = []

    def create(dataset, input_size, batch_size, is_training=False, collate_fn=None, std=None):
        calls.append((is_training, collate_fn))

    wrapped = mixing.around_create_loader(create)
    assert wrapped.__wrapped__ is create  # what else asks for its signature is given the script's own
    wrapped('images', (3, 32, 32), 8, is_training=True, collate_fn='mixing', std=(0.5, 0.5, 0.5))
    wrapped('images', (3, 32, 32), 8, collate_fn='own')
    assert calls == [(True, None), (False, 'own')]


def test_images_that_cannot_be_cut_end_the_run_before_training():
    with pytest.raises(RunError, match=r'--mix-mode puzzlemix: .*sides that work'):
        loader_of(InLoopMixing(MIXING, make_args(), lambda mixer: None), True, size=40)
