"""hmix-preview of PuzzleMix: saliency, masks and mixed images of one batch after the other."""

import numpy as np
import pytest
import timm
import torch

from train_patch.drawing.images import Photographs
from train_patch.drawing.puzzle_samples import record_puzzle_samples
from train_patch.preview import main
from train_patch.trainer.arguments import parse_arguments

LINE = ['--mix-mode', 'puzzlemix', '--model', 'test_resnet', '--img-size', '32', '--no-aug']


def record(*line, seed=5, rows=6, start=LINE):
    args, mixing = parse_arguments([*start, *line], 'hmix-preview', '', strict=False)
    return record_puzzle_samples(args, mixing, seed, rows)


@pytest.fixture(scope='module')
def recorded():
    """Three batches of the two photographs."""
    return record()


def test_the_two_rows_of_a_batch_are_partners(recorded):
    samples, _ = recorded
    for first, second in zip(samples[::2], samples[1::2], strict=True):
        assert first.labels == second.labels[::-1]
        np.testing.assert_array_equal(first.own, second.other)
        np.testing.assert_array_equal(first.saliency[0], second.saliency[1])


def test_the_label_weight_is_the_mean_of_the_mask(recorded):
    for sample in recorded[0]:
        assert set(np.unique(sample.mask)) <= {0.0, 0.5, 1.0}
        assert sample.weight == pytest.approx(sample.mask.mean())


def test_where_the_mask_is_constant_the_mixed_image_is_that_blend(recorded):
    seen = 0
    for sample in recorded[0]:
        if sample.mask.min() == sample.mask.max():
            blend = sample.weight * sample.own + (1 - sample.weight) * sample.other.astype(float)
            np.testing.assert_allclose(sample.mixed, blend, atol=1.01)
            seen += 1
    assert seen


def test_the_mixer_is_described_with_its_parameters(recorded):
    assert recorded[1].startswith('PuzzleMix(alpha=1, beta=1.2, ')
    assert 'num_classes=2' in recorded[1]


def test_the_weights_that_are_given_decide_the_saliency(recorded, tmp_path):
    torch.manual_seed(1)
    path = tmp_path / 'weights.pth'
    torch.save(timm.create_model('test_resnet', num_classes=2).state_dict(), path)
    samples, _ = record('--initial-checkpoint', str(path), rows=2)
    assert not np.array_equal(samples[0].saliency[0], recorded[0][0].saliency[0])


def test_unmixed_batches_are_shown_as_they_are():
    samples, _ = record('--mixup-prob', '0', rows=2)
    for sample in samples:
        assert (sample.mask == 1.0).all()
        np.testing.assert_array_equal(sample.mixed, sample.own)


def test_the_command_writes_a_picture(tmp_path, capsys):
    assert main([*LINE, '--rows', '2', '-o', str(tmp_path / 'preview.png')]) == 0
    assert 'Mixing: PuzzleMix(' in capsys.readouterr().out
    assert (tmp_path / 'preview.png').stat().st_size > 10_000


def test_images_that_cannot_be_cut_are_the_parsers_error(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*LINE, '--img-size', '40', '-o', str(tmp_path / 'preview.png')])
    assert 'sides that work: ' in capsys.readouterr().err


def test_the_seed_decides_what_is_shown(recorded):
    def shown(samples):
        return [(sample.own.tolist(), sample.mask.tolist(), sample.saliency[0].tolist()) for sample in samples]

    assert shown(record(rows=2)[0]) == shown(recorded[0][:2]) != shown(record(rows=2, seed=6)[0])


@pytest.mark.parametrize('rows', [1, 3])
def test_there_are_as_many_samples_as_rows(rows):
    assert len(record(rows=rows)[0]) == rows


def test_classes_are_named_and_numbered(recorded):
    for sample in recorded[0]:
        assert sample.labels == tuple(('flower', 'temple')[target] for target in sample.targets)
        assert sorted(sample.targets) == [0, 1]
        assert sample.own.dtype == sample.mixed.dtype == np.uint8 and sample.own.shape == (3, 32, 32)
        assert sample.mask.shape == sample.saliency[0].shape == sample.saliency[1].shape == (32, 32)
        assert isinstance(sample.weight, float)


def test_classes_without_a_name_are_numbers(monkeypatch):
    monkeypatch.setattr(Photographs, 'class_to_idx', {'flower': 0})
    samples, mixer = record('--num-classes', '7', rows=2)
    assert sorted(samples[0].labels) == ['1', 'flower'] and 'num_classes=7' in mixer


def test_an_unmixed_batch_after_a_mixed_one_has_no_mask_of_it():
    samples, _ = record('--mixup-prob', '0.5', rows=16)
    unmixed = [sample for sample in samples if not sample.saliency[0].any()]  # the model was not asked
    assert 0 < len(unmixed) < 16
    for sample in unmixed:
        assert not sample.saliency[1].any() and sample.weight == 1.0 and (sample.mask == 1).all()
        np.testing.assert_array_equal(sample.mixed, sample.own)


@pytest.mark.parametrize(('trained', 'said'), [(False, True), (True, False)])
def test_it_says_that_a_model_is_untrained(trained, said, tmp_path, caplog):
    path = tmp_path / 'weights.pth'
    torch.save(timm.create_model('test_resnet', num_classes=2).state_dict(), path)
    record(*(['--initial-checkpoint', str(path)] if trained else []), rows=1)
    assert ('The model is untrained' in caplog.text) == said


def test_a_policy_that_timm_does_not_know_is_named():
    with pytest.raises(ValueError, match='--aa rando: timm does not know this policy'):
        record('--aa', 'rando', start=[word for word in LINE if word != '--no-aug'])


def test_blocks_are_chosen_from_both_images(recorded):
    """M is the share of image i: where it is 1 or 0 the mixed image is one of the two, as they came or moved."""
    for sample in recorded[0]:
        kept = sample.mask == 1
        moved = {tuple(pixel) for pixel in sample.own.reshape(3, -1).T.tolist()}
        shown = {tuple(pixel) for pixel in sample.mixed[:, kept].T.tolist()}
        near = sum(any(abs(np.subtract(pixel, other)).max() <= 1 for other in moved) for pixel in list(shown)[:20])
        assert near >= min(len(shown), 20) * 0.9
