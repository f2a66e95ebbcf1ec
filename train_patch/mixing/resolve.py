"""The rule: what a command line and a recipe ask for. A pure function, and the checks of every value.

The tables of mix modes and families say which there are and which options they have.
"""

import ast
import hashlib
import os
from collections.abc import Mapping, Sequence
from numbers import Real
from pathlib import Path
from typing import Any

from hmix_timm.checks import check_minmax
from hmix_timm.families import FAMILIES, PRESETS, Option, load_families
from hmix_timm.modes import mix_modes, mixer_arguments, puzzle_arguments

from ..common.errors import is_users_bug
from .asked import SELECTORS, TIMMS, Mixing, option_name

_OF_MIXING = ('mix_preset', 'mixup_prob', 'mixup_mode', 'mixup_off_epoch')
"""What a mode without mixing has no use for, besides masks."""


def group_options() -> dict[str, Option]:
    """Name in `args` and in recipes → option of the group; registered families add theirs."""
    own = {
        'mix_mode': Option(
            'mode', '', "mixing of the whole run (default: as timm's options say)", choices=tuple(mix_modes())
        ),
        'cutmix_mode': Option(
            'mode', '', 'mask that is drawn where CutMix is drawn (default: bbox)', choices=tuple(FAMILIES)
        ),
        'mix_preset': Option('preset', '', "parameters of the paper's section 5 (default: imagenet)", choices=PRESETS),
        'mix_alpha': Option(
            'alpha', 0.0, "Beta parameter of --mix-mode, above 0 (default: the preset's)", low=0.0, open_low=True
        ),
        'mix_literal': Option(
            'literal',
            False,
            "the paper's formulas to the letter: λ as drawn is the label weight, whatever the borders cut off "
            '(default: the label weight is the mean of the mask)',
        ),
        'mix_families': Option('file', '', 'Python file that registers families of your own (default: none)'),
        'mix_digest': Option(
            'digest', '', 'what a run records of the code of its own family, and holds it against (default: none)'
        ),
    }
    return own | {dest: option for family in FAMILIES.values() for dest, option in family.keywords.items()}


def mixing_keys() -> tuple[str, ...]:
    """The keys of a recipe that are checked and resolved here: the group's, and timm's that a mix mode replaces."""
    return (*group_options(), *TIMMS)


def read_by(selector: str, name: str) -> set[str]:
    """The other options of the group that a mix mode ('mix_mode') or a mask ('cutmix_mode') reads."""
    mode = mix_modes()[name if selector == 'mix_mode' else FAMILIES[name].mix_mode]
    family = FAMILIES.get(mode.family)
    takes_lam = family.takes_lam if family else mode.mixes
    alpha = {'mix_alpha'} if selector == 'mix_mode' and takes_lam else set()
    literal = {'mix_literal'} if family and takes_lam else set()
    return {'mix_preset', 'mix_families', 'mix_digest'} | alpha | literal | {*(family.keywords if family else ())}


def has_use_for(selector: str, name: str, dest: str) -> bool:
    """Whether an argument of training, of the group or not, changes the runs of a mix mode or mask."""
    mixes = mix_modes()[name if selector == 'mix_mode' else FAMILIES[name].mix_mode].mixes
    return (dest not in group_options() or dest in read_by(selector, name)) and (mixes or dest not in _OF_MIXING)


def share_options(
    typed: Mapping[str, Any], selector: str, names: Sequence[str], asked: str
) -> dict[str, dict[str, Any]]:
    """Gives several mix modes or masks the options that each of them has a use for.

    Args:
        typed: arguments of training.
        selector: 'mix_mode' or 'cutmix_mode'.
        names: of the mix modes or masks.
        asked: the option that names them, for the message.

    Raises:
        ValueError: none of them has a use for an option.
    """
    for dest in typed:
        if not any(has_use_for(selector, name, dest) for name in names):
            raise ValueError(f'{option_name(dest)} has no effect on any of {asked} {" ".join(names)}')
    return {name: {dest: value for dest, value in typed.items() if has_use_for(selector, name, dest)} for name in names}


def side_by_side(
    typed: Mapping[str, Any],
    names: Sequence[str],
    asked: str,
    recipes: Sequence[Mapping[str, Any]] = (),
    preset: str = PRESETS[0],
) -> dict[str, Mixing]:
    """Resolves several mix modes; each takes the typed options that it reads, and the rest from a recipe.

    Args:
        typed: options on the command line.
        names: of the mix modes.
        asked: the option that names them, for the message.
        recipes: keys of recipes. Those of a mix mode say its parameters; where there is none, the first one does.
        preset: holds where neither the command line nor a recipe names one.

    Raises:
        ValueError: a value is wrong or has no effect, or recipes of one mix mode differ.
    """
    found = {}
    for name, own in share_options(typed, 'mix_mode', names, asked).items():
        of_mode = [recipe for recipe in recipes if recipe.get('mix_mode') == name] or [*recipes[:1], {}][:1]
        mixing, *others = (resolve({**own, 'mix_mode': name}, {'mix_preset': preset, **_given(r)}) for r in of_mode)
        for dest, value in mixing.values.items():
            if any(other.values[dest] != value for other in others):
                raise ValueError(
                    f'the recipes of {name} have more than one {dest}: give {option_name(dest)}, or one of them'
                )
        found[name] = mixing
    return found


def resolve(typed: Mapping[str, Any], recipe: Mapping[str, Any]) -> Mixing:
    """Resolves what a command line and a recipe ask for.

    The command line beats the recipe. Where it names another mix mode or mask than the recipe, the recipe's parameters
    go with the recipe's mode; where the recipe names none, each mode takes the parameters that it reads. A mix mode
    replaces timm's own mixing options, wherever they stand.

    Args:
        typed: options on the command line, by their names in `args`.
        recipe: keys of a recipe; others than `mixing_keys()` are ignored, and so is None.

    Raises:
        ValueError: a value is wrong, or would be ignored.
    """
    families = load_file(typed.get('mix_families') or recipe.get('mix_families'))
    typed, recipe = _given(typed), _given(recipe)
    given = {dest: _checked(dest, value) for dest, value in {**_inherited(typed, recipe), **typed}.items()}
    values = {**dict.fromkeys(group_options()), **{dest: option.default for dest, option in TIMMS.items()}, **given}
    values |= {'mix_literal': 'mix_literal' in given, 'mix_families': families}
    chosen = [(dest, given[dest]) for dest in SELECTORS if dest in given]
    if not chosen:
        for dest in (dest for dest in typed if dest not in (*TIMMS, 'mix_families')):
            raise ValueError(f'{option_name(dest)} needs --mix-mode ({", ".join(mix_modes())}) or --cutmix-mode')
        return Mixing(values)
    _check_use(chosen, given)
    ((selector, name),) = chosen
    preset = values['mix_preset'] = given.get('mix_preset', PRESETS[0])
    mode = name if selector == 'mix_mode' else FAMILIES[name].mix_mode
    row = _row(mode, preset)
    family = FAMILIES[row.pop('cutmix_mode')]
    slots = {name: value for name, value in row.items() if name not in family.keywords}
    options = family.resolve({dest: given[dest] for dest in family.keywords if dest in given}, preset, option_name)
    values |= {**options, 'mix_digest': code_digest(family.source) if families and family.source else None}
    recorded = typed.get('mix_digest') or ('mix_families' not in typed and recipe.get('mix_digest'))
    if recorded and (digest := values['mix_digest']) not in (None, recorded):
        raise ValueError(
            f'{family.source} draws other masks than in the run with mix_digest {recorded}: it has {digest} now; '
            'undo the edit, or leave mix_digest out to train with the file as it is'
        )
    mask = {'cutmix_mode': family.name, **{dest: value for dest, value in options.items() if value is not None}}
    if values['mix_literal']:
        mask['correct_lam'] = False
    if selector == 'cutmix_mode':
        return Mixing(values, mask=mask)
    if mix_modes()[mode].mixes:
        alpha = given.get('mix_alpha', max(slots['mixup_alpha'], slots['cutmix_alpha']))
        values['mix_alpha'] = alpha if 'mix_alpha' in read_by(selector, name) else None
        slots |= {name: alpha for name in ('mixup_alpha', 'cutmix_alpha') if slots[name]}
        values |= {dest: slots[option.name] for dest, option in TIMMS.items()}
    else:
        values |= {dest: option.default for dest, option in TIMMS.items()}
    return Mixing(values, slots, mask, replaced=_replaced(typed, recipe, values))


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
        ValueError: the file is missing or registers no family; the message names it. What it raises goes on.
    """
    if path is None:
        return None
    try:
        load_families(path)
    except (TypeError, ValueError) as error:
        if is_users_bug(error):
            raise
        raise ValueError(f'--mix-families {error if str(path) in str(error) else f"{path}: {error}"}') from error
    return os.path.abspath(path)


def code_digest(path: str | Path) -> str:
    """A digest of a Python file's syntax tree: comments, layout, docstrings and Python's version do not change it."""

    def plain(node: Any) -> Any:
        if isinstance(node, list):
            return [plain(item) for item in node]
        if not isinstance(node, ast.AST):
            return node
        fields = dict(ast.iter_fields(node))
        documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            fields['body'] = node.body[1:]
        # newer versions of Python have more fields, which are empty
        return [
            type(node).__name__,
            *((name, plain(value)) for name, value in fields.items() if value not in (None, [])),
        ]

    return hashlib.sha256(repr(plain(ast.parse(Path(path).read_bytes()))).encode()).hexdigest()[:16]


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    """The options resolved here among others; None is not given, nor is a flag that is off."""
    keys = [dest for dest in mixing_keys() if values.get(dest) is not None]
    return {dest: values[dest] for dest in keys if dest != 'mix_literal' or values[dest] is not False}


def _inherited(typed: Mapping[str, Any], recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a recipe that a command line leaves in force."""
    chosen = {dest: _checked(dest, typed[dest]) for dest in SELECTORS if dest in typed}
    before = {dest: recipe[dest] for dest in SELECTORS if dest in recipe}
    kept = {*recipe}
    if chosen and not before:
        selector, name = next(iter(chosen.items()))
        kept &= read_by(selector, name)
    elif chosen and chosen != before:
        kept = {'mix_preset'} if 'mix_mode' in chosen else {'mix_preset', 'mix_mode'}
    for family in FAMILIES.values():  # of two options that replace each other the command line's goes on
        pairs = family.replaced_by(dict.fromkeys(family.keywords, True)).items()
        kept -= {other if dest in typed else dest for other, dest in pairs if dest in typed or other in typed}
    if 'mix_mode' not in chosen:  # which replaces all of them, right or wrong
        kept |= {*TIMMS}
    return {dest: value for dest, value in recipe.items() if dest in kept}


def _checked(dest: str, value: Any) -> Any:
    """One value, plain and checked; text becomes a number, as on a command line (YAML 1.1 reads 1e-1 as text)."""
    name = option_name(dest)
    if dest == 'mix_literal':
        if not isinstance(value, bool):
            raise ValueError(f'{name} must be true or false, got {value!r}')
        return value
    if dest == 'cutmix_minmax':
        limits = [_as_number(name, limit) for limit in value] if isinstance(value, (list, tuple)) else value
        check_minmax(name, limits)
        return limits
    option = {**group_options(), **TIMMS}[dest]
    if option.type is not str:
        value = _as_number(name, value)
    elif isinstance(value, Real) and not isinstance(value, bool):
        value = str(value)
    return option.check(name, value)


def _as_number(name: str, value: Any) -> float:
    try:
        if isinstance(value, (Real, str)) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f'{name} must be a number, got {value!r}')


def _check_use(chosen: Sequence[tuple[str, str]], given: Mapping[str, Any]) -> None:
    """Raises ValueError for an option that would be ignored."""
    if len(chosen) > 1:
        raise ValueError(
            f'--cutmix-mode {given["cutmix_mode"]} changes the mask of the CutMix that a recipe has, and --mix-mode '
            f'{given["mix_mode"]} replaces all mixing of the recipe: give one of them'
        )
    selector, name = chosen[0]
    names = mix_modes() if selector == 'mix_mode' else FAMILIES
    for dest in given.keys() - {selector, *TIMMS} - read_by(selector, name):
        users = ' or '.join(other for other in names if dest in read_by(selector, other))
        users = f'{option_name(selector)} {users}' if users else '--mix-mode (beside --cutmix-mode it is --cutmix)'
        raise ValueError(f'{option_name(dest)} is for {users}, not for {name}')


def _replaced(typed: Mapping[str, Any], recipe: Mapping[str, Any], values: Mapping[str, Any]) -> str:
    """'replaced by --mix-mode hmix: --mixup 0.8, …'; '' where --mix-mode replaces nothing that was given."""
    replaced = []
    for dest in (*TIMMS, 'cutmix_mode'):
        given = typed.get(dest, recipe.get(dest))
        default = TIMMS[dest].default if dest in TIMMS else None
        if given not in (None, values[dest]) and (dest in typed or given != default):
            words = given if isinstance(given, (list, tuple)) else [given]
            replaced.append(' '.join([option_name(dest), *map(str, words)]))
    return f'replaced by --mix-mode {values["mix_mode"]}: {", ".join(replaced)}' if replaced else ''
