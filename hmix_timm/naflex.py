"""`NaFlexMixup`: timm's mixer for variable-sized images, with HMix and GMix over the overlap of two images."""

import random
from collections.abc import Sequence
from typing import Any

import timm
import torch
from torch.utils.data import default_collate

from . import blend
from .checks import check_count, check_labels, check_mixer
from .draws import NAFLEX_DRAWS
from .families import Slot
from .masks import Size
from .mixup import describe
from .switch import SharedSwitch

try:
    import timm.data.naflex_mixup as timm_naflex
except ImportError as error:
    raise ImportError(
        'NaFlexMixup needs timm.data.naflex_mixup, which came with timm 1.0.20; '
        f'it cannot be imported from timm {timm.__version__}: {error}'
    ) from error


class NaFlexMixup(Slot, SharedSwitch, timm_naflex.NaFlexMixup):
    """`timm.data.NaFlexMixup` with HMix and GMix.

    Neighbours in aspect ratio are mixed over the central region that both images cover; pairs, λ and CutMix boxes are
    the installed timm's own. HMix and GMix draw their mask over that region, for each image anew, and the label weight
    of an image is the mean of its mask over the whole image (1 outside the region).

    Args:
        num_classes (int): number of classes of the target.
        mixup_alpha (float): Mixup's Beta parameter, 0 disables Mixup.
        cutmix_alpha (float): the CutMix slot's Beta parameter, 0 disables the slot.
        switch_prob (float): probability of the CutMix slot when both are active, 0 to 1.
        prob (float): probability of mixing a batch, 0 to 1.
        local_shuffle (int): window in which images are shuffled after they are sorted by aspect ratio.
        label_smoothing (float): label smoothing of the target, 0 to 1.
        mixup_off_epoch (int): mix no more from this epoch on, told by `set_epoch`; 0 mixes always.
        cutmix_mode (str): mask of the CutMix slot: 'bbox', 'hmix', 'gmix', or a family of your own; see `Mixup`.
        **options: the family's options, and further arguments of the installed timm's `NaFlexMixup`.

    Raises:
        ValueError: an argument is out of its range; the message names it and says what is allowed.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        mixup_alpha: float = 0.8,
        cutmix_alpha: float = 1.0,
        switch_prob: float = 0.5,
        prob: float = 1.0,
        local_shuffle: int = 4,
        label_smoothing: float = 0.0,
        mixup_off_epoch: int = 0,
        cutmix_mode: str = 'bbox',
        **options: Any,
    ) -> None:
        timm_kwargs = self._set_family(cutmix_mode, options)
        check_mixer(self.family, mixup_alpha, cutmix_alpha, None, prob, switch_prob, label_smoothing, num_classes)
        check_count('local_shuffle', local_shuffle)
        check_count('mixup_off_epoch', mixup_off_epoch)
        self.mixup_enabled = True
        self.mixup_off_epoch = 0
        super().__init__(
            num_classes=num_classes,
            mixup_alpha=mixup_alpha,
            cutmix_alpha=cutmix_alpha,
            switch_prob=switch_prob,
            prob=prob,
            local_shuffle=local_shuffle,
            label_smoothing=label_smoothing,
            **timm_kwargs,
        )
        self.mixup_off_epoch = mixup_off_epoch

    def __repr__(self) -> str:
        return (
            f'{type(self).__name__}({describe(self)}, prob={self.prob:g}, '
            f'label_smoothing={self.smoothing:g}, num_classes={self.num_classes})'
        )

    def set_epoch(self, epoch: int) -> None:
        """Turns mixing off from `mixup_off_epoch` on, and on before it; without one, leaves the switch alone."""
        if self.mixup_off_epoch:
            self.mixup_enabled = epoch < self.mixup_off_epoch

    def __call__(
        self, imgs: Sequence[torch.Tensor], targets: Any
    ) -> tuple[Sequence[torch.Tensor], Sequence[torch.Tensor]]:
        """Mixes a batch of images of different sizes; the images given are not written to.

        Args:
            imgs: images (C, H, W), floating or uint8.
            targets: class indices (B,).

        Returns:
            mixed images, in order and shapes as given, and a soft target (num_classes,) float32 for each.

        Raises:
            ValueError: targets do not hold a class index for each image, or an image is no tensor or complex.
        """
        if not isinstance(targets, torch.Tensor):
            targets = default_collate(targets)
        timm_kwargs = {'multi_label': self.multi_label} if hasattr(self, 'multi_label') else {}
        check_labels(targets, len(imgs), self.num_classes, 'multi_label=True' if any(timm_kwargs.values()) else '')
        for index, image in enumerate(imgs):
            if not isinstance(image, torch.Tensor) or image.is_complex():
                got = image.dtype if isinstance(image, torch.Tensor) else f'a {type(image).__name__}'
                raise ValueError(f'NaFlexMixup takes images as real tensors (C, H, W), got {got} at index {index}')
        if len(imgs) < 2 or not self.mixup_enabled or random.random() > self.prob:
            pair_to: dict[int, int] = {}
            lam_list = [1.0] * len(imgs)
        else:
            imgs, lam_list, pair_to = self._mix(imgs)
        targets = timm_naflex.pairwise_mixup_target(
            targets, pair_to, lam_list, num_classes=self.num_classes, smoothing=self.smoothing, **timm_kwargs
        )
        return imgs, targets.unbind(0)

    def _mix(self, imgs: Sequence[torch.Tensor]) -> tuple[list[torch.Tensor], list[float], dict[int, int]]:
        mixup_alpha, cutmix_alpha = self.mixup_alpha, self.cutmix_alpha
        if mixup_alpha > 0.0 and cutmix_alpha > 0.0:
            if torch.rand(()).item() < self.switch_prob:
                mixup_alpha = 0.0
            else:
                cutmix_alpha = 0.0
        if self.family.timms_own or not cutmix_alpha:
            return timm_naflex.mix_batch_variable_size(
                list(imgs), mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha, local_shuffle=self.local_shuffle
            )
        # timm draws λ and makes the pairs in one go. Images without channels cost it nothing to mix, and as Mixup it
        # draws no more than that; λ is drawn beforehand from the same state of the generator to be known.
        state = torch.get_rng_state()
        lam = torch.distributions.Beta(cutmix_alpha, cutmix_alpha).sample().item()
        torch.set_rng_state(state)
        _, _, pair_to = timm_naflex.mix_batch_variable_size(
            [img[:0] for img in imgs], mixup_alpha=cutmix_alpha, cutmix_alpha=0.0, local_shuffle=self.local_shuffle
        )
        mixed, lam_list = list(imgs), [1.0] * len(imgs)
        for i, own in enumerate(imgs):
            if i in pair_to:
                mixed[i], lam_list[i] = _mix_overlap(own, imgs[pair_to[i]], lam, self)
        return mixed, lam_list, pair_to


def _mix_overlap(own: torch.Tensor, other: torch.Tensor, lam: float, slot: Slot) -> tuple[torch.Tensor, float]:
    """A copy of `own` with `other` mixed in over the central region that both cover, and its label weight."""
    size = min(own.shape[-2], other.shape[-2]), min(own.shape[-1], other.shape[-1])
    mixed = own.clone()
    images = _central(mixed, size), _central(other, size)
    mask, weight = slot.draw_mask(size, lam, NAFLEX_DRAWS, images=images)
    blend.blend_(*images, mask)
    return mixed, 1.0 - (1.0 - weight) * (size[0] * size[1]) / (own.shape[-2] * own.shape[-1])


def _central(image: torch.Tensor, size: Size) -> torch.Tensor:
    top, left = (image.shape[-2] - size[0]) // 2, (image.shape[-1] - size[1]) // 2
    return image[..., top : top + size[0], left : left + size[1]]
