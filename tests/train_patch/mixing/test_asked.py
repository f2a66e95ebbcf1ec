"""From arguments to a mixer: the same one in every command, and a message where there can be none."""

import contextlib
import io
import shlex
import sys

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from hmix_timm import FastCollateMixup, Mixup
from train_patch import preview
from train_patch.common.errors import RunError
from train_patch.comparison.training_arguments import resolve as ask_training
from train_patch.trainer.arguments import parse_arguments

from .conftest import read


def by_hmix_train(line, recipe):
    return parse_arguments([*line, '-c', recipe])[1]


def by_timms_script(line, recipe):
    with open(recipe) as file:
        return read(line, **yaml.safe_load(file))[1]


def by_hmix_preview(line, recipe):
    options, rest = preview.build_parser().parse_known_args([*line, '-c', recipe])
    return preview.parse_training(options, rest, recipe)[1]


def by_hmix_compare(line, recipe):
    """Asks for the arguments alone; a run is then trained from them."""
    (args,) = ask_training(None, [[*line, '-c', recipe]])
    return read('', **args)[1]


COMMANDS = [by_hmix_train, by_timms_script, by_hmix_preview, by_hmix_compare]


def ask(command, line, recipe):
    """The mixer in words, or that it is refused."""
    try:
        with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
            mixing = command(shlex.split(line), str(recipe))
    except (ValueError, RunError, SystemExit):
        return 'refused'
    return repr(mixing.mixer(FastCollateMixup, 10)) if mixing.active else 'no mixer'


CASES = [
    # (line, recipe, the mixer)
    ('--mix-mode hmix', {'mix_preset': None}, 'HMix(alpha=1, ratio=0.75)'),
    ('', {'mix_mode': 'gmix', 'mix_alpha': '1e-1'}, 'GMix(alpha=0.1, kernel=reference)'),
    ('', {'mix_mode': 'hmix', 'hmix_ratio': 0.3, 'hmix_gamma': 1}, 'refused'),
    ('--cutmix-minmax 0.2 0.8', {}, 'CutMix(minmax=(0.2, 0.8))'),
    (
        '--cutmix-mode hmix',
        {'mixup': 0.8, 'cutmix': 1.0, 'mixup_switch_prob': 0.3},
        'Mixup(alpha=0.8) | HMix(alpha=1, ratio=0.75), switch_prob=0.3',
    ),
    ('--cutmix-mode gmix --cutmix 1 --mix-literal', {}, 'GMix(alpha=1, kernel=reference), correct_lam=False'),
    ('--mix-mode none', {'mixup': 0.2}, 'no mixer'),
    (
        '--mix-mode gmix',
        {'mixup_prob': 0.7, 'mixup_mode': 'elem', 'smoothing': 0.05},
        'mode=elem, prob=0.7, ',
    ),
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
    return [float(word) for word in text.split()] if option == '--cutmix-minmax' else yaml.safe_load(text)


OPTIONS = st.lists(st.sampled_from(list(VALUES)), unique=True, max_size=4).flatmap(
    lambda names: st.fixed_dictionaries({name: st.sampled_from(VALUES[name]) for name in names})
)


@settings(max_examples=25, deadline=None)
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
    (answer,) = {ask(command, '', path) for command in COMMANDS if command is not by_timms_script}
    assert 'Stripes(alpha=0.7, period=4, kind=hard)' in answer


@pytest.mark.parametrize(
    ('line', 'says'),
    [
        ('--cutmix-mode hmix', '--cutmix-mode hmix needs CutMix to be on: give --cutmix A'),
        ('--cutmix-mode bbox --mixup 0.8 --cutmix 0', '--cutmix-mode bbox needs CutMix to be on'),
        ('--cutmix-mode hmix --cutmix-minmax 0.1 0.2', "--cutmix-minmax must be None with cutmix_mode='hmix'"),
        ('--mix-mode hmix --mixup-prob 2', '--mixup-prob must be .*between 0 and 1, got 2'),
        ('--mix-mode hmix --mixup-mode each', '--mixup-mode must be one of batch, pair, elem'),
        ('--mixup 0.2 --smoothing nan', '--smoothing must be .*got nan'),
        ('--mix-mode hmix --num-classes -1', '--num-classes must be'),
        ('--mix-mode hmix --aug-splits 3', '--aug-splits 3 compares .*cannot go with mixing'),
        ('--mixup 0.2 --jsd-loss --aug-splits 3', '--jsd-loss compares .*cannot go with mixing'),
        ('--mix-mode puzzlemix --aug-splits 3', '--aug-splits 3 compares'),
        ('--mix-mode hmix --mixup-prob 2 --naflex-loader', '--mixup-prob must be'),
        (
            '--cutmix-minmax 0.2 0.8 --naflex-loader',
            r'--cutmix-minmax \[0.2, 0.8\] cannot go with --naflex-loader, which takes --cutmix$',
        ),
        (
            '--mixup 1 --mixup-mode elem --naflex-loader',
            "--mixup-mode must be batch with --naflex-loader, got 'elem'$",
        ),
        ('--mix-mode hmix --mix-literal --naflex-loader', '--mix-literal cannot go with --naflex-loader'),
        ('--mix-mode puzzlemix --naflex-loader', '--mix-mode puzzlemix cannot go with --naflex-loader'),
        ('--mix-mode puzzlemix --mixup-mode pair', "--mixup-mode must be batch with --mix-mode puzzlemix, got 'pair'"),
        ('--mix-mode puzzlemix --task multilabel', '--mix-mode puzzlemix cannot go with --task multilabel'),
        (
            '--mix-mode puzzlemix --kd-model-name a --kd-distill-type feature',
            '--mix-mode puzzlemix cannot go with --kd-distill-type feature',
        ),
    ],
)
def test_where_no_mixer_can_be_made_or_used_the_option_in_the_way_is_named(line, says):
    with pytest.raises(ValueError, match=f'^{says}'):
        read(line)


@pytest.mark.parametrize(
    'line',
    [
        '--mix-mode hmix --naflex-loader',
        '--mix-mode none --mixup 0.2 --aug-splits 3 --jsd-loss --smoothing 7',
        '--mix-mode puzzlemix --kd-model-name a --kd-distill-type logit',
        '--mix-mode puzzlemix --kd-distill-type feature',
    ],
)
def test_nothing_is_in_the_way_of(line):
    read(line)


def test_puzzlemix_without_scipy_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'scipy.sparse', None)
    with pytest.raises(ValueError, match=r"^--mix-mode puzzlemix: .*pip install 'hmix-timm\[puzzle\]'"):
        read('--mix-mode puzzlemix')


@pytest.mark.parametrize(
    ('line', 'mixer'),
    [
        ('', 'alpha=1, beta=1.2, gamma=0.5, eta=0.2, neigh_size=2, t_eps=0.8, t_size=-1, blocks=2|4|8|16, prob=0.5'),
        (
            '--mix-preset cifar100',
            'alpha=1, beta=1.2, gamma=0.5, eta=0.2, neigh_size=4, t_eps=0.8, t_size=4, blocks=2|4|8|16, prob=0.5',
        ),
        ('--mix-alpha 0.3', 'alpha=0.3, '),
    ],
)
def test_puzzlemix_is_as_published_for_the_preset(line, mixer):
    _, mixing = read(f'--mix-mode puzzlemix --mixup-prob 0.5 {line}')
    text = repr(mixing.puzzle(None, (0.2, 0.3, 0.4), 7))
    assert mixing.needs_model and mixing.active  # so that timm's scripts expect soft targets
    assert text.startswith(f'PuzzleMix({mixer}')
    assert text.endswith('label_smoothing=0.1, num_classes=7, std=0.2|0.3|0.4)')


def test_a_mixer_of_mode_none_never_mixes():
    _, mixing = read('--mix-mode none --mixup 0.3')
    assert not mixing.active and not mixing.needs_model
    assert 'prob=0' in repr(mixing.mixer(Mixup, 10))
