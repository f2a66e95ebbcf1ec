"""Files are written whole, in bytes that are known, or not at all."""

import errno
import fcntl
import os

import pytest

from train_patch.common.errors import RunError
from train_patch.common.files import first_line, locked_folder, write_atomically, write_bytes, write_json


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    path = tmp_path / 'new' / 'file'
    write_bytes(str(path), b'old')  # in a folder that it makes
    seen = []
    monkeypatch.setattr(os, 'fsync', lambda descriptor: seen.append((path.read_bytes(), os.fstat(descriptor).st_size)))
    write_bytes(path, b'new one')
    assert seen == [(b'old', 7)]
    assert path.read_bytes() == b'new one' and [entry.name for entry in path.parent.iterdir()] == ['file']
    assert path.stat().st_mode == tmp_path.joinpath('new').stat().st_mode & 0o666 | 0o100000  # as any new file


def test_writing_that_fails_leaves_the_old_file_alone(tmp_path):
    path = tmp_path / 'file'
    path.write_bytes(b'old')

    def write(file):
        file.write(b'half')
        raise OSError(errno.ENOSPC, 'disk full')

    with pytest.raises(RunError, match=f'^cannot write {path}: disk full$'):
        write_atomically(path, write)
    assert path.read_bytes() == b'old' and [entry.name for entry in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize('error', [KeyboardInterrupt(), ValueError('no colour'), RuntimeError('no backend')])
def test_a_bug_or_ctrl_c_leaves_no_temporary_file(tmp_path, error):
    def write(file):
        raise error

    with pytest.raises(type(error)):
        write_atomically(tmp_path / 'file', write)
    assert list(tmp_path.iterdir()) == []


def test_no_writer_touches_the_file_of_another_or_follows_a_link(tmp_path):
    path, other = tmp_path / 'file', tmp_path / 'other'
    other.write_bytes(b'of somebody else')
    (tmp_path / 'file.tmp').symlink_to(other)

    def write(file):
        file.write(b'outer')
        write_bytes(path, b'inner')

    write_atomically(path, write)
    assert path.read_bytes() == b'outer' and other.read_bytes() == b'of somebody else'


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / 'no').touch()
    with pytest.raises(RunError, match=f'^cannot write {tmp_path}/no/file: {os.strerror(errno.EEXIST)}$'):
        write_bytes(str(tmp_path / 'no' / 'file'), b'')


def test_json_can_be_read_by_people_and_by_other_programs(tmp_path):
    write_json(tmp_path / 'x.json', {'÷': [1.5, None]})
    assert (tmp_path / 'x.json').read_bytes() == '{\n  "÷": [\n    1.5,\n    null\n  ]\n}\n'.encode()
    for value in (float('nan'), float('inf')):
        with pytest.raises(ValueError, match='JSON'):
            write_json(tmp_path / 'y.json', [value])
    assert not (tmp_path / 'y.json').exists()


def test_the_reason_for_an_error_is_one_line():
    assert first_line(ValueError('one\ntwo')) == 'one'
    assert first_line(OSError(errno.ENOSPC, 'disk full')) == 'disk full'
    assert first_line(OSError('of no number')) == 'of no number'
    assert first_line(KeyboardInterrupt()) == 'KeyboardInterrupt'


def test_a_folder_that_cannot_be_locked_is_named(tmp_path, monkeypatch, capsys):
    def flock(*given):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'flock', flock)  # as on some file systems of a network
    with locked_folder(tmp_path / 'new'):
        said = f'{tmp_path}/new cannot be locked (No locks available): let no other command write there\n'
        assert capsys.readouterr().err == said
