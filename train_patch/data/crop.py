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

# Training arguments that leave no random resized crop to replace, or say what it should be like, with the values that
# do not.
_NO_CROP_LEFT = 'leaves no random resized crop to replace'
_ITS_OWN = 'belongs to the random resized crop that it replaces'
_NOT_BESIDE_IT: dict[str, tuple[str, tuple[Any, ...]]] = {
    'no_aug': (_NO_CROP_LEFT, (False, None)),
    'train_crop_mode': (_NO_CROP_LEFT, (None, '', 'rrc')),
    'aug_splits': (_NO_CROP_LEFT, (0, None)),
    'naflex_loader': (_NO_CROP_LEFT, (False, None)),
    'train_img_sizes': (_NO_CROP_LEFT, (None, [], ())),
    'scale': (_ITS_OWN, (None, [0.08, 1.0], (0.08, 1.0))),
    'ratio': (_ITS_OWN, (None, [3 / 4, 4 / 3], (3 / 4, 4 / 3))),
}


def use_padded_crop(transform: Any, padding: int) -> Any:
    """timm's training transform with a padded random crop in place of its random resized crop.

    An image that does not have the input size is first resized to it, as timm's `--no-aug` does; CIFAR's already has.

    Args:
        transform: what timm's `create_transform(..., is_training=True)` makes. It is not changed.
        padding: zero pixels added on every side before the crop, at least 1.

    Returns:
        A new `Compose` for PIL images: resize, pad and crop, then the rest of `transform`.

    Raises:
        ValueError: `transform` does not begin with timm's random resized crop, or `padding` is below 1.
    """
    if not isinstance(padding, int) or isinstance(padding, bool) or padding < 1:
        raise ValueError(f'padding must be an integer of at least 1, got {padding!r}')
    # not at the top: a command's --help need not wait for timm
    from timm.data.transforms import RandomResizedCropAndInterpolation
    from torchvision.transforms import Compose, InterpolationMode, RandomCrop, Resize

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


def declare_padding(parser: argparse.ArgumentParser) -> None:
    """Adds `--train-padding` to the parser of a script that has timm's arguments, and changes nothing else."""
    group = parser.add_argument_group('Padded crop (hmix-timm)')
    group.add_argument(
        '--train-padding',
        type=int,
        default=None,
        metavar='N',
        help='train on random crops of the image with N zero pixels around it, in place of the random resized crop; '
        'CIFAR uses 4 (default: off)',
    )


def check_padding(args: argparse.Namespace) -> None:
    """Raises ValueError for a wrong `--train-padding`, or one that another training argument leaves without effect.

    argparse does not see a recipe's value, which timm's scripts pass on as a default.
    """
    padding = args.train_padding
    if padding is None:
        return
    if not isinstance(padding, int) or isinstance(padding, bool) or padding < 0:
        raise ValueError(f'--train-padding must be an integer of at least 0 (0: off), got {padding!r}')
    if padding == 0:
        return
    for name, (reason, allowed) in _NOT_BESIDE_IT.items():
        value = getattr(args, name, allowed[0])
        if value not in allowed:
            shown = ' '.join(map(str, value)) if isinstance(value, (list, tuple)) else value
            raise ValueError(f'--train-padding is not allowed with --{name.replace("_", "-")} {shown}, which {reason}')


def add_crop_argument(parser: argparse.ArgumentParser) -> None:
    """Declares `--train-padding` and has `parser.parse_args` check it; calling this again changes nothing.

    A wrong value is the parser's error (exit status 2).
    """
    if '--train-padding' in parser._option_string_actions:
        return
    declare_padding(parser)
    parse_args = parser.parse_args

    @functools.wraps(parse_args)
    def parse_and_check(*args: Any, **kwargs: Any) -> argparse.Namespace:
        namespace = parse_args(*args, **kwargs)
        try:
            check_padding(namespace)
        except ValueError as error:
            parser.error(str(error))
        return namespace

    parser.parse_args = parse_and_check  # type: ignore[method-assign, assignment]
