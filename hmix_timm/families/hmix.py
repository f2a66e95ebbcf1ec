"""HMix: M = 0 in a box, as in CutMix, and a constant outside, as in Mixup.

C. Park, S. Yun, S. Chun, "A Unified Analysis of Mixed Sample Data Augmentation: A Loss Function Perspective", NeurIPS
2022, https://arxiv.org/abs/2208.09913, section 4; hyper-parameters from its section 5.
"""

from types import SimpleNamespace

from ..draws import Draws
from ..masks import Box, BoxMask, Mask, Size, box_fraction
from .family import Family, Option


def hmix_mask(size: Size, lam: float, ratio: float, box: Box, correct_lam: bool = True) -> BoxMask:
    """HMix: M = 0 in a box drawn at 1 − (1 − λ) r, a constant outside (paper, section 4).

    With s the area fraction of the clipped box the constant is λ / (1 − s), so that the mean of M is λ wherever the box
    lies. `correct_lam=False` is the paper's literal λ / (1 − (1 − λ) r), exact for a box that no border clips. Where
    the box covers everything (for the literal form: would, were it not clipped), M = 0.
    """
    lam = float(lam)
    uncovered = 1.0 - (box_fraction(box, size) if correct_lam else (1.0 - lam) * ratio)
    # the quotient never exceeds 1 but for the rounding of its operands
    return BoxMask(min(lam / uncovered, 1.0) if uncovered > 0.0 else 0.0, box)


def draw(size: Size, lam: float, options: SimpleNamespace, draws: Draws) -> Mask:
    """Draws r where `gamma` is given, then a box that has (1 − λ) r of the image before the borders clip it."""
    ratio = options.ratio if options.gamma is None else draws.beta(options.gamma)
    box = draws.box(size, 1.0 - (1.0 - float(lam)) * ratio)
    return hmix_mask(size, lam, ratio, box, options.correct_lam)


FAMILY = Family(
    name='hmix',
    title='HMix',
    draw=draw,
    mix_mode='hmix',
    options=(
        Option('ratio', 0.75, "HMix's r, 0 (Mixup) to 1 (CutMix): its box has (1 - λ) r of the image", 0.0, 1.0),
        Option('gamma', None, "draw HMix's r from Beta(γ, γ) for each λ", low=0.0, open_low=True, replaces='ratio'),
    ),
    presets={'imagenet': {'alpha': 1.0, 'ratio': 0.75}, 'cifar100': {'alpha': 1.0, 'ratio': 0.5}},
    colour='#D55E00',
)
