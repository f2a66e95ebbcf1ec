"""Files are written whole, in bytes that are known, or not at all."""

import errno
import os

import pytest

from train_patch.common.errors import RunError
from train_patch.common.files import first_line, write_atomically, write_bytes, write_json


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path = tmp_path / 'file'
    path.write_bytes(b'old')
    seen = []
    monkeypatch.setattr(os, 'fsync', lambda descriptor: seen.append((path.read_bytes(), os.fstat(descriptor).st_size)))
    write_bytes(path, b'new one')
    assert seen == [(b'old', 7)]
    assert path.read_bytes() == b'new one' and [entry.name for entry in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize('error', [OSError(errno.ENOSPC, 'disk full'), RuntimeError('disk full\nin two lines')])
def test_what_fails_leaves_the_old_file_alone(tmp_path, error):
    path = tmp_path / 'file'
    path.write_bytes(b'old')

    def write(file):
        file.write(b'half')
        raise error

    with pytest.raises(RunError, match=f'^cannot write {path}: disk full$') as raised:
        write_atomically(path, write)
    assert raised.value.__cause__ is error
    assert path.read_bytes() == b'old' and [entry.name for entry in tmp_path.iterdir()] == ['file']


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(RunError, match=f'^cannot write {tmp_path}/no/file: {os.strerror(errno.ENOENT)}$'):
        write_bytes(str(tmp_path / 'no' / 'file'), b'')


def test_json_is_read_by_people(tmp_path):
    write_json(tmp_path / 'x.json', {'÷': [1.5, None]})
    assert (tmp_path / 'x.json').read_bytes() == '{\n  "÷": [\n    1.5,\n    null\n  ]\n}\n'.encode()


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_json_has_no_numbers_that_others_cannot_read(tmp_path, value):
    with pytest.raises(ValueError, match='JSON'):
        write_json(tmp_path / 'x.json', [value])
    assert list(tmp_path.iterdir()) == []


def raised(outer, inner, explicit):
    try:
        try:
            raise inner
        except type(inner) as error:
            if explicit:
                raise outer from error
            raise outer  # noqa: B904
    except type(outer) as error:
        return error


@pytest.mark.parametrize('explicit', [True, False])
def test_the_systems_own_words_come_first(explicit):
    inner = OSError(errno.ENOSPC, 'disk full')
    assert first_line(inner) == 'disk full'
    assert first_line(raised(RuntimeError('unexpected pos 64'), inner, explicit)) == 'disk full'
    middle = raised(OSError('no number'), inner, explicit)
    assert first_line(raised(RuntimeError('unexpected pos 64'), middle, not explicit)) == 'disk full'


def test_other_errors_are_their_first_line_or_their_kind():
    assert first_line(ValueError('one\ntwo')) == 'one'
    assert first_line(raised(ValueError('one\ntwo'), KeyError('x'), True)) == 'one'
    assert first_line(OSError('of no number')) == 'of no number'
    assert first_line(KeyboardInterrupt()) == 'KeyboardInterrupt'
