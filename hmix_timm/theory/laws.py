"""How masks and label weights are distributed: in the paper's examples, and in any mixer.

A `MaskLaw` lists, for a λ, the masks that may be drawn, their label weights and their probabilities. `slot_law` makes
one of any family: exact where the family draws a single box or centre, whose placements can be listed. `mixer_supports`
covers everything that a mixer draws, λ and the switch between its slots included. Where it cannot list the masks it
draws them, and results computed from them have a standard error.
"""

import contextlib
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch

from ..checks import check_count, check_number
from ..draws import NotEnumerable, PlacedDraws, numpy_seed
from ..families import Slot
from ..masks import BoxMask, Mask, Mix, Size, mixup_mask
from ..mixup import Mixup

EXACT_VALUES = 2**25
"""Supports of up to this many mask values (256 MiB) are listed."""

SAMPLES = 2**12
"""Masks drawn where they cannot be listed and no number is given."""

PARTS = 64
"""Independent parts into which drawn masks are divided, for a standard error; and of [0, 1], to look for jumps in."""


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


def placements(slot: Slot, size: Size, lam: float) -> Iterator[tuple[Mask, float]]:
    """Mask and label weight of a slot at each of its H · W placements, all equally likely.

    Raises:
        NotEnumerable: the family draws more than one box or centre.
    """
    for y in range(size[0]):
        for x in range(size[1]):
            yield slot.draw_mask(size, lam, PlacedDraws((y, x), size))


def slot_law(slot: Slot, size: Size, channels: int = 1) -> MaskLaw:
    """The law of a slot, which is a family with its options.

    Args:
        slot: from `hmix_timm.families.make_slot`.
        size: height and width in pixels.
        channels: of the images; the mask is the same in each, and d = channels · H · W.

    Returns:
        A law that raises `NotEnumerable` where the family draws more than one box or centre.
    """
    return lambda lam: _equally_likely(placements(slot, size, lam), size, channels)


def jumps(slot: Slot, size: Size) -> list[float]:
    """λ at which the masks of a slot jump: where its box, of whole pixels, or the constant of its mask changes.

    It is taken to be the same between two λ with the same box: in each of `PARTS` parts a box grows or shrinks with λ.

    Raises:
        NotEnumerable: as for `placements`.
    """

    def drawn(lam: float) -> object:
        mask, _ = slot.draw_mask(size, lam, PlacedDraws((size[0] // 2, size[1] // 2), size))
        mask = mask.mask if isinstance(mask, Mix) else mask
        return mask.box if isinstance(mask, BoxMask) else getattr(mask, 'offset', None)

    def between(low: float, high: float) -> list[float]:
        if drawn(low) == drawn(high):
            return []
        middle = (low + high) / 2.0
        return [high] if high - low < 1e-15 else between(low, middle) + between(middle, high)

    edges = np.linspace(0.0, 1.0, PARTS + 1).tolist()
    return [jump for low, high in pairwise(edges) for jump in between(low, high)]


def mask_support(
    law: MaskLaw, alpha: float = 1.0, beta: float = 1.0, nodes: int = 16, jumps: Sequence[float] = ()
) -> MaskSupport:
    """λ ~ Beta(alpha, beta) and M ~ law(λ), by a quadrature over λ.

    Args:
        law: λ → masks.
        alpha: of λ's distribution.
        beta: of λ's distribution.
        nodes: number of λ. The quadrature is exact for polynomials in λ of degree 2 nodes − 1.
        jumps: λ at which the law is not smooth. With these there are two λ in each part between two of them, and in
            parts of equal probability besides, nodes / 2 of them: exact for polynomials of degree 3 in each part.

    Raises:
        ValueError: alpha or beta is not > 0, or nodes < 1; or α and β are too far apart and too large for float64.
        ImportError: scipy is not installed.
    """
    check_number('alpha', alpha, open_low=True)
    check_number('beta', beta, open_low=True)
    check_count('nodes', nodes, low=1)
    try:
        from scipy.special import roots_jacobi
    except ModuleNotFoundError as error:
        raise ImportError(f"a quadrature over λ needs scipy (pip install 'hmix-timm[demo]'): {error}") from error
    with np.errstate(all='ignore'):  # scipy divides 0 by 0 where α + β = 1, and does not use the result
        if len(jumps):
            points, weights = _two_in_each_part(alpha, beta, nodes // 2, jumps)
        else:
            points, weights = roots_jacobi(nodes, beta - 1.0, alpha - 1.0)  # on [−1, 1]
            points = (1.0 + points) / 2.0
        weights = weights / weights.sum()
    if not np.isfinite(weights).all():
        raise ValueError(f'alpha and beta are too large for a quadrature, got {alpha!r} and {beta!r}')
    return mixture([(weight, law(point)) for point, weight in zip(points, weights, strict=True)])


def _two_in_each_part(alpha: float, beta: float, parts: int, jumps: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """λ and their probabilities: two in each part of [0, 1] that have λ's first three moments there (Gauss)."""
    from scipy.special import betainc, betaincinv

    quantiles = betaincinv(alpha, beta, np.linspace(0.0, 1.0, max(parts, 1) + 1))
    edges = np.unique([*quantiles, *jumps])
    # E[λ^k; part] = E[λ^k] P(part) under Beta(alpha + k, beta)
    moments = np.diff([betainc(alpha + k, beta, edges) for k in range(4)])
    moments[1:] *= np.cumprod([(alpha + k) / (alpha + beta + k) for k in range(3)])[:, None]
    known = moments[0] > 1e-12
    low, high = edges[:-1][known], edges[1:][known]
    probability = moments[0, known]
    mean, second, third = moments[1:, known] / probability
    spread = np.sqrt(np.maximum(second - mean**2, 1e-14))  # rounding hides what is less
    skew = np.where(spread > 1e-5, (third - 3.0 * mean * second + 2.0 * mean**3) / spread**3, 0.0)
    root = np.sqrt(4.0 + skew**2)
    points = np.concatenate([mean + spread * (skew + sign * root) / 2.0 for sign in (-1.0, 1.0)])
    weights = np.concatenate([probability * (1.0 + sign * skew / root) / 2.0 for sign in (1.0, -1.0)])
    return np.clip(points, np.tile(low, 2), np.tile(high, 2)), weights


def mixer_supports(
    mixer: Mixup, size: Size, *, channels: int = 1, nodes: int = 16, samples: int | None = None, seed: int = 0
) -> list[MaskSupport]:
    """Everything that a mixer draws: λ, the slot, the mask; with probability 1 − `prob` an image stays as it is.

    All placements are listed, and a quadrature over λ sums over them, where that takes no more than `EXACT_VALUES`.
    Boxes have whole pixels, and the quadrature is taken between the λ at which they jump: a quantity that is a
    polynomial of degree 3 in mask and label weight, as a second moment is, is exact for CutMix and HMix. For others and
    for GMix the error falls with `nodes` (16 of them: 0.2 % of GMix's second moment on 8×8). Elsewhere, and wherever
    `samples` is given, λ and masks are drawn as the mixer draws them for a batch.

    Args:
        mixer: any `Mixup`, such as `Mixup.from_mode('hmix')`.
        size: height and width in pixels.
        channels: of the images; d = channels · H · W.
        nodes: number of λ at which masks are listed, besides those between jumps.
        samples: number of masks to draw; None lists them where that is possible.
        seed: of the draws. numpy's global generator is left as it was found.

    Returns:
        The distribution; or, where masks were drawn, `PARTS` independent samples of it for `estimate`.

    Raises:
        ValueError: fewer samples than `PARTS`.
        ImportError: a list needs scipy, which is not installed.
    """
    if samples is not None:
        check_count('samples', samples, low=PARTS)
    else:
        with contextlib.suppress(NotEnumerable):
            found = jumps(mixer, size) if mixer.cutmix_alpha > 0.0 else []
            if (nodes + 2 * len(found)) * (size[0] * size[1]) ** 2 * channels <= EXACT_VALUES:
                return [_listed(mixer, size, channels, nodes, found)]
    with numpy_seed(seed):
        count = (samples or SAMPLES) // PARTS
        return [_equally_likely((_drawn(mixer, size) for _ in range(count)), size, channels) for _ in range(PARTS)]


def _drawn(mixer: Mixup, size: Size) -> tuple[Mask, float]:
    """Mask and label weight that a mixer draws from numpy's global generator for a batch."""
    mask, weight = mixer._draw_batch(size)
    return mixup_mask(1.0) if mask is None else mask, float(weight)


def _listed(mixer: Mixup, size: Size, channels: int, nodes: int, jumps: Sequence[float]) -> MaskSupport:
    def mixup(lam: float) -> MaskSupport:
        return _equally_likely([(mixup_mask(lam), lam)], size, channels)

    both = mixer.mixup_alpha > 0.0 and mixer.cutmix_alpha > 0.0
    share = mixer.switch_prob if both else float(mixer.cutmix_alpha > 0.0)
    slots = [
        (1.0 - share, mixer.mixup_alpha, mixup, ()),
        (share, mixer.cutmix_alpha, slot_law(mixer, size, channels), jumps),
    ]
    parts = [(1.0 - mixer.mix_prob, mixup(1.0))]
    for share, alpha, law, ends in slots:
        if mixer.mix_prob * share > 0.0:
            parts.append((mixer.mix_prob * share, mask_support(law, alpha, alpha, nodes, ends)))
    return mixture(parts)


def mixture(parts: Sequence[tuple[float, MaskSupport]]) -> MaskSupport:
    """One of several distributions, each with its probability."""
    return MaskSupport(
        torch.cat([part.weight for _, part in parts]),
        torch.cat([part.masks for _, part in parts]),
        torch.cat([part.probability * share for share, part in parts]),
    )


def _equally_likely(drawn: Iterable[tuple[Mask, float]], size: Size, channels: int) -> MaskSupport:
    masks, weights = zip(*drawn, strict=True)
    values = torch.from_numpy(np.stack([mask.array(size).ravel() for mask in masks]))
    probability = torch.full((len(masks),), 1.0 / len(masks), dtype=torch.float64)
    return MaskSupport(torch.tensor(weights, dtype=torch.float64), values.repeat(1, channels), probability)


def estimate(supports: Sequence[MaskSupport], quantity: Callable[[MaskSupport], torch.Tensor | float]) -> Estimate:
    """An expectation over masks, such as `lambda s: approximate_loss(f, x, y, partner_moments(s))`.

    Args:
        supports: from `mixer_supports`; a single one is exact.
        quantity: a support → a number that is linear in the probabilities, as both losses are.
    """
    values = [float(quantity(support)) for support in supports]
    error = float(np.std(values, ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else None
    return Estimate(float(np.mean(values)), error)
