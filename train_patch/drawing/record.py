"""A mixer that remembers what it did, and the samples that a loader delivered with it."""

import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from hmix_timm import FastCollateMixup
from hmix_timm.masks import Size


@dataclass(frozen=True, eq=False)
class Sample:
    """A sample of a training's loader.

    Args:
        own: image i as it came to the mixer, (C, H, W) uint8.
        other: image j.
        labels: names of the classes of i and j.
        targets: their indices.
        mask: the mask that was applied, (H, W) float32, to the nearest 1/255.
        weight: label weight of image i.
        mixed: the sample as the loader delivered it, normalization undone, (C, H, W) uint8.
        saliency: of i and of j, (H, W) each, where the mask depends on them.
    """

    own: np.ndarray
    other: np.ndarray
    labels: tuple[str, str]
    targets: tuple[int, int]
    mask: np.ndarray
    weight: float
    mixed: np.ndarray
    saliency: tuple[np.ndarray, np.ndarray] | None = None


@dataclass(frozen=True, eq=False)
class Record:
    """What a `RecordingMixup` did to one batch of B samples, N of which it returned.

    Args:
        images: the samples as they came, B arrays (C, H, W) uint8.
        targets: their classes, B numbers.
        masks: the masks applied, (N, H, W) float32, to the nearest 1/255.
        weights: label weights of the samples' own classes, (N,) float32.
    """

    images: list[np.ndarray]
    targets: list[int]
    masks: np.ndarray
    weights: np.ndarray


class RecordingMixup(FastCollateMixup):
    """`FastCollateMixup` that remembers what it did to each batch, in `records`; for loaders without workers."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.records: list[Record] = []

    def __call__(self, batch: Any, _: Any = None) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixes as `FastCollateMixup` does, from the same random numbers."""
        before = np.random.get_state()
        result = super().__call__(batch)
        np.random.set_state(before)
        # draws the same numbers once more, and so leaves the generator where mixing left it
        masks, weights = self._replay(len(batch), batch[0][0].shape[-2:])
        images = [torch.as_tensor(image).numpy().copy() for image, _ in batch]
        self.records.append(Record(images, [int(target) for _, target in batch], masks, weights))
        return result

    def _replay(self, batch_size: int, size: Size) -> tuple[np.ndarray, np.ndarray]:
        """Masks and label weights: what the mixer makes of white images with black partners and of two classes."""
        white = np.arange(batch_size) < (batch_size + 1) // 2
        probes = [(np.full((1, *size), 255 * w, dtype=np.uint8), int(not w)) for w in white]
        mixer = copy.copy(self)
        mixer.label_smoothing, mixer.num_classes = 0.0, 2
        images, targets = FastCollateMixup.__call__(mixer, probes)
        white = white[: len(images)]
        share_of_white = images[:, 0].numpy().astype(np.float32) / 255.0
        masks = np.where(white[:, None, None], share_of_white, 1.0 - share_of_white)
        return masks, np.where(white, targets[:, 0].numpy(), targets[:, 1].numpy())


def as_pixels(loader: Any, images: torch.Tensor) -> np.ndarray:
    """Images as timm's prefetching loader delivers them, its normalization undone, as uint8."""
    return (images * loader.std + loader.mean).round().clamp(0, 255).byte().numpy()


def recorded_samples(loader: Any, mixer: RecordingMixup, names: Sequence[str]) -> Iterator[Sample]:
    """The samples that a loader delivers, epoch after epoch.

    Args:
        loader: timm's prefetching loader with `mixer` as its collate function, and without workers.
        mixer: as above.
        names: of the classes; classes beyond them are shown as numbers.
    """
    # the loader works one batch ahead, so that records are counted, not taken from the end
    for number, (x, _) in enumerate(itertools.chain.from_iterable(itertools.repeat(loader))):
        delivered = as_pixels(loader, x)
        record = mixer.records[number]
        last = len(record.images) - 1
        for i, mixed in enumerate(delivered):
            targets = record.targets[i], record.targets[last - i]
            own, other = (names[t] if 0 <= t < len(names) else str(t) for t in targets)
            yield Sample(
                own=record.images[i],
                other=record.images[last - i],
                labels=(own, other),
                targets=targets,
                mask=record.masks[i],
                weight=float(record.weights[i]),
                mixed=mixed,
            )
