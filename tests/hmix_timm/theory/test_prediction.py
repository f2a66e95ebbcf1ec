"""Predictions for a classifier: against Theorem 1 exact, on a classifier of two classes."""

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from hmix_timm import Mixup
from hmix_timm.theory import prediction
from hmix_timm.theory.approximation import original_loss, partner_moments, regularizers
from hmix_timm.theory.laws import mixer_supports
from hmix_timm.theory.prediction import predict, rank_correlation

SIZE = (2, 3)
# not CutMix by itself: on so small an image the boxes of older timm are empty
MIXERS = {'mixup': Mixup.from_mode('mixup'), 'hmix': Mixup.from_mode('hmix'), 'gmix': Mixup.from_mode('gmix')}


def curved(x):
    """A nonlinear f of inputs (n, 6)."""
    return torch.sin(x[:, 0] + x[:, 3]) + 0.5 * x[:, 1] * x[:, 4] - 0.3 * x[:, 5] ** 2 + 0.4 * x[:, 2]


class TwoClasses(nn.Module):
    """Logits (0, f), whose cross entropy is the logistic loss of f, in evaluation mode alone."""

    def forward(self, x):
        value = curved(x.flatten(1))
        return torch.stack((torch.full_like(value, float(self.training)), value), dim=1)


def data(count=8):
    """Images with mean 0, each of them with the wrong label, so that no term is small."""
    x = 0.7 * torch.randn(count, 6, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    x = x - x.mean(dim=0)
    return x, (curved(x) < 0).long()


@pytest.fixture(scope='module')
def predicted():
    x, y = data()
    batch = x.view(-1, 1, *SIZE).repeat(250, 1, 1, 1), y.repeat(250)  # many draws at a time of the same images
    return predict(TwoClasses(), [batch], np.ones((3, 5)), MIXERS, repeats=12)


@pytest.mark.parametrize('name', MIXERS)
def test_regularizers_are_those_of_theorem_1(predicted, name):
    x, y = data()
    (support,) = mixer_supports(MIXERS[name], SIZE, nodes=200)
    exact = regularizers(curved, x, y.double(), partner_moments(support))
    found = predicted[name]
    for estimate, expected in ((found.r1, exact.r1), (found.r2, exact.r2), (found.r3, exact.r3)):
        assert abs(expected.item()) > 4 * estimate.standard_error > 0
        assert abs(estimate.value - expected.item()) < 4 * estimate.standard_error
    assert found.regularization.value == pytest.approx(found.r1.value + found.r2.value + found.r3.value)


@pytest.mark.parametrize('name', MIXERS)
def test_the_loss_on_mixes_is_eq_4_less_the_plain_loss(predicted, name):
    x, y = data()
    (support,) = mixer_supports(MIXERS[name], SIZE, nodes=200)
    plain = (torch.log1p(torch.exp(curved(x))) - y * curved(x)).mean()
    expected = (original_loss(curved, x, y.double(), support) - plain).item()
    found = predicted[name].mixing
    assert 0 < found.standard_error < abs(expected) / 5
    assert abs(found.value - expected) < 4 * found.standard_error


def test_coefficients_are_weighted_by_the_gradient_products():
    # products at displacement (0, 0) alone: the mean of K² over pixels; at (1, −2) alone: of K_i K_{i+d}
    x, y = data()
    (support,) = mixer_supports(MIXERS['hmix'], SIZE, nodes=200)
    second = partner_moments(support).second.numpy()
    pairs = {(0, 0): [(i, i) for i in range(6)], (1, -2): [(2, 3)]}  # pixel (0, 2) and (1, 0)
    for (dy, dx), pixels in pairs.items():
        products = np.zeros((3, 5))
        products[1 + dy, 2 + dx] = 7.0
        batch = x.view(-1, 1, *SIZE), y
        found = predict(TwoClasses(), [batch], products, {'hmix': MIXERS['hmix']}, repeats=1)['hmix'].coefficient
        expected = np.mean([second[i, j] for i, j in pixels])
        assert 0 < found.standard_error < 0.02
        assert abs(found.value - expected) < 5 * found.standard_error


def test_no_mixing_regularizes_nothing():
    x, y = data()
    found = predict(
        TwoClasses(), [(x.view(-1, 1, *SIZE), y)], np.ones((3, 5)), {'none': Mixup.from_mode('none')}, repeats=2
    )
    assert all(estimate.value == estimate.standard_error == 0 for estimate in found['none'])


def test_the_first_regularizer_draws_to_the_mean_of_the_images():
    """Of a linear f and Mixup it is E[2 λ (1 − λ)] (p − y) w·(mean of x − x), pixels having means of their own."""
    w = torch.tensor([0.5, -1.0, 0.3, 0.8, -0.2, 0.6], dtype=torch.float64)

    class Linear(nn.Module):
        def forward(self, x):
            value = x.flatten(1) @ w
            return torch.stack((torch.zeros_like(value), value), dim=1)

    x, y = data()
    x = x + torch.arange(6.0) / 3
    batch = x.view(-1, 1, *SIZE).repeat(100, 1, 1, 1), y.repeat(100)
    mixer = Mixup(2.0, 0.0)
    found = predict(Linear(), [batch], np.ones((3, 5)), {'mixup': mixer}, repeats=2)['mixup'].r1
    share = 2 / (2 * 2 + 1)  # α / (2 α + 1) for λ ~ Beta(α, α)
    expected = share * ((torch.sigmoid(x @ w) - y) * ((x.mean(dim=0) - x) @ w)).mean().item()
    assert 0 < found.standard_error < abs(expected) / 10
    assert abs(found.value - expected) < 4 * found.standard_error


@pytest.mark.parametrize('layers', [[], [nn.ReLU(), nn.Linear(8, 3)]])
def test_a_network_without_curvature_has_no_third_regularizer(layers):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 8), *layers)
    x, y = data()
    found = predict(model, [(x.float().view(-1, 1, *SIZE), y)], np.ones((3, 5)), MIXERS, repeats=1)
    assert all(prediction.r3.value == 0 and prediction.r2.value > 0 for prediction in found.values())


def test_images_of_several_batches_count_alike():
    x, y = data()
    x = x.view(-1, 1, *SIZE).repeat(40, 1, 1, 1)
    y = y.repeat(40)
    large, small = (x, y), (0.1 * x[:80], y[:80])
    together, first, second = (
        predict(TwoClasses(), batches, np.ones((3, 5)), {'mixup': MIXERS['mixup']}, repeats=8)['mixup'].r2
        for batches in ([large, small], [large], [small])
    )
    expected = (320 * first.value + 80 * second.value) / 400
    assert second.value < first.value / 2  # so that a mean of means would be seen
    assert together.value == pytest.approx(expected, abs=4 * together.standard_error)
    assert 4 * together.standard_error < abs(expected - (first.value + second.value) / 2)


def test_generators_and_the_model_are_left_alone():
    torch.manual_seed(0)
    np.random.seed(0)
    expected = torch.rand(2), np.random.rand(2)
    torch.manual_seed(0)
    np.random.seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, 3).double())
    torch.manual_seed(0)
    x, y = data()
    predict(model, [(x.view(-1, 1, *SIZE), y)], np.ones((3, 5)), MIXERS, repeats=1)
    assert torch.equal(torch.rand(2), expected[0]) and (np.random.rand(2) == expected[1]).all()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_rank_correlation_is_spearmans():
    a, b = [0.3, 1.2, -4.0, 2.2, 0.9], [7.0, 6.0, 1.0, 9.0, 0.5]
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert rank_correlation([1.0, 2.0], [1.0, 2.0]) is None


def test_batches_and_repeats_draw_anew_and_mixers_the_same(monkeypatch):
    drawn = []
    draw_masks = prediction.draw_masks

    def recorded(mixer, size, count):
        if count == 8:  # those of images, not of the coefficient
            drawn.append((mixer, np.random.get_state()[1][:4].tolist()))
        return draw_masks(mixer, size, count)

    monkeypatch.setattr(prediction, 'draw_masks', recorded)
    x, y = data()
    predict(TwoClasses(), [(x.view(-1, 1, *SIZE), y)] * 2, np.ones((3, 5)), MIXERS, repeats=3)
    states = [[state for mixer, state in drawn if mixer is wanted] for wanted in MIXERS.values()]
    assert states[0] == states[1] == states[2]
    assert len({tuple(state) for state in states[0]}) == len(states[0]) == 2 * 3
