"""The CIFAR crop: pad the image, cut the input size out at random. timm's transforms cannot express it.

timm's training transform starts with a random resized crop (`--train-crop-mode rrc`), with a random rescaling
(`rkrc`, `rkrr`) or, under `--no-aug`, with no random crop at all. The published CIFAR settings crop without
rescaling: four zero pixels on every side, then 32×32 at random, then a flip. `--train-padding 4` puts that crop
in the place of timm's random resized crop and leaves the rest of the transform (flip, colour, …) as timm made it.
"""

import argparse
import functools
import inspect
from collections.abc import Callable
from typing import Any

_BESIDE_IT: dict[str, tuple[Any, ...]] = {
    'no_aug': (False, None),
    'train_crop_mode': (None, '', 'rrc'),
    'aug_splits': (0, None),
    'naflex_loader': (False, None),
    'train_img_sizes': (None, ()),
    'scale': (None, (0.08, 1.0)),
    'ratio': (None, (3 / 4, 4 / 3)),
}
"""Arguments that other crops depend on → values with which there is a random resized crop as timm has it by default."""


def use_padded_crop(transform: Any, padding: int) -> Any:
    """Puts a padded random crop in the place of the random resized crop of timm's training transform.

    An image that does not have the input size is first resized to it, as timm's `--no-aug` does; CIFAR's already has.

    Args:
        transform: from timm's `create_transform(..., is_training=True)`. It is not changed.
        padding: zero pixels added on every side before the crop.

    Returns:
        A new `Compose` for PIL images: resize, pad and crop, then the rest of `transform`.

    Raises:
        ValueError: `transform` does not begin with timm's random resized crop.
    """
    # not at the top: a command's --help need not wait for timm
    from timm.data.transforms import RandomResizedCropAndInterpolation
    from torchvision.transforms import Compose, InterpolationMode, RandomCrop, Resize

    first, *others = getattr(transform, 'transforms', None) or [None]
    if not isinstance(first, RandomResizedCropAndInterpolation):
        raise ValueError(
            'a padded crop takes the place of the random resized crop at the head of a training transform; '
            f'there is none in {transform!r}'
        )
    interpolation = first.interpolation
    if not isinstance(interpolation, InterpolationMode):  # 'random' holds a choice of several
        interpolation = InterpolationMode.BILINEAR
    return Compose([Resize(first.size, interpolation), RandomCrop(first.size, padding=padding), *others])


def padded_crop_loader(create_loader: Callable[..., Any], padding: int | None) -> Callable[..., Any]:
    """Wraps timm's `create_loader` so that the training loaders that it makes have the padded crop.

    Loader workers start with the first iteration, so they use a transform that is exchanged before it.

    Args:
        create_loader: `timm.data.create_loader`.
        padding: zero pixels on every side; 0 or None returns `create_loader` itself.

    Returns:
        A function with `create_loader`'s signature. It raises ValueError for a training loader whose transform has no
        random resized crop. Loaders for evaluation are left alone.
    """
    if not padding:
        return create_loader
    signature = inspect.signature(create_loader)

    @functools.wraps(create_loader)
    def create_padded_crop_loader(*args: Any, **kwargs: Any) -> Any:
        loader = create_loader(*args, **kwargs)
        arguments = signature.bind(*args, **kwargs).arguments
        if arguments.get('is_training', False):
            dataset = arguments['dataset']
            dataset.transform = use_padded_crop(dataset.transform, padding)
        return loader

    return create_padded_crop_loader


def declare_padding(parser: argparse.ArgumentParser) -> None:
    """Adds `--train-padding` to the parser of a script that has timm's arguments."""
    group = parser.add_argument_group('Padded crop (hmix-timm)')
    group.add_argument(
        '--train-padding',
        type=int,
        metavar='N',
        help='train on random crops of the image with N zero pixels around it, in place of the random resized crop; '
        'CIFAR uses 4 (default: off)',
    )


def check_padding(args: argparse.Namespace) -> None:
    """Raises ValueError for a wrong `--train-padding`, or another argument that contradicts it.

    argparse does not check a recipe's value, which timm's scripts pass on as a default.
    """
    padding = args.train_padding
    if padding is not None and (not isinstance(padding, int) or isinstance(padding, bool) or padding < 0):
        raise ValueError(f'--train-padding must be an integer of at least 0 (0: off), got {padding!r}')
    for name, allowed in _BESIDE_IT.items() if padding else ():
        value = getattr(args, name, None)
        value = tuple(value) if isinstance(value, list) else value
        if value not in allowed:
            shown = ' '.join(map(str, value)) if isinstance(value, tuple) else value
            raise ValueError(
                f'--train-padding takes the place of the random resized crop and cannot go with '
                f'--{name.replace("_", "-")} {shown}'
            )
