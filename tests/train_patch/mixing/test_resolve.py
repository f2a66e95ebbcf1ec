"""The rule: what every mode resolves to, what beats what, what is refused; and anything at all as input."""

import math

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hmix_timm import FastCollateMixup, Mixup
from train_patch.mixing import TIMM_DEFAULTS, constructor_overrides, mix_dests, mode_uses, resolve, resolve_group
from train_patch.mixing.resolve import replaced_line

# the table of the paper's section 5: (preset, mode) → mixup alpha, cutmix alpha, HMix's ratio
PAPER = {
    ('imagenet', 'none'): (0.0, 0.0, None),
    ('imagenet', 'mixup'): (0.8, 0.0, None),
    ('imagenet', 'cutmix'): (0.0, 1.0, None),
    ('imagenet', 'stochastic'): (1.0, 1.0, None),
    ('imagenet', 'hmix'): (0.0, 1.0, 0.75),
    ('imagenet', 'gmix'): (0.0, 1.0, None),
    ('cifar100', 'none'): (0.0, 0.0, None),
    ('cifar100', 'mixup'): (1.0, 0.0, None),
    ('cifar100', 'cutmix'): (0.0, 1.0, None),
    ('cifar100', 'stochastic'): (1.0, 1.0, None),
    ('cifar100', 'hmix'): (0.0, 1.0, 0.5),
    ('cifar100', 'gmix'): (0.0, 0.5, None),
}


@pytest.mark.parametrize(('preset', 'mode'), PAPER)
@pytest.mark.parametrize('source', ['line', 'recipe'])
def test_every_mode_and_preset_is_the_papers(preset, mode, source):
    own = {'mixup': 0.3, 'cutmix': 0.4, 'cutmix_minmax': [0.1, 0.2], 'mixup_switch_prob': 0.9}  # all replaced
    chosen = {'mix_mode': mode, 'mix_preset': preset}
    values = resolve(chosen, own) if source == 'line' else resolve({}, {**own, **chosen})
    mixup, cutmix, ratio = PAPER[preset, mode]
    assert {dest: values[dest] for dest in TIMM_DEFAULTS} == {
        'mixup': mixup, 'cutmix': cutmix, 'cutmix_minmax': None, 'mixup_switch_prob': 0.5
    }  # fmt: skip
    assert values['hmix_ratio'] == ratio
    assert values['gmix_kernel'] == ('reference' if mode == 'gmix' else None)


def test_the_default_preset_is_imagenet():
    assert resolve({'mix_mode': 'hmix'}, {})['mix_preset'] == 'imagenet'


def test_without_a_mode_the_recipe_holds():
    recipe = {'cutmix': 1.0, 'cutmix_minmax': [0.2, 0.8], 'mixup_switch_prob': 0.3, 'lr': 0.1}
    values = resolve({'mixup': 0.2}, recipe)
    assert {dest: values[dest] for dest in TIMM_DEFAULTS} == {
        'mixup': 0.2, 'cutmix': 1.0, 'cutmix_minmax': [0.2, 0.8], 'mixup_switch_prob': 0.3
    }  # fmt: skip
    assert values['mix_mode'] is None and constructor_overrides(values) == {}


@pytest.mark.parametrize(
    ('typed', 'recipe', 'expected'),
    [
        ({'mix_mode': 'mixup', 'mix_alpha': '0.3'}, {}, {'mixup': 0.3, 'cutmix': 0.0}),
        ({'mix_mode': 'stochastic', 'mix_alpha': '0.3'}, {}, {'mixup': 0.3, 'cutmix': 0.3}),
        ({'mix_mode': 'hmix', 'hmix_ratio': '0'}, {}, {'cutmix': 1.0, 'hmix_ratio': 0.0, 'hmix_gamma': None}),
        ({'mix_mode': 'hmix', 'hmix_gamma': '2'}, {}, {'hmix_ratio': None, 'hmix_gamma': 2.0}),
        ({'mix_mode': 'gmix', 'gmix_kernel': 'paper', 'mix_alpha': '2'}, {}, {'gmix_kernel': 'paper', 'cutmix': 2.0}),
        # numbers that YAML reads as text
        ({}, {'mix_mode': 'hmix', 'mix_alpha': '1e-1'}, {'cutmix': 0.1}),
        ({}, {'mixup': '2e-1'}, {'mixup': 0.2}),
        # None is not given: args.yaml of a run without a mode
        ({'mix_mode': 'hmix'}, {'mix_preset': None, 'hmix_ratio': None}, {'hmix_ratio': 0.75}),
        ({'mix_mode': 'hmix'}, {'mix_mode': None, 'hmix_ratio': 0.3}, {'hmix_ratio': 0.3}),
    ],
)
def test_overrides(typed, recipe, expected):
    values = resolve(typed, recipe)
    assert {dest: values[dest] for dest in expected} == expected


HMIX = {'mix_mode': 'hmix', 'mix_alpha': 0.3, 'hmix_ratio': 0.2, 'mix_preset': 'cifar100', 'mix_literal': True}


@pytest.mark.parametrize(
    ('typed', 'expected'),
    [
        ({'hmix_ratio': '0.9'}, {'hmix_ratio': 0.9, 'cutmix': 0.3, 'mix_literal': True}),
        ({'mix_mode': 'hmix'}, {'hmix_ratio': 0.2, 'cutmix': 0.3, 'mix_literal': True}),
        # another mode does not inherit the parameters of the recipe's mode, but the preset
        ({'mix_mode': 'gmix'}, {'cutmix': 0.5, 'hmix_ratio': None, 'mix_literal': False, 'mix_preset': 'cifar100'}),
        ({'hmix_gamma': '1'}, {'hmix_gamma': 1.0, 'hmix_ratio': None}),
        ({'mix_mode': 'none'}, {'mixup': 0.0, 'cutmix': 0.0}),
    ],
)
def test_the_command_line_beats_a_recipe(typed, expected):
    values = resolve(typed, HMIX)
    assert {dest: values[dest] for dest in expected} == expected


@pytest.mark.parametrize(
    ('mode', 'expected'), [('hmix', {'hmix_ratio': 0.3}), ('gmix', {'gmix_kernel': 'paper'}), ('mixup', {'mixup': 1.0})]
)
def test_a_recipe_without_a_mode_serves_every_mode(mode, expected):
    recipe = {'mix_preset': 'cifar100', 'hmix_ratio': 0.3, 'gmix_kernel': 'paper'}
    values = resolve({'mix_mode': mode}, recipe)
    assert {dest: values[dest] for dest in expected} == expected


DEIT = {'mixup': 0.8, 'cutmix': 1.0, 'mixup_switch_prob': 0.5}


@pytest.mark.parametrize('source', ['line', 'recipe'])
def test_cutmix_mode_changes_the_mask_and_nothing_else(source):
    chosen = {'cutmix_mode': 'hmix', 'hmix_ratio': 0.3}
    values = resolve(chosen, DEIT) if source == 'line' else resolve({}, {**DEIT, **chosen})
    assert {dest: values[dest] for dest in DEIT} == DEIT
    assert constructor_overrides(values) == {'cutmix_mode': 'hmix', 'hmix_ratio': 0.3}


@pytest.mark.parametrize(
    ('typed', 'recipe', 'overrides'),
    [
        # the ratio of the preset
        ({'cutmix_mode': 'hmix'}, {**DEIT, 'mix_preset': 'cifar100'}, {'cutmix_mode': 'hmix', 'hmix_ratio': 0.5}),
        # another mask than the recipe's: its options go
        (
            {'cutmix_mode': 'gmix'},
            {**DEIT, 'cutmix_mode': 'hmix', 'hmix_ratio': 0.3, 'mix_literal': True},
            {'cutmix_mode': 'gmix', 'gmix_kernel': 'reference'},
        ),
        (
            {'cutmix_mode': 'hmix', 'hmix_gamma': '2', 'mix_literal': True},
            DEIT,
            {'cutmix_mode': 'hmix', 'hmix_gamma': 2.0, 'correct_lam': False},
        ),
        ({'cutmix_mode': 'bbox', 'cutmix_minmax': [0.2, 0.4]}, {}, {'cutmix_mode': 'bbox'}),
    ],
)
def test_masks_of_the_cutmix_slot(typed, recipe, overrides):
    assert constructor_overrides(resolve(typed, recipe)) == overrides


@pytest.mark.parametrize(
    ('chosen', 'expected'),
    [
        ({}, {}),
        ({'mix_mode': 'none'}, {'prob': 0.0, 'mixup_alpha': 1.0, 'cutmix_alpha': 0.0, 'cutmix_mode': 'bbox'}),
        ({'mix_mode': 'hmix'}, {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_ratio': 0.75}),
        ({'mix_mode': 'stochastic', 'mix_alpha': '0.4'}, {'mixup_alpha': 0.4, 'cutmix_alpha': 0.4}),
        ({'cutmix_mode': 'gmix'}, {'cutmix_mode': 'gmix', 'gmix_kernel': 'reference'}),
    ],
)
def test_overrides_for_a_script_of_any_kind(chosen, expected):
    overrides = constructor_overrides(resolve_group(chosen, {}))
    assert {name: overrides[name] for name in expected} == expected
    Mixup(**{'mixup_alpha': 0.2, 'cutmix_alpha': 0.3, **overrides})


WRONG = [
    ({'mix_mode': 'hmx'}, {}, ['--mix-mode', 'hmx', 'hmix']),
    ({}, {'mix_mode': 'hmx'}, ['--mix-mode', 'hmx', 'hmix']),
    ({}, {'mix_mode': 'hmix', 'mix_preset': 'cifar10'}, ['--mix-preset', 'cifar10', 'cifar100']),
    ({'mix_mode': 'gmix', 'gmix_kernel': 'gauss'}, {}, ['--gmix-kernel', 'gauss', 'reference']),
    ({}, {'mix_mode': 'gmix', 'gmix_kernel': 'gauss'}, ['--gmix-kernel', 'gauss', 'reference']),
    ({'mix_mode': 'hmix', 'mix_alpha': '0'}, {}, ['--mix-alpha', '0', '> 0']),
    ({'mix_mode': 'hmix', 'mix_alpha': 'nan'}, {}, ['--mix-alpha', 'nan']),
    ({}, {'mix_mode': 'hmix', 'mix_alpha': 10**400}, ['--mix-alpha', 'number']),
    ({'mix_mode': 'hmix', 'hmix_ratio': '1.5'}, {}, ['--hmix-ratio', '1.5', 'between 0 and 1']),
    ({}, {'mix_mode': 'hmix', 'hmix_ratio': 'much'}, ['--hmix-ratio', 'much']),
    ({}, {'mix_mode': 'hmix', 'hmix_ratio': True}, ['--hmix-ratio', 'True']),
    ({'mix_mode': 'hmix', 'hmix_gamma': '0'}, {}, ['--hmix-gamma', '> 0']),
    ({'mix_mode': 'hmix', 'hmix_gamma': '1', 'hmix_ratio': '0.5'}, {}, ['--hmix-gamma', '--hmix-ratio']),
    ({}, {'mix_mode': 'hmix', 'hmix_gamma': 1, 'hmix_ratio': 0.5}, ['--hmix-gamma', '--hmix-ratio']),
    ({'mix_mode': 'gmix', 'hmix_ratio': '0.5'}, {}, ['--hmix-ratio', 'hmix', 'gmix']),
    ({}, {'mix_mode': 'mixup', 'gmix_kernel': 'paper'}, ['--gmix-kernel', 'gmix', 'mixup']),
    ({'mix_mode': 'none', 'mix_alpha': '1'}, {}, ['--mix-alpha', 'none']),
    ({'mix_mode': 'mixup', 'mix_literal': True}, {}, ['--mix-literal', 'hmix', 'mixup']),
    ({}, {'mix_mode': 'hmix', 'mix_literal': 'yes'}, ['--mix-literal', 'true or false', 'yes']),
    ({'hmix_ratio': '0.5'}, {}, ['--hmix-ratio', '--mix-mode', '--cutmix-mode']),
    ({'mix_preset': 'cifar100'}, {'mixup': 0.2}, ['--mix-preset', '--mix-mode']),
    ({'cutmix_mode': 'hmix', 'mix_mode': 'hmix'}, {}, ['--cutmix-mode hmix', '--mix-mode hmix']),
    ({'cutmix_mode': 'hmix'}, {'mix_mode': 'gmix'}, ['--cutmix-mode hmix', '--mix-mode gmix']),
    ({'cutmix_mode': 'hmix'}, {}, ['--cutmix-mode hmix', '--cutmix A']),
    ({'cutmix_mode': 'hmix'}, {'mixup': 0.8, 'cutmix': 0}, ['--cutmix-mode hmix', '--cutmix A']),
    ({'cutmix_mode': 'gmix', 'cutmix_minmax': [0.2, 0.4]}, {}, ['--cutmix-minmax', '--cutmix-mode gmix']),
    ({'cutmix_mode': 'hmix', 'mix_alpha': '1'}, DEIT, ['--mix-alpha', '--cutmix']),
    ({'cutmix_mode': 'gmix', 'hmix_ratio': '0.5'}, DEIT, ['--hmix-ratio', '--cutmix-mode hmix', 'gmix']),
    ({'cutmix_mode': 'cutmix'}, DEIT, ['--cutmix-mode', 'bbox, hmix, gmix', 'cutmix']),
    ({'mixup': -1.0}, {}, ['--mixup', '-1.0', '>= 0']),
    ({}, {'mixup': 1, 'mixup_switch_prob': 2}, ['--mixup-switch-prob', '2', 'between 0 and 1']),
    ({'cutmix_minmax': [0.5]}, {}, ['--cutmix-minmax', '0.5']),
    ({}, {'cutmix_minmax': 0.5}, ['--cutmix-minmax', '0.5']),
]


@pytest.mark.parametrize(('typed', 'recipe', 'says'), WRONG)
def test_wrong_values_are_named(typed, recipe, says):
    with pytest.raises(ValueError) as error:
        resolve(typed, recipe)
    for part in says:
        assert part in str(error.value)


@pytest.mark.parametrize(
    ('typed', 'recipe', 'line'),
    [
        ({'mix_mode': 'hmix'}, {'mixup': 0.8, 'cutmix': 1.0}, 'replaced by --mix-mode hmix: --mixup 0.8'),
        ({'mix_mode': 'hmix', 'mixup': 0.3}, {'mixup': 0.8}, 'replaced by --mix-mode hmix: --mixup 0.3'),
        (
            {'mix_mode': 'none'},
            {'cutmix_minmax': [0.2, 0.7], 'cutmix_mode': 'gmix', 'cutmix': 0.5, 'mixup': None},
            'replaced by --mix-mode none: --cutmix 0.5, --cutmix-minmax 0.2 0.7, --cutmix-mode gmix',
        ),
        # what is as it would be anyway was not replaced
        ({'mix_mode': 'hmix', 'mixup': 0.0, 'cutmix': 1.0}, {}, ''),
        ({'mix_mode': 'stochastic'}, {'mixup': 0.0}, ''),
        ({}, {'mixup': 0.8, 'cutmix': 1.0}, ''),
        ({'cutmix_mode': 'hmix'}, {'mixup': 0.8, 'cutmix': 1.0}, ''),
    ],
)
def test_what_a_mode_replaces_is_said(typed, recipe, line):
    said = replaced_line(typed, recipe, resolve(typed, recipe))
    assert said == line


def test_a_family_of_ones_own_is_resolved_like_the_others(stripes):
    values = resolve({'mix_families': str(stripes), 'mix_mode': 'stripes', 'stripes_period': '4'}, {})
    assert values['mix_families'] == str(stripes) and values['cutmix'] == 0.7
    overrides = constructor_overrides(values)
    assert overrides['cutmix_mode'] == 'stripes' and overrides['stripes_period'] == 4
    assert isinstance(overrides['stripes_period'], int) and overrides['stripes_kind'] == 'hard'
    with pytest.raises(ValueError, match='--stripes-period must be a whole number'):
        resolve({}, {'mix_mode': 'stripes', 'stripes_period': 4.5})
    with pytest.raises(ValueError, match='--stripes-period is for --mix-mode stripes'):
        resolve({}, {'mix_mode': 'hmix', 'stripes_period': 4})


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.floats(-0.5, 3),
    st.sampled_from([math.nan, math.inf, 10**400, [], [0.2, 0.8], [0.2], ['a', 1], {}, {'a': 1}, b'', (0.1, 0.5)]),
    st.sampled_from(['', 'hmix', 'gmix', 'none', 'cutmix', 'bbox', '0.3', '1e-1', 'nan', 'paper', 'cifar100', 'true']),
    st.text(max_size=5),
)
KEYS = st.sampled_from([*(dest for dest in mix_dests() if dest != 'mix_families'), *TIMM_DEFAULTS, 'lr', 'hmix'])
# most values at all are refused: sound ones get further
SOUND = st.fixed_dictionaries(
    {},
    optional={
        'mix_mode': st.sampled_from(['none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix']),
        'cutmix_mode': st.sampled_from(['bbox', 'hmix', 'gmix']),
        'mix_preset': st.sampled_from(['imagenet', 'cifar100']),
        'mix_alpha': st.sampled_from([0.3, '2e-1', 2]),
        'mix_literal': st.booleans(),
        'hmix_ratio': st.sampled_from([0, 0.4, '1', None]),
        'hmix_gamma': st.sampled_from([0.5, '2', None]),
        'gmix_kernel': st.sampled_from(['paper', 'reference', None]),
        'mixup': st.sampled_from([0, 0.8, '0.1']),
        'cutmix': st.sampled_from([0, 1.0, '0.1']),
        'cutmix_minmax': st.sampled_from([None, [0.2, 0.8]]),
        'mixup_switch_prob': st.sampled_from([0, 0.3]),
    },
)
GIVEN = st.one_of(SOUND, SOUND, st.dictionaries(KEYS, ANYTHING, max_size=4))


def typed_of(values):
    """What of that can stand on a command line: nothing is None there, and a flag is on."""
    return {k: v for k, v in values.items() if v is not None and not (k == 'mix_literal' and v is False)}


@settings(max_examples=400, deadline=None)
@given(typed=GIVEN.map(typed_of), recipe=GIVEN)
def test_whatever_is_given_is_refused_or_makes_a_mixer(typed, recipe):
    """Plain values, the same when read back, and a mixer that mixes; or a ValueError."""
    try:
        values = resolve(typed, recipe)
    except ValueError:
        return
    assert resolve({}, values) == values
    assert yaml.safe_load(yaml.safe_dump(values)) == values
    overrides = constructor_overrides(values)
    timms = {'mixup_alpha': values['mixup'], 'cutmix_alpha': values['cutmix'], 'cutmix_minmax': values['cutmix_minmax']}
    if not any(timms.values()):
        assert values['mix_mode'] in (None, 'none')
        return
    mixer = Mixup(**{**timms, 'switch_prob': values['mixup_switch_prob'], **overrides, 'num_classes': 2})
    images, target = mixer(torch.rand(4, 1, 6, 5), torch.tensor([0, 1, 0, 1]))
    assert torch.isfinite(images).all() and torch.isfinite(target).all()


@settings(max_examples=200, deadline=None)
@given(recipe=SOUND)
def test_the_same_mixer_from_a_recipe_and_from_a_command_line(recipe):
    def made(*given):
        try:
            return constructor_overrides(resolve(*given))
        except ValueError:
            return None

    chosen = [dest for dest in ('mix_mode', 'cutmix_mode') if dest in recipe]
    if chosen:  # without one an option on the command line is refused, and a recipe's waits for a mode
        assert made(typed_of(recipe), {}) == made({}, recipe)


@pytest.mark.parametrize('mode', ['hmix', 'cutmix', 'gmix'])
def test_literal_label_weights_are_the_drawn_lambda(mode):
    overrides = constructor_overrides(resolve({'mix_mode': mode, 'mix_literal': True}, {}))
    mixer = FastCollateMixup(**overrides, num_classes=2, label_smoothing=0.0)
    batch = [(np.zeros((1, 9, 7), np.uint8), i) for i in (0, 1)]
    for seed in range(20):
        np.random.seed(seed)
        target = mixer(batch)[1]
        np.random.seed(seed)
        np.random.rand()  # whether to mix
        assert target[0, 0] == pytest.approx(np.random.beta(1.0, 1.0), abs=1e-6)


# mode → what it reads of the group, beside the preset
USES = {
    'none': set(),
    'mixup': {'mix_alpha'},
    'cutmix': {'mix_alpha', 'mix_literal'},
    'stochastic': {'mix_alpha', 'mix_literal'},
    'hmix': {'mix_alpha', 'mix_literal', 'hmix_ratio', 'hmix_gamma'},
    'gmix': {'mix_alpha', 'mix_literal', 'gmix_kernel'},
    'puzzlemix': {'mix_alpha'},
}


@pytest.mark.parametrize('mode', USES)
def test_each_mode_reads_its_own_parameters(mode):
    asked = ('mix_alpha', 'mix_literal', 'hmix_ratio', 'hmix_gamma', 'gmix_kernel')
    assert {dest for dest in asked if mode_uses(mode, dest)} == USES[mode]
    assert mode_uses(mode, 'mix_preset')


def test_a_mode_that_needs_a_model_resolves_to_what_makes_scripts_expect_soft_targets():
    values = resolve({'mix_mode': 'puzzlemix', 'mix_alpha': '0.3'}, {'mixup': 0.8})
    assert {dest: values[dest] for dest in (*TIMM_DEFAULTS, 'mix_alpha', 'hmix_ratio')} == {
        'mixup': 0.0,
        'cutmix': 0.3,
        'cutmix_minmax': None,
        'mixup_switch_prob': 0.5,
        'mix_alpha': 0.3,
        'hmix_ratio': None,
    }
    with pytest.raises(ValueError, match=r'^--mix-mode puzzlemix asks the model in training what to keep'):
        constructor_overrides(values)


@pytest.mark.parametrize(
    ('typed', 'recipe', 'expected'),
    [
        # one of two options that replace each other, typed beside a recipe's other one
        ({'hmix_ratio': '0.4'}, {'mix_mode': 'hmix', 'hmix_gamma': 2}, {'hmix_ratio': 0.4, 'hmix_gamma': None}),
        ({'hmix_gamma': '2'}, {'mix_mode': 'hmix', 'hmix_ratio': 0.4}, {'hmix_ratio': None, 'hmix_gamma': 2.0}),
        # the recipe's mode beside its own mask's options, and the mask that the line names instead
        ({'cutmix_mode': 'gmix'}, {'cutmix': 1.0, 'hmix_ratio': 0.4}, {'gmix_kernel': 'reference', 'hmix_ratio': None}),
        ({'cutmix_mode': 'hmix'}, {'cutmix': 1.0, 'hmix_ratio': 0.4}, {'hmix_ratio': 0.4, 'mix_preset': 'imagenet'}),
        # another mode than the recipe's mask: the mask goes, and its options, but not the preset
        (
            {'mix_mode': 'hmix'},
            {'cutmix': 1.0, 'cutmix_mode': 'hmix', 'hmix_ratio': 0.4, 'mix_preset': 'cifar100'},
            {'cutmix_mode': None, 'hmix_ratio': 0.5, 'mix_preset': 'cifar100'},
        ),
        # the recipe's alpha beside a mode that the line names
        ({'mix_mode': 'mixup'}, {'mix_alpha': 0.25, 'mixup': 0.8}, {'mix_alpha': 0.25, 'mixup': 0.25}),
        ({'mix_mode': 'none'}, {'mix_alpha': 0.25}, {'mix_alpha': None}),
        # timm's options, as text and in a list
        ({}, {'cutmix_minmax': ['2e-1', 0.75]}, {'cutmix_minmax': [0.2, 0.75], 'mixup_switch_prob': 0.5}),
        ({'mixup': 0.25}, {'mixup': 0.75, 'mixup_switch_prob': '0.125'}, {'mixup': 0.25, 'mixup_switch_prob': 0.125}),
        ({}, {'mixup': None, 'cutmix': None}, {'mixup': 0.0, 'cutmix': 0.0}),
        # alpha of both slots is that of the mode
        ({'mix_mode': 'mixup', 'mix_preset': 'imagenet'}, {}, {'mix_alpha': 0.8}),
        ({'mix_mode': 'gmix', 'mix_preset': 'cifar100'}, {}, {'mix_alpha': 0.5}),
        ({'mix_mode': 'none'}, {}, {'mix_alpha': None, 'mix_preset': 'imagenet'}),
    ],
)
def test_what_a_command_line_leaves_of_a_recipe(typed, recipe, expected):
    values = resolve(typed, recipe)
    assert {dest: values[dest] for dest in expected} == expected
    assert set(values) == {*mix_dests(), *TIMM_DEFAULTS}


@pytest.mark.parametrize(
    ('typed', 'recipe', 'says'),
    [
        ({'mix_alpha': '1'}, {}, r'--mix-alpha needs --mix-mode \(none, mixup, .*\) or --cutmix-mode$'),
        (
            {'mix_mode': 'hmix', 'hmix_gamma': '1', 'hmix_ratio': '1'},
            {},
            '--hmix-ratio has no effect beside --hmix-gamma: ',
        ),
        ({'mix_mode': 'cutmix', 'hmix_ratio': '1'}, {}, '--hmix-ratio is for --mix-mode hmix, not for cutmix$'),
        (
            {'mix_mode': 'none', 'mix_alpha': '1'},
            {},
            '--mix-alpha is for --mix-mode mixup or cutmix or stochastic or hmix or gmix or puzzlemix, not for none$',
        ),
        (
            {'cutmix_mode': 'bbox', 'gmix_kernel': 'paper'},
            {'cutmix': 1},
            '--gmix-kernel is for --cutmix-mode gmix, not for bbox$',
        ),
        (
            {'cutmix_mode': 'hmix', 'mix_alpha': '1'},
            {'cutmix': 1},
            '--mix-alpha is for --mix-mode; the Beta parameter beside',
        ),
        (
            {'cutmix_mode': 'hmix'},
            {'cutmix_minmax': [0.1, 0.2]},
            '--cutmix-minmax cannot go with --cutmix-mode hmix, whose',
        ),
        ({}, {'mixup': True}, '--mixup must be a number, got True$'),
        ({}, {'cutmix_minmax': [True, 1]}, '--cutmix-minmax must be a number, got True$'),
        ({}, {'mixup': math.nan}, '--mixup must be a finite number >= 0, got nan$'),
        ({'mix_families': 'nowhere.py'}, {}, '--mix-families nowhere.py: there is no such file$'),
        ({}, {'mix_families': 3}, '--mix-families must be the path of a Python file, got 3$'),
    ],
)
def test_the_message_names_the_option_and_what_it_is_for(typed, recipe, says):
    with pytest.raises(ValueError, match=f'^{says}'):
        resolve(typed, recipe)


def test_words_of_a_family_may_be_numbers_in_a_recipe(stripes):
    given = {'mix_families': str(stripes), 'mix_mode': 'stripes'}
    assert resolve({}, {**given, 'stripes_kind': 3})['stripes_kind'] == '3'
    assert resolve({}, {**given, 'stripes_period': '4'})['stripes_period'] == 4
    with pytest.raises(ValueError, match=r'^--stripes-kind must be text, got True'):
        resolve({}, {**given, 'stripes_kind': True})


def test_a_file_of_families_is_recorded_by_its_whole_path(stripes, monkeypatch):
    monkeypatch.chdir(stripes.parent)
    assert resolve({'mix_families': stripes.name}, {})['mix_families'] == str(stripes)
    assert resolve({}, {'mix_families': stripes.name})['mix_families'] == str(stripes)
    assert resolve({}, {})['mix_families'] is None


@pytest.mark.parametrize(
    ('chosen', 'expected'),
    [
        ({'mix_mode': 'mixup', 'mix_alpha': '0.25'}, {'mixup_alpha': 0.25, 'cutmix_alpha': 0.0, 'cutmix_mode': 'bbox'}),
        ({'mix_mode': 'cutmix', 'mix_literal': True}, {'cutmix_alpha': 1.0, 'correct_lam': False}),
        ({'mix_mode': 'hmix', 'hmix_gamma': '3'}, {'hmix_gamma': 3.0}),
        ({'mix_mode': 'gmix', 'gmix_kernel': 'paper'}, {'gmix_kernel': 'paper'}),
    ],
)
def test_arguments_of_a_constructor_are_those_that_have_an_effect(chosen, expected):
    overrides = constructor_overrides(resolve(chosen, {}))
    assert {name: overrides[name] for name in expected} == expected
    options = {name for name in overrides if name.startswith(('hmix_', 'gmix_'))}
    assert options == {name for name in expected if name.startswith(('hmix_', 'gmix_'))}
    assert ('correct_lam' in overrides) == ('mix_literal' in chosen)
