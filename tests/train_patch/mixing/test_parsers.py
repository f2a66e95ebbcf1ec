"""The group on a parser: what it declares, what it leaves alone, which recipe keys it knows."""

import argparse
import subprocess
import sys

import pytest
import yaml

from hmix_timm.families import FAMILIES
from train_patch.mixing import (
    add_mix_arguments,
    check_recipe_keys,
    declare,
    load_mix_families,
    mix_dests,
    remember_typed,
    resolve_parsed,
    typed_options,
)

from .conftest import timm_like_parser


def test_parsing_twice_changes_nothing(parse):
    parser = timm_like_parser(mix_mode='hmix', mix_alpha=0.7)
    seen = []
    for given in ({}, {}, 'the first result'):
        args = parser.parse_args([], remember_typed(argparse.Namespace(**(seen[0] if given else {}))))
        resolve_parsed(parser, args)
        seen.append(vars(args))
    assert seen[0] == seen[1] == seen[2]


def test_declaring_twice_changes_nothing():
    parser = timm_like_parser()
    count = len(parser._actions)
    declare(parser)
    assert len(parser._actions) == count


def test_every_option_of_the_group_has_a_help_with_its_default():
    parser = argparse.ArgumentParser(add_help=False)
    declare(parser)
    assert sorted(action.dest for action in parser._actions) == sorted(mix_dests())
    for action in parser._actions:
        assert '(default: ' in action.help, action.option_strings


def test_typed_options_are_those_of_the_command_line():
    parser = timm_like_parser(mix_mode='hmix', cutmix=0.3)
    args = parser.parse_args(['--mixup', '0.2', '--hmix-ratio', '0.1', '--hflip', '0.3'], remember_typed())
    assert typed_options(args) == {'mixup': 0.2, 'hmix_ratio': '0.1'}


@pytest.mark.parametrize(
    'line', ['--mix-mode hmix', '--mix-mode none', '--mix-mode gmix --mix-literal', '--mixup 0.2 --cutmix 1', '']
)
def test_args_yaml_gives_the_same_arguments_back(parse, line):
    args = parse(line)
    again = parse('', **yaml.safe_load(yaml.safe_dump(vars(args))))
    assert vars(again) == vars(args)


@pytest.mark.parametrize(
    ('line', 'recipe', 'said'),
    [
        (
            '--mix-mode hmix --cutmix 0.3 --mixup 0.8 --mixup-switch-prob 0.9',
            {},
            'replaced by --mix-mode hmix: --mixup 0.8, --cutmix 0.3, --mixup-switch-prob 0.9',
        ),
        ('--mix-mode hmix', {'mixup': 0.8, 'cutmix': 1.0}, 'replaced by --mix-mode hmix: --mixup 0.8'),
        ('', {'mix_mode': 'mixup', 'cutmix': '1e-1'}, 'replaced by --mix-mode mixup: --cutmix 1e-1'),
        (
            '--mix-mode gmix',
            {'cutmix_minmax': [0.2, 0.8]},
            'replaced by --mix-mode gmix: --cutmix-minmax 0.2 0.8',
        ),
        (
            '--mix-mode gmix',
            {'cutmix_mode': 'hmix', 'cutmix': 1.0},
            'replaced by --mix-mode gmix: --cutmix-mode hmix',
        ),
        ('--mix-mode hmix', {'mixup': 0.0, 'cutmix': 0.0, 'cutmix_minmax': None, 'mixup_switch_prob': 0.5}, ''),
        ('--mixup 0.8 --cutmix 1', {}, ''),
        ('--cutmix-mode hmix --cutmix 1', {'mixup': 0.8}, ''),
    ],
)
def test_what_a_mix_mode_replaces_is_said(line, recipe, said):
    parser = timm_like_parser(**recipe)
    assert resolve_parsed(parser, parser.parse_args(line.split(), remember_typed())) == said


@pytest.mark.parametrize(
    ('key', 'nearest'), [('mix_mod', 'mix_mode'), ('mix-mode', 'mix_mode'), ('hmix_rato', 'hmix_ratio')]
)
def test_misspelt_recipe_keys_are_named(key, nearest):
    with pytest.raises(ValueError, match=rf"'{key}'.*'{nearest}'"):
        check_recipe_keys(['lr', key])


def test_a_key_that_is_near_to_none_has_no_hint():
    with pytest.raises(ValueError, match=r"unknown key 'hmix_zzzzzzzz' in the recipe$"):
        check_recipe_keys(['hmix_zzzzzzzz'])


def test_known_recipe_keys_pass():
    check_recipe_keys(['lr', 'mixup', 'mixup_mode', *mix_dests()])
    check_recipe_keys(['mix_something'], known=['mix_something'])


def test_no_abbreviation_of_timms_options_means_something_else():
    """argparse takes any unique prefix of an option; the project's own options must not get in its way."""
    from train_patch.trainer.options import build_parser

    parser = build_parser()
    own = {f'--{dest.replace("_", "-")}' for dest in mix_dests()} | {'--train-padding'}
    timms = {option for action in parser._actions for option in action.option_strings if option[:2] == '--'} - own
    assert len(timms) > 150
    tried = 0
    for option in timms:
        for length in range(3, len(option)):
            prefix = option[:length]
            if len([other for other in timms if other.startswith(prefix)]) == 1 and prefix not in timms:
                found = parser._parse_optional(prefix)
                found = found[0] if isinstance(found, list) else found  # Python 3.12 gives a list of candidates
                assert found[0] is parser._option_string_actions[option], prefix
                tried += 1
    assert tried > 1000


def test_a_command_line_and_a_recipe_load_families(stripes):
    load_mix_families(['--model', 'x', '--mix-families', str(stripes)], {})
    assert 'stripes' in FAMILIES
    del FAMILIES['stripes']
    load_mix_families(['--mix-mode', 'hmix'], {'mix_families': str(stripes)})
    assert 'stripes' in FAMILIES


@pytest.mark.parametrize('path', ['nowhere.py', 3, ['a.py']])
def test_a_file_of_families_that_cannot_be_used_is_refused(path):
    with pytest.raises(ValueError, match=r'^--mix-families '):
        load_mix_families([], {'mix_families': path})


def test_two_files_of_families_are_refused(stripes, capsys):
    with pytest.raises(SystemExit):
        timm_like_parser().parse_args(['--mix-families', str(stripes), '--mix-families', 'other.py'], remember_typed())
    assert '--mix-families is there twice' in capsys.readouterr().err


def test_a_family_with_the_name_of_an_option_is_refused(stripes):
    stripes.write_text(stripes.read_text().replace("'period': 8", "'off_epoch': 8").replace("'stripes'", "'mixupx'"))
    load_mix_families([], {'mix_families': str(stripes)})
    parser = argparse.ArgumentParser()
    parser.add_argument('--mixupx-off-epoch')
    with pytest.raises(ValueError, match="family 'mixupx' cannot have an option 'off_epoch'"):
        declare(parser)


def test_declaring_and_resolving_need_neither_torch_nor_timm():
    code = (
        'import argparse, sys; from train_patch import crop, mixing, preview, recipes.files;'
        'mixing.declare(argparse.ArgumentParser());'
        'mixing.resolve({"mix_mode": "hmix"}, {});'
        'print({"torch", "timm", "matplotlib", "sklearn"} & set(sys.modules))'
    ).replace('recipes.files', 'digits')
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'set()'


def test_the_help_names_values_and_defaults_of_every_option():
    """So that nobody has to look them up: the choices in braces, else a letter, and what holds without the option."""
    parser = argparse.ArgumentParser(add_help=False)
    declare(parser)
    shown = {
        action.dest: (action.metavar, action.help.rpartition('(default: ')[2].rstrip(')')) for action in parser._actions
    }
    assert shown == {
        'mix_mode': ('{none,mixup,cutmix,stochastic,hmix,gmix,puzzlemix}', "as timm's options say"),
        'cutmix_mode': ('{bbox,hmix,gmix}', 'bbox'),
        'mix_preset': ('{imagenet,cifar100}', 'imagenet'),
        'mix_alpha': ('A', "the preset's"),
        'mix_literal': (None, 'the label weight is the mean of the mask'),
        'mix_families': ('FILE', 'none'),
        'hmix_ratio': ('R', '0.75 with imagenet, 0.5 with cifar100'),
        'hmix_gamma': ('G', 'off'),
        'gmix_kernel': ('{reference,paper}', 'reference'),
    }


def test_a_percent_sign_in_a_familys_help_is_shown(stripes):
    stripes.write_text(stripes.read_text().replace("title='Stripes'", "title='50 % stripes'"))
    load_mix_families([], {'mix_families': str(stripes)})
    assert 'period of 50 % stripes (default: 8)' in ' '.join(timm_like_parser().format_help().split())


def test_one_file_of_families_may_be_named_once_or_twice(stripes):
    for line in (['--mix-families', str(stripes)], ['--mix-families', str(stripes)] * 2):
        assert timm_like_parser().parse_args(line, remember_typed()).mix_families == str(stripes)
        assert timm_like_parser().parse_args(line).mix_families == str(stripes)


def test_abbreviations_of_timms_options_go_on_meaning_them():
    args = timm_like_parser().parse_args(['--mixup-p', '0.25', '--cutmix-m', '0.1', '0.9', '--mixup-sw', '0.75'])
    assert (args.mixup_prob, args.cutmix_minmax, args.mixup_switch_prob) == (0.25, [0.1, 0.9], 0.75)
    with pytest.raises(SystemExit):  # ambiguous without the group, and so with it
        timm_like_parser().parse_args(['--mixup-', '0.25'])


def test_a_mixer_that_could_not_be_made_is_refused_when_it_is_parsed(parse):
    with pytest.raises(ValueError, match=r'^--mixup-prob must be .* got 2'):
        parse('--mix-mode hmix --mixup-prob 2')


def plain_parser():
    """A script's own parser, with the options of timm that the group replaces."""
    parser = argparse.ArgumentParser(prog='train.py')
    for option, default in (('--mixup', 0.0), ('--cutmix', 0.0), ('--mixup-switch-prob', 0.5), ('--mixup-prob', 1.0)):
        parser.add_argument(option, type=float, default=default)
    parser.add_argument('--cutmix-minmax', type=float, nargs='+')
    parser.add_argument('--mixup-mode', default='batch')
    parser.add_argument('--smoothing', type=float, default=0.1)
    parser.add_argument('--num-classes', type=int)
    return parser


def test_a_scripts_own_parse_args_resolves_the_group():
    parser, said = plain_parser(), []
    add_mix_arguments(parser, said.append)
    args = parser.parse_args(['--mix-mode', 'hmix', '--mixup', '0.8'])
    assert (args.mixup, args.cutmix, args.hmix_ratio, args.mix_alpha) == (0.0, 1.0, 0.75, 1.0)
    assert said == ['replaced by --mix-mode hmix: --mixup 0.8']
    assert vars(parser.parse_args([], argparse.Namespace(lr=3)))['lr'] == 3
    assert parser.parse_args([]).mixup == 0.0 and len(said) == 1  # nothing is replaced, and nothing said


def test_a_scripts_own_parse_args_refuses_with_the_parsers_words(capsys):
    parser = plain_parser()
    add_mix_arguments(parser)
    with pytest.raises(SystemExit) as ended:
        parser.parse_args(['--mix-mode', 'hmx'])
    assert ended.value.code == 2
    assert 'train.py: error: --mix-mode must be one of' in capsys.readouterr().err


def test_what_is_replaced_is_printed_where_nobody_takes_the_line(capsys):
    parser = plain_parser()
    add_mix_arguments(parser)
    parser.parse_args(['--mix-mode', 'cutmix', '--mixup', '0.2'])
    assert capsys.readouterr().out == 'replaced by --mix-mode cutmix: --mixup 0.2\n'


def test_a_parser_that_has_the_group_is_left_as_it_is():
    parser = timm_like_parser()
    before = parser.parse_args
    add_mix_arguments(parser)
    assert parser.parse_args == before
    own = plain_parser()
    add_mix_arguments(own)
    wrapped, count = own.parse_args, len(own._actions)
    add_mix_arguments(own)
    assert own.parse_args is wrapped and len(own._actions) == count


@pytest.mark.parametrize('key', ['hmix_other', 'gmix_other', 'bbox_other', 'mix_other', 'mix-preset'])
def test_a_recipe_key_with_the_prefix_of_the_group_must_be_one_of_its_keys(key):
    with pytest.raises(ValueError, match=f'^unknown key {key!r} in the recipe'):
        check_recipe_keys(['lr', key])


def test_an_option_that_lacks_its_file_is_left_to_the_commands_own_parser(stripes):
    load_mix_families(['--mix-families'], {})
    assert 'stripes' not in FAMILIES
    load_mix_families(['--mix-families'], {'mix_families': str(stripes)})
    assert 'stripes' in FAMILIES
