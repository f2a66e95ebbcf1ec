"""The published methods in `families/`, each against its definition written out pixel by pixel."""

import math

import numpy as np
import pytest
import torch

from hmix_timm import FastCollateMixup, Mixup
from hmix_timm.families import make_slot
from hmix_timm.families.saliencymix import saliency
from hmix_timm.modes import mixer_arguments
from train_patch.data.scikit_images import photographs

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
    kept[np.random.permutation(cells**2)[: math.ceil(cells**2 * lam)]] = 1.0
    return on_grid(size, cells, kept.reshape(cells, cells))


def smoothmix(size, lam, low=0.25, high=0.5):
    centre = np.random.randint(size[0]), np.random.randint(size[1])
    sigma = np.random.uniform(low, high) * math.sqrt(size[0] * size[1])
    distance = np.hypot(*(at - middle for at, middle in zip(np.ogrid[: size[0], : size[1]], centre, strict=True)))
    return 1 - np.exp(-(distance**2) / (2 * sigma**2))


def resizemix(size, lam, low=0.1, high=0.8):
    scale = np.random.uniform(low, high)
    mask = np.ones(size)
    spans = []
    for pixels in size:
        length = max(math.floor(pixels * scale), 1)
        starts = range(pixels - length + 1)  # where it fits
        spans.append(
            slice(at := sorted((starts[0], np.random.randint(pixels) - length // 2, starts[-1]))[1], at + length)
        )
    mask[tuple(spans)] = 0
    return mask


METHODS = [
    ('fmix', {}, published_fmix),
    ('fmix', {'decay': 1.5}, published_fmix),
    ('fmix', {'noise': 'paper'}, lambda size, lam, noise: papers_fmix(size, lam)),
    ('smoothmix', {}, smoothmix),
    ('smoothmix', {'low': 0.6, 'high': 0.0}, smoothmix),
    ('resizemix', {}, resizemix),
    ('resizemix', {'low': 0.5, 'high': 1.0}, resizemix),
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
    # its box has up to a pixel less than τ of each side: τ is uniform
    scales = np.sqrt(1 - means('resizemix', None, size=(100, 100)))
    assert scales.min() >= 0.1 - 1e-9 and scales.max() <= 0.8 and scales.mean() == pytest.approx(0.445, abs=0.025)
    kept = means('gridmix', 0.3)
    assert kept.mean() == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / 16 / 2000))
    assert kept.var() == pytest.approx(0.21 / 16, rel=0.2)  # of 16 cells, each by itself


def saliency_pixel_by_pixel(image):
    """A grey image's (H, W) contrast of each pixel to the other ones of six squares around it, as OpenCV adds it up."""
    height, width = image.shape
    at = [lambda i, n=n: n - 1 - abs(n - 1 - abs(i)) for n in (height, width)]  # reflected at the borders
    weights = {-1: 1, 0: 2, 1: 1}

    def blurred(grey):
        return [
            [
                (
                    sum(
                        a * b * grey[at[0](y + i)][at[1](x + j)] for i, a in weights.items() for j, b in weights.items()
                    )
                    + 8
                )
                // 16
                for x in range(width)
            ]
            for y in range(height)
        ]

    grey = np.array(blurred(blurred(image.astype(int).tolist())))
    sides = np.zeros((2, height, width), int)
    for reach in (12, 24, 48, 28, 56, 112):
        for y in range(height):
            for x in range(width):
                square = grey[max(y - reach + 1, 0) : y + reach + 1, max(x - reach + 1, 0) : x + reach + 1]
                contrast = int(grey[y, x] - (square.sum() - grey[y, x]) / (square.size - 1))
                sides[int(contrast < 0), y, x] += abs(contrast)
    lighter, darker = (255 * side // max(side.max(), 1) for side in sides)
    return 255 * (lighter + darker) // max(lighter.max(), darker.max())


def test_saliency_is_its_definition():
    image = np.random.default_rng(0).integers(0, 256, (30, 17), dtype=np.uint8)
    expected = saliency_pixel_by_pixel(image)
    np.testing.assert_array_equal(saliency(image[None]), expected)
    normalized = (image[None].astype(np.float32) / 255 - 0.5) / 0.25
    stretched = np.rint((image - image.min()) * (255 / np.ptp(image))).astype(np.uint8)
    np.testing.assert_array_equal(saliency(normalized), saliency_pixel_by_pixel(stretched))


def test_saliency_is_that_of_opencv():
    cv2 = pytest.importorskip('cv2', reason='needs opencv-contrib-python-headless')
    if not hasattr(cv2, 'saliency'):
        pytest.skip('this OpenCV is without its contributed modules')
    reference = cv2.saliency.StaticSaliencyFineGrained_create()
    for photograph in photographs((120, 150)):
        _, found = reference.computeSaliency(np.ascontiguousarray(photograph[:, :, ::-1]))
        own = saliency(photograph.transpose(2, 0, 1))
        assert found.argmax() == own.argmax() and (np.abs(np.rint(found * 255) - own) <= 1).mean() > 0.999


@pytest.mark.parametrize('lam', [0.0, 0.4, 0.75, 1.0])
def test_saliencymix_puts_cutmixs_box_around_the_partners_peak(lam):
    own, partner = np.random.default_rng(1).integers(0, 256, (2, 1, 20, 16), dtype=np.uint8)
    y, x = np.unravel_index(saliency_pixel_by_pixel(partner[0]).argmax(), (20, 16))
    expected = np.ones((20, 16))
    height, width = (math.floor(pixels * math.sqrt(1 - lam)) // 2 for pixels in (20, 16))
    expected[max(y - height, 0) : y + height, max(x - width, 0) : x + width] = 0
    for images in ((own, partner), (torch.from_numpy(own), torch.from_numpy(partner))):
        mask, weight = make_slot('saliencymix').draw_mask((20, 16), lam, images=images)
        np.testing.assert_array_equal(mask.array((20, 16)), expected)
        assert weight == pytest.approx(expected.mean())


PUBLISHED = {
    'fmix': {'fmix_decay': 3.0},
    'gridmix': {'gridmix_cells': 4},
    'smoothmix': {'smoothmix_low': 0.25, 'smoothmix_high': 0.5},
    'resizemix': {'resizemix_low': 0.1, 'resizemix_high': 0.8},
    'saliencymix': {},
    'maskmix': {'maskmix_cells': 4},
}


@pytest.mark.parametrize('name', PUBLISHED)
def test_presets_are_the_published_values(name):
    others = {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_minmax': None, 'switch_prob': 0.5, 'cutmix_mode': name}
    for preset in ('imagenet', 'cifar100'):
        assert mixer_arguments(name, preset) == others
        mixer = Mixup.from_mode(name, preset)
        assert {keyword: getattr(mixer, keyword) for keyword in PUBLISHED[name]} == PUBLISHED[name]


@pytest.mark.parametrize('name', PUBLISHED)
@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem'])
def test_what_is_seen_of_each_image_is_its_label_weight(name, mode):
    labels = torch.tensor([1, 1, 1, 0, 0, 0])
    arguments = {'mode': mode, 'num_classes': 2, 'label_smoothing': 0.0}
    np.random.seed(3)
    mixed, target = Mixup.from_mode(name, **arguments)(
        labels.view(-1, 1, 1, 1).expand(6, 3, 24, 17).float().clone(), labels
    )
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), target[:, 1], rtol=0, atol=1e-6)
    assert target[:, 1].std() > 0.0 and (mixed[0, 0] != mixed[0, 0, 0, 0]).any()
    samples = [(np.full((3, 24, 17), 255 * label, np.uint8), label) for label in labels.tolist()]
    mixed, target = FastCollateMixup.from_mode(name, **arguments)(samples)
    torch.testing.assert_close(mixed.float().mean(dim=(1, 2, 3)) / 255, target[:, 1], rtol=0, atol=0.5 / 255)


@pytest.mark.parametrize('name', PUBLISHED)
def test_images_of_any_number_of_axes_and_of_odd_sizes_are_mixed(name):
    labels, arguments = torch.tensor([1, 1, 0, 0, 0]), {'mode': 'elem', 'num_classes': 2, 'label_smoothing': 0.0}
    for shape in ((24, 17), (1, 24, 17), (2, 3, 24, 17), (3, 1, 1), (3, 3, 500)):
        x = labels.view(-1, *[1] * len(shape)).expand(5, *shape).float().clone()
        mixed, target = Mixup.from_mode(name, **arguments)(x, labels)
        torch.testing.assert_close(mixed.flatten(1).mean(1), target[:, 1], rtol=0, atol=1e-6)
        samples = [(np.full(shape, 255 * label, np.uint8), label) for label in labels.tolist()]
        mixed, target = FastCollateMixup.from_mode(name, **arguments)(samples)
        torch.testing.assert_close(mixed.float().flatten(1).mean(1) / 255, target[:, 1], rtol=0, atol=0.5 / 255)
