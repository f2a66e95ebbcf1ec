"""`Mixup` and `FastCollateMixup`: timm's mixers with HMix, GMix and more in the CutMix slot, in every mode.

As in timm, `__call__` hands the batch to `_mix_batch`, `_mix_pair` or `_mix_elem` (collate: to `_mix_…_collate`), which
mix in place and return λ; a subclass may override or call them.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import timm.data.mixup as timm_mixup
import torch
from torch.utils.data import default_collate

from . import blend, private
from .blend import compiled
from .checks import check_choice, check_images, check_labels, check_mixer
from .families import FAMILIES, Slot
from .masks import Mask, Size, mixup_mask
from .modes import mixer_arguments
from .switch import SharedSwitch

MODES = ('batch', 'pair', 'elem', 'half')


def describe(mixer: Any) -> str:
    """The slots of a mixer, for people: 'HMix(alpha=1, ratio=0.75)', 'Mixup(alpha=1) | CutMix(alpha=1), …'."""
    slots = []
    if mixer.mixup_alpha > 0:
        slots.append(f'Mixup(alpha={mixer.mixup_alpha:g})')
    if mixer.cutmix_alpha > 0:
        family, minmax = mixer.family, mixer.cutmix_minmax
        alpha = f'alpha={mixer.cutmix_alpha:g}' if family.takes_lam else ''
        drawn = alpha if minmax is None else f'minmax={tuple(minmax)}'
        slots.append(f'{family.title}({", ".join(filter(None, [drawn, family.describe(vars(mixer))]))})')
    text = ' | '.join(slots) + (f', switch_prob={mixer.switch_prob:g}' if len(slots) == 2 else '')
    return text if mixer.correct_lam else f'{text}, correct_lam=False'


class Mixed(NamedTuple):
    """A mixed batch, and what it was mixed of: each image keeps `weight` of itself, the rest is its partner's.

    Attributes:
        images: the batch, as it was mixed in place.
        partner: index of each image's partner, (B,) int64 on the images' device.
        weight: label weight of each image's own label: a number, or (B,) on the images' device. 1 if nothing is mixed.
    """

    images: torch.Tensor
    partner: torch.Tensor
    weight: float | torch.Tensor


class Mixup(Slot, SharedSwitch, timm_mixup.Mixup):
    """`timm.data.Mixup` with HMix and GMix, for float batches that are already on the device.

    Without the keyword-only arguments it draws what the installed timm's `Mixup` draws from the same seed and returns
    what it returns: equal for CutMix, up to float rounding for Mixup. The arguments up to `num_classes` are timm's.

    `cutmix_mode` chooses the mask that timm's CutMix slot draws, in every mode: 'bbox' is CutMix, 'hmix' a CutMix box
    with a Mixup blend outside it, 'gmix' a Gaussian bump (https://arxiv.org/abs/2208.09913, section 4). `cutmix_alpha`
    is that slot's Beta parameter, and with `mixup_alpha` > 0 too, `switch_prob` chooses between Mixup and the slot.
    The label weight of an image is the mean of the mask that was applied to it.

    Beyond timm: an odd batch works (the middle sample stays as it is), label weights are float32 for half-precision
    images, `mixup_enabled` reaches running loader workers, and wrong arguments raise.

    Args:
        mixup_alpha (float): Mixup's Beta parameter, Mixup is active if > 0.
        cutmix_alpha (float): the CutMix slot's Beta parameter, the slot is active if > 0.
        cutmix_minmax (Sequence[float]): min and max side of a CutMix box as fractions of the image's; the slot is
            active and uses this in place of alpha if not None. Only for `cutmix_mode='bbox'`.
        prob (float): probability of mixing a batch, pair or element, 0 to 1.
        switch_prob (float): probability of the CutMix slot when both are active, 0 to 1.
        mode (str): draw parameters for each 'batch', 'pair' or 'elem'; 'half', a collate mode, is 'batch' here, as
            in timm.
        correct_lam (bool): label weight from the mask that was applied; False takes λ as drawn, and for HMix the
            paper's literal mask.
        label_smoothing (float): label smoothing of the mixed target, 0 to 1.
        num_classes (int): number of classes of the target.
        *timm_args: what newer versions of timm take after these, such as `multi_label`.
        cutmix_mode (str): mask of the CutMix slot: 'bbox', 'hmix', 'gmix', a published method of docs/methods.md, or a
            family of your own.
        soft_labels (bool): take rows of class probabilities (B, num_classes), such as one-hot labels, in place of
            class indices; smoothing makes (1 − ε) y + ε / num_classes of them.
        **options: the family's options, and further keyword arguments of the installed timm's `Mixup`:

            * hmix_ratio (float): HMix's r, 0 (Mixup) to 1 (CutMix); the box has (1 − λ) r of the image's area.
              Default: 0.75.
            * hmix_gamma (float): draw r ~ Beta(gamma, gamma) for each λ in place of `hmix_ratio`; > 0. Default: None.
            * gmix_kernel (str): GMix's Gaussian, 'reference' (what the published code trains, the default) or 'paper'
              (section 4 as printed).

    Raises:
        ValueError: an argument is out of its range; the message names it and says what is allowed.
    """

    soft_labels = False

    def __init__(
        self,
        mixup_alpha: float = 1.0,
        cutmix_alpha: float = 0.0,
        cutmix_minmax: Sequence[float] | None = None,
        prob: float = 1.0,
        switch_prob: float = 0.5,
        mode: str = 'batch',
        correct_lam: bool = True,
        label_smoothing: float = 0.1,
        num_classes: int = 1000,
        *timm_args: Any,
        cutmix_mode: str = 'bbox',
        soft_labels: bool = False,
        **options: Any,
    ) -> None:
        timm_kwargs = self._set_family(cutmix_mode, options, correct_lam)
        check_choice('mode', mode, MODES)
        check_mixer(
            self.family, mixup_alpha, cutmix_alpha, cutmix_minmax, prob, switch_prob, label_smoothing, num_classes
        )
        super().__init__(
            mixup_alpha,
            # of a family that draws no λ: small alphas often give λ = 1, which leaves images as they are
            cutmix_alpha if self.family.takes_lam else float(cutmix_alpha > 0),
            cutmix_minmax,
            prob,
            switch_prob,
            mode,
            correct_lam,
            label_smoothing,
            num_classes,
            *timm_args,
            **timm_kwargs,
        )
        self.soft_labels = soft_labels
        if soft_labels and getattr(self, 'multi_label', False):
            raise ValueError('soft_labels cannot go with multi_label: the rows of one are probabilities of classes')

    @classmethod
    def from_mode(cls, mix_mode: str, preset: str = 'imagenet', **overrides: Any) -> 'Mixup':
        """A row of the paper's tables, with the hyper-parameters of its section 5.

        Args:
            mix_mode: 'none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix', another published method, or a family of
                your own. 'none' never mixes.
            preset: 'imagenet' or 'cifar100'.
            **overrides: constructor arguments that replace the row's or add to them.

        Raises:
            ValueError: mix mode or preset is unknown, or an argument is out of its range.
        """
        arguments = mixer_arguments(mix_mode, preset)
        replaced = FAMILIES[arguments['cutmix_mode']].replaced_by(overrides)
        return cls(**{**{k: v for k, v in arguments.items() if k not in replaced}, **overrides})

    def __repr__(self) -> str:
        slots = describe(self) if self.mix_prob > 0 else 'no mixing'
        return (
            f'{type(self).__name__}({slots}, mode={self.mode}, prob={self.mix_prob:g}, '
            f'label_smoothing={self.label_smoothing:g}, num_classes={self.num_classes})'
        )

    if 'bool' not in vars(np):
        _params_per_elem = private.params_per_elem

    def _size(self, images: torch.Tensor) -> Size:
        """Height and width of images that can be mixed in place."""
        check_images(images)
        if images.ndim < 3 and (self.cutmix_alpha > 0 or self.cutmix_minmax):
            raise ValueError(f'images must have the shape (B, …, H, W) where CutMix is on, got {tuple(images.shape)}')
        return images.shape[-2], images.shape[-1]

    def _draw_batch(self, size: Size, images: Any = None, draw_for_unmixed: bool = False) -> tuple[Mask | None, float]:
        """One mask and label weight for the whole batch; None where the batch stays as it is."""
        lam, use_cutmix = self._params_per_batch()
        if use_cutmix and (lam != 1.0 or draw_for_unmixed):
            return self.draw_mask(size, lam, images=self._pair(images))
        return (mixup_mask(lam), lam) if lam != 1.0 else (None, 1.0)

    def _draw_each(
        self, mode: str, batch_size: int, size: Size, images: Any = None
    ) -> tuple[list[Mask | None], np.ndarray]:
        """A mask and a label weight for each sample: in pairs the same for both, in halves for the first half alone.

        The middle sample of an odd batch is its own partner and stays as it is, as do those of the second half.
        """
        count = {'pair': batch_size // 2, 'half': (batch_size + 1) // 2}.get(mode, batch_size)
        lam_batch, use_cutmix = map(np.array, self._params_per_elem(count))  # a subclass's may be lists
        if mode != 'pair' and batch_size % 2:
            lam_batch[batch_size // 2] = 1.0
        masks: list[Mask | None] = []
        options = self._options()
        for i, lam in enumerate(lam_batch):
            if lam == 1.0:
                masks.append(None)
            elif use_cutmix[i]:
                mask, lam_batch[i] = self.draw_mask(size, lam, options=options, images=self._pair(images, i))
                masks.append(mask)
            else:
                masks.append(mixup_mask(lam))
        partners = slice(None, None, -1) if mode == 'pair' else slice(0)
        unmixed = batch_size - count - len(masks[partners])
        masks += [None] * unmixed + masks[partners]
        return masks, np.concatenate((lam_batch, np.ones(unmixed, lam_batch.dtype), lam_batch[partners]))

    def _mix_batch(self, x: torch.Tensor) -> float:
        """Mixes a batch in place with one mask. Returns its label weight."""
        mask, lam = self._draw_batch(self._size(x), x)
        blend.mix_(x, [mask] * len(x))
        return lam

    def _mix_pair(self, x: torch.Tensor) -> torch.Tensor:
        """Mixes a batch in place with a mask for each pair. Returns the label weights (B, 1)."""
        return self._mix_each('pair', x)

    def _mix_elem(self, x: torch.Tensor) -> torch.Tensor:
        """Mixes a batch in place with a mask for each sample. Returns the label weights (B, 1)."""
        return self._mix_each('elem', x)

    def _mix_each(self, mode: str, x: torch.Tensor) -> torch.Tensor:
        masks, lam = self._draw_each(mode, len(x), self._size(x), x)
        blend.mix_(x, masks)
        # float32 for half-precision images too: a label weight of half precision would be off by up to 5e-4
        return blend.to_device(lam.astype(np.float64 if x.dtype == torch.float64 else np.float32), x.device)[:, None]

    def _check_target(self, target: torch.Tensor, batch_size: int) -> None:
        rows = [f'{name}=True' for name in ('multi_label', 'soft_labels') if getattr(self, name, False)]
        check_labels(target, batch_size, self.num_classes, *rows)

    def _mixed_target(self, target: torch.Tensor, lam: float | torch.Tensor) -> torch.Tensor:
        multi_label = getattr(self, 'multi_label', False)
        return private.mixup_target(
            target, self.num_classes, lam, self.label_smoothing, multi_label, soft_labels=self.soft_labels
        )

    def _mix(self, x: torch.Tensor) -> float | torch.Tensor:
        return {'pair': self._mix_pair, 'elem': self._mix_elem}.get(self.mode, self._mix_batch)(x)

    def mix(self, x: torch.Tensor) -> Mixed:
        """Mixes a batch in place, for losses of one's own: no labels are needed, and none are smoothed.

            images, partner, weight = mixer.mix(images)
            output = model(images)
            loss = weight * criterion(output, labels) + (1 - weight) * criterion(output, labels[partner])

        In the modes 'pair' and 'elem' each image has a weight of its own: give the criterion reduction='none' and
        take the mean of the sum.

        Args:
            x: images (B, C, H, W), floating, on any device; integers are mixed too, and rounded.

        Returns:
            x, the index of each image's partner, and the weight of its own label.

        Raises:
            ValueError: the images are complex or share memory, or are rows that no box fits into.
        """
        lam = self._mix(x)
        partner = torch.arange(len(x) - 1, -1, -1, device=x.device)
        return Mixed(x, partner, lam.flatten() if isinstance(lam, torch.Tensor) else lam)

    def __call__(self, x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixes a batch in place.

        Args:
            x: images (B, C, H, W), floating, on any device; integers are mixed too, and rounded.
            target: class indices (B,), on the device of x; with `soft_labels` rows (B, num_classes).

        Returns:
            x, and the soft target (B, num_classes), float32 (float64 in pair and elem mode if x is, as in timm).

        Raises:
            ValueError: target does not hold a label for each image, or the images cannot be mixed, as in `mix`.
        """
        self._check_target(target, len(x))
        return x, self._mixed_target(target, self._mix(x))


Batch = Sequence[tuple[Any, Any]]
"""Samples (image, target), each image a uint8 array or tensor (C, H, W)."""


class FastCollateMixup(Mixup, timm_mixup.FastCollateMixup):
    """`timm.data.FastCollateMixup` with HMix and GMix: mixes uint8 samples while they are collated, in loader workers.

    The arguments are `Mixup`'s. Besides 'batch', 'pair' and 'elem' there is timm's mode 'half': parameters for each
    element, and only the first half of the batch is mixed and returned. Mixed values are rounded to the nearest grey
    level, within 1 of timm's; the caller's arrays are never written to. Where numba is installed (the extra 'fast') its
    compiled loop does the mixing, and `repr` says so.
    """

    @functools.wraps(Mixup.__init__)  # type: ignore[misc]  # so that its signature stays the timm user's
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        compiled.load()  # not in each of the loader workers that are forked later

    def __repr__(self) -> str:
        loop = compiled.load()
        return super().__repr__() if loop is None else f'{super().__repr__()[:-1]}, compiled by {loop[0]})'

    def _mix_batch_collate(self, output: torch.Tensor, batch: Batch) -> float:
        """Mixes samples into output with one mask. Returns its label weight."""
        # timm draws its box here even where λ came out as 1
        images = _arrays(batch)
        mask, lam = self._draw_batch(self._size(output), images, draw_for_unmixed=True)
        _mix_into(output, images, [mask] * len(batch))
        return lam

    def _mix_pair_collate(self, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        """Mixes samples into output with a mask for each pair. Returns the label weights (B, 1) float32."""
        return self._mix_each_collate('pair', output, batch)

    def _mix_elem_collate(self, output: torch.Tensor, batch: Batch, half: bool = False) -> torch.Tensor:
        """Mixes samples into output with a mask for each, half of them with `half`.

        Returns:
            The label weights of all samples (B, 1) float32; 1 for those that are not mixed.
        """
        return self._mix_each_collate('half' if half else 'elem', output, batch)

    def _mix_each_collate(self, mode: str, output: torch.Tensor, batch: Batch) -> torch.Tensor:
        images = _arrays(batch)
        masks, lam = self._draw_each(mode, len(batch), self._size(output), images)
        _mix_into(output, images, masks[: len(output)])
        return torch.from_numpy(lam.astype(np.float32))[:, None]

    def __call__(  # type: ignore[override]  # a collate function, in timm too
        self, batch: Batch, _: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Collates and mixes.

        Args:
            batch: samples (image, target), each image a uint8 array or tensor (C, H, W), all of one shape.

        Returns:
            images (B, C, H, W) uint8 and the soft target (B, num_classes) float32; ⌈B / 2⌉ of both in mode 'half'.

        Raises:
            ValueError: an image is no uint8 array or of another shape than the first, or a target is no class index.
        """
        _check_samples(batch)
        target = default_collate([sample[1] for sample in batch])
        self._check_target(target, len(batch))
        count = (len(batch) + 1) // 2 if self.mode == 'half' else len(batch)
        hook = _COLLATE_HOOKS.get(self.mode, '_mix_batch_collate')
        # timm's hooks add to zeros; filling memory that ours write to anyway would take a tenth of the whole call
        own = getattr(type(self), hook) is getattr(FastCollateMixup, hook)
        output = (torch.empty if own else torch.zeros)((count, *batch[0][0].shape), dtype=torch.uint8)
        lam = getattr(self, hook)(output, batch, **({'half': True} if self.mode == 'half' else {}))
        return output, self._mixed_target(target, lam)[:count]


_COLLATE_HOOKS = {'pair': '_mix_pair_collate', 'elem': '_mix_elem_collate', 'half': '_mix_elem_collate'}


def _check_samples(batch: Batch) -> None:
    for index, sample in enumerate(batch):
        image = sample[0] if isinstance(sample, (tuple, list)) and len(sample) > 1 else sample
        if not isinstance(image, (np.ndarray, torch.Tensor)) or image is sample:
            raise ValueError(
                'FastCollateMixup takes samples (image, target) whose images are uint8 arrays or tensors (C, H, W), '
                f'got a {type(image).__name__} at index {index}'
            )
        if image.dtype not in (np.uint8, torch.uint8):
            raise ValueError(f'FastCollateMixup takes uint8 images, got {image.dtype}; Mixup takes float batches')
        if image.shape != (first := batch[0][0].shape):
            raise ValueError(
                f'all images of a batch must have one shape, got {tuple(image.shape)} at index {index} '
                f'beside {tuple(first)}'
            )


def _arrays(batch: Batch) -> list[np.ndarray]:
    return [sample[0].numpy() if isinstance(sample[0], torch.Tensor) else sample[0] for sample in batch]


def _mix_into(output: torch.Tensor, images: Sequence[np.ndarray], masks: Sequence[Mask | None]) -> None:
    loop = compiled.load()
    mix_uint8 = blend.mix_uint8 if loop is None else loop[1]
    mix_uint8(images, masks, output.numpy())
