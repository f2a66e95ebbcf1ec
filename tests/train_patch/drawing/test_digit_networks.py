"""The small networks and their training on digits, step by step beside one that is written out here."""

import numpy as np
import pytest
import torch

from hmix_timm import Mixup
from hmix_timm.draws import numpy_seed
from train_patch.data.scikit_images import digits as drawings
from train_patch.drawing import digit_networks as digits


def test_images_are_enlarged_normalized_and_in_an_order_of_their_own():
    images, labels = digits.digit_images()
    assert images.shape == (1797, 1, 16, 16) and images.dtype == torch.float32 and labels.dtype == torch.int64
    assert images.mean().item() == pytest.approx(0.0, abs=1e-4) and images.std().item() == pytest.approx(1.0, abs=1e-4)
    drawn, classes = drawings()
    order = np.random.default_rng(0).permutation(1797)
    assert labels.tolist() == classes[order].tolist()
    small = torch.nn.functional.interpolate(torch.from_numpy(drawn[order])[:, None], scale_factor=2, mode='bicubic')
    expected = (small - small.mean()) / small.std()
    torch.testing.assert_close(images.double(), expected, atol=1e-4, rtol=0)


def test_the_network_is_as_small_as_it_says():
    model = digits.small_network()
    assert sum(parameter.numel() for parameter in model.parameters()) == 94_186
    x, shapes = torch.zeros(2, 1, 16, 16), []
    for layer in model:
        x = layer(x)
        if isinstance(layer, torch.nn.Conv2d):
            shapes.append(tuple(x.shape[1:]))
    assert shapes == [(32, 16, 16), (64, 8, 8), (128, 4, 4)] and x.shape == (2, 10)


class Bar:
    count = 0

    def update(self):
        self.count += 1


def test_training_step_by_step():
    """Three passes over 201 digits: 100, 100 and 1 at a time, so that there are nine steps."""
    images, labels = digits.digit_images()
    rates = []
    with torch.random.fork_rng(devices=[]), numpy_seed(3):
        torch.manual_seed(3)
        model = digits.small_network()
        mixer = Mixup.from_mode('mixup', 'cifar100', num_classes=10, label_smoothing=0.0)
        optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=9)
        for _ in range(3):
            order = torch.randperm(201)
            for index in (order[:100], order[100:200], order[200:]):
                mixed, target = mixer(images[index], labels[index])
                loss = -(target * model(mixed).log_softmax(1)).sum(1).mean()
                for parameter in model.parameters():
                    parameter.grad = None
                loss.backward()
                optimizer.step()
                rates.append(optimizer.param_groups[0]['lr'])
                schedule.step()
    assert max(rates) > 20 * rates[0] > 0
    bar = Bar()
    found, others, top1 = digits.train_digits('mixup', 3, epochs=3, train_images=201, progress=bar)
    assert bar.count == 3 and not found.training
    for name, value in model.state_dict().items():
        torch.testing.assert_close(found.state_dict()[name], value, atol=1e-5, rtol=1e-4)
    assert torch.equal(others, images[201:])
    with torch.no_grad():
        right = (found(others).argmax(1) == labels[201:]).sum().item()
    assert top1 == pytest.approx(100 * right / 1596)


def test_a_seed_is_all_that_a_training_depends_on():
    torch.manual_seed(1)
    first = digits.train_digits('none', 0, epochs=1, train_images=20)[0]
    torch.manual_seed(2)
    second, other = (digits.train_digits('none', seed, epochs=1, train_images=20)[0] for seed in (0, 1))
    weights = [torch.cat([p.flatten() for p in model.parameters()]) for model in (first, second, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.allclose(weights[0], weights[2])


def test_one_thread_is_for_a_while():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyError), digits.one_thread():
            assert torch.get_num_threads() == 1
            raise KeyError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
