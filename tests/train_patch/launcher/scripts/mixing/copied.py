"""A mixer of one's own with the constructor of timm's, as repositories carry it along."""

import numpy as np
import torch


class Mixup:
    def __init__(self, mixup_alpha=1.0, cutmix_alpha=0.0, cutmix_minmax=None, prob=1.0, switch_prob=0.5, mode='batch',
                 correct_lam=True, label_smoothing=0.1, num_classes=1000):  # fmt: skip
        self.alpha, self.num_classes = mixup_alpha, num_classes

    def __call__(self, x, target):
        lam = np.random.beta(self.alpha, self.alpha)
        hot = torch.nn.functional.one_hot(target, self.num_classes).float()
        return x * lam + x.flip(0) * (1 - lam), hot * lam + hot.flip(0) * (1 - lam)


class Recording(Mixup):
    def __call__(self, x, target, seeds=None):
        return super().__call__(x, target)


class Simple(Mixup):
    def __init__(self, mixup_alpha=1.0):
        super().__init__(mixup_alpha)


class RandomMixUp(torch.nn.Module):
    """As torchvision's reference scripts carry it along."""

    def __init__(self, num_classes, p=0.5, alpha=1.0, inplace=False):
        super().__init__()
        self.num_classes, self.p, self.alpha = num_classes, p, alpha

    def forward(self, batch, target):
        hot = torch.nn.functional.one_hot(target, self.num_classes).float()
        lam = np.random.beta(self.alpha, self.alpha)
        return batch * lam + batch.roll(1, 0) * (1 - lam), hot * lam + hot.roll(1, 0) * (1 - lam)
