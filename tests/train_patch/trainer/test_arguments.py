"""Arguments and recipes of the project's own script: timm's meanings, each refusal in one line, and no time lost."""

import ast
import importlib.util
import os
import re
import shlex
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from train_patch.common.errors import WrongArguments
from train_patch.trainer.arguments import parse_arguments
from train_patch.trainer.options import NOT_TAKEN, build_parser
from train_patch.trainer.setup import check_arguments

SCRIPT = os.environ.get('TIMM_TRAIN_SCRIPT')
needs_script = pytest.mark.skipif(not SCRIPT, reason='TIMM_TRAIN_SCRIPT names no timm train.py to compare with')
TIMMS = 'hmix-train path/to/timm/train.py'


@pytest.fixture
def refusal(capsys):
    """refusal('line') → the last line that a wrong command line ends with."""

    def run(line):
        try:
            with pytest.raises(SystemExit) as stopped:
                check_arguments(parse_arguments(shlex.split(line))[0])
        except WrongArguments as error:
            return str(error)
        assert stopped.value.code == 2
        return capsys.readouterr().err.strip().splitlines()[-1]

    return run


@pytest.fixture
def recipe(tmp_path):
    """recipe({...}) or recipe('text') → the path of a recipe."""

    def write(content):
        path = tmp_path / 'recipe.yaml'
        path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
        return str(path)

    return write


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('--no-such-option', 'unrecognized arguments: --no-such-option'),
        ('--epochs 0', '--epochs: 0: must be 1 or more'),
        ('--epochs 2.5', '--epochs: invalid int value'),
        ('--lr nan', '--lr: nan: must be 0 or more'),
        ('--lr -1', '--lr: -1: must be 0 or more'),
        ('--lr inf', '--lr: inf: must be 0 or more'),
        ('--lr-noise nan', '--lr-noise: nan: must be finite'),
        ('--warmup-epochs -1', '--warmup-epochs: -1: must be 0 or more'),
        ('--seed 1099511627776', '--seed: 1099511627776: must be at least 0 and at most 2147483647'),
        ('--crop-pct 0', '--crop-pct: 0: must be at least 0.1 and at most 10'),
        ('--reprob 1.5', '--reprob: 1.5: must be at least 0 and at most 1'),
        ('--decay-epochs 0', '--decay-epochs: 0: must be above 0'),
        ('--std 0 0 0', '--std: 0: must be above 0'),
        ('--std .2 .2', '--std: 2 numbers; one, or one for each of 3 channels'),
        ('--mean .5 .5 --in-chans 1', '--mean: 2 numbers; one, or one for each of 1 channels'),
        ('--scale 1 0.1', '--scale 1 0.1: the smaller one comes first'),
        ('--scale 0.1', '--scale: expected 2 arguments'),
        ('--no-aug --scale 0.1 1 --hflip 0 --vflip 0.1', 'error: --scale, --vflip: no effect with no_aug'),
        ('--train-interpolation cubic', "--train-interpolation: invalid choice: 'cubic'"),
        ('--model-kwargs a=1 patch_size', '--model-kwargs: a=1 patch_size: must be KEY=VALUE'),
        ('--model-kwargs =1', '--model-kwargs: =1: must be KEY=VALUE'),
        ('--start-epoch 10 --epochs 10', '--start-epoch 10: the schedule has 10 epochs, counted from 0'),
        ('--dataset cifar10', '--dataset cifar10: must be torch/… or hfds/…'),
        ('--dataset wds/x', '--dataset wds/x: must be torch/… or hfds/…'),
        ('--torchcompile-mode default', '--torchcompile-mode needs --torchcompile'),
        ('--in-chans 7', '--in-chans: 7 channels need an --input-img-mode of 7 channels of 8 bits .*, not L'),
        ('--input-size 2 32 32', '--input-size: 2 channels need .*, not L'),
        ('--input-size 3 8 9 --in-chans 1', '--in-chans 1: --input-size has 3 channels'),
        ('--in-chans 1 --input-img-mode F', '--in-chans: 1 channels need .* 8 bits .*, not F'),
        ('--in-chans 1 --input-img-mode P', '--in-chans: 1 channels need .* 8 bits .*, not P'),
        ('--input-img-mode XYZ', '--input-img-mode XYZ: PIL knows no such mode'),
        ('--model resnet5O', '--model resnet5O: no such model in timm; the nearest is resnet50'),
        ('--model qqqqqqqq', '--model qqqqqqqq: no such model in timm$'),
        ('--opt no-such-opt', '--opt no-such-opt: '),
        ('--opt adamw --opt-betas 2 3', '--opt adamw: Invalid beta'),
        ('--opt-kwargs no_such=1', "--opt sgd: .*'no_such'"),
        ('--sched cosin', '--sched cosin: '),
        ('--aa no-such-policy', '--aa no-such-policy: timm does not know this policy'),
        ('--device no-such-device', '--device no-such-device: cannot be used here: '),
        ('--device meta', '--device meta: cannot be used here: '),
        ('--device cuda:99', '--device cuda:99: there are [0-9]+ CUDA devices, counted from 0'),
        ('--aug-repeats 3', '--aug-repeats 3 works on several processes only'),
        ('--resume auto', '--resume auto needs --experiment'),
        ('--class-map classes.pkl', '--class-map classes.pkl: a text file'),
        ('one --data-dir two', '--data-dir two and the positional one are two different folders'),
        ('--wandb-resume-id x', '--wandb-resume-id needs --log-wandb'),
        ('--mix-mode hmx', "--mix-mode must be one of .*, got 'hmx'"),
    ],
)
def test_wrong_arguments_end_with_one_line(refusal, line, expected):
    assert re.search(expected, refusal(line))


def test_a_missing_wandb_is_an_error_where_it_is_needed(refusal):
    if importlib.util.find_spec('wandb'):
        pytest.skip('wandb is installed')
    assert '--log-wandb: the package wandb is not installed' in refusal('--log-wandb')


@pytest.mark.parametrize(
    ('content', 'expected'),
    [
        ('batch_sise: 8', r"unknown key in the recipe: 'batch_sise' \(the nearest known one is 'batch_size'\)"),
        ('mix-mode: hmix', r"unknown key in the recipe: 'mix-mode' \(the nearest known one is 'mix_mode'\)"),
        ('qqqqqqqq: 1', "unknown key in the recipe: 'qqqqqqqq'$"),
        ('mix_mode: hmx', "--mix-mode must be one of .*, got 'hmx'"),
        ('epochs: many', r"recipe.yaml: error: argument --epochs: invalid int value: 'many'"),
        ('epochs: 2.5', "--epochs: invalid int value: '2.5'"),
        ('epochs: true', "--epochs: invalid int value: 'True'"),
        ('epochs: null', '--epochs in the recipe must have a value, got null; without the key it is '),
        ('hflip: null\nepochs: 1', '--hflip in the recipe must have a value, got null; without the key it is '),
        (
            'no_aug: true\naa: original\nhflip: 0.9\ntrain_pading: 1',
            "'train_pading' .the nearest known one is 'train_pad",
        ),
        ('mixup_prob: null', '--mixup-prob in the recipe must have a value, got null; without the key it is '),
        ('amp: "yes"', "argument --amp: ignored explicit argument 'yes'"),
        ('amp_dtype: float8', "--amp-dtype: invalid choice: 'float8'"),
        ('scale: [0.1, 0.2, 0.3]', '--scale in the recipe: must be a list of 2'),
        ('model_kwargs: 3', '--model-kwargs: 3: must be KEY=VALUE'),
        ('epochs: [1, 2]', r"--epochs: invalid int value: '\[1, 2\]'"),
        ('std: [0, 0, 0]', '--std: 0: must be above 0'),
        ('- a\n- b', 'must hold lines of "name: value"'),
        ('a: [', 'is not plain YAML'),
        ('epochs: 1\nepochs: 2', "the key 'epochs' is there twice"),
    ],
)
def test_wrong_recipes_end_with_one_line(refusal, recipe, content, expected):
    line = refusal(f'-c {recipe(content)}')
    assert re.search(expected, line), line


def test_null_means_timms_none(recipe):
    nulls = recipe(dict.fromkeys(('color_jitter', 'scale', 'ratio', 'smoothing', 'cutmix_minmax', 'aa')))
    args = parse_arguments(['-c', str(nulls)])[0]
    assert (args.color_jitter, args.smoothing, args.aa) == (None, 0.0, None)  # no jitter, which is not the same as 0
    assert (args.scale, args.ratio) == ([0.08, 1.0], [3 / 4, 4 / 3])
    args = parse_arguments(['-c', str(nulls), '--color-jitter', '0.1', '--smoothing', '0.2'])[0]
    assert (args.color_jitter, args.smoothing) == (0.1, 0.2)


def test_the_command_line_beats_wrong_mixing_and_options_that_are_not_taken(recipe):
    wrong = recipe(
        {'aug_splits': 2, 'mixup': 'none', 'cutmix': -1, 'epochs': 'many', 'dataset': 'tfds/x', 'hflip': None}
    )
    line = '--aug-splits 0 --mix-mode hmix --epochs 1 --dataset= --hflip 0'
    args, mixing = parse_arguments(['-c', str(wrong), *line.split()])
    assert (args.epochs, args.dataset, mixing.mode) == (1, '', 'hmix')


def test_all_unknown_keys_are_named_at_once(refusal, recipe):
    line = refusal(f'-c {recipe({"batch_sise": 8, "epoch": 3, "lr": 0.1})}')
    assert line.endswith(
        "unknown keys in the recipe: 'batch_sise' (the nearest known one is 'batch_size'), "
        "'epoch' (the nearest known one is 'epochs')"
    )


def test_a_missing_recipe_is_named(refusal, tmp_path):
    assert f"'{tmp_path}/none.yaml' is neither a file nor a shipped recipe" in refusal(f'-c {tmp_path}/none.yaml')


# Options of timm's that this script does not take


def words(name, value):
    option = f'--{name.replace("_", "-")}'
    return [option, *map(str, value)] if isinstance(value, list) else [f'{option}={value}']


def test_timms_other_options_pass_at_timms_defaults(recipe):
    path = recipe({**NOT_TAKEN, 'epochs': 7})
    typed = [word for name, value in NOT_TAKEN.items() if value not in (None, False) for word in words(name, value)]
    for line in (['-c', path], typed, ['-c', path, *typed], ['-c', recipe(dict.fromkeys(NOT_TAKEN))]):
        args, _ = parse_arguments(line)
        assert not NOT_TAKEN.keys() & vars(args).keys()


@pytest.mark.parametrize('place', ['recipe', 'command line'])
def test_all_options_that_are_not_taken_are_refused_at_once_with_the_remedy(refusal, recipe, place):
    given = {'aug_splits': 3, 'jsd_loss': True, 'kd_model_name': 'resnet50', 'lr_cycle_limit': 2, 'tta': 0}
    line = '--aug-splits 3 --jsd --kd-model-name resnet50 --lr-cycle-limit 2 --tta 0'
    message = refusal(f'-c {recipe(given)}' if place == 'recipe' else line)
    named = '--aug-splits, --jsd-loss, --kd-model-name, --lr-cycle-limit: '
    assert f'error: {named}' in message and TIMMS in message


def test_a_default_on_the_command_line_replaces_the_value_of_a_recipe(refusal, recipe):
    path = recipe({'aug_splits': 3, 'lr_cycle_limit': 2})
    assert '--lr-cycle-limit: this script' in refusal(f'-c {path} --aug-splits 0')
    parse_arguments(['-c', path, '--aug-splits', '0', '--lr-cycle-limit', '1'])


@needs_script
def test_every_option_of_timms_is_taken_or_not_with_timms_default():
    ours = {action.dest: action for action in build_parser()._actions}
    calls = [
        node
        for node in ast.walk(ast.parse(Path(SCRIPT).read_text()))
        if isinstance(node, ast.Call) and getattr(node.func, 'attr', '') == 'add_argument' and node.args
    ]
    assert len(calls) > 150
    for call in calls:
        flags = [ast.literal_eval(flag) for flag in call.args]
        keywords = {keyword.arg: keyword.value for keyword in call.keywords}
        dest = next((flag[2:] for flag in flags if flag.startswith('--')), flags[0]).replace('-', '_')
        assert dest in ours, flags
        if dest in ('config', 'device', 'data') or 'default' not in keywords:
            continue
        default = eval(compile(ast.Expression(keywords['default']), SCRIPT, 'eval'), {})
        if dest in NOT_TAKEN:
            assert NOT_TAKEN[dest] == default, dest
            continue
        assert ours[dest].default == default, dest
        assert ours[dest].type or ast.unparse(keywords.get('type', ast.Constant(''))) not in ('int', 'float'), dest
        assert set(flags) <= set(ours[dest].option_strings), flags


# Recipes


def test_a_recipe_sets_defaults_and_the_command_line_beats_it(recipe):
    content = {
        'model': 'test_vit',
        'lr': '1e-3',  # YAML reads text
        'epochs': 7,
        'batch_size': 4,
        'opt_betas': [0.9, 0.95],
        'lr_noise': 0.5,
        'model_kwargs': {'patch_size': 8, 'name': 'a b', 'flag': True, 'nothing': None, 'list': [1, 'x']},
        'opt_kwargs': {},
        'mix_mode': 'hmix',
        'amp': True,
        'pin_mem': False,
        'clip_grad': None,
        'val_split': None,  # timm's None: no validation
        'experiment': 12,
    }
    args = vars(parse_arguments(['-c', recipe(content), '--epochs', '9', '-b', '16', 'some/folder'])[0])
    assert (args['model'], args['lr'], args['epochs'], args['batch_size']) == ('test_vit', 0.001, 9, 16)
    assert (args['opt_betas'], args['lr_noise'], args['model_kwargs']) == ([0.9, 0.95], [0.5], content['model_kwargs'])
    assert (args['amp'], args['pin_mem'], args['clip_grad'], args['experiment']) == (True, False, None, '12')
    assert (args['data_dir'], args['val_split'], args['opt_kwargs']) == ('some/folder', '', {})
    assert (args['mix_mode'], args['cutmix'], args['hmix_ratio']) == ('hmix', 1.0, 0.75)
    assert 'config' not in args


def test_a_value_that_the_command_line_replaces_is_not_judged(recipe):
    path = recipe({'epochs': 'many', 'scale': [3], 'data_dir': 'one', 'data': 'one', 'amp': 'yes'})
    args, _ = parse_arguments(['-c', path, '--epochs', '3', '--scale', '0.5', '1', '--data-dir', 'two', '--amp'])
    assert (args.epochs, args.scale, args.data_dir) == (3, [0.5, 1.0], 'two')
    assert parse_arguments(['-c', recipe({'data_dir': 'one', 'data': 'one'}), 'two'])[0].data_dir == 'two'


def test_one_recipe_leaves_nothing_to_the_next_command_line(recipe):
    parse_arguments(['-c', recipe({'epochs': 7, 'opt_kwargs': {'nesterov': True}})])
    args, _ = parse_arguments([])
    assert (args.epochs, args.opt_kwargs) == (300, {})


@pytest.mark.parametrize(
    ('line', 'folder'), [('', None), ('one', 'one'), ('--data-dir one', 'one'), ('one --data-dir one', 'one')]
)
def test_a_folder_may_be_given_in_either_way_or_in_both(line, folder):
    assert parse_arguments(line.split())[0].data_dir == folder


def test_keyword_arguments_are_python_literals_where_they_can_be():
    args, _ = parse_arguments(['--model-kwargs', 'a=1e-3', 'b=[1, 2]', 'c=x=y', 'd=None', 'e='])
    assert args.model_kwargs == {'a': 0.001, 'b': [1, 2], 'c': 'x=y', 'd': None, 'e': ''}


def test_a_recipe_runs_no_code(refusal, recipe, tmp_path):
    marker = tmp_path / 'ran'
    path = recipe(f'model: !!python/object/apply:os.system ["touch {marker}"]\n')
    assert 'is not plain YAML' in refusal(f'-c {path}')
    assert not marker.exists()


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
OPTIONS = sorted(build_parser()._option_string_actions.keys() - {'-h', '--help', '--version', '-c', '--config'})
ODD_WORDS = ['0', '1', '-1', '3', '.5', '1e9', 'nan', 'inf', '1e999', '', 'x', 'a=1', 'sgd', 'hmix', 'cpu']


@settings(max_examples=80, deadline=None)
@given(
    content=st.dictionaries(st.sampled_from(DESTS), ODD_VALUES, max_size=3),
    line=st.lists(st.tuples(st.sampled_from(OPTIONS), st.lists(st.sampled_from(ODD_WORDS), max_size=3)), max_size=3),
)
def test_odd_arguments_are_taken_or_refused_and_nothing_else(tmp_path_factory, content, line):
    path = tmp_path_factory.getbasetemp() / 'odd.yaml'
    path.write_text(yaml.safe_dump(content))
    try:
        check_arguments(parse_arguments(['-c', str(path), *(w for option, w2 in line for w in (option, *w2))])[0])
    except WrongArguments:
        pass
    except SystemExit as stopped:
        assert stopped.code == 2
