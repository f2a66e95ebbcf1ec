"""`mix`, for losses of one's own, and soft labels."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from hmix_timm import FastCollateMixup, Mixup, private

CLASSES = 5
MODES = ['batch', 'pair', 'elem']
SLOTS = [{'mixup_alpha': 1.0}, {'cutmix_alpha': 1.0}, {'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix'}]
LABELS = torch.tensor([3, 0, 1, 4, 4, 2, 0])


def mixer(cls=Mixup, **arguments):
    return cls(**{'mixup_alpha': 0.0, 'num_classes': CLASSES, **arguments})


@pytest.mark.parametrize('slot', SLOTS, ids=str)
@pytest.mark.parametrize('mode', MODES)
def test_an_interpolated_loss_is_that_of_the_soft_target_and_so_are_its_gradients(mode, slot):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(7, 3, 9, 8, dtype=torch.float64, generator=generator)
    layer = torch.rand(3 * 9 * 8, CLASSES, dtype=torch.float64, generator=generator)
    for seed, smoothing in enumerate((0.0, 0.1, 0.1, 0.0)):
        losses, gradients = [], []
        for interpolated in (True, False):
            np.random.seed(seed)
            weights = layer.clone().requires_grad_()
            mixing = mixer(mode=mode, label_smoothing=smoothing, **slot)
            if interpolated:
                images, partner, weight = mixing.mix(x.clone())
                output = images.flatten(1) @ weights
                own, other = (
                    F.cross_entropy(output, labels, label_smoothing=smoothing, reduction='none')
                    for labels in (LABELS, LABELS[partner])
                )
                loss = (weight * own + (1 - weight) * other).mean()
            else:
                images, target = mixing(x.clone(), LABELS)
                loss = F.cross_entropy(images.flatten(1) @ weights, target)
            loss.backward()
            losses.append(loss)
            gradients.append(weights.grad)
        torch.testing.assert_close(*losses, rtol=0, atol=1e-6)
        torch.testing.assert_close(*gradients, rtol=0, atol=1e-6)


@pytest.mark.parametrize('mode', MODES)
def test_a_mixed_image_is_made_of_itself_and_of_its_partner_by_its_weight(mode):
    x = torch.rand(7, 3, 9, 8)
    batch = x.clone()
    images, partner, weight = mixer(mixup_alpha=1.0, mode=mode).mix(batch)
    assert images is batch and partner.tolist() == [6, 5, 4, 3, 2, 1, 0]
    assert isinstance(weight, float) if mode == 'batch' else weight.shape == (7,)
    share = torch.as_tensor(weight).reshape(-1, 1, 1, 1)
    torch.testing.assert_close(images, share * x + (1 - share) * x[partner])


@pytest.mark.parametrize('mode', MODES)
def test_the_weight_is_1_where_nothing_is_mixed(mode):
    x = torch.rand(4, 3, 9, 8)
    images, _, weight = mixer(cutmix_alpha=1.0, mode=mode, prob=0.0).mix(x.clone())
    assert torch.equal(images, x) and (torch.as_tensor(weight) == 1.0).all()


def test_the_hooks_of_a_subclass_count_in_mix():
    class Quarter(Mixup):
        def _mix_batch(self, x):
            return 0.25

    assert Quarter().mix(torch.rand(4, 3, 9, 8)).weight == 0.25


@pytest.mark.parametrize('dtype', [torch.float32, torch.int64])
@pytest.mark.parametrize('cls', [Mixup, FastCollateMixup])
@pytest.mark.parametrize('mode', MODES)
def test_one_hot_labels_have_the_targets_of_their_classes(cls, mode, dtype):
    x, one_hot = torch.randint(0, 256, (7, 3, 9, 8), dtype=torch.uint8), F.one_hot(LABELS, CLASSES).to(dtype)
    targets = []
    for labels, soft in ((LABELS, False), (one_hot, True)):
        np.random.seed(1)
        mixing = mixer(cls, cutmix_alpha=1.0, cutmix_mode='hmix', mode=mode, soft_labels=soft)
        batch = [list(zip(x, labels, strict=True))] if cls is FastCollateMixup else [x.float(), labels]
        targets.append(mixing(*batch)[1])
    torch.testing.assert_close(*targets, rtol=0, atol=1e-6)


def test_soft_labels_are_smoothed_and_mixed_a_second_time():
    x, teacher = torch.rand(7, 3, 9, 8), torch.rand(7, CLASSES).softmax(1)
    _, unmixed = mixer(mixup_alpha=1.0, prob=0.0, label_smoothing=0.1, soft_labels=True)(x, teacher)
    torch.testing.assert_close(unmixed, 0.9 * teacher + 0.1 / CLASSES)
    second = mixer(mixup_alpha=1.0, mode='elem', label_smoothing=0.0, soft_labels=True)
    np.random.seed(2)
    _, target = second(x.clone(), unmixed)
    np.random.seed(2)
    weight = second.mix(x).weight[:, None]
    torch.testing.assert_close(target, weight * unmixed + (1 - weight) * unmixed.flip(0))


@pytest.mark.parametrize('shape', [(4,), (3, CLASSES), (4, CLASSES - 1)])
def test_soft_labels_of_a_wrong_shape_are_refused(shape):
    with pytest.raises(ValueError, match=rf'soft_labels=True takes a target of shape \(4, {CLASSES}\), got shape'):
        mixer(mixup_alpha=1.0, soft_labels=True)(torch.rand(4, 3, 9, 8), torch.rand(shape))


@pytest.mark.skipif(not private.TAKES_MULTI_LABEL, reason='the installed timm has no multi_label')
def test_soft_labels_beside_multi_label_are_refused():
    with pytest.raises(ValueError, match='soft_labels cannot go with multi_label'):
        mixer(mixup_alpha=1.0, soft_labels=True, multi_label=True)
