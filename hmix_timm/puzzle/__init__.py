"""PuzzleMix: mixes the salient parts of two images, solved exactly.

    from hmix_timm import PuzzleMix, input_gradient
    mixer = PuzzleMix(input_gradient(model), num_classes=100)
    images, target = mixer(images, target)

Reference: J.-H. Kim, W. Choo, H. O. Song, "Puzzle Mix: Exploiting Saliency and Local Statistics for Optimal Mixup",
ICML 2020, https://arxiv.org/abs/2009.06962.
"""

from .cut import minimum_cut
from .mixer import PuzzleMix
from .saliency import input_gradient

__all__ = ['PuzzleMix', 'input_gradient', 'minimum_cut']
