"""The CutMix slot of a mixer: which masks it draws."""

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

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

    def _set_family(self, cutmix_mode: str, arguments: Mapping[str, Any], correct_lam: bool = True) -> dict[str, Any]:
        """Takes a family and its options; returns the other arguments."""
        own, rest = split_options(cutmix_mode, arguments)
        self.family = FAMILIES[cutmix_mode]
        if not correct_lam and not self.family.takes_lam:
            raise ValueError(
                f"correct_lam must be True with cutmix_mode='{cutmix_mode}', which draws no λ, got {correct_lam!r}"
            )
        vars(self).update(self.family.resolve(own))
        return rest

    def _options(self) -> SimpleNamespace:
        """The options as the family's function reads them."""
        options = SimpleNamespace(correct_lam=self.correct_lam, cutmix_minmax=self.cutmix_minmax)
        for keyword, option in self.family.keywords.items():
            setattr(options, option.name, getattr(self, keyword))
        return options

    def _pair(self, images: Any, index: int = 0) -> tuple[Any, Any] | None:
        """An image of a batch and its partner, if the family sees them."""
        return (images[index], images[len(images) - 1 - index]) if self.family.sees and images is not None else None

    def draw_mask(
        self,
        size: Size,
        lam: float,
        draws: Draws = NUMPY_DRAWS,
        options: SimpleNamespace | None = None,
        images: tuple[Any, Any] | None = None,
    ) -> tuple[Mask, float]:
        """Draws a mask and its label weight.

        Args:
            size: height and width of the image in pixels.
            lam: λ of this mask, in [0, 1]; a family that draws no λ does not get it.
            draws: source of the random numbers.
            options: from `_options`, to save time where many masks are drawn.
            images: own and partner, arrays or tensors (C, H, W), for a family that sees them.

        Returns:
            The mask, and the label weight of image i: the mean of the mask, or λ with `correct_lam=False` (but for
            `cutmix_minmax`, whose boxes do not depend on λ).

        Raises:
            ValueError: the family sees images, and none are given.
        """
        family = self.family
        if family.sees and images is None:
            raise ValueError(f'{family.title} sees the images that are mixed: without them it draws no mask')
        seen = ([_read_only(image) for image in images],) if family.sees and images else ()
        mask = family.draw(size, lam if family.takes_lam else None, options or self._options(), draws, *seen)
        if self.correct_lam or self.cutmix_minmax is not None:
            return mask, mask.mean(size)
        return mask, float(lam)


def _read_only(image: Any) -> np.ndarray:
    """An array on the host; of a tensor in half precision, float32."""
    if not isinstance(image, np.ndarray):
        half = image.is_floating_point() and image.element_size() < 4
        image = (image.float() if half else image).numpy(force=True)
    view = image.view()
    view.flags.writeable = False
    return view


def make_slot(cutmix_mode: str = 'bbox', *, correct_lam: bool = True, **options: Any) -> Slot:
    """Makes a slot by itself, without a mixer; options are given and checked as by the mixers' constructors."""
    slot = Slot()
    slot.correct_lam = correct_lam
    if unknown := slot._set_family(cutmix_mode, options, correct_lam):
        raise TypeError(f'no family has an option {", ".join(unknown)}')
    return slot
