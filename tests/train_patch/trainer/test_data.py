"""Images of a run: bad data and bad disks end it in one clear line, and each epoch draws them anew."""

import os
import re
import shutil
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import ImageDataset, create_dataset, create_loader
from timm.data.readers.reader import Reader
from torch.utils.data import Dataset

from train_patch.common.errors import WrongArguments
from train_patch.trainer.data import (
    EpochSeeded,
    StrictImageDataset,
    UnreadableImage,
    build_loaders,
    check_data_folder,
    class_indices,
    draw_seed,
    load_datasets,
    strict,
)

from .conftest import arguments

CPU = torch.device('cpu')


@pytest.fixture
def data(image_folder, tmp_path):
    """A copy of the shared images, to be spoiled."""
    return shutil.copytree(image_folder, tmp_path / 'data')


def error(lean, tmp_path, line='', status=2, **kwargs):
    """The last line of a run that ends before it trains."""
    run = lean(tmp_path / 'run', f'--epochs 1 -j 1 {line}', status=status, **kwargs)
    assert 'Traceback' not in run.log and 'Train: ' not in run.log, run.log
    return run.last_line


# Files and folders


@pytest.mark.parametrize(('workers', 'content'), [(0, b''), (2, b'no\nimage at all'), (2, 'half')])
def test_an_unreadable_image_is_named(lean, data, tmp_path, workers, content):
    path = data / 'train/class2/3.jpg'
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if content == 'half' else content)
    run = lean(tmp_path / 'run', f'--epochs 1 -j {workers} -b 32', status=1, data=data)
    assert run.last_line.startswith(f'hmix-train: error: cannot read the image {path}: ')
    assert not (run.folder / 'summary.csv').exists()


@pytest.mark.parametrize('split', ['train', 'validation'])
def test_a_missing_split_is_named(lean, data, tmp_path, split):
    """timm would read it from the root: training and validation images together."""
    (data / split).rename(data / 'images')
    assert f'--data-dir {data}: there is no folder {split}/ in it' in error(lean, tmp_path, data=data)


def test_missing_and_empty_folders_are_named(lean, tmp_path):
    assert '--data-dir /no/such/folder: there is no such folder' in error(lean, tmp_path, data='/no/such/folder')
    assert '--data-dir is missing' in error(lean, tmp_path, '--model test_resnet --device cpu', small=False)
    for folder in ('train/class0', 'validation/class0'):
        (tmp_path / 'data' / folder).mkdir(parents=True)
    assert f'Found 0 images in subfolders of {tmp_path}/data/train' in error(lean, tmp_path, data=tmp_path / 'data')


def test_synonyms_of_a_split_tar_files_and_other_kinds_of_data_pass(tmp_path):
    for name in ('train', 'val'):
        (tmp_path / name).mkdir()
    (tmp_path / 'data.tar').touch()
    for root, dataset in ((tmp_path, ''), (tmp_path, 'torch/folder'), (tmp_path / 'data.tar', ''), (None, 'hfds/x')):
        check_data_folder(root and str(root), dataset, ['train', 'validation'])
    with pytest.raises(WrongArguments, match='there is no folder other/ in it'):
        check_data_folder(str(tmp_path), 'torch/image_folder', ['train', 'other'])


# Classes


def test_a_class_without_images_of_one_kind_is_named(lean, data, tmp_path):
    shutil.rmtree(data / 'validation/class1')
    (data / 'validation/class1').mkdir()
    message = '1 class(es) with {} images have no {} images: {}'
    assert message.format('training', 'validation', 'class1') in error(lean, tmp_path, data=data)
    shutil.rmtree(data / 'train/class1')
    shutil.copytree(data / 'validation/class2', data / 'validation/class9')
    assert message.format('validation', 'training', 'class9') in error(lean, tmp_path, data=data)


@pytest.mark.parametrize('given', [3, 5])
def test_a_wrong_number_of_classes_is_named(lean, tmp_path, given):
    line = error(lean, tmp_path, f'--num-classes {given}')
    assert f'--num-classes {given}: the data has 4 classes; pass --num-classes 4' in line


def test_a_class_map_gives_the_indices(lean, tmp_path, image_folder):
    """It may leave folders out, and hold a name that has no images."""
    path = tmp_path / 'map.txt'
    path.write_text('class3\nunseen\nclass0\n')
    run = lean(tmp_path / 'run', f'--epochs 1 -j 0 --num-classes 3 --class-map {path}')
    assert len(run.rows) == 1
    assert '--num-classes 2: the data has 3 classes' in error(lean, tmp_path, f'--num-classes 2 --class-map {path}')
    train, validation = load_datasets(arguments(f'--data-dir {image_folder} --class-map {path}'))
    assert (len(train), len(validation)) == (16, 8)
    assert class_indices(train) == {'class3': 0, 'unseen': 1, 'class0': 2}
    assert class_indices(SimpleNamespace(class_to_idx={'a': 0})) == {'a': 0}  # torchvision's
    assert class_indices(SimpleNamespace(class_to_idx=None)) == class_indices(SimpleNamespace()) == {}


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('--dataset torch/cifar10', '--dataset torch/cifar10: [^\n]*--dataset-download'),
        ('--dataset torch/no_such', '--dataset torch/no_such: Unknown torchvision dataset'),
        ('--class-map none.txt', '--data-dir {folder}: '),
        ('--train-split ""', "--train-split must name the images to train on, got ''"),
    ],
)
def test_a_data_set_that_cannot_be_had_is_named(image_folder, line, message):
    with pytest.raises(WrongArguments, match=f'^{message.format(folder=re.escape(str(image_folder)))}[^\n]*$'):
        load_datasets(arguments(f'--data-dir {image_folder} {line}'))


def test_a_batch_larger_than_the_data_is_named(lean, tmp_path):
    assert '--batch-size 64: 32 training images are less than one batch' in error(lean, tmp_path, '-b 64')


# Disks


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


def test_a_full_disk_leaves_the_checkpoint_before_whole(lean, small_disk):
    run = lean(small_disk / 'run', '--epochs 3 -j 0 --opt adamw', status=1)
    assert run.last_line.endswith(': No space left on device')
    assert run.last_line.startswith(f'hmix-train: error: cannot write {small_disk}/run/')
    for name in os.listdir(run.folder):
        if name.endswith('.pth.tar'):
            torch.load(run.folder / name, weights_only=True)
        assert not name.endswith('.tmp')


def test_a_folder_that_cannot_be_written_is_named(lean, tmp_path):
    (tmp_path / 'file').write_text('')
    run = lean(tmp_path / 'file/run', '--epochs 1 -j 0', status=1)
    assert run.last_line == f'hmix-train: error: cannot write {tmp_path}/file/run: Not a directory'


# Reading


@pytest.fixture
def folder(tmp_path):
    """Two classes of a colour image each, as timm reads them."""
    for label, color in enumerate([(200, 10, 60), (0, 0, 255)]):
        (tmp_path / 'train' / f'class{label}').mkdir(parents=True)
        Image.new('RGB', (4, 3), color).save(tmp_path / 'train' / f'class{label}' / 'image.png')
    return create_dataset('', str(tmp_path), split='train', input_img_mode='RGB')


def test_strict_reading_gives_timms_images_and_targets(folder):
    ours = strict(folder)
    assert type(ours) is StrictImageDataset
    for index in range(2):
        (image, target), (timms, expected) = ours[index], folder[index]
        assert (image.mode, image.tobytes(), target) == (timms.mode, timms.tobytes(), expected)
    ours.transform, ours.target_transform = (lambda image: image.getpixel((0, 0))), (lambda target: target + 10)
    assert [ours[0], ours[1]] == [((200, 10, 60), 10), ((0, 0, 255), 11)]


def test_images_keep_their_mode_or_get_the_one_that_is_asked_for(folder):
    for mode, expected in (('L', 'L'), (None, 'RGB'), ('', 'RGB')):
        folder.input_img_mode = mode
        image, _ = strict(folder)[0]
        assert image.mode == expected
    image.getpixel((0, 0))  # read from the file while that was open


def test_an_image_without_a_label_gets_timms_minus_one(folder):
    class Unlabelled(Reader):
        def __getitem__(self, index):
            return folder.reader[index][0], None

        def __len__(self):
            return 1

        def _filename(self, index, basename=False, absolute=False):
            return 'name'

    ours = StrictImageDataset('', reader=Unlabelled())
    ours.target_transform = lambda target: target + 1
    assert ours[0][1] == -1


def test_other_data_sets_stay_as_they_are(folder):
    class Own(ImageDataset):
        pass

    own = Own('', reader=folder.reader)
    assert strict(own) is own


def test_an_unreadable_image_is_named_by_its_whole_path_in_one_line(folder, tmp_path):
    path = tmp_path / 'train' / 'class1' / 'image.png'
    path.write_bytes(b'no\nimage')
    with pytest.raises(UnreadableImage, match=f'^cannot read the image {path}: cannot identify [^\n]*$'):
        strict(folder)[1]


# Loaders

CONFIG = {
    'input_size': (3, 8, 10),
    'mean': (0.1, 0.2, 0.3),
    'std': (0.4, 0.5, 0.6),
    'interpolation': 'bicubic',
    'crop_pct': 0.9,
}


class Images(Dataset):
    """Images of one colour each, and their number."""

    transform = None

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return self.transform(Image.new('RGB', (12, 12), (index, 2 * index, 255 - index))), index


def loaders(line, train=18, validation=7):
    args = arguments(f'-j 0 -b 4 {line}', prefetcher='--no-prefetcher' not in line)
    return build_loaders(args, (Images(train), Images(validation)), CONFIG, CPU, None)


@pytest.mark.parametrize('line', ['--no-aug', '--no-aug --no-prefetcher'])
def test_training_images_come_in_another_order_and_validation_images_all_in_theirs(line):
    train, validation = loaders(f'{line} -vb 5')
    torch.manual_seed(0)
    drawn = [target.tolist() for _, target in train]
    found = [index for batch in drawn for index in batch]
    assert [len(batch) for batch in drawn] == [4] * 4 and len(set(found)) == 16 and found != sorted(found)
    (images, first), (_, second) = validation
    assert first.tolist() + second.tolist() == list(range(7))
    assert images.shape == (5, 3, 8, 10)
    expected = (np.array([3, 6, 252]) / 255 - CONFIG['mean']) / CONFIG['std']  # of image 3, whatever is cut
    np.testing.assert_allclose(images[3].mean((1, 2)), expected, atol=1e-5)


def test_the_padded_crop_is_that_of_training_alone():
    train, validation = loaders('--train-padding 2')
    ours, theirs = (loader.loader.dataset for loader in (train, validation))
    assert [type(step).__name__ for step in ours.dataset.transform.transforms[:2]] == ['Resize', 'RandomCrop']
    assert 'RandomCrop' not in [type(step).__name__ for step in theirs.transform.transforms]


@pytest.mark.parametrize(
    ('line', 'expected'),
    [
        ('--hflip .3', 'RandomHorizontalFlip(p=0.3)'),
        ('--vflip .4', 'RandomVerticalFlip(p=0.4)'),
        ('--scale .5 .75', 'scale=(0.5, 0.75)'),
        ('--ratio .9 1.25', 'ratio=(0.9, 1.25)'),
        ('--color-jitter .2', 'ColorJitter(brightness=(0.8, 1.2), contrast=(0.8, 1.2)'),
        ('--train-interpolation bilinear', 'interpolation=bilinear'),
        ('--train-interpolation ""', 'interpolation=bicubic'),
        ('--aa rand-m7', 'RandAugment(n=2'),
        ('--reprob .6 --remode const --recount 3 --no-prefetcher', 'RandomErasing(p=0.6, mode=const, count=(1, 3))'),
    ],
)
def test_each_option_of_the_transform_reaches_it(line, expected):
    loader = loaders(line)[0]
    transform = getattr(loader, 'loader', loader).dataset.dataset.transform
    assert expected in str(transform), transform


# Draws of loader workers


class Draws(Dataset):
    """Draws of a worker for each sample."""

    transform = None

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return np.full((3, 2, 2), np.random.randint(256), np.uint8), int(torch.randint(2**40, ()))


def test_ranks_workers_and_epochs_draw_differently_and_again_the_same():
    def draws(rank, epochs):
        torch.manual_seed(42 + rank)
        data = EpochSeeded(Draws(), seed=42, rank=rank)
        loader = create_loader(data, (3, 2, 2), batch_size=4, num_workers=2, device=CPU)
        found = {}
        for epoch in epochs:
            loader.dataset.epoch.fill_(epoch)
            found[epoch] = torch.cat([target for _, target in loader]).tolist()
        return found

    first, second = draws(0, range(3)), draws(1, range(3))
    everything = [value for found in (first, second) for values in found.values() for value in values]
    assert len(set(everything)) == len(everything) == 2 * 3 * 16  # the two workers of each epoch are among them
    assert draws(0, range(3)) == first
    assert draws(0, [2]) == {2: first[2]}  # as workers that start in a resumed run


def test_seeds_of_near_keys_are_unrelated_and_those_of_numpys_sequence():
    keys = [
        (seed, epoch, rank, worker)
        for seed in range(5)
        for epoch in range(5)
        for rank in range(5)
        for worker in range(5)
    ]
    seeds = {draw_seed(*key) for key in keys}
    assert len(seeds) == len(keys) and all(0 <= seed < 2**31 for seed in seeds)
    assert draw_seed(1, 2, 3) == np.random.SeedSequence((1, 2, 3)).generate_state(1)[0] // 2
