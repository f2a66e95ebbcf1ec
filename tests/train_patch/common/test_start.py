"""How commands end."""

import errno

import pytest

from train_patch.common.errors import RunError, WrongArguments
from train_patch.common.start import command, start


def ending(error):
    @command('hmix-x')
    def main(argv):
        raise error

    return main([])


@pytest.mark.parametrize(
    ('error', 'status', 'line'),
    [
        (WrongArguments('--lr 0 cannot be'), 2, '--lr 0 cannot be'),
        (RunError('this cannot be'), 1, 'this cannot be'),
        (OSError(errno.ENOENT, 'not there', 'a/b.json'), 1, 'a/b.json: not there'),
        (OSError(errno.ENOSPC, 'disk full'), 1, 'disk full'),
        (OSError('of no number\nand two lines'), 1, 'of no number'),
    ],
)
def test_an_error_that_the_user_can_fix_is_one_line(error, status, line, capsys):
    assert ending(error) == status
    assert capsys.readouterr() == ('', f'hmix-x: error: {line}\n')


@pytest.mark.parametrize('error', [ZeroDivisionError(), ValueError('cannot reshape')])
def test_a_bug_keeps_its_traceback(error):
    with pytest.raises(type(error)):
        ending(error)


def test_a_command_gets_its_arguments_and_its_status_is_the_exit_status(monkeypatch):
    seen = []
    monkeypatch.setattr('sys.argv', ['hmix-x', '--of', 'the process'])
    main = command('hmix-x')(lambda argv: seen.append(argv))
    assert (main(), main(('--given',))) == (0, 0) and seen == [['--of', 'the process'], ['--given']]
    assert command('hmix-x')(lambda argv: 3)([]) == 3


@pytest.mark.parametrize(
    ('code', 'status', 'said'),
    [('raise KeyboardInterrupt', 130, '\nhmix-x: interrupted\n'), ('def main(): return 3', 3, '')],
)
def test_ctrl_c_while_modules_are_imported_ends_in_one_line(tmp_path, monkeypatch, capsys, code, status, said):
    name = f'imported_{status}'
    (tmp_path / f'{name}.py').write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert start('hmix-x', name) == status
    assert capsys.readouterr().err == said
