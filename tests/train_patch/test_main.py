"""Which way a command line goes: to the project's own script, to timm's, or to any other."""

import sys
from pathlib import Path

import pytest
import timm

from train_patch import __main__ as command
from train_patch import train
from train_patch.launcher import any_script, timm_script

LIKE = Path(__file__).parent / 'launcher' / 'timm_like.py'


@pytest.fixture
def ways(monkeypatch):
    """The ways that were taken, each with what it was given; nothing is trained."""
    taken = []

    class TimmScript:
        def __init__(self, path):
            self.module = self
            self.path = path

        def main(self):
            taken.append(('timm', self.path, sys.argv, sys.path[0]))

    def run(line, mixing):
        taken.append(('any', line.script, line.arguments, mixing.asked, sys.path[0]))

    monkeypatch.setattr(timm_script, 'TimmScript', TimmScript)
    monkeypatch.setattr(any_script, 'run', run)
    monkeypatch.setattr(train, 'main', lambda argv: taken.append(('own', argv)))
    monkeypatch.setattr(sys, 'argv', ['train_patch', '--epochs', '3'])
    monkeypatch.setattr(sys, 'path', ['launcher', *sys.path[1:]])
    return taken


@pytest.fixture
def script(tmp_path):
    path = tmp_path / 'main.py'
    path.write_text('from timm.data import Mixup\n')
    return path


def test_without_a_script_it_is_the_projects_own(ways):
    command.main(['--mix-mode', 'hmix', '--data-dir', 'folder'])
    command.main()
    assert ways == [('own', ['--mix-mode', 'hmix', '--data-dir', 'folder']), ('own', ['--epochs', '3'])]


def test_timms_script_finds_all_options_behind_it(ways):
    command.main(['--mix-mode', 'hmix', str(LIKE), '--epochs', '3'])
    expected = [str(LIKE), '--mix-mode', 'hmix', '--epochs', '3']
    assert ways == [('timm', str(LIKE), expected, str(LIKE.parent))]


def test_any_other_script_is_given_its_own_options_alone(ways, script):
    command.main(['--mix-mode', 'hmix', str(script), '--epochs', '3'])
    assert ways == [('any', str(script), ['--epochs', '3'], '--mix-mode hmix', str(script.parent))]


def test_a_module_is_run_from_the_current_folder(ways, monkeypatch, tmp_path):
    (tmp_path / 'own_module.py').write_text('')
    monkeypatch.chdir(tmp_path)
    command.main(['-m', 'own_module', 'word'])
    assert ways == [('any', 'own_module', ['word'], '', str(tmp_path))]


@pytest.mark.parametrize(
    ('version', 'way'), [('1.0.20', 'timm'), ('1.0.19', 'any'), ('0.4.12', 'any'), ('2.0.0', 'timm')]
)
def test_timms_script_on_older_timm_is_any_script(ways, monkeypatch, version, way):
    monkeypatch.setattr(timm, '__version__', version)
    command.main(['--mix-mode', 'hmix', str(LIKE)])
    assert [taken for taken, *_ in ways] == [way]
