"""From resolved arguments to a mixer, and whether one can be made of them."""

import argparse
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hmix_timm.modes import mix_modes, puzzle_arguments

from .resolve import CONSTRUCTOR_NAMES, option_name, slot_overrides

if TYPE_CHECKING:
    from hmix_timm.puzzle.saliency import Saliency


def needs_model(values: Mapping[str, Any]) -> bool:
    """Whether resolved values ask for a mode that mixes in the training loop, where the model is: PuzzleMix."""
    mode = values.get('mix_mode')
    return mode is not None and mix_modes()[mode].needs_model


def puzzle_mixer_from(args: argparse.Namespace, saliency: 'Saliency', std: Sequence[float], make: Any = None) -> Any:
    """PuzzleMix for resolved arguments that ask for it.

    Args:
        args: resolved.
        saliency: of images, for example `hmix_timm.input_gradient(model)`.
        std: what the images are divided by, for each channel.
        make: the class, `hmix_timm.PuzzleMix` if left out.
    """
    import hmix_timm

    return (make or hmix_timm.PuzzleMix)(
        saliency,
        **{**puzzle_arguments(args.mix_preset), 'alpha': args.mix_alpha},
        prob=args.mixup_prob,
        label_smoothing=args.smoothing,
        num_classes=args.num_classes,
        std=std,
    )


def slot_arguments_from(args: argparse.Namespace) -> dict[str, Any]:
    """The part of the constructor arguments that timm's scripts do not pass: which mask the CutMix slot draws."""
    overrides = slot_overrides(vars(args))
    return {name: value for name, value in overrides.items() if name not in CONSTRUCTOR_NAMES.values()}


def mixing_active(args: argparse.Namespace) -> bool:
    """Whether timm's scripts build a mixer for these arguments."""
    return args.mixup > 0 or args.cutmix > 0 or args.cutmix_minmax is not None


def mixer_arguments_from(args: argparse.Namespace) -> dict[str, Any]:
    """Constructor arguments of `Mixup` and `FastCollateMixup` for resolved arguments."""
    timms = {argument: getattr(args, dest) for dest, argument in CONSTRUCTOR_NAMES.items()}
    return {**timms, **slot_arguments_from(args)}


def check_mixing(args: argparse.Namespace) -> None:
    """Raises ValueError, naming the option, where the mixer for resolved arguments could not be built or used."""
    if not mixing_active(args):
        return
    if getattr(args, 'aug_splits', 0) or getattr(args, 'jsd_loss', False):
        option = '--jsd-loss' if getattr(args, 'jsd_loss', False) else f'--aug-splits {args.aug_splits}'
        raise ValueError(
            f'{option} compares augmentations of one image and cannot go with mixing; '
            'use --mix-mode none, or no augmentation splits'
        )
    if needs_model(vars(args)):
        _check_puzzlemix(args)
    import hmix_timm

    mixer_class: type = hmix_timm.Mixup
    arguments = {**mixer_arguments_from(args), 'num_classes': args.num_classes or 1}
    if getattr(args, 'naflex_loader', False):
        # timm's scripts would drop these on the way to their NaFlex mixer
        if args.cutmix_minmax is not None:
            raise ValueError(
                f'--cutmix-minmax {args.cutmix_minmax} cannot go with --naflex-loader, which takes --cutmix'
            )
        if args.mixup_mode != 'batch':
            raise ValueError(f'--mixup-mode must be batch with --naflex-loader, got {args.mixup_mode!r}')
        if args.mix_literal:
            raise ValueError('--mix-literal cannot go with --naflex-loader, whose label weights follow its masks')
        mixer_class = hmix_timm.NaFlexMixup
        arguments = {k: v for k, v in arguments.items() if k not in ('mode', 'cutmix_minmax')}
    try:
        mixer_class(**arguments)
    except ValueError as error:
        raise ValueError(in_options(error)) from error


def _check_puzzlemix(args: argparse.Namespace) -> None:
    """Raises ValueError for what PuzzleMix cannot go with, and where it lacks scipy."""
    option = f'--mix-mode {args.mix_mode}'
    if getattr(args, 'naflex_loader', False):
        raise ValueError(f'{option} cannot go with --naflex-loader: it cuts images of one size into blocks')
    if args.mixup_mode != 'batch':
        raise ValueError(f'--mixup-mode must be batch with {option}, got {args.mixup_mode!r}')
    if getattr(args, 'kd_model_name', None) and getattr(args, 'kd_distill_type', '') == 'feature':
        raise ValueError(f'{option} cannot go with --kd-distill-type feature, whose model gives no scores for classes')
    from hmix_timm.puzzle.cut import load_scipy

    try:
        load_scipy()
    except ImportError as error:
        raise ValueError(f'{option}: {error}') from error


def in_options(error: ValueError) -> str:
    """A mixer's complaint about a constructor argument in the words of the command line."""
    name, _, rest = str(error).partition(' ')
    dests = {argument: dest for dest, argument in CONSTRUCTOR_NAMES.items()}
    return f'{option_name(dests.get(name, name))} {rest}'
