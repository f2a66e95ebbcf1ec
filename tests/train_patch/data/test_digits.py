"""The embedded data set: the real images, all of them, complete under its name whatever happens while it is written."""

import multiprocessing
import os
import shutil
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from train_patch.common.errors import RunError
from train_patch.data.digits import digits_folder, digits_path

SPLITS = ('train', 'validation')
FORK = multiprocessing.get_context('fork')


def write(told, killed_after: int | None) -> None:
    """Writes the data set, but for the process's end after a number of images."""
    save, saved = Image.Image.save, []

    def save_and_end(image, path):
        save(image, path)
        saved.append(path)
        if len(saved) == killed_after:
            os.kill(os.getpid(), signal.SIGKILL)

    Image.Image.save = save_and_end
    told.put(str(digits_folder()))


def start_writing(told, killed_after: int | None = None):
    writer = FORK.Process(target=write, args=(told, killed_after))
    writer.start()
    return writer


def check_images(folder: Path) -> None:
    """Every scikit-learn digit is there once, under its label, in the split sizes that the module promises."""
    digits = load_digits()
    files = sorted(folder.glob('*/*/*.png'))
    assert sorted(int(file.stem) for file in files) == list(range(1797))
    sizes = {split: [len(list((folder / split / str(digit)).iterdir())) for digit in range(10)] for split in SPLITS}
    assert sizes['train'] == [10] * 10
    assert sizes['validation'] == [count - 10 for count in np.bincount(digits.target)]
    for file in files[::40]:
        index = int(file.stem)
        assert file.parent.name == str(digits.target[index])
        with Image.open(file) as image:
            assert image.size == (32, 32)
            shrunk = np.asarray(image.resize((8, 8), Image.Resampling.BOX), dtype=float) * 16 / 255
        # bicubic enlargement sharpens, so the means of its 4×4 blocks are near the pixels, not at them
        assert np.corrcoef(shrunk.ravel(), digits.images[index].ravel())[0, 1] > 0.97
        others = digits.images[digits.target != digits.target[index]]
        distances = np.abs(others - shrunk).mean(axis=(1, 2))
        assert np.abs(digits.images[index] - shrunk).mean() < distances.min()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    return tmp_path


def test_images_are_scikit_learns_and_are_written_once(cache):
    folder = digits_folder()
    assert folder == digits_path() and folder.is_relative_to(cache)
    check_images(folder)

    written = {file: file.stat().st_mtime_ns for file in folder.glob('*/*/*.png')}
    assert digits_folder() == folder
    assert {file: file.stat().st_mtime_ns for file in folder.glob('*/*/*.png')} == written


def test_a_folder_from_which_files_were_taken_is_refused(cache):
    next(digits_folder().glob('*/*/*.png')).unlink()
    with pytest.raises(RunError, match=r'1796 images where 1797 belong'):
        digits_folder()


def test_without_a_cache_variable_it_is_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    monkeypatch.delenv('XDG_CACHE_HOME', raising=False)
    assert digits_path().parent == tmp_path / '.cache' / 'hmix_timm'
    monkeypatch.setenv('XDG_CACHE_HOME', 'relative')
    assert digits_path().parent == tmp_path / '.cache' / 'hmix_timm'
    assert not (tmp_path / '.cache').exists()


def test_several_writers_at_once_and_one_killed(cache):
    parent, told = cache / 'hmix_timm', FORK.SimpleQueue()
    killed = start_writing(told, killed_after=15)  # after the first digit's training images
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    half_written = list(parent.iterdir())
    assert [folder.name.startswith('digits-v1.tmp-') for folder in half_written] == [True]

    writers = [start_writing(told) for _ in range(3)]
    assert {told.get() for _ in writers} == {str(parent / 'digits-v1')}
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert sorted(parent.iterdir()) == sorted([parent / 'digits-v1', *half_written])
    check_images(parent / 'digits-v1')


def test_a_cache_that_cannot_be_written_is_named(cache):
    (cache / 'hmix_timm').write_text('a file where the folder should be')
    with pytest.raises(RunError, match=r'cannot write the digits to .*digits-v1'):
        digits_folder()


def test_without_scikit_learn_it_says_what_to_install(cache, monkeypatch):
    for name in [name for name in sys.modules if name.partition('.')[0] == 'sklearn']:
        monkeypatch.setitem(sys.modules, name, None)  # Python's own way of saying: not there
    monkeypatch.setitem(sys.modules, 'sklearn', None)
    with pytest.raises(RunError, match=r"pip install 'hmix-timm\[demo\]'"):
        digits_folder()
    assert not list(cache.iterdir())


@pytest.fixture
def few(monkeypatch):
    """`few(images, labels, meanwhile)`: the data set is these images; `meanwhile()` is called while they are read."""

    def choose(images, labels, meanwhile=lambda: None):
        def read():
            meanwhile()
            return np.asarray(images, dtype=float), np.asarray(labels)

        monkeypatch.setattr('train_patch.data.digits.digits', read)
        monkeypatch.setattr('train_patch.data.digits.NUM_IMAGES', len(labels))

    return choose


def flat(level):
    """A digit that is one grey all over, which no enlargement changes."""
    return np.full((8, 8), level)


def test_greys_from_0_to_16_become_greys_from_0_to_255(cache, few):
    levels = [0, 1, 4, 9, 15, 16]
    few([flat(level) for level in levels], range(6))
    seen = {}
    for file in digits_folder().glob('*/*/*.png'):
        with Image.open(file) as image:
            assert (image.mode, image.size) == ('L', (32, 32))
            seen[levels[int(file.stem)]] = image.getextrema()
    # 255/16 of each: 0, 15.94, 63.75, 143.44, 239.06, 255
    assert seen == {level: (grey, grey) for level, grey in zip(levels, (0, 16, 64, 143, 239, 255), strict=True)}


def test_ten_of_each_digit_are_for_training_and_they_are_always_the_same_ones(cache, few):
    """What lies under the name digits-v1 never changes: the numbers are those of its first version."""
    few([flat(index % 17) for index in range(40)], [index % 3 for index in range(40)])
    folder = digits_folder()
    split = {name: sorted(int(file.stem) for file in folder.glob(f'train/{name}/*.png')) for name in '012'}
    assert split == {
        '0': [0, 3, 6, 9, 18, 21, 24, 27, 30, 36],
        '1': [1, 4, 10, 16, 19, 22, 25, 28, 34, 37],
        '2': [2, 8, 11, 17, 20, 23, 26, 32, 35, 38],
    }
    for name, training in split.items():
        others = sorted(int(file.stem) for file in folder.glob(f'validation/{name}/*.png'))
        assert others == sorted(set(range(int(name), 40, 3)) - set(training))
    assert {path.name for path in folder.rglob('*.png')} == {f'{index:04d}.png' for index in range(40)}


def test_a_cache_that_is_not_there_is_made_and_a_deleted_folder_is_written_again(tmp_path, monkeypatch, few):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'new' / 'cache'))
    few([flat(3), flat(5)], [0, 1])
    folder = digits_folder()
    assert folder == tmp_path / 'new' / 'cache' / 'hmix_timm' / 'digits-v1'
    shutil.rmtree(folder)
    assert digits_folder() == folder
    assert os.listdir(folder.parent) == [folder.name]  # and no draft


def test_the_folder_of_a_process_that_was_quicker_is_taken(cache, few):
    def other_process():
        (digits_path() / 'train' / '0').mkdir(parents=True)
        flat_image = Image.fromarray(np.full((32, 32), 7, np.uint8))
        flat_image.save(digits_path() / 'train' / '0' / '0000.png')

    few([flat(3)], [0], other_process)
    folder = digits_folder()
    with Image.open(folder / 'train' / '0' / '0000.png') as image:
        assert image.getpixel((0, 0)) == 7
    assert os.listdir(folder.parent) == [folder.name]


def test_a_file_that_came_in_the_way_is_named_and_no_draft_stays(cache, few):
    def other_program():
        digits_path().parent.mkdir(parents=True)
        digits_path().write_text('no folder')

    few([flat(3)], [0], other_program)
    with pytest.raises(RunError, match=r'^cannot write the digits to .*digits-v1: Not a directory$'):
        digits_folder()
    assert os.listdir(digits_path().parent) == ['digits-v1']


def test_an_image_that_was_added_is_noticed(cache, few):
    few([flat(3)], [0])
    (digits_folder() / 'train' / '0' / 'mine.png').touch()
    with pytest.raises(RunError, match=r'holds 2 images where 1 belong: delete that folder and try again$'):
        digits_folder()
