"""HMix and GMix in every mode against an oracle that draws, masks and mixes by the formulas, densely, in float64."""

import itertools
import math

import numpy as np
import pytest
import torch
from timm.data.mixup import FastCollateMixup as TimmFastCollateMixup
from timm.data.mixup import Mixup as TimmMixup
from timm.data.mixup import rand_bbox

from hmix_timm import FastCollateMixup, Mixup
from hmix_timm.families import PRESETS, hmix_mask
from hmix_timm.modes import mix_modes

CLASSES = 5
SHAPES = [(6, 3, 16, 16), (8, 1, 9, 21), (5, 3, 14, 6), (4, 2, 1, 1), (3, 3, 1, 7)]


def box_mask(size, lam_box):
    """0 in timm's box, 1 outside, drawn from numpy's generator."""
    yl, yh, xl, xh = rand_bbox(size, lam_box)
    mask = np.ones(size)
    mask[yl:yh, xl:xh] = 0.0
    return mask


def gaussian(size, spread, cy, cx):
    dy, dx = np.mgrid[: size[0], : size[1]].astype(float) - np.array([cy, cx]).reshape(2, 1, 1)
    d2 = dy**2 + dx**2
    if spread == 0.0:
        return np.zeros(size)
    with np.errstate(over='ignore', under='ignore'):
        return np.exp(-math.pi * (d2 / spread / (size[0] * size[1])))


def slot_mask(size, lam, options):
    """The mask of the CutMix slot, and its label weight."""
    kind = options.get('cutmix_mode', 'bbox')
    if kind == 'bbox':
        mask = box_mask(size, lam)
    elif kind == 'hmix':
        gamma = options.get('hmix_gamma')
        ratio = options.get('hmix_ratio', 0.75) if gamma is None else np.random.beta(gamma, gamma)
        mask = box_mask(size, 1.0 - (1.0 - float(lam)) * ratio)
        if options.get('correct_lam', True):
            mask *= lam / mask.mean() if mask.any() else 0.0
        else:
            mask *= lam / (1.0 - (1.0 - lam) * ratio)
    else:
        cy, cx = np.random.randint(0, size[0]), np.random.randint(0, size[1])
        if options.get('gmix_kernel', 'reference') == 'paper':
            mask = 1.0 - gaussian(size, 2.0 * (1.0 - lam), cy, cx)
        elif lam < 0.5:
            mask = gaussian(size, lam, cy, cx)
        else:
            mask = 1.0 - gaussian(size, 1.0 - lam, cy, cx)
    return mask, (mask.mean() if options.get('correct_lam', True) else lam)


def draw_lam(options, count=None):
    """λ and whether the CutMix slot is used, for the batch (count None) or for each element, in timm's order."""
    mixup, cutmix, prob = options.get('mixup_alpha', 0.0), options['cutmix_alpha'], options.get('prob', 1.0)
    if count is None:
        if not np.random.rand() < prob:
            return 1.0, False
        use_cutmix = np.random.rand() < options.get('switch_prob', 0.5) if mixup > 0 else True
        alpha = cutmix if use_cutmix else mixup
        return np.random.beta(alpha, alpha), use_cutmix
    use_cutmix = np.ones(count, dtype=bool)
    if mixup > 0:
        use_cutmix = np.random.rand(count) < options.get('switch_prob', 0.5)
        lam = np.where(use_cutmix, np.random.beta(cutmix, cutmix, size=count), np.random.beta(mixup, mixup, size=count))
    else:
        lam = np.random.beta(cutmix, cutmix, size=count)
    lam = np.where(np.random.rand(count) < prob, lam.astype(np.float32), np.float32(1.0))
    return lam, use_cutmix


def one_mask(size, lam, use_cutmix, options, draw_for_unmixed=False):
    if lam == 1.0 and not (use_cutmix and draw_for_unmixed):
        return np.ones(size), 1.0
    return slot_mask(size, lam, options) if use_cutmix else (np.full(size, float(lam)), float(lam))


def draw_masks(shape, mode, options, collate):
    """Masks (B, H, W) and label weights (B,) of a whole batch."""
    batch, size = shape[0], tuple(shape[-2:])
    if mode == 'batch':
        # timm's collate function draws its box for the batch even where λ came out as 1
        mask, weight = one_mask(size, *draw_lam(options), options, draw_for_unmixed=collate)
        return np.repeat(mask[None], batch, 0), np.full(batch, weight)
    count = {'pair': batch // 2, 'elem': batch, 'half': (batch + 1) // 2}[mode]
    masks, weights = np.ones((batch, *size)), np.ones(batch)
    lam, use_cutmix = draw_lam(options, count)
    for i in range(count):
        if mode != 'pair' and i == batch - 1 - i:  # the middle of an odd batch stays as it is
            continue
        masks[i], weights[i] = one_mask(size, lam[i], use_cutmix[i], options)
        if mode == 'pair':
            masks[batch - 1 - i], weights[batch - 1 - i] = masks[i], weights[i]
    return masks, weights


def expected(images, labels, mode, options, smoothing=0.0, collate=False):
    masks, weights = draw_masks(images.shape, mode, options, collate)
    masks = masks[:, None]
    mixed = masks * images + (1.0 - masks) * images[::-1]
    hot = np.full((len(labels), CLASSES), smoothing / CLASSES)
    hot[np.arange(len(labels)), labels] += 1.0 - smoothing
    target = weights[:, None] * hot + (1.0 - weights[:, None]) * hot[::-1]
    kept = (len(images) + 1) // 2 if mode == 'half' else len(images)
    return mixed[:kept], target[:kept], masks[:kept], weights[:kept]


OPTIONS = {
    'hmix': {'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix'},
    'hmix_half': {'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_ratio': 0.5, 'prob': 0.7},
    'hmix_is_mixup': {'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_ratio': 0.0},
    'hmix_is_cutmix': {'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_ratio': 1.0},
    'hmix_gamma': {'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_gamma': 0.5},
    'hmix_literal': {'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'correct_lam': False},
    'gmix': {'cutmix_alpha': 1.0, 'cutmix_mode': 'gmix'},
    'gmix_small_alpha': {'cutmix_alpha': 0.1, 'cutmix_mode': 'gmix'},
    'gmix_paper': {'cutmix_alpha': 1.0, 'cutmix_mode': 'gmix', 'gmix_kernel': 'paper'},
    'gmix_raw_lam': {'cutmix_alpha': 1.0, 'cutmix_mode': 'gmix', 'correct_lam': False},
    'mixup_or_hmix': {'mixup_alpha': 0.8, 'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'switch_prob': 0.6},
    'mixup_or_gmix': {'mixup_alpha': 0.8, 'cutmix_alpha': 0.5, 'cutmix_mode': 'gmix', 'prob': 0.8},
    'cutmix': {'cutmix_alpha': 1.0},
}


@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem'])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_float_path(options, mode, shape):
    mixer = Mixup(**{'mixup_alpha': 0.0, **options}, mode=mode, num_classes=CLASSES, label_smoothing=0.1)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        images, labels = rng.normal(size=shape), rng.integers(0, CLASSES, shape[0])
        np.random.seed(seed)
        mixed, target, _, _ = expected(images, labels, mode, options, smoothing=0.1)
        after = np.random.rand()
        for dtype, tolerance in ((torch.float64, 1e-6), (torch.float32, 1e-5)):
            x = torch.tensor(images, dtype=dtype)
            np.random.seed(seed)
            got, soft = mixer(x, torch.from_numpy(labels))
            assert np.random.rand() == after, 'as many numbers drawn, in the same order'
            assert got is x
            np.testing.assert_allclose(got.numpy(), mixed, rtol=0, atol=tolerance)
            np.testing.assert_allclose(soft.numpy(), target, rtol=0, atol=1e-6)


@pytest.mark.parametrize('options', OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem', 'half'])
@pytest.mark.parametrize('shape', SHAPES, ids=str)
def test_uint8_path(options, mode, shape):
    mixer = FastCollateMixup(**{'mixup_alpha': 0.0, **options}, mode=mode, num_classes=CLASSES, label_smoothing=0.0)
    for seed in range(4):
        rng = np.random.default_rng(seed)
        images, labels = rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, CLASSES, shape[0])
        np.random.seed(seed)
        mixed, target, _, _ = expected(images.astype(float), labels, mode, options, collate=True)
        after = np.random.rand()
        for wrap in (np.array, torch.tensor):
            batch = [(wrap(image), int(label)) for image, label in zip(images, labels, strict=True)]
            np.random.seed(seed)
            got, soft = mixer(batch)
            assert np.random.rand() == after
            assert got.dtype == torch.uint8 and got.is_contiguous()
            # rounded to the nearest grey level
            np.testing.assert_allclose(got.numpy().astype(float), mixed, rtol=0, atol=0.5 + 1e-3)
            np.testing.assert_allclose(soft.numpy(), target, rtol=0, atol=1e-6)
            assert soft.dtype == torch.float32


CORRECT = {name: options for name, options in OPTIONS.items() if options.get('correct_lam', True)}


@pytest.mark.parametrize('options', CORRECT.values(), ids=CORRECT)
@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem'])
@pytest.mark.parametrize(
    'shape', [(6, 3, 16, 16), (6, 1, 9, 21), (2, 3, 224, 160), (4, 1, 1, 1), (2, 1, 5, 1)], ids=str
)
def test_label_weight_is_the_mean_of_the_applied_mask(options, mode, shape):
    """Mixing ones into zeros shows the mask; the target shows the label weight."""
    mixer = Mixup(**{'mixup_alpha': 0.0, **options}, mode=mode, num_classes=2, label_smoothing=0.0)
    half = shape[0] // 2
    for seed in range(4):
        np.random.seed(seed)
        x = torch.zeros(shape)
        x[:half] = 1.0  # image i is ones, its partner zeros, or the other way round
        labels = torch.tensor([1] * half + [0] * half)
        mixed, target = mixer(x, labels)
        assert mixed.min() >= 0.0 and mixed.max() <= 1.0
        assert torch.isfinite(target).all()
        np.testing.assert_allclose(mixed.double().flatten(1).mean(1).numpy(), target[:, 1].double().numpy(), atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem'])
@pytest.mark.parametrize('cutmix_mode', ['bbox', 'hmix', 'gmix'])
def test_half_precision_images_keep_float32_label_weights(dtype, mode, cutmix_mode):
    mixer = Mixup(0.5, 1.0, mode=mode, cutmix_mode=cutmix_mode, num_classes=CLASSES, label_smoothing=0.0)
    images = torch.randn(6, 3, 12, 10, generator=torch.Generator().manual_seed(0)).to(dtype)
    labels = torch.arange(6) % CLASSES
    for seed in range(5):
        results = []
        for x in (images.clone(), images.float()):
            np.random.seed(seed)
            results.append(mixer(x, labels))
        assert results[0][0].dtype == dtype and results[0][1].dtype == torch.float32
        assert torch.equal(results[0][1], results[1][1])
        assert torch.equal(results[0][0], results[1][0].to(dtype)), 'blended in float32 and rounded once'


@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem', 'half'])
def test_targets_of_float64_images_have_timms_dtype(mode):
    options = {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'mode': mode, 'num_classes': CLASSES}
    x, labels = torch.rand(6, 3, 12, 10, dtype=torch.float64), torch.arange(6) % CLASSES
    targets = [mixer(x.clone(), labels)[1] for mixer in (Mixup(**options, cutmix_mode='hmix'), TimmMixup(**options))]
    assert targets[0].dtype == targets[1].dtype == (torch.float64 if mode in ('pair', 'elem') else torch.float32)


@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem', 'half'])
@pytest.mark.parametrize(
    'options',
    [{'cutmix_mode': 'hmix', 'hmix_ratio': ratio} for ratio in (0.0, 0.3, 1.0)]
    + [{'cutmix_mode': 'hmix', 'hmix_ratio': ratio, 'correct_lam': False} for ratio in (0.0, 1.0)]
    + [{'cutmix_mode': 'gmix', 'gmix_kernel': kernel} for kernel in ('reference', 'paper')]
    + [{'cutmix_mode': 'bbox'}],
    ids=str,
)
@pytest.mark.filterwarnings('error')
def test_extreme_lam_is_finite_and_in_range(monkeypatch, mode, options):
    for lam in (0.0, 1e-300, 1e-30, 1e-9, 0.5, 1.0 - 1e-9, 1.0 - 1e-16, 1.0):
        for shape in ((4, 3, 8, 8), (4, 3, 1, 1), (2, 1, 1, 5)):
            check_a_fixed_lam(monkeypatch, lam, mode, shape, options)


def check_a_fixed_lam(monkeypatch, lam, mode, shape, options):
    # the Beta draw is pinned; everything after it is real
    monkeypatch.setattr(np.random, 'beta', lambda a, b, size=None: lam if size is None else np.full(size, lam))
    np.random.seed(0)
    arguments = {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'mode': mode, 'num_classes': 2, 'label_smoothing': 0.0}
    count, half = shape[0], shape[0] // 2
    labels = torch.tensor([1] * half + [0] * half)
    x = torch.zeros(shape)
    x[:half] = 1.0
    pixels = (x * 255).byte()
    results = [Mixup(**arguments, **options)(x, labels)]
    collated, target = FastCollateMixup(**arguments, **options)(
        [(pixels[i].numpy(), int(labels[i])) for i in range(count)]
    )
    results.append((collated / 255.0, target))
    for mixed, soft in results:
        assert torch.isfinite(mixed).all() and mixed.min() >= 0.0 and mixed.max() <= 1.0
        assert torch.isfinite(soft).all() and soft.min() >= 0.0 and soft.max() <= 1.0
        torch.testing.assert_close(soft.sum(1), torch.ones(len(soft)))
    if options.get('correct_lam', True):
        means = results[0][0].double().flatten(1).mean(1)
        np.testing.assert_allclose(means.numpy(), results[0][1][:, 1].double().numpy(), atol=1e-6)


@pytest.mark.parametrize('alpha', [1e-300, 1e-12, 1e-3, 1e3, 1e12])
@pytest.mark.parametrize('cutmix_mode', ['bbox', 'hmix', 'gmix'])
@pytest.mark.parametrize('mode', ['batch', 'elem'])
def test_extreme_alphas_are_finite(alpha, cutmix_mode, mode):
    np.random.seed(0)
    options = {'hmix_gamma': alpha} if cutmix_mode == 'hmix' else {}
    mixer = Mixup(0.0, alpha, mode=mode, cutmix_mode=cutmix_mode, num_classes=3, **options)
    for _ in range(20):
        mixed, target = mixer(torch.rand(4, 3, 6, 6), torch.tensor([0, 1, 2, 0]))
        assert torch.isfinite(mixed).all() and torch.isfinite(target).all()
        torch.testing.assert_close(target.sum(1), torch.ones(4))


def test_hmix_limits_are_mixup_and_cutmix():
    """r = 0 is Mixup; r = 1 is CutMix where no border clips the box."""
    images = torch.randn(4, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(4)
    clipped = 0
    for seed in range(40):
        np.random.seed(seed)
        mixup, mixup_target = Mixup(1.0, num_classes=4)(images.clone(), labels)
        np.random.seed(seed)
        hmix, hmix_target = Mixup(0.0, 1.0, cutmix_mode='hmix', hmix_ratio=0.0, num_classes=4)(images.clone(), labels)
        torch.testing.assert_close(hmix, mixup)
        torch.testing.assert_close(hmix_target, mixup_target)
        np.random.seed(seed)
        cutmix, cutmix_target = Mixup(0.0, 1.0, num_classes=4, label_smoothing=0.0)(images.clone(), labels)
        np.random.seed(seed)
        hmix, _ = Mixup(0.0, 1.0, cutmix_mode='hmix', hmix_ratio=1.0, num_classes=4)(images.clone(), labels)
        box = (cutmix != images).any(0).any(0)
        assert torch.equal(hmix[..., box], cutmix[..., box]), 'the box is CutMix’s'
        np.random.seed(seed)
        np.random.rand()
        lam = np.random.beta(1.0, 1.0)
        if abs(cutmix_target[0, 0].item() - lam) < 1e-7:
            assert torch.equal(hmix, cutmix)
        else:
            clipped += 1
    assert clipped > 0


def test_an_hmix_mask_has_the_mean_asked_for_unless_told_to_be_literal():
    """A box drawn at (1 − 0.6) 0.5 = 0.2 of the image, of which a border has left 12 of 80 pixels."""
    box = (0, 3, 0, 4)
    assert hmix_mask((10, 8), 0.6, 0.5, box).mean == pytest.approx(0.6)
    assert hmix_mask((10, 8), 0.6, 0.5, box, correct_lam=False).outside == pytest.approx(0.6 / 0.8)
    # a box may leave one pixel, or for the literal form nothing but what a border cuts off
    assert hmix_mask((1, 200), 0.004, 1.0, (0, 1, 0, 199)).outside == pytest.approx(0.8)
    assert hmix_mask((10, 8), 0.0, 1.0, box, correct_lam=False).outside == 0.0


@pytest.mark.parametrize('count', [1, 3, 5])
@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem'])
@pytest.mark.parametrize('cutmix_mode', ['bbox', 'hmix', 'gmix'])
def test_the_middle_of_an_odd_batch_stays(count, mode, cutmix_mode):
    mixer = Mixup(0.3, 1.0, mode=mode, cutmix_mode=cutmix_mode, num_classes=count, label_smoothing=0.0)
    for seed in range(10):
        np.random.seed(seed)
        x = torch.randn(count, 3, 8, 8)
        original = x.clone()
        mixed, target = mixer(x, torch.arange(count))
        assert torch.equal(mixed[count // 2], original[count // 2])
        np.testing.assert_allclose(target[count // 2].numpy(), np.eye(count)[count // 2], atol=1e-6)


@pytest.mark.parametrize(
    ('mode', 'preset'), itertools.product([name for name, mode in mix_modes().items() if not mode.needs_model], PRESETS)
)
@pytest.mark.parametrize('cls', [Mixup, FastCollateMixup])
def test_from_mode_is_a_row_of_the_papers_tables(cls, mode, preset):
    mixer = cls.from_mode(mode, preset, num_classes=7)
    assert type(mixer) is cls and mixer.num_classes == 7
    alphas = {'imagenet': {'mixup': 0.8}, 'cifar100': {'gmix': 0.5}}[preset]
    alpha = alphas.get(mode, 1.0)
    assert mixer.mixup_alpha == (alpha if mode in ('none', 'mixup', 'stochastic') else 0.0)
    assert mixer.cutmix_alpha == (alpha if mode in ('cutmix', 'stochastic', 'hmix', 'gmix') else 0.0)
    assert mixer.cutmix_mode == (mode if mode in ('hmix', 'gmix') else 'bbox')
    assert mixer.mix_prob == (0.0 if mode == 'none' else 1.0)
    if mode == 'hmix':
        assert mixer.hmix_ratio == {'imagenet': 0.75, 'cifar100': 0.5}[preset]


def test_from_mode_overrides_and_refusals():
    assert Mixup.from_mode('hmix', hmix_ratio=0.2, num_classes=10).hmix_ratio == 0.2
    assert Mixup.from_mode('gmix', cutmix_alpha=2.0, correct_lam=False).cutmix_alpha == 2.0
    with pytest.raises(ValueError, match=r"mix_mode must be one of .*hmix.*, got 'hmx'"):
        Mixup.from_mode('hmx')
    with pytest.raises(ValueError, match=r"mix_mode 'puzzlemix' .* is hmix_timm.PuzzleMix, not Mixup"):
        Mixup.from_mode('puzzlemix')
    with pytest.raises(ValueError, match="preset must be one of imagenet, cifar100, got 'cifar10'"):
        Mixup.from_mode('hmix', 'cifar10')


NAN, INF = float('nan'), float('inf')
WRONG = [
    ('mixup_alpha', [-0.1, NAN, INF, '1', None, True]),
    ('cutmix_alpha', [-1, NAN, -INF]),
    ('prob', [-0.1, 1.1, NAN, None]),
    ('switch_prob', [-0.1, 1.1, NAN]),
    ('label_smoothing', [-0.1, 1.1, NAN]),
    ('cutmix_mode', ['cutmix', None, '']),
    ('hmix_ratio', [-0.1, 1.1, NAN, None]),
    ('hmix_gamma', [0, -1.0, NAN, INF]),
    ('gmix_kernel', ['gauss', None]),
    ('num_classes', [0, NAN, 2.5, '10']),
]


@pytest.mark.parametrize(('name', 'value'), [(name, value) for name, values in WRONG for value in values])
@pytest.mark.parametrize('cls', [Mixup, FastCollateMixup])
def test_wrong_values_are_named(cls, name, value):
    slot = {'cutmix_alpha': 1.0, 'cutmix_mode': name[:4]} if name[:4] in ('hmix', 'gmix') else {}
    arguments = {'num_classes': 10, **slot, name: value}
    with pytest.raises(ValueError) as caught:
        cls(**arguments)
    message = str(caught.value)
    assert message.startswith(f'{name} must be ') and message.endswith(f'got {value!r}')


@pytest.mark.parametrize('cls', [Mixup, FastCollateMixup])
@pytest.mark.parametrize(
    ('name', 'value'),
    [('mode', 'each'), ('mode', None)]
    + [('cutmix_minmax', v) for v in ([0.2], [0.8, 0.2], [-0.1, 0.5], [0.5, 1.5], [NAN, 0.5], 0.3, [0.2, 0.4, 0.6])],
)
def test_wrong_values_of_the_batch_mixers_are_named(cls, name, value):
    with pytest.raises(ValueError, match=f'^{name} must be .*got'):
        cls(**{name: value})


def test_slots_that_contradict_each_other():
    with pytest.raises(
        ValueError, match=r'mixup_alpha or cutmix_alpha must be > 0.*got mixup_alpha=0.0, cutmix_alpha=0'
    ):
        Mixup(mixup_alpha=0.0)
    with pytest.raises(ValueError, match=r"cutmix_minmax must be None with cutmix_mode='hmix'"):
        Mixup(cutmix_minmax=(0.2, 0.8), cutmix_mode='hmix')


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'cutmix_mode': 'hmix'}, "cutmix_alpha must be > 0 with cutmix_mode='hmix'.*got 0"),
        ({'cutmix_mode': 'gmix', 'hmix_ratio': 0.5}, "hmix_ratio is for cutmix_mode='hmix', not for 'gmix'; got 0.5"),
        ({'hmix_ratio': 0.5}, "hmix_ratio is for cutmix_mode='hmix', not for 'bbox'"),
        ({'cutmix_mode': 'hmix', 'hmix_ratio': 0.5, 'hmix_gamma': 2.0}, 'hmix_ratio has no effect beside hmix_gamma'),
    ],
)
@pytest.mark.parametrize('cls', [Mixup, FastCollateMixup])
def test_an_argument_without_effect_is_refused(cls, arguments, message):
    alpha = 0.0 if 'alpha' in message else 1.0
    with pytest.raises(ValueError, match=message):
        cls(num_classes=10, mixup_alpha=1.0, cutmix_alpha=alpha, **arguments)


def test_an_option_that_is_not_set_may_stand_beside_another():
    assert Mixup(0.0, 1.0, cutmix_mode='hmix', hmix_ratio=0.3, hmix_gamma=None).hmix_ratio == 0.3
    assert Mixup.from_mode('hmix', hmix_gamma=2.0).hmix_gamma == 2.0


def test_collate_refuses_images_that_are_not_uint8():
    with pytest.raises(ValueError, match='uint8 images, got float32'):
        FastCollateMixup(num_classes=2)([(np.zeros((3, 4, 4), np.float32), 0)] * 2)


def test_call_written_for_the_published_code_works():
    mixer = Mixup(0.8, 1.0, None, 1.0, 0.5, 'batch', True, 0.1, 100, cutmix_mode='hmix', hmix_ratio=0.5)
    assert (mixer.mixup_alpha, mixer.cutmix_alpha, mixer.num_classes, mixer.hmix_ratio) == (0.8, 1.0, 100, 0.5)
    assert repr(mixer) == (
        'Mixup(Mixup(alpha=0.8) | HMix(alpha=1, ratio=0.5), switch_prob=0.5, mode=batch, prob=1, '
        'label_smoothing=0.1, num_classes=100)'
    )


@pytest.mark.parametrize(
    ('options', 'slots'),
    [
        ({'mixup_alpha': 0.8}, 'Mixup(alpha=0.8)'),
        ({'mixup_alpha': 0.0, 'cutmix_alpha': 0.5}, 'CutMix(alpha=0.5)'),
        ({'mixup_alpha': 0.0, 'cutmix_minmax': (0.2, 0.8)}, 'CutMix(minmax=(0.2, 0.8))'),
        ({'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_gamma': 2.0}, 'HMix(alpha=1, gamma=2)'),
        (
            {'mixup_alpha': 0.3, 'cutmix_alpha': 1.0, 'cutmix_mode': 'gmix', 'switch_prob': 0.7},
            'Mixup(alpha=0.3) | GMix(alpha=1, kernel=reference), switch_prob=0.7',
        ),
        ({'mixup_alpha': 0.8, 'prob': 0.0}, 'no mixing'),
        ({'mixup_alpha': 0.8, 'correct_lam': False}, 'Mixup(alpha=0.8), correct_lam=False'),
    ],
)
def test_repr_names_the_slots_in_use(options, slots):
    assert repr(Mixup(**options)).startswith(f'Mixup({slots}, mode=batch, ')


@pytest.mark.parametrize('lam', [0.0, 1.0])
@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem'])
@pytest.mark.parametrize('collate', [False, True])
def test_at_both_ends_of_lam_boxes_are_drawn_where_timm_draws_them(monkeypatch, lam, mode, collate):
    """λ = 1 takes timm a box in the collate function's batch mode alone; λ = 0 always, which a border may clip."""
    monkeypatch.setattr(np.random, 'beta', lambda a, b, size=None: lam if size is None else np.full(size, lam))
    rng = np.random.default_rng(0)
    pixels, labels = rng.integers(0, 256, (4, 3, 9, 14), dtype=np.uint8), np.arange(4)
    arguments = {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'mode': mode, 'num_classes': 4, 'label_smoothing': 0.0}
    for seed in range(5):
        results = []
        classes = (FastCollateMixup, TimmFastCollateMixup) if collate else (Mixup, TimmMixup)
        for mixer in (cls(**arguments) for cls in classes):
            np.random.seed(seed)
            if collate:
                images, target = mixer(
                    [(image.copy(), int(label)) for image, label in zip(pixels, labels, strict=True)]
                )
            else:
                images, target = mixer(torch.from_numpy(pixels).float(), torch.from_numpy(labels))
            results.append((images, target, np.random.rand()))
        assert torch.equal(results[0][0], results[1][0])
        torch.testing.assert_close(results[0][1], results[1][1], check_dtype=False)
        assert results[0][2] == results[1][2], 'as many numbers drawn'


def test_repr_of_the_collate_function_is_that_of_the_mixer_and_its_loop():
    options = {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'gmix', 'num_classes': 12}
    mixer = repr(Mixup(**options))
    collate = repr(FastCollateMixup(**options))
    assert mixer == 'Mixup(GMix(alpha=1, kernel=reference), mode=batch, prob=1, label_smoothing=0.1, num_classes=12)'
    assert collate.partition(', compiled by ')[0].rstrip(')') == f'FastCollate{mixer}'.rstrip(')')
    assert collate.endswith(')')
