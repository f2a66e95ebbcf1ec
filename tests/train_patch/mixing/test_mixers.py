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
from train_patch.mixing import mixer_arguments_from, mixing_active, remember_typed, resolve_parsed
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
