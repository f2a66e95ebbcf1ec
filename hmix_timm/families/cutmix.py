"""CutMix: M = 0 in a box and 1 outside.

S. Yun et al., "CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features", ICCV 2019,
https://arxiv.org/abs/1905.04899. The box is the installed timm's, and so is the name 'bbox'.
"""

from types import SimpleNamespace

from ..draws import Draws
from ..masks import BoxMask, Mask, Size
from .family import Family


def draw(size: Size, lam: float, options: SimpleNamespace, draws: Draws) -> Mask:
    """Draws a box at λ, or with `cutmix_minmax` between these sides."""
    # lam goes on as it came: timm's arithmetic on a float32 λ is float32, and so are its boxes
    return BoxMask(1.0, draws.box(size, lam, options.cutmix_minmax))


FAMILY = Family(
    name='bbox',
    title='CutMix',
    draw=draw,
    mix_mode='cutmix',
    presets={'imagenet': {'alpha': 1.0}, 'cifar100': {'alpha': 1.0}},
    colour='#E69F00',
    timms_own=True,
)
