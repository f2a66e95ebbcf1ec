"""HMix, GMix and CutMix in every mode against tests/reference.py; extreme numbers, arguments and `repr`."""

import re
from functools import partial

import numpy as np
import pytest
import torch
from reference import expected
from timm.data.mixup import Mixup as TimmMixup

from hmix_timm import FastCollateMixup, Mixup
from hmix_timm.modes import mixer_arguments

CLASSES = 5
SHAPES = [(6, 3, 16, 16), (8, 1, 9, 21), (5, 3, 14, 6), (4, 2, 1, 1), (3, 3, 1, 7), (1, 3, 8, 8)]
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
def test_float_batches_are_mixed_as_the_reference_mixes_them(options, mode):
    mixer = Mixup(**{'mixup_alpha': 0.0, **options}, mode=mode, num_classes=CLASSES, label_smoothing=0.1)
    for seed, shape in enumerate(SHAPES * 2):
        rng = np.random.default_rng(seed)
        images, labels = rng.normal(size=shape), rng.integers(0, CLASSES, shape[0])
        np.random.seed(seed)
        mixed, target = expected(images, labels, CLASSES, mode, options, smoothing=0.1)
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
def test_uint8_samples_are_mixed_as_the_reference_mixes_them(options, mode):
    mixer = FastCollateMixup(**{'mixup_alpha': 0.0, **options}, mode=mode, num_classes=CLASSES, label_smoothing=0.0)
    for seed, shape in enumerate(SHAPES * 2):
        rng = np.random.default_rng(seed)
        images, labels = rng.integers(0, 256, shape, dtype=np.uint8), rng.integers(0, CLASSES, shape[0])
        np.random.seed(seed)
        mixed, target = expected(images.astype(float), labels, CLASSES, mode, options, collate=True)
        after = np.random.rand()
        wrap = np.array if seed < len(SHAPES) else torch.tensor
        np.random.seed(seed)
        got, soft = mixer([(wrap(image), int(label)) for image, label in zip(images, labels, strict=True)])
        assert np.random.rand() == after, 'as many numbers drawn, in the same order'
        assert got.dtype == torch.uint8 and got.is_contiguous() and soft.dtype == torch.float32
        np.testing.assert_allclose(got.numpy().astype(float), mixed, rtol=0, atol=0.5 + 1e-3)
        np.testing.assert_allclose(soft.numpy(), target, rtol=0, atol=1e-6)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem'])
@pytest.mark.parametrize('cutmix_mode', ['bbox', 'hmix', 'gmix'])
def test_half_precision_images_are_rounded_once_and_keep_float32_label_weights(dtype, mode, cutmix_mode):
    mixer = Mixup(0.5, 1.0, mode=mode, cutmix_mode=cutmix_mode, num_classes=CLASSES, label_smoothing=0.0)
    images = torch.randn(6, 3, 12, 10, generator=torch.Generator().manual_seed(0)).to(dtype)
    for seed in range(5):
        results = []
        for x in (images.clone(), images.float()):
            np.random.seed(seed)
            results.append(mixer(x, torch.arange(6) % CLASSES))
        assert results[0][0].dtype == dtype and results[0][1].dtype == torch.float32
        assert torch.equal(results[0][1], results[1][1])
        assert torch.equal(results[0][0], results[1][0].to(dtype))


@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem', 'half'])
def test_targets_of_float64_images_have_timms_dtype(mode):
    options = {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'mode': mode, 'num_classes': CLASSES}
    x, labels = torch.rand(6, 3, 12, 10, dtype=torch.float64), torch.arange(6) % CLASSES
    ours, timms = (mixer(x, labels)[1] for mixer in (Mixup(**options, cutmix_mode='hmix'), TimmMixup(**options)))
    assert ours.dtype == timms.dtype


EXTREME = [
    *({'cutmix_mode': 'hmix', 'hmix_ratio': ratio} for ratio in (0.0, 0.3, 1.0)),
    *({'cutmix_mode': 'hmix', 'hmix_ratio': ratio, 'correct_lam': False} for ratio in (0.0, 1.0)),
    *({'cutmix_mode': 'gmix', 'gmix_kernel': kernel} for kernel in ('reference', 'paper')),
    {'cutmix_mode': 'bbox'},
]


def pinned_beta(lam, a, b, size=None):
    return lam if size is None else np.full(size, lam)


@pytest.mark.parametrize('mode', ['batch', 'elem', 'half'])
@pytest.mark.parametrize('options', EXTREME, ids=str)
@pytest.mark.filterwarnings('error')
def test_images_and_targets_stay_in_range_at_every_lam(monkeypatch, mode, options):
    """White images with black partners; the draw of λ is pinned, everything after it is real."""
    arguments = {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'mode': mode, 'num_classes': 2, 'label_smoothing': 0.0}
    for lam in (0.0, 1e-300, 1e-9, 0.5, 1.0 - 1e-16, 1.0):
        monkeypatch.setattr(np.random, 'beta', partial(pinned_beta, lam))
        for shape in ((4, 3, 8, 8), (4, 3, 1, 1), (2, 1, 1, 5)):
            labels = torch.tensor([1] * (shape[0] // 2) + [0] * (shape[0] // 2))
            x = labels.view(-1, 1, 1, 1).expand(shape).float().clone()
            samples = [((image * 255).byte().numpy(), int(label)) for image, label in zip(x, labels, strict=True)]
            np.random.seed(0)
            mixed, target = Mixup(**arguments, **options)(x, labels)
            collated, collated_target = FastCollateMixup(**arguments, **options)(samples)
            for images, soft in ((mixed, target), (collated / 255.0, collated_target)):
                assert images.min() >= 0.0 and images.max() <= 1.0 and soft.min() >= 0.0 and soft.max() <= 1.0
                torch.testing.assert_close(soft.sum(1), torch.ones(len(soft)))
            if options.get('correct_lam', True):
                means = mixed.double().flatten(1).mean(1)
                np.testing.assert_allclose(means.numpy(), target[:, 1].double().numpy(), atol=1e-6)


@pytest.mark.parametrize('alpha', [1e-300, 1e-3, 1e12])
@pytest.mark.parametrize('options', [{}, {'cutmix_mode': 'hmix', 'hmix_gamma': 1.0}, {'cutmix_mode': 'gmix'}], ids=str)
def test_extreme_alphas_are_finite(alpha, options):
    np.random.seed(0)
    options = {name: alpha if name == 'hmix_gamma' else value for name, value in options.items()}
    for mode in ('batch', 'elem'):
        mixer = Mixup(0.0, alpha, mode=mode, num_classes=3, **options)
        for _ in range(20):
            mixed, target = mixer(torch.rand(4, 3, 6, 6), torch.tensor([0, 1, 2, 0]))
            assert torch.isfinite(mixed).all()
            torch.testing.assert_close(target.sum(1), torch.ones(4))


NAN, INF = float('nan'), float('inf')
WRONG = {
    'mixup_alpha': [-0.1, NAN, INF, '1', None, True],
    'cutmix_alpha': [-1, NAN, -INF],
    'cutmix_minmax': [[0.2], [0.8, 0.2], [-0.1, 0.5], [0.5, 1.5], [NAN, 0.5], 0.3, [0.2, 0.4, 0.6]],
    'prob': [-0.1, 1.1, NAN, None],
    'switch_prob': [-0.1, 1.1, NAN],
    'mode': ['each', None],
    'label_smoothing': [-0.1, 1.1, NAN],
    'num_classes': [0, NAN, 2.5, '10'],
    'cutmix_mode': ['cutmix', None, ''],
    'hmix_ratio': [-0.1, 1.1, NAN, None],
    'hmix_gamma': [0, -1.0, NAN, INF, 'a'],
    'gmix_kernel': ['gauss', None],
}


@pytest.mark.parametrize('name', WRONG)
@pytest.mark.parametrize('cls', [Mixup, FastCollateMixup])
def test_wrong_values_are_named_with_what_is_allowed(cls, name):
    slot = {'cutmix_alpha': 1.0, 'cutmix_mode': name[:4]} if name[:4] in ('hmix', 'gmix') else {}
    for value in WRONG[name]:
        with pytest.raises(ValueError, match=f'^{name} must be .*{re.escape(f"got {value!r}")}$'):
            cls(**{'num_classes': 10, **slot, name: value})


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'mixup_alpha': 0.0}, r'mixup_alpha or cutmix_alpha must be > 0, .* got mixup_alpha=0.0, cutmix_alpha=0'),
        ({'cutmix_minmax': (0.2, 0.8), 'cutmix_mode': 'hmix'}, "cutmix_minmax must be None with cutmix_mode='hmix'"),
        ({'cutmix_mode': 'hmix'}, "cutmix_alpha must be > 0 with cutmix_mode='hmix'.*got 0"),
        ({'cutmix_mode': 'gmix', 'hmix_ratio': 0.5}, "hmix_ratio is for cutmix_mode='hmix', not for 'gmix'; got 0.5"),
        ({'hmix_ratio': 0.5}, "hmix_ratio is for cutmix_mode='hmix', not for 'bbox'"),
        ({'cutmix_mode': 'hmix', 'hmix_ratio': 0.5, 'hmix_gamma': 2.0}, 'hmix_ratio has no effect beside hmix_gamma'),
    ],
)
@pytest.mark.parametrize('cls', [Mixup, FastCollateMixup])
def test_an_argument_without_effect_is_refused(cls, arguments, message):
    with pytest.raises(ValueError, match=f'^{message}'):
        cls(**arguments)


def test_an_option_that_is_not_set_may_stand_beside_another():
    assert Mixup(0.0, 1.0, cutmix_mode='hmix', hmix_ratio=0.3, hmix_gamma=None).hmix_ratio == 0.3


@pytest.mark.parametrize('mode', ['none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix'])
@pytest.mark.parametrize(('cls', 'preset'), [(Mixup, 'imagenet'), (FastCollateMixup, 'cifar100')])
def test_from_mode_is_a_row_of_the_papers_tables(cls, mode, preset):
    mixer = cls.from_mode(mode, preset, num_classes=7)
    assert type(mixer) is cls
    assert repr(mixer) == repr(cls(**mixer_arguments(mode, preset), num_classes=7))


def test_from_mode_takes_arguments_in_place_of_the_rows():
    assert Mixup.from_mode('hmix', hmix_ratio=0.2).hmix_ratio == 0.2
    assert Mixup.from_mode('hmix', hmix_gamma=2.0).hmix_gamma == 2.0
    assert Mixup.from_mode('gmix', cutmix_alpha=2.0).cutmix_alpha == 2.0


def test_options_are_attributes_that_may_be_set_on_a_live_mixer():
    mixer = Mixup(0.0, 1.0, cutmix_mode='hmix', hmix_ratio=0.0, num_classes=2, label_smoothing=0.0)
    mixer.hmix_ratio, mixer.correct_lam = 0.5, False
    assert (mixer.cutmix_mode, mixer.hmix_ratio) == ('hmix', 0.5)
    options = {'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_ratio': 0.5, 'correct_lam': False}
    images, labels = np.random.default_rng(0).normal(size=(2, 3, 8, 8)), np.array([0, 1])
    np.random.seed(0)
    wanted = expected(images, labels, 2, 'batch', options)
    np.random.seed(0)
    for got, exact in zip(mixer(torch.tensor(images), torch.tensor(labels)), wanted, strict=True):
        np.testing.assert_allclose(got.numpy(), exact, atol=1e-6)


def test_a_call_written_for_the_published_code_works():
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
        ({'mixup_alpha': 0.0, 'prob': 0.0}, 'no mixing'),
        ({'mixup_alpha': 0.8, 'correct_lam': False}, 'Mixup(alpha=0.8), correct_lam=False'),
    ],
)
def test_repr_names_the_slots_in_use(options, slots):
    assert repr(Mixup(**options)).startswith(f'Mixup({slots}, mode=batch, ')
    assert repr(FastCollateMixup(**options)).startswith(f'FastCollateMixup({slots}, mode=batch, ')
