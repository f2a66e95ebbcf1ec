"""The mixers are timm's classes to a subclass, and to who replaces timm's functions."""

import numpy as np
import pytest
import timm.data.mixup as timm_mixup
import torch

from hmix_timm import FastCollateMixup, Mixup, private

LABELS = torch.tensor([1, 1, 0, 0])
FLOAT_HOOKS = {'batch': '_mix_batch', 'pair': '_mix_pair', 'elem': '_mix_elem'}
COLLATE_HOOKS = {
    'batch': '_mix_batch_collate',
    'pair': '_mix_pair_collate',
    'elem': '_mix_elem_collate',
    'half': '_mix_elem_collate',
}


def ones_and_zeros():
    return LABELS.view(-1, 1, 1, 1).expand(4, 3, 8, 8).float().clone()


def samples():
    return [(np.full((3, 8, 8), 255 * int(label), np.uint8), int(label)) for label in LABELS]


@pytest.mark.parametrize('mode', FLOAT_HOOKS)
@pytest.mark.parametrize('cutmix_mode', ['hmix', 'gmix'])
def test_a_subclass_may_call_the_float_hooks(mode, cutmix_mode):
    """A mixer that returns λ in place of a target, as public code has it."""

    class ReturnsLam(Mixup):
        def __call__(self, x, target):
            return x, getattr(self, FLOAT_HOOKS[self.mode])(x)

    options = {'cutmix_mode': cutmix_mode, 'mode': mode, 'num_classes': 2, 'label_smoothing': 0.0}
    np.random.seed(3)
    mixed, lam = ReturnsLam(0.0, 1.0, **options)(ones_and_zeros(), LABELS)
    np.random.seed(3)
    expected, target = Mixup(0.0, 1.0, **options)(ones_and_zeros(), LABELS)
    assert torch.equal(mixed, expected)
    assert not set(mixed.unique().tolist()) <= {0.0, 1.0}, 'a blend, not a CutMix'
    weights = torch.as_tensor(lam).expand(4, 1)[:, 0] if mode == 'batch' else lam[:, 0]
    torch.testing.assert_close(weights.float(), target[torch.arange(4), LABELS])


@pytest.mark.parametrize('mode', FLOAT_HOOKS)
def test_a_subclass_may_override_the_float_hooks(mode):
    def quarter(self, x):
        return 0.25 if mode == 'batch' else torch.full((len(x), 1), 0.25)

    mixer_class = type('Quarter', (Mixup,), {FLOAT_HOOKS[mode]: quarter})
    mixer = mixer_class(0.0, 1.0, cutmix_mode='hmix', mode=mode, num_classes=2, label_smoothing=0.0)
    mixed, target = mixer(ones_and_zeros(), LABELS)
    assert torch.equal(mixed, ones_and_zeros())
    torch.testing.assert_close(target[0], torch.tensor([0.75, 0.25]))


@pytest.mark.parametrize('mode', COLLATE_HOOKS)
def test_a_subclass_may_call_the_collate_hooks(mode):
    class Adds(FastCollateMixup):
        def __call__(self, batch, _=None):
            output = torch.zeros((2 if self.mode == 'half' else 4, 3, 8, 8), dtype=torch.uint8)
            half = {'half': True} if self.mode == 'half' else {}
            return output, getattr(self, COLLATE_HOOKS[self.mode])(output, batch, **half)

    options = {'cutmix_mode': 'hmix', 'mode': mode, 'num_classes': 2, 'label_smoothing': 0.0}
    np.random.seed(3)
    mixed, lam = Adds(0.0, 1.0, **options)(samples())
    np.random.seed(3)
    expected, target = FastCollateMixup(0.0, 1.0, **options)(samples())
    assert torch.equal(mixed, expected)
    lam = torch.as_tensor(lam).expand(4, 1) if mode == 'batch' else lam
    assert lam.shape == (4, 1)
    torch.testing.assert_close(lam[: len(target), 0].float(), target[torch.arange(len(target)), LABELS[: len(target)]])


@pytest.mark.parametrize('mode', COLLATE_HOOKS)
def test_a_subclass_may_override_the_collate_hooks_and_add_to_zeros(mode):
    """timm's own hooks add to an output of zeros."""

    def adds_seven(self, output, batch, **kwargs):
        output += 7
        return 0.25

    mixer_class = type('Seven', (FastCollateMixup,), {COLLATE_HOOKS[mode]: adds_seven})
    mixer = mixer_class(0.0, 1.0, cutmix_mode='hmix', mode=mode, num_classes=2, label_smoothing=0.0)
    mixed, target = mixer(samples())
    assert (mixed == 7).all()
    torch.testing.assert_close(target[0], torch.tensor([0.75, 0.25]))


@pytest.mark.parametrize(('yl', 'yh', 'xl', 'xh'), [(1, 3, 2, 6), (-3, 12, 2, 9), (5, 2, 0, 4)])
def test_who_replaces_the_drawing_of_boxes_is_asked_also_where_they_leave_the_image(monkeypatch, yl, yh, xl, xh):
    monkeypatch.setattr(timm_mixup, 'rand_bbox', lambda shape, lam, *args, **kwargs: (yl, yh, xl, xh))
    mixer = Mixup(0.0, 1.0, num_classes=2, label_smoothing=0.0)
    mixed, target = mixer(ones_and_zeros(), LABELS)
    expected = torch.ones(8, 8)
    expected[yl:yh, xl:xh] = 0.0
    assert torch.equal(mixed[0, 0], expected)
    assert target[0, 1] == expected.mean()


@pytest.mark.parametrize('mode', ['pair', 'elem'])
def test_a_subclass_may_draw_lists(mode):
    mixer_class = type('Third', (Mixup,), {'_params_per_elem': lambda self, count: ([0.25] * count, [False] * count)})
    mixed, target = mixer_class(num_classes=2, mode=mode, label_smoothing=0.0)(ones_and_zeros(), LABELS)
    assert mixed[0, 0, 0, 0] == target[0, 1] == 0.25


@pytest.mark.parametrize('cutmix_mode', ['bbox', 'hmix'])
@pytest.mark.parametrize('mode', ['batch', 'elem'])
def test_who_replaces_boxes_and_label_weights_is_asked(monkeypatch, cutmix_mode, mode):
    monkeypatch.setattr(timm_mixup, 'cutmix_bbox_and_lam', lambda *args, **kwargs: ((0, 4, 0, 4), 0.75))
    mixer = FastCollateMixup(0.0, 1.0, cutmix_mode=cutmix_mode, mode=mode, num_classes=2, label_smoothing=0.0)
    mixed, target = mixer(samples())
    assert (mixed[0, 0, :4, :4] == 0).all() and (mixed[0, 0, 4:] > 0).all()
    assert (mixed[0].float().mean() / 255).item() == pytest.approx(target[0, 1].item(), abs=2e-3)


@pytest.mark.skipif(not private.TAKES_MULTI_LABEL, reason='the installed timm has no multi_label')
def test_multi_label_is_positional_where_timm_has_it():
    mixer = Mixup(1.0, 0.0, None, 1.0, 0.5, 'batch', True, 0.0, 2, True)
    dense = torch.tensor([[1.0, 1.0], [0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    _, target = mixer(ones_and_zeros(), dense)
    assert mixer.multi_label and target.shape == (4, 2)
    torch.testing.assert_close(target + target.flip(0), dense + dense.flip(0))
