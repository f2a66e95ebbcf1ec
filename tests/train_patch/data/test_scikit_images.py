"""scikit-learn's images as they come, cut and scaled."""

import sys

import numpy as np
import pytest
import sklearn.datasets
from PIL import Image

from train_patch.common.errors import RunError
from train_patch.data.scikit_images import cuttings, digits, photographs


def test_photographs_come_as_they_are_or_cut_in_the_middle_and_scaled():
    temple, flower = sklearn.datasets.load_sample_images().images
    for found, expected in zip(photographs(), (flower, temple), strict=True):
        np.testing.assert_array_equal(found, expected)
        assert found.shape == (427, 640, 3) and found.dtype == np.uint8
    # of 427 × 640 pixels, 320 : 427 of the size keeps all rows and the middle 320 columns
    for whole, cut, small in zip(photographs(), photographs((427, 320)), photographs((61, 61)), strict=True):
        np.testing.assert_array_equal(cut, whole[:, 160:480])
        expected = Image.fromarray(whole).resize((61, 61), Image.Resampling.BICUBIC, (106.5, 0, 533.5, 427))
        np.testing.assert_array_equal(small, np.asarray(expected))


def test_cuttings_are_parts_of_both_photographs_and_the_same_every_time():
    images = [np.asarray(image) for image in cuttings(6, (20, 30))]
    assert [image.shape for image in images] == [(20, 30, 3)] * 6 and len({image.tobytes() for image in images}) == 6
    again = list(cuttings(4, (20, 30)))
    assert all(np.array_equal(ours, theirs) for ours, theirs in zip(images, again, strict=False))
    red, blue = ([image[..., channel].mean() for image in images] for channel in (0, 2))
    assert all(red[i] > blue[i] for i in (0, 2, 4)) and all(blue[i] > red[i] - 20 for i in (1, 3, 5))  # flower, temple


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
