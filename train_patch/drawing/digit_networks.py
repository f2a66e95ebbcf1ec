"""Small networks trained in seconds on scikit-learn's digits: something for Eq. 12 to look at without a checkpoint."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from timm.loss import SoftTargetCrossEntropy
from torch import nn

from hmix_timm.draws import numpy_seed
from hmix_timm.mixup import Mixup

from ..data.scikit_images import digits

IMAGE_SIZE = 16
_TRAIN_IMAGES = 1000
_CLASSES = 10


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """For networks so small that handing work to a second thread costs more than it saves."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def digit_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Scikit-learn's 1,797 digits, shuffled, enlarged from 8 × 8 and normalized.

    Returns:
        Images (1797, 1, 16, 16) float32 and labels (1797,) int64.
    """
    drawings, labels = digits()
    order = np.random.default_rng(0).permutation(len(labels))
    images = torch.from_numpy(drawings[order]).float()[:, None]
    images = nn.functional.interpolate(images, size=(IMAGE_SIZE, IMAGE_SIZE), mode='bicubic', align_corners=False)
    return (images - images.mean()) / images.std(), torch.from_numpy(labels[order]).long()


def small_network() -> nn.Sequential:
    """Three 3 × 3 convolutions, global average pooling, a linear layer: 95 thousand parameters."""
    layers: list[nn.Module] = []
    for channels_in, channels, stride in ((1, 32, 1), (32, 64, 2), (64, 128, 2)):
        convolution = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(channels), nn.GELU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, _CLASSES))


def train_digits(
    mode: str, seed: int, epochs: int, train_images: int = _TRAIN_IMAGES, progress: Any = None
) -> tuple[nn.Module, torch.Tensor, float]:
    """Trains `small_network` on digits through `hmix_timm.Mixup.from_mode(mode, 'cifar100')`.

    numpy's and torch's global generators are left as they were found.

    Args:
        mode: one of `hmix_timm.modes.mix_modes()`.
        seed: of initial weights, order and mixing.
        epochs: passes over the training digits.
        train_images: number of them.
        progress: a tqdm bar to advance by one for each epoch, or None.

    Returns:
        The network in evaluation mode, the other images, and the top-1 accuracy on them in percent.
    """
    images, labels = digit_images()
    x, y = images[:train_images], labels[:train_images]
    mixer = Mixup.from_mode(mode, 'cifar100', num_classes=_CLASSES, label_smoothing=0.0)
    loss_fn = SoftTargetCrossEntropy()
    with torch.random.fork_rng(devices=[]), numpy_seed(seed), one_thread():
        torch.manual_seed(seed)
        model = small_network()
        steps = epochs * -(-train_images // 100)
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
        for _ in range(epochs):
            for index in torch.randperm(train_images).split(100):
                mixed, target = mixer(x[index], y[index])
                optimizer.zero_grad()
                loss_fn(model(mixed), target).backward()
                optimizer.step()
                schedule.step()
            if progress is not None:
                progress.update()
    model.eval()
    with torch.no_grad():
        correct = model(images[train_images:]).argmax(dim=1) == labels[train_images:]
    return model, images[train_images:], 100.0 * correct.float().mean().item()
