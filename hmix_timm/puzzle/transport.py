"""Moves what is salient to where the mask shows it: deferred acceptance between blocks, within a radius.

The content of block i costs t_eps ‖pos_i − pos_j‖² / (n − 1)² − s_i z_j at block j, where z_j = 1 if the mask shows j
and 0 if not. Only a negative cost is ever accepted, and block i's costs at the visible blocks differ by the distance
alone: it proposes to them from near to far, until s_i no longer pays for the way. The s_i of an image sum to 1, so
that no more than N + 4 (n − 1)² / t_eps of the N² pairs of blocks matter, wherever the saliency lies.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch


class _Moves(NamedTuple):
    """All moves that may pay, one slot each, those of one block side by side from near to far; then an empty slot."""

    goal: torch.Tensor
    """The block that it goes to; of the empty slot, one past the last block."""
    bid: torch.Tensor
    """What the goal prefers, the larger the better; of the empty slot, 0."""
    following: torch.Tensor
    """The same block's next move, or the empty slot."""
    first: torch.Tensor
    """Each block's first move, or the empty slot."""


def transport(saliency: torch.Tensor, visible: torch.Tensor, t_eps: float) -> torch.Tensor:
    """Returns which block's content each block shows.

    In each of n rounds every block proposes to its cheapest block, and a block keeps the cheapest of its proposers;
    who loses there goes on to the next. Of equal costs the first in the order of blocks wins. A block that accepts
    nobody keeps its own content. On a GPU the host never waits.

    Args:
        saliency: (B, n, m), not negative, each image's summing to 1.
        visible: (B, n, m) bool, where the image is seen.
        t_eps: cost of moving by the longer side of the grid, > 0.

    Returns:
        (B, n · m) int64: the source of block r · m + c.
    """
    batch, height, width = saliency.shape
    size = height * width
    moves = _paying_moves(saliency, visible, t_eps)
    best, current = moves.bid.new_zeros(batch * size + 1), moves.first
    for _ in range(max(height, width)):
        goal, bid = moves.goal[current], moves.bid[current]
        best.scatter_reduce_(0, goal, bid, 'amax')
        beaten = best[goal] != bid
        if best.device.type == 'cpu' and not beaten.any():
            break
        current = torch.where(beaten, moves.following[current], current)
    best = best[:-1].reshape(batch, size)
    return torch.where(best > 0, size - 1 - (best & 0xFFFFFFFF), torch.arange(size, device=best.device))


def _paying_moves(saliency: torch.Tensor, visible: torch.Tensor, t_eps: float) -> _Moves:
    batch, height, width = saliency.shape
    device, size, blocks = saliency.device, height * width, saliency.numel()
    span = (max(height, width) - 1) ** 2
    shifts = torch.from_numpy(_shifts(height, width)).to(device)
    prices = (shifts[2] * (t_eps / span)).to(saliency.dtype)
    counts = torch.searchsorted(prices, saliency.flatten())
    ends = counts.cumsum(0)
    starts = ends - counts
    if device.type == 'cpu':
        slots = int(counts.sum())
    else:  # room for the most that there can be: the exact number would have to come from the device
        slots = min(blocks * len(prices), batch * (size + math.ceil(4.01 * span / t_eps)))

    # one past the last block owns what is left
    owner = torch.repeat_interleave(
        torch.arange(blocks + 1, device=device), torch.cat((counts, slots - ends[-1:])), output_size=slots
    )
    real = owner < blocks
    owner = owner.clamp(max=blocks - 1)
    slot = torch.arange(slots, device=device)
    rank = torch.where(real, slot - starts[owner], 0)
    within = owner % size
    row = torch.div(within, width, rounding_mode='floor') + shifts[0, rank]
    column = within % width + shifts[1, rank]
    inside = real & (row >= 0) & (row < height) & (column >= 0) & (column < width)
    goal = torch.where(inside, owner - within + row * width + column, blocks)
    pays = inside & visible.flatten()[goal.clamp(max=blocks - 1)]
    gain = saliency.flatten()[owner] - prices[rank]
    # the bits of a positive float32 sort as it does; below them, the first block is the best
    bid = (gain.float().view(torch.int32).long() << 32) + (size - 1 - within)

    nearest = torch.where(pays, slot, slots).flip(0).cummin(0).values.flip(0)
    nearest = torch.cat((nearest, nearest.new_full((1,), slots)))
    following = torch.where(nearest[1:] < ends[owner], nearest[1:], slots)
    first = nearest[starts]
    return _Moves(
        goal=torch.cat((goal, goal.new_full((1,), blocks))),
        bid=torch.cat((bid, bid.new_zeros(1))),
        following=torch.cat((following, following.new_full((1,), slots))),
        first=torch.where(first < ends, first, slots),
    )


@lru_cache(maxsize=8)
def _shifts(height: int, width: int) -> np.ndarray:
    """All ways to go on a grid, (3, count) of rows, columns and squared distance, from near to far."""
    rows, columns = np.mgrid[1 - height : height, 1 - width : width].reshape(2, -1)
    distances = rows**2 + columns**2
    return np.stack((rows, columns, distances))[:, np.argsort(distances, kind='stable')]
