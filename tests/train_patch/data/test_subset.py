"""A class-balanced subset: the first images of each class, pixel for pixel, or an error and no folder."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import FakeData, FashionMNIST, ImageFolder

from train_patch.common.errors import RunError
from train_patch.data.subset import build_parser, first_of_each_class, main, write_subset


def write_idx(path: Path, array: np.ndarray) -> None:
    """The format of MNIST's files: two zero bytes, 8 for uint8, the number of dimensions, their sizes, the values."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, dtype='>i4').tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + array.astype(np.uint8).tobytes())


@pytest.fixture
def fashion(tmp_path):
    """A small data set in Fashion-MNIST's files: (root, split → (images, labels))."""
    rng = np.random.default_rng(0)
    splits = {}
    for split, name, count in (('train', 'train', 200), ('validation', 't10k', 120)):
        images = rng.integers(0, 256, (count, 28, 28))
        labels = rng.permutation(np.arange(count) % 10)
        write_idx(tmp_path / f'data/FashionMNIST/raw/{name}-images-idx3-ubyte', images)
        write_idx(tmp_path / f'data/FashionMNIST/raw/{name}-labels-idx1-ubyte', labels)
        splits[split] = images, labels
    return tmp_path / 'data', splits


@given(st.lists(st.integers(0, 4), min_size=1), st.integers(1, 4))
def test_the_first_of_each_class(labels, per_class):
    if min(labels.count(label) for label in labels) < per_class:
        with pytest.raises(ValueError, match=f'--per-class {per_class}: class'):
            first_of_each_class(labels, per_class)
        return
    seen = dict.fromkeys(labels, 0)
    expected = []
    for index, label in enumerate(labels):
        if seen[label] < per_class:
            expected.append(index)
        seen[label] += 1
    assert first_of_each_class(labels, per_class) == expected


def test_images_are_the_data_sets_own(fashion, processes, tmp_path):
    root, splits = fashion
    output = tmp_path / 'not' / 'there' / 'small'
    argv = ['torch/fashion_mnist', output, '--data-dir', root, '--per-class', 3]
    result = processes.module('train_patch.data.subset', *argv).passed()
    assert result.stdout == f'{output}: 30 training and 120 validation images\n'
    for split, count in (('train', 30), ('validation', 120)):
        images, labels = splits[split]
        files = sorted((output / split).glob('*/*.png'))
        assert len(files) == count
        for file in files:
            index = int(file.stem)
            assert int(file.parent.name) == labels[index]
            with Image.open(file) as image:
                assert image.mode == 'L'
                np.testing.assert_array_equal(np.asarray(image), images[index])
    assert [file.name for file in output.parent.iterdir()].count('small') == 1
    assert not list(output.parent.glob('small.tmp*'))


def test_classes_keep_their_numbers_with_more_than_ten(tmp_path):
    """Names of folders are sorted as text."""
    data = FakeData(size=300, image_size=(3, 8, 8), num_classes=12)
    labels = [int(data[index][1]) for index in range(300)]
    write_subset(data, data, 2, tmp_path / 'small')
    for split in ('train', 'validation'):
        folder = ImageFolder(str(tmp_path / 'small' / split))
        assert len(folder.classes) == 12
        assert [label for _, label in folder.samples] == [labels[int(Path(file).stem)] for file, _ in folder.samples]


def test_a_folder_that_is_there_stays_as_it_is(fashion, tmp_path, capsys):
    output = tmp_path / 'small'
    output.mkdir()
    (output / 'mine').touch()
    with pytest.raises(SystemExit) as ended:
        main(['torch/fashion_mnist', str(output), '--data-dir', str(fashion[0]), '--per-class', '3'])
    assert ended.value.code == 2
    assert 'already there' in capsys.readouterr().err
    assert [file.name for file in output.iterdir()] == ['mine']


@pytest.mark.parametrize(
    ('arguments', 'status', 'message'),
    [
        (('--per-class', '21'), 2, '--per-class 21: class 0 has only 20 training images'),
        (('--per-class', '0'), 2, '--per-class 0: must be at least 1'),
        (('--data-dir', 'nowhere', '--per-class', '3'), 1, 'Dataset not found'),
    ],
)
def test_an_error_leaves_nothing(fashion, tmp_path, capsys, arguments, status, message):
    with pytest.raises(SystemExit) as ended:
        main(['torch/fashion_mnist', str(tmp_path / 'small'), '--data-dir', str(fashion[0]), *arguments])
    assert ended.value.code == status
    assert message in capsys.readouterr().err
    assert [file.name for file in tmp_path.iterdir()] == ['data']


def test_every_option_is_explained():
    parser = build_parser()
    assert parser.description and parser.prog == 'python -m train_patch.data.subset'
    shown = {}
    for action in parser._actions:
        assert action.help, action.dest
        shown[action.dest] = action.metavar
    names = {'train_split': 'NAME', 'val_split': 'NAME', 'per_class': 'N', 'data_dir': 'DIR'}
    assert shown == {'help': None, 'dataset': 'TYPE/NAME', 'output': 'OUTPUT', 'dataset_download': None, **names}


def test_the_number_of_images_of_a_class_must_be_given(capsys):
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(['torch/fashion_mnist', 'small'])
    assert ended.value.code == 2
    assert 'the following arguments are required: --per-class' in capsys.readouterr().err


def test_the_defaults_are_those_of_training():
    args = build_parser().parse_args(['', 'small', '--per-class', '7'])
    assert (args.train_split, args.val_split) == ('train', 'validation')
    assert (args.per_class, args.output, args.data_dir, args.dataset_download) == (7, Path('small'), None, False)


def images_of(classes):
    """A map-style data set with one image of its own for each class number."""
    return [(Image.new('L', (2, 2), index), label) for index, label in enumerate(classes)]


def names_in(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob('*.png'))


def test_numbers_have_as_many_digits_as_the_last_one_of_their_split(tmp_path):
    """Images 0 to 9 have one digit, 0 to 10 two; so have classes 0 to 9 and 0 to 10."""
    assert write_subset(images_of(range(10)), images_of([3] * 11), 1, tmp_path / 'a' / 'small') == (10, 11)
    assert names_in(tmp_path / 'a' / 'small' / 'train') == [f'{index}/{index}.png' for index in range(10)]
    assert names_in(tmp_path / 'a' / 'small' / 'validation') == [f'3/{index:02d}.png' for index in range(11)]
    assert write_subset(images_of(range(11)), images_of([3]), 1, tmp_path / 'b') == (11, 1)
    assert names_in(tmp_path / 'b' / 'train') == [f'{index:02d}/{index:02d}.png' for index in range(11)]
    assert names_in(tmp_path / 'b' / 'validation') == ['03/0.png']


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(RunError, match=rf'^cannot write {tmp_path}/file/small: (File exists|Not a directory)$'):
        write_subset(images_of([0]), images_of([0]), 1, tmp_path / 'file' / 'small')


@pytest.fixture
def photographs(tmp_path):
    """An image folder with splits of other names than timm's: two classes, three and two images each."""
    for split, count in (('first', 3), ('second', 2)):
        for label in ('cat', 'dog'):
            (tmp_path / 'photographs' / split / label).mkdir(parents=True)
            for index in range(count):
                image = Image.new('RGB', (3, 2), (10 * index, len(label), len(split)))
                image.save(tmp_path / 'photographs' / split / label / f'{index}.png')
    return tmp_path / 'photographs'


def test_splits_of_other_names_are_written_as_train_and_validation(photographs, tmp_path, capsys):
    line = ['', str(tmp_path / 'new' / 'small'), '--data-dir', str(photographs), '--per-class', '1']
    assert main([*line, '--train-split', 'first', '--val-split', 'second']) == 0
    output = tmp_path / 'new' / 'small'
    assert capsys.readouterr().out == f'{output}: 2 training and 4 validation images\n'
    assert names_in(output) == [
        'train/0/0.png',
        'train/1/3.png',
        *(f'validation/{name}.png' for name in ('0/0', '0/1', '1/2', '1/3')),
    ]
    with Image.open(output / 'train/1/3.png') as image:
        assert (image.mode, image.getpixel((0, 0))) == ('RGB', (0, 3, 5))


def test_a_split_that_is_not_there_is_refused_where_timm_would_take_all_images(photographs, tmp_path, capsys):
    with pytest.raises(SystemExit) as ended:
        main(['', str(tmp_path / 'small'), '--data-dir', str(photographs), '--per-class', '1', '--val-split', 'first'])
    assert ended.value.code == 2
    assert f'error: --data-dir {photographs}: there is no folder train/ in it' in capsys.readouterr().err


def test_an_image_that_cannot_be_read_ends_it_and_leaves_nothing(photographs, tmp_path, capsys):
    (photographs / 'second' / 'dog' / '1.png').write_bytes(b'no image')
    line = ['', str(tmp_path / 'small'), '--data-dir', str(photographs), '--per-class', '1']
    with pytest.raises(SystemExit) as ended:
        main([*line, '--train-split', 'first', '--val-split', 'second'])
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.startswith('python -m train_patch.data.subset: error: cannot read the image ') and 'dog/1.png' in said
    assert os.listdir(tmp_path) == ['photographs']


@pytest.mark.parametrize(('more', 'said'), [([], 'Dataset not found'), (['--dataset-download'], 'Error downloading')])
def test_a_data_set_is_downloaded_only_where_that_is_asked_for(more, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(FashionMNIST, 'mirrors', [])  # a network without the data set
    with pytest.raises(SystemExit) as ended:
        main(['torch/fashion_mnist', str(tmp_path / 'small'), '--data-dir', str(tmp_path), '--per-class', '1', *more])
    assert ended.value.code == 1
    assert said in capsys.readouterr().err
