"""Bad data and bad disks: one clear line that names the file or the option, and nothing half-written."""

import os
import shutil
import subprocess

import pytest
import torch
from PIL import Image


@pytest.fixture
def data(image_folder, tmp_path):
    """A copy of the shared images, to be spoiled."""
    return shutil.copytree(image_folder, tmp_path / 'data')


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB: one checkpoint of the small model fits, two do not."""
    folder = tmp_path / 'disk'
    folder.mkdir()
    mounted = subprocess.run(['mount', '-t', 'tmpfs', '-o', 'size=4m', 'tmpfs', str(folder)], capture_output=True)
    if mounted.returncode:
        pytest.skip(f'needs the right to mount a tmpfs: {mounted.stderr.decode().strip()}')
    yield folder
    subprocess.run(['umount', str(folder)], check=True)


def error(lean, tmp_path, line='', status=2, **kwargs):
    run = lean(tmp_path / 'run', f'--epochs 1 -j 1 {line}', status=status, **kwargs)
    assert 'Traceback' not in run.log, run.log
    assert 'Train: ' not in run.log
    return run.last_line


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('content', [b'', b'no image at all', 'half'])
def test_unreadable_image_is_named(lean, data, tmp_path, workers, content):
    path = data / 'train/class2/3.jpg'
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == 'half' else content)
    run = lean(tmp_path / 'run', f'--epochs 1 -j {workers} -b 32', status=1, data=data)
    assert run.last_line.startswith(f'ERROR: cannot read the image {path}: ')
    assert not (run.folder / 'summary.csv').exists()


def test_missing_root(lean, tmp_path):
    assert '--data-dir /no/such/folder: there is no such folder' in error(lean, tmp_path, data='/no/such/folder')


@pytest.mark.parametrize('split', ['train', 'validation'])
def test_missing_split(lean, data, tmp_path, split):
    (data / split).rename(data / 'images')
    assert f'--data-dir {data}: there is no folder {split}/ in it' in error(lean, tmp_path, data=data)


def test_no_data_at_all(lean, tmp_path):
    assert '--data-dir is missing' in error(lean, tmp_path, '--model test_resnet --device cpu', small=False)


def test_folders_without_images(lean, tmp_path):
    for folder in ('train/class0', 'validation/class0'):
        (tmp_path / 'data' / folder).mkdir(parents=True)
    assert f'Found 0 images in subfolders of {tmp_path}/data/train' in error(lean, tmp_path, data=tmp_path / 'data')


def test_class_without_validation_images(lean, data, tmp_path):
    shutil.rmtree(data / 'validation/class1')
    (data / 'validation/class1').mkdir()
    line = error(lean, tmp_path, data=data)
    assert '1 class(es) with training images have no validation images: class1' in line


def test_class_without_training_images(lean, data, tmp_path):
    shutil.copytree(data / 'validation/class2', data / 'validation/class9')
    line = error(lean, tmp_path, data=data)
    assert '1 class(es) with validation images have no training images: class9' in line


@pytest.mark.parametrize('given', [3, 5, 1000])
def test_wrong_number_of_classes(lean, tmp_path, given):
    line = error(lean, tmp_path, f'--num-classes {given}')
    assert f'--num-classes {given}: the data has 4 classes; pass --num-classes 4' in line


def test_number_of_classes_left_to_the_model(lean, image_folder, tmp_path):
    line = f'--data-dir {image_folder} --model test_resnet --device cpu'
    expected = "--num-classes is missing, and the model's 1000: the data has 4 classes; pass --num-classes 4"
    assert expected in error(lean, tmp_path, line, small=False)


@pytest.fixture
def class_map(tmp_path):
    """Leaves out two folders, and holds a name that has no images."""
    (tmp_path / 'map.txt').write_text('class3\nunseen\nclass0\n')
    return tmp_path / 'map.txt'


def test_class_map_gives_the_indices(lean, tmp_path, class_map):
    run = lean(tmp_path / 'run', f'--epochs 1 -j 0 --num-classes 3 --class-map {class_map}')
    assert len(run.rows) == 1


def test_class_map_with_more_classes_than_the_model(lean, tmp_path, class_map):
    line = error(lean, tmp_path, f'--num-classes 2 --class-map {class_map}')
    assert '--num-classes 2: the data has 3 classes' in line


def test_batch_larger_than_the_data(lean, tmp_path):
    assert '--batch-size 64: 32 training images are less than one batch' in error(lean, tmp_path, '-b 64')


def test_full_disk(lean, small_disk):
    """The second checkpoint does not fit: the first one stays whole."""
    run = lean(small_disk / 'run', '--epochs 3 -j 0 --opt adamw', status=1)
    assert run.last_line.endswith(': No space left on device')
    assert run.last_line.startswith(f'ERROR: cannot write {small_disk}/run/')
    for name in os.listdir(run.folder):
        if name.endswith('.pth.tar'):
            torch.load(run.folder / name, weights_only=True)
        assert not name.endswith('.tmp')


def test_read_only_disk(lean, small_disk):
    subprocess.run(['mount', '-o', 'remount,ro', str(small_disk)], check=True)
    run = lean(small_disk / 'run', '--epochs 1 -j 0', status=1)
    assert run.last_line == f'ERROR: cannot write {small_disk}/run: Read-only file system'


def test_output_that_is_a_file(lean, tmp_path):
    (tmp_path / 'file').write_text('')
    run = lean(tmp_path / 'file/run', '--epochs 1 -j 0', status=1)
    assert run.last_line == f'ERROR: cannot write {tmp_path}/file/run: Not a directory'


def test_grey_and_palette_images(lean, data, tmp_path):
    """Images of other modes are converted as timm converts them."""
    path = data / 'train/class0/0.jpg'
    image = Image.open(path)
    path.unlink()
    image.convert('P').save(path.with_suffix('.png'))
    image.convert('L').save(data / 'train/class0/grey.jpg')
    assert len(lean(tmp_path / 'run', '--epochs 1 -j 0', data=data).rows) == 1
