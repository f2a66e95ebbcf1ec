"""A run's table: what is read of a whole one, of one that is being written, and of one that timm wrote on."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from train_patch.common.errors import RunError
from train_patch.trainer.summary import read_table, write_table


def test_rows_come_by_epoch_and_in_their_order(tmp_path):
    path = tmp_path / 'summary.csv'
    path.write_text('epoch,train_loss,eval_top1\n10,0.5,70.0\n9,0.6,\n')
    table = read_table(path)
    assert list(table.items()) == [
        (9, {'epoch': '9', 'train_loss': '0.6', 'eval_top1': ''}),
        (10, {'epoch': '10', 'train_loss': '0.5', 'eval_top1': '70.0'}),
    ]


def test_a_missing_table_is_empty(tmp_path):
    assert read_table(tmp_path / 'summary.csv') == {}


def test_a_line_without_its_end_is_still_being_written(tmp_path):
    path = tmp_path / 'summary.csv'
    path.write_text('epoch,lr\n0,0.1\n1,0.')
    assert list(read_table(path)) == [0]


def test_timms_second_header_and_repeated_epoch(tmp_path):
    """timm's script writes both when it resumes; the later row is the one that the next epochs build on."""
    path = tmp_path / 'summary.csv'
    path.write_text('epoch,lr\n0,0.1\n1,0.2\nepoch,train_loss,lr\n1,3.0,0.3\n2,4.0,0.4\n')
    table = read_table(path)
    assert {epoch: row['lr'] for epoch, row in table.items()} == {0: '0.1', 1: '0.3', 2: '0.4'}
    assert 'train_loss' not in table[0] and table[1]['train_loss'] == '3.0'


@pytest.mark.parametrize('text', ['epoch,lr\nfirst,0.1\n', '0,0.1\n', 'lr\n0.1\n'])
def test_a_row_without_an_epoch_names_the_file(tmp_path, text):
    path = tmp_path / 'summary.csv'
    path.write_text(text)
    with pytest.raises(RunError, match=f'cannot read {path}: a row without an epoch number'):
        read_table(path)


def test_without_rows_there_is_no_file(tmp_path):
    path = tmp_path / 'summary.csv'
    write_table(path, {0: {'epoch': 0}})
    write_table(path, {})
    write_table(path, {})
    assert not path.exists()


def test_a_column_that_a_row_lacks_stays_empty(tmp_path):
    path = tmp_path / 'summary.csv'
    write_table(path, {1: {'epoch': 1, 'eval_loss': 2.5}, 0: {'epoch': 0, 'lr': 0.1}})
    assert path.read_text() == 'epoch,lr,eval_loss\n0,0.1,\n1,,2.5\n'


@given(
    st.dictionaries(
        st.integers(0, 10**6),
        st.fixed_dictionaries({'lr': st.floats(allow_nan=False), 'note': st.text('ab ,"\'é', max_size=5)}),
        min_size=1,
        max_size=12,
    )
)
def test_what_is_written_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp('table') / 'summary.csv'
    write_table(path, {epoch: {'epoch': epoch, **row} for epoch, row in rows.items()})
    table = read_table(path)
    assert list(table) == sorted(rows)
    for epoch, row in rows.items():
        assert (float(table[epoch]['lr']), table[epoch]['note']) == (row['lr'], row['note'])


@pytest.mark.parametrize('text', ['two\nlines', 'old\r\nlines', 'a "quoted" word', ' space '])
def test_text_of_any_kind_comes_back_as_it_was(tmp_path, text):
    path = tmp_path / 'summary.csv'
    write_table(path, {0: {'epoch': 0, 'note': text, 'lr': 0.1}, 1: {'epoch': 1, 'note': '', 'lr': 0.2}})
    assert {epoch: row['note'] for epoch, row in read_table(path).items()} == {0: text, 1: ''}


def test_lines_end_as_timms_do_on_every_system(tmp_path):
    path = tmp_path / 'summary.csv'
    write_table(path, {0: {'epoch': 0, 'lr': 0.1}})
    assert path.read_bytes() == b'epoch,lr\n0,0.1\n'


def test_a_table_with_another_systems_line_ends_is_read(tmp_path):
    path = tmp_path / 'summary.csv'
    path.write_bytes(b'epoch,lr\r\n0,0.1\r\n1,0.')
    assert read_table(path) == {0: {'epoch': '0', 'lr': '0.1'}}


def test_a_row_may_be_longer_or_shorter_than_the_header(tmp_path):
    """What is there is read: a table is no reason to end a run that has trained for days."""
    path = tmp_path / 'summary.csv'
    path.write_text('epoch,lr,eval_top1\n0,0.1\n1,0.2,50.0,7\n')
    assert read_table(path) == {0: {'epoch': '0', 'lr': '0.1'}, 1: {'epoch': '1', 'lr': '0.2', 'eval_top1': '50.0'}}
