"""Recipes are found by name or path, and read as plain YAML or refused by name on one line."""

import sys
from pathlib import Path

import pytest

from train_patch import compare, preview
from train_patch.__main__ import main
from train_patch.recipes.reader import RECIPE_FOLDER, find_recipe, read_recipe, shipped_recipes


@pytest.mark.parametrize('command', [main, compare.main, preview.main], ids=lambda command: command.__module__)
def test_help_lists_the_shipped_recipes(command, capsys):
    with pytest.raises(SystemExit):
        command(['--help'])
    said = capsys.readouterr().out
    assert [name for name in shipped_recipes() if name not in said] == []


@pytest.mark.parametrize('form', ['{}', '{}.yaml', 'recipes/{}.yaml', 'recipes/{}'])
def test_a_shipped_recipe_is_found_by_its_name(form, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in shipped_recipes():
        (tmp_path / name).mkdir()  # a folder of that name is no recipe
        assert find_recipe(form.format(name)) == RECIPE_FOLDER / f'{name}.yaml'


def test_an_existing_file_goes_before_a_shipped_recipe(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = Path('imagenet_resnet50.yaml')
    own.write_text('model: resnet18\n')
    assert find_recipe('imagenet_resnet50.yaml') == own
    assert find_recipe(tmp_path / own) == tmp_path / own


@pytest.mark.parametrize(
    ('wrong', 'nearest'),
    [
        ('imagenet_resnet5', 'imagenet_resnet50'),
        ('elsewhere/cifar100_resnet56.yaml', 'cifar100_resnet56'),
        ('zzz', None),
        ('', None),
    ],
)
def test_an_unknown_recipe_is_named_with_the_nearest_and_all_that_there_are(wrong, nearest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('mine').mkdir()
    with pytest.raises(ValueError) as error:
        find_recipe(wrong)
    message = str(error.value)
    assert repr(wrong) in message and all(name in message for name in shipped_recipes())
    assert (f'did you mean {nearest}?' in message) if nearest else ('did you mean' not in message)
    with pytest.raises(ValueError, match=r"^recipe 'mine' is a folder, not a file$"):
        find_recipe('mine')


@pytest.mark.parametrize(
    ('content', 'expected'),
    [
        ('# nothing but a remark\n', {}),
        ('model: ä\nlr: 0.1\nscale: [0.5, 1]\n', {'model': 'ä', 'lr': 0.1, 'scale': [0.5, 1]}),
        ('base: &base {a: 0.5}\nopt_kwargs: {<<: *base, b: true}\n', {
            'base': {'a': 0.5}, 'opt_kwargs': {'a': 0.5, 'b': True},
        }),
        ('c:\n  <<: &b\n    <<: {lr: 1}\n    lr: 2\nd: *b\n', {'c': {'lr': 2}, 'd': {'lr': 2}}),
    ],
)  # fmt: skip
def test_a_recipe_is_plain_yaml(tmp_path, content, expected):
    (tmp_path / 'own.yaml').write_text(content)
    assert read_recipe(tmp_path / 'own.yaml') == expected


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        ('lr: 0.1\nmodel: a\nlr: 0.2\n', "is not plain YAML: the key 'lr' is there twice in .* line 3, column 1"),
        ('b: &b {x: 1}\no:\n  <<: *b\n  e: 1\n  e: 2\n', "the key 'e' is there twice in .* line 5, column 3"),
        ('b: &b\n  <<: {x: 1, x: 2}\n', "the key 'x' is there twice in .* line 2, column 14"),
        ('a: [1', 'is not plain YAML: while parsing a flow sequence'),
        ('- lr\n', r'must hold lines of "name: value", it holds \[\'lr\'\]$'),
        ('model\n', 'must hold lines of "name: value", it holds \'model\'$'),
        ('lr: 0.1\n3: x\n', 'must hold lines of "name: value", it holds {.*3: .x.}$'),
        (b'model: \xff\n', 'is not plain YAML: .*byte 0xff in position 7'),
        ('day: 2024-13-41\n', 'is not plain YAML: month must be in 1..12'),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said_on_one_line(tmp_path, content, says):
    path = tmp_path / 'own.yaml'
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=says) as caught:
        read_recipe(path)
    assert str(caught.value).startswith(f'recipe {path} ') and '\n' not in str(caught.value)


@pytest.mark.skipif(sys.platform != 'linux', reason='a file that nobody can read as text, root included')
def test_a_recipe_that_cannot_be_read_says_why():
    with pytest.raises(ValueError, match=r'^recipe /proc/self/mem: Input/output error$'):
        read_recipe('/proc/self/mem')
