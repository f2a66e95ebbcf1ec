"""A class-balanced subset: the first images of each class, pixel for pixel, or an error and no folder."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import FashionMNIST, ImageFolder

from train_patch.common.errors import RunError, WrongArguments
from train_patch.data.subset import first_of_each_class, main, write_subset


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
        with pytest.raises(WrongArguments, match=f'--per-class {per_class}: class'):
            first_of_each_class(labels, per_class)
        return
    seen = dict.fromkeys(labels, 0)
    expected = []
    for index, label in enumerate(labels):
        if seen[label] < per_class:
            expected.append(index)
        seen[label] += 1
    assert first_of_each_class(labels, per_class) == expected


def test_images_are_not_read_to_learn_their_labels(tmp_path):
    for split, label, number in np.ndindex(2, 2, 3):
        path = tmp_path / 'data' / ('train', 'validation')[split] / str(label) / f'{number}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('L', (2, 2), int(label)).save(path)
        if split == 0 and number == 2:
            path.write_bytes(b'of no image')
    argv = ['', str(tmp_path / 'small'), '--data-dir', str(tmp_path / 'data'), '--per-class', '2']
    assert main(argv) == 0
    assert len([*(tmp_path / 'small' / 'train').glob('*/*.png')]) == 4


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
    assert os.listdir(output.parent) == ['small']


def names_in(folder):
    return sorted(str(file.relative_to(folder)) for file in folder.rglob('*.png'))


def test_classes_keep_their_numbers_with_more_than_ten(tmp_path):
    """Names of folders are sorted as text, so numbers have as many digits as the last one."""
    train, validation = (
        [(Image.new('L', (2, 2), index), index % classes) for index in range(count)]
        for classes, count in ((12, 24), (10, 10))
    )
    assert write_subset(train, validation, 2, tmp_path / 'small') == (24, 10)
    folder = ImageFolder(str(tmp_path / 'small' / 'train'))
    assert len(folder.classes) == 12
    assert [label for _, label in folder.samples] == [int(Path(file).stem) % 12 for file, _ in folder.samples]
    assert names_in(tmp_path / 'small' / 'train')[:2] == ['00/00.png', '00/12.png']
    assert names_in(tmp_path / 'small' / 'validation')[:2] == ['00/0.png', '01/1.png']
    write_subset(train[:10], validation, 1, tmp_path / 'ten')
    assert names_in(tmp_path / 'ten' / 'train')[:2] == ['0/0.png', '1/1.png']


@pytest.fixture
def photographs(tmp_path):
    """An image folder with splits of other names than timm's: two classes, three and two images each."""
    for split, count in (('first', 3), ('second', 2)):
        for label in ('cat', 'dog'):
            (tmp_path / 'data' / split / label).mkdir(parents=True)
            for index in range(count):
                image = Image.new('RGB', (3, 2), (10 * index, len(label), len(split)))
                image.save(tmp_path / 'data' / split / label / f'{index}.png')
    return tmp_path / 'data'


def test_splits_of_other_names_are_written_as_train_and_validation(photographs, tmp_path, capsys):
    output = tmp_path / 'small'
    line = ['', str(output), '--data-dir', str(photographs), '--per-class', '1']
    assert main([*line, '--train-split', 'first', '--val-split', 'second']) == 0
    assert capsys.readouterr().out == f'{output}: 2 training and 4 validation images\n'
    assert names_in(output / 'train') == ['0/0.png', '1/3.png']
    assert names_in(output / 'validation') == ['0/0.png', '0/1.png', '1/2.png', '1/3.png']
    with Image.open(output / 'train/1/3.png') as image:
        assert (image.mode, image.getpixel((0, 0))) == ('RGB', (0, 3, 5))


@pytest.mark.parametrize(
    ('data', 'line', 'status', 'message'),
    [
        (
            'fashion',
            'torch/fashion_mnist small --per-class 21',
            2,
            '--per-class 21: class 0 has only 20 training images',
        ),
        ('fashion', 'torch/fashion_mnist small --per-class 0', 2, '--per-class: must be a whole number >= 1, got 0'),
        ('fashion', 'torch/fashion_mnist small', 2, 'the following arguments are required: --per-class'),
        ('fashion', 'torch/fashion_mnist data --per-class 1', 2, 'data is already there'),
        ('fashion', 'torch/fashion_mnist small --per-class 1 --data-dir nowhere', 1, 'Dataset not found'),
        # timm would take all images for a split that is not there
        ('photographs', '_ small --per-class 1 --val-split first', 2, 'there is no folder train/ in it'),
        ('broken', '_ small --per-class 1 --train-split first --val-split second', 1, 'cannot read the image'),
    ],
)
def test_an_error_is_one_line_and_leaves_nothing(data, line, status, message, request, tmp_path, capsys, monkeypatch):
    root = request.getfixturevalue(data.replace('broken', 'photographs'))
    if data == 'broken':
        (root / 'second' / 'dog' / '1.png').write_bytes(b'no image')
    monkeypatch.chdir(tmp_path)
    words = ['' if word == '_' else word for word in line.split()]
    try:
        found = main([*words[:2], '--data-dir', 'data', *words[2:]])
    except SystemExit as end:
        found = end.code
    line = capsys.readouterr().err.splitlines()[-1]
    assert found == status and line.startswith('python -m train_patch.data.subset: error: ') and message in line
    assert os.listdir(tmp_path) == ['data']


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / 'file').touch()
    images = [(Image.new('L', (2, 2)), 0)]
    with pytest.raises(RunError, match=rf'^cannot write {tmp_path}/file/small: (File exists|Not a directory)$'):
        write_subset(images, images, 1, tmp_path / 'file' / 'small')


@pytest.mark.parametrize(('more', 'said'), [([], 'Dataset not found'), (['--dataset-download'], 'Error downloading')])
def test_a_data_set_is_downloaded_only_where_that_is_asked_for(more, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(FashionMNIST, 'mirrors', [])  # a network without the data set
    line = ['torch/fashion_mnist', str(tmp_path / 'small'), '--data-dir', str(tmp_path), '--per-class', '1']
    assert main([*line, *more]) == 1 and said in capsys.readouterr().err
