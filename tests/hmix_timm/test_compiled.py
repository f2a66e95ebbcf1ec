"""The compiled loop is used and named where numba is installed; test_blend.py tests its results."""

import pickle
import sys

import numpy as np
import pytest

import hmix_timm
from hmix_timm.blend import compiled


def mixed(mixer):
    rng = np.random.default_rng(0)
    batch = [(rng.integers(0, 256, (3, 17, 12), dtype=np.uint8), index) for index in range(6)]
    np.random.seed(0)
    return mixer(batch)[0]


@pytest.fixture
def fresh():
    """Forgets what was loaded, before and after."""
    load = compiled.load  # a test may have put another in its place
    load.cache_clear()
    yield
    load.cache_clear()


def test_numba_is_named_where_it_is_in_use(fresh, monkeypatch):
    numba = pytest.importorskip('numba', reason="the extra 'fast' is not installed")
    mixer = hmix_timm.FastCollateMixup(0.0, 1.0, cutmix_mode='gmix', mode='elem', num_classes=6)
    assert repr(mixer).endswith(f', num_classes=6, compiled by numba {numba.__version__})')
    assert 'numba' not in repr(hmix_timm.Mixup.from_mode('gmix')), 'float batches do not use it'
    loaded, used = compiled.load(), []
    monkeypatch.setattr(compiled, 'load', lambda: (loaded[0], lambda *args: (used.append(1), loaded[1](*args))))
    mixed(mixer)
    assert used


def test_without_numba_nothing_is_named_and_the_images_are_the_same(fresh, monkeypatch):
    mixer = hmix_timm.FastCollateMixup(0.0, 1.0, cutmix_mode='gmix', mode='elem', num_classes=6)
    with_what_is_installed = mixed(mixer)
    compiled.load.cache_clear()
    monkeypatch.setitem(sys.modules, 'numba', None)
    assert compiled.load() is None
    assert 'compiled' not in repr(mixer)
    # a sum may be rounded otherwise where it lies in the middle between two grey levels
    assert (mixed(pickle.loads(pickle.dumps(mixer))).int() - with_what_is_installed.int()).abs().max() <= 1


@pytest.mark.parametrize(
    ('module', 'reason'),
    [
        ("raise ImportError('Numba needs another NumPy')\n", 'Numba needs another NumPy'),
        ("__version__ = '0'\ndef njit(**how): raise OSError('no LLVM')\n", 'no LLVM'),
    ],
)
def test_a_numba_that_cannot_be_imported_or_cannot_compile_is_said(fresh, monkeypatch, tmp_path, module, reason):
    (tmp_path / 'numba.py').write_text(module)
    monkeypatch.delitem(sys.modules, 'numba', raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.warns(UserWarning, match=f'mixed by torch: {reason}'):
        mixer = hmix_timm.FastCollateMixup(0.0, 1.0, cutmix_mode='gmix', mode='elem', num_classes=6)
    assert mixed(mixer).shape == (6, 3, 17, 12) and 'compiled' not in repr(mixer)
