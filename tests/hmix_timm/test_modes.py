"""The rows of the paper's tables and the hyper-parameters of its section 5, written out by hand."""

import pytest

from hmix_timm.modes import mix_modes, mixer_arguments, puzzle_arguments


def test_mix_modes_stand_in_the_order_of_the_papers_tables():
    modes = mix_modes()
    assert list(modes) == ['none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix', 'puzzlemix']
    assert [mode.title for mode in modes.values()] == [
        'No mixing',
        'Mixup',
        'CutMix',
        'Stochastic',
        'HMix',
        'GMix',
        'PuzzleMix',
    ]
    assert {name: (mode.mixup, mode.family) for name, mode in modes.items()} == {
        'none': (False, ''),
        'mixup': (True, ''),
        'cutmix': (False, 'bbox'),
        'stochastic': (True, 'bbox'),
        'hmix': (False, 'hmix'),
        'gmix': (False, 'gmix'),
        'puzzlemix': (False, ''),
    }


def test_what_a_mode_does_to_images():
    modes = mix_modes()
    assert [name for name, mode in modes.items() if not mode.mixes] == ['none']
    assert [name for name, mode in modes.items() if mode.needs_model] == ['puzzlemix']
    assert [name for name, mode in modes.items() if not mode.draws_masks] == ['none', 'puzzlemix']


def test_no_two_modes_have_one_colour():
    colours = [mode.colour for mode in mix_modes().values()]
    assert len(set(colours)) == len(colours)


SLOTS = {'cutmix_minmax': None, 'switch_prob': 0.5, 'cutmix_mode': 'bbox'}


@pytest.mark.parametrize(
    ('mode', 'preset', 'expected'),
    [
        ('none', 'imagenet', {'mixup_alpha': 1.0, 'cutmix_alpha': 0.0, 'prob': 0.0}),
        ('mixup', 'imagenet', {'mixup_alpha': 0.8, 'cutmix_alpha': 0.0}),
        ('mixup', 'cifar100', {'mixup_alpha': 1.0, 'cutmix_alpha': 0.0}),
        ('cutmix', 'imagenet', {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0}),
        ('cutmix', 'cifar100', {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0}),
        ('stochastic', 'imagenet', {'mixup_alpha': 1.0, 'cutmix_alpha': 1.0}),
        ('stochastic', 'cifar100', {'mixup_alpha': 1.0, 'cutmix_alpha': 1.0}),
        ('hmix', 'imagenet', {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_ratio': 0.75}),
        ('hmix', 'cifar100', {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_ratio': 0.5}),
        ('gmix', 'imagenet', {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'gmix'}),
        ('gmix', 'cifar100', {'mixup_alpha': 0.0, 'cutmix_alpha': 0.5, 'cutmix_mode': 'gmix'}),
    ],
)
def test_arguments_are_those_of_section_5(mode, preset, expected):
    assert mixer_arguments(mode, preset) == {**SLOTS, **expected}


def test_imagenet_is_the_preset_where_none_is_named():
    assert mixer_arguments('mixup')['mixup_alpha'] == 0.8
    assert puzzle_arguments()['neigh_size'] == 2


@pytest.mark.parametrize(
    ('preset', 'expected'),
    [('imagenet', {'neigh_size': 2, 't_size': -1}), ('cifar100', {'neigh_size': 4, 't_size': 4})],
)
def test_puzzlemix_is_that_of_its_authors(preset, expected):
    assert puzzle_arguments(preset) == {
        'alpha': 1.0,
        'beta': 1.2,
        'gamma': 0.5,
        'eta': 0.2,
        't_eps': 0.8,
        **expected,
    }


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (('cutmixx', 'imagenet'), r"mix_mode must be .*'cutmixx'"),
        (('cutmix', 'imagnet'), r"preset must be .*'imagnet'"),
        (('puzzlemix', 'imagenet'), r"mix_mode 'puzzlemix' asks a model what to keep: it is hmix_timm\.PuzzleMix"),
    ],
)
def test_what_makes_no_mixer_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        mixer_arguments(*arguments)


def test_puzzlemix_refuses_an_unknown_preset():
    with pytest.raises(ValueError, match=r"preset must be .*'cifar10'"):
        puzzle_arguments('cifar10')
