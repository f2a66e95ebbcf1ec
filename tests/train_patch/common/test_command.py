"""Arguments that commands share, and what they find out before they work."""

import argparse
import errno
import os
import resource

import pytest

from train_patch.common import command
from train_patch.common.errors import WrongArguments


def test_whole_numbers_within_limits():
    assert [command.at_least(2)(text) for text in ('2', '3', '40')] == [2, 3, 40]
    assert [command.at_least(0, up_to=4)(text) for text in ('0', '4')] == [0, 4]
    for text in ('1', '-3', '2.0', 'two', ''):
        with pytest.raises(argparse.ArgumentTypeError, match=f'^must be a whole number >= 2, got {text}$'):
            command.at_least(2)(text)
    with pytest.raises(argparse.ArgumentTypeError, match='from 0 to 4, got 5'):
        command.at_least(0, up_to=4)('5')


def test_an_output_that_can_be_written_leaves_nothing(tmp_path):
    (tmp_path / 'there.json').write_text('old')
    for name in ('there.json', 'new.json', 'folders/to/make/new.json'):
        command.check_output('--json', tmp_path / name)
    assert [path.name for path in tmp_path.iterdir()] == ['there.json']
    assert (tmp_path / 'there.json').read_text() == 'old'


def test_an_output_that_cannot_be_written_is_named_with_its_option(tmp_path, monkeypatch):
    def problem(path):
        with pytest.raises(WrongArguments) as refused:
            command.check_output('--json', path)
        return str(refused.value)

    file = tmp_path / 'file'
    file.write_text('')
    os.mkfifo(tmp_path / 'pipe')
    assert problem(tmp_path) == f'--json: {tmp_path} is a folder'
    assert problem(tmp_path / 'pipe') == f'--json: {tmp_path}/pipe is not a regular file'
    assert problem(file / 'far' / 'below') == f'--json: cannot write to {file}: {os.strerror(errno.ENOTDIR)}'
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # no file may grow, as on a full disk
    try:
        assert problem(tmp_path / 'x.json') == f'--json: cannot write to {tmp_path}: {os.strerror(errno.EFBIG)}'
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)

    def fsync(descriptor):  # a quota on a network's disk, which shows only then
        raise OSError(errno.EDQUOT, 'over the quota')

    monkeypatch.setattr(os, 'fsync', fsync)
    assert problem(tmp_path / 'x.json') == f'--json: cannot write to {tmp_path}: over the quota'
    assert sorted(path.name for path in tmp_path.iterdir()) == ['file', 'pipe']


def test_a_device_that_torch_does_not_have_is_told_in_one_line():
    command.check_device('cpu')
    with pytest.raises(WrongArguments, match=r'^--device abacus: cannot be used here: [^\n]*abacus[^\n]*$'):
        command.check_device('abacus')


def test_packages_that_are_missing_are_named():
    command.require_packages('json', 'sklearn')
    with pytest.raises(command.RunError, match=r"^abacus, counter not installed: pip install 'hmix-timm\[demo\]'$"):
        command.require_packages('abacus', 'json', 'counter')
