"""A run's files: its tables, read and written, and its folder, on which a resumed run builds."""

import sys

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from train_patch.common.errors import RunError, WrongArguments
from train_patch.trainer.output import Output, read_table, write_table

# Tables


def test_rows_come_by_epoch_and_in_their_order(tmp_path):
    path = tmp_path / 'summary.csv'
    path.write_text('epoch,train_loss,eval_top1\n10,0.5,70.0\n9,0.6,\n')
    assert list(read_table(path).items()) == [
        (9, {'epoch': '9', 'train_loss': '0.6', 'eval_top1': ''}),
        (10, {'epoch': '10', 'train_loss': '0.5', 'eval_top1': '70.0'}),
    ]


def test_a_table_that_is_missing_or_still_being_written_is_read_as_far_as_it_goes(tmp_path):
    path = tmp_path / 'summary.csv'
    assert read_table(path) == {}
    path.write_text('epoch,lr\n0,0.1\n1,0.')
    assert list(read_table(path)) == [0]


def test_of_an_epoch_that_timms_script_has_repeated_the_last_row_counts(tmp_path):
    """timm's script writes a second header, too, when it resumes."""
    path = tmp_path / 'summary.csv'
    path.write_text('epoch,lr\n0,0.1\n1,0.2\nepoch,train_loss,lr\n1,3.0,0.3\n2,4.0,0.4\n')
    table = read_table(path)
    assert {epoch: row['lr'] for epoch, row in table.items()} == {0: '0.1', 1: '0.3', 2: '0.4'}
    assert 'train_loss' not in table[0] and table[1]['train_loss'] == '3.0'


@pytest.mark.parametrize('content', [b'epoch,lr\nfirst,0.1\n', b'0,0.1\n', b'lr\n0.1\n', b'epoch,lr\n0,\xff\n'])
def test_a_row_that_cannot_be_read_names_the_file(tmp_path, content):
    path = tmp_path / 'summary.csv'
    path.write_bytes(content)
    with pytest.raises(RunError, match=f'cannot read {path}: a row without an epoch number'):
        read_table(path)


def test_a_column_that_a_row_lacks_stays_empty_and_lines_end_as_timms(tmp_path):
    path = tmp_path / 'summary.csv'
    write_table(path, {1: {'epoch': 1, 'eval_loss': 2.5}, 0: {'epoch': 0, 'lr': 0.1}})
    assert path.read_bytes() == b'epoch,lr,eval_loss\n0,0.1,\n1,,2.5\n'
    write_table(path, {})
    write_table(path, {})
    assert not path.exists()


@given(
    st.dictionaries(
        st.integers(0, 10**6),
        st.fixed_dictionaries({'lr': st.floats(allow_nan=False), 'note': st.text('ab ,"\'é\n', max_size=5)}),
        min_size=1,
        max_size=12,
    )
)
def test_a_table_is_read_as_it_was_written(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp('table') / 'summary.csv'
    write_table(path, {epoch: {'epoch': epoch, **row} for epoch, row in rows.items()})
    table = read_table(path)
    assert list(table) == sorted(rows)
    for epoch, row in rows.items():
        assert (float(table[epoch]['lr']), table[epoch]['note']) == (row['lr'], row['note'])


# The folder

ARGUMENTS = {'model': 'test_resnet', 'resume': '', 'checkpoint_hist': 2, 'scale': [0.1, 1.0], 'lr': 0.1}


def open_output(folder, eval_metric='top1', checkpoint=None, **arguments):
    return Output(folder, {**ARGUMENTS, **arguments}, eval_metric, checkpoint)


def record(output, epoch, top1, loss=1.0, seconds=(1.0, 2.0)):
    row = {'train_loss': loss, 'eval_loss': loss, 'eval_top1': top1, 'lr': 0.1}
    state = {'state_dict': {'weight': torch.full((1,), float(epoch))}, 'optimizer': {}}
    output.record(epoch, row, dict(zip(('train_time', 'eval_time'), seconds, strict=True)), state)


def saved(path):
    return torch.load(path, weights_only=True)


def kept(folder):
    return sorted(int(path.name.split('-')[1].split('.')[0]) for path in folder.glob('checkpoint-*.pth.tar'))


def test_a_folder_says_the_arguments_of_its_run(tmp_path):
    open_output(tmp_path / 'all' / 'run')
    assert yaml.safe_load((tmp_path / 'all' / 'run' / 'args.yaml').read_text()) == ARGUMENTS


@pytest.mark.parametrize(
    ('resume', 'own', 'taken'), [('', False, False), ('auto', False, True), ('x', True, True), ('x', False, False)]
)
def test_a_folder_that_holds_a_run_is_for_those_who_resume_it(tmp_path, monkeypatch, resume, own, taken):
    record(open_output(tmp_path / 'run'), 0, 50.0)
    monkeypatch.chdir(tmp_path)  # by whatever path it is named
    checkpoint = (tmp_path / 'run' if own else tmp_path / 'other') / 'last.pth.tar' if resume == 'x' else None
    for folder in ('run', tmp_path / 'run'):
        if taken:
            open_output((tmp_path / folder).relative_to(tmp_path), checkpoint=checkpoint, resume=resume)
        else:
            with pytest.raises(WrongArguments, match='run holds a run already; --resume auto resumes it'):
                open_output(tmp_path / folder, checkpoint=checkpoint, resume=resume)


def test_stale_temporary_files_of_the_run_go_and_other_files_stay(tmp_path):
    names = ['last.pth.tar.tmp', 'checkpoint-3.pth.tar.1a2b.tmp', 'summary.csv.1a2b.tmp', 'args.yaml.tmp', 'notes.tmp']
    for name in names:
        (tmp_path / name).write_text('half')
    open_output(tmp_path)
    assert [path.name for path in tmp_path.glob('*.tmp')] == ['notes.tmp']


def test_an_epoch_stands_in_both_tables_and_in_checkpoints(tmp_path):
    output = open_output(tmp_path)
    record(output, 3, 50.0, seconds=(1.23456, 0.0004))
    record(output, 4, 40.0, seconds=(61.0, 2.5))
    header = 'epoch,train_loss,eval_loss,eval_top1,lr\n'
    assert (tmp_path / 'summary.csv').read_text() == f'{header}3,1.0,1.0,50.0,0.1\n4,1.0,1.0,40.0,0.1\n'
    assert (tmp_path / 'times.csv').read_text() == 'epoch,train_time,eval_time\n3,1.235,0.000\n4,61.000,2.500\n'
    last, best = (saved(tmp_path / f'{name}.pth.tar') for name in ('last', 'model_best'))
    assert (last['epoch'], last['metric'], last['args'], last['arch']) == (4, 40.0, ARGUMENTS, 'test_resnet')
    assert float(last['state_dict']['weight']) == 4.0
    assert (best['epoch'], best['metric']) == (3, 50.0)


METRICS = [3, 9, 1, 8, 8, 2, 10, 4, 0, 11, 11, 6, 12, 7]


@pytest.mark.parametrize('count', [1, 3, 20])
@pytest.mark.parametrize('eval_metric', ['top1', 'loss'])
@pytest.mark.parametrize('without_validation', [False, True])
def test_the_best_epochs_are_kept_and_of_equal_ones_the_earlier(tmp_path, count, eval_metric, without_validation):
    if without_validation and eval_metric == 'top1':
        return
    output = open_output(tmp_path, eval_metric, checkpoint_hist=count)
    for epoch, metric in enumerate(METRICS):
        if without_validation:
            output.record(epoch, {'train_loss': float(metric)}, {}, {})
        else:
            record(output, epoch, top1=float(metric), loss=float(metric))
        best = sorted(range(epoch + 1), key=lambda e: (METRICS[e] if eval_metric == 'loss' else -METRICS[e], e))
        assert kept(tmp_path) == sorted(best[:count])
        assert saved(tmp_path / 'model_best.pth.tar')['epoch'] == best[0]
        assert saved(tmp_path / 'last.pth.tar')['epoch'] == epoch
    assert output.ranked()[0] == best[0]


def test_the_weights_of_an_epoch_are_on_the_disk_once(tmp_path):
    record(open_output(tmp_path), 0, 1.0)
    assert (tmp_path / 'model_best.pth.tar').samefile(tmp_path / 'last.pth.tar')
    assert (tmp_path / 'checkpoint-0.pth.tar').samefile(tmp_path / 'last.pth.tar')


def test_the_best_are_copied_where_there_are_no_hard_links(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(1, 'Operation not permitted')

    monkeypatch.setattr('os.link', refuse)
    output = open_output(tmp_path, checkpoint_hist=1)
    for epoch, top1 in enumerate((1.0, 3.0, 2.0)):
        record(output, epoch, top1)
    assert kept(tmp_path) == [1] and not list(tmp_path.glob('*.tmp'))
    assert saved(tmp_path / 'model_best.pth.tar')['epoch'] == 1
    assert saved(tmp_path / 'last.pth.tar')['epoch'] == 2


@pytest.fixture
def wandb(monkeypatch):
    """A module in the place of Weights & Biases that notes its calls."""

    class Wandb:
        def __init__(self):
            self.started, self.logged = [], []

        def init(self, **kwargs):
            self.started.append(kwargs)

        def log(self, row):
            self.logged.append(dict(row))

    monkeypatch.setitem(sys.modules, 'wandb', found := Wandb())
    return found


@pytest.mark.parametrize(('resumed', 'resume', 'number'), [('', None, None), ('x1', 'must', 'x1')])
def test_weights_and_biases_are_told_of_the_run_and_of_every_epoch(tmp_path, wandb, resumed, resume, number):
    given = {'log_wandb': True, 'wandb_project': 'p', 'wandb_tags': ['a', 'b'], 'wandb_resume_id': resumed}
    output = open_output(tmp_path / 'run', **given)
    expected = {'project': 'p', 'name': 'run', 'config': {**ARGUMENTS, **given}, 'tags': ['a', 'b']}
    assert wandb.started == [{**expected, 'resume': resume, 'id': number}]
    record(output, 1, 60.0)
    assert wandb.logged == [{'epoch': 1, 'train_loss': 1.0, 'eval_loss': 1.0, 'eval_top1': 60.0, 'lr': 0.1}]
