"""The rule: what a command line and a recipe ask for. A pure function, and the checks of every value.

The tables of mix modes and families say which there are and which options they have.
"""

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any

from hmix_timm.checks import check_choice, check_minmax, check_number
from hmix_timm.families import FAMILIES, PRESETS, Option, load_families
from hmix_timm.modes import mix_modes, mixer_arguments, puzzle_arguments

from .asked import SELECTORS, TIMMS, Mixing, option_name

_OWN = (*SELECTORS, 'mix_preset', 'mix_alpha', 'mix_literal', 'mix_families')
_TIMMS_DEFAULTS: dict[str, Any] = {'mixup': 0.0, 'cutmix': 0.0, 'cutmix_minmax': None, 'mixup_switch_prob': 0.5}


def family_options() -> dict[str, Option]:
    """Name in `args` → option of a family."""
    return {dest: option for family in FAMILIES.values() for dest, option in family.keywords.items()}


def mix_dests() -> tuple[str, ...]:
    """The options of the group by their names in `args` and in recipes; registered families add theirs."""
    return (*_OWN, *family_options())


def mixing_keys() -> tuple[str, ...]:
    """The keys of a recipe that `read_mixing` checks and resolves: the group's, and timm's that a mix mode replaces."""
    return (*mix_dests(), *TIMMS)


def uses(selector: str, name: str, dest: str) -> bool:
    """Whether a mix mode ('mix_mode') or a mask ('cutmix_mode') reads another option of the group."""
    mode = mix_modes()[name] if selector == 'mix_mode' else None
    family = name if mode is None else mode.family
    if dest == 'mix_alpha':
        return mode is not None and mode.mixes
    if dest == 'mix_literal':
        return bool(family)
    return dest in ('mix_preset', 'mix_families') or (bool(family) and dest in FAMILIES[family].keywords)


def share_options(
    typed: Mapping[str, Any], selector: str, names: Sequence[str], asked: str
) -> dict[str, dict[str, Any]]:
    """Gives several mix modes or masks the options that each of them reads.

    Args:
        typed: options of the group.
        selector: 'mix_mode' or 'cutmix_mode'.
        names: of the mix modes or masks.
        asked: the option that names them, for the message.

    Raises:
        ValueError: none of them reads an option.
    """
    for dest in typed:
        if not any(uses(selector, name, dest) for name in names):
            raise ValueError(f'{option_name(dest)} has no effect on any of {asked} {" ".join(names)}')
    return {name: {dest: v for dest, v in typed.items() if uses(selector, name, dest)} for name in names}


def resolve(typed: Mapping[str, Any], recipe: Mapping[str, Any], timms: bool = True) -> Mixing:
    """Resolves what a command line and a recipe ask for.

    The command line beats the recipe. Where it names another mix mode or mask than the recipe, the recipe's parameters
    go with the recipe's mode; where the recipe names none, each mode takes the parameters that it reads. A mix mode
    replaces timm's own mixing options, wherever they stand.

    Args:
        typed: options on the command line, by their names in `args`.
        recipe: keys of a recipe; others than `mixing_keys()` are ignored, and so is None.
        timms: whether the script has timm's mixing options. They are ignored if not.

    Raises:
        ValueError: a value is wrong, or would be ignored.
    """
    mixing = _resolve_group(typed, recipe)
    if not timms:
        return mixing
    given = {dest: typed.get(dest, recipe.get(dest)) for dest in TIMMS}
    values = {dest: _timms_value(dest, value) for dest, value in given.items()}
    if mixing.mode is not None:
        mixes = mix_modes()[mixing.mode].mixes
        values = {dest: mixing.slots[TIMMS[dest]] if mixes else default for dest, default in _TIMMS_DEFAULTS.items()}
    elif mixing.asked:
        mask = mixing.values['cutmix_mode']
        if not values['cutmix'] and values['cutmix_minmax'] is None:
            raise ValueError(f'--cutmix-mode {mask} needs CutMix to be on: give --cutmix A, A > 0, or use --mix-mode')
        if values['cutmix_minmax'] is not None and not FAMILIES[mask].timms_own:
            raise ValueError(f'--cutmix-minmax cannot go with --cutmix-mode {mask}, whose masks follow λ')
    mixing = replace(mixing, values={**mixing.values, **values})
    return replace(mixing, replaced=_replaced(typed, recipe, mixing))


def _resolve_group(typed: Mapping[str, Any], recipe: Mapping[str, Any]) -> Mixing:
    """The part of `resolve` that does not depend on timm's options."""
    path = load_file(typed.get('mix_families') or recipe.get('mix_families'))
    typed, recipe = _given(typed), _given(recipe)
    given = {dest: _checked(dest, value) for dest, value in {**_inherited(typed, recipe), **typed}.items()}
    values: dict[str, Any] = {**dict.fromkeys(mix_dests()), 'mix_literal': False, 'mix_families': path, **given}
    mode, mask = values['mix_mode'], values['cutmix_mode']
    if mode is None and mask is None:
        for dest in typed:
            raise ValueError(f'{option_name(dest)} needs --mix-mode ({", ".join(mix_modes())}) or --cutmix-mode')
        return Mixing(values)
    _check_use(mode, mask, given)
    preset = values['mix_preset'] = given.get('mix_preset', PRESETS[0])
    row = _row(FAMILIES[mask].mix_mode if mode is None else mode, preset)
    family = FAMILIES[row.pop('cutmix_mode')]
    row = {name: value for name, value in row.items() if name not in family.keywords}
    own = {dest: given[dest] for dest in family.keywords if dest in given}
    values |= family.resolve(own, preset, option_name)
    if mode is None:
        row = {}
    elif mix_modes()[mode].mixes:
        alpha = values['mix_alpha'] = given.get('mix_alpha', max(row['mixup_alpha'], row['cutmix_alpha']))
        row |= {slot: alpha for slot in ('mixup_alpha', 'cutmix_alpha') if row[slot]}
    literal = {'correct_lam': False} if values['mix_literal'] else {}
    drawn = {dest: values[dest] for dest in family.keywords if values[dest] is not None}
    return Mixing(values, row, {'cutmix_mode': family.name, **drawn, **literal})


def _row(mode: str, preset: str) -> dict[str, Any]:
    """`mixer_arguments`; for a mode that needs a model, arguments that make timm's scripts expect soft targets."""
    if mix_modes()[mode].needs_model:
        return {**mixer_arguments('cutmix', preset), 'cutmix_alpha': puzzle_arguments(preset)['alpha']}
    return mixer_arguments(mode, preset)


def load_file(path: Any) -> str | None:
    """Executes a file of families, once in a process.

    Returns:
        Its absolute path, since a recorded run may be read back from another folder. None for None.

    Raises:
        ValueError: the file cannot be executed or registers no family; the message names it.
    """
    if path is None:
        return None
    if not isinstance(path, str):
        raise ValueError(f'--mix-families must be the path of a Python file, got {path!r}')
    try:
        load_families(path)
    except ValueError as error:
        raise ValueError(f'--mix-families {error}') from error
    return os.path.abspath(path)


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The group's part of a command line or a recipe; None is not given, nor is a flag that is off."""
    dests = set(mix_dests()) - {'mix_families'}
    return {
        dest: value
        for dest, value in values.items()
        if dest in dests and value is not None and not (dest == 'mix_literal' and value is False)
    }


def _inherited(typed: Mapping[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    """The part of a recipe that a command line leaves in force."""
    chosen = {dest: typed[dest] for dest in SELECTORS if dest in typed}
    before = {dest: recipe[dest] for dest in SELECTORS if dest in recipe}
    if chosen and not before:
        selector, name = next((dest, _checked(dest, value)) for dest, value in chosen.items())
        recipe = {dest: value for dest, value in recipe.items() if uses(selector, name, dest)}
    elif chosen and chosen != before:
        kept = ('mix_preset',) if 'mix_mode' in chosen else ('mix_preset', 'mix_mode')
        recipe = {dest: recipe[dest] for dest in kept if dest in recipe}
    for family in FAMILIES.values():
        for other, dest in family.replaced_by(dict.fromkeys(family.keywords, True)).items():
            if (dest in typed) != (other in typed):
                recipe.pop(other if dest in typed else dest, None)
    return recipe


def _checked(dest: str, value: Any) -> Any:
    """One value of the group, plain and checked; text becomes a number, as on a command line (YAML 1.1 has '1e-1')."""
    name = option_name(dest)
    choices = {'mix_mode': mix_modes(), 'mix_preset': PRESETS, 'cutmix_mode': FAMILIES}.get(dest)
    if choices is not None:
        check_choice(name, value, choices)
        return value
    if dest == 'mix_literal':
        if not isinstance(value, bool):
            raise ValueError(f'{name} must be true or false, got {value!r}')
        return value
    if dest == 'mix_alpha':  # an alpha of 0 is timm's "no mixing", which is --mix-mode none here
        check_number(name, alpha := _as_number(name, value), open_low=True)
        return alpha
    option = family_options()[dest]
    if option.type is not str:
        value = _as_number(name, value)
    elif isinstance(value, Real) and not isinstance(value, bool):
        value = str(value)
    option.check(name, value)
    return option.type(value)


def _as_number(name: str, value: Any) -> float:
    try:
        if isinstance(value, (Real, str)) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f'{name} must be a number, got {value!r}')


def _check_use(mode: str | None, mask: str | None, given: Mapping[str, Any]) -> None:
    """Raises ValueError for an option that would be ignored."""
    if mode is not None and mask is not None:
        raise ValueError(
            f'--cutmix-mode {mask} changes the mask of the CutMix that a recipe has, and --mix-mode {mode} replaces '
            'all mixing of the recipe: give one of them'
        )
    selector, chosen, names = ('mix_mode', mode, mix_modes()) if mode else ('cutmix_mode', str(mask), FAMILIES)
    for dest in given:
        if dest == selector or uses(selector, chosen, dest):
            continue
        if dest == 'mix_alpha' and mask:
            raise ValueError('--mix-alpha is for --mix-mode; the Beta parameter beside --cutmix-mode is --cutmix')
        users = ' or '.join(name for name in names if uses(selector, name, dest))
        raise ValueError(f'{option_name(dest)} is for {option_name(selector)} {users}, not for {chosen}')


def _timms_value(dest: str, value: Any) -> Any:
    """One of timm's options, plain and checked."""
    name = option_name(dest)
    if value is None:
        return _TIMMS_DEFAULTS[dest]
    if dest == 'cutmix_minmax':
        limits = [_as_number(name, limit) for limit in value] if isinstance(value, (list, tuple)) else value
        check_minmax(name, limits)
        return limits
    check_number(name, number := _as_number(name, value), high=1.0 if dest == 'mixup_switch_prob' else math.inf)
    return number


def _replaced(typed: Mapping[str, Any], recipe: Mapping[str, Any], mixing: Mixing) -> str:
    """'replaced by --mix-mode hmix: --mixup 0.8, …'; '' where --mix-mode replaces nothing that was given."""
    if mixing.mode is None:
        return ''
    replaced = []
    for dest, default in {**_TIMMS_DEFAULTS, 'cutmix_mode': None}.items():
        given = typed.get(dest, recipe.get(dest))
        if given is None or (dest not in typed and given == default) or given == mixing.values[dest]:
            continue
        words = given if isinstance(given, (list, tuple)) else [given]
        replaced.append(' '.join([option_name(dest), *map(str, words)]))
    return f'replaced by {mixing.asked}: {", ".join(replaced)}' if replaced else ''
