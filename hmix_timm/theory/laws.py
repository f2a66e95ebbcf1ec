"""How masks and label weights are distributed: by the paper's examples, and by any mixer.

A `MaskLaw` lists, for a λ, the masks that may be drawn, their label weights and their probabilities. `slot_law` makes
one of any family: exact where the family draws a single box or centre, whose placements can be listed. `mixer_supports`
goes on to everything that a mixer draws, λ and the switch between its slots included, and draws masks where a list is
out of reach; what is computed from them then has a standard error.
"""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from ..checks import check_number
from ..draws import NotEnumerable, PlacedDraws, numpy_seed
from ..families import Slot
from ..masks import Mask, Size, mixup_mask
from ..mixup import Mixup

EXACT_VALUES = 2**25
"""Supports of up to so many mask values (256 MiB) are enumerated."""

SAMPLES = 2**12
"""Masks drawn where enumeration is out of reach and the caller says no number."""

_BATCHES = 64


class MaskSupport(NamedTuple):
    """A joint distribution of a mask and its label weight, on finitely many points."""

    weight: torch.Tensor
    """label weight of image i, λ in the paper; shape (K,), float64."""
    masks: torch.Tensor
    """M, shape (K, d), float64."""
    probability: torch.Tensor
    """shape (K,), float64; sums to 1."""


MaskLaw = Callable[[float], MaskSupport]
"""λ → the masks that may be drawn."""


class Estimate(NamedTuple):
    """A number, and its standard error where masks were drawn; None where all were listed."""

    value: float
    standard_error: float | None


def mixup_law(lam: float) -> MaskSupport:
    """Mixup in two dimensions: M = (λ, λ)."""
    one = torch.ones(1, dtype=torch.float64)
    return MaskSupport(lam * one, torch.full((1, 2), lam, dtype=torch.float64), one)


def bernoulli_law(lam: float) -> MaskSupport:
    """The paper's CutMix in two dimensions: M = (m₁, m₂), independent, m_i ~ Bernoulli(λ); the label weight is λ."""
    masks = torch.tensor([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=torch.float64)
    probability = (masks * lam + (1.0 - masks) * (1.0 - lam)).prod(dim=1)
    return MaskSupport(torch.full((4,), lam, dtype=torch.float64), masks, probability)


def slot_law(slot: Slot, size: Size, channels: int = 1) -> MaskLaw:
    """The law of what a slot draws, a family with its options: its H · W placements, all equally likely.

    Args:
        slot: from `hmix_timm.families.make_slot`.
        size: height and width in pixels.
        channels: of the images; the mask is the same in each, and d = channels · H · W.

    Returns:
        A law that raises `NotEnumerable` where the family draws more than one box or centre.
    """

    def law(lam: float) -> MaskSupport:
        drawn = [slot.draw_mask(size, lam, PlacedDraws((y, x))) for y in range(size[0]) for x in range(size[1])]
        return _equally_likely([mask for mask, _ in drawn], [weight for _, weight in drawn], size, channels)

    return law


def mask_support(law: MaskLaw, alpha: float = 1.0, beta: float = 1.0, nodes: int = 16) -> MaskSupport:
    """λ ~ Beta(alpha, beta) and M ~ law(λ), by a quadrature that is exact for polynomials in λ of degree 2 nodes − 1.

    Raises:
        ValueError: alpha or beta is not > 0, or nodes < 1.
    """
    points, weights = beta_quadrature(alpha, beta, nodes)
    return mixture([(float(weight), law(float(point))) for point, weight in zip(points, weights, strict=True)])


def mixture(parts: Sequence[tuple[float, MaskSupport]]) -> MaskSupport:
    """One of several distributions, by the probability that stands before each."""
    return MaskSupport(
        torch.cat([part.weight for _, part in parts]),
        torch.cat([part.masks for _, part in parts]),
        torch.cat([part.probability * share for share, part in parts]),
    )


def mixer_supports(
    mixer: Mixup, size: Size, *, channels: int = 1, nodes: int = 16, samples: int | None = None, seed: int = 0
) -> list[MaskSupport]:
    """All that a mixer draws: λ, the slot, the mask; with probability 1 − `prob` an image stays as it is.

    Exact in the placements, and a quadrature in λ, where the family's placements can be listed within `EXACT_VALUES`.
    (Boxes have whole pixels, so that nothing is a polynomial in λ: the error falls with `nodes`.) Elsewhere, and
    wherever `samples` is given, λ and masks are drawn as the mixer draws them for a batch.

    Args:
        mixer: any `Mixup`, such as `Mixup.from_mode('hmix')`.
        size: height and width in pixels.
        channels: of the images; d = channels · H · W.
        nodes: λ at which masks are listed.
        samples: number of masks to draw; None lists them where that is possible.
        seed: of the draws. numpy's global generator is left as it was found.

    Returns:
        The distribution; or, where masks were drawn, as many independent samples of it as `estimate` wants for its
        standard error.

    Raises:
        ValueError: fewer samples than that.
    """
    if samples is not None and samples < _BATCHES:
        raise ValueError(f'samples must be >= {_BATCHES}, got {samples!r}')
    pixels = size[0] * size[1]
    if samples is None and nodes * pixels * pixels * channels <= EXACT_VALUES:
        try:
            return [_listed(mixer, size, channels, nodes)]
        except NotEnumerable:
            pass  # drawn, as the docstring says, and with the standard error that says so
    with numpy_seed(seed):
        count = (samples or SAMPLES) // _BATCHES
        return [_equally_likely(*draw_masks(mixer, size, count), size, channels) for _ in range(_BATCHES)]


def _listed(mixer: Mixup, size: Size, channels: int, nodes: int) -> MaskSupport:
    slots: list[tuple[float, MaskLaw]] = []
    if mixer.mixup_alpha > 0.0:
        slots.append((mixer.mixup_alpha, lambda lam: _equally_likely([mixup_mask(lam)], [lam], size, channels)))
    if mixer.cutmix_alpha > 0.0:
        slots.append((mixer.cutmix_alpha, slot_law(mixer, size, channels)))
    shares = [1.0] if len(slots) == 1 else [1.0 - mixer.switch_prob, mixer.switch_prob]
    parts = [(1.0 - mixer.mix_prob, _equally_likely([mixup_mask(1.0)], [1.0], size, channels))]
    for share, (alpha, law) in zip(shares, slots, strict=True):
        if mixer.mix_prob * share > 0.0:
            parts.append((mixer.mix_prob * share, mask_support(law, alpha, alpha, nodes)))
    return mixture(parts)


def draw_masks(mixer: Mixup, size: Size, count: int) -> tuple[list[Mask], list[float]]:
    """Masks and label weights that a mixer draws from numpy's global generator for so many batches."""
    drawn = [mixer._draw_batch(size) for _ in range(count)]
    return [mixup_mask(1.0) if mask is None else mask for mask, _ in drawn], [float(weight) for _, weight in drawn]


def _equally_likely(masks: Sequence[Mask], weights: Sequence[float], size: Size, channels: int) -> MaskSupport:
    values = torch.from_numpy(np.stack([mask.array(size).ravel() for mask in masks]))
    probability = torch.full((len(masks),), 1.0 / len(masks), dtype=torch.float64)
    return MaskSupport(torch.tensor(weights, dtype=torch.float64), values.repeat(1, channels), probability)


def estimate(supports: Sequence[MaskSupport], quantity: Callable[[MaskSupport], torch.Tensor | float]) -> Estimate:
    """An expectation over masks, such as `lambda s: approximate_loss(f, x, y, partner_moments(s))`.

    Args:
        supports: from `mixer_supports`.
        quantity: a support → a number that is linear in the probabilities, as both losses are.
    """
    return mean_and_error([float(quantity(support)) for support in supports])


def mean_and_error(values: Sequence[float]) -> Estimate:
    """Mean of independent values and its standard error; a single value is exact."""
    if len(values) == 1:
        return Estimate(values[0], None)
    return Estimate(float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(len(values)))


def beta_quadrature(alpha: float, beta: float, nodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss quadrature for the Beta(alpha, beta) distribution on [0, 1].

    Points and weights are those of the Jacobi polynomials, by the eigenvalues of their three-term recurrence.

    Returns:
        Points and weights, each of shape (nodes,), float64; the weights sum to 1.

    Raises:
        ValueError: alpha or beta is not > 0, or nodes < 1.
    """
    check_number('alpha', alpha, open_low=True)
    check_number('beta', beta, open_low=True)
    check_number('nodes', nodes, low=1)
    a, b = beta - 1.0, alpha - 1.0  # exponents of (1 − t) and (1 + t) on [−1, 1]
    n = np.arange(nodes, dtype=np.float64)
    total = 2.0 * n + a + b
    with np.errstate(divide='ignore', invalid='ignore'):  # 0 / 0 at n = 0 for α + β = 2, replaced below
        diagonal = (b**2 - a**2) / (total * (total + 2.0))
    diagonal[0] = (b - a) / (a + b + 2.0)
    m, total = n[1:], total[1:]
    with np.errstate(divide='ignore', invalid='ignore'):  # the same at n = 1 for α + β = 1
        squared = 4.0 * m * (m + a) * (m + b) * (m + a + b) / (total**2 * (total + 1.0) * (total - 1.0))
    if nodes > 1:
        squared[0] = 4.0 * (1.0 + a) * (1.0 + b) / ((a + b + 2.0) ** 2 * (a + b + 3.0))
    points, vectors = np.linalg.eigh(np.diag(diagonal) + np.diag(np.sqrt(squared), 1) + np.diag(np.sqrt(squared), -1))
    return (points + 1.0) / 2.0, vectors[0] ** 2
