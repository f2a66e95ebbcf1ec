"""Policies that the installed Pillow and timm cannot carry out are refused before a run starts; all others are not."""

import contextlib
import random
from argparse import Namespace

import numpy as np
import PIL
import pytest
from PIL import Image, ImageOps
from timm.data import auto_augment, create_transform

from train_patch.trainer.augmentation import check_augmentation, check_policy

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8))


def posterizes_to_no_bits():
    """Pillow 13 no longer does."""
    try:
        ImageOps.posterize(IMAGE, 0)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    'policy',
    ['', None, 'rand-m9-mstd0.5', 'rand-m7', 'original', 'originalr', 'augmix-m5-w4-d2', '3a'],
)
def test_usual_policies_pass(policy):
    check_policy(policy)


@pytest.mark.parametrize(
    'policy',
    ['rand-m9-mstd0.5-inc1', 'rand-m10-inc1', 'rand-m7-mstd0.5-inc1', 'rand-m15-mmax20-inc1', 'rand-m9-mstd101', 'v0'],
)
def test_what_asks_for_no_bits_passes_where_pillow_takes_it(policy):
    if posterizes_to_no_bits():
        check_policy(policy)
        return
    with pytest.raises(ValueError, match=rf'^--aa {policy}: Pillow {PIL.__version__} .* Posterize.*pillow<13'):
        check_policy(policy)


@pytest.mark.parametrize('policy', ['rand-m9-mstd0.5', 'rand-m10-inc1', 'augmix-m5-w4-d2', 'v0'])
def test_what_passes_runs_and_what_is_refused_fails(policy):
    """Against the policy itself, carried out until its operations have met their extremes."""
    random.seed(0)
    np.random.seed(0)
    transform = create_transform(8, is_training=True, auto_augment=policy)
    failure = None
    try:
        for _ in range(400):
            transform(IMAGE)
    except ValueError as error:
        failure = error
    try:
        check_policy(policy)
    except ValueError as refusal:
        assert failure is not None, refusal
    else:
        assert failure is None, failure


@pytest.mark.parametrize('strength', ['weakest', 'strongest'])
def test_an_operation_that_fails_at_one_end_is_found_and_named(monkeypatch, strength):
    """The strength of `rand-m3-mstd1` reaches 0 and, by 8 standard deviations, the limit of 10."""

    def rotate(image, degrees, **kwargs):
        if abs(degrees) == {'weakest': 0.0, 'strongest': 30.0}[strength]:
            raise OSError('out of paint')
        return image

    monkeypatch.setitem(auto_augment.NAME_TO_OP, 'Rotate', rotate)
    with pytest.raises(ValueError, match=r'--aa rand-m3-mstd1: .* Rotate .*\(out of paint\)'):
        check_policy('rand-m3-mstd1')


def test_a_strength_that_is_never_drawn_is_not_asked_for(monkeypatch):
    def rotate(image, degrees, **kwargs):
        assert abs(degrees) == 15.0
        return image

    monkeypatch.setitem(auto_augment.NAME_TO_OP, 'Rotate', rotate)
    check_policy('rand-m5')


def test_unknown_policy():
    with pytest.raises(ValueError, match='--aa no-such-policy: timm does not know this policy'):
        check_policy('no-such-policy')


@pytest.mark.parametrize(
    ('args', 'refused'),
    [
        (Namespace(aa='no-such-policy', no_aug=False), True),
        (Namespace(aa='no-such-policy'), True),
        (Namespace(aa='no-such-policy', no_aug=True), False),
        (Namespace(), False),
    ],
)
def test_a_policy_is_asked_about_where_the_run_carries_it_out(args, refused):
    with pytest.raises(ValueError) if refused else contextlib.nullcontext():
        check_augmentation(args)


@pytest.mark.parametrize(
    ('version', 'newer'), [('9.13.0', False), ('12.99.0', False), ('13.0.0', True), ('14.2.1', True)]
)
def test_an_older_pillow_is_the_remedy_where_there_is_one(monkeypatch, version, newer):
    """Pillow 13 is the first that refuses what timm asks for; before it another policy is all that helps."""

    def rotate(image, degrees, **kwargs):
        raise OSError('out of paint')

    monkeypatch.setitem(auto_augment.NAME_TO_OP, 'Rotate', rotate)
    monkeypatch.setattr(PIL, '__version__', version)
    with pytest.raises(ValueError, match=r'choose another policy$') as refusal:
        check_policy('rand-m5')
    assert ('pillow<13' in str(refusal.value)) == newer


def test_a_strength_drawn_from_all_up_to_the_magnitude_can_be_none(monkeypatch):
    """mstd101 is timm's way to say: uniform from 0 to the magnitude."""
    asked = set()

    def rotate(image, degrees, **kwargs):
        asked.add(abs(degrees))
        return image

    monkeypatch.setitem(auto_augment.NAME_TO_OP, 'Rotate', rotate)
    check_policy('rand-m8-mstd101')
    assert asked == {0.0, 24.0}  # of 30 degrees at the strongest level, 10
