"""The rule: what every mode resolves to, what beats what, what is refused; and anything at all as input."""

import math
from argparse import Namespace
from dataclasses import replace

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hmix_timm import FastCollateMixup, Mixup
from train_patch.mixing import mixing_keys, resolve, share_options, side_by_side
from train_patch.mixing.asked import check_mixing, option_name

TIMMS = ('mixup', 'cutmix', 'cutmix_minmax', 'mixup_switch_prob')

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
    values = (resolve(chosen, own) if source == 'line' else resolve({}, {**own, **chosen})).values
    mixup, cutmix, ratio = PAPER[preset, mode]
    assert [values[dest] for dest in TIMMS] == [mixup, cutmix, None, 0.5]
    assert values['hmix_ratio'] == ratio
    assert values['gmix_kernel'] == ('reference' if mode == 'gmix' else None)


HMIX = {'mix_mode': 'hmix', 'mix_alpha': 0.3, 'hmix_ratio': 0.2, 'mix_preset': 'cifar100', 'mix_literal': True}
DEIT = {'mixup': 0.8, 'cutmix': 1.0, 'mixup_switch_prob': 0.5}


@pytest.mark.parametrize(
    ('typed', 'recipe', 'expected'),
    [
        # without a mode timm's options hold, the command line before the recipe; text becomes numbers (YAML's 1e-1)
        ({}, {}, {'mix_mode': None, 'mixup': 0.0, 'cutmix': 0.0, 'cutmix_minmax': None, 'mixup_switch_prob': 0.5}),
        ({'mixup': 0.2}, {'mixup': 0.7, 'cutmix': '3e-1', 'lr': 0.1}, {'mixup': 0.2, 'cutmix': 0.3}),
        ({}, {'cutmix_minmax': ['2e-1', 0.75]}, {'cutmix_minmax': [0.2, 0.75], 'mix_preset': None}),
        # parameters of a mode
        ({'mix_mode': 'hmix'}, {}, {'mix_preset': 'imagenet', 'mix_alpha': 1.0}),
        ({'mix_mode': 'mixup', 'mix_alpha': '0.3'}, {}, {'mixup': 0.3, 'cutmix': 0.0}),
        ({'mix_mode': 'stochastic', 'mix_alpha': '0.3'}, {}, {'mixup': 0.3, 'cutmix': 0.3}),
        ({'mix_mode': 'hmix', 'hmix_ratio': '0'}, {}, {'cutmix': 1.0, 'hmix_ratio': 0.0, 'hmix_gamma': None}),
        ({'mix_mode': 'hmix', 'hmix_gamma': '2'}, {}, {'hmix_ratio': None, 'hmix_gamma': 2.0}),
        ({'mix_mode': 'gmix', 'gmix_kernel': 'paper', 'mix_alpha': '2'}, {}, {'gmix_kernel': 'paper', 'cutmix': 2.0}),
        ({}, {'mix_mode': 'hmix', 'mix_alpha': '1e-1'}, {'cutmix': 0.1}),
        ({'mix_mode': 'puzzlemix', 'mix_alpha': '0.3'}, {'mixup': 0.8}, {'mixup': 0.0, 'cutmix': 0.3}),
        # None is not given, as in the args.yaml of a run without a mode
        ({'mix_mode': 'hmix'}, {'mix_preset': None, 'hmix_ratio': None}, {'hmix_ratio': 0.75}),
        ({'mix_mode': 'hmix'}, {'mix_mode': None, 'hmix_ratio': 0.3}, {'hmix_ratio': 0.3}),
        # the command line beats the recipe
        ({'hmix_ratio': '0.9'}, HMIX, {'hmix_ratio': 0.9, 'cutmix': 0.3, 'mix_literal': True}),
        ({'mix_mode': 'hmix'}, HMIX, {'hmix_ratio': 0.2, 'cutmix': 0.3, 'mix_literal': True}),
        ({'hmix_gamma': '1'}, HMIX, {'hmix_gamma': 1.0, 'hmix_ratio': None}),
        ({'hmix_ratio': '0.4'}, {'mix_mode': 'hmix', 'hmix_gamma': 2}, {'hmix_ratio': 0.4, 'hmix_gamma': None}),
        ({'mix_mode': 'none'}, HMIX, {'mixup': 0.0, 'cutmix': 0.0, 'mix_alpha': None}),
        # another mode leaves the parameters of the recipe's mode or mask behind, but for the preset
        (
            {'mix_mode': 'gmix'},
            HMIX,
            {'cutmix': 0.5, 'hmix_ratio': None, 'mix_literal': False, 'mix_preset': 'cifar100'},
        ),
        (
            {'mix_mode': 'hmix'},
            {'cutmix': 1.0, 'cutmix_mode': 'hmix', 'hmix_ratio': 0.4, 'mix_preset': 'cifar100'},
            {'cutmix_mode': None, 'hmix_ratio': 0.5},
        ),
        ({'cutmix_mode': 'gmix'}, {**DEIT, 'cutmix_mode': 'hmix', 'hmix_ratio': 0.4}, {'hmix_ratio': None}),
        # a recipe without a mode serves every mode
        ({'mix_mode': 'hmix'}, {'hmix_ratio': 0.3, 'gmix_kernel': 'paper'}, {'hmix_ratio': 0.3, 'gmix_kernel': None}),
        ({'mix_mode': 'gmix'}, {'hmix_ratio': 0.3, 'gmix_kernel': 'paper'}, {'gmix_kernel': 'paper'}),
        ({'mix_mode': 'mixup'}, {'mix_preset': 'cifar100', 'hmix_ratio': 0.3}, {'mixup': 1.0}),
        ({'mix_mode': 'mixup'}, {'mix_alpha': 0.25, 'mixup': 0.8}, {'mix_alpha': 0.25, 'mixup': 0.25}),
        ({'cutmix_mode': 'hmix'}, {**DEIT, 'hmix_ratio': 0.4, 'gmix_kernel': 'paper'}, {'hmix_ratio': 0.4, **DEIT}),
    ],
)
def test_what_a_command_line_and_a_recipe_resolve_to(typed, recipe, expected):
    values = resolve(typed, recipe).values
    assert {dest: values[dest] for dest in expected} == expected
    assert set(values) == set(mixing_keys())


@pytest.mark.parametrize(
    ('chosen', 'overrides'),
    [
        ({}, {}),
        (
            {'mix_mode': 'none'},
            {'mixup_alpha': 1.0, 'cutmix_alpha': 0.0, 'cutmix_minmax': None, 'prob': 0.0, 'cutmix_mode': 'bbox'},
        ),
        ({'mix_mode': 'mixup', 'mix_alpha': '0.4'}, {'mixup_alpha': 0.4, 'cutmix_alpha': 0.0, 'cutmix_mode': 'bbox'}),
        ({'mix_mode': 'stochastic', 'mix_alpha': '0.4'}, {'mixup_alpha': 0.4, 'cutmix_alpha': 0.4, 'switch_prob': 0.5}),
        ({'mix_mode': 'cutmix', 'mix_literal': True}, {'cutmix_alpha': 1.0, 'correct_lam': False}),
        ({'mix_mode': 'hmix'}, {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_ratio': 0.75}),
        ({'mix_mode': 'hmix', 'hmix_gamma': '3'}, {'cutmix_mode': 'hmix', 'hmix_gamma': 3.0}),
        ({'mix_mode': 'gmix', 'gmix_kernel': 'paper'}, {'cutmix_mode': 'gmix', 'gmix_kernel': 'paper'}),
        ({'cutmix_mode': 'bbox'}, {'cutmix_mode': 'bbox'}),
        ({'cutmix_mode': 'gmix'}, {'cutmix_mode': 'gmix', 'gmix_kernel': 'reference'}),
        ({'cutmix_mode': 'hmix', 'mix_preset': 'cifar100'}, {'cutmix_mode': 'hmix', 'hmix_ratio': 0.5}),
        (
            {'cutmix_mode': 'hmix', 'hmix_gamma': '2', 'mix_literal': True},
            {'cutmix_mode': 'hmix', 'hmix_gamma': 2.0, 'correct_lam': False},
        ),
    ],
)
def test_arguments_that_replace_a_scripts(chosen, overrides):
    """Of a script whose options are not timm's, too: nothing is asked of those."""
    ours = resolve(chosen, {}).overrides
    assert {name: ours[name] for name in overrides} == overrides
    assert {name for name in ours if name.startswith(('hmix_', 'gmix_', 'correct'))} <= overrides.keys()
    assert ('mixup_alpha' in ours) == ('mix_mode' in chosen)  # a mask alone leaves alphas and switch alone
    Mixup(**{'mixup_alpha': 0.2, 'cutmix_alpha': 0.3, **ours})


@pytest.mark.parametrize(
    ('typed', 'recipe', 'line'),
    [
        (
            {'mix_mode': 'hmix', 'mixup': 0.8, 'cutmix': 0.3, 'mixup_switch_prob': 0.9},
            {},
            '--mix-mode hmix: --mixup 0.8, --cutmix 0.3, --mixup-switch-prob 0.9',
        ),
        ({'mix_mode': 'hmix', 'mixup': 0.3}, {'mixup': 0.8}, '--mix-mode hmix: --mixup 0.3'),
        ({}, {'mix_mode': 'mixup', 'cutmix': '1e-1'}, '--mix-mode mixup: --cutmix 1e-1'),
        (
            {'mix_mode': 'none'},
            {'cutmix_minmax': [0.2, 0.7], 'cutmix_mode': 'gmix', 'cutmix': 0.5, 'mixup': None},
            '--mix-mode none: --cutmix 0.5, --cutmix-minmax 0.2 0.7, --cutmix-mode gmix',
        ),
        # what would be the same anyway is not replaced
        ({'mix_mode': 'hmix', 'mixup': 0.0, 'cutmix': 1.0}, {'cutmix_minmax': None, 'mixup_switch_prob': 0.5}, ''),
        ({'mix_mode': 'stochastic'}, {'mixup': 0.0}, ''),
        ({}, DEIT, ''),
        ({'cutmix_mode': 'hmix'}, DEIT, ''),
    ],
)
def test_what_a_mode_replaces_is_said(typed, recipe, line):
    assert resolve(typed, recipe).replaced == (f'replaced by {line}' if line else '')


@pytest.mark.parametrize(
    ('typed', 'recipe', 'says'),
    [
        ({'mix_mode': 'hmx'}, {}, "--mix-mode must be one of none, mixup, .*hmix.*, got 'hmx'$"),
        ({}, {'mix_mode': 'hmx'}, "--mix-mode must be one of none, mixup, .*hmix.*, got 'hmx'$"),
        ({}, {'mix_mode': 'hmix', 'mix_preset': 'cifar10'}, '--mix-preset must be one of imagenet, cifar100, got'),
        ({'cutmix_mode': 'cutmix'}, DEIT, "--cutmix-mode must be one of bbox, hmix, gmix, .*, got 'cutmix'"),
        (
            {},
            {'mix_mode': 'gmix', 'gmix_kernel': 'gauss'},
            '--gmix-kernel must be one of reference, paper, got',
        ),
        ({'mix_mode': 'hmix', 'mix_alpha': '0'}, {}, '--mix-alpha must be a finite number > 0, got 0'),
        ({'mix_mode': 'hmix', 'mix_alpha': 'nan'}, {}, '--mix-alpha must be .* got nan'),
        ({}, {'mix_mode': 'hmix', 'mix_alpha': 10**400}, '--mix-alpha must be a number'),
        ({'mix_mode': 'hmix', 'hmix_ratio': '1.5'}, {}, '--hmix-ratio must be .*between 0 and 1, got 1.5'),
        ({}, {'mix_mode': 'hmix', 'hmix_ratio': 'much'}, "--hmix-ratio must be a number, got 'much'"),
        ({}, {'mix_mode': 'hmix', 'hmix_ratio': True}, '--hmix-ratio must be a number, got True'),
        ({'mix_mode': 'hmix', 'hmix_gamma': '0'}, {}, '--hmix-gamma must be .*> 0'),
        ({}, {'mix_mode': 'hmix', 'mix_literal': 'yes'}, "--mix-literal must be true or false, got 'yes'"),
        ({}, {'mixup': True}, '--mixup must be a number, got True$'),
        ({'mixup': -1.0}, {}, '--mixup must be a finite number >= 0, got -1.0'),
        ({}, {'mixup': 1, 'mixup_switch_prob': 2}, '--mixup-switch-prob must be .*between 0 and 1, got 2'),
        ({'cutmix': '-0.5'}, {}, '--cutmix must be a finite number >= 0, got -0.5'),
        ({}, {'mixup_switch_prob': -0.5}, '--mixup-switch-prob must be .*between 0 and 1, got -0.5'),
        ({'cutmix_minmax': [0.5]}, {}, r'--cutmix-minmax must be .*got \[0.5\]'),
        ({}, {'cutmix_minmax': 0.5}, '--cutmix-minmax must be .*got 0.5'),
        ({}, {'cutmix_minmax': [True, 1]}, '--cutmix-minmax must be a number, got True$'),
        ({'mix_families': 'nowhere.py'}, {}, '--mix-families nowhere.py: there is no such file$'),
        ({}, {'mix_families': 3}, '--mix-families .*int'),
        # values without effect
        ({'mix_alpha': '1'}, {}, r'--mix-alpha needs --mix-mode \(none, mixup, .*\) or --cutmix-mode$'),
        ({'mix_preset': 'cifar100'}, {'mixup': 0.2}, '--mix-preset needs --mix-mode'),
        ({'mix_mode': 'cutmix', 'hmix_ratio': '1'}, {}, '--hmix-ratio is for --mix-mode hmix, not for cutmix$'),
        ({}, {'mix_mode': 'mixup', 'gmix_kernel': 'paper'}, '--gmix-kernel is for --mix-mode gmix, not for mixup$'),
        (
            {'mix_mode': 'none', 'mix_alpha': '1'},
            {},
            '--mix-alpha is for --mix-mode mixup or cutmix or stochastic or hmix .* or puzzlemix, not for none$',
        ),
        (
            {'mix_mode': 'mixup', 'mix_literal': True},
            {},
            '--mix-literal is for --mix-mode cutmix or .*, not for',
        ),
        ({'mix_mode': 'puzzlemix', 'hmix_ratio': '0.5'}, {}, '--hmix-ratio is for --mix-mode hmix, not for puzzlemix'),
        (
            {'mix_mode': 'hmix', 'hmix_gamma': '1', 'hmix_ratio': '1'},
            {},
            '--hmix-ratio has no effect beside --hmix-',
        ),
        (
            {},
            {'mix_mode': 'hmix', 'hmix_gamma': 1, 'hmix_ratio': 0.5},
            '--hmix-ratio has no effect beside --hmix-gam',
        ),
        (
            {'cutmix_mode': 'bbox', 'gmix_kernel': 'paper'},
            DEIT,
            '--gmix-kernel is for --cutmix-mode gmix, not for',
        ),
        ({'cutmix_mode': 'hmix', 'mix_alpha': '1'}, DEIT, r'--mix-alpha is for --mix-mode \(.*--cutmix\)'),
        ({'cutmix_mode': 'hmix', 'mix_mode': 'hmix'}, {}, '--cutmix-mode hmix changes .* and --mix-mode hmix replaces'),
        ({'cutmix_mode': 'hmix'}, {'mix_mode': 'gmix'}, '--cutmix-mode hmix changes .* and --mix-mode gmix replaces'),
    ],
)
def test_wrong_values_and_values_without_effect_are_refused_by_name(typed, recipe, says):
    with pytest.raises(ValueError, match=f'^{says}'):
        resolve(typed, recipe)


def test_several_modes_share_the_options_that_they_read():
    typed = {'mix_alpha': '0.3', 'hmix_ratio': '0.5'}
    shared = share_options(typed, 'mix_mode', ['none', 'cutmix', 'hmix'], '--modes')
    assert shared == {'none': {}, 'cutmix': {'mix_alpha': '0.3'}, 'hmix': typed}
    with pytest.raises(ValueError, match=r'^--hmix-ratio has no effect on any of --modes cutmix gmix$'):
        share_options(typed, 'mix_mode', ['cutmix', 'gmix'], '--modes')


def test_each_mix_mode_takes_the_parameters_of_the_run_that_trained_it():
    """Typed options go before those of a run's args.yaml, and those before a preset."""
    hmix = {'mix_mode': 'hmix', 'mix_preset': 'imagenet', 'hmix_ratio': 0.3, 'mix_alpha': 0.4}
    gmix = {'mix_mode': 'gmix', 'mix_alpha': 2.0, 'mix_literal': True}
    names = ['hmix', 'gmix', 'mixup']

    def found(typed, *recipes):
        mixings = side_by_side(typed, names, '--modes', recipes, 'cifar100').values()
        return [(m.values['mix_alpha'], m.values['hmix_ratio'], m.values['mix_literal']) for m in mixings]

    assert found({}) == [(1.0, 0.5, False), (0.5, None, False), (1.0, None, False)]
    assert found({}, hmix, gmix) == [(0.4, 0.3, False), (2.0, None, True), (0.8, None, False)]
    assert found({'hmix_ratio': '0.9'}, gmix, hmix)[0] == (0.4, 0.9, False)
    assert found({'mix_alpha': '3'}, hmix, {**hmix, 'mix_alpha': 5.0})[0] == (3.0, 0.3, False)
    with pytest.raises(ValueError, match='the recipes of hmix have more than one hmix_ratio: give --hmix-ratio, or'):
        found({}, hmix, {**hmix, 'hmix_ratio': 0.6})
    with pytest.raises(ValueError, match='--gmix-kernel has no effect on any of --modes hmix'):
        side_by_side({'gmix_kernel': 'paper'}, ['hmix'], '--modes')


def test_a_family_of_ones_own_is_resolved_like_the_others(stripes, monkeypatch):
    monkeypatch.chdir(stripes.parent)
    mixing = resolve({'mix_families': stripes.name, 'mix_mode': 'stripes', 'stripes_period': '4'}, {})
    # its file is recorded by the whole path, since args.yaml may be read back from elsewhere
    assert (mixing.values['mix_families'], mixing.values['cutmix']) == (str(stripes), 0.7)
    assert mixing.mask == {'cutmix_mode': 'stripes', 'stripes_period': 4, 'stripes_kind': 'hard'}
    assert isinstance(mixing.mask['stripes_period'], int)
    assert resolve({}, {'mix_mode': 'stripes', 'stripes_kind': 3}).values['stripes_kind'] == '3'
    for wrong, says in [
        ({'mix_mode': 'stripes', 'stripes_period': 4.5}, '--stripes-period must be a whole number'),
        ({'mix_mode': 'stripes', 'stripes_kind': True}, '--stripes-kind must be text, got True'),
        ({'mix_mode': 'hmix', 'stripes_period': 4}, '--stripes-period is for --mix-mode stripes'),
    ]:
        with pytest.raises(ValueError, match=says):
            resolve({}, wrong)


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.floats(-0.5, 3),
    st.sampled_from([math.nan, math.inf, 10**400, [], [0.2, 0.8], [0.2], ['a', 1], {}, {'a': 1}, b'', (0.1, 0.5)]),
    st.sampled_from(['', 'hmix', 'gmix', 'none', 'cutmix', 'bbox', '0.3', '1e-1', 'nan', 'paper', 'cifar100', 'true']),
    st.text(max_size=5),
)
KEYS = st.sampled_from([*(dest for dest in mixing_keys() if dest != 'mix_families'), 'lr', 'hmix'])
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
    """The part that can stand on a command line: nothing is None there, and a flag is on."""
    return {k: v for k, v in values.items() if v is not None and not (k == 'mix_literal' and v is False)}


@settings(max_examples=80, deadline=None)
@given(typed=GIVEN.map(typed_of), recipe=GIVEN)
def test_whatever_is_given_is_refused_or_makes_a_mixer(typed, recipe):
    """Plain values, the same when read back, and a mixer that mixes; or a ValueError."""
    try:
        mixing = resolve(typed, recipe)
        check_mixing(replace(mixing, kept={'mode': 'batch'}), Namespace())
    except ValueError:
        return
    again = resolve({}, yaml.safe_load(yaml.safe_dump(mixing.values)))
    assert (again.values, again.overrides) == (mixing.values, mixing.overrides)
    if not mixing.active:
        assert mixing.mode in (None, 'none')
        return
    mixer = mixing.mixer(Mixup, num_classes=2)
    images, target = mixer(torch.rand(4, 1, 6, 5), torch.tensor([0, 1, 0, 1]))
    assert torch.isfinite(images).all() and torch.isfinite(target).all()


@settings(max_examples=100, deadline=None)
@given(recipe=SOUND)
def test_the_same_mixer_from_a_recipe_and_from_a_command_line(recipe):
    def made(*given):
        try:
            return resolve(*given).overrides
        except ValueError:
            return None

    chosen = [dest for dest in ('mix_mode', 'cutmix_mode') if dest in recipe]
    if chosen:  # without one an option on the command line is refused, and a recipe's waits for a mode
        assert made(typed_of(recipe), {}) == made({}, recipe)


@pytest.mark.parametrize('mode', ['hmix', 'cutmix', 'gmix'])
def test_literal_label_weights_are_the_drawn_lambda(mode):
    mixer = FastCollateMixup(
        **resolve({'mix_mode': mode, 'mix_literal': True}, {}).overrides, num_classes=2, label_smoothing=0.0
    )
    batch = [(np.zeros((1, 9, 7), np.uint8), i) for i in (0, 1)]
    for seed in range(20):
        np.random.seed(seed)
        target = mixer(batch)[1]
        np.random.seed(seed)
        np.random.rand()  # whether to mix
        assert target[0, 0] == pytest.approx(np.random.beta(1.0, 1.0), abs=1e-6)


def test_what_names_lam_is_refused_for_a_family_that_draws_none(stripes):
    stripes.write_text(stripes.read_text().replace('alpha=0.7', 'alpha=None').replace('< lam', '< 0.5'))
    chosen = {'mix_mode': 'stripes', 'mix_families': str(stripes)}
    mixing = resolve(chosen, {})
    assert (mixing.values['mix_alpha'], mixing.values['cutmix']) == (None, 1.0)
    assert resolve({}, mixing.values).values == mixing.values, 'as it is recorded'
    assert repr(mixing.mixer(Mixup, 2)).startswith('Mixup(Stripes(period=8, kind=hard), ')
    for name, value in (('mix_alpha', 1.0), ('mix_literal', True)):
        with pytest.raises(ValueError, match=rf'^{option_name(name)} is for --mix-mode .*, not for stripes$'):
            resolve({**chosen, name: value}, {})
    with pytest.raises(ValueError, match=r'^--mix-literal is for --cutmix-mode bbox or hmix .*, not for stripes$'):
        resolve({'cutmix_mode': 'stripes', 'mix_families': str(stripes), 'mix_literal': True}, {'cutmix': 0.5})
