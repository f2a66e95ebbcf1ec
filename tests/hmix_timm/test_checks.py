"""Checks of numbers and words at both of their ends."""

import math
import re
from fractions import Fraction

import numpy as np
import pytest

from hmix_timm.checks import check_choice, check_count, check_minmax, check_number

ODD = (math.nan, math.inf, -math.inf, '1', None, [1], 1j)


def refuses(check, message):
    with pytest.raises(ValueError, match=f'^{re.escape(message)}$'):
        check()


def test_a_number_from_a_lower_end():
    for value in (0, 0.0, 1e300, np.float32(2.5), np.int64(3), Fraction(1, 3)):
        check_number('x', value)
    for value in (-1e-300, -1, True, False, *ODD):
        refuses(lambda value=value: check_number('x', value), f'x must be a finite number >= 0, got {value!r}')
    check_number('x', -2.5, -2.5)
    refuses(lambda: check_number('x', -2.6, -2.5), 'x must be a finite number >= -2.5, got -2.6')


def test_a_number_above_a_lower_end():
    check_number('x', 1e-300, open_low=True)
    refuses(lambda: check_number('x', 0, open_low=True), 'x must be a finite number > 0, got 0')
    check_number('x', 2.0, 1.0, 2.0, open_low=True)
    refuses(lambda: check_number('x', 1, 1, 2, open_low=True), 'x must be a finite number between 1 and 2, got 1')


def test_a_number_between_two_ends():
    for value in (1, 1.0, 1.5, 2, 2.0):
        check_number('x', value, 1.0, 2.0)
    for value in (0.999, 2.001, *ODD):
        message = f'x must be a finite number between 1 and 2, got {value!r}'
        refuses(lambda value=value, message=message: check_number('x', value, 1.0, 2.0), message)


def test_a_choice():
    check_choice('x', 'b', iter(('a', 'b')))
    refuses(lambda: check_choice('x', 'c', iter(('a', 'b'))), "x must be one of a, b, got 'c'")


def test_two_fractions_of_an_image():
    for value in ((0.0, 1.0), [0.2, 0.8], (0, 1), (np.float32(0.25), 0.5)):
        check_minmax('x', value)
    # fmt: off
    wrong = (
        (0.5, 0.5), (0.8, 0.2), (-0.1, 0.5), (0.5, 1.1), (0.1,), (0.1, 0.2, 0.3), (),
        (math.nan, 0.5), (0.5, math.nan), ('a', 'b'), (0.1, None), 0.5, None, '01', {0.1, 0.2},
    )
    # fmt: on
    for value in wrong:
        message = f'x must be two image fractions, 0 <= min < max <= 1, got {value!r}'
        refuses(lambda value=value, message=message: check_minmax('x', value), message)


def test_a_count():
    for value in (0, 1, np.int64(5)):
        check_count('x', value)
    check_count('x', 2, 2)
    for value in (-1, 1.0, True, False, *ODD):
        refuses(lambda value=value: check_count('x', value), f'x must be a whole number >= 0, got {value!r}')
    refuses(lambda: check_count('x', 1, 2), 'x must be a whole number >= 2, got 1')
