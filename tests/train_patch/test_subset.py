"""A class-balanced subset: the first images of each class, pixel for pixel, or an error and no folder."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision.datasets import FakeData, ImageFolder

from train_patch.subset import first_of_each_class, main, write_subset


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
    output = tmp_path / 'small'
    argv = ['torch/fashion_mnist', output, '--data-dir', root, '--per-class', 3]
    result = processes.module('train_patch.subset', *argv).passed()
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
