"""The --mix-mode option group: declaring it on a timm parser, checking it, resolving it.

`add_mix_arguments` takes any argparse parser that has timm's mixup options. Whatever comes out of that parser's
`parse_args` afterwards is checked (argparse's error, exit status 2) and resolved: `args.mixup`, `args.cutmix` and the
rest hold the values that are really used, as plain numbers and strings that `yaml.safe_dump` takes and that give the
same run when they are read back.
"""

import argparse
import difflib
from collections.abc import Iterable
from typing import Any

from hmix_timm import Mixup, NaFlexMixup
from hmix_timm.checks import check_choice, check_number
from hmix_timm.families import FAMILIES, PRESETS
from hmix_timm.presets import mix_modes, mixer_arguments

MIX_DESTS = ('mix_mode', 'mix_preset', 'mix_alpha', 'hmix_ratio', 'hmix_gamma', 'gmix_kernel')
"""What the group adds to `args`, and the keys that it takes in a YAML recipe."""

# which modes read which parameter; given to another mode it would be ignored, and so it is refused
_USED_BY = {
    'mix_alpha': ('mixup', 'cutmix', 'stochastic', 'hmix', 'gmix'),
    'hmix_ratio': ('hmix',),
    'hmix_gamma': ('hmix',),
    'gmix_kernel': ('gmix',),
}

# timm's option for each constructor argument, for messages
_OPTIONS = {
    'mixup_alpha': '--mixup',
    'cutmix_alpha': '--cutmix',
    'cutmix_minmax': '--cutmix-minmax',
    'prob': '--mixup-prob',
    'switch_prob': '--mixup-switch-prob',
    'mode': '--mixup-mode',
    'label_smoothing': '--smoothing',
    'num_classes': '--num-classes',
    'mixup_off_epoch': '--mixup-off-epoch',
}

_ABSENT = object()


def mode_uses(mode: str, dest: str) -> bool:
    """Whether a row of the paper's tables reads a parameter of the group ('mix_alpha', 'hmix_ratio', ...)."""
    return mode in _USED_BY.get(dest, mix_modes())


def add_mix_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the option group on a parser that has timm's mixup options, and resolves it in its `parse_args`.

    A parser that has the group already is left as it is.
    """
    if any(action.dest == 'mix_mode' for action in parser._actions):
        return
    group = parser.add_argument_group(
        'Mixing (hmix-timm)',
        "A row of the tables in 'A Unified Analysis of Mixed Sample Data Augmentation'. Replaces --mixup, --cutmix, "
        '--cutmix-minmax and --mixup-switch-prob as a whole; without --mix-mode those hold as they are.',
    )
    group.add_argument('--mix-mode', default=None, choices=tuple(mix_modes()), help='mixing augmentation')
    group.add_argument(
        '--mix-preset',
        default=None,
        choices=PRESETS,
        help="alpha and ratio of the paper's section 5 (default: imagenet)",
    )
    group.add_argument('--mix-alpha', default=None, type=float, metavar='A', help="Beta parameter (default: preset's)")
    group.add_argument(
        '--hmix-ratio',
        default=None,
        type=float,
        metavar='R',
        help="HMix's box to blend ratio, 0..1 (default: preset's)",
    )
    group.add_argument(
        '--hmix-gamma', default=None, type=float, metavar='G', help='draw the ratio from Beta(G, G) instead'
    )
    group.add_argument(
        '--gmix-kernel',
        default=None,
        choices=FAMILIES['gmix'].keywords['gmix_kernel'].choices,
        help="GMix's Gaussian (default: reference)",
    )
    timms_parse_args = parser.parse_args

    def parse_args(args: Any = None, namespace: Any = None) -> Any:
        # argparse gives a default only to what the namespace lacks, so what is still absent was not on the command line
        namespace = argparse.Namespace() if namespace is None else namespace
        for dest in MIX_DESTS:
            if not hasattr(namespace, dest):
                setattr(namespace, dest, _ABSENT)
        parsed = timms_parse_args(args, namespace)
        typed = {dest: getattr(parsed, dest) for dest in MIX_DESTS if getattr(parsed, dest) not in (_ABSENT, None)}
        recipe = {dest: parser.get_default(dest) for dest in MIX_DESTS}
        try:
            vars(parsed).update(resolve(typed, {k: v for k, v in recipe.items() if v is not None}))
            check_mixing(parsed)
        except ValueError as error:
            parser.error(str(error))
        return parsed

    parser.parse_args = parse_args  # type: ignore[method-assign]


def resolve(typed: dict[str, Any], recipe: dict[str, Any]) -> dict[str, Any]:
    """What the group makes of the command line and a recipe.

    The command line beats the recipe. Where it names another mode than the recipe does, the recipe's parameters, which
    were that mode's, go with it; where the recipe names none, each mode takes the parameters it has a use for.

    Args:
        typed: the group's options that stand on the command line.
        recipe: the group's keys in a recipe, None left out.

    Returns:
        Values for `args`: all of `MIX_DESTS` and, with a mode, what it replaces of timm's options.

    Raises:
        ValueError: a value is wrong, or would be ignored.
    """
    recipe = {dest: _recipe_value(dest, value) for dest, value in recipe.items()}
    mode = typed.get('mix_mode', recipe.get('mix_mode'))
    if mode is None:
        if typed:
            raise ValueError(f'{_option(next(iter(typed)))} needs --mix-mode ({", ".join(mix_modes())})')
        return {dest: recipe.get(dest) for dest in MIX_DESTS}
    if 'mix_mode' not in recipe:
        recipe = {dest: value for dest, value in recipe.items() if mode_uses(mode, dest)}
    elif recipe['mix_mode'] != mode:
        recipe = {dest: value for dest, value in recipe.items() if dest not in _USED_BY}
    for one, other in (('hmix_ratio', 'hmix_gamma'), ('hmix_gamma', 'hmix_ratio')):
        if one in typed and other not in typed:
            recipe.pop(other, None)
    given = {**recipe, **typed}
    for dest in given:
        if not mode_uses(mode, dest):
            raise ValueError(f'{_option(dest)} is for --mix-mode {" or ".join(_USED_BY[dest])}, not for {mode}')
    if 'hmix_ratio' in given and 'hmix_gamma' in given:
        raise ValueError('--hmix-gamma draws the ratio that --hmix-ratio fixes: give one of them')
    return _resolved(mode, given)


def _resolved(mode: str, given: dict[str, Any]) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(MIX_DESTS)
    values['mix_mode'] = mode
    values['mix_preset'] = given.get('mix_preset', PRESETS[0])
    row = mixer_arguments(mode, values['mix_preset'])
    if mode == 'none':
        return {**values, 'mixup': 0.0, 'cutmix': 0.0, 'cutmix_minmax': None, 'mixup_switch_prob': 0.5}
    alpha = given.get('mix_alpha', max(row['mixup_alpha'], row['cutmix_alpha']))
    # timm's scripts take an alpha of 0 for "no mixing", which is what --mix-mode none says
    check_number('--mix-alpha', alpha, open_low=True)
    values['mix_alpha'] = float(alpha)
    if mode == 'hmix':
        values['hmix_gamma'] = given.get('hmix_gamma')
        if values['hmix_gamma'] is None:
            values['hmix_ratio'] = given.get('hmix_ratio', row['hmix_ratio'])
    if mode == 'gmix':
        values['gmix_kernel'] = given.get('gmix_kernel', 'reference')
    return {
        **values,
        'mixup': values['mix_alpha'] if row['mixup_alpha'] else 0.0,
        'cutmix': values['mix_alpha'] if row['cutmix_alpha'] else 0.0,
        'cutmix_minmax': None,
        'mixup_switch_prob': row['switch_prob'],
    }


def _recipe_value(dest: str, value: Any) -> Any:
    """A recipe's value with the checks that argparse makes only on the command line."""
    choices = {
        'mix_mode': mix_modes(),
        'mix_preset': PRESETS,
        'gmix_kernel': FAMILIES['gmix'].keywords['gmix_kernel'].choices,
    }.get(dest)
    if choices is not None:
        check_choice(_option(dest), value, choices)
        return value
    if isinstance(value, str):
        try:
            value = float(value)  # YAML 1.1 reads 1e-1 as text
        except ValueError:
            raise ValueError(f'{_option(dest)} must be a number, got {value!r}') from None
    check_number(_option(dest), value)
    return value


def _option(dest: str) -> str:
    return '--' + dest.replace('_', '-')


def mixing_active(args: argparse.Namespace) -> bool:
    """Whether timm's scripts build a mixer for these arguments."""
    return args.mixup > 0 or args.cutmix > 0 or args.cutmix_minmax is not None


def mixer_arguments_from(args: argparse.Namespace) -> dict[str, Any]:
    """Constructor arguments of `Mixup` and `FastCollateMixup` for resolved arguments."""
    return {
        'mixup_alpha': args.mixup,
        'cutmix_alpha': args.cutmix,
        'cutmix_minmax': args.cutmix_minmax,
        'prob': args.mixup_prob,
        'switch_prob': args.mixup_switch_prob,
        'mode': args.mixup_mode,
        'label_smoothing': args.smoothing,
        'num_classes': args.num_classes,
        **slot_arguments_from(args),
    }


def slot_arguments_from(args: argparse.Namespace) -> dict[str, Any]:
    """The part of the constructor arguments that timm's scripts do not pass: which mask the CutMix slot draws."""
    if args.mix_mode not in ('hmix', 'gmix'):
        return {}
    options = {dest: getattr(args, dest) for dest in ('hmix_ratio', 'hmix_gamma', 'gmix_kernel')}
    return {'cutmix_mode': args.mix_mode, **{dest: value for dest, value in options.items() if value is not None}}


def check_mixing(args: argparse.Namespace) -> None:
    """Raises ValueError, naming timm's option, where the mixer for these arguments could not be built or used."""
    for dest in ('mixup', 'cutmix'):
        check_number(_option(dest), getattr(args, dest))
    if not mixing_active(args):
        return
    if getattr(args, 'aug_splits', 0) or getattr(args, 'jsd_loss', False):
        option = '--jsd-loss' if getattr(args, 'jsd_loss', False) else f'--aug-splits {args.aug_splits}'
        raise ValueError(
            f'{option} compares augmentations of one image and cannot go with mixing; '
            'use --mix-mode none, or no augmentation splits'
        )
    mixer_class: type = Mixup
    arguments = {**mixer_arguments_from(args), 'num_classes': args.num_classes or 1}
    if getattr(args, 'naflex_loader', False):
        # timm's scripts would drop these two on the way to their NaFlex mixer
        if args.cutmix_minmax is not None:
            raise ValueError(
                f'--cutmix-minmax {args.cutmix_minmax} cannot go with --naflex-loader, which takes --cutmix'
            )
        if args.mixup_mode != 'batch':
            raise ValueError(f'--mixup-mode must be batch with --naflex-loader, got {args.mixup_mode!r}')
        mixer_class = NaFlexMixup
        arguments = {k: v for k, v in arguments.items() if k not in ('mode', 'cutmix_minmax')}
    try:
        mixer_class(**arguments)
    except ValueError as error:
        name, _, rest = str(error).partition(' ')
        raise ValueError(f'{_OPTIONS.get(name, _option(name))} {rest}') from error


def check_recipe_keys(keys: Iterable[str]) -> None:
    """Raises ValueError for a recipe key that looks like one of the group's but is not, naming the nearest.

    timm's scripts take any key of a recipe and use those that they know, so that `mix_mod: hmix` would train
    without HMix.
    """
    for key in keys:
        name = str(key).replace('-', '_')
        if key not in MIX_DESTS and (name in MIX_DESTS or name.startswith(('mix_', 'hmix', 'gmix'))):
            nearest = difflib.get_close_matches(name, MIX_DESTS, n=1, cutoff=0.0)[0]
            raise ValueError(f'unknown key {key!r} in the recipe; the nearest known key is {nearest!r}')
