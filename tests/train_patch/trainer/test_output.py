"""A run's folder: what is written when, what a resumed run takes over, and what is said at the end."""

import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml

from train_patch.common.errors import RunError
from train_patch.trainer.arguments import WrongArguments
from train_patch.trainer.output import Output, best_epochs, output_folder
from train_patch.trainer.summary import read_table

ARGUMENTS = {'model': 'test_resnet', 'resume': '', 'checkpoint_hist': 2, 'scale': [0.1, 1.0], 'lr': 0.1}
WANDB = {'wandb_project': 'p', 'wandb_tags': ['a', 'b'], 'wandb_resume_id': ''}


def make(folder, eval_metric='top1', checkpoint=None, **arguments):
    return Output(folder, {**ARGUMENTS, **arguments}, eval_metric, checkpoint)


def row(top1, loss=1.0):
    return {'train_loss': loss, 'eval_loss': loss, 'eval_top1': top1, 'lr': 0.1}


def state(epoch):
    return {'state_dict': {'weight': torch.full((1,), float(epoch))}, 'optimizer': {}}


def record(output, epoch, metric, seconds=(1.0, 2.0)):
    output.record(epoch, row(metric), seconds, metric, state(epoch))


def saved(path):
    return torch.load(path, weights_only=True)


def named(**given):
    return SimpleNamespace(**{'output': '', 'experiment': '', 'model': 'test_resnet', **given})


def test_a_folder_has_the_name_that_is_given():
    assert output_folder(named(output='runs', experiment='a'), (3, 32, 40)) == Path('runs/a')
    assert output_folder(named(experiment='a'), (3, 32, 40)) == Path('output/train/a')


def test_a_folder_without_a_name_says_when_what_and_how_large():
    folder = output_folder(named(output='runs', model='hf-hub:timm/x.y'), (3, 32, 40))
    assert re.fullmatch(r'20\d{6}-\d{6}-[\w-]*x_y-40', folder.name) and folder.parent == Path('runs')


def test_arguments_are_written_at_once_and_kept_from_later_changes(tmp_path):
    arguments = {**ARGUMENTS}
    output = Output(tmp_path / 'all' / 'run', arguments, 'top1')
    arguments['lr'] = 7.0
    text = (tmp_path / 'all' / 'run' / 'args.yaml').read_text()
    assert yaml.safe_load(text) == ARGUMENTS == output.arguments
    assert 'scale:\n- 0.1\n- 1.0\n' in text  # a line for each value, as timm writes it


@pytest.mark.parametrize(
    ('resume', 'own', 'taken'), [('', False, False), ('auto', False, True), ('x', True, True), ('x', False, False)]
)
def test_a_folder_that_holds_a_run_is_for_those_who_go_on_with_it(tmp_path, resume, own, taken):
    record(make(tmp_path), 0, 50.0)
    checkpoint = (tmp_path if own else tmp_path / 'other') / 'last.pth.tar'
    if taken:
        make(tmp_path, checkpoint=checkpoint, resume=resume)
    else:
        with pytest.raises(WrongArguments, match=f'--experiment: {tmp_path} holds a run already; --resume auto goes'):
            make(tmp_path, checkpoint=checkpoint if resume else None, resume=resume)


def test_a_run_is_its_own_by_whatever_path_it_is_named(tmp_path, monkeypatch):
    record(make(tmp_path / 'run'), 0, 50.0)
    monkeypatch.chdir(tmp_path)
    make(Path('run'), checkpoint=tmp_path / 'run' / 'last.pth.tar', resume='x')
    make(tmp_path / 'run', checkpoint=Path('run/last.pth.tar'), resume='x')


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(RunError, match=f'^cannot write {tmp_path}/file/run: Not a directory$'):
        make(tmp_path / 'file' / 'run')


def test_an_epoch_stands_in_both_tables_and_in_a_checkpoint(tmp_path):
    output = make(tmp_path)
    record(output, 3, 50.0, (1.23456, 0.0004))
    record(output, 4, 40.0, (61.0, 2.5))
    header = 'epoch,train_loss,eval_loss,eval_top1,lr\n'
    assert (tmp_path / 'summary.csv').read_text() == f'{header}3,1.0,1.0,50.0,0.1\n4,1.0,1.0,40.0,0.1\n'
    expected = 'epoch,train_time,eval_time\n3,1.235,0.000\n4,61.000,2.500\n'
    assert (tmp_path / 'times.csv').read_text() == expected
    last, best = (saved(tmp_path / f'{name}.pth.tar') for name in ('last', 'model_best'))
    assert (last['epoch'], last['metric'], last['args']) == (4, 40.0, ARGUMENTS)
    assert float(last['state_dict']['weight']) == 4.0
    assert (best['epoch'], best['metric']) == (3, 50.0)


@pytest.mark.parametrize(('metric', 'best'), [('top1', 1), ('loss', 2)])
def test_the_best_epoch_has_the_highest_accuracy_or_the_lowest_loss(tmp_path, metric, best):
    output = make(tmp_path, eval_metric=metric)
    for epoch, value in enumerate((5.0, 9.0, 1.0, 4.0)):
        record(output, epoch, value)
    assert saved(tmp_path / 'model_best.pth.tar')['epoch'] == best
    kept = {path.name for path in tmp_path.glob('checkpoint-*')}
    assert len(kept) == ARGUMENTS['checkpoint_hist'] and f'checkpoint-{best}.pth.tar' in kept


def test_tables_are_written_before_the_checkpoint(tmp_path, monkeypatch):
    """So a run that is killed in between trains that epoch again, and never lacks a row."""
    output = make(tmp_path)
    seen = []
    monkeypatch.setattr(
        output.saver, 'save_checkpoint', lambda *_: seen.append(list(read_table(tmp_path / 'summary.csv')))
    )
    record(output, 0, 50.0)
    assert seen == [[0]] and list(read_table(tmp_path / 'times.csv')) == [0]


def test_a_recovery_says_where_in_the_epoch_it_stands(tmp_path):
    make(tmp_path).save_recovery(3, 14, state(3))
    (path,) = tmp_path.glob('recovery-*')
    found = saved(path)
    assert (path.name, found['batches_done'], found['args']) == ('recovery-3-14.pth.tar', 14, ARGUMENTS)


def test_a_resumed_run_takes_over_what_lies_before_its_start(tmp_path):
    first = make(tmp_path / 'first')
    for epoch, metric in enumerate((50.0, 60.0, 55.0, 70.0)):
        record(first, epoch, metric, (1.0 + epoch, 0.5))
    path = tmp_path / 'first' / 'checkpoint-1.pth.tar'
    second = make(tmp_path / 'second')
    second.restore(path, saved(path), start_epoch=2)
    assert {epoch: row['eval_top1'] for epoch, row in second.rows.items()} == {0: '50.0', 1: '60.0'}
    assert {epoch: row['train_time'] for epoch, row in second.times.items()} == {0: '1.000', 1: '2.000'}
    assert not (tmp_path / 'second' / 'summary.csv').exists()
    second.write_tables()
    assert list(read_table(tmp_path / 'second' / 'summary.csv')) == [0, 1]
    assert (second.saver.best_metric, second.saver.best_epoch) == (60.0, 1)


class Wandb:
    """What Weights & Biases is told."""

    def __init__(self):
        self.started, self.logged = [], []

    def init(self, **kwargs):
        self.started.append(kwargs)

    def log(self, row):
        self.logged.append(dict(row))


@pytest.mark.parametrize(('resumed', 'resume', 'number'), [('', None, None), ('x1', 'must', 'x1')])
def test_weights_and_biases_are_told_of_the_run_and_of_every_epoch(tmp_path, monkeypatch, resumed, resume, number):
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, 'wandb', wandb)
    arguments = {**WANDB, 'wandb_resume_id': resumed}
    output = make(tmp_path / 'run', **arguments)
    record(output, 0, 50.0)
    assert wandb.started == wandb.logged == []
    output.start_wandb()
    assert wandb.started == [
        {
            'project': 'p',
            'name': 'run',
            'config': {**ARGUMENTS, **arguments},
            'tags': ['a', 'b'],
            'resume': resume,
            'id': number,
        }
    ]
    record(output, 1, 60.0)
    assert wandb.logged == [{'epoch': 1, **row(60.0)}]


def test_the_end_names_the_best_epoch_and_prints_timms_result(tmp_path, capsys, caplog):
    output = make(tmp_path)
    caplog.set_level('INFO', 'train')
    output.report()
    assert (caplog.text, capsys.readouterr().out) == ('', '--result\n[]\n')
    for epoch, metric in enumerate((50.0, 60.0, 55.0)):
        record(output, epoch, metric)
    output.report()
    assert '*** Best metric: 60.0 (epoch 1)' in caplog.text
    printed = capsys.readouterr().out
    assert printed.startswith('--result\n[\n    {\n        "epoch": 0')  # four spaces, as timm prints it
    assert [result['epoch'] for result in json.loads(printed.removeprefix('--result\n'))] == [0, 2, 1]


def test_the_best_epochs_without_validation_are_those_of_the_lowest_training_loss():
    rows = {epoch: {'epoch': epoch, 'train_loss': loss, 'lr': 0.1} for epoch, loss in enumerate((3.0, 1.0, 2.0))}
    assert best_epochs(rows, 'loss') == [
        {'epoch': 0, 'train': {'loss': 3.0}},
        {'epoch': 2, 'train': {'loss': 2.0}},
        {'epoch': 1, 'train': {'loss': 1.0}},
    ]


def test_the_best_epochs_are_read_from_text_and_a_column_left_empty_is_none():
    rows = {
        0: {'epoch': '0', 'train_loss': '3.5', 'eval_top1': '', 'eval_loss': '2.0', 'lr': '0.1'},
        1: {'epoch': '1', 'train_loss': '3.0', 'eval_top1': '0.5', 'eval_loss': '1.0', 'lr': '0.1'},
        2: {'epoch': '2', 'train_loss': '2.0', 'eval_top1': '0.25', 'eval_loss': '1.5', 'lr': '0.1'},
    }
    assert best_epochs(rows, 'top1') == [
        {'epoch': 0, 'train': {'loss': 3.5}, 'validation': {'loss': 2.0}},
        {'epoch': 2, 'train': {'loss': 2.0}, 'validation': {'top1': 0.25, 'loss': 1.5}},
        {'epoch': 1, 'train': {'loss': 3.0}, 'validation': {'top1': 0.5, 'loss': 1.0}},
    ]
