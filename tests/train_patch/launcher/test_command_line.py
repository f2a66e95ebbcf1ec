"""What a command line of the launcher says, read without starting anything."""

import os
import sys
from pathlib import Path

import pytest

import train_patch
from hmix_timm.families import FAMILIES
from train_patch.common.errors import RunError
from train_patch.launcher.command_line import (
    CommandLine,
    check_module,
    lead_path,
    names_missing,
    refuse_own_options,
    resolve_own,
    split,
)

LIKE = Path(__file__).parent / 'timm_like.py'


@pytest.fixture
def families(tmp_path):
    """A file that registers a family with an option; what is registered is forgotten afterwards."""
    before = dict(FAMILIES)
    path = tmp_path / 'my_masks.py'
    path.write_text(
        'from hmix_timm import BoxMask, register_family\n'
        "@register_family('plain', options={'edge': 0.5})\n"
        'def plain(size, lam, options, draws):\n    return BoxMask(1.0, (0, 0, 0, 0), 0.0)\n'
    )
    yield path
    FAMILIES.clear()
    FAMILIES.update(before)


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
    own, script, is_module, arguments = expected
    assert split(line.split()) == CommandLine(own, script, is_module, arguments)


@pytest.mark.parametrize(
    'line',
    [
        '',
        '--mix-mode hmix',
        '--epochs 3',
        'folder',
        '--mix-mode hmix --data-dir x',
        '-m',
        '--mix-mode',
        '-x.py',
        '-c a.py',
    ],
)
def test_a_line_without_a_script_is_the_projects_own(line):
    assert split(line.split()) is None


def test_a_script_hidden_behind_a_word_that_is_not_ours_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert split(['--epochs', '3', 'main.py']) is None  # there is no such file
    (tmp_path / 'main.py').touch()
    for words in (['--epochs', 'main.py'], ['--epochs', '3', 'main.py'], ['--local-rank', '1', 'main.py', 'x']):
        message = (
            f'^{words[0]} stands before main.py and is no option of hmix-train: put it behind the script if it is '
        )
        with pytest.raises(RunError, match=message):
            split(words)
    (tmp_path / 'main.txt').touch()
    assert split(['--epochs', '3', 'main.txt']) is None


def test_the_file_of_families_is_no_script_and_its_options_are_ours(families):
    line = ['--mix-families', str(families), '--mix-mode', 'plain', '--plain-edge', '0.25', 'main.py']
    assert split(line) == CommandLine(line[:-1], 'main.py', False, [])
    mixing = resolve_own(line[:-1])
    assert mixing.asked == '--mix-mode plain' and mixing.overrides['plain_edge'] == 0.25
    assert split(['--epochs', '3', *line[:2]]) is None  # the project's own script, with families


def test_a_file_of_families_that_is_missing_is_named():
    with pytest.raises(RunError, match=r'nowhere\.py'):
        split(['--mix-families', 'nowhere.py', 'main.py'])


@pytest.mark.parametrize(
    ('line', 'name'),
    [(CommandLine([], 'a/main.py', False, []), 'main.py'), (CommandLine([], 'a.b', True, []), '-m a.b')],
)
def test_messages_call_a_script_by_its_file_and_a_module_as_it_was_given(line, name):
    assert line.name == name


# What our options ask for


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('--mix-mode hmx', "--mix-mode must be one of .*'hmx'"),
        ('--hmix-ratio .5', '--hmix-ratio needs --mix-mode'),
        ('--mix-mode puzzlemix', '^--mix-mode puzzlemix needs the model that is trained, which a script does not show'),
    ],
)
def test_what_cannot_be_asked_for_is_refused(line, message):
    with pytest.raises(RunError, match=message):
        resolve_own(line.split())


# Our options where a script would drop them


def line_of(*arguments):
    return CommandLine([], 'a/main.py', False, list(arguments))


@pytest.mark.parametrize(
    ('words', 'named'),
    [
        (['--mix-mode', 'hmix'], '--mix-mode'),
        (['--lr', '1', '--hmix_ratio=0.3'], '--hmix_ratio=0.3'),
        (['--mix-later', '--mix-mode=hmix'], '--mix-later'),
        (['--gmix-x'], '--gmix-x'),
        (['--hmix-x'], '--hmix-x'),
        (['--cutmix-mode', 'hmix'], '--cutmix-mode'),
        (['--cutmix_mode', 'hmix'], '--cutmix_mode'),
    ],
)
def test_an_option_of_ours_behind_a_script_is_refused(words, named):
    with pytest.raises(RunError) as refusal:
        refuse_own_options(line_of(*words), like_timms=False)
    assert str(refusal.value) == (
        f"{named} stands behind main.py, which is not timm's and would not know it: put it before the script"
    )
    with pytest.raises(RunError) as refusal:
        refuse_own_options(line_of(*words), like_timms=True)
    assert str(refusal.value) == (
        f'{named} stands behind main.py, which takes it there only with timm 1.0.20 or newer: put it before the script'
    )


@pytest.mark.parametrize('like_timms', [False, True])
@pytest.mark.parametrize(
    'words', [[], ['--mixup', '.8', '--cutmix=1', 'mix-mode', '-m'], ['--remix-mode', '-mix-mode'], ['--help', '-h']]
)
def test_a_scripts_own_options_are_its_own(words, like_timms):
    refuse_own_options(line_of(*words), like_timms)


def test_a_recipe_of_timms_script_is_looked_into_where_timm_is_too_old(tmp_path):
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text('lr: 1\nmix_preset: imagenet\nmix_mode: hmix\n')
    refuse_own_options(line_of('-c', str(recipe)), like_timms=False)  # what it is to that script nobody knows
    for words in (['-c', str(recipe)], ['--lr', '1', '--config', str(recipe)], [f'--config={recipe}']):
        with pytest.raises(
            RunError, match=r'^mix_mode stands in the recipe of main.py, which takes it there only with'
        ):
            refuse_own_options(line_of(*words), like_timms=True)
    recipe.write_text('lr: 1\nmixup: 0.8\n')
    refuse_own_options(line_of('-c', str(recipe)), like_timms=True)
    with pytest.raises(RunError, match='nowhere'):
        refuse_own_options(line_of('-c', 'nowhere.yaml'), like_timms=True)


# Modules and scripts


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Packages that nothing else has, on the path."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, content in {
        'runs_here/__init__.py': '', 'runs_here/__main__.py': '', 'runs_here/part.py': '', 'still_here/__init__.py': '',
        'still_here/part.py': '', 'broken_here/__init__.py': 'import no_such_thing_here', 'broken_here/part.py': '',
        'file_here.py': 'raise RuntimeError',
    }.items():  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    yield
    for name in [name for name in sys.modules if name.partition('.')[0].endswith('_here')]:
        del sys.modules[name]


@pytest.mark.parametrize('name', ['runs_here', 'runs_here.part', 'still_here.part', 'file_here'])
def test_a_module_that_is_there_is_not_run_by_looking(package, name):
    check_module(name)


@pytest.mark.parametrize(
    ('name', 'missing'),
    [
        ('none_here', 'none_here'),
        ('none_here.part', 'none_here.part'),
        ('runs_here.none', 'runs_here.none'),
        ('runs_here.part.none', 'runs_here.part.none'),
    ],
)
def test_a_module_that_cannot_be_run_is_named(package, name, missing):
    with pytest.raises(RunError, match=f'^-m {missing}: there is no such module$'):
        check_module(name)


def test_a_package_that_nothing_runs_is_named(package):
    with pytest.raises(RunError, match=r'^-m still_here: this is a package without a module __main__'):
        check_module('still_here')


def test_what_a_package_lacks_itself_is_its_own_error(package):
    with pytest.raises(ModuleNotFoundError, match='no_such_thing_here'):
        check_module('broken_here.part')


def test_what_makes_a_script_timms_is_read_and_not_run(tmp_path):
    assert names_missing(str(LIKE)) == []
    path = tmp_path / 'main.py'
    path.write_text(
        'import a.Mixup as FastCollateMixup\nfrom b import x as Mixup, create_loader\nraise SystemExit\n'
        'parser = 1\n(_parse_args, [z]) = 1, [2]\nclass main: pass\nif True:\n    def train_one_epoch(): pass\n'
    )
    assert names_missing(str(path)) == ['train_one_epoch']
    path.write_text('def main(): pass\nparser.x = 3\n')
    assert names_missing(str(path)) == ['_parse_args', 'Mixup', 'FastCollateMixup', 'create_loader', 'train_one_epoch']


@pytest.mark.parametrize('content', [b'def main(:\n', b'\0'])
def test_a_file_that_cannot_be_read_as_python_is_named(tmp_path, content):
    path = tmp_path / 'main.py'
    with pytest.raises(RunError, match=f'^{path}: No such file or directory$'):
        names_missing(str(path))
    path.write_bytes(content)
    with pytest.raises(RunError, match=f'^{path} is not a Python script: '):
        names_missing(str(path))


# The path


HOME = str(Path(train_patch.__file__).resolve().parents[1])


@pytest.mark.parametrize(
    ('before', 'after'),
    [
        (['launcher', 'x'], ['script', 'x']),
        ([HOME, 'x'], ['script', 'x', HOME]),
        ([HOME, 'x', HOME], ['script', 'x', HOME]),
        (['launcher', HOME], ['script', HOME]),
    ],
)
def test_the_scripts_folder_takes_the_launchers_place(monkeypatch, before, after):
    monkeypatch.setattr(sys, 'path', before)
    lead_path('script')
    assert sys.path == after


def test_a_folder_that_is_the_launchers_by_another_name_goes_to_the_end(monkeypatch):
    monkeypatch.setattr(sys, 'path', [os.path.join(HOME, 'train_patch', '..'), 'x'])
    lead_path('script')
    assert sys.path == ['script', 'x', HOME]


def test_a_safe_path_stays_as_it_is(monkeypatch):
    class Flags:
        safe_path = True

    monkeypatch.setattr(sys, 'flags', Flags)
    monkeypatch.setattr(sys, 'path', ['launcher', 'x'])
    lead_path('script')
    assert sys.path == ['launcher', 'x']
