"""PuzzleMix, by itself and in a training step: the part `puzzle`."""

import argparse
import itertools
from collections.abc import Iterable
from statistics import mean, median
from typing import Any

import numpy as np
import torch
from timm import create_model
from timm.loss import SoftTargetCrossEntropy
from torch import nn
from torch.nn import functional as F

from hmix_timm.mixup import Mixup
from hmix_timm.modes import puzzle_arguments
from hmix_timm.puzzle import PuzzleMix, input_gradient, minimum_cut
from hmix_timm.puzzle.costs import block_saliency, puzzle_costs
from hmix_timm.puzzle.cut import load_scipy
from hmix_timm.puzzle.transport import transport

from ..common.errors import RunError
from ..common.tables import Table
from ..data.scikit_images import photographs
from .timing import Call, alternate, median_ratio, progress

BATCH_SIZES = (64, 128)
BLOCKS = (2, 4, 8, 16)
SIZE = 32
"""Height and width of the images, CIFAR's."""

STD = (0.25, 0.25, 0.25)
CLASSES = 100


def bench_puzzle(args: argparse.Namespace) -> dict[str, Table]:
    """The parts of a call over numbers of blocks and batch sizes, and a training step with and without."""
    try:
        load_scipy()
    except ImportError as error:
        raise RunError(str(error)) from error
    torch.manual_seed(0)
    model = create_model(args.model, num_classes=CLASSES).to(args.device)
    alone = []
    for batch_size in BATCH_SIZES:
        images, target = make_photographs(batch_size, args.device)
        saliency = input_gradient(model)(images, target)
        for count in BLOCKS:
            progress(f'puzzle: {batch_size} images, {count} × {count} blocks')
            times = alternate(part_calls(images, saliency, count), args.repeats, args.device)
            alone.append({'images, blocks': f'{batch_size}, {count}×{count}', **{k: mean(v) for k, v in times.items()}})
    progress(f'puzzle: training steps of {args.model}')
    return {
        f'Parts of PuzzleMix, ms a batch of 3×{SIZE}×{SIZE}, mean over λ': alone,
        f'A training step of {args.model}, {args.batch_size} images 3×{SIZE}×{SIZE}': training_steps(args, model),
    }


def part_calls(images: torch.Tensor, saliency: torch.Tensor, count: int) -> dict[str, Call]:
    """The costs, the cut and the transport of a batch, each call at another λ."""
    given: dict[str, Any] = {k: v for k, v in puzzle_arguments('cifar100').items() if k[:2] not in ('al', 't_')}
    t_eps = puzzle_arguments('cifar100')['t_eps']
    shares = block_saliency(saliency, (count, count))
    lams = np.random.default_rng(0).beta(1.0, 1.0, 20)
    problems = [puzzle_costs(images, shares, float(lam), std=STD, **given) for lam in lams]
    masks = [minimum_cut(*problem) for problem in problems]
    both = torch.cat((shares, shares.flip(0)))
    seen = [torch.cat((mask > 0, mask < 1)) for mask in masks]
    on_host = [tuple(part.cpu().numpy() for part in problem) for problem in problems]
    return {
        'costs': lambda: puzzle_costs(images, block_saliency(saliency, (count, count)), 0.5, std=STD, **given),
        'cut': in_turn(lambda problem: minimum_cut(*problem), on_host),
        'transport': in_turn(lambda visible: transport(both, visible, t_eps), seen),
    }


def in_turn(function: Any, values: Iterable[Any]) -> Call:
    """A call of a function with the next of the values."""
    ring = itertools.cycle(values)
    return lambda: function(next(ring))


def training_steps(args: argparse.Namespace, model: nn.Module) -> Table:
    """A step with CutMix, which costs next to nothing, and one with PuzzleMix."""
    images, target = make_photographs(args.batch_size, args.device)
    cutmix = Mixup.from_mode('cutmix', 'cifar100', num_classes=CLASSES)
    puzzlemix = PuzzleMix(input_gradient(model), num_classes=CLASSES, std=STD, **puzzle_arguments('cifar100'))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    loss_fn = SoftTargetCrossEntropy()

    def step(mixer: Any) -> Call:
        def call() -> None:
            model.train()
            mixed, soft = mixer(images.clone(), target)
            optimizer.zero_grad()
            loss_fn(model(mixed), soft).backward()
            optimizer.step()

        return call

    calls = {'CutMix': step(cutmix), 'PuzzleMix': step(puzzlemix)}
    calls['PuzzleMix without the step'] = lambda: puzzlemix(images.clone(), target)
    times = alternate(calls, args.repeats, args.device)
    return [
        {'mixing': name, 'ms': median(ms), '÷ CutMix': median_ratio(ms, times['CutMix'])} for name, ms in times.items()
    ]


def make_photographs(batch_size: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Cuttings of scikit-learn's two photographs, normalized, and classes."""
    pictures = [torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255 for picture in photographs()]
    rng = np.random.default_rng(0)
    cuttings = []
    for i in range(batch_size):
        picture = pictures[i % len(pictures)]
        side = int(rng.integers(2 * SIZE, 10 * SIZE))
        top, left = (int(rng.integers(length - side)) for length in picture.shape[1:])
        cutting = picture[None, :, top : top + side, left : left + side]
        cuttings.append(F.interpolate(cutting, (SIZE, SIZE), mode='area'))
    images = (torch.cat(cuttings) - 0.5) / torch.tensor(STD).reshape(3, 1, 1)
    return images.to(device), (torch.arange(batch_size) % CLASSES).to(device)
