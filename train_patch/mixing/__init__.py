"""The mixing options of every command: declared, checked and resolved to one frozen `Mixing`.

    load_mix_families(argv, recipe)                       # before `declare`: a user's families bring options
    declare(parser)
    parser.set_defaults(**recipe)
    args = parser.parse_args(argv, remember_typed())
    mixing = read_mixing(parser, args)                    # raises ValueError that names the option

`args` then holds plain values that `yaml.safe_dump` takes and that resolve to the same mixing when they are read back.
Nothing here imports torch or timm before a mixer is made.
"""

from .asked import Mixing
from .group import (
    check_recipe_keys,
    declare,
    declare_parameters,
    is_own_name,
    load_mix_families,
    peek_recipes,
    read_mixing,
    read_parameters,
    remember_typed,
    typed_options,
)
from .resolve import mixing_keys, resolve, share_options, side_by_side

__all__ = [
    'Mixing',
    'check_recipe_keys',
    'declare',
    'declare_parameters',
    'is_own_name',
    'load_mix_families',
    'mixing_keys',
    'peek_recipes',
    'read_mixing',
    'read_parameters',
    'remember_typed',
    'resolve',
    'share_options',
    'side_by_side',
    'typed_options',
]
