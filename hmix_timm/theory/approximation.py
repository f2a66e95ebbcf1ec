"""Theorem 1: the mixing loss as the plain loss plus regularizers of input gradients and Hessians.

For losses l(x, y) = h(f(x)) − y f(x), here the logistic one, h(z) = log(1 + exp z) with y ∈ {0, 1}, and any twice
differentiable f, such as the linear model of logistic regression. `original_loss` is Eq. 4 without approximation,
`regularizers` are the terms of Eq. 7: their sum is the approximate loss, equal to the original one up to second order
in the distance between images.

Both losses take a `MaskSupport` of `laws`: one of the paper's examples, or the masks of any mixer. Where that is a list
with a quadrature over λ they are free of sampling noise; where masks are drawn, `laws.estimate` gives the standard
error:

    supports = mixer_supports(Mixup.from_mode('hmix'), (8, 8))
    estimate(supports, lambda support: approximate_loss(f, x, y, partner_moments(support)))

About the theorem as printed. It takes λ from D̃ = α/(α+β) Beta(α+1, β) + β/(α+β) Beta(β+1, α), and M(λ) at that λ.
That is right where 1 − M(λ) is distributed as M(1 − λ), as in both of the paper's examples; it is not right for a mask
like CutMix's, whose box does not turn inside out when λ goes to 1 − λ. The derivation gives, for every mask
distribution: the partner's share K of a pixel is 1 − M with probability w, and M with probability 1 − w, w being the
label weight of image i (λ in the paper, the mean of the mask in the mixers). `partner_moments` computes the moments of
K; for symmetric masks they are the theorem's a_jk under D̃.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch.nn.functional import softplus

from .laws import MaskSupport

Model = Callable[[torch.Tensor], torch.Tensor]
"""f: inputs (n, d) → values (n,); twice differentiable."""


@dataclass(frozen=True, eq=False)
class PartnerMoments:
    """Moments of K, the share of its partner that a mixed image takes at each pixel.

    Args:
        first: E[K], shape (d,); E_{λ~D̃}(1 − λ) at every pixel for the masks of Theorem 1.
        second: E[K Kᵀ], shape (d, d); E_{λ~D̃} a_jk of Eq. 9.
    """

    first: torch.Tensor
    second: torch.Tensor


def partner_moments(support: MaskSupport) -> PartnerMoments:
    """K = 1 − M with probability w, and M with probability 1 − w (see the module's docstring)."""
    shares = torch.cat((1.0 - support.masks, support.masks))
    weights = torch.cat((support.probability * support.weight, support.probability * (1.0 - support.weight)))
    return PartnerMoments(weights @ shares, torch.einsum('k,ki,kj->ij', weights, shares, shares))


def logistic_loss(value: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """l = h(f) − y f with h(z) = log(1 + exp z), for each value f and (soft) label y."""
    return softplus(value) - y * value


def original_loss(f: Model, x: torch.Tensor, y: torch.Tensor, support: MaskSupport) -> torch.Tensor:
    """Eq. 4: the mean of the loss over all pairs (i, j) and masks; labels are w y_i + (1 − w) y_j.

    Args:
        f: the model.
        x: inputs (m, d), float64.
        y: labels in {0, 1}, shape (m,), float64.
        support: distribution of label weights w and masks.

    Returns:
        A scalar, differentiable.
    """
    weight, masks, probability = support
    own, other = x[:, None, None, :], x[None, :, None, :]
    mixed = masks * own + (1.0 - masks) * other
    labels = weight * y[:, None, None] + (1.0 - weight) * y[None, :, None]
    losses = logistic_loss(f(mixed.flatten(0, 2)).view_as(labels), labels)
    return (losses @ probability).mean()


class Regularizers(NamedTuple):
    """The terms of the approximate loss; their sum is the loss."""

    plain: torch.Tensor
    """L_m, the loss without mixing."""
    r1: torch.Tensor
    r2: torch.Tensor
    r3: torch.Tensor


def regularizers(f: Model, x: torch.Tensor, y: torch.Tensor, moments: PartnerMoments) -> Regularizers:
    """L_m, R₁, R₂ and R₃ of Theorem 1 (Eqs. 7 and 8).

    Args:
        f: the model.
        x: inputs (m, d), float64, with mean 0 as the theorem assumes.
        y: labels in {0, 1}, shape (m,), float64.
        moments: of the mask distribution.

    Returns:
        Four scalars, differentiable.

    Raises:
        ValueError: the inputs do not have mean 0.
    """
    if x.mean(dim=0).abs().max() > 1e-6 * x.abs().max():
        raise ValueError(f'x must have mean 0 (Theorem 1 assumes E[r] = 0), got {x.mean(dim=0).tolist()}')

    def value(point: torch.Tensor) -> torch.Tensor:
        return f(point[None])[0]

    values = f(x)
    gradients = torch.func.vmap(torch.func.grad(value))(x)
    hessians = torch.func.vmap(torch.func.hessian(value))(x)
    slope = torch.sigmoid(values)
    curvature = slope * (1.0 - slope)
    # E_r[r rᵀ] + x_i x_iᵀ, weighted by the coefficients
    spread = moments.second * (x.T @ x / len(x) + x[:, :, None] * x[:, None, :])
    r1 = ((y - slope) * ((gradients * x) @ moments.first)).mean()
    r2 = (curvature * torch.einsum('nj,njk,nk->n', gradients, spread, gradients)).mean() / 2.0
    r3 = ((slope - y) * (hessians * spread).sum(dim=(1, 2))).mean() / 2.0
    return Regularizers(logistic_loss(values, y).mean(), r1, r2, r3)


def approximate_loss(f: Model, x: torch.Tensor, y: torch.Tensor, moments: PartnerMoments) -> torch.Tensor:
    """L_m + R₁ + R₂ + R₃ (Theorem 1); arguments and errors are those of `regularizers`."""
    return torch.stack(regularizers(f, x, y, moments)).sum()


def adversarial_loss(
    weights: torch.Tensor, bias: torch.Tensor, x: torch.Tensor, y: torch.Tensor, epsilon: float
) -> torch.Tensor:
    """The mean over inputs of the largest logistic loss within an ℓ2 distance of ε, for f(x) = wᵀx + b.

    Exact, as in Theorem 3: the worst input lies straight against the label, at x − (2 y − 1) ε w / ‖w‖.

    Args:
        weights: w, shape (d,).
        bias: b, a scalar.
        x: inputs (m, d).
        y: labels in {0, 1}, shape (m,).
        epsilon: ε, at least 0.

    Returns:
        A scalar, differentiable.
    """
    return softplus(epsilon * weights.norm() - (2.0 * y - 1.0) * (x @ weights + bias)).mean()
