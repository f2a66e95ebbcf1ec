"""What is used of timm without being its public interface is still there, and does what is made of it."""

import inspect
from types import SimpleNamespace

import numpy as np
import pytest
import timm.data.mixup as timm_mixup
import torch

from hmix_timm import FastCollateMixup, Mixup, private


@pytest.mark.parametrize('name', ['_mix_batch', '_mix_pair', '_mix_elem', '_params_per_batch', '_params_per_elem'])
def test_timms_mixup_has_the_methods_that_are_overridden_or_called(name):
    ours, timms = (inspect.signature(getattr(mixer, name)) for mixer in (Mixup, timm_mixup.Mixup))
    assert list(ours.parameters) == list(timms.parameters)


@pytest.mark.parametrize('name', ['_mix_batch_collate', '_mix_pair_collate', '_mix_elem_collate'])
def test_timms_collate_has_the_methods_that_are_overridden(name):
    ours, timms = (inspect.signature(getattr(mixer, name)) for mixer in (FastCollateMixup, timm_mixup.FastCollateMixup))
    assert list(ours.parameters) == list(timms.parameters)


def test_timms_own_methods_mix_by_them():
    """Each is called once for a batch; were timm to call another, a subclass's override would not be asked."""
    called = []

    class Recorded(timm_mixup.Mixup):
        def _mix_batch(self, x):
            called.append('batch')
            return 1.0

        def _mix_pair(self, x):
            called.append('pair')
            return 1.0

        def _mix_elem(self, x):
            called.append('elem')
            return 1.0

    for mode in ('batch', 'pair', 'elem'):
        kwargs = inspect.signature(timm_mixup.mixup_target).parameters
        if 'device' in kwargs:
            pytest.skip('this timm makes targets on CUDA')
        Recorded(mode=mode, num_classes=2)(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]))
    assert called == ['batch', 'pair', 'elem']


def test_timms_label_weights_of_elements_are_float32():
    """λ goes into the box as float32 arithmetic; a change there moves boxes by a pixel."""
    np.random.seed(0)
    lam, use_cutmix = private.params_per_elem(timm_mixup.Mixup(), 4)
    assert lam.dtype == np.float32 and use_cutmix.dtype == bool


def test_the_rebuilt_function_needs_nothing_of_numpy_but_a_clip():
    assert 'clip' in timm_mixup.rand_bbox.__code__.co_names


def test_another_np_is_seen_by_the_code_alone():
    def clipped(value):
        return np.clip(value, 0, 1)

    assert private.with_numpy(clipped, clip=lambda value, low, high: 'other')(5) == 'other'
    assert clipped(5) == 1


@pytest.mark.parametrize('lam', [0.3, torch.tensor([[0.3], [0.6]])])
def test_soft_targets_are_on_the_targets_device(lam):
    target = private.mixup_target(torch.tensor([0, 1]), 2, lam, 0.0)
    assert target.device.type == 'cpu'
    torch.testing.assert_close(target.sum(1), torch.ones(2))
    assert target[0, 0].item() == pytest.approx(0.3)


@pytest.mark.parametrize('lam', [0.0, 0.1, 0.65, 0.99, np.float32(0.4)])
def test_boxes_are_timms_and_so_is_what_they_draw(lam):
    for seed in range(20):
        np.random.seed(seed)
        expected, _ = timm_mixup.cutmix_bbox_and_lam((7, 12), lam), np.random.rand()
        np.random.seed(seed)
        found = private.cutmix_box((7, 12), lam)
        assert tuple(map(int, found)) == tuple(map(int, expected[0])) and np.random.rand() == _


def test_boxes_between_two_sides_are_timms():
    for seed in range(20):
        np.random.seed(seed)
        expected = timm_mixup.rand_bbox_minmax((7, 12), (0.2, 0.8))
        np.random.seed(seed)
        assert tuple(private.cutmix_box((7, 12), 0.5, (0.2, 0.8))) == tuple(expected)


def test_boxes_are_those_of_what_is_put_in_place_of_timms(monkeypatch):
    asked = []

    def rand_bbox(*given):
        asked.append(given)
        return 1, 2, 3, 4

    def cutmix_bbox_and_lam(*given, **options):
        asked.append((given, options))
        return (5, 6, 7, 8), 0.5

    monkeypatch.setattr(timm_mixup, 'rand_bbox', rand_bbox)
    assert private.cutmix_box((7, 12), 0.3) == (1, 2, 3, 4)
    monkeypatch.setattr(timm_mixup, 'cutmix_bbox_and_lam', cutmix_bbox_and_lam)
    assert private.cutmix_box((7, 12), 0.4, (0.2, 0.8)) == (5, 6, 7, 8)
    assert asked == [((7, 12), 0.3), (((7, 12), 0.4), {'ratio_minmax': (0.2, 0.8), 'correct_lam': True})]


def test_boxes_do_not_wait_for_numpys_clip(monkeypatch):
    monkeypatch.setattr(np, 'clip', lambda *given: pytest.fail('called'))
    private.cutmix_box((7, 12), 0.3)


def test_a_number_is_put_between_two_others():
    assert [private._clip(value, 2, 5) for value in (1, 2, 3, 5, 6)] == [2, 2, 3, 5, 5]


def test_a_function_with_another_np_keeps_its_name_defaults_and_globals():
    def scaled(value, factor=3):
        return np.clip(value, 0, 1) * factor + len(pytest.__name__) + np.abs(-1)

    other = private.with_numpy(scaled, clip=lambda *given: 10)
    assert (other.__name__, other(5), other(5, 2)) == ('scaled', 30 + 6 + 1, 20 + 6 + 1)


@pytest.mark.parametrize(
    'versions', [{}, {'multi_label': None}, {'device': None}, {'multi_label': None, 'device': None}]
)
def test_soft_targets_are_asked_for_as_each_version_wants_it(versions, monkeypatch):
    asked = []
    fake = SimpleNamespace(mixup_target=lambda *given, **options: asked.append((given, options)))
    monkeypatch.setattr(private, 'timm_mixup', fake)
    monkeypatch.setattr(private, '_TARGET_PARAMETERS', versions)
    monkeypatch.setattr(private, 'TAKES_MULTI_LABEL', 'multi_label' in versions)
    target = torch.tensor([0, 1])
    private.mixup_target(target, 2, 0.3, 0.1)
    private.mixup_target(target, 2, 0.3, 0.1, True)
    for (given, options), multi_label in zip(asked, (False, True), strict=True):
        assert given == (target, 2, 0.3, 0.1)
        assert options == {k: {'multi_label': multi_label, 'device': target.device}[k] for k in versions}


def test_what_this_timm_takes_is_known():
    parameters = inspect.signature(timm_mixup.mixup_target).parameters
    assert ('multi_label' in parameters) == private.TAKES_MULTI_LABEL
    assert set(private._TARGET_PARAMETERS) == set(parameters)
