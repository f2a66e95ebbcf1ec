"""The rows of the paper's tables and the hyper-parameters of its section 5, written out by hand."""

import pytest

from hmix_timm import Mixup
from hmix_timm.modes import mix_modes, mixer_arguments, puzzle_arguments

METHODS = {'fmix': 'FMix', 'gridmix': 'GridMix', 'smoothmix': 'SmoothMix', 'resizemix': 'ResizeMix'}
METHODS |= {'saliencymix': 'SaliencyMix', 'maskmix': 'MaskMix'}


def test_mix_modes_stand_in_the_order_of_the_papers_tables():
    """Name → title, whether Mixup is on, the mask in the CutMix slot, whether it mixes by masks or by a model."""
    found = {n: (m.title, m.mixup, m.family, m.draws_masks, m.mixes, m.needs_model) for n, m in mix_modes().items()}
    assert list(found.items()) == [
        ('none', ('No mixing', False, '', False, False, False)),
        ('mixup', ('Mixup', True, '', True, True, False)),
        ('cutmix', ('CutMix', False, 'bbox', True, True, False)),
        ('stochastic', ('Stochastic', True, 'bbox', True, True, False)),
        ('hmix', ('HMix', False, 'hmix', True, True, False)),
        ('gmix', ('GMix', False, 'gmix', True, True, False)),
        *((name, (title, False, name, True, True, False)) for name, title in METHODS.items()),
        ('puzzlemix', ('PuzzleMix', False, '', False, True, True)),
    ]
    assert len({mode.colour for mode in mix_modes().values()}) == 7 + len(METHODS)


SECTION_5 = {
    ('none', 'imagenet'): {'mixup_alpha': 1.0, 'cutmix_alpha': 0.0, 'prob': 0.0},
    ('none', 'cifar100'): {'mixup_alpha': 1.0, 'cutmix_alpha': 0.0, 'prob': 0.0},
    ('mixup', 'imagenet'): {'mixup_alpha': 0.8, 'cutmix_alpha': 0.0},
    ('mixup', 'cifar100'): {'mixup_alpha': 1.0, 'cutmix_alpha': 0.0},
    ('cutmix', 'imagenet'): {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0},
    ('cutmix', 'cifar100'): {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0},
    ('stochastic', 'imagenet'): {'mixup_alpha': 1.0, 'cutmix_alpha': 1.0},
    ('stochastic', 'cifar100'): {'mixup_alpha': 1.0, 'cutmix_alpha': 1.0},
    ('hmix', 'imagenet'): {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_ratio': 0.75},
    ('hmix', 'cifar100'): {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_ratio': 0.5},
    ('gmix', 'imagenet'): {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'gmix'},
    ('gmix', 'cifar100'): {'mixup_alpha': 0.0, 'cutmix_alpha': 0.5, 'cutmix_mode': 'gmix'},
}


@pytest.mark.parametrize(('mode', 'preset'), SECTION_5)
def test_arguments_are_those_of_section_5(mode, preset):
    others = {'cutmix_minmax': None, 'switch_prob': 0.5, 'cutmix_mode': 'bbox'}
    assert mixer_arguments(mode, preset) == {**others, **SECTION_5[mode, preset]}
    if preset == 'imagenet':
        assert mixer_arguments(mode) == mixer_arguments(mode, preset)


@pytest.mark.parametrize(
    ('preset', 'expected'),
    [('imagenet', {'neigh_size': 2, 't_size': -1}), ('cifar100', {'neigh_size': 4, 't_size': 4})],
)
def test_puzzlemix_is_that_of_its_authors(preset, expected):
    published = {'alpha': 1.0, 'beta': 1.2, 'gamma': 0.5, 'eta': 0.2, 't_eps': 0.8}
    assert puzzle_arguments(preset) == {**published, **expected}


@pytest.mark.parametrize(
    ('call', 'message'),
    [
        (lambda: Mixup.from_mode('hmx'), r"mix_mode must be one of .*hmix.*, got 'hmx'"),
        (lambda: Mixup.from_mode('hmix', 'cifar10'), "preset must be one of imagenet, cifar100, got 'cifar10'"),
        (lambda: Mixup.from_mode('puzzlemix'), r"mix_mode 'puzzlemix' needs the model .*\.PuzzleMix, not Mixup"),
        (lambda: puzzle_arguments('cifar10'), "preset must be one of imagenet, cifar100, got 'cifar10'"),
    ],
)
def test_unknown_modes_and_presets_are_named(call, message):
    with pytest.raises(ValueError, match=f'^{message}$'):
        call()
