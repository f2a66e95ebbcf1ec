"""The parts of timm that are used without being its public interface: they are there, and boxes are timm's own."""

import functools
import importlib.util
import inspect

import numpy as np
import pytest
import timm.data.mixup as timm_mixup

import hmix_timm
from hmix_timm import private

HOOKS = {
    'Mixup': ('_mix_batch', '_mix_pair', '_mix_elem', '_params_per_batch', '_params_per_elem'),
    'FastCollateMixup': ('_mix_batch_collate', '_mix_pair_collate', '_mix_elem_collate'),
}
SIZES = [(1, 1), (7, 12), (33, 20), (224, 224)]
LAMS = [0.0, 0.1, 0.65, 0.99, 1.0, *np.float32([0.1, 0.37, 0.8])]


@pytest.mark.parametrize(('mixer', 'hook'), [(mixer, hook) for mixer, hooks in HOOKS.items() for hook in hooks])
def test_timm_has_the_methods_that_are_overridden_or_called(mixer, hook):
    ours, timms = (getattr(getattr(module, mixer), hook) for module in (hmix_timm, timm_mixup))
    assert list(inspect.signature(ours).parameters) == list(inspect.signature(timms).parameters)


def boxes(draw):
    """Boxes of every size at every λ, and the number that numpy's generator gives after each."""
    np.random.seed(0)
    return [(*map(int, draw(size, lam)), np.random.rand()) for size in SIZES for lam in LAMS * 20]


@pytest.mark.parametrize('minmax', [None, (0.2, 0.8)])
def test_boxes_are_the_installed_timms_and_draw_the_same_numbers(minmax):
    sizes = SIZES[1:] if minmax else SIZES  # no box lies between two sides of a single pixel
    assert private.rounding() in (0, 1), 'they are no longer worked out here, which is what makes them quick'
    np.random.seed(0)
    for size in sizes * 20:
        for lam in LAMS:
            state = np.random.get_state()
            expected = timm_mixup.cutmix_bbox_and_lam(size, lam, ratio_minmax=minmax)[0]
            after = np.random.rand()
            np.random.set_state(state)
            assert private.cutmix_box(size, lam, minmax) == tuple(map(int, expected))
            assert np.random.rand() == after


def decorated(rand_bbox):
    return functools.wraps(rand_bbox)(lambda *args, **kwargs: rand_bbox(*args, **kwargs))


def keyword_only(rand_bbox):
    return lambda img_shape, lam, *, margin=0.0, count=None: rand_bbox(img_shape, lam, margin, count)


def inside(rand_bbox):
    """Boxes that no border clips."""

    def rand_bbox(img_shape, lam, margin=0.0, count=None):
        height, width = (int(side * np.sqrt(1 - lam)) for side in img_shape)
        x = np.random.randint(0, img_shape[1] - width + 1)
        y = np.random.randint(0, img_shape[0] - height + 1)
        return y, y + height, x, x + width

    return rand_bbox


@pytest.mark.parametrize('newer', [decorated, keyword_only, inside])
def test_boxes_of_a_newer_timm_are_its_own(newer, monkeypatch):
    monkeypatch.setattr(timm_mixup, 'rand_bbox', newer(timm_mixup.rand_bbox))
    spec = importlib.util.find_spec('hmix_timm.private')
    beside_it = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(beside_it)
    np.random.seed(5)
    before = np.random.get_state()
    beside_it.rounding()
    assert all(np.array_equal(*parts) for parts in zip(np.random.get_state(), before, strict=True))
    assert boxes(beside_it.cutmix_box) == boxes(lambda size, lam: timm_mixup.rand_bbox(size, lam))
