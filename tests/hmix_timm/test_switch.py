"""mixup_enabled reaches loader workers that are already running; mixers pickle."""

import copy
import inspect
import pickle

import numpy as np
import pytest
import timm.data
import torch

import hmix_timm

CLASSES = 4


class Labelled(torch.utils.data.Dataset):
    """32 uint8 images whose grey level is their index, with labels of their own."""

    transform = None

    def __len__(self):
        return 32

    def __getitem__(self, index):
        return np.full((3, 16, 16), index, dtype=np.uint8), index % CLASSES


def make_loader(module):
    mixer = module.FastCollateMixup(mixup_alpha=1.0, label_smoothing=0.0, num_classes=CLASSES)
    loader = timm.data.create_loader(
        Labelled(),
        input_size=(3, 16, 16),
        batch_size=8,
        is_training=True,
        no_aug=True,
        num_workers=2,
        device=torch.device('cpu'),
        collate_fn=mixer,
        mean=(0.0, 0.0, 0.0),
        std=(1 / 255, 1 / 255, 1 / 255),
    )
    loader.dataset.transform = None
    loader.loader.multiprocessing_context = 'fork'
    assert loader.loader.persistent_workers
    return loader


def mixes(loader):
    """Whether any batch of an epoch has a soft target of two classes."""
    return any(bool(((target > 1e-6).sum(1) > 1).any()) for _, target in loader)


needs_loader = pytest.mark.skipif(
    'device' not in inspect.signature(timm.data.create_loader).parameters,
    reason='the prefetching loader of this timm works on CUDA alone',
)


@needs_loader
def test_switch_reaches_running_workers_through_timms_loader():
    loader = make_loader(hmix_timm)
    assert isinstance(loader.loader.collate_fn, timm.data.FastCollateMixup), "timm's loader tests for its class"
    assert mixes(loader)
    assert loader.mixup_enabled
    loader.mixup_enabled = False
    assert not loader.mixup_enabled
    assert not mixes(loader)
    loader.mixup_enabled = True
    assert mixes(loader)


@needs_loader
def test_timms_own_does_not_reach_them():
    """Why the switch exists; when timm mends this, the switch can go."""
    loader = make_loader(timm.data)
    assert mixes(loader)
    loader.mixup_enabled = False
    assert mixes(loader)


MIXERS = [
    hmix_timm.Mixup(cutmix_mode='hmix', cutmix_alpha=1.0, num_classes=CLASSES),
    hmix_timm.FastCollateMixup(cutmix_mode='gmix', mixup_alpha=0.0, cutmix_alpha=1.0, mode='elem', num_classes=CLASSES),
]


@pytest.mark.parametrize('mixer', MIXERS, ids=lambda mixer: type(mixer).__name__)
@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda mixer: pickle.loads(pickle.dumps(mixer))])
@pytest.mark.parametrize('enabled', [True, False])
def test_copies_are_whole_and_have_a_switch_of_their_own(mixer, duplicate, enabled):
    mixer.mixup_enabled = enabled
    twin = duplicate(mixer)
    assert type(twin) is type(mixer) and repr(twin) == repr(mixer)
    assert twin.mixup_enabled is enabled and twin._enabled.is_shared()
    twin.mixup_enabled = not enabled
    assert mixer.mixup_enabled is enabled
    mixer.mixup_enabled = True


@pytest.mark.parametrize('mixer', MIXERS, ids=lambda mixer: type(mixer).__name__)
def test_turned_off_means_untouched(mixer):
    images = torch.rand(6, 3, 8, 8)
    labels = torch.arange(6) % CLASSES
    mixer.mixup_enabled = False
    if isinstance(mixer, hmix_timm.FastCollateMixup):
        pixels = (images * 255).byte()
        mixed, target = mixer([(image.numpy(), int(label)) for image, label in zip(pixels, labels, strict=True)])
        assert torch.equal(mixed, pixels)
    else:
        mixed, target = mixer(images.clone(), labels)
        assert torch.equal(mixed, images)
    assert torch.equal(target.argmax(1), labels)
    assert ((target > 0.05).sum(1) == 1).all()
    mixer.mixup_enabled = True


def test_the_flag_is_a_byte_of_shared_memory_that_stays_the_same():
    mixer = hmix_timm.Mixup(cutmix_mode='hmix', cutmix_alpha=1.0, num_classes=CLASSES)
    flag = mixer._enabled
    assert flag.shape == (1,) and flag.dtype == torch.uint8 and flag.is_shared()
    for enabled in (False, True, 0, 'yes'):
        mixer.mixup_enabled = enabled
        assert mixer.mixup_enabled is bool(enabled) and flag.item() == bool(enabled)
    assert mixer._enabled is flag


def test_a_flag_that_is_shared_already_is_taken_as_it_is():
    """So it comes to a spawned worker: unpickled, and shared."""
    mixer = hmix_timm.Mixup(cutmix_mode='hmix', cutmix_alpha=1.0, num_classes=CLASSES)
    worker = object.__new__(hmix_timm.Mixup)
    worker.__setstate__(dict(vars(mixer)))
    mixer.mixup_enabled = False
    assert worker.mixup_enabled is False and repr(worker) == repr(mixer)
    apart = object.__new__(hmix_timm.Mixup)
    apart.__setstate__({**vars(mixer), '_enabled': mixer._enabled.clone()})
    assert apart._enabled.is_shared()
    mixer.mixup_enabled = True
    assert apart.mixup_enabled is False
