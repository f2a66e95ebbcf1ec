"""What a family declares, the table of families, and the slot of a mixer that draws from one.

Constructors, `repr`, command line, recipes, presets, previews, bench and theory read the table.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from ..checks import check_choice, check_minmax, check_number
from ..draws import NUMPY_DRAWS, Draws
from ..masks import Mask, Size

DrawMask = Callable[[Size, float, SimpleNamespace, Draws], Mask]
"""(height and width, λ, options, source of random numbers) → mask.

The options are the family's own by name, and `correct_lam` and `cutmix_minmax` of the mixer.
"""

PRESETS = ('imagenet', 'cifar100')
"""Data sets for which the paper's section 5 gives hyper-parameters."""


@dataclass(frozen=True)
class Option:
    """One option of a family. Outside the family it is called `<family>_<name>`, `--<family>-<name>` on a command line.

    Args:
        name: as the family's function reads it.
        default: its value where none is given; None is "not set".
        help: what it means, for `--help`.
        low: smallest number allowed.
        high: largest number allowed.
        open_low: whether `low` itself is not allowed.
        choices: the words allowed; the option is a number if there are none.
        replaces: an option of the family that has no effect where this one is given.
    """

    name: str
    default: Any
    help: str = ''
    low: float = -math.inf
    high: float = math.inf
    open_low: bool = False
    choices: tuple[str, ...] = ()
    replaces: str = ''

    @property
    def type(self) -> type:
        """What a command line's text becomes: str, int or float."""
        if self.choices or isinstance(self.default, str):
            return str
        return int if isinstance(self.default, int) else float

    def check(self, shown: str, value: Any) -> None:
        """Raises ValueError, naming the option as `shown`, for a value that is not allowed."""
        if value is None and self.default is None:
            return
        if self.choices:
            check_choice(shown, value, self.choices)
        elif self.type is str:
            if not isinstance(value, str):
                raise ValueError(f'{shown} must be text, got {value!r}')
        else:
            check_number(shown, value, self.low, self.high, open_low=self.open_low)
            if self.type is int and value != int(value):
                raise ValueError(f'{shown} must be a whole number, got {value!r}')


@dataclass(frozen=True, eq=False)
class Family:
    """All there is to know about a mask of the CutMix slot.

    Args:
        name: value of `cutmix_mode`.
        title: for people.
        draw: λ → mask.
        mix_mode: value of `--mix-mode` that trains with it alone.
        options: its options.
        presets: preset → 'alpha' and options that differ from their defaults (paper, section 5).
        colour: in plots.
        timms_own: whether it is timm's own CutMix, with `cutmix_minmax` and in NaFlex.
        source: the file that registers it; '' for the families of this package.
    """

    name: str
    title: str
    draw: DrawMask
    mix_mode: str
    options: tuple[Option, ...] = ()
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    colour: str = '#0072B2'
    timms_own: bool = False
    source: str = ''

    def keyword(self, option: Option) -> str:
        """The option's name outside the family: constructor argument, key of a recipe."""
        return f'{self.name}_{option.name}'

    @property
    def keywords(self) -> dict[str, Option]:
        """Name outside the family → option."""
        return {self.keyword(option): option for option in self.options}

    def defaults(self) -> dict[str, Any]:
        """Name outside the family → default."""
        return {keyword: option.default for keyword, option in self.keywords.items()}

    def replaced_by(self, given: Mapping[str, Any]) -> set[str]:
        """The options, by their names outside, that have no effect beside the given ones (None is not given)."""
        options = self.keywords.items()
        return {f'{self.name}_{o.replaces}' for keyword, o in options if o.replaces and given.get(keyword) is not None}

    def describe(self, values: Mapping[str, Any]) -> str:
        """'ratio=0.75' and the like, from values by their names outside: the options that have an effect."""
        hidden = self.replaced_by(values)
        shown = {o.name: values[k] for k, o in self.keywords.items() if values[k] is not None and k not in hidden}
        return ', '.join(f'{name}={value if isinstance(value, str) else f"{value:g}"}' for name, value in shown.items())


FAMILIES: dict[str, Family] = {}
"""`cutmix_mode` → family."""


def is_family_option(keyword: str) -> bool:
    """Whether a keyword is an option of some family."""
    return any(keyword in family.keywords for family in FAMILIES.values())


def resolve_options(cutmix_mode: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the options given to a family and fills in the defaults of the others.

    Args:
        cutmix_mode: name of the family.
        given: options by their names outside the family.

    Returns:
        A value for each of the family's options, by their names outside.

    Raises:
        ValueError: there is no such family, or an option is another family's, out of its range, or without effect
            beside another one.
    """
    check_choice('cutmix_mode', cutmix_mode, FAMILIES)
    family = FAMILIES[cutmix_mode]
    for keyword, value in given.items():
        if keyword not in family.keywords:
            owners = [other.name for other in FAMILIES.values() if keyword in other.keywords]
            raise ValueError(f"{keyword} is for cutmix_mode='{owners[0]}', not for '{cutmix_mode}'; got {value!r}")
        family.keywords[keyword].check(keyword, value)
    for keyword in sorted(family.replaced_by(given)):
        if given.get(keyword) is not None:
            by = next(k for k, o in family.keywords.items() if f'{family.name}_{o.replaces}' == keyword)
            raise ValueError(f'{keyword} has no effect beside {by}, got {given[keyword]!r} and {given[by]!r}')
    return {**family.defaults(), **given}


class Slot:
    """What a mixer's CutMix slot draws: a family with its options.

    Args:
        cutmix_mode: name of the family.
        correct_lam: label weight from the mask; False: λ, and for HMix the paper's literal mask.
        cutmix_minmax: smallest and largest side of a box as fractions of the image's, in place of λ.
        values: the family's options by their names outside it; checked by `resolve_options`.
    """

    def __init__(self, cutmix_mode: str, correct_lam: bool, cutmix_minmax: Any, values: Mapping[str, Any]) -> None:
        self.family = FAMILIES[cutmix_mode]
        self.options = SimpleNamespace(correct_lam=correct_lam, cutmix_minmax=cutmix_minmax)
        for keyword, option in self.family.keywords.items():
            setattr(self.options, option.name, values[keyword])

    def draw(self, size: Size, lam: float, draws: Draws = NUMPY_DRAWS) -> tuple[Mask, float]:
        """Draws a mask and its label weight.

        Args:
            size: height and width of the image in pixels.
            lam: λ of this mask, in [0, 1].
            draws: source of the random numbers.

        Returns:
            The mask, and the label weight of image i: the mean of the mask, or λ with `correct_lam=False` (but for
            `cutmix_minmax`, whose boxes know no λ).
        """
        mask = self.family.draw(size, lam, self.options, draws)
        if self.options.correct_lam or self.options.cutmix_minmax is not None:
            return mask, mask.mean
        return mask, float(lam)


def make_slot(cutmix_mode: str = 'bbox', *, correct_lam: bool = True, **options: Any) -> Slot:
    """A slot by itself, without a mixer; options are given and checked as by the mixers' constructors."""
    return Slot(cutmix_mode, correct_lam, None, resolve_options(cutmix_mode, options))


def check_slots(mixup_alpha: Any, cutmix_alpha: Any, cutmix_minmax: Any, cutmix_mode: Any) -> None:
    """Raises ValueError unless the two slots of a mixer, Mixup's and CutMix's, are sound and one of them is in use."""
    check_number('mixup_alpha', mixup_alpha)
    check_number('cutmix_alpha', cutmix_alpha)
    check_choice('cutmix_mode', cutmix_mode, FAMILIES)
    family = FAMILIES[cutmix_mode]
    if cutmix_minmax is not None:
        check_minmax('cutmix_minmax', cutmix_minmax)
        if not family.timms_own:
            raise ValueError(
                f"cutmix_minmax must be None with cutmix_mode='{cutmix_mode}', whose masks follow λ, "
                f'got {cutmix_minmax!r}'
            )
    elif cutmix_alpha == 0 and not family.timms_own:
        raise ValueError(
            f"cutmix_alpha must be > 0 with cutmix_mode='{cutmix_mode}', which is the mask of the CutMix slot, "
            f'got {cutmix_alpha!r}'
        )
    elif mixup_alpha == 0 and cutmix_alpha == 0:
        raise ValueError(
            'mixup_alpha or cutmix_alpha must be > 0, or cutmix_minmax given, '
            f'got mixup_alpha={mixup_alpha!r}, cutmix_alpha={cutmix_alpha!r}'
        )
