"""`Mixing`: what a command line and a recipe ask for, and the mixers that are made of it."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hmix_timm.families import Option
from hmix_timm.modes import mix_modes, puzzle_arguments

TIMMS = {
    'mixup': Option('mixup_alpha', 0.0, low=0.0),
    'cutmix': Option('cutmix_alpha', 0.0, low=0.0),
    'cutmix_minmax': Option('cutmix_minmax', None),
    'mixup_switch_prob': Option('switch_prob', 0.5, low=0.0, high=1.0),
}
"""timm's options that `--mix-mode` replaces; each is named as the constructor argument of timm's mixers."""

KEPT = {'mixup_prob': 'prob', 'mixup_mode': 'mode', 'smoothing': 'label_smoothing'}
"""timm's options that `--mix-mode` leaves alone → constructor arguments of timm's mixers."""

SELECTORS = ('mix_mode', 'cutmix_mode')
"""The options that choose the mixing. At most one of them is given."""


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
        timms = {option.name: self.values[dest] for dest, option in TIMMS.items()}
        try:
            return mixer_class(**{**timms, **self.kept, **self.overrides, 'num_classes': num_classes})
        except ValueError as error:
            raise in_options(error) from error

    def puzzle(self, saliency: Any, std: Sequence[float], num_classes: int, make: Any = None) -> Any:
        """Makes PuzzleMix, for a mixing that `needs_model`.

        Args:
            saliency: function (images, target) → saliency, for example `hmix_timm.input_gradient(model)`.
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
    dests = {**{option.name: dest for dest, option in TIMMS.items()}, **{name: dest for dest, name in KEPT.items()}}
    name, _, rest = str(error).partition(' ')
    return ValueError(f'{option_name(dests.get(name, name))} {rest}')


def check_mixing(mixing: Mixing, args: argparse.Namespace) -> None:
    """Raises ValueError, naming the option, if the mixer cannot be made or cannot go with other options of a run."""
    given, values, asked, mode = vars(args).get, mixing.values, mixing.asked, mixing.kept['mode']
    if values['cutmix_mode'] and not values['cutmix'] and values['cutmix_minmax'] is None:
        raise ValueError(f'{asked} needs CutMix to be on: give --cutmix A, A > 0, or use --mix-mode')
    if not mixing.active:
        return
    puzzle, naflex = mixing.needs_model, given('naflex_loader')
    splits = '--jsd-loss' if given('jsd_loss') else f'--aug-splits {given("aug_splits")}'
    features = given('kd_model_name') and given('kd_distill_type') == 'feature'
    minmax = values['cutmix_minmax']
    for wrong, message in (
        (
            given('jsd_loss') or given('aug_splits'),
            f'{splits} compares augmentations of one image and cannot go with mixing; '
            'use --mix-mode none, or no augmentation splits',
        ),
        (
            puzzle and given('task') == 'multilabel',
            f'{asked} cannot go with --task multilabel: it takes one class for each image',
        ),
        (puzzle and naflex, f'{asked} cannot go with --naflex-loader: it cuts images of one size into blocks'),
        (puzzle and mode != 'batch', f'--mixup-mode must be batch with {asked}, got {mode!r}'),
        (
            puzzle and features,
            f'{asked} cannot go with --kd-distill-type feature, whose model gives no scores for classes',
        ),
        # timm's scripts drop the following on the way to their NaFlex mixer
        (naflex and minmax, f'--cutmix-minmax {minmax} cannot go with --naflex-loader, which takes --cutmix'),
        (naflex and mode != 'batch', f'--mixup-mode must be batch with --naflex-loader, got {mode!r}'),
        (
            naflex and values['mix_literal'],
            '--mix-literal cannot go with --naflex-loader, whose label weights follow its masks',
        ),
    ):
        if wrong:
            raise ValueError(message)
    import hmix_timm

    mixing.mixer(hmix_timm.Mixup, given('num_classes') or 1)
    try:
        if puzzle:
            mixing.puzzle(saliency=None, std=[1.0], num_classes=1)
    except ImportError as error:  # scipy is missing
        raise ValueError(f'{asked}: {error}') from error
