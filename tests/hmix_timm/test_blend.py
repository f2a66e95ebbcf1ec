"""Masks are applied exactly: on every dtype and memory layout, by every way of blending, and with little memory."""

import importlib.util
import itertools
from functools import partial

import numpy as np
import pytest
import torch
from reference import resized
from torch.utils._python_dispatch import TorchDispatchMode

from hmix_timm import blend
from hmix_timm.blend import blend_, compiled, mix_, mix_chunks_, mix_pairs_, mix_rolled, mix_whole_
from hmix_timm.families import gmix_mask, hmix_mask
from hmix_timm.masks import BoxMask, DenseMask, Mix, ProductMask, Resized, mixup_mask
from train_patch.benching.timing import extra_memory

SIZE = (13, 9)
FLOATS = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
INTEGERS = [torch.uint8, torch.int16, torch.int64]
IMAGE_MIB = 3 * 224 * 224 * 4 / 2**20

IN_PLACE = {'pairs': mix_pairs_, 'two pairs': partial(mix_chunks_, count=2), 'whole': mix_whole_}
ROLLED = {'rolled': mix_rolled, 'rolled whole': partial(mix_whole_, rolled=True)}


@pytest.fixture(params=['torch', 'numba'])
def mix_uint8(request):
    """Either way of mixing uint8 samples."""
    if request.param == 'torch':
        return blend.mix_uint8
    pytest.importorskip('numba', reason="the extra 'fast' is not installed")
    return compiled.load()[1]


def random_mask(rng, size=SIZE):
    mask = plain_mask(rng, size)
    if mask is None or rng.random() < 0.7:
        return mask
    yl, yh = np.sort(rng.integers(0, size[0] + 1, 2)).tolist()
    xl, xh = np.sort(rng.integers(0, size[1] + 1, 2)).tolist()
    same = isinstance(mask, BoxMask) and rng.random() < 0.5
    return Mix(mask, Resized(mask.box if same else (yl, yh, xl, xh)))


def plain_mask(rng, size=SIZE):
    lam = float(rng.choice([rng.random(), rng.random(), 0.0, 0.5, 1.0]))
    yl, yh = np.sort(rng.integers(0, size[0] + 1, 2)).tolist()
    xl, xh = np.sort(rng.integers(0, size[1] + 1, 2)).tolist()
    centre = int(rng.integers(size[0])), int(rng.integers(size[1]))
    return [
        lambda: None,
        lambda: mixup_mask(lam),
        lambda: BoxMask(1.0, (yl, yh, xl, xh)),
        lambda: hmix_mask(size, lam, 0.5, (yl, yh, xl, xh)),
        lambda: ProductMask(0.25, rng.uniform(-0.25, 0.75, size[0]), rng.uniform(0, 1, size[1])),
        lambda: gmix_mask(size, lam, centre, str(rng.choice(['reference', 'paper']))),
        lambda: DenseMask(rng.random(size)),
        lambda: DenseMask(rng.random(size) < 0.5),
    ][rng.integers(8)]()


def mask_lists(count, seed, size=SIZE):
    """Masks as the modes make them: one for all, one for each pair, one for each sample."""
    rng = np.random.default_rng(seed)
    each = [random_mask(rng, size) for _ in range(count)]
    each[count // 2] = each[count // 2] if count % 2 == 0 else None
    half = each[: count // 2]
    return [[mask] * count for mask in each[:3]] + [half + [None] * (count % 2) + half[::-1], each]


def arrays(masks, size=SIZE):
    """M for each image, (B, 1, H, W) float64."""
    return np.stack([np.ones(size) if mask is None else mask.array(size) for mask in masks])[:, None]


def partners(images, masks, rolled=False):
    """What each image is mixed with, as the reference shows it; the middle one is mixed with itself as it is."""
    shown = np.roll(images, 1, 0) if rolled else images[::-1].copy()
    for i, mask in enumerate(masks):
        if isinstance(mask, Mix) and (rolled or 2 * i + 1 != len(images)):
            shown[i] = resized(shown[i], mask.partner.box)
    return shown


def make_batch(count, dtype, layout, seed=0, size=SIZE, channels=3):
    """A batch and the tensor that it is a part of."""
    generator = torch.Generator().manual_seed(seed)
    shape = (count, channels, 2 * size[0], size[1] + 5) if layout == 'slice' else (count, channels, *size)
    if dtype in INTEGERS:
        whole = torch.randint(0, 256, shape, generator=generator).to(dtype)
    else:
        whole = torch.randn(shape, generator=generator).to(dtype)
    if layout == 'slice':
        return whole[:, :, ::2, 2:-3], whole
    whole = whole.contiguous(memory_format=torch.channels_last) if layout == 'channels_last' else whole
    return whole, whole


@pytest.mark.parametrize('way', [*IN_PLACE, *ROLLED])
@pytest.mark.parametrize('dtype', FLOATS + INTEGERS)
@pytest.mark.parametrize('count', [1, 2, 5, 8])
def test_batches_are_mixed_exactly_and_rounded_once(way, dtype, count):
    for seed, masks in [(s, masks) for s in range(4) for masks in mask_lists(count, s)]:
        layout = ['contiguous', 'channels_last', 'slice'][(seed + count // 2) % 3]
        if way == 'two pairs':
            masks = [mask.mask if isinstance(mask, Mix) else mask for mask in masks]
        x, whole = make_batch(count, dtype, layout, seed)
        before, whole_before, strides = x.clone(), whole.clone(), x.stride()
        if way in ROLLED:
            given, x = x, ROLLED[way](x, masks)
            assert torch.equal(given, before)
        else:
            assert IN_PLACE[way](x, masks) is x
        assert x.stride() == strides or layout == 'slice'
        partner = torch.from_numpy(partners(before.double().numpy(), masks, way in ROLLED)).to(dtype)
        m = torch.from_numpy(arrays(masks)).expand(x.shape)
        exact = before.double() * m + partner.double() * (1 - m)
        # one rounding to the dtype, after arithmetic in float32 (float64 for float64)
        arithmetic = 1e-14 if dtype == torch.float64 else 1e-4 if dtype in INTEGERS else 1e-6
        bound = 0.5 if dtype in INTEGERS else torch.finfo(dtype).eps / 2 * exact.abs()
        assert ((x.double() - exact).abs() <= bound + arithmetic).all()
        # the partner is reached where M = 0, and everything lies between the two
        assert torch.equal(x[m == 0], partner[m == 0]) and torch.equal(x[m == 1], before[m == 1])
        slack = {torch.float64: 1e-15, torch.float32: 5e-7}.get(dtype, 0.0)
        assert (x.double() >= torch.minimum(before, partner).double() - slack).all()
        assert (x.double() <= torch.maximum(before, partner).double() + slack).all()
        if layout == 'slice' and way in IN_PLACE:
            x.copy_(before)
            assert torch.equal(whole, whole_before), 'nothing beside the batch is written to'


@pytest.mark.parametrize('way', [*IN_PLACE, *ROLLED])
@pytest.mark.parametrize('size', [SIZE, (299, 301)])
def test_gradients_go_back_as_the_images_went(way, size):
    """Of A x, which mixes: c · A x = x · Aᵀ c for any c."""
    for masks in (
        [mask] * 4 for mask in (mixup_mask(0.3), hmix_mask(size, 0.4, 0.5, (1, 5, 2, 9)), gmix_mask(size, 0.2, (3, 4)))
    ):
        x = make_batch(4, torch.float64, 'contiguous', size=size)[0].requires_grad_()
        mixed = {**IN_PLACE, **ROLLED}[way](x * 1.0, masks)
        total = (mixed * make_batch(4, torch.float64, 'contiguous', seed=1, size=size)[0]).sum()
        total.backward()
        torch.testing.assert_close((x * x.grad).sum(), total)


@pytest.mark.parametrize('mix', [mix_, mix_rolled])
@pytest.mark.parametrize(('size', 'layout'), [((40, 50), 'contiguous'), ((70, 80), 'channels_last')])
def test_more_images_than_are_mixed_at_once_are_mixed_as_few_are(size, mix, layout):
    for masks in mask_lists(91, 0, size):
        x = make_batch(91, torch.float32, layout, size=size)[0]
        m, own = arrays(masks, size), x.double().numpy()
        exact = own * m + partners(own, masks, mix is mix_rolled) * (1 - m)
        np.testing.assert_allclose(mix(x, masks).numpy(), exact, rtol=0, atol=1e-6)


@pytest.mark.parametrize(('channels', 'layout'), [(1, 'contiguous'), (3, 'channels_last')])
def test_large_images_are_mixed_as_small_ones_are(channels, layout, mix_uint8):
    size = (520, 530)  # a channel alone is more than a block
    masks = [
        hmix_mask(size, 0.6, 0.5, (100, 300, 50, 400)),
        gmix_mask(size, 0.3, (200, 100)),
        BoxMask(1.0, (0, 500, 9, 20)),
        Mix(gmix_mask(size, 0.8, (0, 529)), Resized((3, 300, 5, 402))),
    ]
    m = arrays(masks, size)
    x = make_batch(4, torch.float32, layout, size=size, channels=channels)[0]
    own = x.double().numpy()
    rolled = own * m + partners(own, masks, rolled=True) * (1 - m)
    np.testing.assert_allclose(mix_rolled(x, masks).numpy(), rolled, rtol=0, atol=1e-6)
    exact = own * m + partners(own, masks) * (1 - m)
    np.testing.assert_allclose(mix_pairs_(x, masks).numpy(), exact, rtol=0, atol=1e-6)
    images = np.random.default_rng(0).integers(0, 256, (4, channels, *size), dtype=np.uint8)
    out = np.zeros_like(images)
    mix_uint8(images, masks, out)
    assert np.abs(out - (images * m + partners(images, masks) * (1 - m))).max() <= 0.5 + 1e-3


@pytest.mark.parametrize('mix', IN_PLACE.values(), ids=IN_PLACE)
@pytest.mark.parametrize('shape', [(5, 7), (5, 2, 7)])
def test_signals_without_channels_or_height_take_mixup(mix, shape):
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    for lams in ([0.3] * 5, [0.3, 0.9, 1.0, 0.9, 0.3]):
        lam = torch.tensor(lams).view(5, *[1] * (len(shape) - 1))
        torch.testing.assert_close(mix(x.clone(), [mixup_mask(lam) for lam in lams]), lam * x + (1 - lam) * x.flip(0))


def read_only_images(layouts, seed, size=SIZE, channels=3):
    rng = np.random.default_rng(seed)
    images = []
    for layout in layouts:
        if layout == 'channels_innermost':  # as timm's loader hands them over
            image = np.rollaxis(rng.integers(0, 256, (*size, channels), dtype=np.uint8), 2)
        else:
            image = rng.integers(0, 256, (channels, *size), dtype=np.uint8)
        image.flags.writeable = False
        images.append(image)
    return images


@pytest.mark.parametrize('count', [1, 2, 5, 8])
@pytest.mark.filterwarnings('error')
def test_uint8_samples_are_rounded_to_the_nearest_grey_level(count, mix_uint8):
    for seed in range(9):
        layouts = [['contiguous'], ['channels_innermost'], ['contiguous', *['channels_innermost'] * 7]][seed % 3]
        layouts, half = (layouts * count)[:count], seed % 2 == 1
        images = read_only_images(layouts, seed)
        before = np.stack(images)
        for masks in mask_lists(count, seed):
            length = (count + 1) // 2 if half else count
            out = np.full((length, 3, *SIZE), 77, np.uint8)
            mix_uint8(images, masks[:length], out)
            assert np.array_equal(np.stack(images), before)
            m, own, partner = (part[:length] for part in (arrays(masks), before, partners(before, masks)))
            assert np.abs(out - (own * m + partner * (1 - m))).max() <= 0.5 + 1e-3
            assert (out >= np.minimum(own, partner)).all() and (out <= np.maximum(own, partner)).all()
            m = np.broadcast_to(m, out.shape)
            assert np.array_equal(out[m == 0], partner[m == 0]) and np.array_equal(out[m == 1], own[m == 1])


@pytest.mark.parametrize('lam', [0.0, 1e-9, 0.1, 1 / 3, 0.5, 0.7, 254 / 255, 1.0])
def test_every_pair_of_grey_levels_is_rounded_to_the_nearest(lam, mix_uint8):
    levels = np.arange(256, dtype=np.uint8)
    own, other = (np.broadcast_to(axis, (1, 256, 256)).copy() for axis in (levels[:, None], levels[None, :]))
    shared = mixup_mask(lam)
    for masks in ([shared, shared], [shared, mixup_mask(0.25)], [shared, None]):
        out = np.empty((2, 1, 256, 256), np.uint8)
        mix_uint8([own, other], masks, out)
        for result, first, second, mask in ((out[0], own, other, masks[0]), (out[1], other, own, masks[1])):
            weight = 1.0 if mask is None else mask.outside
            exact = weight * first.astype(np.float64) + (1 - weight) * second
            assert np.abs(result - exact).max() <= 0.5 + 1e-4


@pytest.mark.parametrize('dtype', [*FLOATS, torch.uint8])
def test_one_image_is_blended_in_place(dtype):
    rng = np.random.default_rng(0)
    for seed in range(30):
        mask = random_mask(rng) or mixup_mask(0.4)
        own, other = (make_batch(1, dtype, 'contiguous', seed + k)[0][0] for k in (0, 1))
        m, other_before = torch.from_numpy(mask.array(SIZE)), other.clone()
        partner = torch.from_numpy(partners(torch.stack([own, other]).double().numpy(), [mask, None])[0])
        exact = own.double() * m + partner * (1 - m)
        assert blend_(own, other, mask) is own
        assert torch.equal(other, other_before)
        bound = 0.5 if dtype == torch.uint8 else torch.finfo(dtype).eps / 2 * exact.abs()
        assert ((own.double() - exact).abs() <= bound + (1e-12 if dtype == torch.float64 else 1e-4)).all()


class CountKernels(TorchDispatchMode):
    """Counts the operators that compute or copy, and notes those that make the host wait for a device."""

    VIEWS = ('view', 'split', 'slice', 'unsqueeze', 'select', 'expand', 'alias', 'detach', 'permute')

    def __init__(self):
        super().__init__()
        self.kernels, self.waits = 0, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        self.kernels += not name.startswith(self.VIEWS)
        self.waits += name in ('_local_scalar_dense', 'item', 'nonzero', 'is_nonzero', 'equal')
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('family', ['mixup', 'cutmix', 'hmix', 'gmix', 'all'])
@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem'])
def test_on_a_device_a_batch_takes_few_kernels_whatever_its_size_and_the_host_never_waits(dtype, family, mode):
    makers = {
        'mixup': lambda lam: mixup_mask(lam),
        'cutmix': lambda lam: BoxMask(1.0, (2, 9, 1, 8)),
        'hmix': lambda lam: hmix_mask(SIZE, lam, 0.5, (2, 9, 1, 8)),
        'gmix': lambda lam: gmix_mask(SIZE, lam, (5, 5)),
    }
    chosen = list(makers.values()) if family == 'all' else [makers[family]]
    counts = []
    for count in (4, 64):
        masks = [make(float(lam)) for make, lam in zip(itertools.cycle(chosen), np.linspace(0.1, 0.9, count))]
        shared = {'batch': masks[:1] * count, 'pair': masks[: count // 2] + masks[: count // 2][::-1]}
        x = make_batch(count, dtype, 'contiguous')[0]
        with CountKernels() as counted:
            mix_whole_(x, shared.get(mode, masks))
        assert counted.waits == 0
        counts.append(counted.kernels)
    assert counts[0] == counts[1] <= 10


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('layout', ['contiguous', 'channels_last'])
@pytest.mark.parametrize('family', ['hmix', 'gmix'])
def test_memory_on_the_cpu_is_a_few_images_whatever_the_batch(dtype, layout, family):
    size, peaks = (224, 224), []
    for count in (4, 12):
        lams = np.random.default_rng(0).random(count).tolist()
        if family == 'hmix':
            masks = [hmix_mask(size, lam, 0.5, (20, 150, 30, 200)) for lam in lams]
        else:
            masks = [gmix_mask(size, lam, (100, 30)) for lam in lams]
        x = make_batch(count, dtype, layout, size=size)[0]
        peaks.append(extra_memory(lambda x=x, masks=masks: mix_(x, masks), 'cpu'))
    # scratch and the weights of two masks; in half precision two images in float32, too
    assert IMAGE_MIB / 10 < peaks[0] < (3.1 if dtype == torch.float32 else 4.6) * IMAGE_MIB
    assert peaks[1] == pytest.approx(peaks[0], abs=0.1)


def test_memory_of_a_mask_for_the_whole_batch_is_a_copy_and_one_images_weight():
    size, count = (224, 224), 12
    x, masks = torch.rand((count, 3, *size)), [gmix_mask(size, 0.6, (100, 30))] * count
    assert count * IMAGE_MIB * 0.99 < extra_memory(lambda: mix_whole_(x, masks), 'cpu') < (count + 1) * IMAGE_MIB


@pytest.mark.parametrize('layout', ['contiguous', 'channels_innermost'])
def test_memory_of_collating_is_a_few_images_whatever_the_batch(layout, mix_uint8):
    size, peaks = (224, 224), []
    for count in (4, 12):
        images = read_only_images([layout] * count, 0, size)
        masks = [gmix_mask(size, lam, (100, 30)) for lam in np.linspace(0.1, 0.9, count).tolist()]
        out = np.empty((count, 3, *size), np.uint8)
        peaks.append(extra_memory(lambda images=images, masks=masks, out=out: mix_uint8(images, masks, out), 'cpu'))
    # both images of a pair in float32, and the weights of their masks
    assert peaks[0] < 4 * IMAGE_MIB
    assert peaks[1] == pytest.approx(peaks[0], abs=0.1)


@pytest.mark.parametrize('mix', [mix_, *IN_PLACE.values(), *ROLLED.values()], ids=['mix_', *IN_PLACE, *ROLLED])
@pytest.mark.parametrize('mask', [None, BoxMask(1.0), mixup_mask(1.0)])
def test_masks_of_none_and_empty_boxes_leave_everything(mix, mask):
    x = make_batch(4, torch.float32, 'contiguous')[0]
    assert torch.equal(mix(x.clone(), [mask] * 4), x)


def test_a_default_device_of_torch_does_not_move_what_is_mixed_on_the_host():
    spec = importlib.util.find_spec('hmix_timm.blend.uint8_samples')
    module = importlib.util.module_from_spec(spec)
    with torch.device('meta'):
        spec.loader.exec_module(module)
    out = np.empty((2, 1, 1, 1), np.uint8)
    module.mix_uint8([np.full((1, 1, 1), value, np.uint8) for value in (100, 200)], [mixup_mask(0.25)] * 2, out)
    assert out.flatten().tolist() == [175, 125]
