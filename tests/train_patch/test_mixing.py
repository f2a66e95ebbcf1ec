"""The --mix-mode group on a parser: what every mode resolves to, what beats what, and what is refused."""

import argparse

import pytest
import yaml

from hmix_timm import Mixup
from train_patch.mixing import add_mix_arguments, check_recipe_keys, mixer_arguments_from

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


def make_parser(**recipe):
    parser = argparse.ArgumentParser(prog='train.py')
    parser.add_argument('--mixup', type=float, default=0.0)
    parser.add_argument('--cutmix', type=float, default=0.0)
    parser.add_argument('--cutmix-minmax', type=float, nargs='+', default=None)
    parser.add_argument('--mixup-prob', type=float, default=1.0)
    parser.add_argument('--mixup-switch-prob', type=float, default=0.5)
    parser.add_argument('--mixup-mode', default='batch')
    parser.add_argument('--mixup-off-epoch', type=int, default=0)
    parser.add_argument('--smoothing', type=float, default=0.1)
    parser.add_argument('--num-classes', type=int, default=None)
    parser.add_argument('--aug-splits', type=int, default=0)
    parser.add_argument('--jsd-loss', action='store_true')
    parser.add_argument('--hflip', type=float, default=0.5)
    add_mix_arguments(parser)
    parser.set_defaults(**recipe)
    return parser


def parse(line='', **recipe):
    return make_parser(**recipe).parse_args(line.split())


def refused(capsys, line='', **recipe):
    """The one line that the parser says, with its exit status checked."""
    with pytest.raises(SystemExit) as stop:
        parse(line, **recipe)
    assert stop.value.code == 2
    return capsys.readouterr().err.strip().splitlines()[-1]


@pytest.mark.parametrize(('preset', 'mode'), PAPER)
@pytest.mark.parametrize('source', ['line', 'recipe'])
def test_every_mode_and_preset_is_the_papers(preset, mode, source):
    # a recipe with other mixing of its own, all of which the mode replaces
    own = {'mixup': 0.3, 'cutmix': 0.4, 'cutmix_minmax': [0.1, 0.2], 'mixup_switch_prob': 0.9}
    other = {'mixup_prob': 0.7, 'mixup_mode': 'elem', 'smoothing': 0.05}
    if source == 'line':
        args = parse(f'--mix-mode {mode} --mix-preset {preset}', **own, **other)
    else:
        args = parse('', mix_mode=mode, mix_preset=preset, **own, **other)
    mixup, cutmix, ratio = PAPER[preset, mode]
    assert (args.mixup, args.cutmix, args.cutmix_minmax, args.mixup_switch_prob) == (mixup, cutmix, None, 0.5)
    assert (args.mixup_prob, args.mixup_mode, args.smoothing) == (0.7, 'elem', 0.05), 'other settings are left alone'
    assert args.hmix_ratio == ratio
    assert args.gmix_kernel == ('reference' if mode == 'gmix' else None)
    assert mixer_arguments_from(args).get('cutmix_mode', 'bbox') == (mode if mode in ('hmix', 'gmix') else 'bbox')


def test_the_default_preset_is_imagenet():
    assert parse('--mix-mode hmix').mix_preset == 'imagenet'


def test_without_a_mode_the_recipe_holds():
    args = parse('--mixup 0.2', cutmix=1.0, cutmix_minmax=[0.2, 0.8], mixup_switch_prob=0.3)
    assert (args.mixup, args.cutmix, args.cutmix_minmax, args.mixup_switch_prob) == (0.2, 1.0, [0.2, 0.8], 0.3)
    assert args.mix_mode is None


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('--mix-mode mixup --mix-alpha 0.3', {'mixup': 0.3, 'cutmix': 0.0}),
        ('--mix-mode stochastic --mix-alpha 0.3', {'mixup': 0.3, 'cutmix': 0.3}),
        ('--mix-mode hmix --hmix-ratio 0', {'cutmix': 1.0, 'hmix_ratio': 0.0, 'hmix_gamma': None}),
        ('--mix-mode hmix --hmix-gamma 2', {'hmix_ratio': None, 'hmix_gamma': 2.0}),
        ('--mix-mode gmix --gmix-kernel paper --mix-alpha 2', {'gmix_kernel': 'paper', 'cutmix': 2.0}),
    ],
)
def test_overrides(line, expected):
    args = parse(line)
    assert {key: getattr(args, key) for key in expected} == expected
    mixer = mixer_arguments_from(args)
    for key in ('hmix_ratio', 'hmix_gamma', 'gmix_kernel'):
        assert mixer.get(key) == expected.get(key)


@pytest.mark.parametrize(
    'line', [f'--mix-mode {mode} --mix-preset {preset}' for preset, mode in PAPER] + ['--mixup 0.2']
)
def test_args_yaml_gives_the_same_arguments_back(line):
    args = parse(line)
    text = yaml.safe_dump(vars(args))
    again = parse('', **yaml.safe_load(text))
    assert vars(again) == vars(args)


def test_parsing_twice_changes_nothing():
    parser = make_parser(mix_mode='hmix', mix_alpha=0.7)
    first = vars(parser.parse_args([]))
    assert vars(parser.parse_args([])) == first
    assert vars(parser.parse_args([], argparse.Namespace(**first))) == first
    add_mix_arguments(parser)
    assert vars(parser.parse_args([])) == first


def test_command_line_beats_recipe():
    recipe = {'mix_mode': 'hmix', 'mix_alpha': 0.3, 'hmix_ratio': 0.2, 'mix_preset': 'cifar100'}
    assert parse('--hmix-ratio 0.9', **recipe).hmix_ratio == 0.9
    assert parse('--hmix-ratio 0.9', **recipe).cutmix == 0.3
    other = parse('--mix-mode gmix', **recipe)
    assert (other.cutmix, other.hmix_ratio) == (0.5, None), "another mode does not inherit the recipe mode's parameters"
    gamma = parse('--hmix-gamma 1', **recipe)
    assert (gamma.hmix_gamma, gamma.hmix_ratio) == (1.0, None)
    assert parse('--mix-mode none', **recipe, mixup=0.2).mixup == 0.0


def test_a_recipe_without_a_mode_serves_every_mode():
    recipe = {'mix_preset': 'cifar100', 'hmix_ratio': 0.3, 'gmix_kernel': 'paper'}
    assert parse('--mix-mode hmix', **recipe).hmix_ratio == 0.3
    assert parse('--mix-mode gmix', **recipe).gmix_kernel == 'paper'
    assert parse('--mix-mode mixup', **recipe).mixup == 1.0


def test_numbers_that_yaml_reads_as_text():
    assert parse('', mix_mode='hmix', mix_alpha='1e-1').cutmix == 0.1


@pytest.mark.parametrize(
    ('line', 'recipe', 'says'),
    [
        ('--mix-mode hmx', {}, ['--mix-mode', 'hmx', 'hmix']),
        ('', {'mix_mode': 'hmx'}, ['--mix-mode', 'hmx', 'hmix']),
        ('', {'mix_mode': 'hmix', 'mix_preset': 'cifar10'}, ['--mix-preset', 'cifar10', 'cifar100']),
        ('--mix-mode gmix --gmix-kernel gauss', {}, ['--gmix-kernel', 'gauss', 'reference']),
        ('', {'mix_mode': 'gmix', 'gmix_kernel': 'gauss'}, ['--gmix-kernel', 'gauss', 'reference']),
        ('--mix-mode hmix --mix-alpha 0', {}, ['--mix-alpha', '0', '> 0']),
        ('--mix-mode hmix --mix-alpha nan', {}, ['--mix-alpha', 'nan']),
        ('--mix-mode hmix --hmix-ratio 1.5', {}, ['--hmix-ratio', '1.5', 'between 0 and 1']),
        ('', {'mix_mode': 'hmix', 'hmix_ratio': 'much'}, ['--hmix-ratio', 'much']),
        ('--mix-mode hmix --hmix-gamma 0', {}, ['--hmix-gamma', '> 0']),
        ('--mix-mode hmix --hmix-gamma 1 --hmix-ratio 0.5', {}, ['--hmix-gamma', '--hmix-ratio']),
        ('--mix-mode gmix --hmix-ratio 0.5', {}, ['--hmix-ratio', 'hmix', 'gmix']),
        ('', {'mix_mode': 'mixup', 'gmix_kernel': 'paper'}, ['--gmix-kernel', 'gmix', 'mixup']),
        ('--mix-mode none --mix-alpha 1', {}, ['--mix-alpha', 'none']),
        ('--hmix-ratio 0.5', {}, ['--hmix-ratio', '--mix-mode']),
        ('--mix-preset cifar100', {'mixup': 0.2}, ['--mix-preset', '--mix-mode']),
        ('--mixup -1', {}, ['--mixup', '-1.0', '>= 0']),
        ('--mix-mode hmix --mixup-prob 2', {}, ['--mixup-prob', '2', 'between 0 and 1']),
        ('--mix-mode hmix --mixup-mode each', {}, ['--mixup-mode', 'each', 'batch, pair, elem']),
        ('--mixup 0.2', {'smoothing': float('nan')}, ['--smoothing', 'nan']),
        ('--cutmix-minmax 0.5', {}, ['--cutmix-minmax', '0.5']),
        ('--mixup 0.2 --cutmix 1 --mixup-switch-prob 7', {}, ['--mixup-switch-prob', '7']),
        ('--mix-mode hmix --aug-splits 3', {}, ['--aug-splits', 'mixing']),
        ('--mixup 0.2 --jsd-loss --aug-splits 3', {}, ['--jsd-loss', 'mixing']),
    ],
)
def test_wrong_values_are_the_parsers_error(capsys, line, recipe, says):
    message = refused(capsys, line, **recipe)
    for part in says:
        assert part in message


def test_the_naflex_loader_asks_its_own_mixer(capsys):
    assert '--mixup-prob' in refused(capsys, '--mix-mode hmix --mixup-prob 2', naflex_loader=True)
    assert parse('--mix-mode hmix', naflex_loader=True).cutmix == 1.0


@pytest.mark.parametrize(
    'line', ['--cutmix-minmax 0.2 0.8', '--mixup 1 --cutmix-minmax 0.2 0.8', '--mixup 1 --mixup-mode elem']
)
def test_what_the_naflex_mixer_would_ignore_is_refused(capsys, line):
    message = refused(capsys, line, naflex_loader=True)
    assert line.split()[-3 if 'minmax' in line else -2] in message and '--naflex-loader' in message
    parse(line)


def test_augmentation_splits_without_mixing_pass():
    assert parse('--mix-mode none --aug-splits 3 --jsd-loss', mixup=0.2).mixup == 0.0


def described(line):
    return repr(Mixup(**{**mixer_arguments_from(parse(line)), 'num_classes': 10}))


def test_mixers_are_built_as_resolved_and_say_so():
    line = described('--mix-mode hmix --mixup-mode elem --mixup-prob 0.5')
    assert 'HMix(alpha=1, ratio=0.75)' in line and 'mode=elem' in line and 'prob=0.5' in line
    assert 'kernel=paper' in described('--mix-mode gmix --gmix-kernel paper')
    assert 'gamma=2' in described('--mix-mode hmix --hmix-gamma 2')
    assert 'Mixup(alpha=1) | CutMix(alpha=1), switch_prob=0.5' in described('--mix-mode stochastic')
    assert 'minmax=(0.2, 0.8)' in described('--cutmix-minmax 0.2 0.8')


@pytest.mark.parametrize(
    ('key', 'nearest'), [('mix_mod', 'mix_mode'), ('mix-mode', 'mix_mode'), ('hmix_rato', 'hmix_ratio')]
)
def test_misspelt_recipe_keys_are_named(key, nearest):
    with pytest.raises(ValueError, match=rf"'{key}'.*'{nearest}'"):
        check_recipe_keys(['lr', key])
    check_recipe_keys(['lr', 'mixup', 'mixup_mode', nearest])


def test_no_abbreviation_of_timms_options_becomes_ambiguous():
    """argparse takes any unique prefix of an option; the project's own options must not get in its way."""
    from train_patch.trainer.options import build_parser

    own = {
        '--mix-mode',
        '--mix-preset',
        '--mix-alpha',
        '--hmix-ratio',
        '--hmix-gamma',
        '--gmix-kernel',
        '--train-padding',
    }
    options = {
        option for action in build_parser()._actions for option in action.option_strings if option.startswith('--')
    }
    assert own < options and len(options) > 150
    timms = options - own
    for option in timms:
        for length in range(3, len(option)):
            prefix = option[:length]
            if len({other for other in timms if other.startswith(prefix)}) == 1:
                assert not any(other.startswith(prefix) for other in own), (prefix, option)
