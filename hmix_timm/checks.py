"""Checks of the mixers' arguments: a wrong value fails at construction, named, with what is allowed."""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any


def check_number(name: str, value: Any, low: float = 0.0, high: float = math.inf, *, open_low: bool = False) -> None:
    """Raises ValueError unless value is a finite number in [low, high], or in (low, high] with `open_low`."""
    bounds = f'{">" if open_low else ">="} {low:g}' if high == math.inf else f'between {low:g} and {high:g}'
    valid = isinstance(value, Real) and not isinstance(value, bool)
    if valid:
        number = float(value)
        valid = math.isfinite(number) and low <= number <= high and not (open_low and number == low)
    if not valid:
        raise ValueError(f'{name} must be a finite number {bounds}, got {value!r}')


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raises ValueError unless value is one of the choices."""
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f'{name} must be one of {", ".join(choices)}, got {value!r}')


def check_minmax(name: str, value: Any) -> None:
    """Raises ValueError unless value is a pair of image fractions min < max."""
    valid = isinstance(value, (tuple, list)) and len(value) == 2
    if valid:
        valid = all(isinstance(v, Real) and math.isfinite(v) for v in value) and 0.0 <= value[0] < value[1] <= 1.0
    if not valid:
        raise ValueError(f'{name} must be two image fractions, 0 <= min < max <= 1, got {value!r}')


def check_count(name: str, value: Any, low: int = 0) -> None:
    """Raises ValueError unless value is a whole number of at least `low`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise ValueError(f'{name} must be a whole number >= {low}, got {value!r}')
