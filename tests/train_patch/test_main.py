"""Which way a command line goes, in which order, and with which exit status it ends; nothing is trained."""

import sys
from pathlib import Path

import pytest
import timm

from train_patch import __main__ as command
from train_patch import train
from train_patch.common.errors import RunError
from train_patch.launcher import any_script, timm_script

LIKE = Path(__file__).parent / 'launcher' / 'timm_like.py'


@pytest.fixture
def ways(monkeypatch):
    """What was run: (way, what it was told, sys.argv, first of sys.path)."""
    taken = []

    class TimmScript:
        def __init__(self, path):
            self.path = path

        def main(self):
            taken.append(('timm', self.path, sys.argv, sys.path[0]))

    class AnyScript:
        def __init__(self, line, own):
            self.line, self.own = line, own

        def main(self):
            taken.append(('any', self.line, self.own, sys.path[0]))

    monkeypatch.setattr(timm_script, 'TimmScript', TimmScript)
    monkeypatch.setattr(any_script, 'AnyScript', AnyScript)
    monkeypatch.setattr(train, 'main', lambda argv: taken.append(('own', argv)))
    monkeypatch.setattr(sys, 'argv', ['train_patch'])
    monkeypatch.setattr(sys, 'path', ['launcher', *sys.path[1:]])
    return taken


@pytest.fixture
def script(tmp_path):
    path = tmp_path / 'main.py'
    path.write_text('from timm.data import Mixup\n')
    return path


def ends(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(argv)
    return ended.value.code, capsys.readouterr().err


def test_without_a_script_it_is_the_projects_own(ways):
    command.main(['--mix-mode', 'hmix', '--data-dir', 'folder'])
    assert ways == [('own', ['--mix-mode', 'hmix', '--data-dir', 'folder'])]


def test_the_words_are_the_processs_where_none_are_given(ways, monkeypatch):
    monkeypatch.setattr(sys, 'argv', ['train_patch', '--epochs', '3'])
    command.main()
    command.main([])
    assert ways == [('own', ['--epochs', '3']), ('own', [])]


def test_timms_script_finds_all_options_behind_it(ways):
    command.main(['--mix-mode', 'hmix', str(LIKE), '--epochs', '3'])
    expected = [str(LIKE), '--mix-mode', 'hmix', '--epochs', '3']
    assert ways == [('timm', str(LIKE), expected, str(LIKE.parent))]


def test_any_other_script_is_told_apart_by_what_it_lacks(ways, script):
    command.main(['--mix-mode', 'hmix', str(script), '--epochs', '3'])
    ((way, line, own, folder),) = ways
    assert (way, line.script, line.arguments, folder) == ('any', str(script), ['--epochs', '3'], str(script.parent))
    assert (own.asked, own.overrides['cutmix_mode']) == ('--mix-mode hmix', 'hmix')


def test_a_module_is_run_from_the_folder_one_is_in(ways, monkeypatch, tmp_path):
    (tmp_path / 'own_module.py').write_text('')
    monkeypatch.chdir(tmp_path)
    command.main(['-m', 'own_module', 'word'])
    ((way, line, own, folder),) = ways
    assert (way, line.script, line.is_module, folder) == ('any', 'own_module', True, str(tmp_path))
    assert own.asked == ''


@pytest.mark.parametrize(
    ('version', 'way'), [('1.0.20', 'timm'), ('1.0.19', 'any'), ('0.4.12', 'any'), ('2.0.0', 'timm')]
)
def test_timms_script_on_older_timm_is_any_script(ways, monkeypatch, version, way):
    monkeypatch.setattr(timm, '__version__', version)
    command.main(['--mix-mode', 'hmix', str(LIKE)])
    assert [taken for taken, *_ in ways] == [way]


@pytest.mark.parametrize('which', ['timms', 'other', 'module'])
def test_timm_that_is_too_old_to_mix_is_refused(ways, monkeypatch, capsys, script, which):
    monkeypatch.setattr(timm, '__version__', '0.4.11')
    words = {'timms': [str(LIKE)], 'other': [str(script)], 'module': ['-m', 'this']}[which]
    status, message = ends(words, capsys)
    assert status == 2 and message.startswith('hmix-train: error: timm 0.4.11 at ') and '0.4.12' in message
    assert ways == []


@pytest.mark.parametrize(
    ('words', 'message'),
    [
        (['nowhere.py'], 'hmix-train: error: nowhere.py: No such file or directory\n'),
        (['-m', 'no_such_module_anywhere'], 'hmix-train: error: -m no_such_module_anywhere: there is no such module\n'),
        (['--hmix-ratio', '.5', '{script}'], 'hmix-train: error: --hmix-ratio needs --mix-mode '),
        (['{script}', '--mix-mode', 'hmix'], 'hmix-train: error: --mix-mode stands behind main.py, '),
    ],
)
def test_what_cannot_be_run_ends_with_status_2(ways, capsys, script, words, message):
    status, said = ends([word.replace('{script}', str(script)) for word in words], capsys)
    assert status == 2 and said.startswith(message) and said.count('\n') == 1
    assert ways == []


def test_older_timm_takes_our_options_before_the_script_only(ways, monkeypatch, capsys):
    monkeypatch.setattr(timm, '__version__', '1.0.19')
    status, said = ends([str(LIKE), '--mix-mode', 'hmix'], capsys)
    assert status == 2 and 'takes it there only with timm 1.0.20 or newer' in said


def test_what_goes_wrong_in_a_script_ends_with_status_1(monkeypatch, capsys, script):
    def fail(self):
        raise RunError('it stopped')

    monkeypatch.setattr(any_script.AnyScript, 'main', fail)
    monkeypatch.setattr(sys, 'path', ['launcher', *sys.path[1:]])
    assert ends([str(script)], capsys) == (1, 'hmix-train: error: it stopped\n')
