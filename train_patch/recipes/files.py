"""Finding the recipes that come with the package."""

import difflib
from pathlib import Path

RECIPE_FOLDER = Path(__file__).parent


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
        ValueError: there is neither such a file nor such a recipe; names the shipped ones and the nearest.
    """
    path = Path(name_or_path)
    if path.is_file():
        return path
    names = shipped_recipes()
    name = path.name.removesuffix('.yaml')
    if name in names and path.parent in (Path(), Path('recipes')):
        return RECIPE_FOLDER / f'{name}.yaml'
    nearest = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f', did you mean {nearest[0]}?' if nearest else ''
    raise ValueError(
        f'recipe {str(name_or_path)!r} is neither a file nor a shipped recipe{hint} (shipped: {", ".join(names)})'
    )
