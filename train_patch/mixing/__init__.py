"""The --mix-mode option group: declared, checked and resolved here and nowhere else, for every command.

A command loads the user's families, declares the group on its parser, parses, and resolves:

    load_mix_families(argv, recipe)                                  # their options are to be declared, too
    declare(parser)
    parser.set_defaults(**recipe)
    args = parser.parse_args(argv, remember_typed())
    line = resolve_parsed(parser, args)                              # ValueError: the parser's error

Afterwards `args.mixup`, `args.cutmix` and the rest hold what is really used, as plain numbers and text that
`yaml.safe_dump` takes and that give the same run when they are read back. `resolve` is the rule by itself: a pure
function of what stands on the command line and what stands in a recipe.

Nothing here imports torch or timm before there is a mixer to check.
"""

from .mixers import (
    check_mixing,
    in_options,
    mixer_arguments_from,
    mixing_active,
    needs_model,
    puzzle_mixer_from,
    slot_arguments_from,
)
from .parsers import (
    add_mix_arguments,
    check_recipe_keys,
    declare,
    load_mix_families,
    remember_typed,
    resolve_parsed,
    typed_options,
)
from .resolve import (
    TIMM_DEFAULTS,
    constructor_overrides,
    mix_dests,
    mode_uses,
    option_name,
    replaced_line,
    resolve,
    resolve_group,
)

__all__ = [
    'TIMM_DEFAULTS',
    'add_mix_arguments',
    'check_mixing',
    'check_recipe_keys',
    'constructor_overrides',
    'declare',
    'in_options',
    'load_mix_families',
    'mix_dests',
    'mixer_arguments_from',
    'mixing_active',
    'mode_uses',
    'needs_model',
    'option_name',
    'puzzle_mixer_from',
    'remember_typed',
    'replaced_line',
    'resolve',
    'resolve_group',
    'resolve_parsed',
    'slot_arguments_from',
    'typed_options',
]
