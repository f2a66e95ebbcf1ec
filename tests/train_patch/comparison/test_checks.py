"""What is asked before the first run: one download at a time, and the number of epochs and images."""

import io
import json
import os
import shutil
import sys
from argparse import Namespace
from pathlib import Path

import pytest
import yaml
from filelock import FileLock, Timeout

from train_patch.common.errors import RunError
from train_patch.comparison import checks
from train_patch.comparison.checks import Prospect, download_lock, look_ahead, message_of, resolve


def is_free(path):
    try:
        with FileLock(path, timeout=0):
            return True
    except Timeout:
        return False


@pytest.mark.parametrize('download', [True, False])
def test_only_one_comparison_at_a_time_downloads_into_a_folder(tmp_path, download):
    lock = tmp_path / 'data' / '.hmix-compare.lock'
    (tmp_path / 'data').mkdir()
    with download_lock(Namespace(dataset_download=download, data_dir=str(tmp_path / 'data'))):
        assert is_free(lock) == (not download)
    assert is_free(lock)


def test_a_folder_for_the_download_is_made(tmp_path):
    with download_lock(Namespace(dataset_download=True, data_dir=str(tmp_path / 'new' / 'data'))):
        assert (tmp_path / 'new' / 'data').is_dir()


@pytest.mark.parametrize(
    ('more', 'epochs'),
    [
        ([], 2),
        (['--epochs', '5', '--cooldown-epochs', '3'], 8),
        (['--epochs', '5', '--warmup-epochs', '2', '--warmup-prefix'], 7),
        (['--sched', 'step', '--epochs', '5', '--cooldown-epochs', '3'], 5),
    ],
)
def test_the_number_of_epochs_is_the_schedules(plan, arguments, tmp_path, more, epochs):
    comparison = plan(arguments(tmp_path, *more))
    assert look_ahead(comparison.training, None, False, lambda: None).epochs == epochs


def test_the_number_of_validation_images_is_the_data_sets(plan, arguments, tmp_path):
    comparison = plan(arguments(tmp_path))
    assert look_ahead(comparison.training, None, False, lambda: None).validation_images == 16


def test_nothing_is_known_of_data_that_are_not_there(plan, arguments, tmp_path):
    comparison = plan(arguments(tmp_path, '--data-dir', tmp_path / 'nowhere'))
    assert look_ahead(comparison.training, None, False, prepare=None) is None


def test_repeated_augmentation_is_refused_for_one_process_alone(plan, arguments, tmp_path):
    training = plan(arguments(tmp_path, '--aug-repeats', '3')).training
    with pytest.raises(ValueError, match='--aug-repeats 3 works on several processes only'):
        look_ahead(training, None, False, lambda: None)
    assert look_ahead(training, None, True, lambda: None).epochs == 2


def test_arguments_are_what_args_yaml_would_hold():
    first, second = resolve(None, [['--data-dir', 'x', '--lr', '0.5', '--opt-kwargs', 'eps=1'], ['--data-dir', 'y']])
    assert (first['data_dir'], first['lr'], first['opt_kwargs'], second['data_dir']) == ('x', 0.5, {'eps': 1}, 'y')
    assert type(first['opt_kwargs']) is dict and 'config' not in first


def test_what_training_refuses_is_said_in_its_words(capsys):
    with pytest.raises(ValueError, match=r"^argument --lr: invalid float value: 'fast'$"):
        resolve(None, [['--data-dir', 'x'], ['--lr', 'fast']])
    assert capsys.readouterr().err == ''


def test_what_is_no_refusal_ends_the_process():
    with pytest.raises(SystemExit) as ended:
        resolve(None, [['--version']])
    assert ended.value.code == 0


SCRIPT = (Path(__file__).parents[1] / 'launcher' / 'timm_like.py').read_text()


@pytest.fixture
def script(tmp_path):
    """A script of the shape of timm's, with a module beside it, that says something when it is read."""
    (tmp_path / 'this.py').write_text('number = 0.375\n')  # Python has a module of that name: the neighbour goes before
    path = tmp_path / 'train.py'
    path.write_text(
        SCRIPT.replace('import yaml\n', 'import yaml\nimport this\n\nprint("hello")\n', 1)
        + "parser.add_argument('--fraction', type=float, default=this.number)\n"
    )
    return path


def ask(path, lines):
    """What `resolve` starts in a process of its own."""
    sys.argv, sys.stdin = ['checks', path], io.StringIO(json.dumps(lines))
    checks.main()


def test_timms_script_is_asked_with_the_modules_beside_it(script, processes):
    lines = [['--mix-mode', 'hmix', '--epochs', '7'], ['--mix-mode', 'none', '--fraction', '0.5']]
    process = processes.call(
        f'{__name__}:ask', {'path': str(script), 'lines': lines}, cwd=script.parent.parent
    ).passed()
    first, second = yaml.safe_load(process.stdout)  # and nothing of what the script says
    assert (first['mix_mode'], first['epochs'], first['fraction'], first['cutmix']) == ('hmix', 7, 0.375, 1.0)
    assert (second['mix_mode'], second['epochs'], second['fraction'], second['cutmix']) == ('none', 2, 0.5, 0.0)
    assert 'hello' in process.stderr


def test_a_script_that_cannot_be_used_says_why(tmp_path, processes):
    path = tmp_path / 'train.py'
    path.write_text('print("no script of timm")\n')
    process = processes.call(f'{__name__}:ask', {'path': str(path), 'lines': [[]]}).wait()
    assert process.status == 1
    assert message_of(process.stderr) and process.stderr.splitlines()[-1].startswith('error: ') and process.stdout == ''


@pytest.fixture
def python(tmp_path, monkeypatch):
    """`python(script)`: a shell script in place of Python, for what becomes of what that process says."""

    def become(script):
        path = tmp_path / 'python'
        path.write_text(f'#!/bin/sh\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setattr(sys, 'executable', str(path))

    return become


def test_that_process_gets_the_lines_and_answers_with_their_arguments(python, tmp_path):
    python(f'echo "$@" > {tmp_path}/words; cat')
    assert resolve(Path('a/train.py'), [('--lr', '1'), ['--model', 'b c']]) == [['--lr', '1'], ['--model', 'b c']]
    assert (tmp_path / 'words').read_text() == '-m train_patch.comparison.checks a/train.py\n'


def test_what_that_process_complains_about_is_the_refusal(python):
    python('echo "train.py: error: argument --epochs: invalid" >&2; exit 2')
    with pytest.raises(ValueError, match=r'^argument --epochs: invalid$'):
        resolve(Path('a/train.py'), [['--epochs', 'many']])


@pytest.fixture
def training(plan, arguments, tmp_path):
    """`training(*more)`: the resolved arguments of one run."""
    return lambda *more: plan([*arguments(tmp_path, *more), '--modes', 'none']).training


def test_a_script_has_its_own_names(training):
    """What this project's script would refuse may be known to timm's."""
    arguments = {**training(), 'model': 'test_mambaoot'}
    assert look_ahead(arguments, Path('train.py'), False, lambda: None).validation_images == 16
    with pytest.raises(ValueError, match='--model test_mambaoot: no such model'):
        look_ahead(arguments, None, False, lambda: None)


def test_a_script_may_lack_options_and_have_the_folder_as_data(training):
    arguments = training()
    arguments = {
        'data': arguments['data_dir'],
        **{key: arguments[key] for key in ('dataset', 'epochs', 'sched', 'opt', 'model', 'num_classes', 'input_size')},
    }
    assert look_ahead(arguments, Path('train.py'), False, None) == Prospect(2, 16)


def test_the_data_are_made_before_they_are_looked_at(training, work, tmp_path):
    copy = tmp_path / 'data'
    arguments = {**training(), 'data_dir': str(copy)}
    assert look_ahead(arguments, None, False, lambda: shutil.copytree(work / 'data', copy)) == Prospect(2, 16)


def test_data_that_are_there_are_looked_at_where_nothing_may_be_written(training):
    assert look_ahead(training(), None, False, None) == Prospect(2, 16)


def test_data_that_would_be_downloaded_are_not_looked_at_where_nothing_may_be_written(training, tmp_path):
    arguments = {**training(), 'dataset': 'torch/cifar10', 'dataset_download': True, 'data_dir': str(tmp_path)}
    assert look_ahead(arguments, None, False, None) is None
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_known_of_data_without_a_folder(training):
    assert look_ahead({**training(), 'data_dir': None, 'data': None}, None, False, None) is None


def test_without_validation_there_are_no_images_to_count(training):
    assert look_ahead({**training(), 'val_split': ''}, None, False, lambda: None) == Prospect(2, None)


def test_what_stops_training_is_said_in_its_words(training, tmp_path):
    with pytest.raises(ValueError, match=r'^--data-dir nowhere: there is no such folder$'):
        look_ahead({**training(), 'data_dir': 'nowhere'}, None, False, lambda: None)
    with pytest.raises(ValueError, match='the data has 2 classes; pass --num-classes 2'):
        look_ahead({**training(), 'num_classes': 3}, None, False, lambda: None)


def test_a_folder_that_nobody_may_write_to_is_not_locked(tmp_path, monkeypatch):
    """The data are there already; root may write everywhere, so that the system is made to say no."""
    monkeypatch.setattr(os, 'access', lambda path, mode: mode != os.W_OK)
    with download_lock(Namespace(dataset_download=True, data_dir=str(tmp_path))):
        assert list(tmp_path.iterdir()) == []


def test_a_timm_that_is_too_old_is_named_first(training, monkeypatch):
    monkeypatch.setattr('timm.__version__', '0.9.16')
    with pytest.raises(RunError, match=r'^timm 0\.9\.16 at .* is too old'):
        look_ahead({**training(), 'data_dir': 'nowhere'}, None, False, lambda: None)
