"""Top-1 accuracies that the paper prints, for the recipes that are rows of its tables."""

from dataclasses import dataclass, field

PAPER_MODES = ('none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix')
"""The rows of the paper's Tables 2 and 3 that need no saliency."""


@dataclass(frozen=True)
class Published:
    """The numbers that the paper prints for a recipe.

    Args:
        where: table and column.
        validation_images: number of validation images of the data set.
        top1: mix mode → top-1 accuracy in percent.
        processes: number of processes that the recipe's batch size is for.
    """

    where: str = ''
    validation_images: int = 0
    top1: dict[str, float] = field(default_factory=dict)
    processes: int = 1


def _row(*top1: float, **more: float) -> dict[str, float]:
    return {**dict(zip(PAPER_MODES, top1, strict=True)), **more}


PUBLISHED: dict[str, Published] = {
    # of Table 1's rows the paper prints only these two
    'imagenet100_large_crop': Published('Table 1, scenario 1', 5_000, {'mixup': 58.3, 'cutmix': 64.4}),
    'imagenet100_small_crop': Published('Table 1, scenario 2', 5_000, {'mixup': 67.7, 'cutmix': 67.0}),
    'cifar100_resnet56': Published('Table 2, RN56', 10_000, _row(73.23, 73.12, 74.83, 74.88, 74.99, 75.75)),
    'cifar100_wrn28_2': Published(
        'Table 2, WRN28-2', 10_000, _row(73.50, 74.05, 74.79, 75.49, 75.68, 76.15, puzzlemix=76.51)
    ),
    'cifar100_preactresnet18': Published(
        'Table 2, PreActRN18', 10_000, _row(76.73, 77.21, 78.66, 79.25, 79.25, 79.17, puzzlemix=79.38)
    ),
    'cifar100_preactresnet34': Published(
        'Table 2, PreActRN34', 10_000, _row(77.68, 79.02, 80.05, 81.05, 81.07, 80.52, puzzlemix=80.89)
    ),
    'cifar100_preactresnet50': Published(
        'Table 2, PreActRN50', 10_000, _row(79.07, 79.34, 81.23, 81.21, 81.38, 81.45, puzzlemix=82.46)
    ),
    'imagenet_resnet50': Published('Table 3', 50_000, _row(75.68, 77.78, 78.04, 78.13, 78.38, 78.13), processes=8),
}
"""Shipped recipe → the paper's numbers for it."""
