"""Figure 5 without a checkpoint: Eq. 12 for small networks that are trained in seconds on scikit-learn's digits."""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from timm.loss import SoftTargetCrossEntropy
from torch import nn
from tqdm import tqdm

from hmix_timm.draws import numpy_seed
from hmix_timm.mixup import Mixup
from hmix_timm.modes import mix_modes
from hmix_timm.theory.gradients import gradient_map

from ..data.scikit_images import digits
from ..mixing import Mixing
from .theory_figures import Plotted, along_x, figure5

TRAIN_IMAGES = 1000


def digit_images() -> tuple[torch.Tensor, torch.Tensor]:
    """Scikit-learn's 1,797 digits, shuffled, enlarged from 8 × 8 and normalized.

    Returns:
        Images (1797, 1, 16, 16) float32 and labels (1797,) int64.
    """
    drawings, labels = digits()
    order = np.random.default_rng(0).permutation(len(labels))
    images = torch.from_numpy(drawings[order]).float()[:, None]
    images = nn.functional.interpolate(images, size=(16, 16), mode='bicubic', align_corners=False)
    return (images - images.mean()) / images.std(), torch.from_numpy(labels[order]).long()


def small_network() -> nn.Sequential:
    """Three 3 × 3 convolutions, global average pooling, a linear layer: 94 thousand parameters."""
    layers: list[nn.Module] = []
    for channels_in, channels, stride in ((1, 32, 1), (32, 64, 2), (64, 128, 2)):
        convolution = nn.Conv2d(channels_in, channels, 3, stride, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(channels), nn.GELU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 10))


def train_digits(
    images: torch.Tensor, labels: torch.Tensor, mixing: Mixing, seed: int, epochs: int, progress: tqdm
) -> tuple[nn.Module, torch.Tensor, float]:
    """Trains `small_network` on digits through `hmix_timm.Mixup`.

    numpy's and torch's global generators are left as they were found.

    Args:
        images: from `digit_images`; the first `TRAIN_IMAGES` are trained with.
        labels: likewise.
        mixing: how it mixes.
        seed: of initial weights, order and mixing.
        epochs: passes over the training digits.
        progress: a bar to advance by one for each epoch.

    Returns:
        The network in evaluation mode, the other images, and the top-1 accuracy on them in percent.
    """
    mixer = mixing.mixer(partial(Mixup, label_smoothing=0.0), num_classes=10)
    loss_fn = SoftTargetCrossEntropy()
    with torch.random.fork_rng(devices=[]), numpy_seed(seed):
        torch.manual_seed(seed)
        model = small_network()
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=epochs * TRAIN_IMAGES // 100)
        for _ in range(epochs):
            for index in torch.randperm(TRAIN_IMAGES).split(100):
                mixed, target = mixer(images[index], labels[index])
                optimizer.zero_grad()
                loss_fn(model(mixed), target).backward()
                optimizer.step()
                schedule.step()
            progress.update()
    others = images[TRAIN_IMAGES:]
    with torch.no_grad():
        correct = model.eval()(others).argmax(dim=1) == labels[TRAIN_IMAGES:]
    return model, others, 100.0 * correct.float().mean().item()


def figure5_digits(mixings: Mapping[str, Mixing], epochs: int = 15, seeds: int = 2) -> Plotted:
    """Eq. 12 for small networks, a panel for each mix mode that they were trained with."""
    maps, numbers = {}, {}
    # before the work: scikit-learn leaves a gzip file for its finalizer to close, and Python drops a Ctrl-C that comes
    # while it does
    images, labels = digit_images()
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # handing so little work to a second thread costs more than it saves
    with tqdm(total=len(mixings) * seeds * epochs, desc='figure 5: training on digits', unit='epoch') as progress:
        for mode, mixing in mixings.items():
            trained = [train_digits(images, labels, mixing, seed, epochs, progress) for seed in range(seeds)]
            values = np.mean([gradient_map(model, others.split(100)) for model, others, _ in trained], axis=0)
            alpha = mixing.values['mix_alpha']
            maps[mix_modes()[mode].title + (f', α = {alpha:g}' if alpha else '')] = values
            top1 = float(np.mean([accuracy for *_, accuracy in trained]))
            numbers[mode] = {**along_x(values, (0, 1, 2, 4, 8)), 'top1': top1}
    torch.set_num_threads(threads)
    title = (
        'Normalized partial gradient products (Eq. 12): small CNNs trained for seconds '
        f"on scikit-learn's digits, 16×16, mean of {seeds} seeds"
    )
    yield numbers
    yield figure5(maps, title)
