"""From saliency and images to the costs that the cut minimizes: unaries of the blocks and weights of their edges.

The partner of image i is image B − 1 − i, so that the partners' values are a flip of the batch's.
"""

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch.nn import functional as F


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
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Returns the arguments of `minimum_cut`, on the images' device.

    Args:
        images: (B, C, H, W), normalized.
        saliency: (B, n, n), each image's summing to 1.
        lam: λ, the share that the prior gives to the own image, 0 to 1.
        std: the channels' divisors in normalization; the mean does not matter for the jumps between pixels.
        beta: smoothness of the mask.
        gamma: smoothness of the mixed image across the blocks' borders.
        eta: weight of the prior.
        neigh_size: side in pixels of the squares that images are averaged over before borders are compared.

    Returns:
        Unaries (B, 3, n, n), weights of vertical edges (B, n − 1, n) and of horizontal ones (B, n, n − 1).
    """
    n = saliency.shape[1]
    smoothness = beta / (16 * n)
    block = images.shape[2] // n, images.shape[3] // n
    size = min(neigh_size, *block)
    pooled = F.avg_pool2d(images.to(saliency.dtype), size) * _channel_scale(tuple(std), saliency.device)
    vertical, above, below = _edges(pooled, block[0] // size, block[1] // size, smoothness, gamma)
    sideways = _edges(pooled.mT, block[1] // size, block[0] // size, smoothness, gamma)
    horizontal, left, right = (part.mT for part in sideways)
    own = saliency.clone()
    own[:, :-1] += above
    own[:, 1:] += below
    own[..., :-1] += left
    own[..., 1:] += right
    partner = own.flip(0)
    prior = [eta / n**2 * -math.log(p + 1e-8) for p in (lam**2, 2 * lam * (1 - lam), (1 - lam) ** 2)]
    unaries = torch.stack((partner + prior[0], (own + partner) / 2 + prior[1], own + prior[2]), 1)
    return unaries, vertical, horizontal


@lru_cache(maxsize=4)  # copied to the device once
def _channel_scale(std: tuple[float, ...], device: torch.device) -> torch.Tensor:
    return torch.tensor(std, dtype=torch.float32, device=device).reshape(-1, 1, 1)


def _edges(
    pooled: torch.Tensor, rows: int, columns: int, smoothness: float, gamma: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The edges from a block to the one below it.

    Args:
        pooled: averaged images (B, C, n · rows, n · columns).
        rows: rows of a block in them.
        columns: columns of a block in them.
        smoothness: β / (16 n).
        gamma: γ.

    Returns:
        The edges' weights, and the costs that they add to the own image in the upper and in the lower block; the
        partner's mirror the own. Each (B, n − 1, n).
    """
    above, below = pooled[:, :, rows - 1 : -1 : rows], pooled[:, :, rows::rows]

    def jump(below: torch.Tensor) -> torch.Tensor:
        distance = (above - below).abs().mean(1)
        return smoothness * gamma * distance.unflatten(2, (-1, columns)).mean(3)

    # first digit: the block above is the own (1) or the partner's (0), second digit: the block below
    d11, d10 = jump(below), jump(below.flip(0))
    d00, d01 = d11.flip(0), d10.flip(0)
    weight = (smoothness + (d10 + d01 - d11 - d00) / 2).clamp_(min=0.0)
    return weight, (d01 + d00) / 2, (d10 + d00) / 2
