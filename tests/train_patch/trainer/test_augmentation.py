"""Policies that the installed Pillow and timm cannot carry out are refused before a run starts; all others are not."""

import random
from argparse import Namespace

import numpy as np
import PIL
import pytest
from PIL import Image, ImageOps
from timm.data import auto_augment, create_transform

from train_patch.trainer.augmentation import check_augmentation

IMAGE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8))


def posterizes_to_no_bits():
    """Pillow 13 no longer does."""
    try:
        ImageOps.posterize(IMAGE, 0)
    except ValueError:
        return False
    return True


@pytest.mark.parametrize(
    'policy', ['', None, 'rand-m9-mstd0.5', 'rand-m7', 'original', 'originalr', 'augmix-m5-w4-d2', '3a']
)
def test_usual_policies_pass(policy):
    check_augmentation(Namespace(aa=policy, no_aug=False))


@pytest.mark.parametrize('policy', ['rand-m9-mstd0.5-inc1', 'rand-m10-inc1', 'rand-m15-mmax20-inc1', 'v0'])
def test_policies_that_ask_for_no_bits_pass_where_pillow_takes_them(policy):
    if posterizes_to_no_bits():
        check_augmentation(Namespace(aa=policy))
        return
    with pytest.raises(ValueError, match=rf'^--aa {policy}: Pillow {PIL.__version__} .* Posterize.*pillow<13'):
        check_augmentation(Namespace(aa=policy))


@pytest.mark.parametrize('policy', ['rand-m9-mstd0.5', 'rand-m10-inc1', 'augmix-m5-w4-d2', 'v0'])
def test_a_policy_is_refused_exactly_where_carrying_it_out_fails(policy):
    """Against the policy itself, carried out until its operations have met their extremes."""
    random.seed(0)
    np.random.seed(0)
    transform = create_transform(8, is_training=True, auto_augment=policy)
    failed = refused = False
    try:
        for _ in range(400):
            transform(IMAGE)
    except ValueError:
        failed = True
    try:
        check_augmentation(Namespace(aa=policy))
    except ValueError:
        refused = True
    assert refused == failed


@pytest.fixture
def asked(monkeypatch):
    """The degrees of all rotations; with `asked.fails` they fail at these."""

    class Asked(set):
        fails = ()

    found = Asked()

    def rotate(image, degrees, **kwargs):
        found.add(abs(degrees))
        if abs(degrees) in found.fails:
            raise OSError('out of paint')
        return image

    monkeypatch.setitem(auto_augment.NAME_TO_OP, 'Rotate', rotate)
    return found


@pytest.mark.parametrize(
    ('policy', 'degrees'),
    [
        ('rand-m5', {15.0}),
        ('rand-m3-mstd1', {0.0, 30.0}),  # by 8 standard deviations, up to the strongest level
        ('rand-m8-mstd101', {0.0, 24.0}),  # timm's way to say: uniform from 0 to the magnitude
        ('rand-m15-mmax12', {36.0}),
    ],
)
def test_both_ends_of_the_drawn_strengths_are_tried_and_no_others(asked, policy, degrees):
    check_augmentation(Namespace(aa=policy))
    assert sorted(asked) == pytest.approx(sorted(degrees))


@pytest.mark.parametrize('degrees', [0.0, 30.0])
@pytest.mark.parametrize(('version', 'newer'), [('12.99.0', False), ('13.0.0', True)])
def test_an_operation_that_fails_at_one_end_is_named_with_the_remedy(asked, monkeypatch, degrees, version, newer):
    """Pillow 13 is the first that refuses a strength of timm's; before it another policy is all that helps."""
    monkeypatch.setattr(PIL, '__version__', version)
    asked.fails = (degrees,)
    with pytest.raises(ValueError, match=r'--aa rand-m3-mstd1: .* Rotate .*\(out of paint\); .*policy$') as refusal:
        check_augmentation(Namespace(aa='rand-m3-mstd1'))
    assert ('pillow<13' in str(refusal.value)) == newer


def test_an_unknown_policy_is_refused_where_the_run_would_carry_it_out():
    with pytest.raises(ValueError, match='--aa no-such-policy: timm does not know this policy'):
        check_augmentation(Namespace(aa='no-such-policy'))
    check_augmentation(Namespace(aa='no-such-policy', no_aug=True))
    check_augmentation(Namespace())
