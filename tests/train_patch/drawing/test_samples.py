"""The first samples of a training: as many as asked for, from the seed alone, by the mixer that training would have."""

import re

import numpy as np
import pytest
from PIL import Image

from train_patch import preview
from train_patch.drawing.images import Photographs
from train_patch.drawing.samples import record_samples


def record(*line, seed=3, rows=2, **changes):
    options, rest = preview.build_parser().parse_known_args(['--img-size', '32', *line])
    args, mixing = preview.parse_training(options, rest)
    vars(args).update(changes)
    return record_samples(args, mixing, seed, rows)


@pytest.mark.parametrize('rows', [1, 3])
def test_there_are_as_many_samples_as_rows(rows):
    samples, _ = record('--mix-mode', 'hmix', rows=rows)
    assert len(samples) == rows
    assert all(sample.own.shape == sample.mixed.shape == (3, 32, 32) for sample in samples)
    assert {label for sample in samples for label in sample.labels} == {'flower', 'temple'}


def test_progress_is_shown_and_taken_away_again(capsys):
    record('--mixup', '1', rows=3)
    shown = capsys.readouterr().err
    assert re.search(r'0/3 .*row/s', shown) and shown.endswith('\r') and not shown.split('\r')[-2].strip()


def test_the_seed_alone_decides():
    """Crops, flips and all that mixing draws."""

    def shown(seed):
        np.random.seed()  # whatever was drawn before
        return [
            (sample.own.tolist(), sample.mask.tolist(), sample.weight)
            for sample in record('--mixup', '1', seed=seed)[0]
        ]

    assert shown(3) == shown(3) != shown(4)


@pytest.mark.parametrize(
    ('line', 'described'),
    [
        ('--mix-mode gmix --mixup-mode elem', 'FastCollateMixup(GMix(alpha=1, kernel=reference), mode=elem, '),
        ('--mixup 0.25 --mixup-prob 0.5', 'FastCollateMixup(Mixup(alpha=0.25), mode=batch, prob=0.5, '),
        ('--cutmix 0.5 --cutmix-mode hmix --hmix-ratio 0.25', 'FastCollateMixup(HMix(alpha=0.5, ratio=0.25), '),
        ('--mix-mode none', 'FastCollateMixup(no mixing'),
    ],
)
def test_the_mixer_is_described_as_the_one_that_training_has(line, described):
    assert record(*line.split(), rows=1)[1].startswith(described)


@pytest.mark.parametrize(
    ('given', 'named', 'expected'),
    [(None, 2, 2), (1, 2, 2), (5, 2, 5), (None, 0, 1000), (5, 0, 1000), (3000, 0, 3000)],
)
def test_the_mixer_has_room_for_every_class(monkeypatch, given, named, expected):
    """Those of the data, those that were asked for, and ImageNet's where the data do not say."""
    monkeypatch.setattr(Photographs, 'class_to_idx', {'flower': 0, 'temple': 1} if named else {})
    samples, mixer = record('--mix-mode', 'hmix', rows=2, num_classes=given)
    assert re.search(rf', num_classes={expected}\b', mixer)
    names = {'flower', 'temple'} if named else {'0', '1'}
    assert {label for sample in samples for label in sample.labels} == names


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        ({'aa': 'rando'}, '^--aa rando: timm does not know this policy'),
    ],
)
def test_what_is_wrong_is_named_by_its_option(changes, says):
    with pytest.raises(ValueError, match=says):
        record('--mix-mode', 'hmix', **changes)


def test_the_weight_of_a_sample_is_that_of_its_mask():
    for sample in record('--mix-mode', 'cutmix', rows=4)[0]:
        assert sample.weight == pytest.approx(sample.mask.mean(), abs=1e-3)
        blend = sample.mask * sample.own + (1 - sample.mask) * sample.other
        np.testing.assert_allclose(blend, sample.mixed, atol=1.01)


def test_one_class_is_one_class(tmp_path):
    (tmp_path / 'train' / 'only').mkdir(parents=True)
    for name in 'ab':
        Image.new('RGB', (32, 32)).save(tmp_path / 'train' / 'only' / f'{name}.png')
    (sample,), mixer = record('--mix-mode', 'hmix', '--data-dir', str(tmp_path), rows=1)
    assert sample.labels == ('only', 'only') and re.search(r', num_classes=1\b', mixer)
