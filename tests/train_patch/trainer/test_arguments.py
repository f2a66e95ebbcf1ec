"""The lean script's arguments and recipes: what they mean, what is refused, and that a mistake costs no time."""

import argparse
import ast
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import hmix_timm
from train_patch.trainer.arguments import WrongArguments, parse_arguments
from train_patch.trainer.checks import check_arguments
from train_patch.trainer.options import REFUSED, build_parser

SCRIPT = os.environ.get('TIMM_TRAIN_SCRIPT')
needs_script = pytest.mark.skipif(not SCRIPT, reason='TIMM_TRAIN_SCRIPT names no timm train.py to compare with')


@pytest.fixture
def errors(capsys):
    """The last line that a wrong command line ends with."""

    def run(line):
        try:
            with pytest.raises(SystemExit) as stopped:
                check_arguments(parse_arguments(shlex.split(line))[0])
        except WrongArguments as error:
            return str(error)
        assert stopped.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    return run


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('--no-such-option', 'unrecognized arguments: --no-such-option'),
        ('--naflex-loader', '--naflex-loader is not taken by this script; .* hmix-train path/to/timm/train.py'),
        ('--kd-model-name resnet50', '--kd-model-name is not taken'),
        ('--torchscript', '--torchscript is not taken'),
        ('--train-img-sizes 128 160', '--train-img-sizes is not taken'),
        ('--drop-connect 0.2', '--drop-connect is not taken: --drop-path'),
        ('--epochs 0', '--epochs: 0: must be 1 or more'),
        ('--epochs 2.5', '--epochs: invalid int value'),
        ('--lr nan', '--lr: nan: must be 0 or more'),
        ('--lr -1', '--lr: -1: must be 0 or more'),
        ('--weight-decay -1', '--weight-decay: -1: must be 0 or more'),
        ('--seed 1099511627776', '--seed: 1099511627776: must be at least 0 and at most 2147483647'),
        ('--crop-pct 0', '--crop-pct: 0: must be at least 0.1 and at most 10'),
        ('--crop-pct 1e9', '--crop-pct: 1e9: must be at least 0.1 and at most 10'),
        ('--smoothing 1', '--smoothing: 1: must be at least 0 and below 1'),
        ('--layer-decay 1e9', '--layer-decay: 1e9: must be above 0 and at most 1'),
        ('--start-epoch 10 --epochs 10', '--start-epoch 10: the schedule has 10 epochs, counted from 0'),
        ('--dataset cifar10', '--dataset cifar10: must be TYPE/NAME with a type of torch, hfds, '),
        ('--dataset torhc/cifar10', '--dataset torhc/cifar10: must be TYPE/NAME with a type of torch, hfds, '),
        ('--torchcompile-mode default', '--torchcompile-mode default needs --torchcompile'),
        ('--torchcompile no-such', '--torchcompile no-such: '),
        ('--std 0 0 0', '--std: 0: must be above 0'),
        ('--std .2 .2', '--std: 2 numbers; one, or one for each of 3 channels'),
        ('--mean .5 .5 --in-chans 1', '--mean: 2 numbers; one, or one for each of 1 channels'),
        ('--scale -1 2', '--scale: -1: must be above 0'),
        ('--scale 1 0.1', '--scale 1 0.1: the smaller one comes first'),
        ('--ratio 2 1', '--ratio 2 1: the smaller one comes first'),
        ('--decay-epochs 0', '--decay-epochs: 0: must be above 0'),
        ('--color-jitter -1', '--color-jitter: -1: must be 0 or more'),
        ('--train-interpolation cubic', "--train-interpolation: invalid choice: 'cubic'"),
        ('--model-kwargs patch_size', "--model-kwargs: 'patch_size': must be KEY=VALUE"),
        ('--in-chans 7', '--in-chans: 7 channels, but images of PIL mode L have 1'),
        ('--input-size 2 32 32', '--input-size: 2 channels, but images of PIL mode L have 1'),
        ('--in-chans 3 --input-img-mode CMYK', '--in-chans: 3 channels, but images of PIL mode CMYK have 4'),
        ('--input-img-mode XYZ', '--input-img-mode XYZ: PIL knows no such mode'),
        ('--in-chans 1 --input-img-mode F', "--input-img-mode F: timm's loader takes channels of 8 bits"),
        ('--in-chans 1 --input-img-mode I;16', "--input-img-mode I;16: timm's loader takes channels of 8 bits"),
        ('--in-chans 1 --input-img-mode P', "--input-img-mode P: timm's loader takes channels of 8 bits"),
        ('--in-chans 1 --input-img-mode 1', "--input-img-mode 1: timm's loader takes channels of 8 bits"),
        ('--reprob 1.5', '--reprob: 1.5: must be at least 0 and at most 1'),
        ('--amp-dtype float8', "--amp-dtype: invalid choice: 'float8'"),
        ('--eval-metric top3', '--eval-metric: invalid choice'),
        ('--model resnet5O', '--model resnet5O: no such model in timm; the nearest is resnet50'),
        ('--opt no-such-opt', '--opt no-such-opt: '),
        ('--opt adamw --opt-betas 2 3', '--opt adamw: ValueError: Invalid beta'),
        ('--opt-kwargs no_such=1', "--opt sgd: TypeError: .*'no_such'"),
        ('--sched cosin', '--sched cosin: '),
        ('--lr-cycle-mul 0 --lr-cycle-limit 2', '--sched cosine: cannot '),
        ('--sched step --decay-rate -1 --epochs 200', '--sched step: cannot go to epoch 90: .* would be -'),
        ('--aa no-such-policy', '--aa no-such-policy: timm does not know this policy'),
        ('--device no-such-device', '--device no-such-device: torch knows no such device'),
        pytest.param(
            '--device cuda',
            '--device cuda: CUDA is not available',
            marks=pytest.mark.skipif(torch.cuda.is_available(), reason='this machine has CUDA'),
        ),
        ('--amp --model-dtype bfloat16', '--model-dtype bfloat16 does not go with --amp'),
        ('--aug-splits 1', '--aug-splits 1: one split makes no sense'),
        ('--jsd-loss', '--jsd-loss needs --aug-splits'),
        ('--split-bn', '--split-bn needs --aug-splits'),
        ('--split-bn --resplit --sync-bn', '--split-bn and --sync-bn do not go together'),
        ('--aug-repeats 3', '--aug-repeats 3 works on several processes only'),
        ('--aug-splits 3 --mix-mode hmix', '--aug-splits 3 .* mixing'),
        ('--resume auto', '--resume auto needs --experiment'),
        ('--class-map classes.pkl', '--class-map classes.pkl: a text file'),
        ('--dataset wds/x --train-split pipe:date', '--train-split pipe:date: shell commands are not taken'),
        ('one --data-dir two', 'two different folders'),
        ('--wandb-resume-id x', '--wandb-resume-id needs --log-wandb'),
    ],
)
def test_wrong_arguments_end_with_one_line(errors, line, expected):
    assert re.search(expected, errors(line))


def test_a_name_near_nothing_gets_no_hint(errors):
    assert errors('--model qqqqqqqq') == '--model qqqqqqqq: no such model in timm'


def test_wandb_that_is_asked_for_and_missing_is_an_error(errors):
    if importlib.util.find_spec('wandb'):
        pytest.skip('wandb is installed')
    assert '--log-wandb: the package wandb is not installed' in errors('--log-wandb')


@pytest.mark.parametrize(
    ('recipe', 'expected'),
    [
        ('batch_sise: 8', "unknown key 'batch_sise'; the nearest known one is 'batch_size'"),
        ('mix-mode: hmix', "unknown key 'mix-mode'; the nearest known one is 'mix_mode'"),
        ('mix_mode: hmx', "--mix-mode must be one of .*, got 'hmx'"),
        ('epochs: many', "epochs: 'many'"),
        ('epochs: 2.5', 'epochs: 2.5'),
        ('epochs: true', 'epochs: True: must be a single value'),
        ('epochs: null', 'epochs: None'),
        ('amp: "yes"', "amp: 'yes': must be true or false"),
        ('amp_dtype: float8', "amp_dtype: 'float8': must be one of 'float16', 'bfloat16'"),
        ('scale: [0.1, 0.2, 0.3]', 'scale: .*: must be a list of 2'),
        ('model_kwargs: 3', 'model_kwargs: 3: must be a mapping'),
        ('model: [a, b]', 'model: .*: must be a single value'),
        ('naflex_loader: true', '--naflex-loader is not taken by this script'),
        ('kd_model_name: resnet50', '--kd-model-name is not taken by this script'),
        ('qqqqqqqq: 1', "unknown key 'qqqqqqqq'$"),
        ('std: [0, 0, 0]', r'std: \[0, 0, 0\]: 0: must be above 0'),
        ('- a\n- b', 'must hold lines of "name: value", it holds a list'),
        ('a: [', 'is not plain YAML'),
        ('epochs: 1\nepochs: 2', "the key 'epochs' is there twice"),
    ],
)
def test_wrong_recipes_end_with_one_line(errors, tmp_path, recipe, expected):
    path = tmp_path / 'recipe.yaml'
    path.write_text(recipe)
    line = errors(f'-c {path}')
    assert re.search(expected, line), line


def test_missing_recipe(errors, tmp_path):
    assert f"'{tmp_path}/none.yaml' is neither a file nor a shipped recipe" in errors(f'--config {tmp_path}/none.yaml')


def test_recipe_sets_defaults_and_the_command_line_beats_it(tmp_path):
    path = tmp_path / 'recipe.yaml'
    recipe = {
        'model': 'test_vit',
        'lr': '1e-3',  # a string, in YAML's eyes
        'epochs': 7,
        'batch_size': 4,
        'opt_betas': [0.9, 0.95],
        'lr_noise': 0.5,
        'model_kwargs': {'patch_size': 8},
        'mix_mode': 'hmix',
        'amp': True,
        'clip_grad': None,
        'naflex_loader': False,  # timm's options that this script lacks, as timm's args.yaml has them
        'kd_temperature': 4.0,
        'experiment': 12,
    }
    path.write_text(yaml.safe_dump(recipe))
    args = vars(parse_arguments(['-c', str(path), '--epochs', '9', '-b', '16', 'some/folder'])[0])
    assert (args['model'], args['lr'], args['epochs'], args['batch_size']) == ('test_vit', 0.001, 9, 16)
    assert (args['opt_betas'], args['lr_noise'], args['model_kwargs']) == ([0.9, 0.95], [0.5], {'patch_size': 8})
    assert (args['amp'], args['clip_grad'], args['experiment']) == (True, None, '12')
    assert args['data_dir'] == 'some/folder'
    assert (args['mix_mode'], args['cutmix'], args['hmix_ratio']) == ('hmix', 1.0, 0.75)
    assert 'naflex_loader' not in args and 'config' not in args


ODD_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats()
    | st.sampled_from(['', '0', '-1', '1e999', '1e-3', 'nan', 'auto', 'sgd', 'step', 'a=b', 'rand-m9', 'none'])
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
DESTS = sorted({action.dest for action in build_parser()._actions} - {'help', 'version', 'config'})


@settings(max_examples=100, deadline=None)
@given(recipe=st.dictionaries(st.sampled_from(DESTS), ODD_VALUES, min_size=1, max_size=3))
def test_odd_recipes_are_taken_or_refused_and_nothing_else(tmp_path_factory, recipe):
    path = tmp_path_factory.getbasetemp() / 'odd.yaml'
    path.write_text(yaml.safe_dump(recipe))
    try:
        check_arguments(parse_arguments(['-c', str(path)])[0])
    except WrongArguments:
        pass
    except SystemExit as stopped:
        assert stopped.code == 2


OPTIONS = sorted(build_parser()._option_string_actions.keys() - {'-h', '--help', '--version', '-c', '--config'})
ODD_WORDS = st.sampled_from(
    ['0', '1', '-1', '3', '.5', '1e9', 'nan', 'inf', '1e999', '', 'x', 'a=1', 'sgd', 'hmix', 'cpu']
)


@settings(max_examples=100, deadline=None)
@given(line=st.lists(st.tuples(st.sampled_from(OPTIONS), st.lists(ODD_WORDS, max_size=3)), min_size=1, max_size=3))
def test_odd_command_lines_are_taken_or_refused_and_nothing_else(line):
    try:
        check_arguments(parse_arguments([word for option, words in line for word in (option, *words)])[0])
    except WrongArguments:
        pass
    except SystemExit as stopped:
        assert stopped.code == 2


def test_one_recipe_leaves_nothing_to_the_next_command_line(tmp_path):
    path = tmp_path / 'recipe.yaml'
    path.write_text('epochs: 7\nopt_kwargs: {nesterov: true}\n')
    parse_arguments(['-c', str(path)])
    args, _ = parse_arguments([])
    assert (args.epochs, args.opt_kwargs) == (300, {})


def test_a_shipped_recipe_goes_by_its_name():
    args, _ = parse_arguments(['-c', 'cifar100_resnet56'])
    assert args.model == 'cifar_resnet56'


def test_keyword_arguments_are_python_literals_where_they_can_be():
    args, _ = parse_arguments(['--model-kwargs', 'a=1', 'b=[1, 2]', 'c=x=y', 'd=None'])
    assert args.model_kwargs == {'a': 1, 'b': [1, 2], 'c': 'x=y', 'd': None}


@pytest.mark.parametrize('argv', ['--no-such-option', '--help', '--version', '--epochs 0', '-c /no/such/recipe.yaml'])
def test_neither_help_nor_a_typo_waits_for_torch_and_timm(argv):
    code = (
        'import sys, train_patch.train\n'
        'late = "torch", "timm", "torchvision", "importlib.metadata"\n'  # a checkout need not be installed
        'try: train_patch.train.main(sys.argv[1:])\n'
        'finally: print([name for name in late if name in sys.modules], file=sys.stderr)'
    )
    done = subprocess.run([sys.executable, '-c', code, *argv.split()], capture_output=True, text=True, timeout=60)
    assert done.returncode == (0 if argv in ('--help', '--version') else 2)
    assert '[]' in done.stderr.splitlines(), done.stderr


def test_version(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse_arguments(['--version'])
    assert stopped.value.code == 0
    assert capsys.readouterr().out == f'hmix-train {hmix_timm.__version__}\n'


def test_help_stands_by_itself():
    """Each option says what it does in words that need no neighbour, and its default where it has one."""
    for action in build_parser()._actions:
        if action.help == argparse.SUPPRESS:
            continue
        option = action.option_strings[-1] if action.option_strings else action.dest
        assert len(action.help.split()) >= 1 and not re.match(r'(its|how|the same) ?$|its ', action.help), option
        if action.default not in (None, '', False, {}, [], argparse.SUPPRESS):
            assert '(default' in action.help or 'default' in action.help, option


def test_hostile_recipe_runs_nothing(errors, tmp_path):
    path, marker = tmp_path / 'recipe.yaml', tmp_path / 'ran'
    path.write_text(f'model: !!python/object/apply:os.system ["touch {marker}"]\n')
    assert 'is not plain YAML' in errors(f'-c {path}')
    assert not marker.exists()


@needs_script
def test_every_option_of_timms_is_taken_or_refused_with_timms_default():
    refused = {option[2:].replace('-', '_') for option in REFUSED}
    ours = {action.dest: action for action in build_parser()._actions}
    tree = ast.parse(Path(SCRIPT).read_text())
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'add_argument' and node.args
    ]
    assert len(calls) > 150
    for call in calls:
        flags = [ast.literal_eval(flag) for flag in call.args]
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        dest = next((flag[2:] for flag in flags if flag.startswith('--')), flags[0]).replace('-', '_')
        assert dest in ours or dest in refused, flags
        if dest in refused or dest in ('config', 'device', 'data') or 'default' not in keywords:
            continue
        default = eval(compile(ast.Expression(keywords['default']), SCRIPT, 'eval'), {})
        assert ours[dest].default == default, dest
        assert set(flags) <= set(ours[dest].option_strings), flags


@pytest.mark.parametrize(
    ('line', 'folder'),
    [('', None), ('one', 'one'), ('--data-dir one', 'one'), ('one --data-dir one', 'one')],
)
def test_a_folder_may_be_given_in_either_way_or_in_both(line, folder):
    assert parse_arguments(line.split())[0].data_dir == folder


@pytest.mark.parametrize('folders', [('one', 'two'), ('two', 'one')])
def test_two_different_folders_are_named(errors, folders):
    expected = f'--data-dir {folders[1]} and the positional {folders[0]} are two different folders'
    assert errors(f'{folders[0]} --data-dir {folders[1]}').endswith(expected)
