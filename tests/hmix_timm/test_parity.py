"""Without new arguments the mixers draw what the installed timm draws and return what it returns."""

import inspect
import math
import random

import numpy as np
import pytest
import timm.data
import timm.data.mixup
import torch

import hmix_timm

OPTIONS = {
    'mixup': {'mixup_alpha': 0.8},
    'cutmix': {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0},
    'cutmix_raw_lam': {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'correct_lam': False},
    'minmax': {'mixup_alpha': 0.0, 'cutmix_minmax': (0.2, 0.8)},
    'minmax_raw_lam': {'mixup_alpha': 0.0, 'cutmix_minmax': (0.2, 0.8), 'correct_lam': False},
    'minmax_and_mixup': {'mixup_alpha': 0.2, 'cutmix_minmax': (0.3, 0.9), 'switch_prob': 0.7},
    'both': {'mixup_alpha': 0.8, 'cutmix_alpha': 1.0},
    'both_sometimes': {'mixup_alpha': 0.4, 'cutmix_alpha': 0.6, 'prob': 0.6, 'switch_prob': 0.3},
    'no_smoothing': {'mixup_alpha': 1.0, 'cutmix_alpha': 1.0, 'label_smoothing': 0.0},
    'never': {'mixup_alpha': 1.0, 'prob': 0.0},
    'extreme_alpha': {'mixup_alpha': 1e-3, 'cutmix_alpha': 1e-3},  # λ is exactly 0 or 1 now and then
}
SHAPES = [(8, 3, 12, 12), (6, 1, 17, 9)]
MODES = ['batch', 'pair', 'elem', 'half']
CLASSES = 7


# timm's collate function takes tensors from 1.0.16 on
takes_tensors = 'is_np' in timm.data.mixup.FastCollateMixup._mix_batch_collate.__code__.co_varnames
has_multi_label = 'multi_label' in inspect.signature(timm.data.Mixup).parameters


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)  # torch.manual_seed keeps a stack trace for every kind of device


def only_cutmix(options):
    return options.get('mixup_alpha') == 0.0


def next_draws():
    """A draw more or less, or in another order, shows in the next number."""
    return np.random.rand(), random.random(), torch.rand(()).item()


@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize('mode', MODES)
def test_float_batches_equal_timms(mode, options):
    ours = hmix_timm.Mixup(mode=mode, num_classes=CLASSES, **options)
    theirs = timm.data.Mixup(mode=mode, num_classes=CLASSES, **options)
    for seed in range(12):
        shape = SHAPES[seed % 2]
        generator = torch.Generator().manual_seed(seed)
        x = torch.randn(shape, generator=generator)
        x[seed % 3, 0] = math.inf if only_cutmix(options) else 0.0  # which goes no further than it is copied
        target = torch.randint(0, CLASSES, (shape[0],), generator=generator)
        results, states = [], []
        for mixer in (ours, theirs):
            seed_all(seed)
            batch = x.clone()
            mixed, soft = mixer(batch, target)
            assert mixed is batch, 'mixing is in place'
            results.append((mixed, soft))
            states.append(next_draws())
        assert states[0] == states[1]
        if only_cutmix(options):
            assert torch.equal(results[0][0], results[1][0])
        torch.testing.assert_close(results[0][0], results[1][0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(results[0][1], results[1][1], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize('mode', MODES)
def test_collated_batches_equal_timms(mode, options):
    ours = hmix_timm.FastCollateMixup(mode=mode, num_classes=CLASSES, **options)
    theirs = timm.data.FastCollateMixup(mode=mode, num_classes=CLASSES, **options)
    for seed in range(12):
        shape, kind = SHAPES[seed % 2], ['numpy', 'tensor', 'channels_innermost'][seed % 3]
        rng = np.random.default_rng(seed)
        images = rng.integers(0, 256, shape, dtype=np.uint8)
        labels = rng.integers(0, CLASSES, shape[0])

        def samples(images=images, labels=labels, kind=kind):
            fresh = [image.copy() for image in images]
            if kind == 'channels_innermost':  # timm's loader hands over H × W × C memory, viewed as C × H × W
                fresh = [np.rollaxis(np.ascontiguousarray(np.moveaxis(image, 0, 2)), 2) for image in fresh]
            if kind == 'tensor':
                fresh = [torch.from_numpy(image) for image in fresh]
            return [(image, int(label)) for image, label in zip(fresh, labels, strict=True)]

        results, states = [], []
        for mixer in (ours, theirs):
            seed_all(seed)
            batch = samples()
            if mixer is theirs and not takes_tensors:
                batch = [(np.asarray(image), label) for image, label in batch]
            results.append(mixer(batch))
            states.append(next_draws())
            if mixer is ours:
                for (image, _), original in zip(batch, images, strict=True):
                    assert np.array_equal(np.asarray(image), original), "the caller's arrays are never written to"
        assert states[0] == states[1]
        assert results[0][0].dtype == results[1][0].dtype == torch.uint8
        assert results[0][0].shape == results[1][0].shape
        difference = (results[0][0].int() - results[1][0].int()).abs()
        assert difference.max() <= (0 if only_cutmix(options) else 1)
        # a few ties may round the other way, no more
        assert difference.float().mean() < 0.02
        assert results[0][1].dtype == torch.float32
        torch.testing.assert_close(results[0][1], results[1][1].float(), rtol=1e-6, atol=1e-7)


@pytest.mark.skipif(not has_multi_label, reason='the installed timm has no multi_label')
@pytest.mark.parametrize('mode', MODES)
def test_multi_label_targets_equal_timms(mode):
    options = {'mixup_alpha': 0.8, 'cutmix_alpha': 1.0, 'mode': mode, 'num_classes': CLASSES, 'multi_label': True}
    dense = torch.randint(0, 2, (8, CLASSES), generator=torch.Generator().manual_seed(0)).float()
    images = np.random.default_rng(0).integers(0, 256, (8, 3, 8, 8), dtype=np.uint8)
    for seed in range(6):
        targets, collated = [], []
        for module in (hmix_timm, timm.data):
            seed_all(seed)
            targets.append(module.Mixup(**options)(torch.from_numpy(images).float(), dense)[1])
            collated.append(
                module.FastCollateMixup(**options)([(i.copy(), d) for i, d in zip(images, dense, strict=True)])
            )
        torch.testing.assert_close(targets[0], targets[1])
        torch.testing.assert_close(collated[0][1], collated[1][1])


def test_unknown_timm_arguments_are_refused():
    with pytest.raises(TypeError, match='no_such_argument'):
        hmix_timm.Mixup(no_such_argument=1)
