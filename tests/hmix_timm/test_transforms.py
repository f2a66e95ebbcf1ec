"""The transforms beside torchvision's: seed for seed the same, in every place where torchvision's can stand."""

import pickle

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset, default_collate
from torchvision import tv_tensors
from torchvision.transforms import v2

from hmix_timm import BoxMask, DenseMask, register_family, transforms
from hmix_timm.families import FAMILIES

CLASSES = 9
OWN = ['MixUp', 'CutMix', 'HMix', 'GMix']
EVERY = ['MixUp', *(family.title for family in FAMILIES.values())]


def batch(count=7, size=(13, 22), dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(count, 3, *size, generator=generator) * (1 if dtype.is_floating_point else 255)
    return x.to(dtype), torch.arange(count) % CLASSES


def marked(count, size):
    """Images whose channel c is 1 in image c alone: the mask of each is seen in its own channel."""
    return torch.eye(count)[:, :, None, None].repeat(1, 1, *size), torch.arange(count)


@pytest.mark.parametrize('size', [(13, 22), (150, 90), (1, 1)])
@pytest.mark.parametrize('alpha', [{'alpha': 0.2}, {}])
@pytest.mark.parametrize('name', ['MixUp', 'CutMix'])
def test_from_a_seed_they_return_what_torchvisions_return(name, alpha, size):
    x, labels = batch(size=size)
    ours, theirs = (getattr(module, name)(**alpha, num_classes=CLASSES) for module in (transforms, v2))
    for seed in range(8):
        results = []
        for transform in (ours, theirs):
            torch.manual_seed(seed)
            results.append((*transform(x[: 7 - seed], labels[: 7 - seed]), torch.rand(())))
        torch.testing.assert_close(*results, rtol=0, atol=0 if name == 'CutMix' and size != (1, 1) else 1e-6)


@pytest.mark.parametrize('mode', ['batch', 'elem'])
@pytest.mark.parametrize('name', EVERY)
def test_label_weights_are_the_means_of_masks_between_an_image_and_the_one_before_it(name, mode):
    transform = getattr(transforms, name)(num_classes=4, mode=mode)
    seen = []
    for seed in range(8):
        x, labels = marked(4, (75, 80) if seed % 4 == 0 else (9, 7))
        torch.manual_seed(seed)
        mixed, target = transform(x, labels)
        torch.testing.assert_close(mixed.mean((2, 3)), target, rtol=0, atol=1e-6)
        torch.testing.assert_close(mixed.sum(1), torch.ones_like(mixed[:, 0]))
        assert not target[torch.arange(4), torch.arange(4) - 2].any()
        assert transform(x[:0], labels[:0])[1].shape == (0, 4)
        seen.append(len(set(target.diagonal().tolist())))
    assert max(seen) == (1 if mode == 'batch' else 4)


def test_stochastic_is_mixup_or_cutmix_for_each_image():
    x, labels = marked(4, (9, 7))
    transform, blended = transforms.Mix('stochastic', num_classes=4, mode='elem'), []
    for _ in range(50):
        mixed, target = transform(x, labels)
        torch.testing.assert_close(mixed.mean((2, 3)), target, rtol=0, atol=1e-6)
        blended += [bool(((image > 0) & (image < 1)).any()) for image in mixed]
    assert 60 < sum(blended) < 140


@pytest.mark.parametrize('dtype', [torch.float16, torch.float64, torch.uint8, torch.int64])
@pytest.mark.parametrize('name', OWN)
def test_other_dtypes_are_rounded_once(name, dtype):
    step = 2**-11 if dtype == torch.float16 else 1e-12 if dtype.is_floating_point else 0.5 + 1e-3
    for size in ((9, 7), (75, 80)):
        x, labels = batch(size=size, dtype=dtype)
        transform, results = getattr(transforms, name)(num_classes=CLASSES), []
        for images in (x, x.double()):
            torch.manual_seed(3)
            results.append(transform(images, labels)[0])
        assert results[0].dtype == dtype
        torch.testing.assert_close(results[0].double(), results[1], rtol=0, atol=step)


@pytest.mark.parametrize('layout', ['channels last', 'expanded', 'every other column'])
@pytest.mark.parametrize('name', OWN)
def test_images_of_any_memory_layout_are_mixed_and_none_is_written_to(name, layout):
    x, labels = batch(size=(75, 80))
    odd = {
        'channels last': x.contiguous(memory_format=torch.channels_last),
        'expanded': x[:, :1].expand(-1, 3, -1, -1),
        'every other column': x[..., ::2],
    }[layout]
    transform, results, before = getattr(transforms, name)(num_classes=CLASSES, mode='elem'), [], odd.clone()
    for images in (odd, odd.clone(memory_format=torch.contiguous_format)):
        torch.manual_seed(3)
        results.append(transform(images, labels)[0])
    torch.testing.assert_close(*results)
    assert torch.equal(odd, before) and labels.tolist() == list(range(7))
    assert results[0].is_contiguous(memory_format=torch.channels_last) == (layout == 'channels last')


@pytest.mark.parametrize('name', OWN)
def test_batches_of_any_structure_are_mixed_as_a_pair(name):
    x, labels = batch()
    transform = getattr(transforms, name)(num_classes=CLASSES)
    soft = torch.nn.functional.one_hot(labels, CLASSES).float()

    def seeded(*inputs, by=transform):
        torch.manual_seed(5)
        return by(*inputs)

    mixed, target = seeded(x, labels)
    for result in (
        seeded([x, labels]),
        seeded(x, soft),
        seeded(x, labels, by=v2.Compose([v2.Identity(), transform])),
        seeded(default_collate(list(zip(x, labels, strict=True)))),
        seeded({'a': {'image': tv_tensors.Image(x)}, 'labels': labels}).values(),
    ):
        images, labels_ = result
        images = images['image'] if isinstance(images, dict) else images
        assert type(images) in (torch.Tensor, tv_tensors.Image)
        assert torch.equal(images, mixed) and torch.equal(labels_, target)
    path = object()
    assert seeded(x, labels, path, 'name')[2:] == (path, 'name')
    video = seeded({'v': tv_tensors.Video(x[:, None].repeat(1, 2, 1, 1, 1)), 'label': labels})['v']
    assert isinstance(video, tv_tensors.Video) and torch.equal(video[:, 1], mixed)
    by_getter = getattr(transforms, name)(num_classes=CLASSES, labels_getter=lambda inputs: inputs[2])
    assert torch.equal(seeded(x, 'name', labels, by=by_getter)[2], target)


def test_loader_workers_mix_by_them():
    x, labels = marked(4, (9, 7))
    mix = v2.RandomChoice([getattr(transforms, name)(num_classes=4, mode='elem') for name in OWN])
    loader = DataLoader(
        TensorDataset(x, labels), 4, collate_fn=lambda samples: mix(*default_collate(samples)), num_workers=1,
        multiprocessing_context='fork',
    )  # fmt: skip
    ((mixed, target),) = loader
    torch.testing.assert_close(mixed.mean((2, 3)), target)
    assert target.max(1).values.min() < 1.0


@pytest.mark.parametrize('name', OWN)
def test_another_process_finds_the_class_that_was_made_when_it_was_asked_for(name, monkeypatch):
    data = pickle.dumps(getattr(transforms, name)(num_classes=4, mode='elem'))
    monkeypatch.delitem(vars(transforms), name)
    found = pickle.loads(data)
    assert type(found) is getattr(transforms, name) and found.mode == 'elem'


def test_a_family_of_a_user_mixes_by_its_name_and_with_its_options():
    @register_family('stripes', options={'period': 4})
    def stripes(size, lam, options, draws):
        rows = (np.arange(size[0]) / options.period + draws.uniform(1)[0]) % 1.0 < lam
        return DenseMask(np.repeat(rows[:, None], size[1], axis=1))

    try:
        x, labels = marked(4, (12, 7))
        transform = pickle.loads(pickle.dumps(transforms.Mix('stripes', num_classes=4, stripes_period=6)))
        assert 'stripes_period=6' in repr(transform)
        mixed, target = transform(x, labels)
        torch.testing.assert_close(mixed.mean((2, 3)), target)
        assert set(mixed.unique().tolist()) == {0.0, 1.0} and torch.equal(mixed[0, 0, :6], mixed[0, 0, 6:])
        assert not hasattr(transforms, 'Stripes'), 'a spawned worker would not find it'
    finally:
        del FAMILIES['stripes']


def test_a_family_that_sees_images_gets_an_image_and_the_one_before_it():
    @register_family('bright', sees='images')
    def bright(size, lam, options, draws, images):
        assert images[0].mean() == pytest.approx((images[1].mean() + 0.25) % 1.0)
        return BoxMask(float(images[1].mean()))

    try:
        x = torch.tensor([0.0, 0.25, 0.5, 0.75]).view(4, 1, 1, 1).repeat(1, 3, 5, 6)
        _, target = transforms.Mix('bright', num_classes=4, mode='elem')(x, torch.arange(4))
        torch.testing.assert_close(target.diagonal(), torch.tensor([0.75, 0.0, 0.25, 0.5]))
    finally:
        del FAMILIES['bright']


@pytest.mark.parametrize(
    ('make', 'message'),
    [
        (lambda: transforms.Mix('none'), 'mix_mode must be one of mixup, cutmix, stochastic, hmix, gmix.*got .none'),
        (lambda: transforms.HMix(mode='pair'), 'mode must be one of batch, elem'),
        (lambda: transforms.HMix(alpha=0), 'alpha must be a finite number > 0'),
        (lambda: transforms.HMix(num_classes=-1), 'num_classes must be a whole number >= 1'),
        (lambda: transforms.HMix(hmix_ratio=2), 'hmix_ratio must be a finite number between 0 and 1'),
        (lambda: transforms.GMix(hmix_ratio=0.5), "hmix_ratio is for cutmix_mode='hmix'"),
        (lambda: transforms.HMix(num_classes=2)(torch.rand(2, 3, 4, 4) + 1j, torch.arange(2)), 'images must be real'),
        (lambda: transforms.HMix()(torch.rand(2, 3, 4, 4), torch.arange(2)), 'num_classes must be passed'),
        (lambda: transforms.HMix(num_classes=3)(torch.rand(2, 3, 4, 4), torch.arange(3)), 'does not match the batch'),
        (lambda: transforms.HMix(num_classes=3)(torch.rand(3, 4, 4), torch.arange(3)), 'Expected a batched input'),
    ],
)
def test_wrong_arguments_and_batches_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_option_that_no_family_has_and_a_class_that_is_not_there_are_named():
    with pytest.raises(TypeError, match="mix_mode 'hmix' has no option smoothing"):
        transforms.HMix(smoothing=0.1)
    with pytest.raises(AttributeError, match="has no attribute 'PuzzleMix'"):
        _ = transforms.PuzzleMix
