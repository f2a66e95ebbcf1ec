"""Checks of numbers and words at both of their ends."""

import math
import re
import sys
from fractions import Fraction

import numpy as np
import pytest

from hmix_timm.checks import check_alpha, check_choice, check_count, check_minmax, check_number

ODD = (math.nan, math.inf, -math.inf, '1', None, [1], 1j)
NUMBER, FRACTIONS = 'x must be a finite number', 'x must be two image fractions, 0 <= min < max <= 1'
CHECKS = {
    'a lower end': (
        lambda x: check_number('x', x),
        (0, 0.0, 1e300, np.float32(2.5), np.int64(3), Fraction(1, 3)),
        (-1e-300, -1, True, False, *ODD),
        f'{NUMBER} >= 0',
    ),
    'another lower end': (lambda x: check_number('x', x, -2.5), (-2.5, 0), (-2.6,), f'{NUMBER} >= -2.5'),
    'above a lower end': (lambda x: check_number('x', x, open_low=True), (1e-300, 1), (0, -1, *ODD), f'{NUMBER} > 0'),
    "a Beta distribution's parameter": (
        lambda x: check_alpha('x', x),
        (0, sys.float_info.min),
        (5e-324, 1e-310),
        'x must be 0 or at least 2.22507e-308',
    ),
    'between two ends': (
        lambda x: check_number('x', x, 1.0, 2.0),
        (1, 1.0, 1.5, 2, 2.0),
        (0.999, 2.001, *ODD),
        f'{NUMBER} between 1 and 2',
    ),
    'a choice': (lambda x: check_choice('x', x, iter(('a', 'b'))), ('a', 'b'), ('c', None), 'x must be one of a, b'),
    'two fractions': (
        lambda x: check_minmax('x', x),
        ((0.0, 1.0), [0.2, 0.8], (0, 1), (np.float32(0.25), 0.5)),
        ((0.5, 0.5), (0.8, 0.2), (-0.1, 0.5), (0.5, 1.1), (0.1,), (0.1, 0.2, 0.3), (), (math.nan, 0.5), (0.5, math.nan),
         ('a', 'b'), (0.1, None), 0.5, None, '01', {0.1, 0.2}),
        FRACTIONS,
    ),
    'a count': (
        lambda x: check_count('x', x, 2),
        (2, np.int64(5)),
        (1, -1, 2.0, True, False, *ODD),
        'x must be a whole number >= 2',
    ),
}  # fmt: skip


@pytest.mark.parametrize(('check', 'sound', 'wrong', 'message'), CHECKS.values(), ids=CHECKS)
def test_values_outside_are_refused_with_what_is_allowed(check, sound, wrong, message):
    for value in sound:
        check(value)
    for value in wrong:
        with pytest.raises(ValueError, match=f'^{re.escape(f"{message}, got {value!r}")}$'):
            check(value)
