"""What is used of timm without being its public interface is still there, and does what is made of it."""

import inspect

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
