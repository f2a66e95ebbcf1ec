"""`mixup_enabled` reaches loader workers that are already running (also: test_workers.py); mixers are copied whole."""

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


@pytest.mark.skipif(
    'device' not in inspect.signature(timm.data.create_loader).parameters,
    reason='the prefetching loader of this timm works on CUDA alone',
)
def test_the_switch_reaches_running_workers_through_timms_loader():
    loader = timm.data.create_loader(
        Labelled(),
        input_size=(3, 16, 16),
        batch_size=8,
        is_training=True,
        no_aug=True,
        num_workers=2,
        device=torch.device('cpu'),
        collate_fn=hmix_timm.FastCollateMixup(mixup_alpha=1.0, label_smoothing=0.0, num_classes=CLASSES),
    )
    loader.dataset.transform = None
    loader.loader.multiprocessing_context = 'fork'
    assert loader.loader.persistent_workers
    for enabled in (True, False, True):
        loader.mixup_enabled = enabled
        assert loader.mixup_enabled is enabled
        assert any(bool(((target > 1e-6).sum(1) > 1).any()) for _, target in loader) is enabled


MIXERS = [
    hmix_timm.Mixup(cutmix_mode='hmix', cutmix_alpha=1.0, num_classes=CLASSES),
    hmix_timm.FastCollateMixup(cutmix_mode='gmix', mixup_alpha=0.0, cutmix_alpha=1.0, mode='elem', num_classes=CLASSES),
]


@pytest.mark.parametrize('mixer', MIXERS, ids=lambda mixer: type(mixer).__name__)
@pytest.mark.parametrize('duplicate', [copy.copy, copy.deepcopy, lambda mixer: pickle.loads(pickle.dumps(mixer))])
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
def test_a_mixer_that_is_turned_off_touches_nothing(mixer):
    images = (torch.rand(6, 3, 8, 8) * 255).byte()
    labels = torch.arange(6) % CLASSES
    mixer.mixup_enabled = False
    if isinstance(mixer, hmix_timm.FastCollateMixup):
        mixed, target = mixer([(image.numpy(), int(label)) for image, label in zip(images, labels, strict=True)])
    else:
        mixed, target = mixer(images.clone(), labels)
    assert torch.equal(mixed, images)
    assert torch.equal(target.argmax(1), labels) and ((target > 0.05).sum(1) == 1).all()
    mixer.mixup_enabled = True
