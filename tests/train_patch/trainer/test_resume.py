"""Where a run starts: which checkpoint it goes on from, at which epoch and batch, with which schedule and rows."""

from pathlib import Path

import pytest
import torch

from train_patch.common.errors import RunError
from train_patch.trainer import resume
from train_patch.trainer.output import Output
from train_patch.trainer.resume import find_resume_path
from train_patch.trainer.summary import read_table

from .test_loop import arguments, batches, make_run

CPU = torch.device('cpu')


def write(folder, name, **content):
    torch.save({'version': 2, 'state_dict': {}, 'optimizer': {}, **content}, folder / f'{name}.pth.tar')


def asked(folder, line, rank=0):
    args = arguments(line)
    args.rank = rank
    return find_resume_path(args, folder, CPU)


def test_without_resume_a_run_starts_afresh_whatever_is_there(tmp_path):
    write(tmp_path, 'last', epoch=3)
    assert asked(tmp_path, '') is None


def test_a_path_is_taken_as_it_is(tmp_path):
    write(tmp_path, 'last', epoch=3)
    assert asked(tmp_path, '--resume some/file.pth.tar') == Path('some/file.pth.tar')


def test_auto_takes_the_newest_or_says_that_there_is_none(tmp_path, caplog):
    caplog.set_level('INFO', 'train')
    line = '--resume auto --experiment a'
    assert asked(tmp_path, line) is None
    assert f'--resume auto: no checkpoint in {tmp_path}, starting from the beginning.' in caplog.text
    caplog.clear()
    write(tmp_path, 'last', epoch=3)
    write(tmp_path, 'checkpoint-3', epoch=3)
    assert asked(tmp_path, line) == tmp_path / 'last.pth.tar'
    assert caplog.text == ''


def test_only_the_first_process_looks(tmp_path, caplog):
    write(tmp_path, 'last', epoch=3)
    assert asked(tmp_path, '--resume auto --experiment a', rank=1) is None
    assert caplog.text == ''


class Schedule:
    """Writes down what timm's schedules are told."""

    def __init__(self):
        self.told = []

    def step(self, epoch, metric):
        self.told.append(('epoch', epoch, metric))

    def step_update(self, updates):
        self.told.append(('update', updates))


# 7 batches in groups of 3: three updates an epoch
LINE = '--grad-accum-steps 3 --epochs 9'
TRAIN = batches(*[4] * 7)


def run_of(line='', output=None):
    run = make_run(f'{LINE} {line}', TRAIN)
    run.schedule, run.output = Schedule(), output
    return run


def checkpoint_of(run, folder, name='last', **content):
    path = folder / f'{name}.pth.tar'
    torch.save({**run.state(), 'version': 2, **content}, path)
    return path


@pytest.mark.parametrize(
    ('line', 'start', 'told'),
    [
        ('', (0, 0), []),
        ('--start-epoch 0', (0, 0), []),
        ('--start-epoch 2', (2, 0), [('epoch', 2, None), ('update', 6)]),
    ],
)
def test_without_a_checkpoint_the_schedule_goes_to_where_training_starts(line, start, told):
    run = run_of(line)
    assert resume.restore(run, None) == start
    assert run.schedule.told == told


@pytest.mark.parametrize(
    ('content', 'line', 'start', 'told'),
    [
        ({'epoch': 4, 'metric': 60.5}, '', (5, 0), [('epoch', 5, 60.5), ('update', 15)]),
        ({'epoch': 4, 'batches_done': 3}, '', (5, 3), [('epoch', 5, None), ('update', 16)]),
        ({'epoch': -1, 'batches_done': 6}, '', (0, 6), [('update', 2)]),
        ({'epoch': 4, 'batches_done': 3}, '--start-epoch 2', (2, 0), [('epoch', 2, None), ('update', 6)]),
        ({'epoch': 4, 'metric': 60.5}, '--start-epoch 0', (0, 0), []),
    ],
)
def test_a_checkpoint_brings_weights_and_schedule_to_where_it_stands(tmp_path, content, line, start, told):
    torch.manual_seed(1)
    saved = run_of()
    for weight in saved.model.parameters():
        weight.data.normal_()
    run = run_of(line)
    assert resume.restore(run, checkpoint_of(saved, tmp_path, **content)) == start
    assert run.schedule.told == told
    for ours, theirs in zip(run.model.parameters(), saved.model.parameters(), strict=True):
        assert torch.equal(ours, theirs)


def test_a_run_without_a_schedule_starts_all_the_same(tmp_path):
    run = run_of()
    run.schedule = None
    assert resume.restore(run, checkpoint_of(run, tmp_path, epoch=4)) == (5, 0)


def output_in(folder, **more):
    given = {'resume': 'auto', 'checkpoint_hist': 3}
    return Output(folder, {**given, **more}, 'top1')


def finished(folder, epochs):
    output = output_in(folder)
    run = run_of()
    for epoch in range(epochs):
        output.record(epoch, {'train_loss': 1.0, 'eval_top1': 50.0 + epoch}, (1.0, 1.0), 50.0 + epoch, run.state())


def test_rows_that_are_trained_again_are_gone_before_training(tmp_path, caplog):
    caplog.set_level('INFO', 'train')
    finished(tmp_path, 4)
    path = tmp_path / 'checkpoint-1.pth.tar'
    run = run_of(output=output_in(tmp_path))
    assert resume.restore(run, path) == (2, 0)
    assert list(read_table(tmp_path / 'summary.csv')) == list(read_table(tmp_path / 'times.csv')) == [0, 1]
    assert f'Resumed from {path} at epoch 2, batch 0.' in caplog.text
    assert run.output.saver.best_epoch == 1


def test_tables_of_a_run_that_lost_its_checkpoints_do_not_outlive_a_start_from_the_beginning(tmp_path):
    finished(tmp_path, 2)
    resume.restore(run_of(output=output_in(tmp_path)), None)
    assert not (tmp_path / 'summary.csv').exists() and not (tmp_path / 'times.csv').exists()


@pytest.mark.parametrize('part', ['state_dict', 'optimizer'])
def test_a_checkpoint_of_another_run_is_named_in_one_line(tmp_path, part):
    run = run_of()
    path = checkpoint_of(run, tmp_path, epoch=4, **{part: {f'{i} {"x" * 30}\n': torch.zeros(1) for i in range(30)}})
    with pytest.raises(RunError) as refusal:
        resume.restore(run, path)
    text = str(refusal.value)
    start = f'the checkpoint {path} does not fit this run: '
    assert text.startswith(start) and '\n' not in text
    assert len(text) - len(start) == (300 if part == 'state_dict' else len("'param_groups'"))  # cut off at 300
