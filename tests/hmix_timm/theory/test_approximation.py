"""Theorem 1 against brute force, autograd along a line, and its own claim of second order."""

import math

import numpy as np
import pytest
import torch
from sklearn.datasets import make_moons

from hmix_timm.families import gmix_mask
from hmix_timm.theory.approximation import (
    adversarial_loss,
    approximate_loss,
    original_loss,
    partner_moments,
    regularizers,
)
from hmix_timm.theory.laws import MaskSupport, bernoulli_law, mask_support, mixup_law

PARAMETERS = torch.tensor([0.9, -1.4, 0.3], dtype=torch.float64)


def linear_model(x, parameters=PARAMETERS):
    return x @ parameters[:2] + parameters[2]


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


def test_original_loss_is_the_expectation_over_drawn_mixes():
    x, y = moons()
    exact = original_loss(curved_model, x, y, mask_support(lopsided_law, 0.8, 0.8)).item()
    rng = np.random.default_rng(0)
    mixed, labels = [], []
    for _ in range(2000):
        i, j = rng.integers(len(x), size=2)
        lam = rng.beta(0.8, 0.8)
        _, masks, probability = lopsided_law(lam)
        mask = masks[rng.choice(len(masks), p=probability.numpy())].numpy()
        mixed.append(mask * x[i].numpy() + (1 - mask) * x[j].numpy())
        labels.append(lam * y[i].item() + (1 - lam) * y[j].item())
    values = curved_model(torch.from_numpy(np.stack(mixed))).numpy()
    losses = np.log1p(np.exp(values)) - labels * values
    assert abs(np.mean(losses) - exact) < 5 * np.std(losses) / math.sqrt(len(losses))


@pytest.mark.parametrize(
    ('law', 'f'), [('lopsided', linear_model), ('lopsided', curved_model), ('mixup', curved_model)]
)
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
    assert (terms.r3.item() == 0) == (f is linear_model)


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
        return approximate_loss(lambda x: linear_model(x, parameters), x, y, moments)

    parameters = torch.tensor([0.5, -0.2, 0.1], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(loss, parameters)


@pytest.mark.parametrize(('shift', 'refused'), [(2e-7, False), (2e-5, True)])
def test_inputs_must_have_mean_0_in_each_feature(shift, refused):
    x = 1000 * torch.tensor([[1.0 + shift, -1.0 - shift], [-1.0, 1.0]], dtype=torch.float64)
    y, moments = torch.zeros(2, dtype=torch.float64), partner_moments(mask_support(mixup_law))
    if refused:
        with pytest.raises(ValueError, match=r'x must have mean 0 .*, got \[0\.0(1|099).*, -0\.0(1|099).*\]$'):
            regularizers(linear_model, x, y, moments)
    else:
        regularizers(linear_model, x, y, moments)


@pytest.mark.parametrize('epsilon', [0.0, 0.3, 2.0])
def test_no_attack_of_a_linear_model_does_more_than_the_exact_one(epsilon):
    x, y = moons()
    angles = torch.linspace(0, 2 * math.pi, 2001, dtype=torch.float64)[:, None]
    ball = torch.cat([size * epsilon * torch.cat((angles.cos(), angles.sin()), 1) for size in (0.0, 0.5, 1.0)])
    values = linear_model(x[:, None] + ball)
    worst = (torch.log1p(torch.exp(values)) - y[:, None] * values).amax(dim=1).mean()
    exact = adversarial_loss(PARAMETERS[:2], PARAMETERS[2], x, y, epsilon)
    assert worst.item() == pytest.approx(exact.item(), rel=1e-5)
