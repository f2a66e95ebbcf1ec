"""The small networks and their training on digits, beside one that is written out here."""

import numpy as np
import pytest
import torch
from tqdm import tqdm

from hmix_timm import Mixup
from hmix_timm.draws import numpy_seed
from hmix_timm.theory.gradients import gradient_map
from train_patch.data.scikit_images import digits
from train_patch.drawing import digit_networks
from train_patch.drawing.digit_networks import digit_images, figure5_digits, small_network, train_digits
from train_patch.mixing import side_by_side

IMAGES, TRAINED = 400, 200


@pytest.fixture(autouse=True)
def few(monkeypatch):
    """The networks are trained on 200 of the first 400 digits."""
    images, labels = digit_images()
    monkeypatch.setattr(digit_networks, 'digit_images', lambda: (images[:IMAGES], labels[:IMAGES]))
    monkeypatch.setattr(digit_networks, 'TRAIN_IMAGES', TRAINED)


MIXINGS = side_by_side({}, ['none', 'mixup', 'cutmix'], '--figures 5', preset='cifar100')


def test_images_are_enlarged_normalized_and_in_an_order_of_their_own():
    images, labels = digit_images()
    drawn, classes = digits()
    order = np.random.default_rng(0).permutation(1797)
    assert labels.tolist() == classes[order].tolist() and labels.dtype == torch.int64
    small = torch.nn.functional.interpolate(torch.from_numpy(drawn[order])[:, None], scale_factor=2, mode='bicubic')
    expected = ((small - small.mean()) / small.std()).float()
    torch.testing.assert_close(images, expected, atol=1e-4, rtol=0)


def test_training_step_by_step_leaves_the_generators_alone():
    images, labels = digit_images()
    with torch.random.fork_rng(devices=[]), numpy_seed(3):
        torch.manual_seed(3)
        model = small_network()
        mixer = Mixup.from_mode('mixup', 'cifar100', num_classes=10, label_smoothing=0.0)
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=4)
        for _ in range(2):
            for index in torch.randperm(TRAINED).view(2, 100):
                mixed, target = mixer(images[index], labels[index])
                loss = -(target * model(mixed).log_softmax(1)).sum(1).mean()
                model.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    with tqdm(total=2) as bar:
        found, others, top1 = train_digits(images[:IMAGES], labels[:IMAGES], MIXINGS['mixup'], 3, 2, bar)
        assert bar.n == 2
    assert torch.equal(before[0], torch.get_rng_state()) and (before[1] == np.random.get_state()[1]).all()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, atol=1e-4, rtol=1e-3)
    assert torch.equal(others, images[TRAINED:IMAGES]) and not found.training
    with torch.no_grad():
        right = (found(others).argmax(1) == labels[TRAINED:IMAGES]).sum().item()
    assert top1 == pytest.approx(100 * right / (IMAGES - TRAINED))


def test_figure_5_has_the_mean_over_seeds_for_each_mix_mode():
    numbers, figure = figure5_digits(MIXINGS, epochs=1, seeds=2)
    assert [ax.get_title() for ax in figure.axes[:3]] == ['No mixing', 'Mixup, α = 1', 'CutMix, α = 1']
    assert list(numbers) == ['none', 'mixup', 'cutmix'] and list(numbers['mixup']) == ['0', '1', '2', '4', '8', 'top1']
    few = [values[:IMAGES] for values in digit_images()]
    trained = [train_digits(*few, MIXINGS['mixup'], seed, 1, tqdm(disable=True)) for seed in (0, 1)]
    expected = np.mean([gradient_map(model, others.split(100)) for model, others, _ in trained], axis=0)
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), expected, rtol=1e-3)
    assert numbers['mixup']['top1'] == pytest.approx(np.mean([top1 for *_, top1 in trained]), abs=0.5)
    assert not np.allclose(*(next(iter(model.parameters())).detach() for model, *_ in trained))
