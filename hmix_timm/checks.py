"""Checks of the mixers' arguments and of batches: what is wrong fails early, in a message that says what is allowed."""

import math
import sys
from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any


def check_number(name: str, value: Any, low: float = 0.0, high: float = math.inf, *, open_low: bool = False) -> None:
    """Raises ValueError unless value is a finite number in [low, high], or in (low, high] with `open_low`."""
    bounds = f'{">" if open_low else ">="} {low:g}' if high == math.inf else f'between {low:g} and {high:g}'
    number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not low <= value <= high or (open_low and value == low):
        raise ValueError(f'{name} must be a finite number {bounds}, got {value!r}')


def check_alpha(name: str, value: Any) -> None:
    """Raises ValueError unless value is 0, or a parameter with which numpy draws from a Beta distribution."""
    check_number(name, value)
    if 0.0 < value < sys.float_info.min:  # numpy's numbers are nan there
        raise ValueError(f'{name} must be 0 or at least {sys.float_info.min:g}, got {value!r}')


def check_choice(name: str, value: Any, choices: Iterable[str]) -> None:
    """Raises ValueError unless value is one of the choices."""
    choices = tuple(choices)
    if value not in choices:
        raise ValueError(f'{name} must be one of {", ".join(choices)}, got {value!r}')


def check_minmax(name: str, value: Any) -> None:
    """Raises ValueError unless value is a pair of image fractions min < max."""
    pair = isinstance(value, (tuple, list)) and len(value) == 2 and all(isinstance(v, Real) for v in value)
    if not pair or not 0.0 <= value[0] < value[1] <= 1.0:  # not a number is not in order
        raise ValueError(f'{name} must be two image fractions, 0 <= min < max <= 1, got {value!r}')


def check_count(name: str, value: Any, low: int = 0) -> None:
    """Raises ValueError unless value is a whole number of at least `low`."""
    if not isinstance(value, Integral) or isinstance(value, bool) or value < low:
        raise ValueError(f'{name} must be a whole number >= {low}, got {value!r}')


def check_mixer(
    family: Any,
    mixup_alpha: Any,
    cutmix_alpha: Any,
    cutmix_minmax: Any,
    prob: Any,
    switch_prob: Any,
    label_smoothing: Any,
    num_classes: Any,
) -> None:
    """Raises ValueError for a mixer's argument that is out of its range, and where neither slot would be in use."""
    check_alpha('mixup_alpha', mixup_alpha)
    check_alpha('cutmix_alpha', cutmix_alpha)
    check_number('prob', prob, high=1.0)
    check_number('switch_prob', switch_prob, high=1.0)
    check_number('label_smoothing', label_smoothing, high=1.0)
    check_count('num_classes', num_classes, low=1)
    beside = f"with cutmix_mode='{family.name}', which"
    if cutmix_minmax is not None:
        check_minmax('cutmix_minmax', cutmix_minmax)
        if not family.timms_own:
            raise ValueError(f'cutmix_minmax must be None {beside} draws its masks from λ, got {cutmix_minmax!r}')
    elif cutmix_alpha == 0 and not family.timms_own:
        raise ValueError(f'cutmix_alpha must be > 0 {beside} is the mask of the CutMix slot, got {cutmix_alpha!r}')
    elif mixup_alpha == 0 and cutmix_alpha == 0 and prob > 0:
        raise ValueError(
            'mixup_alpha or cutmix_alpha must be > 0, or cutmix_minmax given, '
            f'got mixup_alpha={mixup_alpha!r}, cutmix_alpha={cutmix_alpha!r}'
        )


def check_images(images: Any, in_place: bool = True) -> None:
    """Raises ValueError for images that cannot be mixed: no tensor, complex, or in place where pixels share memory."""
    if not hasattr(images, 'is_complex'):
        raise ValueError(f'images must be a tensor, got a {type(images).__name__}')
    if images.is_complex():
        raise ValueError(f'images must be real, got {images.dtype}')
    if in_place and not images.is_contiguous():
        reach = 0
        for stride, length in sorted(zip(images.stride(), images.shape, strict=True)):
            if length > 1 and stride <= reach:
                raise ValueError(
                    'images must not share memory, as those of expand() and unfold() do: mix images.contiguous()'
                )
            reach += stride * (length - 1)


def check_labels(target: Any, batch_size: int, num_classes: int, rows: str = '') -> None:
    """Raises ValueError unless there is a label for each image.

    Args:
        target: class indices (batch_size,) or (batch_size, 1), or rows of numbers. On a device, whether the indices
            are within the classes is not looked at: the host would have to wait for it.
        batch_size: number of images.
        num_classes: number of classes.
        rows: the argument that asks for rows (batch_size, num_classes); '' for class indices.
    """
    tensor = hasattr(target, 'is_floating_point')
    shape = tuple(target.shape) if tensor else ()
    got = f'got shape {shape}' if tensor else f'got a {type(target).__name__}'
    if rows:
        if shape != (batch_size, num_classes):
            raise ValueError(f'{rows} takes a target of shape {batch_size, num_classes}, {got}')
        return
    if len(shape) == 2 and shape[0] == batch_size and shape[1] != 1:
        raise ValueError(
            f'target must hold class indices, shape ({batch_size},), got one-hot or soft labels {shape}; '
            'Mixup and FastCollateMixup take those with soft_labels=True'
        )
    if not tensor or shape not in ((batch_size,), (batch_size, 1)):
        raise ValueError(f'target must hold one class index for each of {batch_size} images, {got}')
    if target.is_floating_point() or target.is_complex():
        raise ValueError(f'target must hold class indices of an integer dtype, got {target.dtype}')
    if batch_size and target.device.type == 'cpu':
        low, high = map(int, target.long().aminmax())
        if low < 0 or high >= num_classes:
            raise ValueError(
                f'target must hold class indices from 0 to num_classes - 1 = {num_classes - 1}, '
                f'got {low if low < 0 else high}'
            )
