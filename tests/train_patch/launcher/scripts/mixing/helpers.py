"""The function that many scripts have, and one that only makes a mixer."""

import numpy as np
import torch


def mixup_data(x, y, alpha=1.0):
    lam = np.random.beta(alpha, alpha)
    hot = torch.nn.functional.one_hot(y, 5).float()
    return x * lam + x.flip(0) * (1 - lam), hot * lam + hot.flip(0) * (1 - lam)


def build_mixup(args):
    return None
