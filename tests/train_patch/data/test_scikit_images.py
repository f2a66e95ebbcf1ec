"""scikit-learn's images as they come, cut and scaled."""

import sys

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from train_patch.common.errors import RunError
from train_patch.data.scikit_images import digits, photographs


def test_photographs_as_they_are():
    temple, flower = sklearn.datasets.load_sample_images().images
    found = photographs()
    np.testing.assert_array_equal(found[0], flower)
    np.testing.assert_array_equal(found[1], temple)
    assert found[0].shape == (427, 640, 3) and found[0].dtype == np.uint8


def test_photographs_are_cut_in_the_middle_and_scaled():
    # of 427 × 640 pixels, 320 : 427 of the size keeps all rows and the middle 320 columns
    for whole, cut in zip(photographs(), photographs((427, 320)), strict=True):
        np.testing.assert_array_equal(cut, whole[:, 160:480])
    for whole, small in zip(photographs(), photographs((61, 61)), strict=True):
        expected = Image.fromarray(whole).resize((61, 61), Image.Resampling.BICUBIC, (106.5, 0, 533.5, 427))
        np.testing.assert_array_equal(small, np.asarray(expected))
    assert [image.shape for image in photographs((20, 30))] == [(20, 30, 3)] * 2


def test_digits_are_in_scikit_learns_order():
    images, labels = digits()
    assert images.shape == (1797, 8, 8) and images.dtype == np.float64 and labels.shape == (1797,)
    assert labels[:12].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1]
    assert images[0, 0].tolist() == [0, 0, 5, 13, 9, 1, 0, 0]


@pytest.mark.parametrize('images', [photographs, digits])
def test_without_scikit_learn_the_extra_is_named(images, monkeypatch):
    monkeypatch.setitem(sys.modules, 'sklearn', None)  # how Python marks a module that is not there
    with pytest.raises(RunError, match=r"scikit-learn not installed: pip install 'hmix-timm\[demo\]'"):
        images()
