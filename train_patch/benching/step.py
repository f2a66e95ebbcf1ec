"""A training step with PuzzleMix, which asks the model for the saliency of its images: the part `puzzle`."""

import argparse
from statistics import median
from typing import Any

import torch
from timm import create_model
from timm.loss import SoftTargetCrossEntropy
from torchvision.transforms.functional import to_tensor

from hmix_timm.mixup import Mixup
from hmix_timm.modes import puzzle_arguments
from hmix_timm.puzzle import PuzzleMix, input_gradient

from ..common.errors import RunError
from ..common.tables import Table
from ..data.scikit_images import cuttings
from .timing import Call, alternate, median_ratio, progress

SIZE = 32
"""Height and width of the images, CIFAR's."""

MEAN, STD = 0.5, 0.25
CLASSES = 100


def bench_puzzle(args: argparse.Namespace) -> dict[str, Table]:
    """Returns the times of a training step with CutMix, which costs next to nothing, and with PuzzleMix."""
    progress(f'puzzle: training steps of {args.model}')
    torch.manual_seed(0)
    model = create_model(args.model, num_classes=CLASSES).to(args.device)
    images = torch.stack([to_tensor(image) for image in cuttings(args.batch_size, (SIZE, SIZE))])
    images = ((images - MEAN) / STD).to(args.device)
    target = torch.arange(args.batch_size, device=args.device) % CLASSES
    cutmix = Mixup.from_mode('cutmix', 'cifar100', num_classes=CLASSES)
    try:
        puzzlemix = PuzzleMix(
            input_gradient(model), num_classes=CLASSES, std=(STD, STD, STD), **puzzle_arguments('cifar100')
        )
    except ImportError as error:  # scipy is missing
        raise RunError(str(error)) from error
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
    table: Table = [
        {'mixing': name, 'ms': median(ms), '÷ CutMix': median_ratio(ms, times['CutMix'])} for name, ms in times.items()
    ]
    return {f'A training step of {args.model}, {args.batch_size} images 3×{SIZE}×{SIZE}': table}
