"""The rule: what a command line and a recipe ask for. A pure function, and the checks of every value.

Which mix modes and families there are, and which options they have, is read from their tables.
"""

import math
import os
from collections.abc import Mapping
from numbers import Real
from typing import Any

from hmix_timm.checks import check_choice, check_minmax, check_number
from hmix_timm.families import FAMILIES, PRESETS, Family, Option, load_families
from hmix_timm.modes import mix_modes, mixer_arguments, puzzle_arguments

CONSTRUCTOR_NAMES = {
    'mixup': 'mixup_alpha',
    'cutmix': 'cutmix_alpha',
    'cutmix_minmax': 'cutmix_minmax',
    'mixup_switch_prob': 'switch_prob',
    'mixup_prob': 'prob',
    'mixup_mode': 'mode',
    'smoothing': 'label_smoothing',
    'num_classes': 'num_classes',
}
"""timm's mixing options → arguments of its mixers' constructors."""

TIMM_DEFAULTS: dict[str, Any] = {'mixup': 0.0, 'cutmix': 0.0, 'cutmix_minmax': None, 'mixup_switch_prob': 0.5}
"""What --mix-mode replaces of timm's options, with timm's defaults."""

_OWN_DESTS = ('mix_mode', 'cutmix_mode', 'mix_preset', 'mix_alpha', 'mix_literal', 'mix_families')
_SELECTORS = ('mix_mode', 'cutmix_mode')


def mix_dests() -> tuple[str, ...]:
    """What the group adds to `args`, and the keys that it takes in a recipe; registered families add theirs."""
    return (*_OWN_DESTS, *family_options())


def family_options() -> dict[str, tuple[Family, Option]]:
    """Name outside its family → family and option."""
    return {dest: (family, option) for family in FAMILIES.values() for dest, option in family.keywords.items()}


def option_name(dest: str) -> str:
    """'hmix_ratio' → '--hmix-ratio'."""
    return '--' + dest.replace('_', '-')


def mode_uses(mix_mode: str, dest: str) -> bool:
    """Whether a mix mode reads a parameter of the group ('mix_alpha', 'hmix_ratio', …)."""
    mode = mix_modes()[mix_mode]
    if dest == 'mix_alpha':
        return mode.mixes
    return bool(mode.family) if dest == 'mix_literal' else _mask_uses(mode.family, dest)


def _mask_uses(cutmix_mode: str, dest: str) -> bool:
    owner = family_options().get(dest)
    return owner is None or owner[0].name == cutmix_mode


def resolve(typed: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What a command line and a recipe ask for.

    The command line beats the recipe. Where it names another mix mode or mask than the recipe does, the recipe's
    parameters, which were meant for that one, go with it; where the recipe names none, each mode takes the parameters
    that it has a use for. A mix mode replaces timm's own mixing options, wherever they stand.

    Args:
        typed: options that stand on the command line, by their names in `args`.
        recipe: keys of a recipe. Those that are neither in `mix_dests()` nor in `TIMM_DEFAULTS` are ignored, and so
            is None.

    Returns:
        A value for each of `mix_dests()` and of `TIMM_DEFAULTS`: plain, and the same when given back as a recipe.

    Raises:
        ValueError: a value is wrong, or would be ignored.
    """
    values = resolve_group(typed, recipe)
    timms = {dest: _timms_value(dest, typed, recipe) for dest in TIMM_DEFAULTS}
    mode, mask = values['mix_mode'], values['cutmix_mode']
    if mode is not None:
        overrides = slot_overrides(values)
        mixes = mix_modes()[mode].mixes
        timms = {dest: overrides[CONSTRUCTOR_NAMES[dest]] for dest in timms} if mixes else dict(TIMM_DEFAULTS)
    elif mask is not None:
        if not timms['cutmix'] and timms['cutmix_minmax'] is None:
            raise ValueError(f'--cutmix-mode {mask} needs CutMix to be on: give --cutmix A, A > 0, or use --mix-mode')
        if timms['cutmix_minmax'] is not None and not FAMILIES[mask].timms_own:
            raise ValueError(f'--cutmix-minmax cannot go with --cutmix-mode {mask}, whose masks follow λ')
    return {**values, **timms}


def resolve_group(typed: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The part of `resolve` that timm's options have no say in, for scripts whose options are not timm's.

    Returns:
        A value for each of `mix_dests()`.

    Raises:
        ValueError: a value is wrong, or would be ignored.
    """
    path = load_file(typed.get('mix_families') or recipe.get('mix_families'))
    typed, recipe = _given(typed), _given(recipe)
    given = {dest: _checked(dest, value) for dest, value in {**_inherited(typed, recipe), **typed}.items()}
    values: dict[str, Any] = {**dict.fromkeys(mix_dests()), 'mix_literal': False, 'mix_families': path, **given}
    mode, mask = values['mix_mode'], values['cutmix_mode']
    if mode is None and mask is None:
        for dest in typed:
            raise ValueError(f'{option_name(dest)} needs --mix-mode ({", ".join(mix_modes())}) or --cutmix-mode')
        return values
    _check_use(mode, mask, given)
    preset = values['mix_preset'] = given.get('mix_preset', PRESETS[0])
    if mode is not None and mix_modes()[mode].mixes and 'mix_alpha' not in given:
        row = _row(mode, preset)
        values['mix_alpha'] = max(row['mixup_alpha'], row['cutmix_alpha'])
    family = FAMILIES.get(mask if mode is None else mix_modes()[mode].family)
    return {**values, **(_family_values(family, preset, given) if family else {})}


def _row(mode: str, preset: str) -> dict[str, Any]:
    """`mixer_arguments`, and for a mode that needs a model what tells timm's scripts to expect soft targets."""
    if mix_modes()[mode].needs_model:
        return {**mixer_arguments('cutmix', preset), 'cutmix_alpha': puzzle_arguments(preset)['alpha']}
    return mixer_arguments(mode, preset)


def load_file(path: Any) -> str | None:
    """Executes a file of families, once in a process.

    Returns:
        Its absolute path: what a run records may be read back from another folder. None for None.

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
    """What is left of a recipe beside a command line."""
    chosen = {dest: typed[dest] for dest in _SELECTORS if dest in typed}
    before = {dest: recipe[dest] for dest in _SELECTORS if dest in recipe}
    if chosen and not before:
        selector, selected = next((dest, _checked(dest, value)) for dest, value in chosen.items())
        uses = mode_uses if selector == 'mix_mode' else _mask_uses
        recipe = {dest: value for dest, value in recipe.items() if uses(selected, dest)}
    elif chosen and chosen != before:
        kept = ('mix_preset',) if 'mix_mode' in chosen else ('mix_preset', 'mix_mode')
        recipe = {dest: recipe[dest] for dest in kept if dest in recipe}
    for dest, (family, option) in family_options().items():
        other = f'{family.name}_{option.replaces}'
        if option.replaces and (dest in typed) != (other in typed):
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
    if dest == 'mix_alpha':  # timm's scripts take an alpha of 0 for "no mixing", which is what --mix-mode none says
        check_number(name, alpha := _as_number(name, value), open_low=True)
        return alpha
    option = family_options()[dest][1]
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
    """Raises ValueError for what would be ignored."""
    if mode is not None and mask is not None:
        raise ValueError(
            f'--cutmix-mode {mask} changes the mask of the CutMix that a recipe has, and --mix-mode {mode} replaces '
            'all mixing of the recipe: give one of them'
        )
    for dest in given:
        if mode is not None and dest != 'mix_mode' and not mode_uses(mode, dest):
            users = [name for name in mix_modes() if mode_uses(name, dest)]
            raise ValueError(f'{option_name(dest)} is for --mix-mode {" or ".join(users)}, not for {mode}')
        if mask is not None and dest == 'mix_alpha':
            raise ValueError('--mix-alpha is for --mix-mode; the Beta parameter beside --cutmix-mode is --cutmix')
        if mask is not None and not _mask_uses(mask, dest):
            owner = family_options()[dest][0].name
            raise ValueError(f'{option_name(dest)} is for --cutmix-mode {owner}, not for {mask}')


def _family_values(family: Family, preset: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """A value for each option of a family, None for one that has no effect."""
    own = {dest: given[dest] for dest in family.keywords if dest in given}
    without_effect = family.replaced_by(own)
    for dest in without_effect & own.keys():
        by = next(d for d, o in family.keywords.items() if d in own and f'{family.name}_{o.replaces}' == dest)
        raise ValueError(f'{option_name(dest)} has no effect beside {option_name(by)}: give one of them')
    presets = {f'{family.name}_{name}': value for name, value in family.presets[preset].items() if name != 'alpha'}
    return {**family.defaults(), **presets, **own, **dict.fromkeys(without_effect)}


def _timms_value(dest: str, typed: Mapping[str, Any], recipe: Mapping[str, Any]) -> Any:
    """One of timm's options, plain and checked."""
    value = typed.get(dest, recipe.get(dest))
    name = option_name(dest)
    if value is None:
        return TIMM_DEFAULTS[dest]
    if dest == 'cutmix_minmax':
        limits = [_as_number(name, limit) for limit in value] if isinstance(value, (list, tuple)) else value
        check_minmax(name, limits)
        return limits
    check_number(name, number := _as_number(name, value), high=1.0 if dest == 'mixup_switch_prob' else math.inf)
    return number


def replaced_line(typed: Mapping[str, Any], recipe: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """'replaced by --mix-mode hmix: --mixup 0.8, …', for the log; '' where --mix-mode replaces nothing that was given.

    Args:
        typed: as for `resolve`.
        recipe: as for `resolve`.
        values: what `resolve` made of them.
    """
    if values['mix_mode'] is None:
        return ''
    replaced = []
    for dest, default in {**TIMM_DEFAULTS, 'cutmix_mode': None}.items():
        given = typed.get(dest, recipe.get(dest))
        if given is None or (dest not in typed and given == default) or given == values[dest]:
            continue
        words = given if isinstance(given, (list, tuple)) else [given]
        replaced.append(' '.join([option_name(dest), *map(str, words)]))
    return f'replaced by --mix-mode {values["mix_mode"]}: {", ".join(replaced)}' if replaced else ''


def constructor_overrides(values: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a mixer's constructor that resolved values of the group replace, whatever a script passes.

    Empty without mix mode and mask; 'none' gives a mixer that never mixes.

    Raises:
        ValueError: the mix mode is none of `Mixup`'s: it needs the model in training.
    """
    mode = values.get('mix_mode')
    if mode is not None and mix_modes()[mode].needs_model:
        raise ValueError(f'--mix-mode {mode} asks the model in training what to keep, which is not to be had here')
    return slot_overrides(values)


def slot_overrides(values: Mapping[str, Any]) -> dict[str, Any]:
    """`constructor_overrides`, and for a mix mode that needs a model what makes timm's scripts expect soft targets."""
    mode, mask = values.get('mix_mode'), values.get('cutmix_mode')
    if mode is None and mask is None:
        return {}
    arguments: dict[str, Any] = {'cutmix_mode': mask}
    if mode is not None:
        arguments = _row(mode, values['mix_preset'])
    for slot in ('mixup_alpha', 'cutmix_alpha'):
        if arguments.get(slot) and values['mix_alpha'] is not None:
            arguments[slot] = values['mix_alpha']
    keywords = FAMILIES[arguments['cutmix_mode']].keywords
    arguments = {name: value for name, value in arguments.items() if name not in keywords}
    arguments |= {dest: values[dest] for dest in keywords if values[dest] is not None}
    return {**arguments, 'correct_lam': False} if values['mix_literal'] else arguments
