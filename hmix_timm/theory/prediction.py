"""What Theorem 1 expects of mix modes, on a classifier that was trained without mixing.

For a classifier with logits f(x) the loss is h(f) − y·f with h = log Σ exp, and Theorem 1 reads as in `approximation`
with vectors in place of numbers. With r = x_j − x_i, K the share of its partner that a mixed image takes at each pixel
(see `approximation`), p the softmax and J, H_c the Jacobian and the Hessians of the logits at x_i:

    R₁ = E (p − y)ᵀ J (K ⊙ r),   R₂ = ½ E Var_p(J (K ⊙ r)),   R₃ = ½ E Σ_c (p − y)_c (K ⊙ r)ᵀ H_c (K ⊙ r).

Pairs and masks are drawn, and derivatives are taken along K ⊙ r alone, so that nothing of d × d is ever held; the same
pairs and the same random numbers serve all mix modes. A network of ReLUs is linear between its kinks: its R₃ is 0.

Beside the regularizers stands the loss itself (Eq. 4), on the same draws: how much the second order misses, since
the distance between two images is not small.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from ..draws import numpy_seed
from ..masks import DenseMask, Size
from ..mixup import Mixup
from .coefficients import mean_products
from .laws import Estimate, draw_masks, mean_and_error

_BATCHES = 16


class Prediction(NamedTuple):
    """What is expected of one mix mode; losses are in nats, means over images."""

    coefficient: Estimate
    """Mean over displacements p of E a_{i,i+p}, weighted by what Eq. 12 finds in the network at p."""
    r1: Estimate
    r2: Estimate
    r3: Estimate
    regularization: Estimate
    """R₁ + R₂ + R₃."""
    mixing: Estimate
    """By how much the loss on mixed images and labels exceeds the plain one."""


def predict(
    model: nn.Module,
    batches: Iterable[tuple[torch.Tensor, torch.Tensor]],
    products: np.ndarray,
    mixers: Mapping[str, Mixup],
    repeats: int = 4,
    seed: int = 0,
) -> dict[str, Prediction]:
    """Eq. 12 weighted by coefficients, and the terms of Theorem 1, for several mixers on one network.

    Args:
        model: classifier, images → logits; put into evaluation mode.
        batches: normalized images (B, C, H, W) and class indices (B,), in random order: partners are drawn from the
            same batch. On the model's device.
        products: `gradients.gradient_map` of the network, shape (2 H − 1, 2 W − 1).
        mixers: name → mixer.
        repeats: pairs and masks drawn for each image.
        seed: of the draws. numpy's and torch's global generators are left as they were found.

    Returns:
        name → prediction. Standard errors are those of the mean over images, pairs and masks.
    """
    model.eval()
    terms: dict[str, list[torch.Tensor]] = {name: [] for name in mixers}
    generator = torch.Generator().manual_seed(seed)
    for index, (x, y) in enumerate(batches):
        for repeat in range(repeats):
            partner = x[torch.randint(len(x), (len(x),), generator=generator).to(x.device)]
            for name, mixer in mixers.items():
                with numpy_seed(seed + index * repeats + repeat):
                    shares, means = _draw_shares(mixer, (x.shape[-2], x.shape[-1]), len(x))
                terms[name].append(_terms(model, x, y, partner, _like(shares, x), _like(means, x)).cpu())
    size = (products.shape[0] + 1) // 2, (products.shape[1] + 1) // 2
    return {
        name: Prediction(
            _weighted_coefficient(mixer, size, products, seed), *map(_mean, torch.cat(terms[name], dim=1).double())
        )
        for name, mixer in mixers.items()
    }


def _mean(values: torch.Tensor) -> Estimate:
    return mean_and_error(values.tolist())


def _like(shares: np.ndarray, x: torch.Tensor) -> torch.Tensor:
    return torch.from_numpy(shares)[:, None].to(x.device, x.dtype)


def _draw_shares(mixer: Mixup, size: Size, count: int) -> tuple[np.ndarray, np.ndarray]:
    """K, and its mean where the mask is known but not whose share it is; both (count, H, W)."""
    masks, weights = draw_masks(mixer, size, count)
    values = np.stack([mask.array(size) for mask in masks])
    weight = np.array(weights)[:, None, None]
    own = np.random.random_sample(weight.shape) < weight
    return np.where(own, 1.0 - values, values), weight * (1.0 - values) + (1.0 - weight) * values


def _terms(
    model: nn.Module,
    x: torch.Tensor,
    y: torch.Tensor,
    partner: torch.Tensor,
    share: torch.Tensor,
    mean_share: torch.Tensor,
) -> torch.Tensor:
    """R₁, R₂, R₃, their sum, and the mixing loss less the plain one, of each image: shape (5, B)."""
    with torch.enable_grad(), sdpa_kernel(SDPBackend.MATH):  # the one attention that can be differentiated twice
        x = x.detach().requires_grad_(True)
        step = (share * (partner - x)).detach()
        logits = model(x)
        p = logits.detach().softmax(dim=1)
        residual = p - nn.functional.one_hot(y, p.shape[1])
        # Jᵀ v is linear in v, so that its derivative along the step is J step
        v = torch.zeros_like(logits, requires_grad=True)
        (pulled,) = torch.autograd.grad((logits * v).sum(), x, create_graph=True)
        (moved,) = torch.autograd.grad((pulled * step).sum(), v, retain_graph=True)
        (slope,) = torch.autograd.grad((logits * residual).sum(), x, create_graph=True)
        curved = torch.zeros_like(x)
        if slope.requires_grad:  # else the logits are linear in the image
            (curved,) = torch.autograd.grad((slope * step).sum(), x, materialize_grads=True)
    with torch.no_grad():
        # the mean over partners is known: the mean image takes the place of the one that was drawn
        r1 = _summed(slope * mean_share * (x.mean(dim=0) - x))
        r2 = ((p * moved**2).sum(dim=1) - (p * moved).sum(dim=1) ** 2) / 2.0
        r3 = _summed(curved * step) / 2.0
        mixing = cross_entropy(model(x + step), y, reduction='none') - cross_entropy(logits, y, reduction='none')
    return torch.stack((r1, r2, r3, r1 + r2 + r3, mixing))


def _summed(values: torch.Tensor) -> torch.Tensor:
    return values.flatten(1).sum(dim=1)


def _weighted_coefficient(mixer: Mixup, size: Size, products: np.ndarray, seed: int, samples: int = 2**11) -> Estimate:
    """Σ_p a(p) G(p) / Σ_p G(p): the coefficient that the network's gradient products meet."""
    with numpy_seed(seed):
        means = []
        for _ in range(_BATCHES):
            shares, _ = _draw_shares(mixer, size, samples // _BATCHES)
            coefficients = mean_products((DenseMask(1.0 - share) for share in shares), size)
            means.append(float((coefficients * products).sum() / products.sum()))
    return mean_and_error(means)


def rank_correlation(a: list[float], b: list[float]) -> float | None:
    """Spearman's ρ of two lists without ties; None for fewer than three pairs."""
    if len(a) < 3:
        return None
    ranks = [np.argsort(np.argsort(values)) for values in (a, b)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])
