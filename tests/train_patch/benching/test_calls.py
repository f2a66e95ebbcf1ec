"""The tables of the parts `mixers` and `scaling`, their values from mixers whose cost is known."""

import statistics

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image

from hmix_timm import BoxMask, FastCollateMixup, Mixup, register_family
from hmix_timm.families import FAMILIES
from train_patch import bench
from train_patch.benching import calls as mixers
from train_patch.benching import timing

MEBIBYTE = 2**18
"""Float32 values in it."""


@pytest.fixture
def stripes():
    """A family that timm does not know."""

    @register_family('stripes')
    def draw(size, lam, options, draws):
        return BoxMask(lam)

    yield 'stripes'
    del FAMILIES['stripes']


def arguments(*line):
    parser = bench.build_parser()
    args = parser.parse_args(['--batch-size', '2', '--size', '8', *line])
    bench.check_arguments(parser, args)
    return args


def test_by_default_mixup_and_every_single_mask_is_measured(stripes):
    assert arguments().mix_modes == ['mixup', 'cutmix', 'hmix', 'gmix', 'stripes']


def test_timms_mixers_stand_first_where_timm_has_them(stripes):
    found = mixers.make_mixers('Mixup', 'pair', ['cutmix', 'stripes', 'stochastic'])
    assert list(found) == ["timm's Mixup", "timm's CutMix", "timm's Stochastic", 'CutMix', 'Stripes', 'Stochastic']
    assert all(type(found[name]) is timm.data.Mixup for name in list(found)[:3])
    assert all(type(found[name]) is Mixup for name in list(found)[3:])
    assert {mixer.mode for mixer in found.values()} == {'pair'}


def test_timms_mixers_have_our_hyper_parameters():
    found = mixers.make_mixers('FastCollateMixup', 'half', ['mixup', 'stochastic'])
    for name in ('Mixup', 'Stochastic'):
        ours, theirs = found[name], found[f"timm's {name}"]
        assert type(ours) is FastCollateMixup and type(theirs) is timm.data.FastCollateMixup
        for attribute in ('mixup_alpha', 'cutmix_alpha', 'mix_prob', 'switch_prob', 'mode', 'label_smoothing'):
            assert getattr(ours, attribute) == getattr(theirs, attribute)
    assert found['Mixup'].mixup_alpha == 0.8


def test_modes_of_one_title_are_told_apart(stripes):
    register_family('bars', title='Stripes')(lambda size, lam, options, draws: BoxMask(lam))
    try:
        assert mixers.titles(['stripes', 'bars', 'hmix']) == {
            'stripes': 'Stripes (stripes)',
            'bars': 'Stripes (bars)',
            'hmix': 'HMix',
        }
    finally:
        del FAMILIES['bars']


def test_masks_are_compared_with_timms_own_or_with_its_mixup():
    times = {
        "timm's Mixup": [2.0, 60.0, 5.0],  # all is slow in the second turn
        "timm's CutMix": [1.0, 40.0, 4.0],
        'HMix': [1.0, 30.0, 4.0],
        'GMix': [4.0, 60.0, 20.0],
        'Mixup': [0.5, 15.0, 1.0],
        'CutMix': [3.0, 40.0, 2.0],
    }
    found = mixers.beside_timms(times, ['mixup', 'cutmix', 'hmix', 'gmix'])
    assert list(found.items()) == [
        ("HMix ÷ timm's Mixup", 0.5),
        ("GMix ÷ timm's Mixup", 2.0),
        ("Mixup ÷ timm's", 0.25),
        ("CutMix ÷ timm's", 1.0),
        ("timm's Mixup, ms", 5.0),
        ("timm's CutMix, ms", 4.0),
    ]


class Known:
    """A mixer that takes the milliseconds given, in turns, and holds the MiB given."""

    def __init__(self, clock, milliseconds, mebibytes):
        self.clock, self.milliseconds, self.mebibytes, self.calls = clock, milliseconds, mebibytes, 0

    def __call__(self, *inputs):
        torch.empty(self.mebibytes * MEBIBYTE)
        self.clock.now += self.milliseconds[self.calls % len(self.milliseconds)] / 1e3
        self.calls += 1


@pytest.fixture
def known(clock, monkeypatch):
    """Mixers that take 9, 3 and 4 ms: a reading of the clock takes 1 ms, so that a plain copy does, too."""
    clock.tick = 1e-3
    monkeypatch.setattr(timing, 'time', clock)

    def make_mixers(class_name, mode, names):
        assert names == ['mixup', 'hmix']
        return {
            "timm's Mixup": Known(clock, [8.0], 5),
            'Mixup': Known(clock, [2.0], 0),
            # called five times, of which the first two are a warm-up: 99, 3 and 1 are timed
            'HMix': Known(clock, [0.0, 0.0, 99.0, 3.0, 1.0], 2),
        }

    monkeypatch.setattr(mixers, 'make_mixers', make_mixers)
    return arguments('--repeats', '3', '--mix-modes', 'mixup', 'hmix')


def test_ratios_and_times_of_the_table(known):
    times, _, _ = mixers.bench_mixers(known).values()
    assert [row['path, mode'] for row in times][:4] == [
        'float32 cpu, batch',
        'float32 cpu, pair',
        'float32 cpu, elem',
        'uint8 collate, batch',
    ]
    for row in times:
        assert list(row)[1:] == ["HMix ÷ timm's Mixup", "Mixup ÷ timm's", "timm's Mixup, ms"]
        assert row["timm's Mixup, ms"] == pytest.approx(9.0)
        assert row["Mixup ÷ timm's"] == pytest.approx(3 / 9)
        assert row["HMix ÷ timm's Mixup"] == pytest.approx(statistics.median([100 / 9, 4 / 9, 2 / 9]))


def test_memory_of_the_table_is_in_mebibytes(known):
    _, memory, _ = mixers.bench_mixers(known).values()
    for row in memory:
        assert list(row.values())[1:] == [
            pytest.approx(5.0, abs=0.1),
            pytest.approx(0.0, abs=0.1),
            pytest.approx(2.0, abs=0.1),
        ]


def test_bandwidth_is_the_time_of_a_copy_by_that_of_the_mixer(known):
    _, _, bandwidth = mixers.bench_mixers(known).values()
    assert len(bandwidth) == 3
    for row in bandwidth:
        assert list(row)[1:] == ["timm's Mixup", 'Mixup', 'HMix']
        assert list(row.values())[1:] == [pytest.approx(1 / 9), pytest.approx(1 / 3), pytest.approx(1 / 4)]


def test_scaling_is_in_nanoseconds_for_each_value(known, monkeypatch):
    monkeypatch.setattr(mixers, 'SIZES', (8, 20))
    monkeypatch.setattr(mixers, 'BATCH_SIZES', (2, 6))
    sizes, batches = mixers.bench_scaling(known).values()
    for row, batch_size, size in zip(sizes + batches, (64, 64, 2, 6), (8, 20, 128, 128), strict=True):
        assert row['images'] == f'{batch_size}×3×{size}×{size}'
        values = batch_size * 3 * size * size
        for path in ('float32', 'uint8'):
            assert row[f'{path} Mixup'] * values == pytest.approx(3e6)  # 3 ms
            assert row[f'{path} HMix'] * values == pytest.approx(4e6)
        assert len(row) == 5


def test_batches_and_samples_reach_the_mixers_that_take_them(monkeypatch):
    seen = []

    def make_mixers(class_name, mode, names):
        return {"timm's Mixup": lambda *inputs: seen.append((class_name, mode, inputs)), 'Mixup': lambda *inputs: None}

    monkeypatch.setattr(mixers, 'make_mixers', make_mixers)
    monkeypatch.setattr(mixers, 'extra_memory', lambda call, device: 0.0)
    mixers.bench_mixers(arguments('--repeats', '1', '--mix-modes', 'mixup', '--dtype', 'bfloat16'))
    found = {(class_name, mode) for class_name, mode, _ in seen}
    assert found == {('Mixup', mode) for mode in ('batch', 'pair', 'elem')} | {
        ('FastCollateMixup', mode) for mode in ('batch', 'pair', 'elem', 'half')
    }
    for class_name, _, inputs in seen:
        if class_name == 'Mixup':
            images, target = inputs
            assert images.shape == (2, 3, 8, 8) and images.dtype == torch.bfloat16 and target.shape == (2,)
        else:
            ((first, label), (second, _)) = inputs[0]
            assert first.shape == second.shape == (3, 8, 8) and first.dtype == np.uint8 and label == 0


def test_samples_have_the_layouts_of_the_paths():
    contiguous, as_loaded = (mixers.make_samples(2, 8, channels_last=flag)[0][0] for flag in (False, True))
    assert contiguous.shape == as_loaded.shape == (3, 8, 8)
    assert contiguous.flags.c_contiguous
    assert as_loaded.strides == np.rollaxis(np.array(Image.new('RGB', (8, 8))), 2).strides


def test_scaling_goes_over_these_sizes_and_batches(monkeypatch):
    monkeypatch.setattr(mixers, 'make_batch', lambda *arguments: ())
    monkeypatch.setattr(mixers, 'make_samples', lambda *arguments, **more: [])
    monkeypatch.setattr(mixers, 'alternate', lambda calls, repeats, device: {name: [0.25] for name in calls})
    sizes, batches = mixers.bench_scaling(arguments('--mix-modes', 'hmix')).values()
    assert [row['images'] for row in sizes] == [f'64×3×{n}×{n}' for n in (32, 64, 128, 224, 384)]
    assert [row['images'] for row in batches] == [f'{n}×3×128×128' for n in (16, 64, 256, 1024)]
    assert sizes[0]['uint8 HMix'] == pytest.approx(250_000 / (64 * 3 * 32 * 32), rel=1e-9)


def test_batches_are_the_same_each_time_and_have_every_class():
    images, target = mixers.make_batch(20_000, 1, torch.float64, 'cpu')
    assert images.shape == (20_000, 3, 1, 1) and images.dtype == torch.float64
    assert 0 <= images.min() < 0.001 and 0.999 < images.max() < 1
    assert (target.min(), target.max()) == (0, 999)
    again = mixers.make_batch(20_000, 1, torch.float64, 'cpu')
    assert torch.equal(images, again[0]) and torch.equal(target, again[1])


@pytest.mark.parametrize('channels_last', [False, True])
def test_samples_are_the_same_each_time_and_have_every_grey_level(channels_last):
    samples = mixers.make_samples(1002, 4, channels_last)
    assert [label for _, label in samples] == [*range(1000), 0, 1]
    images = np.stack([image for image, _ in samples])
    assert images.shape == (1002, 3, 4, 4) and images.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 255)
    np.testing.assert_array_equal(images, np.stack([x for x, _ in mixers.make_samples(1002, 4, channels_last)]))
