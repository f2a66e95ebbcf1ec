"""The published methods in `families/`, each against its definition written out pixel by pixel."""

import math

import numpy as np
import pytest

from hmix_timm.families import make_slot
from hmix_timm.modes import mixer_arguments

SIZES = [(12, 12), (7, 10), (10, 7), (1, 5), (5, 2)]


def largest(values, count):
    """1 for the `count` largest values."""
    mask = np.zeros(values.size)
    mask[np.argsort(values, axis=None)[values.size - count :]] = 1.0
    return mask.reshape(values.shape)


def published_fmix(size, lam, decay=3.0):
    """A sum of waves; of the spectrum's (row, column, real or imaginary) the code takes rows 0 and 1 for the latter."""
    height, width = size
    frequencies = [abs(f) for f in np.fft.fftfreq(width)[: width // 2 + 1 + width % 2]]
    drawn = np.random.standard_normal((2, len(frequencies), 2))
    y, x = np.ogrid[:height, :width]
    noise = np.zeros(size)
    for row, across in enumerate(frequencies[:height]):
        for column in range(min(2, width)):
            weights = [max(math.hypot(across, k / height), 1 / max(size)) ** -decay for k in (0, 1)]
            number = complex(weights[0] * drawn[0, row, column], weights[1] * drawn[1, row, column])
            twice = 2 if 0 < 2 * column < width else 1  # what is real has each frequency and its negative
            noise += twice * (number * np.exp(2j * np.pi * (row * y / height + column * x / width))).real
    return largest(noise, round(lam * noise.size))


def papers_fmix(size, lam, decay=3.0):
    """White noise, each of its waves weighted by its frequency."""
    white = np.random.standard_normal(size)
    y, x = np.ogrid[: size[0], : size[1]]
    noise = np.zeros(size)
    for k, frequency_y in enumerate(np.fft.fftfreq(size[0])):
        for m, frequency_x in enumerate(np.fft.fftfreq(size[1])):
            wave = np.exp(2j * np.pi * (k * y / size[0] + m * x / size[1]))
            weight = max(math.hypot(frequency_y, frequency_x), 1 / max(size)) ** -decay
            noise += weight * ((white * wave.conj()).sum() * wave).real
    return largest(noise, round(lam * noise.size))


def on_grid(size, cells, kept):
    return np.array(
        [[kept[y * cells // size[0]][x * cells // size[1]] for x in range(size[1])] for y in range(size[0])]
    )


def gridmix(size, lam, cells=4):
    return on_grid(size, cells, [[np.random.rand() < lam for _ in range(cells)] for _ in range(cells)])


def maskmix(size, lam, cells=4):
    kept = np.zeros(cells**2)
    kept[np.argsort(np.random.random_sample(cells**2))[: math.ceil(cells**2 * lam)]] = 1.0
    return on_grid(size, cells, kept.reshape(cells, cells))


METHODS = [
    ('fmix', {}, published_fmix),
    ('fmix', {'decay': 1.5}, published_fmix),
    ('fmix', {'noise': 'paper'}, lambda size, lam, noise: papers_fmix(size, lam)),
    ('gridmix', {}, gridmix),
    ('gridmix', {'cells': 7}, gridmix),
    ('maskmix', {}, maskmix),
    ('maskmix', {'cells': 3}, maskmix),
]


@pytest.mark.parametrize(('name', 'options', 'oracle'), METHODS)
def test_a_mask_is_its_definition_and_the_label_its_mean(name, options, oracle):
    slot = make_slot(name, **{f'{name}_{option}': value for option, value in options.items()})
    for seed, size in enumerate(SIZES):
        for lam in (0.0, 0.23, np.float32(0.61), 1.0):
            np.random.seed(seed)
            mask, weight = slot.draw_mask(size, lam)
            np.random.seed(seed)
            np.testing.assert_allclose(mask.array(size), oracle(size, float(lam), **options), atol=1e-9)
            assert weight == pytest.approx(mask.array(size).mean(), abs=1e-9)


def means(name, lam, count=2000, size=(12, 12)):
    slot = make_slot(name)
    np.random.seed(0)
    return np.array([slot.draw_mask(size, lam)[1] for _ in range(count)])


def test_the_share_of_the_image_that_each_method_keeps():
    assert (means('fmix', 0.3) == round(0.3 * 144) / 144).all()
    assert (means('fmix', 0.3, size=(10, 1)) == 0.3).all()  # whose noise is one number
    assert (means('maskmix', 0.3) == 5 / 16).all()  # ⌈4.8⌉ cells
    kept = means('gridmix', 0.3)
    assert kept.mean() == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / 16 / 2000))
    assert kept.var() == pytest.approx(0.21 / 16, rel=0.2)  # of 16 cells, each by itself


PUBLISHED = {
    'fmix': {'imagenet': {'cutmix_alpha': 1.0}, 'cifar100': {'cutmix_alpha': 1.0}},
    'gridmix': {'imagenet': {'cutmix_alpha': 1.0}, 'cifar100': {'cutmix_alpha': 1.0}},
    'maskmix': {'imagenet': {'cutmix_alpha': 1.0}, 'cifar100': {'cutmix_alpha': 1.0}},
}


@pytest.mark.parametrize('name', PUBLISHED)
@pytest.mark.parametrize('preset', ['imagenet', 'cifar100'])
def test_presets_are_the_published_values(name, preset):
    others = {'mixup_alpha': 0.0, 'cutmix_minmax': None, 'switch_prob': 0.5, 'cutmix_mode': name}
    assert mixer_arguments(name, preset) == {**others, **PUBLISHED[name][preset]}
