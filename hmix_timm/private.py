"""Everything of timm that is not its public interface, and the differences between its versions.

What would break if timm changed it stands beside each name; `tests/hmix_timm/test_private.py` notices.

* `timm.data.mixup.cutmix_bbox_and_lam`, which draws boxes by `rand_bbox` and `rand_bbox_minmax`. The names are looked
  up for each box, so that a script may replace the functions.
* `timm.data.mixup.mixup_target`: smoothed soft targets. Up to timm 0.6.13 it takes the device, 'cuda' by default; from
  1.0.31 on `multi_label`.
* `Mixup._params_per_batch`, `_params_per_elem`: λ and the switch, in timm's order. Up to 0.6.13 the latter uses
  `np.bool`, which numpy 1.24 to 1.26 do not have.
* `Mixup._mix_batch`, `_mix_pair`, `_mix_elem` and `FastCollateMixup._mix_…_collate`: overridden in `mixup.py`.
"""

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from types import FunctionType, SimpleNamespace
from typing import Any

import numpy as np
import torch
from timm.data import mixup as timm_mixup

from .masks import Box, Size

_TIMMS = timm_mixup.cutmix_bbox_and_lam, timm_mixup.rand_bbox


def cutmix_box(size: Size, lam: float, minmax: Sequence[float] | None = None) -> Box:
    """A CutMix box (yl, yh, xl, xh), as the installed timm or a script's replacement of its functions draws it.

    `np.clip` takes three quarters of the time of timm's function: where its arithmetic is known, it is done here.
    """
    odd = None if minmax is not None else rounding()
    if odd is None:
        yl, yh, xl, xh = map(int, timm_mixup.cutmix_bbox_and_lam(size, lam, ratio_minmax=minmax, correct_lam=True)[0])
        # a replacement's may leave the image: timm mixes what slices make of it
        (yl, yh, _), (xl, xh, _) = slice(yl, yh).indices(size[0]), slice(xl, xh).indices(size[1])
        return yl, max(yl, yh), xl, max(xl, xh)
    return _box(size, lam, odd)


def _box(size: Size, lam: float, odd: int) -> Box:
    y = np.random.randint(0, size[0])
    x = np.random.randint(0, size[1])
    return box_around(size, lam, y, x, odd)


def box_around(size: Size, lam: float, y: int, x: int, odd: int) -> Box:
    """timm's box (yl, yh, xl, xh) around a pixel.

    Args:
        size: height and width of the image in pixels.
        lam: λ, in the dtype in which timm computes with it.
        y: row of the pixel.
        x: column of the pixel.
        odd: from `rounding`.
    """
    height, width = size
    ratio = np.sqrt(1 - lam)
    box_height, box_width = int(height * ratio), int(width * ratio)
    return (
        max(y - box_height // 2, 0),
        min(y + (box_height + odd) // 2, height),
        max(x - box_width // 2, 0),
        min(x + (box_width + odd) // 2, width),
    )


def rounding() -> int | None:
    """The `odd` of `box_around`: 1 from timm 1.0.31 on, 0 before.

    Returns:
        None where boxes are drawn in another way: by a newer timm, or by a script's replacement of timm's functions.
    """
    return _timms_rounding() if (timm_mixup.cutmix_bbox_and_lam, timm_mixup.rand_bbox) == _TIMMS else None


def put_before_boxes(around: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Puts functions around timm's that draw boxes, where scripts import them from; here they count as timm's own."""
    global _TIMMS
    for name in ('rand_bbox', 'rand_bbox_minmax', 'cutmix_bbox_and_lam'):
        setattr(timm_mixup, name, around(getattr(timm_mixup, name)))
    _TIMMS = timm_mixup.cutmix_bbox_and_lam, timm_mixup.rand_bbox


@lru_cache(maxsize=1)
def _timms_rounding() -> int | None:
    lams = (0.0, 0.1, 0.65, 0.99, 1.0, *np.array([0.1, 0.4, 0.8], np.float32))
    cases = [(size, lam) for size in ((1, 1), (7, 12), (32, 32), (224, 161)) for lam in lams * 2]

    def drawn(draw: Callable[[Size, float], Sequence[Any]]) -> list[tuple[Any, ...]]:
        np.random.seed(0)
        return [(*map(int, draw(*case)), np.random.random_sample()) for case in cases]

    state = np.random.get_state()
    try:
        timms = drawn(lambda size, lam: _TIMMS[0](size, lam)[0])
        return next((odd for odd in (1, 0) if drawn(partial(_box, odd=odd)) == timms), None)
    finally:
        np.random.set_state(state)


_TARGET_PARAMETERS = inspect.signature(timm_mixup.mixup_target).parameters
TAKES_MULTI_LABEL = 'multi_label' in _TARGET_PARAMETERS
"""Whether the installed timm mixes dense multi-label targets."""


def mixup_target(
    target: torch.Tensor,
    num_classes: int,
    lam: float | torch.Tensor,
    smoothing: float,
    multi_label: bool = False,
    soft_labels: bool = False,
) -> torch.Tensor:
    """timm's soft target on the device of `target`, in every version of timm; none of them takes soft labels."""
    if soft_labels:
        own = target.float() * (1.0 - smoothing) + smoothing / num_classes
        return own * lam + own.flip(0) * (1.0 - lam)
    known = {'multi_label': multi_label, 'device': target.device}
    kwargs = {name: value for name, value in known.items() if name in _TARGET_PARAMETERS}
    return timm_mixup.mixup_target(target, num_classes, lam, smoothing, **kwargs)


params_per_elem: Callable[..., Any] = timm_mixup.Mixup._params_per_elem
if 'device' in _TARGET_PARAMETERS and 'bool' not in vars(np):  # timm up to 0.6.13 beside numpy 1.26
    _names = {**params_per_elem.__globals__, 'np': SimpleNamespace(**vars(np), bool=bool)}
    params_per_elem = FunctionType(params_per_elem.__code__, _names)
