"""The CIFAR crop: pad the image, cut the input size out at random. timm's transforms cannot express it.

timm's training transform starts with a random resized crop (`--train-crop-mode rrc`), with a random rescaling
(`rkrc`, `rkrr`) or, under `--no-aug`, with no random crop at all. The published CIFAR settings crop without
rescaling: four zero pixels on every side, then 32×32 at random, then a flip. `--train-padding 4` puts that crop
where timm's random resized crop stands and leaves the rest of the transform (flip, colour, …) as timm made it.
"""

import argparse
import functools
import inspect
from collections.abc import Callable
from typing import Any

from timm.data.transforms import RandomResizedCropAndInterpolation
from torchvision.transforms import Compose, InterpolationMode, RandomCrop, Resize

# Training arguments that leave no random resized crop to replace, with the values that do leave one.
_NO_CROP_LEFT: dict[str, tuple[Any, ...]] = {
    'no_aug': (False, None),
    'train_crop_mode': (None, '', 'rrc'),
    'aug_splits': (0, None),
    'naflex_loader': (False, None),
    'train_img_sizes': (None, [], ()),
}


def use_padded_crop(transform: Any, padding: int) -> Compose:
    """timm's training transform with a padded random crop in place of its random resized crop.

    An image that does not have the input size is first resized to it, as timm's `--no-aug` does; CIFAR's already has.

    Args:
        transform: what timm's `create_transform(..., is_training=True)` makes. It is not changed.
        padding: zero pixels added on every side before the crop, at least 1.

    Returns:
        A new transform of PIL images: resize, pad and crop, then the rest of `transform`.

    Raises:
        ValueError: `transform` does not begin with timm's random resized crop, or `padding` is below 1.
    """
    if not isinstance(padding, int) or isinstance(padding, bool) or padding < 1:
        raise ValueError(f'padding must be an integer of at least 1, got {padding!r}')
    steps = list(getattr(transform, 'transforms', ()))
    if not steps or not isinstance(steps[0], RandomResizedCropAndInterpolation):
        raise ValueError(
            'a padded crop takes the place of the random resized crop at the head of a training transform; '
            f'there is none in {transform!r}'
        )
    size, interpolation = steps[0].size, steps[0].interpolation
    if not isinstance(interpolation, InterpolationMode):  # 'random' holds a choice of several
        interpolation = InterpolationMode.BILINEAR
    return Compose([Resize(size, interpolation), RandomCrop(size, padding=padding), *steps[1:]])


def padded_crop_loader(create_loader: Callable[..., Any], padding: int | None) -> Callable[..., Any]:
    """timm's `create_loader`, with the padded crop in the training loaders that it makes.

    Loader workers start with the first iteration, so a transform that is exchanged before it is the one they use.

    Args:
        create_loader: `timm.data.create_loader`.
        padding: zero pixels on every side; 0 or None returns `create_loader` itself.

    Returns:
        A function with `create_loader`'s signature. It raises ValueError for a training loader with augmentation
        splits, or whose transform has no random resized crop. Loaders for evaluation are left alone.
    """
    if not padding:
        return create_loader
    signature = inspect.signature(create_loader)

    @functools.wraps(create_loader)
    def create_padded_crop_loader(*args: Any, **kwargs: Any) -> Any:
        arguments = signature.bind(*args, **kwargs).arguments
        if arguments.get('num_aug_splits', 0):
            raise ValueError('a padded crop cannot be used with augmentation splits')
        loader = create_loader(*args, **kwargs)
        if arguments.get('is_training', False):
            dataset = arguments['dataset']
            dataset.transform = use_padded_crop(dataset.transform, padding)
        return loader

    return create_padded_crop_loader


def add_crop_argument(parser: argparse.ArgumentParser) -> None:
    """Declares `--train-padding` and has `parser.parse_args` check it; calling this again changes nothing.

    A wrong value, or one that another training argument leaves without effect, is the parser's error (exit status 2).

    Args:
        parser: the parser of a training script that has timm's arguments.
    """
    if '--train-padding' in parser._option_string_actions:
        return
    declare_crop(parser)
    # taken now, before a recipe replaces them
    resized_crop_defaults = {name: parser.get_default(name) for name in ('scale', 'ratio')}
    parse_args = parser.parse_args

    @functools.wraps(parse_args)
    def parse_and_check(*args: Any, **kwargs: Any) -> argparse.Namespace:
        namespace = parse_args(*args, **kwargs)
        try:
            check_crop(namespace, resized_crop_defaults)
        except ValueError as error:
            parser.error(str(error))
        return namespace

    parser.parse_args = parse_and_check  # type: ignore[method-assign, assignment]


def declare_crop(parser: argparse.ArgumentParser) -> None:
    """Adds `--train-padding` to a parser, and changes nothing else."""
    group = parser.add_argument_group('Padded crop (train_patch)')
    group.add_argument(
        '--train-padding',
        type=int,
        default=None,
        metavar='N',
        help='Train on random crops of the image with N zero pixels around it, in place of the random resized crop; '
        'CIFAR uses 4 (default: None, off)',
    )


def check_crop(namespace: argparse.Namespace, resized_crop_defaults: dict[str, Any]) -> None:
    """Raises ValueError for a `--train-padding` that is wrong, or that another training argument leaves without effect.

    The value may come from `parser.set_defaults`, as timm's scripts pass a YAML recipe on, which argparse itself does
    not check.

    Args:
        namespace: parsed arguments.
        resized_crop_defaults: the parser's own defaults of `scale` and `ratio`, which would be without effect.
    """
    problem = _find_problem(namespace, resized_crop_defaults)
    if problem:
        raise ValueError(problem)


def _find_problem(namespace: argparse.Namespace, resized_crop_defaults: dict[str, Any]) -> str | None:
    padding = namespace.train_padding
    if padding is None:
        return None
    if not isinstance(padding, int) or isinstance(padding, bool) or padding < 0:
        return f'argument --train-padding: must be an integer of at least 0 (0: off), got {padding!r}'
    if padding == 0:
        return None
    for name, allowed in _NO_CROP_LEFT.items():
        value = getattr(namespace, name, allowed[0])
        if value not in allowed:
            return _conflict(name, value, 'leaves no random resized crop to replace')
    for name, default in resized_crop_defaults.items():
        value = getattr(namespace, name, default)
        if value != default:
            return _conflict(name, value, 'belongs to the random resized crop that it replaces')
    return None


def _conflict(name: str, value: Any, reason: str) -> str:
    return f'argument --train-padding: not allowed with --{name.replace("_", "-")} {value}, which {reason}'
