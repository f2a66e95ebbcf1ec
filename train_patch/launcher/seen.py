"""`--mix-check`: looks at the first mixed batches of a process, and at what its model gets.

The mask is found in the pixels alone: by least squares over the channels of the image that went in, its partner and the
image that came out. It is compared with the mask that was drawn, and its mean with the label weight. Mixers leave what
they see as facts, loader workers too; the process that steps the optimizer reads them, and looks for the mixed images
among the inputs of its modules.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from torch.optim.optimizer import register_optimizer_step_pre_hook

import hmix_timm
from hmix_timm.blend.plan import Plan
from hmix_timm.blend.plan import shown as as_shown

from . import mixers
from .others import stop
from .watch import rank
from .witness import SEEN, facts, here, leave, make_folder, take, text_of

ENOUGH = 64
"""About this many images are looked at, in each process that mixes."""

STEPS = 100
"""Optimizer steps in which the images are looked for."""


class Looked:
    """A mixer whose first mixed batches are looked at."""

    _images_seen = 0
    _masks: Sequence[Any] = ()
    _of_the_slot: Sequence[Any] = ()

    def draw_mask(self, *args: Any, **kwargs: Any) -> Any:
        mask, lam = super().draw_mask(*args, **kwargs)  # type: ignore[misc]
        self._of_the_slot = [*self._of_the_slot, mask]
        return mask, lam

    def _drew(self, masks: Sequence[Any]) -> None:
        super()._drew(masks)  # type: ignore[misc]
        self._masks = masks


def _looking(name: str) -> Callable[..., Any]:
    """A hook that has the next class mix, and looks at it."""

    def hook(self: Any, images: torch.Tensor, *batch: Any, **half: Any) -> Any:
        mix = getattr(super(Looked, self), name)
        if self._images_seen >= ENOUGH:
            return mix(images, *batch, **half)
        before = torch.from_numpy(np.stack([sample[0] for sample in batch[0]])) if batch else images.clone()
        self._masks = self._of_the_slot = ()
        lam = mix(images, *batch, **half)
        _look(self, before, images, lam)
        return lam

    return hook


for _name in mixers.HOOKS:
    setattr(Looked, _name, _looking(_name))


class Mixup(Looked, mixers.Mixup):
    """`Mixup` whose first mixed batches are looked at."""


class FastCollateMixup(Looked, mixers.FastCollateMixup):
    """`FastCollateMixup` whose first mixed batches are looked at."""


class PuzzleMix:
    """A mixer that cannot be looked at: it shows other parts of the partner than those at the same place."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise ValueError(f'--mix-check cannot look at {type(self).__name__}')


class NaFlexMixup(PuzzleMix):
    """Another one: its images are of several sizes."""


def _look(mixer: Any, before: torch.Tensor, after: torch.Tensor, lam: Any) -> None:
    """Leaves the fact of a batch: of its first images that were mixed."""
    masks = mixer._masks if len(mixer._masks) > 1 else [*mixer._masks] * len(after)
    shown = [index for index, mask in enumerate(masks[: len(after)]) if mask is not None][:ENOUGH]
    if not shown:
        return
    mixer._images_seen += len(shown)
    masks = [masks[index] for index in shown]
    drawn = np.stack([mask.array(before.shape[-2:]) for mask in masks])
    resized = [Plan(resized=getattr(mask, 'partner', None)) for mask in masks]
    partners = [as_shown(image, plan) for image, plan in zip(before.flip(0)[shown], resized, strict=True)]
    found, error = find_masks(before[shown], torch.stack(partners), after[shown], drawn)
    weights = torch.as_tensor(lam).cpu().double().reshape(-1, 1).expand(len(before), 1)[shown, 0].numpy()
    gap = abs(found.mean((1, 2)) - weights).max()
    wrong = [
        f'a mask from {mask[told].min():.3g} to {mask[told].max():.3g}, not {asked.min():.3g} to {asked.max():.3g}'
        for mask, asked, told, off in zip(found, drawn, error > 0, abs(found - drawn) > error, strict=True)
        if off.any()
    ]
    if mixer.correct_lam and gap > max(1e-5 if before.is_floating_point() else 5e-3, error.mean()):
        wrong.append(f'a label weight {gap:.2g} off the mean of the mask')
    of_the_slot = {*map(id, mixer._of_the_slot)}
    names = Counter(mixer.family.title if id(mask) in of_the_slot else 'Mixup' for mask in masks)
    fact = {
        'names': names,
        'wrong': wrong,
        'gap': (gap, '' if before.is_floating_point() else ' (rounded uint8)'),
        'prints': np.stack((_prints(after[shown]), _prints(before[shown])), 1).tolist(),
    }
    leave(mixer.witness or here(), SEEN, json.dumps(fact))


def find_masks(
    own: torch.Tensor, partner: torch.Tensor, mixed: torch.Tensor, drawn: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Finds the mask of each image where it and its partner differ by more than 1/8 of the range.

    Args:
        own: images that went in, (B, C, H, W).
        partner: the other image of each.
        mixed: the images that came out.
        drawn: (B, H, W), stands where nothing can be told.

    Returns:
        The masks, and the error that rounding may leave in them, both (B, H, W).
    """
    rounding = 4 * max(torch.finfo(own.dtype).eps, 1e-7) * own.abs().max().item() if own.is_floating_point() else 0.6
    i, j, x = (images.detach().cpu().double().flatten(1, -3).numpy() for images in (own, partner, mixed))
    difference = i - j
    told = abs(difference).max(1) > np.ptp(i) / 8
    square = np.where(told, (difference**2).sum(1), np.inf)
    found = (difference * (x - j)).sum(1) / square
    return np.where(told, found, drawn), rounding * abs(difference).sum(1) / square


def _prints(images: torch.Tensor) -> np.ndarray:
    """Fingerprints of images (B, C, H, W): 8 × 8 points a channel, so that products of them are correlations."""
    rows, columns = (np.linspace(0, side - 1, 8).round().astype(int) for side in images.shape[-2:])
    points = images.detach().flatten(1, -3)[..., rows[:, None], columns].flatten(2).cpu().double().numpy()
    points -= points.mean(-1, keepdims=True)
    points /= (np.linalg.norm(points, axis=-1, keepdims=True) + 1e-9) * points.shape[1] ** 0.5
    return points.reshape(len(points), -1).round(4)


class Check:
    """Reads the facts for a process that trains, and says once what was seen."""

    def __init__(self) -> None:
        self.told = False
        self.steps = 0
        self.read: set[str] = set()
        self.names: Counter[str] = Counter()
        self.gap = [0.0, '']
        # of each image as it is mixed, and as it was: its prints, and whether a module has got it
        self.prints: list[Any] = []
        self.got = np.zeros((0, 2), bool)
        self.listening = register_module_forward_pre_hook(self._before_forward)
        register_optimizer_step_pre_hook(self._before_step)

    def end(self) -> None:
        """Says what was seen, if it was not said yet.

        Raises:
            SystemExit: something else than was drawn was seen.
        """
        self._read_facts()
        if self.steps and not self.told:
            self._tell()

    def _read_facts(self) -> None:
        for name in sorted(name for name in facts(here()) - self.read if name.startswith(SEEN)):
            self.read.add(name)
            fact = json.loads(text_of(here(), name))
            if fact['wrong']:
                count = f'{len(fact["wrong"])} of {len(fact["prints"])}'
                stop(f'--mix-check: {count} mixed images have {fact["wrong"][0]}')
            if len(self.prints) < ENOUGH:
                self.names.update(fact['names'])
                self.gap = max(self.gap, fact['gap'])
                self.prints += fact['prints']
                self.got = np.pad(self.got, ((0, len(fact['prints'])), (0, 0)))

    def _before_forward(self, module: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        """Looks for the images among the inputs of a module, the model or one that it hands them on to."""
        if torch.compiler.is_compiling() or not module.training:
            return
        for images in inputs:
            # features need a gradient
            if type(images) is torch.Tensor and images.ndim >= 4 and not images.requires_grad and not images.is_meta:
                self._read_facts()
                got = _prints(images)
                if self.prints and len(self.prints[0][0]) == got.shape[1]:
                    alike = (np.array(self.prints) @ got.T).max(2)
                    # a mixed image that is nearly its own is taken for mixed
                    self.got |= (alike > 0.99) & (alike > alike[:, ::-1] + [-1e-3, 1e-3])

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Any, kwargs: Any) -> None:
        self.steps += 1
        if not self.told:
            self._read_facts()
            if len(self.prints) >= ENOUGH and (self.got.mean(0).max() >= 0.5 or self.steps >= STEPS):
                self._tell()

    def _tell(self) -> None:
        self.told = True
        self.listening.remove()
        total, (mixed, plain) = len(self.prints), self.got.sum(0)
        if 2 * mixed < total <= 2 * plain:
            stop(f'--mix-check: the model gets {plain} of {total} images unmixed')
        parts = [
            *(f'{count} of {total} images {name}' for name, count in self.names.items()),
            f'label = mean of the mask to {self.gap[0]:.0e}{self.gap[1]}',
            'reached the model' if 2 * mixed >= total else 'not traced to the model',
        ]
        seen = ', '.join(parts) if total else 'no mixed batch'
        sys.stderr.write(f'Mixing: {f"rank {rank()} has " * (rank() > 0)}seen: {seen}\n')


def run(script: Callable[[], object]) -> None:
    """Runs timm's script, or the project's own, with mixers that are looked at.

    Raises:
        SystemExit: that of `Check.end`.
    """
    vars(hmix_timm).update(Mixup=Mixup, FastCollateMixup=FastCollateMixup, PuzzleMix=PuzzleMix, NaFlexMixup=NaFlexMixup)
    take(make_folder())
    check = Check()
    script()
    check.end()
