"""The part `loader`: images per second of real loaders, by a clock that the test turns."""

import itertools
import statistics

import pytest

from hmix_timm import bench
from hmix_timm.benching import loader
from hmix_timm.errors import RunError


def arguments(*line):
    parser = bench.build_parser()
    args = parser.parse_args(['--size', '32', '--workers', '1', *line])
    bench.check_arguments(parser, args)
    return args


def test_images_per_second(image_folder, clock, monkeypatch):
    # of 32 images five batches of 6 are whole: 30 images in each epoch; the first epoch of each loader does not count
    seconds = {'no mixing': [9, 2, 3, 10], "timm's Mixup": [9, 4, 6, 6], 'HMix': [9, 5, 4, 2]}
    readings = itertools.chain.from_iterable((0, s) for epoch in zip(*seconds.values(), strict=True) for s in epoch)
    monkeypatch.setattr(clock, 'perf_counter', lambda: next(readings))
    monkeypatch.setattr(loader, 'time', clock)
    line = ['--batch-size', '6', '--epochs', '3', '--data-dir', str(image_folder / 'train'), '--mix-modes', 'hmix']
    (table,) = loader.bench_loader(arguments(*line)).values()
    assert [row['loader'] for row in table] == list(seconds)
    for row, taken in zip(table, seconds.values(), strict=True):
        assert row['images per second'] == statistics.median(30 / s for s in taken[1:])
        ratios = [b / a for a, b in zip(taken[1:], seconds['no mixing'][1:], strict=True)]
        assert row['÷ no mixing'] == pytest.approx(statistics.median(ratios))


def test_cuttings_of_photographs_are_as_many_as_asked_for():
    with loader.image_folder(arguments('--images', '7', '--batch-size', '2')) as folder:
        files = sorted(path.relative_to(folder).as_posix() for path in folder.glob('*/*'))
        assert len(files) == 7 and {name.partition('/')[0] for name in files} == {'class0', 'class1'}
        assert loader.holds_images(folder)
    assert not folder.exists()


def test_fewer_images_than_a_batch_are_refused(image_folder):
    line = ['--batch-size', '40', '--data-dir', str(image_folder / 'train')]
    with pytest.raises(RunError, match='train holds 32 images, fewer than a batch of 40'):
        loader.bench_loader(arguments(*line))
