"""A preview records what the mixer did, and shows what the loader delivers."""

import itertools

import numpy as np
import pytest
import timm
import torch
from timm.data import create_loader
from timm.utils import random_seed

from hmix_timm import FastCollateMixup, PuzzleMix, input_gradient
from train_patch.drawing.record import RecordingMixup, RecordingPuzzleMix, recorded_batches
from train_patch.drawing.samples import Photographs

SIZE = (24, 20)
SLOTS = {
    'mixup': {'mixup_alpha': 1.0},
    'stochastic': {'mixup_alpha': 1.0, 'cutmix_alpha': 1.0},
    'hmix': {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_gamma': 0.5},
    'gmix': {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'gmix'},
}


def samples(count):
    rng = np.random.default_rng(count)
    return [(rng.integers(0, 256, (3, *SIZE), dtype=np.uint8), i % 7) for i in range(count)]


@pytest.mark.parametrize('count', [2, 5, 8])
@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem', 'half'])
@pytest.mark.parametrize('slot', SLOTS)
def test_recorded_masks_and_weights_are_those_applied(slot, mode, count):
    arguments = {**SLOTS[slot], 'mode': mode, 'num_classes': 7, 'label_smoothing': 0.1, 'prob': 0.8}
    np.random.seed(3)
    expected = FastCollateMixup(**arguments)(samples(count))
    expected_next = np.random.random()
    np.random.seed(3)
    mixer = RecordingMixup(**arguments)
    given = samples(count)
    images, targets = mixer(given)
    assert torch.equal(images, expected[0]) and torch.equal(targets, expected[1])
    assert np.random.random() == expected_next  # the replay takes nothing from the generator
    given[0][0][:] = 0  # a caller may use its arrays again

    (record,) = mixer.records
    came = np.stack([image for image, _ in samples(count)])
    np.testing.assert_array_equal(record.images, came)
    assert len(record.masks) == len(record.weights) == len(images) and record.classes == [i % 7 for i in range(count)]
    for i, mixed in enumerate(images.numpy()):
        own, other = came[i].astype(float), came[count - 1 - i].astype(float)
        # the recorded mask is exact to 1/510, and the mixed image to half a grey level
        np.testing.assert_allclose(record.masks[i] * own + (1 - record.masks[i]) * other, mixed, atol=1.01)
        assert record.masks[i].mean() == pytest.approx(record.weights[i], abs=1 / 500)
        target = np.full(7, 0.1 / 7)
        target[i % 7] += 0.9 * record.weights[i]
        target[(count - 1 - i) % 7] += 0.9 * (1 - record.weights[i])
        np.testing.assert_allclose(targets[i], target, atol=1e-6)


def loader_with(collate_fn, **options):
    random_seed(11)
    return create_loader(
        Photographs('RGB'), (3, 32, 32), 2, is_training=True, collate_fn=collate_fn,
        num_workers=0, persistent_workers=False, device=torch.device('cpu'), **options,
    )  # fmt: skip


def recorded(mixer, count, names=('flower', 'temple'), **options):
    loader = loader_with(mixer if isinstance(mixer, FastCollateMixup) else None, **options)
    return list(itertools.islice(recorded_batches(loader, mixer, names), count))


def test_batches_are_those_that_the_loader_delivers_and_their_records_belong_to_them():
    """The loader works a batch ahead, erases parts at random, and normalizes."""
    arguments = {**SLOTS['hmix'], 'num_classes': 2}
    loader, plain = loader_with(FastCollateMixup(**arguments), re_prob=0.3), []
    while len(plain) < 4:
        plain.extend(images * loader.std + loader.mean for images, _ in loader)
    erased = 0
    for batch, expected in zip(recorded(RecordingMixup(**arguments), 4, re_prob=0.3), plain, strict=True):
        np.testing.assert_allclose(batch.mixed, expected.clamp(0, 255), atol=0.51)
        assert sorted(batch.classes) == ['flower', 'temple'] and batch.saliency is None
        for i in (0, 1):
            blend = batch.masks[i] * batch.images[i] + (1.0 - batch.masks[i]) * batch.images[1 - i].astype(float)
            off = np.abs(blend - batch.mixed[i]) > 1.51  # the mask and both images are rounded
            erased += off.any()
            assert off.mean() < 0.4
    assert 0 < erased < 8


@pytest.mark.parametrize(('names', 'shown'), [(['flower'], {'flower', '1'}), ([], {'0', '1'})])
def test_classes_without_a_name_are_numbers(names, shown):
    (batch,) = recorded(RecordingMixup(1.0, num_classes=2), 1, names)
    assert set(batch.classes) == shown
    mixer = RecordingMixup(1.0, num_classes=2)
    mixer([(np.zeros((3, 4, 4), np.uint8), torch.tensor(1))] * 2)
    assert mixer.records[0].classes == [1, 1]


def puzzle(make=RecordingPuzzleMix, **options):
    torch.manual_seed(0)
    model = timm.create_model('test_resnet', num_classes=2)
    return make(input_gradient(model), num_classes=2, std=(0.229, 0.224, 0.225), **options)


def test_puzzlemix_is_recorded_with_saliency_and_masks():
    batches = recorded(puzzle(), 4, re_prob=0.0)
    random_seed(11)
    plain, mixer = [], puzzle(PuzzleMix)
    loader = loader_with(None, re_prob=0.0)
    while len(plain) < 4:
        plain.extend((images, mixer(images.clone(), target)) for images, target in loader)
    constant = 0
    for batch, (came, (mixed, target)) in zip(batches, plain, strict=True):
        np.testing.assert_allclose(batch.images, (came * loader.std + loader.mean).clamp(0, 255), atol=0.51)
        np.testing.assert_allclose(batch.mixed, (mixed * loader.std + loader.mean).clamp(0, 255), atol=0.51)
        assert batch.saliency.shape == batch.masks.shape == (2, 32, 32) and (batch.saliency >= 0).all()
        assert set(np.unique(batch.masks)) <= {0.0, 0.5, 1.0} and batch.saliency.any()
        for i in (0, 1):
            assert batch.weights[i] == pytest.approx(batch.masks[i].mean())
            own = ['flower', 'temple'].index(batch.classes[i])
            assert target[i, own].item() == pytest.approx(0.9 * batch.weights[i] + 0.05, abs=1e-6)
            if batch.masks[i].min() == batch.masks[i].max():
                blend = batch.weights[i] * batch.images[i] + (1 - batch.weights[i]) * batch.images[1 - i].astype(float)
                np.testing.assert_allclose(batch.mixed[i], blend, atol=1.01)
                constant += 1
    assert constant


def test_a_batch_that_puzzlemix_leaves_alone_has_no_mask_of_an_earlier_one():
    batches = recorded(puzzle(prob=0.5), 8)
    unmixed = [batch for batch in batches if not batch.saliency.any()]  # the model was not asked
    assert 0 < len(unmixed) < 8
    for batch in unmixed:
        assert (batch.masks == 1).all() and (batch.weights == 1).all()
        np.testing.assert_array_equal(batch.mixed, batch.images)
