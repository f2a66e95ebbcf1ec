"""How commands end, and what they find out before they work, each function by itself."""

import argparse
import errno
import io
import os
import resource
import sys

import pytest

from hmix_timm import __version__
from hmix_timm.families import FAMILIES
from train_patch.common import command
from train_patch.common.errors import RunError


def raising(error):
    def work():
        raise error

    return work


def test_work_that_ends_well_has_status_0(capsys):
    done = []
    assert command.run_command('hmix-x', lambda: done.append(1)) == 0
    assert done == [1] and capsys.readouterr() == ('', '')


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (RunError('this cannot be'), 'this cannot be'),
        (OSError(errno.ENOENT, 'not there', 'a/b.json'), 'a/b.json: not there'),
        (OSError(errno.ENOSPC, 'disk full'), 'disk full'),
        (OSError('of no number\nand two lines'), 'of no number'),
    ],
)
def test_what_the_user_can_act_on_is_one_line_and_status_1(error, line, capsys):
    assert command.run_command('hmix-x', raising(error)) == 1
    assert capsys.readouterr() == ('', f'hmix-x: {line}\n')


def test_a_mistake_of_the_programs_own_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        command.run_command('hmix-x', lambda: 1 / 0)


def test_ctrl_c_ends_the_process_and_keeps_what_was_printed(monkeypatch, capsys):
    written = io.BytesIO()
    monkeypatch.setattr(sys, 'stdout', io.TextIOWrapper(io.BufferedWriter(written)))
    ended = []
    monkeypatch.setattr(os, '_exit', lambda status: ended.append((status, written.getvalue())))

    def work():
        print('half a table')
        raise KeyboardInterrupt

    command.run_command('hmix-x', work)
    assert ended == [(130, b'half a table\n')]
    assert capsys.readouterr().err == '\nhmix-x: interrupted\n'


def test_what_commands_share_is_explained():
    parser = argparse.ArgumentParser(add_help=False)
    command.add_version(parser)
    command.add_families(parser)
    explained = {action.dest: action.help for action in parser._actions}
    assert 'version' in explained['version'] and '(default: none)' in explained['mix_families']


def test_version(capsys):
    parser = argparse.ArgumentParser(prog='hmix-x')
    command.add_version(parser)
    with pytest.raises(SystemExit) as end:
        parser.parse_args(['--version'])
    assert end.value.code == 0
    assert capsys.readouterr().out == f'hmix-x {__version__}\n'


def test_families_of_a_file_are_registered(tmp_path, capsys):
    path = tmp_path / 'masks.py'
    path.write_text(
        'from hmix_timm import BoxMask, register_family\n'
        "register_family('halves')(lambda size, lam, options, draws: BoxMask(0.5))\n"
    )
    parser = argparse.ArgumentParser(prog='hmix-x')
    command.add_families(parser)
    before = dict(FAMILIES)
    command.load_given_families(parser, parser.parse_args([]))
    assert before == FAMILIES
    try:
        command.load_given_families(parser, parser.parse_args(['--mix-families', str(path)]))
        assert set(FAMILIES) - set(before) == {'halves'}
    finally:
        FAMILIES.pop('halves', None)
    with pytest.raises(SystemExit) as end:
        command.load_given_families(parser, parser.parse_args(['--mix-families', 'no/such.py']))
    assert end.value.code == 2
    message = 'hmix-x: error: argument --mix-families: no/such.py: there is no such file\n'
    assert capsys.readouterr().err.endswith(message)


def test_whole_numbers_from_a_lower_end():
    assert [command.at_least(2)(text) for text in ('2', '3', '40')] == [2, 3, 40]
    for text in ('1', '-3', '2.0', 'two', ''):
        with pytest.raises(argparse.ArgumentTypeError, match=f'^must be a whole number >= 2, got {text}$'):
            command.at_least(2)(text)


def test_an_output_that_can_be_written_has_no_problem_and_leaves_nothing(tmp_path):
    (tmp_path / 'there.json').write_text('old')
    for name in ('there.json', 'new.json', 'folders/to/make/new.json'):
        assert command.problem_with_output(tmp_path / name) is None
    assert [path.name for path in tmp_path.iterdir()] == ['there.json']
    assert (tmp_path / 'there.json').read_text() == 'old'


def test_an_output_that_cannot_be_written_is_named(tmp_path):
    file = tmp_path / 'file'
    file.write_text('')
    os.mkfifo(tmp_path / 'pipe')
    assert command.problem_with_output(tmp_path) == f'{tmp_path} is a folder'
    assert command.problem_with_output(tmp_path / 'pipe') == f'{tmp_path}/pipe is not a regular file'
    assert command.problem_with_output(file / 'below') == f'{file} is not a folder'
    assert command.problem_with_output(file / 'far' / 'below') == f'{file} is not a folder'


def test_a_full_disk_is_found(tmp_path, monkeypatch):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # no file may grow
    try:
        problem = command.problem_with_output(tmp_path / 'x.json')
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert problem == f'cannot write to {tmp_path}: {os.strerror(errno.EFBIG)}'
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_says_so_only_when_it_is_to_keep_it_is_found(tmp_path, monkeypatch):
    sizes = []

    def fsync(descriptor):
        sizes.append(os.fstat(descriptor).st_size)
        raise OSError(errno.EDQUOT, 'over the quota')

    monkeypatch.setattr(os, 'fsync', fsync)
    assert command.problem_with_output(tmp_path / 'x.json') == f'cannot write to {tmp_path}: over the quota'
    assert sizes == [4096]


def test_a_device_that_torch_does_not_have_is_told_in_one_line():
    assert command.device_problem('cpu') is None
    problem = command.device_problem('abacus')
    assert problem is not None
    assert problem.startswith('abacus cannot be used here: ') and 'abacus' in problem[28:] and '\n' not in problem
