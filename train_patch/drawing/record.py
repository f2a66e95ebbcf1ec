"""Mixers that record what they did, and the batches that a training gets with them."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from hmix_timm import FastCollateMixup, PuzzleMix


@dataclass(frozen=True, eq=False)
class Batch:
    """A batch of B samples, of which a training gets N.

    Args:
        images: as they came to the mixer, (B, C, H, W); uint8 where the batch is complete.
        classes: the samples' classes, B numbers; names where the batch is complete.
        masks: the masks that were applied, (N, H, W) float32, to the nearest 1/255.
        weights: label weights of the samples' own classes, (N,) float32.
        saliency: (B, H, W), where the masks depend on it.
        mixed: the samples as a training gets them, normalization undone, (N, C, H, W) uint8, once it is complete.
    """

    images: Any
    classes: Sequence[Any]
    masks: np.ndarray
    weights: np.ndarray
    saliency: np.ndarray | None = None
    mixed: Any = None


class Recording:
    """A mixer with a list of the batches that it mixed."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.records: list[Batch] = []


class RecordingMixup(Recording, FastCollateMixup):
    """`FastCollateMixup` that records each batch; for loaders without workers."""

    def __call__(self, batch: Any, _: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixes as `FastCollateMixup` does, from the same random numbers."""
        before = np.random.get_state()
        self.seen = [image for image, _ in batch]
        result = super().__call__(batch)
        np.random.set_state(before)
        # draws the same numbers once more, and so leaves the generator where mixing left it
        images = torch.stack([torch.as_tensor(image) for image, _ in batch])
        masks, weights = self._replay(len(images), images.shape[-2:])
        self.records.append(Batch(images, [int(target) for _, target in batch], masks, weights))
        return result

    def _pair(self, images: Any, index: int = 0) -> Any:
        return super()._pair(self.seen, index)

    def _replay(self, batch_size: int, size: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Mixes white images with black partners and two classes, which gives masks and label weights."""
        white = np.arange(batch_size) < (batch_size + 1) // 2
        probes = [(np.full((1, *size), 255 * w, dtype=np.uint8), int(not w)) for w in white]
        mixer = copy.copy(self)
        mixer.label_smoothing, mixer.num_classes = 0.0, 2
        images, targets = FastCollateMixup.__call__(mixer, probes)
        white = white[: len(images)]
        share_of_white = images[:, 0].numpy().astype(np.float32) / 255.0
        masks = np.where(white[:, None, None], share_of_white, 1.0 - share_of_white)
        return masks, np.where(white, targets[:, 0].numpy(), targets[:, 1].numpy())


class RecordingPuzzleMix(Recording, PuzzleMix):
    """`PuzzleMix` that records each batch."""

    def solve_masks(self, images: torch.Tensor, saliency: torch.Tensor, lam: float, count: int) -> torch.Tensor:
        """Solves as `PuzzleMix` does."""
        masks = super().solve_masks(images, saliency, lam, count)
        self.solved = saliency, masks
        return masks

    def __call__(self, images: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixes as `PuzzleMix` does."""
        came, size = images.clone(), images.shape[-2:]
        self.solved = torch.zeros(len(images), *size), torch.ones(len(images), 1, 1)  # of a batch that is not mixed
        result = super().__call__(images, target)
        saliency, masks = self.solved
        shown = torch.nn.functional.interpolate(masks[:, None], size, mode='nearest')[:, 0].numpy()
        self.records.append(Batch(came, target.tolist(), shown, masks.mean((1, 2)).numpy(), saliency.numpy()))
        return result


def recorded_batches(loader: Any, mixer: Any, names: Sequence[str]) -> Iterator[Batch]:
    """Yields the batches that a training gets, epoch after epoch.

    Args:
        loader: timm's prefetching loader without workers.
        mixer: a `RecordingMixup`, which is the loader's collate function, or a `RecordingPuzzleMix`, which mixes the
            batches of the loader.
        names: of the classes; classes beyond them are shown as numbers.
    """

    def pixels(images: torch.Tensor) -> np.ndarray:
        normalized = images.is_floating_point()
        return (images * loader.std + loader.mean if normalized else images).round().clamp(0, 255).byte().numpy()

    # the loader works one batch ahead, so that records are counted, not taken from the end
    for number, (mixed, target) in enumerate(itertools.chain.from_iterable(itertools.repeat(loader))):
        if isinstance(mixer, PuzzleMix):
            mixed, _ = mixer(mixed, target)
        record = mixer.records[number]
        named = [names[index] if 0 <= index < len(names) else str(index) for index in record.classes]
        yield replace(record, images=pixels(record.images), classes=named, mixed=pixels(mixed))
