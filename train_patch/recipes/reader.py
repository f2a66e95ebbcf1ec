"""Finding and reading recipes: one way for all commands."""

import difflib
import os
from collections.abc import Collection
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
    """Finds the YAML file that a recipe argument means.

    Args:
        name_or_path: the path of a file, or the name of a shipped recipe: `NAME`, `NAME.yaml` or `recipes/NAME.yaml`.
            A file that exists goes before a shipped recipe of that name.

    Returns:
        The path as given, or that of the shipped recipe.

    Raises:
        ValueError: there is neither such a file nor such a recipe; names the shipped ones, and one that is near.
    """
    path, is_folder = Path(name_or_path), os.path.isdir(name_or_path)
    if os.path.exists(name_or_path) and not is_folder:
        return path
    names, name = shipped_recipes(), path.name.removesuffix('.yaml')
    if name in names and path.parent in (Path(), Path('recipes')):
        return RECIPE_FOLDER / f'{name}.yaml'
    if is_folder:
        raise ValueError(f'recipe {str(name_or_path)!r} is a folder, not a file')
    hint = ''.join(f', did you mean {nearest}?' for nearest in difflib.get_close_matches(name, names, n=1))
    raise ValueError(
        f'recipe {str(name_or_path)!r} is neither a file nor a shipped recipe{hint} (shipped: {", ".join(names)})'
    )


def read_recipe(name_or_path: str | Path) -> dict[str, Any]:
    """Reads a recipe: option names, as in timm's `args.yaml`, and their values.

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
    except Exception as error:  # PyYAML's own, and any that Python raises for a value that does not fit its tag
        raise ValueError(f'recipe {path} is not plain YAML: {" ".join(str(error).split())}') from error
    if recipe is None:
        return {}
    if not isinstance(recipe, dict) or not all(isinstance(key, str) for key in recipe):
        raise ValueError(f'recipe {path} must hold lines of "name: value", it holds {recipe!r:.60}')
    return recipe


def check_keys(unknown: Collection[str], known: Collection[str]) -> None:
    """Raises ValueError, naming all of them, for the unknown keys of a recipe, each with the nearest known key."""
    named = []
    for key in sorted(unknown):
        nearest = difflib.get_close_matches(key.replace('-', '_'), known, n=1)
        named.append(f'{key!r} (the nearest known one is {nearest[0]!r})' if nearest else repr(key))
    if named:
        raise ValueError(f'unknown key{"s" * (len(named) > 1)} in the recipe: {", ".join(named)}')


class _Loader(SafeLoader):
    """YAML's safe loader, but a key that is there twice is an error; YAML takes the last one."""

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        keys: list[Any] = []
        written = [] if hasattr(node, 'flat') else [key for key, _ in node.value if not key.tag.endswith(':merge')]
        node.flat = True  # type: ignore[attr-defined]  # once merged, it also holds keys of other mappings
        for key_node in written:
            key = self.construct_object(key_node, deep=True)
            if key in keys:
                raise yaml.constructor.ConstructorError(
                    None, None, f'the key {key!r} is there twice', key_node.start_mark
                )
            keys.append(key)
        super().flatten_mapping(node)
