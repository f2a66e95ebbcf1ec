"""Theorem 1 against brute force, autograd along a line, and its own claim of second order."""

import inspect
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import make_moons

from hmix_timm.families import gmix_mask
from hmix_timm.theory.approximation import (
    approximate_loss,
    logistic_regression,
    original_loss,
    partner_moments,
    regularizers,
    train_logistic_regression,
    two_moons_curves,
)
from hmix_timm.theory.laws import MaskSupport, bernoulli_law, mask_support, mixup_law

MODEL = logistic_regression(torch.tensor([0.9, -1.4, 0.3], dtype=torch.float64))


def curved_model(x):
    """A nonlinear f, so that R₃ is not zero."""
    return torch.sin(1.3 * x[:, 0]) + 0.7 * x[:, 0] * x[:, 1] - 0.4 * x[:, 1] ** 2 + 0.2


def lopsided_law(lam):
    """GMix as printed on an image of 1 × 2 pixels: 1 − M(λ) is not distributed as M(1 − λ), and E[M] is not λ."""
    masks = [gmix_mask((1, 2), lam, (0, x), 'paper').array((1, 2)).ravel() for x in range(2)]
    half = torch.full((2,), 0.5, dtype=torch.float64)
    return MaskSupport(2 * half * lam, torch.from_numpy(np.stack(masks)), half)


LAWS = {'mixup': mixup_law, 'bernoulli': bernoulli_law, 'lopsided': lopsided_law}


def moons(samples=12):
    x, y = make_moons(samples, noise=0.1, random_state=1)
    return torch.from_numpy(x - x.mean(axis=0)), torch.from_numpy(y.astype(np.float64))


@pytest.mark.parametrize('law', LAWS)
def test_original_loss_is_the_expectation_over_drawn_mixes(law):
    x, y = moons()
    exact = original_loss(curved_model, x, y, mask_support(LAWS[law], 0.8, 0.8)).item()
    rng = np.random.default_rng(0)
    mixed, labels = [], []
    for _ in range(6000):
        i, j = rng.integers(len(x), size=2)
        lam = rng.beta(0.8, 0.8)
        _, masks, probability = LAWS[law](lam)
        mask = masks[rng.choice(len(masks), p=probability.numpy())].numpy()
        mixed.append(mask * x[i].numpy() + (1 - mask) * x[j].numpy())
        labels.append(lam * y[i].item() + (1 - lam) * y[j].item())
    values = curved_model(torch.from_numpy(np.stack(mixed))).numpy()
    losses = np.log1p(np.exp(values)) - labels * values
    assert abs(np.mean(losses) - exact) < 5 * np.std(losses) / math.sqrt(len(losses))


@pytest.mark.parametrize('f', [MODEL, curved_model])
@pytest.mark.parametrize('law', LAWS)
def test_terms_are_the_taylor_coefficients_of_the_loss(law, f):
    # t ↦ E l(x_i + t K ⊙ (x_j − x_i), y_i), whose value at t = 1 is the mixing loss; derivatives at 0 by autograd
    x, y = moons()
    support = mask_support(LAWS[law], 1.0, 1.0)
    shares = torch.cat((1 - support.masks, support.masks))
    weights = torch.cat((support.probability * support.weight, support.probability * (1 - support.weight)))

    def loss_along(t):
        total = torch.zeros((), dtype=torch.float64)
        for share, weight in zip(shares, weights, strict=True):
            # every image as own and every image as partner
            value = f((x[:, None] + t * share * (x - x[:, None])).flatten(0, 1)).unflatten(0, (len(x), len(x)))
            total = total + weight * (torch.log1p(torch.exp(value)) - y[:, None] * value).mean()
        return total

    # the identity behind the theorem: at t = 1 this is Eq. 4 itself
    one = torch.ones((), dtype=torch.float64)
    assert loss_along(one).item() == pytest.approx(original_loss(f, x, y, support).item(), rel=1e-12)
    t = torch.zeros((), dtype=torch.float64, requires_grad=True)
    start = loss_along(t)
    (first,) = torch.autograd.grad(start, t, create_graph=True)
    (second,) = torch.autograd.grad(first, t)
    terms = regularizers(f, x, y, partner_moments(support))
    assert terms.plain.item() == pytest.approx(start.item(), rel=1e-12)
    assert terms.r1.item() == pytest.approx(first.item(), rel=1e-10)
    assert (terms.r2 + terms.r3).item() == pytest.approx(second.item() / 2, rel=1e-10)
    assert (terms.r3.item() == 0) == (f is MODEL)


@pytest.mark.parametrize('law', LAWS)
def test_the_error_is_of_third_order(law):
    x, y = moons()
    support = mask_support(LAWS[law])
    moments = partner_moments(support)
    errors = []
    for scale in (0.1, 0.05, 0.025):
        exact = original_loss(curved_model, scale * x, y, support)
        errors.append(abs((exact - approximate_loss(curved_model, scale * x, y, moments)).item()))
    assert errors[0] > 1e-9  # above rounding
    # halving the distances divides a third-order error by 8, a second-order one by 4
    assert errors[0] / errors[1] > 6.5 and errors[1] / errors[2] > 7


@pytest.mark.parametrize('law', ['mixup', 'bernoulli'])
@pytest.mark.parametrize(('alpha', 'beta'), [(1.0, 1.0), (0.4, 0.4)])
def test_symmetric_masks_have_the_printed_moments(law, alpha, beta):
    # E over λ ~ D̃ of 1 − λ and of (1 − M)(1 − M)ᵀ, by drawing from D̃
    rng = np.random.default_rng(0)
    count = 200_000
    low = rng.random(count) < alpha / (alpha + beta)
    lam = np.where(low, rng.beta(alpha + 1, beta, count), rng.beta(beta + 1, alpha, count))
    rest = np.stack([1 - lam] * 2, axis=1) if law == 'mixup' else (rng.random((count, 2)) > lam[:, None]) * 1.0
    moments = partner_moments(mask_support(LAWS[law], alpha, beta))
    np.testing.assert_allclose(moments.first, rest.mean(axis=0), atol=0.004)
    np.testing.assert_allclose(moments.second, rest.T @ rest / count, atol=0.004)


def test_parameters_get_the_gradient_of_the_approximate_loss():
    x, y = moons()
    moments = partner_moments(mask_support(bernoulli_law))

    def loss(parameters):
        return approximate_loss(logistic_regression(parameters), x, y, moments)

    parameters = torch.tensor([0.5, -0.2, 0.1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, parameters)


def test_inputs_must_be_centred():
    x, y = moons()
    with pytest.raises(ValueError, match='mean 0'):
        regularizers(MODEL, x + 1, y, partner_moments(mask_support(mixup_law)))


@pytest.fixture(scope='module')
def curves():
    return two_moons_curves(samples=40, steps=30)


def test_both_trainings_of_two_moons_descend_from_the_same_start(curves):
    assert set(curves) == {'mixup', 'cutmix'}
    for pair in curves.values():
        for curve in pair.values():
            assert curve.shape == (31,)
            assert curve[0] == pytest.approx(math.log(2))
            assert (np.diff(curve) < 0).all()


def test_the_losses_of_two_moons_are_close_while_the_weights_are_small(curves):
    for pair in curves.values():
        np.testing.assert_allclose(pair['original'][:8], pair['approximate'][:8], rtol=0.01)


def test_cutmix_regularizes_a_single_coordinate_more_than_mixup(curves):
    assert curves['cutmix']['original'][-1] > curves['mixup']['original'][-1] + 0.01


def test_inputs_are_centred_feature_by_feature():
    x = torch.tensor([[1.0, -1.0], [2.0, -2.0]], dtype=torch.float64)
    moments = partner_moments(mask_support(mixup_law))
    with pytest.raises(ValueError, match=r'E\[r\] = 0\), got \[1\.5, -1\.5\]$'):
        regularizers(lambda x: x.sum(dim=1), x, torch.zeros(2, dtype=torch.float64), moments)
    for shift, wrong in ((2e-7, False), (2e-5, True)):
        centred = torch.tensor([[1.0 + shift, -1.0], [-1.0, 1.0]], dtype=torch.float64)
        try:
            regularizers(lambda x: x.sum(dim=1), centred, torch.zeros(2, dtype=torch.float64), moments)
            assert not wrong
        except ValueError:
            assert wrong


def test_gradient_descent_step_by_step():
    # (w, b) → (w₁ + b − 1)² + (w₂ − 2)²: with a rate of 1/4 the second half of the way is halved in each step
    def loss(f):
        points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]], dtype=torch.float64)
        first, second, bias = f(points)
        return (first - 1.0) ** 2 + (second - bias - 2.0) ** 2

    w, b, expected = np.zeros(2), 0.0, []
    for _ in range(4):
        errors = w[0] + b - 1.0, w[1] - 2.0
        expected.append(errors[0] ** 2 + errors[1] ** 2)
        w, b = w - 0.25 * 2 * np.array(errors), b - 0.25 * 2 * errors[0]
    found = train_logistic_regression(loss, 2, 3, 0.25)
    np.testing.assert_allclose(found, expected)
    assert found.dtype == np.float64


def test_figure_1_is_of_200_steps_on_100_points_by_default():
    curves = two_moons_curves(steps=1)
    # before the first step the loss is log 2; the gradient is that of 100 points of seed 0, shifted to mean 0
    points, labels = make_moons(100, noise=0.1, random_state=0)
    points = points - points.mean(axis=0)
    assert curves['mixup']['original'][0] == pytest.approx(np.log(2))
    # E over λ ~ U(0, 1) and both orders: the mean of (1/2 − label) · mixed input
    lam, weight = np.polynomial.legendre.leggauss(8)
    lam, weight = (lam + 1) / 2, weight / 2
    gradient = np.zeros(3)
    for t, share in zip(lam, weight, strict=True):
        mixed = t * points[:, None] + (1 - t) * points[None]
        label = t * labels[:, None] + (1 - t) * labels[None]
        gradient += share * np.array([*((0.5 - label)[..., None] * mixed).mean(axis=(0, 1)), (0.5 - label).mean()])
    after = -0.5 * gradient
    loss = sum(
        share
        * np.mean(
            np.log1p(np.exp(value := (t * points[:, None] + (1 - t) * points[None]) @ after[:2] + after[2]))
            - (t * labels[:, None] + (1 - t) * labels[None]) * value
        )
        for t, share in zip(lam, weight, strict=True)
    )
    assert curves['mixup']['original'][1] == pytest.approx(loss)
    assert inspect.signature(two_moons_curves).parameters['steps'].default == 200
