"""The paper's hyper-parameters: which constructor arguments make a row of its tables."""

from typing import Any

MIX_MODES = ('none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix')
"""Rows of the paper's Tables 2 and 3; 'none' is the vanilla row, 'stochastic' is Stochastic Mixup & CutMix."""

# Section 5 of the paper: alpha per mode ("hyper-parameter alpha ...") and HMix's ratio r. The stochastic row switches
# between Mixup and CutMix with q = 0.5 (section 4).
_ALPHA: dict[str, dict[str, float]] = {
    'imagenet': {'mixup': 0.8, 'cutmix': 1.0, 'stochastic': 1.0, 'hmix': 1.0, 'gmix': 1.0},
    'cifar100': {'mixup': 1.0, 'cutmix': 1.0, 'stochastic': 1.0, 'hmix': 1.0, 'gmix': 0.5},
}
_HMIX_RATIO = {'imagenet': 0.75, 'cifar100': 0.5}

PRESETS = tuple(_ALPHA)
"""Data sets for which the paper's section 5 gives hyper-parameters."""


def mixer_arguments(mode: str, preset: str = 'imagenet') -> dict[str, Any]:
    """Constructor arguments that make ``Mixup`` or ``FastCollateMixup`` a row of the paper's tables (section 5).

    Args:
        mode: one of ``MIX_MODES``. 'none' is a mixer that never mixes and still makes (smoothed) soft targets.
        preset: one of ``PRESETS``.

    Returns:
        A new dict with ``mixup_alpha``, ``cutmix_alpha``, ``switch_prob``, ``cutmix_mode``, for 'hmix'
        ``hmix_ratio``, and for 'none' ``prob``.

    Raises:
        ValueError: mode or preset is unknown.
    """
    if mode not in MIX_MODES:
        raise ValueError(f'mode must be one of {", ".join(MIX_MODES)}, got {mode!r}')
    if preset not in PRESETS:
        raise ValueError(f'preset must be one of {", ".join(PRESETS)}, got {preset!r}')
    arguments: dict[str, Any] = {'cutmix_minmax': None, 'switch_prob': 0.5, 'cutmix_mode': 'bbox'}
    if mode == 'none':
        return {**arguments, 'mixup_alpha': 1.0, 'cutmix_alpha': 0.0, 'prob': 0.0}
    alpha = _ALPHA[preset][mode]
    arguments['mixup_alpha'] = alpha if mode in ('mixup', 'stochastic') else 0.0
    arguments['cutmix_alpha'] = 0.0 if mode == 'mixup' else alpha
    if mode in ('hmix', 'gmix'):
        arguments['cutmix_mode'] = mode
    if mode == 'hmix':
        arguments['hmix_ratio'] = _HMIX_RATIO[preset]
    return arguments
