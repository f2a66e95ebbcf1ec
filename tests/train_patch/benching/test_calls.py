"""What is compared with what, so that the ratios are fair."""

import numpy as np
import pytest
import timm.data
from PIL import Image

from hmix_timm import BoxMask, FastCollateMixup, Mixup, register_family
from hmix_timm.families import FAMILIES
from train_patch.benching import calls
from train_patch.mixing import side_by_side


def test_timms_mixers_have_our_hyper_parameters():
    for class_name, our_class in (('Mixup', Mixup), ('FastCollateMixup', FastCollateMixup)):
        mixings = side_by_side({'mix_alpha': 0.3, 'hmix_ratio': '0.4'}, ['hmix', 'cutmix', 'stochastic'], '--mix-modes')
        found = calls.make_mixers(class_name, 'pair', mixings)
        assert list(found) == ["timm's Mixup", "timm's CutMix", "timm's Stochastic", 'HMix', 'CutMix', 'Stochastic']
        for name in ('CutMix', 'Stochastic'):
            ours, theirs = found[name], found[f"timm's {name}"]
            assert type(ours) is our_class and type(theirs) is getattr(timm.data, class_name)
            for attribute in ('mixup_alpha', 'cutmix_alpha', 'mix_prob', 'switch_prob', 'mode', 'label_smoothing'):
                assert getattr(ours, attribute) == getattr(theirs, attribute)
        assert found['CutMix'].cutmix_alpha == found['Stochastic'].mixup_alpha == 0.3, 'as it was asked for'
        assert found["timm's Mixup"].mixup_alpha == 0.8 and found['HMix'].hmix_ratio == 0.4


def test_masks_are_compared_with_timms_own_or_with_its_mixup():
    times = {
        "timm's Mixup": [2.0, 60.0, 5.0],  # all is slow in the second turn
        "timm's CutMix": [1.0, 40.0, 4.0],
        'HMix': [1.0, 30.0, 4.0],
        'Mixup': [0.5, 15.0, 1.0],
        'CutMix': [3.0, 40.0, 2.0],
    }
    assert calls.beside_timms(times, ['mixup', 'cutmix', 'hmix']) == {
        "Mixup ÷ timm's Mixup": 0.25,
        "CutMix ÷ timm's CutMix": 1.0,
        "HMix ÷ timm's Mixup": 0.5,
        "timm's Mixup, ms": 5.0,
        "timm's CutMix, ms": 4.0,
    }


def test_families_of_one_title_are_told_apart():
    for name in ('stripes', 'bars'):
        register_family(name, title='Stripes')(lambda size, lam, options, draws: BoxMask(lam))
    try:
        columns = calls.titles(['stripes', 'bars', 'hmix'])
        assert columns == {'stripes': 'Stripes (stripes)', 'bars': 'Stripes (bars)', 'hmix': 'HMix'}
    finally:
        del FAMILIES['stripes'], FAMILIES['bars']


@pytest.mark.parametrize('channels_last', [False, True])
def test_samples_have_every_grey_level_and_the_layout_of_their_path(channels_last):
    samples = calls.make_samples(1002, 4, channels_last)
    images = np.stack([image for image, _ in samples])
    assert images.shape == (1002, 3, 4, 4) and images.dtype == np.uint8 and (images.min(), images.max()) == (0, 255)
    as_loaded = np.rollaxis(np.array(Image.new('RGB', (4, 4))), 2)  # as timm's loader hands images over
    assert samples[0][0].strides == (as_loaded if channels_last else as_loaded.copy()).strides
    assert [label for _, label in samples] == [*range(1000), 0, 1]
