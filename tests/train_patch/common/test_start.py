"""The installed commands as `setup.cfg` declares them, and Ctrl-C before they have begun."""

import configparser
import importlib
from pathlib import Path

import pytest

from hmix_timm import __version__
from train_patch.common.start import start

SETUP = configparser.ConfigParser()
SETUP.read(Path(__file__).parents[3] / 'setup.cfg')
COMMANDS = dict(line.split(' = ') for line in SETUP['options.entry_points']['console_scripts'].split('\n') if line)


@pytest.mark.parametrize('program', COMMANDS)
def test_a_command_is_what_it_is_called(program, monkeypatch, capsys):
    module, name = COMMANDS[program].split(':')
    monkeypatch.setattr('sys.argv', [program, '--version'])
    with pytest.raises(SystemExit) as end:
        getattr(importlib.import_module(module), name)()
    assert not end.value.code and capsys.readouterr().out == f'{program} {__version__}\n'


@pytest.mark.parametrize(
    ('code', 'status', 'said'),
    [
        ('raise KeyboardInterrupt', 130, '\nhmix-x: interrupted\n'),
        ('def main(): return 3', 3, ''),
        ('def main(): pass', None, ''),
    ],
)
def test_ctrl_c_while_modules_are_imported_ends_in_one_line(tmp_path, monkeypatch, capsys, code, status, said):
    name = f'imported_{status}'
    (tmp_path / f'{name}.py').write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert start('hmix-x', name) == status
    assert capsys.readouterr().err == said
