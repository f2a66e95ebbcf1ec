"""Families of users: a function λ → mask, under a decorator, in a file."""

import copy
import copyreg
import functools
import importlib.util
import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ..checks import check_choice, check_number
from ..draws import NUMPY_DRAWS, Draws, numpy_seed
from ..masks import Mask, Size, WrongMask, problem_with
from .family import FAMILIES, PRESETS, DrawMask, Family, Option

COLOURS = ('#0072B2', '#F0E442', '#882255', '#44AA99', '#999933', '#332288')
"""Plot colours of families that are registered without one."""

TAKEN = ('none', 'mixup', 'cutmix', 'stochastic', 'puzzlemix', 'mix')
"""Names that mix modes have or that would make options like `--mix-mode`."""

ARGUMENTS = ('switch_prob', 'correct_lam', 'label_smoothing', 'num_classes', 'soft_labels', 'multi_label')
"""The mixers' arguments, which an option of a family could be called by, too."""


def register_family(
    name: str,
    *,
    title: str | None = None,
    alpha: float | None = 1.0,
    options: Mapping[str, Any] | Sequence[Option] = (),
    sees: str = '',
    colour: str | None = None,
) -> Callable[[DrawMask], DrawMask]:
    """Decorates a function λ → mask, and makes it a family that every part of this package knows by `name`.

        @register_family('stripes', title='Stripes', alpha=1.0, options={'period': 8})
        def stripes(size, lam, options, draws):
            phase = draws.uniform(1)[0]
            rows = (np.arange(size[0]) / options.period + phase) % 1.0 < lam
            return DenseMask(np.repeat(rows[:, None], size[1], axis=1))

    The function gets the image's (height, width), λ, its options as attributes, and a `Draws`: every random number must
    come from there, so that seeds, loader workers and NaFlex behave. It returns a `BoxMask`, `ProductMask` or
    `DenseMask` with values in [0, 1], or a `Mix` of one of them; the label weight is the mean of that mask. Every mask
    is looked at, and a wrong one raises.

    Args:
        name: value of `cutmix_mode` and of `--mix-mode`, and the prefix of its options; lower-case letters and digits.
        title: for people; the name with a capital letter if None.
        alpha: λ ~ Beta(alpha, alpha) under `--mix-mode`. None for a family that draws no λ: the function gets None,
            any `cutmix_alpha` > 0 turns it on, and `--mix-alpha` and `correct_lam=False` are refused.
        options: option → default, a number or a text, None for a number that is not set; or a list of `Option`, which
            have a range or choices, too.
            `period` becomes `stripes_period=` of the mixers' constructors, `--stripes-period` and `stripes_period:` in
            a recipe.
        sees: 'images' if the mask depends on the images. The function then gets, after `draws`, own image and partner
            as they are blended: read-only arrays (C, H, W), uint8 in collate and normalized floats in `Mixup`. Where
            one mask serves a whole batch they are the batch's first and last one.
        colour: in plots, '#rrggbb'.

    Raises:
        ValueError: the name is taken or is not a lower-case word, or an option is wrong.
    """
    if not (name.isidentifier() and name.isalnum() and name == name.lower()):
        raise ValueError(f'a family needs a name of lower-case letters and digits, got {name!r}')
    if alpha is not None:
        check_number('alpha', alpha, open_low=True)
    check_choice('sees', sees, ('', 'images'))
    title = title or name.capitalize()
    given = [Option(*item) for item in options.items()] if isinstance(options, Mapping) else options
    declared = tuple(replace(option, help=option.help or f'{option.name} of {title}') for option in given)
    _check_options(name, declared)

    def decorate(function: DrawMask) -> DrawMask:
        source = str(Path(inspect.getfile(function)).resolve())
        taken = FAMILIES.get(name)
        other = taken.source if taken else ''
        # a file may be executed twice, as a module and as a script; a notebook's cell, any number of times
        again = other and (other == source or function.__module__ in ('__main__', '__mp_main__'))
        if name in TAKEN or (taken and not again):
            where = f' (by {other})' if other else ''
            raise ValueError(f'there is a family or a mix mode {name!r} already{where}: choose another name')
        FAMILIES[name] = Family(
            name=name,
            title=title,
            draw=_examined(name, function),
            mix_mode=name,
            options=declared,
            presets={preset: {'alpha': alpha} for preset in PRESETS},
            colour=colour or COLOURS[sum(1 for family in FAMILIES.values() if family.source) % len(COLOURS)],
            sees=sees,
            source=source,
        )
        return function

    return decorate


def _check_options(name: str, options: Sequence[Option]) -> None:
    """Raises ValueError for options that a family cannot have."""
    names = [option.name for option in options]
    for option in options:
        shown, default = f'option {option.name!r} of family {name!r}', option.default
        known = isinstance(default, (int, float, str, type(None))) and not isinstance(default, bool)
        if not known or not option.name.isidentifier():
            raise ValueError(f'{shown} must have a number or a text, got {default!r}')
        option.check(shown, default)
        if f'{name}_{option.name}' in ARGUMENTS or names.count(option.name) > 1:
            raise ValueError(f'{shown}: there is an argument or an option {name}_{option.name} already')
        if option.replaces and option.replaces not in names:
            raise ValueError(f'{shown} replaces {option.replaces!r}, which is none of {", ".join(names)}')


def _examined(name: str, function: DrawMask) -> DrawMask:
    """The function, with each of its masks looked at, and the first one drawn twice more."""
    repeatable = False

    @functools.wraps(function)
    def draw(size: Size, lam: float | None, options: SimpleNamespace, draws: Draws, *images: Any) -> Mask:
        nonlocal repeatable
        mask = function(size, lam, options, draws, *images)
        problem = problem_with(mask, size)
        if problem is None:
            mask = copy.deepcopy(mask)  # the function may fill the same array for the next one
        if problem is None and not repeatable:
            if not np.array_equal(seeded(size, lam, options, *images), seeded(size, lam, options, *images)):
                problem = 'the same draws gave another mask: it has random numbers from elsewhere than `draws`'
            repeatable = True
        if problem is not None:
            where = '' if lam is None else f' for λ = {float(lam):g}'
            raise WrongMask(f'family {name!r} drew no mask{where}: {problem}')
        return mask

    def seeded(size: Size, lam: float | None, options: SimpleNamespace, *images: Any) -> np.ndarray:
        with numpy_seed(0):
            return function(size, lam, options, NUMPY_DRAWS, *images).array(size).copy()

    return draw


def load_families(path: str | Path) -> list[str]:
    """Executes a Python file that registers families, once in a process.

    Args:
        path: the file.

    Returns:
        The names of the families that it registers.

    Raises:
        ValueError: the file is missing or registers no family; the message names it. What it raises goes on.
    """
    source = str(Path(path).resolve())
    if not any(family.source == source for family in FAMILIES.values()):
        if not Path(source).is_file():
            raise ValueError(f'{path}: there is no such file')
        name = f'hmix_timm_families_{Path(source).stem}'
        spec = importlib.util.spec_from_file_location(name, source)
        if spec is None or spec.loader is None:
            raise ValueError(f'{path}: not a Python file')
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        before = {*FAMILIES}
        try:
            spec.loader.exec_module(module)
        except BaseException:
            for added in FAMILIES.keys() - before:
                del FAMILIES[added]
            raise
    names = [family.name for family in FAMILIES.values() if family.source == source]
    if not names:
        raise ValueError(f'{path} registers no family: it needs a function under @register_family')
    return names


def find_family(name: str, source: str) -> Family:
    """Returns the family, which a spawned loader worker has yet to load from the user's file."""
    if name not in FAMILIES:
        load_families(source)
    return FAMILIES[name]


copyreg.pickle(Family, lambda family: (find_family, (family.name, family.source)))
