"""Loader and mixer, built two modules away from the script; the mixer is imported from timm.data.mixup."""

import torch
from timm.data.mixup import Mixup
from torch.utils.data import DataLoader, TensorDataset


def build_loader(config):
    images = torch.randn(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    loader = DataLoader(TensorDataset(images, torch.arange(16) % config.MODEL.NUM_CLASSES), batch_size=8)
    mixup_fn = None
    if config.AUG.MIXUP > 0 or config.AUG.CUTMIX > 0.0:
        mixup_fn = Mixup(
            mixup_alpha=config.AUG.MIXUP, cutmix_alpha=config.AUG.CUTMIX, cutmix_minmax=None,
            prob=config.AUG.MIXUP_PROB, switch_prob=config.AUG.MIXUP_SWITCH_PROB, mode=config.AUG.MIXUP_MODE,
            label_smoothing=config.MODEL.LABEL_SMOOTHING, num_classes=config.MODEL.NUM_CLASSES,
        )  # fmt: skip
    return loader, mixup_fn
