"""What a preview records is what the mixer did, and what it shows is what the loader delivers."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from timm.data import create_loader
from timm.utils import random_seed

from hmix_timm import FastCollateMixup
from train_patch.drawing.images import Photographs
from train_patch.drawing.record import Record, RecordingMixup, as_pixels, recorded_samples

SIZE = (24, 20)
SLOTS = {
    'mixup': {'mixup_alpha': 1.0},
    'cutmix': {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0},
    'stochastic': {'mixup_alpha': 1.0, 'cutmix_alpha': 1.0},
    'hmix': {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_gamma': 0.5},
    'gmix': {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'gmix'},
}


def batch(count):
    rng = np.random.default_rng(count)
    return [(rng.integers(0, 256, (3, *SIZE), dtype=np.uint8), i % 7) for i in range(count)]


@pytest.mark.parametrize('count', [2, 5, 8])
@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem', 'half'])
@pytest.mark.parametrize('slot', SLOTS)
def test_recorded_masks_and_weights_are_those_applied(slot, mode, count):
    arguments = {**SLOTS[slot], 'mode': mode, 'num_classes': 7, 'label_smoothing': 0.1, 'prob': 0.8}
    np.random.seed(3)
    expected = FastCollateMixup(**arguments)(batch(count))
    expected_next = np.random.random()
    np.random.seed(3)
    mixer = RecordingMixup(**arguments)
    images, targets = mixer(batch(count))
    assert torch.equal(images, expected[0]) and torch.equal(targets, expected[1])
    assert np.random.random() == expected_next  # the replay takes nothing from the generator

    (record,) = mixer.records
    samples = batch(count)
    assert len(record.masks) == len(record.weights) == len(images)
    for i, mixed in enumerate(images.numpy()):
        own, other = samples[i][0].astype(float), samples[count - 1 - i][0].astype(float)
        # the recorded mask is exact to 1/510, and the mixed image to half a grey level
        np.testing.assert_allclose(record.masks[i] * own + (1 - record.masks[i]) * other, mixed, atol=1.01)
        assert record.masks[i].mean() == pytest.approx(record.weights[i], abs=1 / 500)
        target = np.full(7, 0.1 / 7)
        target[samples[i][1]] += 0.9 * record.weights[i]
        target[samples[count - 1 - i][1]] += 0.9 * (1 - record.weights[i])
        np.testing.assert_allclose(targets[i], target, atol=1e-6)


def loader_with(collate_fn):
    random_seed(11)
    return create_loader(
        Photographs('RGB'), (3, 32, 32), 2, is_training=True, re_prob=0.3, collate_fn=collate_fn,
        num_workers=0, persistent_workers=False, device=torch.device('cpu'),
    )  # fmt: skip


@pytest.fixture
def delivered():
    """Samples of a loader with random erasing, and what the loader delivers without their being recorded."""
    arguments = {**SLOTS['hmix'], 'num_classes': 2}
    plain = []
    loader = loader_with(FastCollateMixup(**arguments))
    while len(plain) < 8:
        plain.extend(x * loader.std[0] + loader.mean[0] for batch, _ in loader for x in batch)
    mixer = RecordingMixup(**arguments)
    samples = recorded_samples(loader_with(mixer), mixer, ['flower', 'temple'])
    return [next(samples) for _ in range(8)], plain


def test_samples_are_what_the_loader_delivers(delivered):
    for sample, expected in zip(*delivered, strict=True):
        np.testing.assert_allclose(sample.mixed, expected.clamp(0, 255), atol=0.51)


def test_a_record_is_of_the_batch_that_was_delivered(delivered):
    """The loader works a batch ahead of what it delivers: a record of the wrong batch would not fit."""
    erased = 0
    for sample in delivered[0]:
        blend = sample.mask * sample.own + (1.0 - sample.mask) * sample.other.astype(float)
        off = np.abs(blend - sample.mixed) > 1.51  # the mask is exact to half a grey level, both images are rounded
        erased += off.any()
        assert off.mean() < 0.4
    assert 0 < erased < 8


def test_classes_without_a_name_are_numbers():
    mixer = RecordingMixup(1.0, num_classes=2)
    sample = next(recorded_samples(loader_with(mixer), mixer, ['flower']))
    assert sorted(sample.labels) == ['1', 'flower'] and sorted(sample.targets) == [0, 1]


def test_a_sample_is_told_from_its_partner():
    """Names, numbers and images of i and j: in a batch of two each is the other's."""
    mixer = RecordingMixup(1.0, num_classes=2, label_smoothing=0.0)
    samples = recorded_samples(loader_with(mixer), mixer, ['flower', 'temple'])
    for _ in range(3):
        first, second = next(samples), next(samples)
        assert first.labels == second.labels[::-1] and first.targets == second.targets[::-1]
        assert [('flower', 'temple')[target] for target in first.targets] == list(first.labels)
        np.testing.assert_array_equal(first.own, second.other)
        np.testing.assert_array_equal(second.own, first.other)
        assert isinstance(first.weight, float) and first.saliency is None


@pytest.mark.parametrize(('targets', 'labels'), [((0, 1), ('a', 'b')), ((1, 2), ('b', '2')), ((-1, 0), ('-1', 'a'))])
def test_names_belong_to_the_numbers_from_0_on(targets, labels):
    class Loader:
        """As timm's prefetching loader: images normalized, one batch of two."""

        mean, std = torch.full((1, 3, 1, 1), 100.0), torch.full((1, 3, 1, 1), 50.0)

        def __iter__(self):
            yield torch.tensor([-3.0, 0.51]).view(2, 1, 1, 1).expand(2, 3, 2, 2), None

    images = [np.full((3, 2, 2), value, np.uint8) for value in (7, 9)]
    masks = np.array([np.full((2, 2), 0.25), np.full((2, 2), 0.75)], np.float32)
    mixer = RecordingMixup(1.0, num_classes=2)
    mixer.records.append(Record(images, list(targets), masks, np.array([0.25, 0.75], np.float32)))
    samples = recorded_samples(Loader(), mixer, ['a', 'b'])
    first, second = next(samples), next(samples)
    assert (first.labels, first.targets, second.labels) == (labels, targets, labels[::-1])
    assert (first.own.max(), first.other.max(), second.own.max(), second.other.max()) == (7, 9, 9, 7)
    assert (first.weight, second.weight) == (0.25, 0.75) and (second.mask == 0.75).all()
    # normalization undone: 100 - 150 is no grey, 100 + 25.5 is rounded
    assert ((first.mixed == 0).all(), (second.mixed == 126).all()) == (True, True)
    assert first.mixed.dtype == np.uint8 and first.mixed.shape == (3, 2, 2)


def test_what_a_batch_was_is_kept_as_it_came():
    """Also where the caller goes on to use its arrays, and for images that are tensors."""
    mixer = RecordingMixup(1.0, num_classes=7)
    arrays = batch(3)
    copies = [image.copy() for image, _ in arrays]
    mixer(arrays)
    mixer([(torch.from_numpy(image), torch.tensor(target)) for image, target in arrays])
    for image, _ in arrays:
        image[:] = 0
    assert [record.targets for record in mixer.records] == [[0, 1, 2], [0, 1, 2]]
    assert all(type(target) is int for record in mixer.records for target in record.targets)
    for record in mixer.records[:1]:
        for image, copy in zip(record.images, copies, strict=True):
            np.testing.assert_array_equal(image, copy)
    assert [record.masks.shape for record in mixer.records] == [(3, *SIZE)] * 2
    assert mixer.records[0].masks.dtype == mixer.records[0].weights.dtype == np.float32


@pytest.mark.parametrize('smoothing', [0.0, 0.5])
def test_recording_leaves_the_mixer_as_it_is(smoothing):
    mixer = RecordingMixup(1.0, num_classes=7, label_smoothing=smoothing)
    before = repr(mixer)
    mixer(batch(4))
    assert (repr(mixer), mixer.num_classes, mixer.label_smoothing) == (before, 7, smoothing)
    assert len(mixer.records) == 1


def test_pixels_are_those_that_were_normalized():
    loader = SimpleNamespace(
        mean=torch.tensor([100.0, 110.0, 120.0]).view(1, 3, 1, 1), std=torch.tensor([50.0, 60.0, 70.0]).view(1, 3, 1, 1)
    )
    pixels = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5) * 2.0
    pixels[0, 0, 0, :4] = torch.tensor([-1.0, 256.0, 0.6, 254.4])
    shown = as_pixels(loader, (pixels - loader.mean) / loader.std)
    pixels[0, 0, 0, :4] = torch.tensor([0.0, 255.0, 1.0, 254.0])
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown, pixels.numpy())
