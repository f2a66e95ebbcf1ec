"""From arguments to a mixer: the same one in every command, and a message where there can be none."""

import argparse
import contextlib
import io
import shlex

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hmix_timm import FastCollateMixup, Mixup
from train_patch import preview
from train_patch.comparison.checks import resolve as ask_training
from train_patch.mixing import (
    check_mixing,
    in_options,
    mixer_arguments_from,
    mixing_active,
    needs_model,
    puzzle_mixer_from,
    remember_typed,
    resolve_parsed,
    slot_arguments_from,
)
from train_patch.trainer.arguments import parse_arguments

from .conftest import timm_like_parser


def described(args):
    if not mixing_active(args):
        return 'no mixer'
    return repr(FastCollateMixup(**{**mixer_arguments_from(args), 'num_classes': 10}))


def by_hmix_train(line, recipe):
    return parse_arguments([*line, '-c', recipe])[0]


def by_timms_script(line, recipe):
    with open(recipe) as file:
        parser = timm_like_parser(**yaml.safe_load(file))
    args = parser.parse_args(line, remember_typed())
    resolve_parsed(parser, args)
    return args


def by_hmix_preview(line, recipe):
    options, rest = preview.build_parser().parse_known_args([*line, '-c', recipe])
    return preview.parse_training(options, rest)


def by_hmix_compare(line, recipe):
    return argparse.Namespace(**ask_training(None, [[*line, '-c', recipe]])[0])


COMMANDS = [by_hmix_train, by_timms_script, by_hmix_preview, by_hmix_compare]


def ask(command, line, recipe):
    """The mixer in words, or that it is refused."""
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            return described(command(shlex.split(line), str(recipe)))
    except (ValueError, SystemExit):
        return 'refused'


CASES = [
    # (line, recipe, the mixer)
    ('--mix-mode hmix', {'mix_preset': None}, 'HMix(alpha=1, ratio=0.75)'),
    ('--mix-mode hmix', {'mix_mode': None, 'hmix_ratio': 0.3}, 'HMix(alpha=1, ratio=0.3)'),
    ('', {'mix_mode': 'gmix', 'mix_alpha': '1e-1'}, 'GMix(alpha=0.1, kernel=reference)'),
    ('', {'mix_mode': 'hmix', 'hmix_ratio': 0.3, 'hmix_gamma': 1}, 'refused'),
    ('', {'mix_mode': 'mixup', 'gmix_kernel': 'paper'}, 'refused'),
    ('--mix-mode hmix --mixup 0.8 --cutmix 0.3', {}, 'HMix(alpha=1, ratio=0.75)'),
    ('--mix-mode stochastic', {}, 'Mixup(alpha=1) | CutMix(alpha=1), switch_prob=0.5'),
    ('--cutmix-minmax 0.2 0.8', {}, 'CutMix(minmax=(0.2, 0.8))'),
    (
        '--cutmix-mode hmix',
        {'mixup': 0.8, 'cutmix': 1.0, 'mixup_switch_prob': 0.3},
        'Mixup(alpha=0.8) | HMix(alpha=1, ratio=0.75), switch_prob=0.3',
    ),
    ('--cutmix-mode gmix --cutmix 1 --mix-literal', {}, 'GMix(alpha=1, kernel=reference), correct_lam=False'),
    ('--cutmix-mode hmix --mix-mode hmix', {}, 'refused'),
    ('--cutmix-mode hmix', {'mixup': 0.8}, 'refused'),
    ('--mixup 0.2 --mixup-prob 2', {}, 'refused'),
    ('--mix-mode none', {'mixup': 0.2}, 'no mixer'),
]


@pytest.mark.parametrize('command', COMMANDS)
@pytest.mark.parametrize(('line', 'recipe', 'mixer'), CASES)
def test_every_command_makes_the_same_mixer(command, line, recipe, mixer, tmp_path):
    path = tmp_path / 'recipe.yaml'
    path.write_text(yaml.safe_dump(recipe))
    assert mixer in ask(command, line, path)


VALUES = {
    '--mix-mode': ['none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix', 'hmx'],
    '--cutmix-mode': ['bbox', 'hmix', 'gmix', 'cutmix'],
    '--mix-preset': ['imagenet', 'cifar100'],
    '--mix-alpha': ['0.5', '1e-1', '0', 'x'],
    '--hmix-ratio': ['0.3', '1', '2'],
    '--hmix-gamma': ['2', '0'],
    '--gmix-kernel': ['paper', 'reference'],
    '--mix-literal': [''],
    '--mixup': ['0', '0.8'],
    '--cutmix': ['0', '1.0', '3e-1'],
    '--cutmix-minmax': ['0.2 0.8', '0.2'],
    '--mixup-prob': ['0.7', '2'],
    '--mixup-switch-prob': ['0.2'],
    '--mixup-mode': ['elem', 'pair', 'half', 'each'],
    '--smoothing': ['0'],
}


def recipe_value(option, text):
    """As somebody writes it in YAML: numbers as numbers, but for those that YAML 1.1 reads as text."""
    if option == '--mix-literal':
        return True
    if option == '--cutmix-minmax':
        return [float(word) for word in text.split()]
    return yaml.safe_load(text)


OPTIONS = st.lists(st.sampled_from(list(VALUES)), unique=True, max_size=4).flatmap(
    lambda names: st.fixed_dictionaries({name: st.sampled_from(VALUES[name]) for name in names})
)


@settings(max_examples=40, deadline=None)
@given(typed=OPTIONS, recipe=OPTIONS)
def test_every_command_makes_the_same_mixer_of_anything(typed, recipe, tmp_path_factory):
    path = tmp_path_factory.mktemp('recipes') / 'recipe.yaml'
    settings_of_recipe = {option[2:].replace('-', '_'): recipe_value(option, text) for option, text in recipe.items()}
    path.write_text(yaml.safe_dump(settings_of_recipe))
    line = ' '.join(f'{option} {text}' for option, text in typed.items())
    assert len({ask(command, line, path) for command in COMMANDS}) == 1


def test_a_family_of_ones_own_is_known_to_every_command(stripes, tmp_path):
    path = tmp_path / 'recipe.yaml'
    path.write_text(yaml.safe_dump({'mix_families': str(stripes), 'mix_mode': 'stripes', 'stripes_period': 4}))
    answers = {ask(command, '', path) for command in COMMANDS if command is not by_timms_script}
    assert len(answers) == 1
    assert 'Stripes(alpha=0.7, period=4, kind=hard)' in answers.pop()


def test_other_settings_of_mixing_are_left_alone(parse):
    args = parse('--mix-mode gmix', mixup_prob=0.7, mixup_mode='elem', smoothing=0.05)
    mixer = repr(Mixup(**{**mixer_arguments_from(args), 'num_classes': 10}))
    assert 'mode=elem, prob=0.7, label_smoothing=0.05' in mixer


@pytest.mark.parametrize(
    ('line', 'recipe', 'says'),
    [
        ('--mix-mode hmix --mixup-prob 2', {}, ['--mixup-prob', '2', 'between 0 and 1']),
        ('--mix-mode hmix --mixup-mode each', {}, ['--mixup-mode', 'each', 'batch, pair, elem']),
        ('--mixup 0.2', {'smoothing': float('nan')}, ['--smoothing', 'nan']),
        ('--mixup 0.2 --cutmix 1 --mixup-switch-prob 7', {}, ['--mixup-switch-prob', '7']),
        ('--mix-mode hmix --aug-splits 3', {}, ['--aug-splits', 'mixing']),
        ('--mixup 0.2 --jsd-loss --aug-splits 3', {}, ['--jsd-loss', 'mixing']),
        ('--mix-mode hmix --mixup-prob 2', {'naflex_loader': True}, ['--mixup-prob']),
        ('--cutmix-minmax 0.2 0.8', {'naflex_loader': True}, ['--cutmix-minmax', '--naflex-loader']),
        ('--mixup 1 --mixup-mode elem', {'naflex_loader': True}, ['--mixup-mode', '--naflex-loader']),
        ('--mix-mode hmix --mix-literal', {'naflex_loader': True}, ['--mix-literal', '--naflex-loader']),
    ],
)
def test_what_no_mixer_can_be_made_of_is_refused(parse, line, recipe, says):
    with pytest.raises(ValueError) as error:
        parse(line, **recipe)
    for part in says:
        assert part in str(error.value)


def test_the_naflex_loader_takes_masks_of_the_slot(parse):
    assert parse('--mix-mode hmix', naflex_loader=True).cutmix == 1.0


def test_augmentation_splits_without_mixing_pass(parse):
    assert parse('--mix-mode none --aug-splits 3 --jsd-loss', mixup=0.2).mixup == 0.0


def resolved(**changes):
    """Arguments as a script of an old timm leaves them: it has no augmentation splits and no NaFlex."""
    # fmt: off
    args = dict(
        mixup=0.0, cutmix=0.0, cutmix_minmax=None, mixup_switch_prob=0.25, mixup_prob=0.75, mixup_mode='elem',
        smoothing=0.125, num_classes=None, mix_mode=None, cutmix_mode=None, mix_preset=None, mix_alpha=None,
        mix_literal=False, hmix_ratio=None, hmix_gamma=None, gmix_kernel=None,
    )
    # fmt: on
    return argparse.Namespace(**{**args, **changes})


@pytest.mark.parametrize(
    ('changes', 'active'),
    [({}, False), ({'mixup': 0.1}, True), ({'cutmix': 0.1}, True), ({'cutmix_minmax': [0.2, 0.8]}, True)],
)
def test_a_mixer_is_built_where_one_of_timms_options_asks_for_it(changes, active):
    assert mixing_active(resolved(**changes)) == active


@pytest.mark.parametrize(('mode', 'asks'), [(None, False), ('none', False), ('hmix', False), ('puzzlemix', True)])
def test_puzzlemix_alone_asks_the_model(mode, asks):
    assert needs_model({'mix_mode': mode}) is asks


def test_without_the_group_nothing_asks_the_model():
    assert needs_model({}) is False


@pytest.mark.parametrize(
    ('changes', 'slot'),
    [
        ({}, {}),
        ({'mix_mode': 'gmix', 'mix_preset': 'imagenet', 'gmix_kernel': 'paper'}, {'gmix_kernel': 'paper'}),
        ({'cutmix_mode': 'hmix', 'hmix_gamma': 2.0}, {'cutmix_mode': 'hmix', 'hmix_gamma': 2.0}),
        ({'cutmix_mode': 'bbox', 'mix_literal': True}, {'cutmix_mode': 'bbox', 'correct_lam': False}),
    ],
)
def test_a_mixer_is_made_of_timms_arguments_and_of_the_slots(changes, slot):
    args = resolved(mixup=0.5, cutmix=2.0, num_classes=7, **changes)
    if args.mix_mode:
        slot = {'cutmix_mode': args.mix_mode, **slot}
    assert slot_arguments_from(args) == slot
    assert mixer_arguments_from(args) == {
        'mixup_alpha': 0.5,
        'cutmix_alpha': 2.0,
        'cutmix_minmax': None,
        'switch_prob': 0.25,
        'prob': 0.75,
        'mode': 'elem',
        'label_smoothing': 0.125,
        'num_classes': 7,
        **slot,
    }


def test_a_script_without_augmentation_splits_is_no_obstacle():
    check_mixing(resolved(mixup=0.5))
    check_mixing(resolved(mixup=0.5, aug_splits=0, jsd_loss=False, naflex_loader=False))


@pytest.mark.parametrize(
    ('changes', 'option'),
    [
        ({'aug_splits': 2}, '--aug-splits 2 compares'),
        ({'aug_splits': 2, 'jsd_loss': False}, '--aug-splits 2 compares'),
        ({'jsd_loss': True}, '--jsd-loss compares'),
        ({'jsd_loss': True, 'aug_splits': 2}, '--jsd-loss compares'),
        (
            {'cutmix_minmax': [0.2, 0.8], 'naflex_loader': True},
            r'--cutmix-minmax \[0.2, 0.8\] cannot go with --naflex-loader, which takes --cutmix$',
        ),
        ({'naflex_loader': True}, "--mixup-mode must be batch with --naflex-loader, got 'elem'$"),
        ({'mixup_switch_prob': 2}, '--mixup-switch-prob must be'),
        ({'smoothing': 2}, '--smoothing must be'),
        ({'mixup_mode': 'each'}, '--mixup-mode must be one of'),
    ],
)
def test_the_option_that_is_in_the_way_is_named(changes, option):
    with pytest.raises(ValueError, match=f'^{option}'):
        check_mixing(resolved(mixup=0.5, **changes))


def test_nothing_is_in_the_way_of_no_mixing():
    check_mixing(resolved(aug_splits=3, jsd_loss=True, smoothing=7))


def test_naflex_has_a_mixer_of_its_own():
    check_mixing(resolved(mixup=0.5, mixup_mode='batch', naflex_loader=True))
    with pytest.raises(ValueError, match=r'^--mixup-prob must be'):
        check_mixing(resolved(mixup=0.5, mixup_mode='batch', naflex_loader=True, mixup_prob=-1))


def puzzlemix(**changes):
    return resolved(
        **{'mix_mode': 'puzzlemix', 'mix_preset': 'cifar100', 'mixup_mode': 'batch', 'cutmix': 1.0, **changes}
    )


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'kd_model_name': 'resnet18'},
        {'kd_distill_type': 'feature'},
        {'kd_model_name': '', 'kd_distill_type': 'feature'},
    ],
)
def test_puzzlemix_goes_with_what_has_scores(changes):
    check_mixing(puzzlemix(**changes))


@pytest.mark.parametrize(
    ('changes', 'says'),
    [
        ({'naflex_loader': True}, '--mix-mode puzzlemix cannot go with --naflex-loader: it cuts images of one size'),
        ({'mixup_mode': 'pair'}, "--mixup-mode must be batch with --mix-mode puzzlemix, got 'pair'"),
        (
            {'kd_model_name': 'a', 'kd_distill_type': 'feature'},
            '--mix-mode puzzlemix cannot go with --kd-distill-type feature',
        ),
        ({'aug_splits': 3}, '--aug-splits 3 compares'),
    ],
)
def test_what_puzzlemix_cannot_go_with_is_named(changes, says):
    with pytest.raises(ValueError, match=f'^{says}'):
        check_mixing(puzzlemix(**changes))


@pytest.mark.parametrize(
    ('argument', 'option'),
    [
        ('mixup_alpha', '--mixup'),
        ('cutmix_alpha', '--cutmix'),
        ('cutmix_minmax', '--cutmix-minmax'),
        ('switch_prob', '--mixup-switch-prob'),
        ('prob', '--mixup-prob'),
        ('mode', '--mixup-mode'),
        ('label_smoothing', '--smoothing'),
        ('num_classes', '--num-classes'),
        ('hmix_ratio', '--hmix-ratio'),
    ],
)
def test_a_mixers_complaint_is_said_in_options(argument, option):
    assert (
        in_options(ValueError(f'{argument} must be something else, got 3')) == f'{option} must be something else, got 3'
    )


def test_a_puzzle_mixer_of_another_class_gets_the_same_arguments():
    args = puzzlemix(mix_alpha=0.5, num_classes=7)
    given = puzzle_mixer_from(args, 'saliency', (0.5,), lambda *values, **more: (values, more))
    assert given == (
        ('saliency',),
        {
            'alpha': 0.5,
            'beta': 1.2,
            'gamma': 0.5,
            'eta': 0.2,
            'neigh_size': 4,
            't_eps': 0.8,
            't_size': 4,
            'prob': 0.75,
            'label_smoothing': 0.125,
            'num_classes': 7,
            'std': (0.5,),
        },
    )
