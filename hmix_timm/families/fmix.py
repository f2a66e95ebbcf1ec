"""FMix: M = 1 where low-frequency noise is largest, on λ of the pixels, and 0 elsewhere.

E. Harris, A. Marcu, M. Painter, M. Niranjan, A. Prügel-Bennett, J. Hare, "FMix: Enhancing Mixed Sample Data
Augmentation", 2020, https://arxiv.org/abs/2002.12047, section 4; α = 1 and δ = 3 are its published code's for every
data set (https://github.com/ecs-vlc/FMix). The paper's noise has the same law in all directions. The published code
takes the first two rows of its spectrum for its real and its imaginary part, so that across the image there are the
frequencies 0 and 1 alone. All published results are of that noise, which is the default here.
"""

from functools import lru_cache
from types import SimpleNamespace

import numpy as np

from ..draws import Draws
from ..masks import DenseMask, Mask, Size
from .family import Family, Option


def fmix_mask(lam: float, noise: np.ndarray) -> DenseMask:
    """FMix: 1 for the λ H W largest values of the noise (H, W), to the nearest whole number."""
    others = noise.size - round(float(lam) * noise.size)
    mask = np.zeros(noise.size, bool)
    mask[noise.argpartition(min(others, noise.size - 1), axis=None)[others:]] = True
    return DenseMask(mask.reshape(noise.shape))


def paper_noise(size: Size, decay: float, draws: Draws) -> np.ndarray:
    """White noise, its frequencies weighted."""
    return np.fft.irfft2(_paper_weights(size, decay) * np.fft.rfft2(draws.normal(size)), size)


@lru_cache(maxsize=16)
def _paper_weights(size: Size, decay: float) -> np.ndarray:
    return _weights(np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])), size, decay)


def reference_noise(size: Size, decay: float, draws: Draws) -> np.ndarray:
    """The noise of the published code, number for number."""
    height, width = size
    across = np.fft.fftfreq(width)[: width // 2 + 1 + width % 2]
    weights = _weights(np.hypot(across, [[0.0], [1.0 / height]]), size, decay)  # of the spectrum's first two rows
    real, imaginary = weights[:, :, None] * draws.normal((*weights.shape, 2))
    return np.fft.irfft2(real + 1j * imaginary, size)


def _weights(frequency: np.ndarray, size: Size, decay: float) -> np.ndarray:
    """f^−δ, and no more than at one period a side."""
    return np.maximum(frequency, 1.0 / max(size)) ** -decay


def draw(size: Size, lam: float, options: SimpleNamespace, draws: Draws) -> Mask:
    """Draws the noise."""
    noise = paper_noise if options.noise == 'paper' else reference_noise
    return fmix_mask(lam, noise(size, options.decay, draws))


FAMILY = Family(
    name='fmix',
    title='FMix',
    draw=draw,
    mix_mode='fmix',
    options=(
        Option('decay', 3.0, "FMix's δ: its noise has frequencies f weighted by f^-δ", 0.0, 20.0),
        Option(
            'noise',
            'reference',
            "FMix's noise: that of its published code, whose frequencies across the image are 0 and 1, or the paper's",
            choices=('reference', 'paper'),
        ),
    ),
    presets={'imagenet': {'alpha': 1.0}, 'cifar100': {'alpha': 1.0}},
    colour='#661100',
)
