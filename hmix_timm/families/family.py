"""What a family declares, and the table of all families.

Constructors, `repr`, command line, recipes, presets, previews, bench and theory read the table.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from ..checks import check_choice, check_number
from ..masks import Mask

DrawMask = Callable[..., Mask]
"""(height and width, λ, options, source of random numbers) → mask.

The options are the family's own by name, and `correct_lam` and `cutmix_minmax` of the mixer. λ is None for a family
that draws none of its own. One that sees the images gets them, too: own and partner, read-only arrays (C, H, W).
"""

PRESETS = ('imagenet', 'cifar100')
"""Data sets for which the paper's section 5 gives hyper-parameters."""


@dataclass(frozen=True)
class Option:
    """One option of a family. Outside the family it is called `<family>_<name>`, `--<family>-<name>` on a command line.

    Args:
        name: as the family's function reads it.
        default: its value where none is given; None is "not set".
        help: for `--help`.
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
        """The type of its values: str, int or float."""
        if self.choices or isinstance(self.default, str):
            return str
        return int if isinstance(self.default, int) else float

    def check(self, shown: str, value: Any) -> Any:
        """Returns a value in its type; raises ValueError, naming the option as `shown`, for one that is not allowed."""
        if value is None and self.default is None:
            return None
        if self.choices:
            check_choice(shown, value, self.choices)
        elif self.type is str:
            if not isinstance(value, str):
                raise ValueError(f'{shown} must be text, got {value!r}')
        else:
            check_number(shown, value, self.low, self.high, open_low=self.open_low)
            if self.type is int and value != int(value):
                raise ValueError(f'{shown} must be a whole number, got {value!r}')
        return self.type(value)


@dataclass(frozen=True, eq=False)
class Family:
    """A mask of the CutMix slot: how it is drawn, its options, its presets.

    Args:
        name: value of `cutmix_mode`.
        title: for people.
        draw: λ → mask.
        mix_mode: value of `--mix-mode` that trains with it alone.
        options: its options.
        presets: preset → 'alpha', and options that differ from their defaults (paper, section 5). Alpha is None for a
            family that draws no λ: any `cutmix_alpha` > 0 turns it on.
        colour: in plots.
        sees: 'images' if its masks depend on the images that are mixed.
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
    sees: str = ''
    timms_own: bool = False
    source: str = ''

    @cached_property
    def takes_lam(self) -> bool:
        """Whether its masks depend on λ."""
        return all(values.get('alpha', 1.0) is not None for values in self.presets.values())

    def outside(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Values by the options' names outside the family: arguments of constructors, keys of recipes."""
        return {f'{self.name}_{name}': value for name, value in values.items()}

    @cached_property
    def keywords(self) -> dict[str, Option]:
        """Name outside the family → option."""
        return self.outside({option.name: option for option in self.options})

    def preset_options(self, preset: str) -> dict[str, Any]:
        """The options that a preset sets, by their names outside the family."""
        return self.outside({name: value for name, value in self.presets[preset].items() if name != 'alpha'})

    def replaced_by(self, given: Mapping[str, Any]) -> dict[str, str]:
        """The options without effect beside the given ones → those that replace them; None is not given."""
        return {
            f'{self.name}_{option.replaces}': keyword
            for keyword, option in self.keywords.items()
            if option.replaces and given.get(keyword) is not None
        }

    def resolve(
        self, given: Mapping[str, Any], preset: str | None = None, shown: Callable[[str], str] = str
    ) -> dict[str, Any]:
        """Checks the options given and completes them.

        Args:
            given: options by their names outside the family.
            preset: where the values of the others come from first; the defaults come second.
            shown: how an error names an option.

        Returns:
            A value for each option, None for one that has no effect.

        Raises:
            ValueError: an option is out of its range, or has no effect beside another one.
        """
        given = {keyword: self.keywords[keyword].check(shown(keyword), value) for keyword, value in given.items()}
        replaced = self.replaced_by(given)
        for keyword, by in replaced.items():
            if given.get(keyword) is not None:
                raise ValueError(f'{shown(keyword)} has no effect beside {shown(by)}: give one of them')
        defaults = {keyword: option.default for keyword, option in self.keywords.items()}
        presets = self.preset_options(preset) if preset else {}
        return {**defaults, **presets, **given, **dict.fromkeys(replaced)}

    def describe(self, values: Mapping[str, Any]) -> str:
        """'ratio=0.75' and the like: the options that have an effect, from values by their names outside."""
        hidden = self.replaced_by(values)
        shown = {o.name: values[k] for k, o in self.keywords.items() if values.get(k) is not None and k not in hidden}
        return ', '.join(f'{name}={value if isinstance(value, str) else f"{value:g}"}' for name, value in shown.items())


FAMILIES: dict[str, Family] = {}
"""`cutmix_mode` → family."""


def split_options(cutmix_mode: Any, arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Splits a mixer's keyword arguments into options of its family and the rest.

    Raises:
        ValueError: there is no such family, or an argument is an option of another one.
    """
    check_choice('cutmix_mode', cutmix_mode, FAMILIES)
    owners = {keyword: family.name for family in FAMILIES.values() for keyword in family.keywords}
    for keyword, value in arguments.items():
        if owners.get(keyword, cutmix_mode) != cutmix_mode:
            raise ValueError(
                f"{keyword} is for cutmix_mode='{owners[keyword]}', not for '{cutmix_mode}'; got {value!r}"
            )
    own = {keyword: value for keyword, value in arguments.items() if keyword in owners}
    return own, {keyword: value for keyword, value in arguments.items() if keyword not in owners}
