"""Training's own answers before the first run: the resolved arguments, epochs and images, and its refusals."""

import subprocess
import sys
from pathlib import Path

import pytest

from train_patch.common.errors import RunError, WrongArguments
from train_patch.comparison.training_arguments import error_message, look_ahead, resolve

TIMM_LIKE = Path(__file__).parents[1] / 'launcher' / 'timm_like.py'


def test_arguments_are_resolved_as_args_yaml_records_them():
    first, second = resolve(None, [['--data-dir', 'x', '--lr', '0.5', '--opt-kwargs', 'eps=1'], ['--data-dir', 'y']])
    assert (first['data_dir'], first['lr'], first['opt_kwargs'], second['data_dir']) == ('x', 0.5, {'eps': 1}, 'y')
    assert type(first['opt_kwargs']) is dict and 'config' not in first


@pytest.fixture
def quick(processes, monkeypatch):
    """The process that `resolve` starts comes from the tests' server, which has imported torch and timm."""

    def run(command, input, **kwargs):
        assert command[:2] == [sys.executable, '-m']
        done = processes.module(*command[2:], stdin=input).wait()
        return subprocess.CompletedProcess(command, done.status, done.stdout, done.stderr)

    monkeypatch.setattr(subprocess, 'run', run)


def test_timms_script_resolves_them_itself_with_the_modules_beside_it(tmp_path, quick):
    (tmp_path / 'this.py').write_text('number = 0.375\n')  # Python has a module of that name: the neighbour goes before
    script = tmp_path / 'train.py'
    said = 'import yaml\nimport this\n\nprint("hello")\n'
    option = "parser.add_argument('--fraction', type=float, default=this.number)\n"
    script.write_text(TIMM_LIKE.read_text().replace('import yaml\n', said, 1) + option)
    first, second = resolve(script, [['--mix-mode', 'hmix', '--epochs', '7'], ['--fraction', '0.5']])
    assert (first['mix_mode'], first['epochs'], first['fraction'], first['cutmix']) == ('hmix', 7, 0.375, 1.0)
    assert (second['mix_mode'], second['epochs'], second['fraction'], second['cutmix']) == (None, 2, 0.5, 0.0)


def test_a_script_that_is_not_timms_is_refused(tmp_path, quick):
    script = tmp_path / 'train.py'
    script.write_text('print("no script of timm")\n')
    with pytest.raises(WrongArguments, match=r'train\.py is not a timm train script'):
        resolve(script, [[]])


def test_a_bug_in_a_script_ends_with_its_traceback(tmp_path, quick):
    script = tmp_path / 'train.py'
    script.write_text(TIMM_LIKE.read_text() + '1 / 0\n')
    with pytest.raises(RunError, match=r'(?s)train\.py ends with an error of its own:.*1 / 0.*ZeroDivisionError'):
        resolve(script, [[]])


@pytest.mark.parametrize(
    ('output', 'message'),
    [
        ('Traceback (…):\n  File "x.py"\ntorch.OutOfMemoryError: out of memory\nbye\n\n', None),
        ('usage: …\nhmix-train: error: argument --lr: invalid float value\n', 'argument --lr: invalid float value'),
        ('Train: 0\nERROR: the loss is nan in epoch 3\n', 'the loss is nan in epoch 3'),
        ('ValueErrors …\nan error: x\none line\nKilled\n', 'Killed'),
        (' \n', 'no output'),
    ],
)
def test_the_message_of_a_failed_process_is_its_error(output, message):
    assert error_message(output) == (message or 'torch.OutOfMemoryError: out of memory')


@pytest.mark.parametrize(
    ('more', 'epochs', 'images'),
    [
        ([], 2, 16),
        (['--epochs', '5', '--cooldown-epochs', '3'], 8, 16),
        (['--epochs', '5', '--warmup-epochs', '2', '--warmup-prefix'], 7, 16),
        (['--sched', 'step', '--epochs', '5', '--cooldown-epochs', '3'], 5, 16),
        (['--val-split', ''], 2, None),
        (['--vary', 'val_split=,validation'], 2, None),  # not those of one row for all
        (['--aug-repeats', '3', '--nproc-per-node', '2'], 2, 16),
    ],
)
def test_epochs_and_validation_images_are_those_of_schedule_and_data(plan, arguments, tmp_path, more, epochs, images):
    comparison = plan([*arguments(tmp_path), *more])
    assert look_ahead(comparison, prepare=None)
    assert {run.read().epochs for run in comparison.runs} == {epochs} and comparison.images == images


def test_data_that_would_be_downloaded_are_left_alone_if_nothing_may_be_written(plan, arguments, tmp_path):
    comparison = plan(arguments(tmp_path, '--dataset', 'torch/cifar10', '--dataset-download', '--data-dir', tmp_path))
    assert not look_ahead(comparison, prepare=None)
    assert list(tmp_path.iterdir()) == []


def test_an_older_script_may_lack_options_and_name_the_folder_as_data(plan, arguments, tmp_path):
    """And the names of models that this project does not know."""
    comparison = plan([*arguments(tmp_path), '--modes', 'none', '--seeds', '0'])
    kept = ('dataset', 'epochs', 'sched', 'opt', 'num_classes', 'input_size')
    older = {key: value for key, value in comparison.training.items() if key in kept}
    older |= {'data': comparison.training['data_dir'], 'model': 'new_model'}
    comparison.variants[0].resolved.clear()
    comparison.variants[0].resolved.update(older)
    comparison.script = Path('train.py')
    assert look_ahead(comparison, prepare=None)
    assert comparison.runs[0].read().epochs == 2 and comparison.images == 16
