"""The launcher's command line, read without starting anything."""

import os
import sys
from pathlib import Path

import pytest

import train_patch
from train_patch.common.errors import RunError
from train_patch.launcher.command_line import CommandLine, check_module, lead_path, names_missing, split

LIKE = Path(__file__).parent / 'timm_like.py'


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('main.py', ([], 'main.py', False, [])),
        ('main.py -m other --mix-mode x', ([], 'main.py', False, ['-m', 'other', '--mix-mode', 'x'])),
        ('--mix-mode hmix a/main.py --lr 1', (['--mix-mode', 'hmix'], 'a/main.py', False, ['--lr', '1'])),
        ('--mix-mode=hmix main.py', (['--mix-mode=hmix'], 'main.py', False, [])),
        ('--mix-literal --mix-mode gmix main.py', (['--mix-literal', '--mix-mode', 'gmix'], 'main.py', False, [])),
        ('--mix-literal main.py x.py', (['--mix-literal'], 'main.py', False, ['x.py'])),
        ('-m a.b --lr 1', ([], 'a.b', True, ['--lr', '1'])),
        ('--hmix-ratio .5 -m a.b', (['--hmix-ratio', '.5'], 'a.b', True, [])),
        ('--local-rank=1 main.py --lr 1', ([], 'main.py', False, ['--local-rank=1', '--lr', '1'])),
        ('--local_rank=1 --mix-mode hmix -m a', (['--mix-mode', 'hmix'], 'a', True, ['--local_rank=1'])),
    ],
)
def test_a_script_is_found_behind_our_options(line, expected):
    assert split(line.split()) == CommandLine(*expected)


@pytest.mark.parametrize('line', ['', '--mix-mode hmix', 'folder', '-m', '--mix-mode', '-x.py', '-c a.py'])
def test_a_line_without_a_script_is_the_projects_own(line):
    assert split(line.split()) is None


@pytest.mark.parametrize('line', ['--epochs main.py', '--epochs 3 main.py', '--local-rank 1 main.py x'])
def test_a_script_hidden_behind_an_option_that_is_not_ours_is_named(tmp_path, monkeypatch, line):
    monkeypatch.chdir(tmp_path)
    assert split(line.split()) is None  # there is no such file
    (tmp_path / 'main.py').touch()
    option = line.split()[0]
    with pytest.raises(RunError, match=f'^{option} stands before main.py and is no option of hmix-train: put it beh'):
        split(line.split())


def test_a_module_is_looked_for_without_importing_its_package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / 'broken_here').mkdir()
    (tmp_path / 'broken_here' / '__init__.py').write_text('import no_such_thing_here')
    (tmp_path / 'broken_here' / 'part.py').touch()
    check_module('broken_here.part')
    with pytest.raises(RunError, match='there is no such module, or'):
        check_module('broken_here.other')


def test_whether_a_script_is_like_timms_is_read_without_running_it(tmp_path):
    assert names_missing(str(LIKE)) == []
    path = tmp_path / 'main.py'
    path.write_text(
        'import a.Mixup as FastCollateMixup\nfrom b import x as Mixup, create_loader\nraise SystemExit\n'
        'parser = 1\n(_parse_args, [z]) = 1, [2]\nclass main: pass\ntrain_one_epoch.x = train_one_epoch()\n'
    )
    assert names_missing(str(path)) == ['config_parser', 'train_one_epoch']


HOME = str(Path(train_patch.__file__).resolve().parents[1])


@pytest.mark.parametrize(
    ('launchers', 'before', 'after'),
    [
        ('/bin', ['/bin', 'x'], ['script', 'x']),
        (HOME, [HOME, 'x'], ['script', 'x', HOME]),
        (HOME, [f'{HOME}/train_patch/..', 'x', HOME], ['script', 'x', HOME]),
        ('/bin', ['/first', '/bin'], ['script', '/first', '/bin']),
    ],
)
def test_the_scripts_folder_takes_the_launchers_place_on_the_path(monkeypatch, launchers, before, after):
    launchers, before, after = (os.path.realpath(launchers), *([*map(known, folders)] for folders in (before, after)))
    monkeypatch.setattr(sys.modules['__main__'], '__spec__', None)  # as under the installed command
    monkeypatch.setattr(sys, 'argv', [f'{launchers}/hmix-train'])
    monkeypatch.setattr(sys, 'path', before)
    lead_path('script')
    assert sys.path == after


def known(folder):
    return os.path.realpath(folder) if folder == '/bin' else folder  # a link on some machines
