"""NaFlexMixup: timm's draws and results without new arguments, HMix and GMix over the overlap of two images."""

import copy
import math
import pickle
import random

import numpy as np
import pytest
import timm.data
import torch

pytest.importorskip('timm.data.naflex_mixup', reason='timm has no NaFlex before 1.0.20')

import hmix_timm
from hmix_timm import NaFlexMixup

CLASSES = 7


def seed_all(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def next_draws():
    """A draw more or less, or in another order, shows in the next number."""
    return np.random.rand(), random.random(), torch.rand(()).item()


@pytest.mark.parametrize('options', [{'mixup_alpha': 0.8}, {'mixup_alpha': 0.0}, {}, {'prob': 0.5, 'local_shuffle': 1}])
@pytest.mark.parametrize('dtype', [torch.float32, torch.uint8])
def test_without_new_arguments_it_is_timms(options, dtype):
    for seed in range(9):
        count = (2, 7, 12)[seed % 3]
        generator = torch.Generator().manual_seed(seed)
        sizes = torch.randint(3, 20, (count, 2), generator=generator).tolist()
        imgs = [(torch.rand(3, h, w, generator=generator) * 255).to(dtype) for h, w in sizes]
        originals = [img.clone() for img in imgs]
        targets = torch.randint(0, CLASSES, (count,), generator=generator)
        results, states = [], []
        for module in (hmix_timm, timm.data):
            seed_all(seed)
            mixer = module.NaFlexMixup(num_classes=CLASSES, label_smoothing=0.1, **options)
            results.append(mixer(imgs, targets))
            states.append(next_draws())
        assert states[0] == states[1]
        for mine, timms in zip(results[0][0], results[1][0], strict=True):
            assert torch.equal(mine, timms)
        torch.testing.assert_close(torch.stack(list(results[0][1])), torch.stack(list(results[1][1])))
        assert all(torch.equal(img, original) for img, original in zip(imgs, originals, strict=True))


NEW = [
    {'cutmix_mode': 'hmix'},
    {'cutmix_mode': 'hmix', 'hmix_gamma': 2.0},
    {'cutmix_mode': 'gmix'},
    {'cutmix_mode': 'gmix', 'gmix_kernel': 'paper'},
]


@pytest.mark.parametrize('options', NEW, ids=str)
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.uint8])
def test_masks_lie_over_the_overlap(options, dtype):
    """Ones against zeros: the mask of each image is visible, and so is where it lies."""
    scale = 255 if dtype == torch.uint8 else 1
    mixer = NaFlexMixup(num_classes=2, mixup_alpha=0.0, **options)
    for seed in range(12):
        sizes = [tuple(map(int, size)) for size in np.random.default_rng(seed).integers(1, 24, (2, 2))]
        seed_all(seed)
        imgs = [torch.full((3, *size), float(i) * scale).to(dtype) for i, size in enumerate(sizes)]
        mixed, targets = mixer(imgs, torch.tensor([0, 1]))
        overlap = [min(a, b) for a, b in zip(*sizes, strict=True)]
        for i, image in enumerate(mixed):
            weight = image.double() / scale if i else 1.0 - image.double() / scale
            assert weight.min() >= 0.0 and weight.max() <= 1.0
            tolerance = 0.5 / 255 + 1e-6 if dtype == torch.uint8 else 1e-6
            assert abs(weight.mean().item() - targets[i][i].item()) < tolerance
            top, left = ((s - o) // 2 for s, o in zip(sizes[i], overlap, strict=True))
            outside = torch.ones_like(weight, dtype=torch.bool)
            outside[:, top : top + overlap[0], left : left + overlap[1]] = False
            assert (weight[outside] == 1.0).all(), 'outside the overlap an image keeps its own pixels'
            assert torch.equal(imgs[i], torch.full_like(imgs[i], i * scale)), 'images given are not written to'
            assert targets[i].dtype == torch.float32


def reference_mask(size, lam, options):
    """HMix: r, then the box, y before x; GMix: the centre, y before x."""
    if options['cutmix_mode'] == 'hmix':
        gamma = options.get('hmix_gamma')
        ratio = 0.75 if gamma is None else torch.distributions.Beta(gamma, gamma).sample().item()
        side = math.sqrt((1.0 - lam) * ratio)
        height, width = int(size[0] * side), int(size[1] * side)
        y, x = random.randint(0, size[0] - height), random.randint(0, size[1] - width)
        mask = np.full(size, lam / (1.0 - height * width / (size[0] * size[1])))
        mask[y : y + height, x : x + width] = 0.0
        return mask
    cy, cx = random.randint(0, size[0] - 1), random.randint(0, size[1] - 1)
    rows, columns = np.ogrid[: size[0], : size[1]]
    paper = options.get('gmix_kernel') == 'paper'
    spread = 2.0 * (1.0 - lam) if paper else min(lam, 1.0 - lam)
    bump = np.exp(-math.pi * ((rows - cy) ** 2 + (columns - cx) ** 2) / (spread * size[0] * size[1]))
    return bump if lam < 0.5 and not paper else 1.0 - bump


@pytest.mark.parametrize('options', NEW, ids=str)
def test_masks_are_drawn_in_timms_order_for_each_image_anew(options):
    """Whether to mix, λ, then the masks, from the generators that timm's NaFlexMixup uses."""
    imgs = [torch.zeros(1, 16, 12), torch.ones(1, 16, 12)]
    mixer = NaFlexMixup(num_classes=2, mixup_alpha=0.0, local_shuffle=1, **options)
    for seed in range(20):
        seed_all(seed)
        mixed, _ = mixer(imgs, torch.tensor([0, 1]))
        seed_all(seed)
        random.random()
        lam = torch.distributions.Beta(1.0, 1.0).sample().item()
        for i in range(2):
            mask = reference_mask((16, 12), lam, options)
            np.testing.assert_allclose(mixed[i][0].numpy(), mask if i else 1.0 - mask, atol=1e-6)


@pytest.mark.parametrize(
    ('cutmix_mode', 'mixup_alpha', 'cutmix_alpha'),
    [('bbox', 0.4, 0.7), ('hmix', 0.01, 0.7), ('gmix', 0.4, 0.01), ('bbox', 0.4, 0.01)],
)
def test_one_number_chooses_between_mixup_and_the_slot(cutmix_mode, mixup_alpha, cutmix_alpha):
    """It is torch's, beside `switch_prob`; the rest is as with the chosen one alone."""
    imgs = [torch.zeros(1, 16, 12), torch.ones(1, 14, 15)]
    options = {'num_classes': 2, 'cutmix_mode': cutmix_mode}
    mixup_alone = NaFlexMixup(num_classes=2, mixup_alpha=mixup_alpha, cutmix_alpha=0.0)
    slot_alone = NaFlexMixup(**options, mixup_alpha=0.0, cutmix_alpha=cutmix_alpha)
    chosen = []
    for seed in range(20):
        torch.manual_seed(seed)
        chosen.append(torch.rand(()).item() < 0.2)
        random.seed(seed)
        expected = (slot_alone if chosen[-1] else mixup_alone)(imgs, torch.tensor([0, 1]))
        mixer = NaFlexMixup(**options, mixup_alpha=mixup_alpha, cutmix_alpha=cutmix_alpha, switch_prob=0.2)
        random.seed(seed)
        torch.manual_seed(seed)
        both = mixer(imgs, torch.tensor([0, 1]))
        for got, wanted in zip((*both[0], *both[1]), (*expected[0], *expected[1]), strict=True):
            assert torch.equal(got, wanted)
    assert 0 < sum(chosen) < 10


def test_naflex_turns_itself_off_at_its_epoch_and_without_one_stays_as_it_was_set():
    mixer, always = NaFlexMixup(num_classes=CLASSES, mixup_off_epoch=2), NaFlexMixup(num_classes=CLASSES)
    always.mixup_enabled = False
    states = []
    for epoch in range(4):
        mixer.set_epoch(epoch)
        always.set_epoch(epoch)
        states.append((mixer.mixup_enabled, always.mixup_enabled))
    assert states == [(True, False), (True, False), (False, False), (False, False)]
    images, labels = list(torch.rand(6, 3, 8, 8)), torch.arange(6)
    mixed, targets = mixer(images, labels)
    assert all(torch.equal(a, b) for a, b in zip(mixed, images, strict=True))
    assert torch.equal(torch.stack(list(targets)), torch.eye(CLASSES)[:6])


@pytest.mark.parametrize(
    ('name', 'value'),
    [
        ('mixup_alpha', float('nan')),
        ('cutmix_alpha', -1),
        ('prob', 1.1),
        ('switch_prob', -0.1),
        ('label_smoothing', 1.5),
        ('num_classes', 0),
        ('cutmix_mode', 'cutmix'),
        ('local_shuffle', -1),
        ('mixup_off_epoch', 0.5),
    ],
)
def test_wrong_values_are_named(name, value):
    with pytest.raises(ValueError, match=f'^{name} must be .*got {value!r}$'):
        NaFlexMixup(**{'num_classes': CLASSES, name: value})


def test_an_argument_without_effect_and_labels_of_another_length_are_refused():
    with pytest.raises(ValueError, match="hmix_ratio is for cutmix_mode='hmix', not for 'gmix'"):
        NaFlexMixup(num_classes=CLASSES, cutmix_mode='gmix', hmix_ratio=0.5)
    with pytest.raises(ValueError, match=r'one class index for each of 2 images, got shape \(3,\)'):
        NaFlexMixup(num_classes=CLASSES)([torch.zeros(1, 4, 4)] * 2, torch.arange(3))


@pytest.mark.parametrize('duplicate', [copy.deepcopy, lambda mixer: pickle.loads(pickle.dumps(mixer))])
@pytest.mark.parametrize('enabled', [True, False])
def test_a_copy_is_whole_and_has_a_switch_of_its_own(duplicate, enabled):
    mixer = NaFlexMixup(cutmix_mode='hmix', hmix_gamma=2.0, num_classes=CLASSES)
    mixer.mixup_enabled = enabled
    twin = duplicate(mixer)
    assert type(twin) is NaFlexMixup and repr(twin) == repr(mixer)
    twin.mixup_enabled = not enabled
    assert mixer.mixup_enabled is enabled
