"""What loader workers know of the mixer, under every start method."""

import numpy as np
import pytest
import torch

from hmix_timm import BoxMask, FastCollateMixup, register_family
from hmix_timm.families import FAMILIES, load_families

STRIPES = """
import numpy as np
from hmix_timm import DenseMask, register_family

@register_family('stripes')
def stripes(size, lam, options, draws):
    rows = (np.arange(size[0]) / size[0] + draws.uniform(1)[0]) % 1.0 < lam
    return DenseMask(np.repeat(rows[:, None], size[1], axis=1).astype(float))
"""


class Halves(torch.utils.data.Dataset):
    """In each batch of 8, four white images of class 1 and four black ones of class 0."""

    def __len__(self):
        return 16

    def __getitem__(self, index):
        return np.full((3, 8, 8), 255 * (index % 8 < 4), np.uint8), int(index % 8 < 4)


@pytest.fixture(scope='module', params=['fork', pytest.param('spawn', marks=pytest.mark.slow)])
def loader(request, tmp_path_factory):
    """A loader whose one worker is running, with a family of one's own that a new process has not registered."""
    path = tmp_path_factory.mktemp('families') / 'my_masks.py'
    path.write_text(STRIPES)
    before = dict(FAMILIES)
    load_families(path)
    # λ near one half, so that no mask is all of one image
    mixer = FastCollateMixup(0.0, 50.0, cutmix_mode='stripes', num_classes=2, label_smoothing=0.0)
    loader = torch.utils.data.DataLoader(
        Halves(),
        batch_size=8,
        num_workers=1,
        collate_fn=mixer,
        multiprocessing_context=request.param,
        persistent_workers=True,
    )
    iter(loader)
    yield loader
    FAMILIES.clear()
    FAMILIES.update(before)


def test_workers_know_a_family_of_ones_own(loader):
    for images, target in loader:
        torch.testing.assert_close(images.float().mean(dim=(1, 2, 3)) / 255, target[:, 1], rtol=0, atol=1e-6)
        assert 0.0 < target[0, 1] < 1.0


def mixes(loader):
    """Whether any batch of an epoch has a soft target of two classes."""
    return any(bool(((target > 1e-6).sum(1) > 1).any()) for _, target in loader)


def test_the_switch_reaches_workers_that_are_running(loader):
    assert mixes(loader)
    loader.collate_fn.mixup_enabled = False
    assert not mixes(loader)
    loader.collate_fn.mixup_enabled = True
    assert mixes(loader)


def test_a_wrong_mask_in_a_worker_is_one_line_that_names_the_family():
    before = dict(FAMILIES)
    register_family('wrong')(lambda size, lam, options, draws: BoxMask(2.0))
    mixer = FastCollateMixup(0.0, 1.0, cutmix_mode='wrong', num_classes=2)
    message = r"^family 'wrong' drew no mask for λ = 0\.\d+: it has values from 2 to 2, outside \[0, 1\]$"
    try:
        with pytest.raises(ValueError, match=message):
            next(iter(torch.utils.data.DataLoader(Halves(), 8, num_workers=1, collate_fn=mixer)))
    finally:
        FAMILIES.clear()
        FAMILIES.update(before)
