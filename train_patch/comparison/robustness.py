"""A model under attack, on damaged and on covered images, and its calibration: from a model and images to numbers.

Images have values in [0, 1] and stay on the CPU, where all random numbers are drawn, so that every model sees the same
ones. A `Predict` normalizes them, so that attacks go through the normalization.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from torchvision.transforms.v2 import functional as v2

Predict = Callable[[torch.Tensor], torch.Tensor]
"""Images (B, C, H, W) in [0, 1] → logits (B, num_classes)."""
Change = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Images and labels (B,) → other images of that shape, in [0, 1]."""
Batches = Iterable[tuple[torch.Tensor, torch.Tensor]]
"""Images and labels."""

AREAS = (0.1, 0.2, 0.3, 0.4, 0.5)
"""Shares of an image that an occlusion covers."""
BINS = 15
"""Intervals of equal width into which the confidence is divided."""
PGD_STEPS = 10


def attack(
    predict: Predict, images: torch.Tensor, labels: torch.Tensor, epsilon: float, steps: int = 1
) -> torch.Tensor:
    """Raises the cross-entropy within an ℓ∞ distance of ε: FGSM with one step, else PGD from a random start.

    PGD's steps are 2.5 ε / steps long, so that it can go from any point of the cube to any other (Madry et al. 2018).
    """
    low, high = (images - epsilon).clamp(min=0.0), (images + epsilon).clamp(max=1.0)
    changed, length = images, epsilon
    if steps > 1:
        changed, length = low + torch.rand_like(images) * (high - low), 2.5 * epsilon / steps
    for _ in range(steps):
        changed = changed.detach().requires_grad_(True)
        with torch.enable_grad():
            (gradient,) = torch.autograd.grad(cross_entropy(predict(changed), labels, reduction='sum'), changed)
        changed = torch.clamp(changed + length * gradient.sign(), low, high)
    return changed.detach()


def _blur(images: torch.Tensor, share: float) -> torch.Tensor:
    sigma = share * min(images.shape[-2:])
    reach = min(int(4.0 * sigma + 0.5), min(images.shape[-2:]) - 1)  # torchvision reflects the image at its border
    return v2.gaussian_blur(images, [2 * reach + 1] * 2, [sigma] * 2)


def _jpeg(images: torch.Tensor, quality: float) -> torch.Tensor:
    return v2.jpeg((images * 255.0).round().to(torch.uint8), int(quality)) / 255.0


CORRUPTIONS: Mapping[str, tuple[Callable[[torch.Tensor, float], torch.Tensor], tuple[float, ...]]] = {
    'noise': (lambda images, sigma: v2.gaussian_noise(images, sigma=sigma), (0.04, 0.08, 0.12, 0.18, 0.26)),
    'blur': (_blur, (0.015, 0.02, 0.03, 0.04, 0.05)),
    'jpeg': (_jpeg, (50, 25, 18, 10, 7)),
    'contrast': (v2.adjust_contrast, (0.7, 0.5, 0.3, 0.2, 0.1)),
    'brightness': (v2.adjust_brightness, (1.2, 1.5, 1.8, 2.2, 2.6)),
}
"""Name → what torchvision does to images, and five strengths: σ, σ ÷ the shorter side, quality, and two factors."""

PARTS = {'corruption': tuple(CORRUPTIONS), 'occlusion': ('occlusion_centre', 'occlusion_random')}
"""Kind → the names that its own value is the mean of."""


def cover(images: torch.Tensor, area: float, centre: bool) -> torch.Tensor:
    """Greys a part of each image that has its shape and a share `area` of it: in the middle, or anywhere inside."""
    sizes = images.shape[-2:]
    sides = [round(area**0.5 * size) for size in sizes]
    covered = images.clone()
    for image in covered:
        y, x = (
            (size - side) // 2 if centre else int(torch.randint(size - side + 1, ()))
            for size, side in zip(sizes, sides, strict=True)
        )
        image[:, y : y + sides[0], x : x + sides[1]] = 0.5
    return covered


def changes(predict: Predict, kinds: Collection[str], epsilon: float) -> dict[str, list[Change]]:
    """Name → changes of images over which the accuracy is averaged, for the kinds that are asked for.

    Args:
        predict: the model that is attacked.
        kinds: some of fgsm, pgd, corruption, occlusion; others are left out.
        epsilon: ε of the attacks.
    """
    found: dict[str, dict[str, list[Change]]] = {
        'fgsm': {'fgsm': [partial(attack, predict, epsilon=epsilon)]},
        'pgd': {'pgd': [partial(attack, predict, epsilon=epsilon, steps=PGD_STEPS)]},
        'corruption': {
            name: [_unlabelled(change, strength) for strength in strengths]
            for name, (change, strengths) in CORRUPTIONS.items()
        },
        'occlusion': {
            name: [_unlabelled(cover, area, centre) for area in AREAS]
            for name, centre in zip(PARTS['occlusion'], (True, False), strict=True)
        },
    }
    return {name: several for kind in found if kind in kinds for name, several in found[kind].items()}


def _unlabelled(change: Callable[..., torch.Tensor], *values: Any) -> Change:
    return lambda images, labels: change(images, *values)


def accuracies(predict: Predict, batches: Batches, changed: Mapping[str, list[Change]]) -> dict[str, float]:
    """Top-1 in percent on changed images, the mean over the changes of each name; torch's generator is left alone."""
    right, count = dict.fromkeys(changed, 0.0), 0
    for number, (images, labels) in enumerate(batches):
        count += len(labels)
        for name, several in changed.items():
            for change in several:
                with torch.random.fork_rng(devices=[]):
                    torch.manual_seed(number)
                    scores = predict(change(images, labels))
                right[name] += float((scores.argmax(dim=1) == labels).sum()) / len(several)
    return {name: 100.0 * value / count for name, value in right.items()}


def calibration(predict: Predict, batches: Batches) -> tuple[dict[str, float], list[list[float]]]:
    """How sure the model is, and how often it is right.

    Returns:
        `top1` in percent; `nll`, the mean cross-entropy; `ece` in percent, the expected calibration error. And for each
        of `BINS` intervals of the confidence: number of images, sum of their confidences, number of right ones.
    """
    bins, loss = torch.zeros(BINS, 3, dtype=torch.float64), 0.0
    for images, labels in batches:
        scores = predict(images).double()
        confidence, chosen = scores.softmax(dim=1).max(dim=1)
        place = (confidence * BINS).ceil().long().clamp(1, BINS) - 1  # an interval holds its upper end
        bins.index_add_(0, place, torch.stack((torch.ones_like(confidence), confidence, chosen == labels), dim=1))
        loss += float(cross_entropy(scores, labels, reduction='sum'))
    count, _, right = bins.sum(dim=0).tolist()
    error = float((bins[:, 1] - bins[:, 2]).abs().sum())
    return {'top1': 100.0 * right / count, 'nll': loss / count, 'ece': 100.0 * error / count}, bins.tolist()
