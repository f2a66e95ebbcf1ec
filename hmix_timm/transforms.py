"""The mixers as transforms of a batch, for `torchvision.transforms.v2`.

    from hmix_timm.transforms import CutMix, GMix, HMix, Mix, MixUp

`MixUp` and `CutMix` take the place of torchvision's own, and there is a class for each family of this package, by its
title. Every use of what is torchvision's but not its public interface is in this file;
`tests/hmix_timm/test_transforms.py` notices what would change.
"""

import math
from functools import partialmethod
from typing import Any

import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from . import blend
from .checks import check_choice, check_count, check_images, check_number
from .draws import NaFlexDraws
from .families import FAMILIES, Slot
from .masks import Box, Mask, Size, mixup_mask
from .modes import mix_modes


class TorchvisionDraws(NaFlexDraws):
    """Draws from torch's default generator, as torchvision's `MixUp` and `CutMix` do: x before y."""

    def box(self, size: Size, lam: float, minmax: Any = None) -> Box:
        y, x = self.centre(size)
        half = 0.5 * math.sqrt(1.0 - lam)
        height, width = int(half * size[0]), int(half * size[1])
        return max(y - height, 0), min(y + height, size[0]), max(x - width, 0), min(x + width, size[1])

    def centre(self, size: Size) -> tuple[int, int]:
        x = self.integers(0, size[1])
        return self.integers(0, size[0]), x

    def integers(self, low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,)))


DRAWS = TorchvisionDraws()


class Mix(Slot, v2.MixUp):
    """torchvision's `MixUp` with other masks, and with parameters for each image.

    It is used like `torchvision.transforms.v2.MixUp`: for `(images, labels)` or any structure that has them, in a
    `Compose`, a `RandomChoice` or a collate function. The partner of an image is the one before it in the batch, the
    labels become rows (B, num_classes), unsmoothed, and what is given is not written to. Images are tensors
    (B, C, H, W) or videos (B, T, C, H, W), floating or integers, which are rounded. The label weight of an image is
    the mean of its mask.

    Args:
        mix_mode (str): 'mixup', 'cutmix', 'stochastic' (one or the other), 'hmix', 'gmix', or a family of your own.
        alpha (float): λ ~ Beta(alpha, alpha), > 0.
        num_classes (int): number of classes, for labels that are class indices.
        labels_getter (Callable): gives the labels of a batch; 'default' looks for them as torchvision does.
        mode (str): draw parameters for each 'batch', as torchvision, or for each 'elem' of it.
        **options: the family's options, such as `hmix_ratio`.

    Raises:
        ValueError: an argument is out of its range; the message names it and says what is allowed.
    """

    def __init__(
        self,
        mix_mode: str,
        *,
        alpha: float = 1.0,
        num_classes: int | None = None,
        labels_getter: Any = 'default',
        mode: str = 'batch',
        **options: Any,
    ) -> None:
        modes = {name: mode for name, mode in mix_modes().items() if mode.draws_masks}
        check_choice('mix_mode', mix_mode, modes)
        check_number('alpha', alpha, open_low=True)
        check_choice('mode', mode, ('batch', 'elem'))
        if num_classes is not None:
            check_count('num_classes', num_classes, low=1)
        super().__init__(alpha=float(alpha), num_classes=num_classes, labels_getter=labels_getter)
        if unknown := self._set_family(modes[mix_mode].family or 'bbox', options):
            raise TypeError(f'mix_mode {mix_mode!r} has no option {", ".join(unknown)}')
        self.mix_mode, self.mode = mix_mode, mode
        self._mixups = 0.5 if mix_mode == 'stochastic' else float(modes[mix_mode].mixup)

    def make_params(self, flat_inputs: list[Any]) -> dict[str, Any]:
        """Draws λ, then a mask: one of both for the batch, or for each of its images."""
        images = max(flat_inputs, key=lambda inpt: inpt.ndim)
        images = images if len(images) else images.new_zeros(1, *images.shape[1:])  # torchvision draws then, too
        count = len(images)
        size = (v2 if hasattr(v2, 'query_size') else v2._utils).query_size(flat_inputs)  # the latter before 0.21
        lams = self._dist.sample((1 if self.mode == 'batch' else count,)).flatten().tolist()
        pairs = ((images[i], images[i - 1]) for i in range(count))
        masks, weights = zip(
            *(self._draw(size, lam, pair) for lam, pair in zip(lams, pairs, strict=False)), strict=True
        )
        return {'masks': masks * (count if self.mode == 'batch' else 1), 'weights': weights}

    def _draw(self, size: Size, lam: float, pair: tuple[Any, Any]) -> tuple[Mask, float]:
        mixup = torch.rand(()).item() < self._mixups if 0.0 < self._mixups < 1.0 else self._mixups
        return (mixup_mask(lam), lam) if mixup else self.draw_mask(size, lam, DRAWS, images=pair)

    def transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        """Mixes the images or the labels of a batch; returns anything else as it is."""
        if inpt is params['labels']:
            weights = np.array(params['weights'], np.float32)[:, None]
            lam = params['weights'][0] if self.mode == 'batch' else blend.to_device(weights, inpt.device)
            return self._mixup_label(inpt, lam=lam)
        if not (isinstance(inpt, (tv_tensors.Image, tv_tensors.Video)) or v2.functional.is_pure_tensor(inpt)):
            return inpt
        self._check_image_or_video(inpt, batch_size=params['batch_size'])
        check_images(inpt, in_place=False)
        return tv_tensors.wrap(blend.mix_rolled(inpt.as_subclass(torch.Tensor), params['masks']), like=inpt)

    def _get_params(self, flat_inputs: list[Any]) -> dict[str, Any]:  # what torchvision before 0.21 calls
        return self.make_params(flat_inputs)

    def _transform(self, inpt: Any, params: dict[str, Any]) -> Any:
        return self.transform(inpt, params)


def __getattr__(name: str) -> Any:
    """`MixUp`, and a class for each family of this package. One of a user is `Mix`, which a spawned worker can find."""
    modes = {'MixUp': 'mixup', **{family.title: family.mix_mode for family in FAMILIES.values() if not family.source}}
    if name not in modes:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    own = {'__module__': __name__, '__doc__': Mix.__doc__, '__init__': partialmethod(Mix.__init__, modes[name])}
    made = globals()[name] = type(name, (Mix,), own)
    return made
