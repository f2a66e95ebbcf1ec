"""ResizeMix: the whole of image j, scaled by τ ~ U(0.1, 0.8), in a box at a random place; it draws no λ.

J. Qin, J. Fang, Q. Zhang, W. Liu, X. Wang, X. Wang, "ResizeMix: Mixing Data with Preserved Object Information and True
Labels", 2020, https://arxiv.org/abs/2012.11101. As in its published code (https://github.com/JayQine/ResizeMix) the box
is moved into the image where it would stick out, and pixels are the nearest. OpenMixup clips the box instead, and
resizes into what is left.
"""

from types import SimpleNamespace

from ..draws import Draws
from ..masks import BoxMask, Mask, Mix, Resized, Size
from .family import Family, Option


def draw(size: Size, lam: None, options: SimpleNamespace, draws: Draws) -> Mask:
    """Draws τ, and the pixel around which the box lies before it is moved into the image."""
    scale = options.low + (options.high - options.low) * draws.scalar()
    height, width = (max(int(pixels * scale), 1) for pixels in size)
    y, x = draws.centre(size)
    top, left = min(max(y - height // 2, 0), size[0] - height), min(max(x - width // 2, 0), size[1] - width)
    box = top, top + height, left, left + width
    return Mix(BoxMask(1.0, box), Resized(box))


FAMILY = Family(
    name='resizemix',
    title='ResizeMix',
    draw=draw,
    mix_mode='resizemix',
    options=(
        Option('low', 0.1, "ResizeMix's smallest τ: its box has sides of τ of the image's", 0.0, 1.0),
        Option('high', 0.8, "ResizeMix's largest τ", 0.0, 1.0),
    ),
    presets={'imagenet': {'alpha': None}, 'cifar100': {'alpha': None}},
    colour='#6699CC',
)
