"""Attacks, corruptions, occlusions and calibration against plain code of their own, on the digits."""

import io

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageFilter
from torch import nn

from train_patch.comparison.robustness import AREAS, CORRUPTIONS, accuracies, attack, calibration, changes, cover
from train_patch.drawing.digit_networks import digit_images, small_network

EPSILON = 0.03
MEAN, STD = 0.4, 0.5


@pytest.fixture(scope='module')
def trained():
    """A small network with a normalization, 200 digits in [0, 1] on which it is half trained, and their labels."""
    images, labels = digit_images()
    images, labels = images[:200], labels[:200]
    images = (images - images.min()) / (images.max() - images.min())
    torch.manual_seed(0)
    network = small_network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=5e-3)
    for index in [*torch.arange(200).split(25)] * 8:
        optimizer.zero_grad()
        nn.functional.cross_entropy(network((images[index] - MEAN) / STD), labels[index]).backward()
        optimizer.step()
    network.eval().requires_grad_(False)
    return lambda x: network((x - MEAN) / STD), images, labels


def batches(images, labels, size=80):
    return list(zip(images.split(size), labels.split(size), strict=True))


def top1(predict, images, labels):
    with torch.no_grad():
        return 100 * np.mean(predict(images).argmax(1).numpy() == labels.numpy())


def test_accuracies_under_attack_are_those_of_plain_code(trained):
    predict, images, labels = trained
    found = accuracies(predict, batches(images, labels), changes(predict, ('fgsm', 'pgd'), EPSILON))

    def step(x, length):
        x = x.clone().requires_grad_(True)
        loss = torch.logsumexp(predict(x), 1).sum() - predict(x).gather(1, labels[:, None]).sum()
        loss.backward()
        return (x + length * x.grad.sign()).detach()

    fgsm = top1(predict, step(images, EPSILON).clamp(0, 1), labels)
    x, weakest = images, []
    for _ in range(10):  # without a random start
        x = step(x, EPSILON / 4)
        x = torch.minimum(torch.maximum(x, images - EPSILON), images + EPSILON).clamp(0, 1)
        weakest.append(top1(predict, x, labels))
    assert found['fgsm'] == pytest.approx(fgsm)
    assert found['pgd'] == pytest.approx(weakest[-1], abs=2)
    assert found['pgd'] <= found['fgsm'] < top1(predict, images, labels) - 20


@pytest.mark.parametrize('steps', [1, 7])
def test_an_attack_stays_within_epsilon_and_in_the_image_and_raises_the_loss(trained, steps):
    predict, images, labels = trained
    attacked = attack(predict, images, labels, EPSILON, steps)
    assert (attacked - images).abs().max() <= EPSILON + 1e-6 and attacked.min() >= 0 and attacked.max() <= 1
    loss = nn.functional.cross_entropy
    assert loss(predict(attacked), labels) > loss(predict(images), labels) + 0.3
    assert not attacked.requires_grad


def pillow(name, strength, image):
    """What Pillow makes of an 8-bit grey image, for the kinds that it has."""
    if name == 'jpeg':
        file = io.BytesIO()
        image.save(file, 'JPEG', quality=int(strength))
        return Image.open(file)
    if name == 'blur':
        return image.filter(ImageFilter.GaussianBlur(strength * min(image.size)))
    kind = ImageEnhance.Contrast if name == 'contrast' else ImageEnhance.Brightness
    return kind(image).enhance(strength)


@pytest.mark.parametrize('name', ['blur', 'jpeg', 'contrast', 'brightness'])
def test_corruptions_do_what_pillow_does_and_each_strength_does_more(trained, name):
    _, images, _ = trained
    eight_bits = (images[:4] * 255).round().to(torch.uint8)
    change, strengths = CORRUPTIONS[name]
    damage = []
    for strength in strengths:
        changed = change(eight_bits / 255, strength)
        for image, found in zip(eight_bits, changed, strict=True):
            expected = np.asarray(pillow(name, strength, Image.fromarray(image[0].numpy()))) / 255
            # JPEG decoders may round differently; Pillow's blur is made of three boxes
            assert np.abs(found[0].numpy() - expected).mean() < {'jpeg': 0.01, 'blur': 0.03}.get(name, 0.005)
        damage.append((changed - eight_bits / 255).abs().mean())
    assert len(damage) == 5 and damage == sorted(damage) and damage[0] > 0


def test_noise_has_the_deviation_that_it_says():
    change, strengths = CORRUPTIONS['noise']
    for sigma in strengths[:2]:
        assert (change(torch.full((1, 1, 200, 200), 0.5), sigma) - 0.5).std() == pytest.approx(sigma, rel=0.05)


@pytest.mark.parametrize('area', AREAS)
@pytest.mark.parametrize('centre', [True, False])
def test_a_grey_part_covers_its_share_in_the_middle_or_anywhere(area, centre):
    images = torch.rand(50, 3, 40, 60)
    covered = cover(images, area, centre)
    grey = (covered != images).any(dim=1)
    assert grey.float().mean(dim=(1, 2)).tolist() == pytest.approx([area] * 50, abs=0.02)
    assert (covered.permute(0, 2, 3, 1)[grey] == 0.5).all()
    rows, columns = grey.any(2).float(), grey.any(1).float()
    assert torch.equal(rows[:, :, None] * columns[:, None], grey.float()), 'a rectangle'
    if centre:
        assert (grey == grey[0]).all()
        for side in (rows[0], columns[0]):
            assert abs(int(side.argmax()) - int(side.flip(0).argmax())) <= 1
    else:
        assert (grey != grey[0]).any() and len({row.argmax().item() for row in rows}) > 5


def test_accuracy_on_damaged_images_is_the_mean_over_the_strengths_whatever_the_model_before(trained):
    predict, images, labels = trained
    changed = changes(predict, ('corruption', 'occlusion'), EPSILON)
    assert list(changed) == [*CORRUPTIONS, 'occlusion_centre', 'occlusion_random']
    torch.manual_seed(5)
    before = torch.get_rng_state()
    found = accuracies(predict, batches(images, labels), changed)
    assert torch.equal(torch.get_rng_state(), before)
    assert accuracies(predict, batches(images, labels), {'noise': changed['noise']})['noise'] == found['noise']
    for name in ('contrast', 'blur'):
        change, strengths = CORRUPTIONS[name]
        assert found[name] == pytest.approx(np.mean([top1(predict, change(images, s), labels) for s in strengths]))
    covered = []
    for area in AREAS:
        side, x = round(16 * area**0.5), images.clone()
        start = (16 - side) // 2
        x[:, :, start : start + side, start : start + side] = 0.5
        covered.append(top1(predict, x, labels))
    assert found['occlusion_centre'] == pytest.approx(np.mean(covered))


def test_calibration_is_that_of_plain_code(trained):
    predict, images, labels = trained
    found, bins = calibration(predict, batches(images, labels))
    with torch.no_grad():
        scores = np.exp(predict(images).double().numpy())
    shares = scores / scores.sum(1, keepdims=True)
    confidence, right = shares.max(1), shares.argmax(1) == labels.numpy()
    error = 0.0
    for i in range(15):
        inside = (confidence > i / 15) & (confidence <= (i + 1) / 15)
        if inside.any():
            error += inside.mean() * abs(right[inside].mean() - confidence[inside].mean())
        assert bins[i] == pytest.approx([inside.sum(), confidence[inside].sum(), right[inside].sum()])
    nll = -np.log(shares[np.arange(200), labels.numpy()]).mean()
    assert found == pytest.approx({'top1': 100 * right.mean(), 'nll': nll, 'ece': 100 * error}, rel=1e-6)
    assert found['ece'] > 1


def test_whoever_is_always_right_and_always_sure_is_calibrated():
    labels = torch.arange(3)
    found, bins = calibration(lambda x: 1000.0 * torch.eye(3), [(torch.zeros(3, 1, 2, 2), labels)])
    assert found == {'top1': 100.0, 'nll': 0.0, 'ece': 0.0} and bins[-1] == [3.0, 3.0, 3.0]
