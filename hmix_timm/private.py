"""Everything of timm that is not its public interface, and what differs between its versions.

What would break if timm changed it stands beside each name; `tests/hmix_timm/test_private.py` notices.

* `timm.data.mixup.rand_bbox`, `rand_bbox_minmax`, `cutmix_bbox_and_lam`: the boxes. Called by these names, so that what
  somebody puts in their place is what is drawn.
* `timm.data.mixup.mixup_target`: smoothed soft targets. Up to timm 0.6.13 it takes the device, 'cuda' by default; from
  1.0.31 on `multi_label`.
* `Mixup._params_per_batch`, `_params_per_elem`: λ and the switch, in timm's order. Up to 0.6.13 the latter uses
  `np.bool`, which numpy 1.24 to 1.26 do not have.
* `Mixup._mix_batch`, `_mix_pair`, `_mix_elem` and `FastCollateMixup._mix_…_collate`: overridden in `mixup.py`.
"""

import inspect
from collections.abc import Callable, Sequence
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from timm.data import mixup as timm_mixup

from .masks import Size


def with_numpy(function: Any, **names: Any) -> Callable[..., Any]:
    """The same code with other names in its `np`."""
    numpy = SimpleNamespace(**{**vars(np), **names})
    return FunctionType(
        function.__code__, {**function.__globals__, 'np': numpy}, function.__name__, function.__defaults__
    )


def _clip(value: int, low: int, high: int) -> int:
    return min(max(value, low), high)


_TIMMS_RAND_BBOX = timm_mixup.rand_bbox
_TIMMS_BBOX_AND_LAM = timm_mixup.cutmix_bbox_and_lam
# a box costs timm about 25 µs, and 20 of them are numpy's clip of single numbers
_rand_bbox = with_numpy(timm_mixup.rand_bbox, clip=_clip)


def cutmix_box(size: Size, lam: float, minmax: Sequence[float] | None = None) -> Sequence[int]:
    """A CutMix box (yl, yh, xl, xh) as the installed timm draws it, or what somebody put in place of its functions."""
    if timm_mixup.cutmix_bbox_and_lam is not _TIMMS_BBOX_AND_LAM:
        return timm_mixup.cutmix_bbox_and_lam(size, lam, ratio_minmax=minmax, correct_lam=True)[0]
    if minmax is not None:
        return timm_mixup.rand_bbox_minmax(size, minmax)
    rand_bbox = timm_mixup.rand_bbox
    return _rand_bbox(size, lam) if rand_bbox is _TIMMS_RAND_BBOX else rand_bbox(size, lam)


_TARGET_PARAMETERS = inspect.signature(timm_mixup.mixup_target).parameters
TAKES_MULTI_LABEL = 'multi_label' in _TARGET_PARAMETERS
"""Whether the installed timm mixes dense multi-label targets."""


def mixup_target(
    target: torch.Tensor, num_classes: int, lam: float | torch.Tensor, smoothing: float, multi_label: bool = False
) -> torch.Tensor:
    """timm's soft target on the device of `target`, in every version of timm."""
    kwargs: dict[str, Any] = {}
    if TAKES_MULTI_LABEL:
        kwargs['multi_label'] = multi_label
    if 'device' in _TARGET_PARAMETERS:
        kwargs['device'] = target.device
    return timm_mixup.mixup_target(target, num_classes, lam, smoothing, **kwargs)


params_per_elem: Callable[..., Any] = timm_mixup.Mixup._params_per_elem
if 'bool' not in vars(np):
    params_per_elem = with_numpy(params_per_elem, bool=bool)
