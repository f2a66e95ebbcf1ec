"""What several test files share: a folder of real images and the environment of the processes they start."""

import os

# before torch is imported: the test processes share the machine, and several threads in each would only get in the way
os.environ.setdefault('OMP_NUM_THREADS', '1')

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image
from sklearn.datasets import load_sample_images

# no test may depend on the speed of the machine
settings.register_profile('any_machine', deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('any_machine')


@pytest.fixture(scope='session')
def image_folder(tmp_path_factory):
    """An ImageFolder of JPEG crops of two photographs, of different sizes: 4 classes, 8 train and 4 validation each."""
    root = tmp_path_factory.mktemp('images')
    photographs = load_sample_images().images
    rng = np.random.default_rng(0)
    for split, count in (('train', 8), ('validation', 4)):
        for label in range(4):
            folder = root / split / f'class{label}'
            folder.mkdir(parents=True)
            for index in range(count):
                photograph = photographs[label % 2]
                height, width = rng.integers(40, 90, 2)
                y = rng.integers(photograph.shape[0] - height)
                x = rng.integers(photograph.shape[1] - width)
                crop = photograph[y : y + height, x : x + width]
                Image.fromarray(np.ascontiguousarray(crop if label < 2 else crop[::-1])).save(folder / f'{index}.jpg')
    return root


@pytest.fixture(scope='session')
def run_environment():
    """Environment for training processes: one thread each, so that several share a small machine."""
    return {**os.environ, 'OMP_NUM_THREADS': '1', 'MKL_NUM_THREADS': '1'}
