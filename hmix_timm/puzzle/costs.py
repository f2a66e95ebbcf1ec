"""From saliency and images to what the cut minimizes: unaries of the blocks and weights of their edges.

The partner of image i is image B − 1 − i, so that what the partner has is a flip of what the batch has.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from torch.nn import functional as F


class Edges(NamedTuple):
    """What the edges of one direction do: their weights, and what they add to the costs of their two ends."""

    weight: torch.Tensor
    own_first: torch.Tensor
    partner_first: torch.Tensor
    own_second: torch.Tensor
    partner_second: torch.Tensor


class Costs(NamedTuple):
    """Arguments of `minimum_cut`: unaries (B, 3, n, n), vertical (B, n − 1, n) and horizontal (B, n, n − 1)."""

    unaries: torch.Tensor
    vertical: torch.Tensor
    horizontal: torch.Tensor


def block_saliency(saliency: torch.Tensor, grid: tuple[int, int]) -> torch.Tensor:
    """Averages maps (B, H, W) over a grid of blocks, each map normalized to sum 1.

    A map that is zero everywhere or not finite somewhere becomes uniform.

    Returns:
        (B, *grid), float32 or wider.
    """
    height, width = saliency.shape[1] // grid[0], saliency.shape[2] // grid[1]
    maps = saliency.to(torch.promote_types(saliency.dtype, torch.float32))
    largest = maps.amax((1, 2), keepdim=True)
    # divided first, so that a sum of large values stays finite
    blocks = F.avg_pool2d((maps / largest).unsqueeze(1), (height, width)).squeeze(1)
    shares = blocks / blocks.sum((1, 2), keepdim=True)
    sound = torch.isfinite(shares).all(2, keepdim=True).all(1, keepdim=True) & torch.isfinite(largest)
    return torch.where(sound, shares, 1.0 / (grid[0] * grid[1]))


def puzzle_costs(
    images: torch.Tensor,
    saliency: torch.Tensor,
    lam: float,
    *,
    std: Sequence[float],
    beta: float,
    gamma: float,
    eta: float,
    neigh_size: int,
) -> Costs:
    """Returns what the cut minimizes, on the images' device.

    Args:
        images: (B, C, H, W), normalized.
        saliency: (B, n, n), each image's summing to 1.
        lam: λ, the share that the prior gives to the own image, 0 to 1.
        std: what the channels were divided by; for the jumps between pixels the mean does not matter.
        beta: smoothness of the mask.
        gamma: smoothness of the mixed image across the blocks' borders.
        eta: weight of the prior.
        neigh_size: side in pixels of the squares that images are averaged over before borders are compared.
    """
    n = saliency.shape[1]
    smoothness = beta / (16 * n)
    block = images.shape[2] // n, images.shape[3] // n
    size = min(neigh_size, *block)
    pooled = F.avg_pool2d(images.to(saliency.dtype), size) * _channel_scale(tuple(std), saliency.device)
    vertical = _edges(pooled, block[0] // size, block[1] // size, smoothness, gamma)
    horizontal = Edges(
        *(
            part.transpose(1, 2)
            for part in _edges(pooled.transpose(2, 3), block[1] // size, block[0] // size, smoothness, gamma)
        )
    )
    own, partner = saliency.clone(), saliency.flip(0)
    for edges, first, second in (
        (vertical, (slice(None), slice(None, -1)), (slice(None), slice(1, None))),
        (horizontal, (..., slice(None, -1)), (..., slice(1, None))),
    ):
        own[first] += edges.own_first
        partner[first] += edges.partner_first
        own[second] += edges.own_second
        partner[second] += edges.partner_second
    prior = [eta / n**2 * -math.log(p + 1e-8) for p in (lam**2, 2 * lam * (1 - lam), (1 - lam) ** 2)]
    unaries = torch.stack((partner + prior[0], (own + partner) / 2 + prior[1], own + prior[2]), 1)
    return Costs(unaries, vertical.weight, horizontal.weight)


@lru_cache(maxsize=4)  # copied to the device once
def _channel_scale(std: tuple[float, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(std, dtype=torch.float32, device=device).reshape(-1, 1, 1)


def _edges(pooled: torch.Tensor, rows: int, columns: int, smoothness: float, gamma: float) -> Edges:
    """The edges from a block to the one below it.

    Args:
        pooled: averaged images (B, C, n · rows, n · columns).
        rows: rows of a block in them.
        columns: columns of a block in them.
        smoothness: β / (16 n).
        gamma: γ.
    """
    above, below = pooled[:, :, rows - 1 : -1 : rows], pooled[:, :, rows::rows]

    def jump(below: torch.Tensor) -> torch.Tensor:
        distance = (above - below).abs().mean(1)
        return smoothness * gamma * distance.unflatten(2, (-1, columns)).mean(3)

    # first letter: the block above is the own (1) or the partner's (0), second letter: the block below
    d11, d10 = jump(below), jump(below.flip(0))
    d00, d01 = d11.flip(0), d10.flip(0)
    return Edges(
        weight=(smoothness + (d10 + d01 - d11 - d00) / 2).clamp_(min=0.0),
        own_first=(d01 + d00) / 2,
        partner_first=(d10 + d11) / 2,
        own_second=(d10 + d00) / 2,
        partner_second=(d01 + d11) / 2,
    )
