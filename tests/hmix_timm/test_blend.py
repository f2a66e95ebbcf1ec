"""Masks are applied exactly: on every dtype and memory layout, by either way of blending, and with little memory."""

import importlib.util
import itertools

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from hmix_timm import blend
from hmix_timm.blend import blend_, compiled, mix_, mix_pairs_, mix_whole_
from hmix_timm.families import cutmix_mask, gmix_mask, hmix_mask
from hmix_timm.masks import BoxMask, DenseMask, ProductMask, mixup_mask
from train_patch.benching.timing import extra_memory

SIZE = (13, 9)
DTYPES = [torch.float64, torch.float32, torch.float16, torch.bfloat16]
IMAGE_MIB = 3 * 224 * 224 * 4 / 2**20


@pytest.fixture(params=['torch', 'numba'])
def mix_uint8(request):
    """Either way of mixing uint8 samples."""
    if request.param == 'torch':
        return blend.mix_uint8
    pytest.importorskip('numba', reason="the extra 'fast' is not installed")
    return compiled.load()[1]


def dense(mask, size=SIZE):
    """M from its definition, (H, W) float64."""
    if mask is None:
        return np.ones(size)
    if isinstance(mask, ProductMask):
        return mask.offset + mask.y[:, None] * mask.x[None, :]
    m = np.full(size, mask.outside)
    yl, yh, xl, xh = mask.box
    m[yl:yh, xl:xh] = 0.0
    return m


def random_mask(rng, size=SIZE):
    lam = float(rng.choice([rng.random(), rng.random(), 0.0, 0.5, 1.0]))
    yl, yh = np.sort(rng.integers(0, size[0] + 1, 2)).tolist()
    xl, xh = np.sort(rng.integers(0, size[1] + 1, 2)).tolist()
    centre = int(rng.integers(size[0])), int(rng.integers(size[1]))
    make = rng.integers(6)
    if make == 0:
        return None
    if make == 1:
        return mixup_mask(lam)
    if make == 2:
        return cutmix_mask(size, (yl, yh, xl, xh))
    if make == 3:
        return hmix_mask(size, lam, 0.5, (yl, yh, xl, xh))
    if make == 4:
        return ProductMask(0.25, rng.uniform(-0.25, 0.75, size[0]), rng.uniform(0, 1, size[1]))
    return gmix_mask(size, lam, centre, str(rng.choice(['reference', 'paper'])))


def mask_lists(count, seed, size=SIZE):
    """Masks as the modes make them: one for all, one for each pair, one for each sample."""
    rng = np.random.default_rng(seed)
    each = [random_mask(rng, size) for _ in range(count)]
    each[count // 2] = each[count // 2] if count % 2 == 0 else None
    half = each[: count // 2]
    return [[mask] * count for mask in each[:3]] + [half + [None] * (count % 2) + half[::-1], each]


def make_batch(count, dtype, layout, seed=0, channels=3):
    """A batch and the tensor that it is a part of."""
    generator = torch.Generator().manual_seed(seed)
    if layout == 'slice':
        whole = torch.randn((count, channels, 2 * SIZE[0], SIZE[1] + 5), generator=generator).to(dtype)
        return whole[:, :, ::2, 2:-3], whole
    x = torch.randn((count, channels, *SIZE), generator=generator).to(dtype)
    if layout == 'channels_last':
        x = x.contiguous(memory_format=torch.channels_last)
    return x, x


def exact_mix(x, masks):
    m = torch.from_numpy(np.stack([dense(mask) for mask in masks]))[:, None]
    return x.double() * m + x.double().flip(0) * (1 - m)


@pytest.mark.parametrize('mix', [mix_, mix_pairs_, mix_whole_])
@pytest.mark.parametrize('layout', ['contiguous', 'channels_last', 'slice'])
@pytest.mark.parametrize('dtype', DTYPES)
@pytest.mark.parametrize('count', [1, 2, 5, 8])
def test_float_batches_are_mixed_exactly_and_rounded_once(mix, layout, dtype, count):
    for seed in range(4):
        for masks in mask_lists(count, seed):
            x, whole = make_batch(count, dtype, layout, seed)
            before, whole_before, strides = x.clone(), whole.clone(), x.stride()
            assert mix(x, masks) is x
            assert x.stride() == strides
            exact = exact_mix(before, masks)
            # one rounding to the dtype, after arithmetic in float32 (float64 for float64)
            arithmetic = 1e-14 if dtype == torch.float64 else 1e-6
            bound = torch.finfo(dtype).eps / 2 * exact.abs() + arithmetic
            assert ((x.double() - exact).abs() <= bound).all()
            # the partner is reached where M = 0, and everything lies between the two
            m = torch.from_numpy(np.stack([dense(mask) for mask in masks]))[:, None].expand(x.shape)
            partner = before.flip(0)
            assert torch.equal(x[m == 0], partner[m == 0])
            assert torch.equal(x[m == 1], before[m == 1])
            slack = 1e-15 if dtype == torch.float64 else 5e-7 if dtype == torch.float32 else 0.0
            assert (x.double() >= torch.minimum(before, partner).double() - slack).all()
            assert (x.double() <= torch.maximum(before, partner).double() + slack).all()
            if layout == 'slice':
                x.copy_(before)
                assert torch.equal(whole, whole_before), 'nothing beside the batch is written to'


@pytest.mark.parametrize('channels', [1, 3])
@pytest.mark.parametrize('layout', ['contiguous', 'channels_last'])
def test_images_of_several_blocks_are_mixed_as_small_ones_are(channels, layout, mix_uint8):
    size = (520, 530)  # a channel alone is more than a block
    masks = [
        hmix_mask(size, 0.6, 0.5, (100, 300, 50, 400)),
        gmix_mask(size, 0.3, (200, 100)),
        cutmix_mask(size, (0, 500, 9, 20)),
        gmix_mask(size, 0.8, (0, 529)),
    ]
    x = torch.randn((4, channels, *size), generator=torch.Generator().manual_seed(0))
    if layout == 'channels_last':
        x = x.contiguous(memory_format=torch.channels_last)
    m = torch.from_numpy(np.stack([dense(mask, size) for mask in masks]))[:, None]
    exact = x.double() * m + x.double().flip(0) * (1 - m)
    torch.testing.assert_close(mix_pairs_(x, masks).double(), exact, rtol=0, atol=1e-6)
    images = np.random.default_rng(0).integers(0, 256, (4, channels, *size), dtype=np.uint8)
    out = np.zeros_like(images)
    mix_uint8(images, masks, out)
    assert np.abs(out - (images * m.numpy() + images[::-1] * (1 - m.numpy()))).max() <= 0.5 + 1e-3


@pytest.mark.parametrize('mix', [mix_pairs_, mix_whole_])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_the_applied_masks_mean_is_the_masks(mix, dtype):
    rng = np.random.default_rng(3)
    for _ in range(60):
        mask = random_mask(rng)
        if mask is None:
            continue
        for masks in ([mask, mask], [mask, None], [mask, mixup_mask(0.3)]):
            x = torch.stack([torch.ones(1, *SIZE, dtype=dtype), torch.zeros(1, *SIZE, dtype=dtype)])
            assert mix(x, masks)[0].double().mean().item() == pytest.approx(mask.mean, abs=1e-6)


def test_signals_without_channels_or_height_take_mixup():
    for shape in [(4, 7), (4, 2, 7)]:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        expected = 0.3 * x + 0.7 * x.flip(0)
        for mix in (mix_pairs_, mix_whole_):
            torch.testing.assert_close(mix(x.clone(), [mixup_mask(0.3)] * 4), expected)


def read_only_images(count, layout, seed, size=SIZE, channels=3):
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        if layout == 'channels_innermost':  # as timm's loader hands them over
            image = np.rollaxis(rng.integers(0, 256, (*size, channels), dtype=np.uint8), 2)
        else:
            image = rng.integers(0, 256, (channels, *size), dtype=np.uint8)
        image.flags.writeable = False
        images.append(image)
    return images


@pytest.mark.parametrize('layout', ['contiguous', 'channels_innermost'])
@pytest.mark.parametrize('half', [False, True])
@pytest.mark.parametrize('count', [1, 2, 5, 8])
@pytest.mark.filterwarnings('error')
def test_uint8_samples_are_rounded_to_the_nearest_grey_level(layout, half, count, mix_uint8):
    for seed in range(8):
        images = read_only_images(count, layout, seed)
        before = np.stack(images)
        for masks in mask_lists(count, seed):
            length = (count + 1) // 2 if half else count
            out = np.full((length, 3, *SIZE), 77, np.uint8)
            mix_uint8(images, masks[:length], out)
            assert np.array_equal(np.stack(images), before)
            m = np.stack([dense(mask) for mask in masks])[:length, None]
            own, partner = before[:length], before[::-1][:length]
            assert np.abs(out - (own * m + partner * (1 - m))).max() <= 0.5 + 1e-3
            assert (out >= np.minimum(own, partner)).all()
            assert (out <= np.maximum(own, partner)).all()
            m = np.broadcast_to(m, out.shape)
            assert np.array_equal(out[m == 0], partner[m == 0])
            assert np.array_equal(out[m == 1], own[m == 1])


@pytest.mark.parametrize('lam', [0.0, 1e-9, 0.1, 1 / 3, 0.5, 0.7, 254 / 255, 1.0])
def test_every_pair_of_grey_levels_is_rounded_to_the_nearest(lam, mix_uint8):
    levels = np.arange(256, dtype=np.uint8)
    own = np.broadcast_to(levels[:, None], (1, 256, 256)).copy()
    other = np.broadcast_to(levels[None, :], (1, 256, 256)).copy()
    shared, mine = mixup_mask(lam), mixup_mask(lam)
    for masks in ([shared, shared], [mine, mixup_mask(0.25)], [mine, None]):
        out = np.empty((2, 1, 256, 256), np.uint8)
        mix_uint8([own, other], masks, out)
        for result, first, second, mask in ((out[0], own, other, masks[0]), (out[1], other, own, masks[1])):
            weight = 1.0 if mask is None else mask.outside
            exact = weight * first.astype(np.float64) + (1 - weight) * second
            assert np.abs(result - exact).max() <= 0.5 + 1e-4


@pytest.mark.parametrize('dtype', [*DTYPES, torch.uint8])
def test_one_image_is_blended_in_place(dtype):
    rng = np.random.default_rng(0)
    for seed in range(30):
        mask = random_mask(rng) or mixup_mask(0.4)
        own, other = ((make_batch(1, torch.float32, 'contiguous', seed + k)[0][0] * 60 + 128) for k in (0, 1))
        own, other = own.clamp(0, 255).to(dtype), other.clamp(0, 255).to(dtype)
        m = torch.from_numpy(dense(mask))
        exact = own.double() * m + other.double() * (1 - m)
        other_before = other.clone()
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
def test_whole_batches_take_few_kernels_whatever_their_size(dtype, family, mode):
    makers = {
        'mixup': lambda lam: mixup_mask(lam),
        'cutmix': lambda lam: cutmix_mask(SIZE, (2, 9, 1, 8)),
        'hmix': lambda lam: hmix_mask(SIZE, lam, 0.5, (2, 9, 1, 8)),
        'gmix': lambda lam: gmix_mask(SIZE, lam, (5, 5)),
    }
    chosen = list(makers.values()) if family == 'all' else [makers[family]]
    counts = []
    for count in (4, 64):
        masks = [make(float(lam)) for make, lam in zip(itertools.cycle(chosen), np.linspace(0.1, 0.9, count))]
        if mode == 'batch':
            masks = masks[:1] * count
        elif mode == 'pair':
            masks = masks[: count // 2] + masks[: count // 2][::-1]
        x = make_batch(count, dtype, 'contiguous')[0]
        with CountKernels() as counted:
            mix_whole_(x, masks)
        assert counted.waits == 0
        counts.append(counted.kernels)
    assert counts[0] == counts[1] <= 10


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('layout', ['contiguous', 'channels_last'])
@pytest.mark.parametrize('family', ['hmix', 'gmix'])
def test_memory_on_the_cpu_is_a_few_images_whatever_the_batch(dtype, layout, family):
    size = (224, 224)
    peaks = []
    for count in (4, 12):
        rng = np.random.default_rng(0)
        lams = rng.random(count).tolist()
        if family == 'hmix':
            masks = [hmix_mask(size, lam, 0.5, (20, 150, 30, 200)) for lam in lams]
        else:
            masks = [gmix_mask(size, lam, (100, 30)) for lam in lams]
        x = torch.rand((count, 3, *size), dtype=dtype)
        if layout == 'channels_last':
            x = x.contiguous(memory_format=torch.channels_last)
        peaks.append(extra_memory(lambda x=x, masks=masks: mix_(x, masks), 'cpu'))
    # scratch and the weights of two masks; in half precision two images in float32, too
    assert IMAGE_MIB / 10 < peaks[0] < (3.1 if dtype == torch.float32 else 4.6) * IMAGE_MIB
    assert peaks[1] == pytest.approx(peaks[0], abs=0.1)


def test_memory_of_a_mask_for_the_whole_batch_is_one_images():
    """`mix_whole_` takes a copy of the batch, and the weight of one mask where all share it."""
    size, count = (224, 224), 12
    x = torch.rand((count, 3, *size))
    masks = [gmix_mask(size, 0.6, (100, 30))] * count
    peak = extra_memory(lambda: mix_whole_(x, masks), 'cpu')
    assert count * IMAGE_MIB * 0.99 < peak < (count + 1) * IMAGE_MIB


@pytest.mark.parametrize('layout', ['contiguous', 'channels_innermost'])
def test_memory_of_collating_is_a_few_images_whatever_the_batch(layout, mix_uint8):
    size = (224, 224)
    peaks = []
    for count in (4, 12):
        images = read_only_images(count, layout, 0, size)
        masks = [gmix_mask(size, lam, (100, 30)) for lam in np.linspace(0.1, 0.9, count).tolist()]
        out = np.empty((count, 3, *size), np.uint8)
        peaks.append(extra_memory(lambda images=images, masks=masks, out=out: mix_uint8(images, masks, out), 'cpu'))
    # both images of a pair in float32, and the weights of their masks
    assert peaks[0] < 4 * IMAGE_MIB
    assert peaks[0] > IMAGE_MIB / 10 or mix_uint8 is not blend.mix_uint8  # the compiled loop needs next to nothing
    assert peaks[1] == pytest.approx(peaks[0], abs=0.1)


def test_masks_of_none_and_empty_boxes_leave_everything():
    x = make_batch(4, torch.float32, 'contiguous')[0]
    before = x.clone()
    for mix in (mix_, mix_pairs_, mix_whole_):
        for mask in (None, BoxMask(1.0), mixup_mask(1.0)):
            assert torch.equal(mix(x, [mask] * 4), before)


def test_signals_take_a_mixup_for_each_pair_too():
    x = torch.randn((5, 7), generator=torch.Generator().manual_seed(0))
    lam = torch.tensor([0.3, 0.9, 1.0, 0.9, 0.3])[:, None]
    masks = [mixup_mask(0.3), mixup_mask(0.9), None, mixup_mask(0.9), mixup_mask(0.3)]
    for mix in (mix_pairs_, mix_whole_):
        torch.testing.assert_close(mix(x.clone(), masks), lam * x + (1.0 - lam) * x.flip(0))


def dense_masks(count, size=SIZE):
    rng = np.random.default_rng(7)
    return [DenseMask(rng.random(size)) for _ in range(count - 1)] + [DenseMask(rng.random(size) < 0.5)]


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize('mix', [mix_pairs_, mix_whole_])
def test_a_dense_mask_for_each_sample_is_applied_to_it(mix, dtype):
    masks = dense_masks(4)
    x = make_batch(4, dtype, 'contiguous')[0]
    m = torch.from_numpy(np.stack([mask.values for mask in masks]).astype(float))[:, None]
    exact = x.double() * m + x.double().flip(0) * (1 - m)
    bound = torch.finfo(dtype).eps / 2 * exact.abs() + (1e-14 if dtype == torch.float64 else 1e-6)
    assert ((mix(x, masks).double() - exact).abs() <= bound).all()


@pytest.mark.parametrize(
    'layouts', [('contiguous',) * 4, ('channels_innermost',) * 4, ('contiguous',) * 2 + ('channels_innermost',) * 2]
)
@pytest.mark.parametrize('kind', ['dense', 'gmix', 'mixup'])
@pytest.mark.parametrize('length', [2, 4])
def test_uint8_samples_of_any_layout_take_masks_of_any_kind(layouts, kind, length, mix_uint8):
    """Dense masks too, and partners that lie in memory in different ways."""
    images = [read_only_images(1, layout, seed)[0] for seed, layout in enumerate(layouts)]
    before = np.stack(images)
    masks = {
        'dense': dense_masks(4),
        'gmix': [gmix_mask(SIZE, lam, (5, 2)) for lam in (0.2, 0.4, 0.6, 0.8)],
        'mixup': [mixup_mask(lam) for lam in (0.2, 0.4, 0.6, 0.8)],
    }[kind]
    out = np.full((length, 3, *SIZE), 77, np.uint8)
    mix_uint8(images, masks[:length], out)
    m = np.stack([mask.array(SIZE) for mask in masks])[:length, None]
    assert np.abs(out - (before[:length] * m + before[::-1][:length] * (1 - m))).max() <= 0.5 + 1e-3
    assert np.array_equal(np.stack(images), before)


def test_a_default_device_of_torch_does_not_move_what_is_mixed_on_the_host():
    spec = importlib.util.find_spec('hmix_timm.blend.uint8_samples')
    module = importlib.util.module_from_spec(spec)
    with torch.device('meta'):
        spec.loader.exec_module(module)
    out = np.empty((2, 1, 1, 1), np.uint8)
    module.mix_uint8([np.full((1, 1, 1), value, np.uint8) for value in (100, 200)], [mixup_mask(0.25)] * 2, out)
    assert out.flatten().tolist() == [175, 125]
