"""`Mixing`: what a command line and a recipe ask for, and the mixers that are made of it."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hmix_timm.modes import mix_modes, puzzle_arguments

if TYPE_CHECKING:
    from hmix_timm.puzzle.saliency import Saliency

TIMMS = {
    'mixup': 'mixup_alpha',
    'cutmix': 'cutmix_alpha',
    'cutmix_minmax': 'cutmix_minmax',
    'mixup_switch_prob': 'switch_prob',
}
"""timm's options that `--mix-mode` replaces → constructor arguments of its mixers."""

KEPT = {'mixup_prob': 'prob', 'mixup_mode': 'mode', 'smoothing': 'label_smoothing'}
"""timm's options that `--mix-mode` leaves alone → constructor arguments of its mixers."""

SELECTORS = ('mix_mode', 'cutmix_mode')
"""The options of which one chooses what is drawn."""


def option_name(dest: str) -> str:
    """'hmix_ratio' → '--hmix-ratio'."""
    return '--' + dest.replace('_', '-')


@dataclass(frozen=True)
class Mixing:
    """How a run mixes.

    Args:
        values: a plain value for each option that was resolved, as `args.yaml` records it.
        slots: constructor arguments that replace those that a timm script passes, too: alphas, limits, switch.
        mask: constructor arguments that no timm script passes: the mask of the CutMix slot and its options.
        kept: constructor arguments that stay as timm's other options say.
        replaced: 'replaced by --mix-mode hmix: --mixup 0.8' for the log; '' if nothing that was given is replaced.
    """

    values: Mapping[str, Any]
    slots: Mapping[str, Any] = field(default_factory=dict)
    mask: Mapping[str, Any] = field(default_factory=dict)
    kept: Mapping[str, Any] = field(default_factory=dict)
    replaced: str = ''

    @property
    def mode(self) -> str | None:
        """The mix mode."""
        return self.values['mix_mode']

    @property
    def asked(self) -> str:
        """'--mix-mode hmix' or '--cutmix-mode gmix'; '' if neither was given."""
        return next((f'{option_name(d)} {self.values[d]}' for d in SELECTORS if self.values[d]), '')

    @property
    def active(self) -> bool:
        """Whether timm's scripts make a mixer: one of timm's own options is on."""
        return any(self.values[dest] for dest in ('mixup', 'cutmix', 'cutmix_minmax'))

    @property
    def needs_model(self) -> bool:
        """Whether the training loop mixes, where the model is: PuzzleMix."""
        return self.mode is not None and mix_modes()[self.mode].needs_model

    @property
    def overrides(self) -> dict[str, Any]:
        """Constructor arguments that replace those of any script; {} without `--mix-mode` and `--cutmix-mode`."""
        return {**self.slots, **self.mask}

    def mixer(self, mixer_class: Callable[..., Any], num_classes: int) -> Any:
        """Makes `Mixup`, `FastCollateMixup` or a subclass.

        Raises:
            ValueError: an argument is wrong; the message names the option.
        """
        timms = {argument: self.values[dest] for dest, argument in TIMMS.items()}
        try:
            return mixer_class(**{**timms, **self.kept, **self.overrides, 'num_classes': num_classes})
        except ValueError as error:
            raise in_options(error) from error

    def puzzle(self, saliency: 'Saliency', std: Sequence[float], num_classes: int, make: Any = None) -> Any:
        """Makes PuzzleMix, for a mixing that `needs_model`.

        Args:
            saliency: of images, for example `hmix_timm.input_gradient(model)`.
            std: standard deviation by which each channel of the images is divided.
            num_classes: number of classes.
            make: the class; `hmix_timm.PuzzleMix` if None.
        """
        import hmix_timm

        return (make or hmix_timm.PuzzleMix)(
            saliency,
            **{**puzzle_arguments(self.values['mix_preset']), 'alpha': self.values['mix_alpha']},
            prob=self.kept['prob'],
            label_smoothing=self.kept['label_smoothing'],
            num_classes=num_classes,
            std=std,
        )


def in_options(error: ValueError) -> ValueError:
    """The error of a mixer's constructor in terms of the command line."""
    dests = {argument: dest for dest, argument in {**TIMMS, **KEPT}.items()}
    name, _, rest = str(error).partition(' ')
    return ValueError(f'{option_name(dests.get(name, name))} {rest}')


def check_mixing(mixing: Mixing, args: argparse.Namespace) -> None:
    """Raises ValueError, naming the option, if the mixer cannot be made or cannot go with other options of a run."""
    if not mixing.active:
        return
    given = vars(args).get
    splits = '--jsd-loss' if given('jsd_loss') else f'--aug-splits {given("aug_splits")}' * bool(given('aug_splits'))
    if splits:
        raise ValueError(
            f'{splits} compares augmentations of one image and cannot go with mixing; '
            'use --mix-mode none, or no augmentation splits'
        )
    if mixing.needs_model:
        _check_puzzlemix(mixing, args)
    import hmix_timm

    mixing.mixer(hmix_timm.Mixup, given('num_classes') or 1)
    if given('naflex_loader'):
        # timm's scripts would drop these on the way to their NaFlex mixer
        minmax = mixing.values['cutmix_minmax']
        if minmax is not None:
            raise ValueError(f'--cutmix-minmax {minmax} cannot go with --naflex-loader, which takes --cutmix')
        if mixing.kept['mode'] != 'batch':
            raise ValueError(f'--mixup-mode must be batch with --naflex-loader, got {mixing.kept["mode"]!r}')
        if mixing.values['mix_literal']:
            raise ValueError('--mix-literal cannot go with --naflex-loader, whose label weights follow its masks')


def _check_puzzlemix(mixing: Mixing, args: argparse.Namespace) -> None:
    """Raises ValueError for what PuzzleMix cannot go with, and if scipy is missing."""
    given = vars(args).get
    if given('naflex_loader'):
        raise ValueError(f'{mixing.asked} cannot go with --naflex-loader: it cuts images of one size into blocks')
    if mixing.kept['mode'] != 'batch':
        raise ValueError(f'--mixup-mode must be batch with {mixing.asked}, got {mixing.kept["mode"]!r}')
    if given('kd_model_name') and given('kd_distill_type') == 'feature':
        raise ValueError(
            f'{mixing.asked} cannot go with --kd-distill-type feature, whose model gives no scores for classes'
        )
    from hmix_timm.puzzle.cut import load_scipy

    try:
        load_scipy()
    except ImportError as error:
        raise ValueError(f'{mixing.asked}: {error}') from error
