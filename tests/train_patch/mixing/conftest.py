"""A parser with timm's mixing options and the group, used as the commands use theirs; families that are forgotten."""

import argparse

import pytest

from hmix_timm.families import FAMILIES
from train_patch.mixing import declare, read_mixing, remember_typed

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
    """A file that registers a family `stripes`; it is forgotten afterwards."""
    before = dict(FAMILIES)
    path = tmp_path / 'my_masks.py'
    path.write_text(STRIPES)
    yield path
    FAMILIES.clear()
    FAMILIES.update(before)


def timm_like_parser(**recipe):
    """A parser with timm's options, for which a recipe's values are the defaults."""
    parser = argparse.ArgumentParser(prog='train.py')
    numbers = {'mixup': 0.0, 'cutmix': 0.0, 'mixup_prob': 1.0, 'mixup_switch_prob': 0.5, 'smoothing': 0.1, 'hflip': 0.5}
    for dest, default in numbers.items():
        parser.add_argument(f'--{dest.replace("_", "-")}', type=float, default=default)
    parser.add_argument('--cutmix-minmax', type=float, nargs='+')
    parser.add_argument('--mixup-mode', default='batch')
    parser.add_argument('--mixup-off-epoch', type=int, default=0)
    parser.add_argument('--num-classes', type=int, default=10)
    parser.add_argument('--aug-splits', type=int, default=0)
    parser.add_argument('--jsd-loss', action='store_true')
    parser.add_argument('--naflex-loader', action='store_true')
    parser.add_argument('--kd-model-name')
    parser.add_argument('--task', default='classification')
    parser.add_argument('--kd-distill-type', default='logit')
    declare(parser)
    parser.set_defaults(**recipe)
    return parser


def read(line='', namespace=None, **recipe):
    """Arguments and `Mixing` of a command line and a recipe; ValueError if they are refused."""
    parser = timm_like_parser(**recipe)
    args = parser.parse_args(line.split() if isinstance(line, str) else line, remember_typed(namespace))
    return args, read_mixing(parser, args)
