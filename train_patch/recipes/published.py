"""Top-1 accuracies that the paper prints, for the recipes that are rows of its tables."""

TABLES: dict[str, str] = {
    'imagenet100_large_crop': 'Table 1, scenario 1',
    'imagenet100_small_crop': 'Table 1, scenario 2',
    'cifar100_resnet56': 'Table 2, RN56',
    'cifar100_wrn28_2': 'Table 2, WRN28-2',
    'cifar100_preactresnet18': 'Table 2, PreActRN18',
    'cifar100_preactresnet34': 'Table 2, PreActRN34',
    'cifar100_preactresnet50': 'Table 2, PreActRN50',
    'imagenet_resnet50': 'Table 3',
}
"""Shipped recipe → where the paper prints its numbers."""

_ALL_MODES = ('none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix')
_TABLES_2_AND_3 = {
    'cifar100_resnet56': (73.23, 73.12, 74.83, 74.88, 74.99, 75.75),
    'cifar100_wrn28_2': (73.50, 74.05, 74.79, 75.49, 75.68, 76.15),
    'cifar100_preactresnet18': (76.73, 77.21, 78.66, 79.25, 79.25, 79.17),
    'cifar100_preactresnet34': (77.68, 79.02, 80.05, 81.05, 81.07, 80.52),
    'cifar100_preactresnet50': (79.07, 79.34, 81.23, 81.21, 81.38, 81.45),
    'imagenet_resnet50': (75.68, 77.78, 78.04, 78.13, 78.38, 78.13),
}

PUBLISHED_TOP1: dict[str, dict[str, float]] = {
    'imagenet100_large_crop': {'mixup': 58.3, 'cutmix': 64.4},
    'imagenet100_small_crop': {'mixup': 67.7, 'cutmix': 67.0},
    **{recipe: dict(zip(_ALL_MODES, top1, strict=True)) for recipe, top1 in _TABLES_2_AND_3.items()},
}
"""Shipped recipe → mode → top-1 accuracy in percent. Of Table 1's recipes the paper prints only Mixup and CutMix."""
