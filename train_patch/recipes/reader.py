"""Finding and reading recipes: one way for all commands."""

import difflib
import os
from pathlib import Path
from typing import Any

import yaml

RECIPE_FOLDER = Path(__file__).parent

# libyaml's, ten times as fast, where PyYAML was built with it, as its wheels are
SafeLoader: Any = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)
SafeDumper: Any = getattr(yaml, 'CSafeDumper', yaml.SafeDumper)


def shipped_recipes() -> list[str]:
    """Names of the recipes in the package, without `.yaml`, sorted."""
    return sorted(path.stem for path in RECIPE_FOLDER.glob('*.yaml'))


def find_recipe(name_or_path: str | Path) -> Path:
    """The YAML file that a recipe argument means.

    Args:
        name_or_path: the path of a file, or the name of a shipped recipe: `NAME`, `NAME.yaml` or `recipes/NAME.yaml`.
            A file that exists goes before a shipped recipe of that name.

    Returns:
        The path as given, or that of the shipped recipe.

    Raises:
        ValueError: there is neither such a file nor such a recipe; names the shipped ones, and one that is near.
    """
    path = Path(name_or_path)
    if os.path.exists(path) and not os.path.isdir(path):
        return path
    names = shipped_recipes()
    name = path.name.removesuffix('.yaml')
    if name in names and path.parent in (Path(), Path('recipes')):
        return RECIPE_FOLDER / f'{name}.yaml'
    if os.path.isdir(name_or_path):
        raise ValueError(f'recipe {str(name_or_path)!r} is a folder, not a file')
    nearest = difflib.get_close_matches(name, names, n=1)
    hint = f', did you mean {nearest[0]}?' if nearest else ''
    raise ValueError(
        f'recipe {str(name_or_path)!r} is neither a file nor a shipped recipe{hint} (shipped: {", ".join(names)})'
    )


def read_recipe(name_or_path: str | Path) -> dict[str, Any]:
    """What a recipe holds: option names, as in timm's `args.yaml`, and their values.

    Args:
        name_or_path: as for `find_recipe`.

    Raises:
        ValueError: there is no such recipe, or it cannot be read; the message names file and reason.
    """
    path = find_recipe(name_or_path)
    try:
        recipe = yaml.load(path.read_text(encoding='utf-8'), _Loader)
    except OSError as error:
        raise ValueError(f'recipe {path}: {error.strerror}') from error
    except UnicodeDecodeError as error:
        raise ValueError(f'recipe {path} is not text in UTF-8: {error.reason} at byte {error.start}') from error
    except Exception as error:  # PyYAML's own, and whatever Python says to a value that is not what its tag says
        raise ValueError(f'recipe {path} is not plain YAML: {" ".join(str(error).split())}') from error
    if recipe is None:
        return {}
    if not isinstance(recipe, dict):
        raise ValueError(f'recipe {path} must hold lines of "name: value", it holds a {type(recipe).__name__}')
    for key in recipe:
        if not isinstance(key, str):
            raise ValueError(f'recipe {path} must hold lines of "name: value", got the name {key!r}')
    return recipe


class _Loader(SafeLoader):
    """YAML's safe loader, but a key that is there twice is an error; YAML takes the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key) for key, _ in node.value if key.value != '<<']
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.constructor.ConstructorError(
                    None, None, f'the key {key!r} is there twice', node.value[number][0].start_mark
                )
        return super().construct_mapping(node, deep)
