"""hmix-preview of PuzzleMix: saliency, masks and mixed images of one batch after the other."""

import numpy as np
import pytest
import timm
import torch

from train_patch.preview import main
from train_patch.previewing.puzzle import record_puzzle_samples
from train_patch.trainer.arguments import parse_arguments

LINE = ['--mix-mode', 'puzzlemix', '--model', 'test_resnet', '--img-size', '32', '--no-aug']


def record(*line, seed=5, rows=6):
    args, _ = parse_arguments([*LINE, *line], 'hmix-preview', '', strict=False)
    return record_puzzle_samples(args, seed, rows)


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
