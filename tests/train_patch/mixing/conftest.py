"""A parser with timm's mixing options and the group, used as the commands use theirs; families that are forgotten."""

import argparse

import pytest

from hmix_timm.families import FAMILIES
from train_patch.mixing import declare, remember_typed, resolve_parsed

STRIPES = """
import numpy as np
from hmix_timm import DenseMask, register_family

@register_family('stripes', title='Stripes', alpha=0.7, options={'period': 8, 'kind': 'hard'})
def stripes(size, lam, options, draws):
    phase = draws.uniform(1)[0]
    rows = (np.arange(size[0]) / options.period + phase) % 1.0 < lam
    return DenseMask(np.repeat(rows[:, None], size[1], axis=1).astype(float))
"""


@pytest.fixture
def stripes(tmp_path):
    """A file that registers a family `stripes`; what is registered is forgotten afterwards."""
    before = dict(FAMILIES)
    path = tmp_path / 'my_masks.py'
    path.write_text(STRIPES)
    yield path
    FAMILIES.clear()
    FAMILIES.update(before)


def timm_like_parser(**recipe):
    """A parser with timm's options, for which a recipe's values are the defaults."""
    parser = argparse.ArgumentParser(prog='train.py')
    parser.add_argument('--mixup', type=float, default=0.0)
    parser.add_argument('--cutmix', type=float, default=0.0)
    parser.add_argument('--cutmix-minmax', type=float, nargs='+', default=None)
    parser.add_argument('--mixup-prob', type=float, default=1.0)
    parser.add_argument('--mixup-switch-prob', type=float, default=0.5)
    parser.add_argument('--mixup-mode', default='batch')
    parser.add_argument('--mixup-off-epoch', type=int, default=0)
    parser.add_argument('--smoothing', type=float, default=0.1)
    parser.add_argument('--num-classes', type=int, default=None)
    parser.add_argument('--aug-splits', type=int, default=0)
    parser.add_argument('--jsd-loss', action='store_true')
    parser.add_argument('--hflip', type=float, default=0.5)
    declare(parser)
    parser.set_defaults(**recipe)
    return parser


@pytest.fixture
def parse():
    """parse('line', key=value of a recipe, …) → resolved arguments; ValueError where they are refused."""

    def run(line='', **recipe):
        parser = timm_like_parser(**recipe)
        args = parser.parse_args(line.split() if isinstance(line, str) else line, remember_typed())
        resolve_parsed(parser, args)
        return args

    return run
