"""The CutMix slot of a mixer: which masks it draws."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ..draws import NUMPY_DRAWS, Draws
from ..masks import Mask, Size
from .family import FAMILIES, Family, split_options


class Slot:
    """A family with its options: a base of the mixers, or by itself from `make_slot`.

    The options are plain attributes by their names outside the family, such as `hmix_ratio`.
    """

    family: Family
    correct_lam: bool = True
    cutmix_minmax: Any = None

    @property
    def cutmix_mode(self) -> str:
        """Name of the family."""
        return self.family.name

    def _set_family(self, cutmix_mode: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Takes a family and its options; returns the other arguments."""
        own, rest = split_options(cutmix_mode, arguments)
        self.family = FAMILIES[cutmix_mode]
        vars(self).update(self.family.resolve(own))
        return rest

    def _options(self) -> SimpleNamespace:
        """The options as the family's function reads them."""
        options = SimpleNamespace(correct_lam=self.correct_lam, cutmix_minmax=self.cutmix_minmax)
        for keyword, option in self.family.keywords.items():
            setattr(options, option.name, getattr(self, keyword))
        return options

    def draw_mask(
        self, size: Size, lam: float, draws: Draws = NUMPY_DRAWS, options: SimpleNamespace | None = None
    ) -> tuple[Mask, float]:
        """Draws a mask and its label weight.

        Args:
            size: height and width of the image in pixels.
            lam: λ of this mask, in [0, 1].
            draws: source of the random numbers.
            options: from `_options`, to save time where many masks are drawn.

        Returns:
            The mask, and the label weight of image i: the mean of the mask, or λ with `correct_lam=False` (but for
            `cutmix_minmax`, whose boxes do not depend on λ).
        """
        mask = self.family.draw(size, lam, options or self._options(), draws)
        if self.correct_lam or self.cutmix_minmax is not None:
            return mask, mask.mean(size)
        return mask, float(lam)


def make_slot(cutmix_mode: str = 'bbox', *, correct_lam: bool = True, **options: Any) -> Slot:
    """Makes a slot by itself, without a mixer; options are given and checked as by the mixers' constructors."""
    slot = Slot()
    slot.correct_lam = correct_lam
    if unknown := slot._set_family(cutmix_mode, options):
        raise TypeError(f'no family has an option {", ".join(unknown)}')
    return slot
