"""The first samples of a training with --mix-mode puzzlemix, whose masks depend on a model."""

import argparse
import itertools
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from timm.utils import random_seed

from hmix_timm import PuzzleMix, input_gradient

from ..mixing import Mixing
from ..trainer.augmentation import check_augmentation
from ..trainer.setup import build_model
from .images import class_names, data_config_of, load_images, make_loader
from .record import Sample, as_pixels

_logger = logging.getLogger('preview')


class RecordingPuzzleMix(PuzzleMix):
    """`PuzzleMix` that remembers saliency (B, H, W) and masks (B, n, n) of the last batch that it mixed."""

    last: tuple[torch.Tensor, torch.Tensor] | None = None

    def solve_masks(self, images: torch.Tensor, saliency: torch.Tensor, lam: float, count: int) -> torch.Tensor:
        """Solves as `PuzzleMix` does."""
        masks = super().solve_masks(images, saliency, lam, count)
        self.last = saliency, masks
        return masks


def record_puzzle_samples(args: argparse.Namespace, mixing: Mixing, seed: int, rows: int) -> tuple[list[Sample], str]:
    """The first samples that a training with these arguments would deliver, did it start with this model.

    Args:
        args: training's, resolved, with --mix-mode puzzlemix. Its model has the weights of --initial-checkpoint or
            --pretrained; without them, the random ones that training starts from.
        mixing: training's.
        seed: of all that is drawn.
        rows: number of samples.

    Returns:
        The samples, and the mixer in words.

    Raises:
        WrongArguments: there are no such images or no such model.
        RunError: --initial-checkpoint cannot be used.
        ValueError: the images cannot be cut into blocks; the message says which sides can.
    """
    check_augmentation(args)
    data_config = data_config_of(args)
    dataset = load_images(args)
    names = class_names(dataset)
    args.num_classes = args.num_classes or len(names) or None
    args.rank, args.distributed = 0, False
    random_seed(seed)
    model = build_model(args, dataset, torch.device('cpu'))
    if not (args.initial_checkpoint or args.pretrained):
        _logger.warning('The model is untrained: --initial-checkpoint FILE or --pretrained shows what training keeps.')
    mixer = mixing.puzzle(input_gradient(model), data_config['std'], args.num_classes, RecordingPuzzleMix)
    mixer.check_size(*data_config['input_size'][1:])
    loader = make_loader(dataset, args, data_config, None)
    samples = list(itertools.islice(_samples(loader, mixer, names), rows))
    return samples, repr(mixer).replace(RecordingPuzzleMix.__name__, 'PuzzleMix')


def _samples(loader: Any, mixer: RecordingPuzzleMix, names: Sequence[str]) -> Iterator[Sample]:
    """The samples of a loader's batches of two, epoch after epoch, mixed."""
    for images, target in itertools.chain.from_iterable(itertools.repeat(loader)):
        came = as_pixels(loader, images)
        mixer.last = None
        mixed = as_pixels(loader, mixer(images, target)[0])
        size = images.shape[-2:]
        saliency, masks = mixer.last or (torch.zeros(len(images), *size), torch.ones(len(images), 1, 1))
        shown = torch.nn.functional.interpolate(masks[:, None], size, mode='nearest')[:, 0].numpy()
        for i in range(len(images)):
            j = len(images) - 1 - i
            own, other = (names[t] if t < len(names) else str(t) for t in (int(target[i]), int(target[j])))
            yield Sample(
                own=came[i],
                other=came[j],
                labels=(own, other),
                targets=(int(target[i]), int(target[j])),
                mask=shown[i],
                weight=float(masks[i].mean()),
                mixed=mixed[i],
                saliency=(saliency[i].numpy(), saliency[j].numpy()),
            )
