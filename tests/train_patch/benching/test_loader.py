"""The part `loader`: images per second of real loaders, by a clock that the test turns."""

import itertools
import statistics

import numpy as np
import pytest

from train_patch import bench
from train_patch.benching import loader
from train_patch.common.errors import RunError


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


def test_what_is_timed_is_timms_training_loader(image_folder, monkeypatch, capsys):
    made, waited = [], []

    def create(dataset, **options):
        made.append(options)
        return [(dataset, None)]

    monkeypatch.setattr(loader.timm.data, 'create_loader', create)
    monkeypatch.setattr(loader, 'synchronize', waited.append)
    line = ['--batch-size', '32', '--epochs', '1', '--data-dir', str(image_folder / 'train'), '--mix-modes', 'hmix']
    ((title, table),) = loader.bench_loader(arguments(*line)).items()
    assert title == "timm's create_loader, 1 workers, 32×32, cpu" and len(table) == 3
    expected = {'input_size': (3, 32, 32), 'batch_size': 32, 'is_training': True, 'num_workers': 1}
    for options in made:
        assert expected.items() <= options.items() and str(options['device']) == 'cpu'
    assert [type(options['collate_fn']).__module__ for options in made] == [
        'builtins',
        'timm.data.mixup',
        'hmix_timm.mixup',
    ]
    assert waited == ['cpu'] * 6
    names = ['no mixing', "timm's Mixup", 'HMix']
    assert capsys.readouterr().err.splitlines() == [f'loader: {n}, epoch {e} of 1' for e in (0, 1) for n in names]


def test_cuttings_lie_inside_the_photographs_and_reach_their_edges(monkeypatch):
    from PIL import Image

    tiny, boxes = Image.new('RGB', (1, 1)), []

    def resize(image, size, resample, box):
        boxes.append((image.size, size, box))
        return tiny

    monkeypatch.setattr(Image.Image, 'resize', resize)
    with loader.image_folder(arguments('--images', '600', '--batch-size', '2')):
        pass
    assert {(size, scaled) for size, scaled, _ in boxes} == {((640, 427), (500, 375))}
    boxes = np.array([box for *_, box in boxes])
    assert boxes[:, :2].min() == 0 and (boxes[:, 2:].max(axis=0) == (640, 427)).all()
    shares = (boxes[:, 2:] - boxes[:, :2]) / (640, 427)
    assert shares.min() == pytest.approx(0.6, abs=0.01) and shares.max() == pytest.approx(1.0, abs=0.01)
    assert np.abs(shares[:, 0] - shares[:, 1]).max() < 0.003  # of one shape, up to whole pixels


def test_images_are_in_class_folders(tmp_path):
    (tmp_path / 'class').mkdir()
    (tmp_path / 'top.jpg').touch()
    (tmp_path / 'class' / 'notes.txt').touch()
    assert not loader.holds_images(tmp_path)
    (tmp_path / 'class' / 'below').mkdir()
    (tmp_path / 'class' / 'below' / 'a.JPG').touch()
    assert loader.holds_images(tmp_path)
