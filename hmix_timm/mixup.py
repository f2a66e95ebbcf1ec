"""`Mixup` and `FastCollateMixup`: timm's mixers with HMix and GMix in the CutMix slot, in every mode."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import timm.data.mixup as timm_mixup
import torch
from torch.utils.data import default_collate

from . import blend
from .blend import compiled
from .checks import check_choice, check_minmax, check_number
from .masks import FAMILIES, GMIX_KERNELS, Mask, Size, draw_mask, mixup_mask
from .presets import mixer_arguments
from .switch import SharedSwitch

MODES = ('batch', 'pair', 'elem', 'half')


def check_slots(mixup_alpha: Any, cutmix_alpha: Any, cutmix_minmax: Any, cutmix_mode: Any) -> None:
    """Raises ValueError unless the two slots of a mixer, Mixup's and CutMix's, are sound and one of them is in use."""
    check_number('mixup_alpha', mixup_alpha)
    check_number('cutmix_alpha', cutmix_alpha)
    check_choice('cutmix_mode', cutmix_mode, FAMILIES)
    if cutmix_minmax is not None:
        check_minmax('cutmix_minmax', cutmix_minmax)
        if cutmix_mode != 'bbox':
            raise ValueError(
                f"cutmix_minmax must be None with cutmix_mode='{cutmix_mode}', whose masks follow λ, "
                f'got {cutmix_minmax!r}'
            )
    elif mixup_alpha == 0 and cutmix_alpha == 0:
        raise ValueError(
            'mixup_alpha or cutmix_alpha must be > 0, or cutmix_minmax given, '
            f'got mixup_alpha={mixup_alpha!r}, cutmix_alpha={cutmix_alpha!r}'
        )


def check_mask_options(hmix_ratio: Any, hmix_gamma: Any, gmix_kernel: Any) -> None:
    """Raises ValueError unless the arguments of HMix and GMix are sound."""
    check_number('hmix_ratio', hmix_ratio, high=1.0)
    if hmix_gamma is not None:
        check_number('hmix_gamma', hmix_gamma, open_low=True)
    check_choice('gmix_kernel', gmix_kernel, GMIX_KERNELS)


def describe_slots(mixer: Any) -> str:
    """What a mixer draws, for people: 'HMix(alpha=1.0, ratio=0.75)', 'Mixup(alpha=1.0) | CutMix(alpha=1.0), ...'."""
    slots = []
    if mixer.mixup_alpha > 0:
        slots.append(f'Mixup(alpha={mixer.mixup_alpha:g})')
    if mixer.cutmix_alpha > 0:
        detail = {
            'bbox': '',
            'hmix': f', ratio={mixer.hmix_ratio:g}' if mixer.hmix_gamma is None else f', gamma={mixer.hmix_gamma:g}',
            'gmix': f', kernel={mixer.gmix_kernel}',
        }
        name = {'bbox': 'CutMix', 'hmix': 'HMix', 'gmix': 'GMix'}[mixer.cutmix_mode]
        alpha = f'alpha={mixer.cutmix_alpha:g}'
        if getattr(mixer, 'cutmix_minmax', None) is not None:
            alpha = f'minmax={tuple(mixer.cutmix_minmax)}'
        slots.append(f'{name}({alpha}{detail[mixer.cutmix_mode]})')
    text = ' | '.join(slots)
    return f'{text}, switch_prob={mixer.switch_prob:g}' if len(slots) == 2 else text


class Mixup(SharedSwitch, timm_mixup.Mixup):
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
        cutmix_mode (str): mask of the CutMix slot, 'bbox', 'hmix' or 'gmix'.
        hmix_ratio (float): HMix's r, 0 (Mixup) to 1 (CutMix); the box has (1 − λ) r of the image's area.
        hmix_gamma (float): draw r ~ Beta(gamma, gamma) for each λ in place of `hmix_ratio` if not None; > 0.
        gmix_kernel (str): GMix's Gaussian, 'reference' (what the published code trains) or 'paper' (as printed).
        **timm_kwargs: further arguments of the installed timm's `Mixup`.

    Raises:
        ValueError: an argument is out of its range; the message names it and says what is allowed.
    """

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
        *,
        cutmix_mode: str = 'bbox',
        hmix_ratio: float = 0.75,
        hmix_gamma: float | None = None,
        gmix_kernel: str = 'reference',
        **timm_kwargs: Any,
    ) -> None:
        check_slots(mixup_alpha, cutmix_alpha, cutmix_minmax, cutmix_mode)
        check_mask_options(hmix_ratio, hmix_gamma, gmix_kernel)
        check_number('prob', prob, high=1.0)
        check_number('switch_prob', switch_prob, high=1.0)
        check_choice('mode', mode, MODES)
        check_number('label_smoothing', label_smoothing, high=1.0)
        check_number('num_classes', num_classes, low=1)
        super().__init__(
            mixup_alpha=mixup_alpha,
            cutmix_alpha=cutmix_alpha,
            cutmix_minmax=cutmix_minmax,
            prob=prob,
            switch_prob=switch_prob,
            mode=mode,
            correct_lam=correct_lam,
            label_smoothing=label_smoothing,
            num_classes=num_classes,
            **timm_kwargs,
        )
        self.cutmix_mode = cutmix_mode
        self.hmix_ratio = hmix_ratio
        self.hmix_gamma = hmix_gamma
        self.gmix_kernel = gmix_kernel

    @classmethod
    def from_mode(cls, mode: str, preset: str = 'imagenet', **overrides: Any) -> 'Mixup':
        """A row of the paper's tables, with the hyper-parameters of its section 5.

        Args:
            mode: 'none', 'mixup', 'cutmix', 'stochastic', 'hmix' or 'gmix'. 'none' never mixes.
            preset: 'imagenet' or 'cifar100'.
            **overrides: constructor arguments that replace the row's or add to them.

        Raises:
            ValueError: mode or preset is unknown, or an argument is out of its range.
        """
        return cls(**{**mixer_arguments(mode, preset), **overrides})

    def __repr__(self) -> str:
        what = describe_slots(self) if self.mix_prob > 0 else 'no mixing'
        return (
            f'{type(self).__name__}({what}, mode={self.mode}, prob={self.mix_prob:g}, '
            f'label_smoothing={self.label_smoothing:g}, num_classes={self.num_classes})'
        )

    def _draw_batch(self, size: Size, draw_for_unmixed: bool = False) -> tuple[Mask | None, float]:
        """One mask and label weight for the whole batch; None where the batch stays as it is."""
        lam, use_cutmix = self._params_per_batch()
        if use_cutmix and (lam != 1.0 or draw_for_unmixed):
            mask, lam = draw_mask(size, lam, self)
            return mask, lam
        return (mixup_mask(lam), lam) if lam != 1.0 else (None, 1.0)

    def _draw_each(self, count: int, size: Size, middle: int | None = None) -> tuple[list[Mask | None], np.ndarray]:
        """A mask and a label weight for each of `count` elements; `middle`, its own partner, stays as it is."""
        lam_batch, use_cutmix = self._params_per_elem(count)
        if middle is not None:
            lam_batch[middle] = 1.0
        masks: list[Mask | None] = []
        for i, lam in enumerate(lam_batch):
            if lam == 1.0:
                masks.append(None)
            elif use_cutmix[i]:
                mask, lam_batch[i] = draw_mask(size, lam, self)
                masks.append(mask)
            else:
                masks.append(mixup_mask(lam))
        return masks, lam_batch

    def _draw_pairs(self, batch_size: int, size: Size) -> tuple[list[Mask | None], np.ndarray]:
        """A mask and a label weight for each sample, the same for both partners of a pair."""
        masks, lam = self._draw_each(batch_size // 2, size)
        middle = [None] * (batch_size % 2)
        return masks + middle + masks[::-1], np.concatenate((lam, np.ones(len(middle), lam.dtype), lam[::-1]))

    def _draw_elems(self, batch_size: int, size: Size) -> tuple[list[Mask | None], np.ndarray]:
        """A mask and a label weight for each sample."""
        return self._draw_each(batch_size, size, middle=batch_size // 2 if batch_size % 2 else None)

    def _mixed_target(self, target: torch.Tensor, lam: float | torch.Tensor) -> torch.Tensor:
        timm_kwargs = {'multi_label': self.multi_label} if hasattr(self, 'multi_label') else {}
        return timm_mixup.mixup_target(target, self.num_classes, lam, self.label_smoothing, **timm_kwargs)

    def __call__(self, x: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mixes a batch in place.

        Args:
            x: images (B, C, H, W), floating, on any device.
            target: class indices (B,), on the device of x.

        Returns:
            x, and the soft target (B, num_classes), float32 (float64 in pair and elem mode if x is, as in timm).
        """
        size = x.shape[-2], x.shape[-1]
        if self.mode in ('pair', 'elem'):
            draw = self._draw_pairs if self.mode == 'pair' else self._draw_elems
            masks, lam_batch = draw(len(x), size)
            dtype = np.float64 if x.dtype == torch.float64 else np.float32
            lam: float | torch.Tensor = blend.to_device(lam_batch.astype(dtype), x.device).unsqueeze(1)
        else:
            mask, lam = self._draw_batch(size)
            masks = [mask] * len(x)
        blend.mix_(x, masks)
        return x, self._mixed_target(target, lam)


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

    def __call__(  # type: ignore[override]  # a collate function, in timm too
        self, batch: Sequence[tuple[Any, Any]], _: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Collates and mixes.

        Args:
            batch: samples (image, target), each image a uint8 array or tensor (C, H, W).

        Returns:
            images (B, C, H, W) uint8 and the soft target (B, num_classes) float32; ⌈B / 2⌉ of both in mode 'half'.

        Raises:
            ValueError: an image is not uint8.
        """
        images = [sample[0].numpy() if isinstance(sample[0], torch.Tensor) else sample[0] for sample in batch]
        for image in images:
            if image.dtype != np.uint8:
                raise ValueError(f'FastCollateMixup takes uint8 images, got {image.dtype}; Mixup takes float batches')
        batch_size, size = len(images), (images[0].shape[-2], images[0].shape[-1])
        masks: list[Mask | None]
        lam: float | torch.Tensor
        if self.mode == 'batch':
            # timm draws its box here even where λ came out as 1
            mask, lam = self._draw_batch(size, draw_for_unmixed=True)
            masks = [mask] * batch_size
        elif self.mode == 'half':
            count = (batch_size + 1) // 2
            masks, lam_batch = self._draw_each(count, size, middle=count - 1 if batch_size % 2 else None)
            lam_batch = np.concatenate((lam_batch, np.ones(batch_size - count, lam_batch.dtype)))
        else:
            draw = self._draw_pairs if self.mode == 'pair' else self._draw_elems
            masks, lam_batch = draw(batch_size, size)
        output = torch.empty((len(masks), *images[0].shape), dtype=torch.uint8)
        loop = compiled.load()
        mix_uint8 = blend.mix_uint8 if loop is None else loop[1]
        mix_uint8(images, masks, output.numpy())
        if self.mode != 'batch':
            lam = torch.from_numpy(lam_batch.astype(np.float32)).unsqueeze(1)
        target = self._mixed_target(default_collate([sample[1] for sample in batch]), lam)
        return output, target[: len(output)]
