"""The embedded data set: the real images, all of them, complete under its name whatever happens while it is written."""

import hashlib
import multiprocessing
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from train_patch.common.errors import RunError
from train_patch.data.digits import digits_folder, digits_path

FORK = multiprocessing.get_context('fork')


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    return tmp_path / 'cache' / 'hmix_timm'


def check_images(folder: Path) -> None:
    """Every scikit-learn digit is there once, under its label, in the split sizes that the module promises."""
    digits = load_digits()
    files = sorted(folder.glob('*/*/*.png'))
    assert sorted(int(file.stem) for file in files) == list(range(1797))
    sizes = {
        split: [len(list((folder / split / str(digit)).iterdir())) for digit in range(10)]
        for split in ('train', 'validation')
    }
    assert sizes['train'] == [10] * 10
    assert sizes['validation'] == [count - 10 for count in np.bincount(digits.target)]
    for file in files[::40]:
        index = int(file.stem)
        assert file.parent.name == str(digits.target[index]) and file.name == f'{index:04d}.png'
        with Image.open(file) as image:
            assert (image.size, image.mode) == ((32, 32), 'L')
            shrunk = np.asarray(image.resize((8, 8), Image.Resampling.BOX), dtype=float) * 16 / 255
        # bicubic enlargement sharpens, so the means of its 4×4 blocks are near the pixels, not at them
        assert np.corrcoef(shrunk.ravel(), digits.images[index].ravel())[0, 1] > 0.97
        others = digits.images[digits.target != digits.target[index]]
        assert np.abs(digits.images[index] - shrunk).mean() < np.abs(others - shrunk).mean(axis=(1, 2)).min()


def test_images_are_scikit_learns_and_are_written_once(cache):
    folder = digits_folder()
    assert folder == digits_path() == cache / 'digits-v1' and os.listdir(cache) == ['digits-v1']
    check_images(folder)
    # what lies under the name digits-v1 never changes: these are the training images of its first version
    names = sorted(str(path.relative_to(folder / 'train')) for path in folder.glob('train/*/*.png'))
    assert hashlib.sha256('\n'.join(names).encode()).hexdigest()[:16] == '429e8e9e64310769'
    written = {file: file.stat().st_mtime_ns for file in folder.glob('*/*/*.png')}
    assert digits_folder() == folder
    assert {file: file.stat().st_mtime_ns for file in folder.glob('*/*/*.png')} == written
    # and a folder that was changed is refused
    (folder / 'train' / '0' / 'mine.png').touch()
    for found in (1798, 1796):
        message = f'holds {found} images where 1797 belong: delete that folder and try again$'
        with pytest.raises(RunError, match=message):
            digits_folder()
        for _ in range(2):
            next(folder.glob('*/*/*.png')).unlink()


def test_without_a_cache_variable_it_is_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv('HOME', str(tmp_path))
    for relative in (None, 'relative'):
        monkeypatch.setenv('XDG_CACHE_HOME', relative) if relative else monkeypatch.delenv('XDG_CACHE_HOME', False)
        assert digits_path().parent == tmp_path / '.cache' / 'hmix_timm'
    assert not (tmp_path / '.cache').exists()


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


def test_several_may_write_at_once_and_one_may_be_killed(cache):
    told = FORK.SimpleQueue()
    killed = start_writing(told, killed_after=15)  # after the first digit's training images
    killed.join()
    assert killed.exitcode == -signal.SIGKILL
    half_written = list(cache.iterdir())
    assert [folder.name.startswith('digits-v1.tmp-') for folder in half_written] == [True]

    writers = [start_writing(told) for _ in range(2)]
    for writer in writers:
        writer.join()
    assert [writer.exitcode for writer in writers] == [0, 0]
    assert {told.get() for _ in writers} == {str(cache / 'digits-v1')}
    assert sorted(cache.iterdir()) == sorted([cache / 'digits-v1', *half_written])
    check_images(cache / 'digits-v1')


def test_a_cache_that_cannot_be_written_is_named(cache):
    cache.parent.mkdir()
    cache.write_text('a file where the folder should be')
    with pytest.raises(RunError, match=r'^cannot write .*digits-v1: (File exists|Not a directory)$'):
        digits_folder()
    cache.unlink()
    cache.mkdir()
    (cache / 'digits-v1').touch()
    with pytest.raises(RunError, match=r'digits-v1 holds 0 images where 1797 belong'):
        digits_folder()
    assert os.listdir(cache) == ['digits-v1']


def test_without_scikit_learn_it_says_what_to_install(cache, monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn', None)  # how Python marks a module that is not there
    with pytest.raises(RunError, match=r"scikit-learn not installed: pip install 'hmix-timm\[demo\]'"):
        digits_folder()
    assert not cache.exists()
