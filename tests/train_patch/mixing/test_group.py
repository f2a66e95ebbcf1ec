"""The option group on a parser: what it declares, what it leaves alone, which recipe keys it knows."""

import argparse
import re
import subprocess
import sys

import pytest
import yaml

from hmix_timm.families import FAMILIES
from train_patch.mixing import check_recipe_keys, declare, load_mix_families, mixing_keys
from train_patch.mixing.resolve import code_digest
from train_patch.trainer.arguments import parse_arguments
from train_patch.trainer.options import NOT_TAKEN

from .conftest import read, timm_like_parser

METHODS = 'fmix,gridmix,smoothmix,resizemix,saliencymix,maskmix'


@pytest.mark.parametrize(
    'line',
    [
        '',
        '--mix-mode hmix',
        '--mix-mode none',
        '--mix-mode gmix --mix-literal',
        '--mixup 0.2 --cutmix 1',
        '--mix-mode puzzlemix --mix-preset cifar100 --mix-alpha 0.5',
    ],
)
def test_args_yaml_gives_the_same_arguments_back(line):
    args, _ = read(line)
    assert vars(read('', **yaml.safe_load(yaml.safe_dump(vars(args))))[0]) == vars(args)
    assert vars(read('', namespace=argparse.Namespace(**vars(args)))[0]) == vars(args)  # resolved once more


def test_an_args_yaml_of_version_0_1_0_reads_the_same():
    recorded = {
        'mixup': 0.0, 'cutmix': 1.0, 'cutmix_minmax': None, 'mixup_switch_prob': 0.5, 'mix_mode': 'hmix',
        'cutmix_mode': None, 'mix_preset': 'cifar100', 'mix_alpha': 1.0, 'mix_literal': False, 'mix_families': None,
        'hmix_ratio': 0.5, 'hmix_gamma': None, 'gmix_kernel': None,
    }  # fmt: skip
    args, mixing = read('', **recorded)
    assert {dest: getattr(args, dest) for dest in recorded} == recorded
    assert mixing.values == {**dict.fromkeys(mixing.values), **recorded}, 'options of newer versions are off'
    assert mixing.replaced == ''


def with_comment(text):
    return text.replace('import numpy', '"""Stripes."""\nimport numpy').replace(
        '):\n', '):\n    "Wide."  # a comment\n'
    )


def with_other_masks(text):
    return text.replace('< lam', '> lam')


@pytest.fixture
def recorded(stripes, tmp_path):
    """What a run with a family of its own records, in `run/args.yaml`."""
    args, _ = read(['--mix-mode', 'stripes', '--mix-families', str(stripes)])
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / 'args.yaml').write_text(yaml.safe_dump(vars(args)))
    return vars(args)


def test_comments_docstrings_and_layout_are_no_edit_of_a_family(stripes, recorded):
    stripes.write_text(with_comment(stripes.read_text()).replace('phase = ', 'phase  =  '))
    assert vars(read('', **recorded)[0]) == recorded and recorded['mix_digest']


def test_a_run_is_not_repeated_with_an_edited_family(stripes, recorded):
    stripes.write_text(with_other_masks(stripes.read_text()))
    digest = code_digest(stripes)
    says = f'mix_digest {recorded["mix_digest"]}: it has {digest} now; undo the edit, or leave mix_digest out'
    with pytest.raises(ValueError, match=says):
        read('', **recorded)
    left_out = {key: value for key, value in recorded.items() if key != 'mix_digest'}
    assert read('', **left_out)[0].mix_digest == digest
    # the recipe's family is replaced: nobody asks for the file as it was
    assert read(['--mix-families', str(stripes)], **recorded)[0].mix_digest == digest
    assert read('--mix-mode hmix', **recorded)[0].mix_digest is None


@pytest.mark.parametrize('resume', ['auto', 'checkpoint'])
def test_a_run_is_not_resumed_with_an_edited_family(stripes, recorded, tmp_path, resume):
    place = {'output': str(tmp_path), 'experiment': 'run', 'resume': resume}
    if resume == 'checkpoint':
        place = {'output': 'elsewhere', 'experiment': 'new', 'resume': str(tmp_path / 'run' / 'last.pth.tar')}
    line = ['--mix-mode', 'stripes', '--mix-families', str(stripes)]
    read(line, argparse.Namespace(**place))
    stripes.write_text(with_other_masks(stripes.read_text()))
    says = f'mix_digest is {recorded["mix_digest"]} in .*args.yaml, and {code_digest(stripes)} now'
    with pytest.raises(ValueError, match=says):
        read(line, argparse.Namespace(**place))
    (tmp_path / 'run' / 'args.yaml').write_text('mix_mode: stripes\n')  # of a version that recorded none
    read(line, argparse.Namespace(**place))
    if resume == 'auto':  # in its own folder, a run is mixed as it was
        with pytest.raises(ValueError, match='mixed otherwise, with mix_mode: stripes in '):
            read('--mix-mode gmix', argparse.Namespace(**place))
    else:
        read('--mix-mode gmix', argparse.Namespace(**place))


def test_declaring_twice_changes_nothing():
    parser = timm_like_parser()
    count = len(parser._actions)
    declare(parser)
    assert len(parser._actions) == count


def test_the_help_names_values_and_defaults_of_every_option():
    """So that nobody has to look them up: the choices in braces, else a letter, and the value without the option."""
    parser = argparse.ArgumentParser(add_help=False)
    declare(parser)
    shown = {
        action.dest: (action.metavar, action.help.rpartition('(default: ')[2].rstrip(')')) for action in parser._actions
    }
    assert shown == {
        'mix_mode': (f'{{none,mixup,cutmix,stochastic,hmix,gmix,{METHODS},puzzlemix}}', "as timm's options say"),
        'cutmix_mode': (f'{{bbox,hmix,gmix,{METHODS}}}', 'bbox'),
        'mix_digest': ('DIGEST', 'none'),
        'mix_preset': ('{imagenet,cifar100}', 'imagenet'),
        'mix_alpha': ('A', "the preset's"),
        'mix_literal': (None, 'the label weight is the mean of the mask'),
        'mix_families': ('FILE', 'none'),
        'hmix_ratio': ('R', '0.75 with imagenet, 0.5 with cifar100'),
        'hmix_gamma': ('G', 'off'),
        'gmix_kernel': ('{reference,paper}', 'reference'),
        'fmix_decay': ('D', '3.0'),
        'fmix_noise': ('{reference,paper}', 'reference'),
        'gridmix_cells': ('C', '4'),
        'smoothmix_low': ('L', '0.25'),
        'smoothmix_high': ('H', '0.5'),
        'resizemix_low': ('L', '0.1'),
        'resizemix_high': ('H', '0.8'),
        'maskmix_cells': ('C', '4'),
    }


@pytest.mark.parametrize(
    'key', ['mix_mod', 'cutmix_mod', 'train_pading', 'mix-mode', 'hmix_rato', 'hmix_zzzzzzzz', 'bbox_other']
)
def test_a_misspelt_key_of_the_group_is_refused(key):
    nearest = {
        **{'mix_mod': 'mix_mode', 'cutmix_mod': 'cutmix_mode', 'train_pading': 'train_padding'},
        **{'mix-mode': 'mix_mode', 'hmix_rato': 'hmix_ratio'},
    }.get(key)
    hint = f' (the nearest known one is {nearest!r})' if nearest else ''
    with pytest.raises(ValueError, match=f'^{re.escape(f"unknown key in the recipe: {key!r}{hint}")}'):
        check_recipe_keys(['lr', key])
    with pytest.raises(ValueError, match=f"^unknown keys in the recipe: (?=.*'{key}').*'mix_zz'"):
        check_recipe_keys([key, 'mix_zz'])
    check_recipe_keys(['lr', 'mixup_mode', *mixing_keys(), key], known=['mixup_mode', key])


def test_no_key_of_a_runs_args_yaml_is_taken_for_a_misspelt_one():
    check_recipe_keys(vars(parse_arguments(['--mix-mode', 'hmix'])[0]))
    check_recipe_keys(NOT_TAKEN)


def test_no_abbreviation_of_a_scripts_options_means_something_else():
    """argparse takes any unique prefix of an option; the project's own options must not get in its way."""
    from train_patch.trainer.options import build_parser

    parser, group = build_parser(), argparse.ArgumentParser(add_help=False)
    declare(group)
    own = {'--train-padding', *group._option_string_actions}
    timms = {option for action in parser._actions for option in action.option_strings if option[:2] == '--'} - own
    tried = 0
    for option in timms:
        for length in range(3, len(option)):
            prefix = option[:length]
            if len([other for other in timms if other.startswith(prefix)]) == 1 and prefix not in timms:
                found = parser._parse_optional(prefix)
                found = found[0] if isinstance(found, list) else found  # Python 3.12 gives a list of candidates
                assert found[0] is parser._option_string_actions[option], prefix
                tried += 1
    assert tried > 500
    with pytest.raises(SystemExit):  # ambiguous without the group, and so with it
        timm_like_parser().parse_args(['--mixup-', '0.25'])


def test_a_command_line_or_a_recipe_loads_families(stripes):
    for line, recipe in [
        (['--mix-families', str(stripes)], {}),
        ([], {'mix_families': str(stripes)}),
        (['--mix-families'], {'mix_families': str(stripes)}),  # without its file: left to the command's own parser
    ]:
        FAMILIES.pop('stripes', None)
        load_mix_families(line, recipe)
        assert 'stripes' in FAMILIES


@pytest.mark.parametrize('path', ['nowhere.py', 3, ['a.py']])
def test_a_file_of_families_that_cannot_be_used_is_refused(path):
    with pytest.raises(ValueError, match=r'^--mix-families '):
        load_mix_families([], {'mix_families': path})


def test_a_family_with_the_name_of_an_option_is_refused(stripes):
    stripes.write_text(stripes.read_text().replace("'period': 8", "'off_epoch': 8").replace("'stripes'", "'mixupx'"))
    load_mix_families([], {'mix_families': str(stripes)})
    parser = argparse.ArgumentParser()
    parser.add_argument('--mixupx-off-epoch')
    with pytest.raises(ValueError, match='a family cannot have an option --mixupx-off-epoch'):
        declare(parser)


def test_a_percent_sign_in_a_familys_help_is_shown(stripes):
    stripes.write_text(stripes.read_text().replace("title='Stripes'", "title='50 % stripes'"))
    load_mix_families([], {'mix_families': str(stripes)})
    assert 'period of 50 % stripes (default: 8)' in ' '.join(timm_like_parser().format_help().split())


def test_declaring_and_resolving_need_neither_torch_nor_timm():
    code = (
        'import argparse, sys; from train_patch import preview, mixing;'
        'mixing.declare(argparse.ArgumentParser());'
        'mixing.resolve({"mix_mode": "hmix"}, {});'
        'print({"torch", "timm", "matplotlib", "sklearn"} & set(sys.modules))'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == 'set()'
