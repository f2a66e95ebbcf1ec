"""What a user with `mypy --strict` writes: CI checks these types against the installed wheel."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from hmix_timm import (
    BoxMask,
    DenseMask,
    Draws,
    FastCollateMixup,
    Mix,
    Mixup,
    NaFlexMixup,
    Option,
    ProductMask,
    PuzzleMix,
    Resized,
    __version__,
    input_gradient,
    register_family,
)
from hmix_timm.transforms import HMix


@register_family('stripe', alpha=1.0, options=[Option('side', 0.5, low=0.1, high=1.0)])
def stripe(size: tuple[int, int], lam: float, options: object, draws: Draws) -> BoxMask:
    height = round((1.0 - lam) * size[0])
    top = int(draws.integers(0, size[0] - height + 1))
    return BoxMask(1.0, (top, top + height, 0, size[1]))


def masks(size: tuple[int, int]) -> Iterator[float]:
    box = (0, size[0] // 2, 0, size[1])
    yield ProductMask(0.0, np.ones(size[0]), np.ones(size[1])).mean(size)
    yield DenseMask(np.ones(size)).mean(size)
    yield Mix(BoxMask(1.0, box), partner=Resized(box)).mask.mean(size)


class Logged(Mixup):
    def __call__(self, x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        images, labels = super().__call__(x, target)
        print(__version__, images.shape)
        return images, labels


def train(model: nn.Module, batches: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
    mixup = Mixup(mixup_alpha=0.8, cutmix_alpha=1.0, cutmix_mode='hmix', hmix_ratio=0.5, num_classes=10)
    puzzle = PuzzleMix(input_gradient(model), num_classes=10)
    for images, labels in batches:
        images, targets = puzzle(images, labels) if len(images) > 2 else mixup(images, labels)
        loss: torch.Tensor = nn.functional.cross_entropy(model(images), targets)
        loss.backward()  # type: ignore[no-untyped-call, unused-ignore]
        mixed = mixup.mix(images)
        shares: float | torch.Tensor = mixed.weight
        print(mixed.partner.shape, shares)
    mixup.mixup_enabled = False


collate = FastCollateMixup(cutmix_alpha=1.0, cutmix_mode='gmix', mode='elem')
naflex = NaFlexMixup(num_classes=10)
transform = HMix(num_classes=10)
