"""The private names of timm that train_patch uses still mean what it uses them for."""

import ast
from pathlib import Path

import pytest
from timm.data.auto_augment import AugmentOp

import train_patch
from train_patch.private import STRONGEST_LEVEL, feature_take_indices, search_split

PACKAGE = Path(train_patch.__file__).parent


@pytest.mark.parametrize(
    ('there', 'split', 'found'),
    [
        ('validation', 'validation', 'validation'),
        ('val', 'validation', 'val'),
        ('training', 'train', 'training'),
        ('anything', 'anything', 'anything'),
        ('train', 'validation', ''),  # timm falls back to the root: what the check is there for
    ],
)
def test_search_split_finds_the_folder_of_a_split(tmp_path, there, split, found):
    (tmp_path / there).mkdir()
    assert Path(search_split(str(tmp_path), split)) == tmp_path / found


@pytest.mark.parametrize(
    ('indices', 'expected'),
    [(None, ([0, 1, 2, 3], 3)), (2, ([2, 3], 3)), ([0, 2], ([0, 2], 2)), ([-1], ([3], 3))],
)
def test_feature_take_indices_gives_stages_and_the_last_one(indices, expected):
    taken, last = feature_take_indices(4, indices)
    assert (list(taken), last) == expected


def test_strongest_level_is_where_an_operation_clips_its_strength():
    """Rotate turns by 30 degrees at the strongest level, and no further."""
    operation = AugmentOp('Rotate', prob=1, magnitude=10 * STRONGEST_LEVEL)
    asked = []
    operation.aug_fn = lambda image, degrees, **kwargs: asked.append(abs(degrees))
    operation('image')
    assert asked == [30.0]


def test_private_names_stand_in_one_module():
    for path in PACKAGE.rglob('*.py'):
        if path == PACKAGE / 'private.py':
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.ImportFrom) or node.level or not node.module:
                continue
            if node.module.split('.')[0] in ('timm', 'torch', 'torchvision'):
                names = [*node.module.split('.'), *(alias.name for alias in node.names)]
                assert not any(name.startswith('_') for name in names), f'{path}: {node.module}'
