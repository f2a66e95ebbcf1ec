"""Moves salient blocks to where the mask shows them: deferred acceptance between blocks, within a radius.

The content of block i costs t_eps ‖pos_i − pos_j‖² / (n − 1)² − s_i z_j at block j, where z_j = 1 if the mask shows j
and 0 if not. Only a negative cost is ever accepted, and block i's costs at the visible blocks differ by the distance
alone: it proposes to them from near to far, until s_i no longer pays for the way. The s_i of an image sum to 1, so
that no more than N + 4 (n − 1)² / t_eps of the N² pairs of blocks matter, wherever the saliency lies.

`index_select` is several times as fast on a CPU as the same by brackets.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch.nn import functional as F


class _Moves(NamedTuple):
    """Moves that may pay: those of one block side by side, from near to far. The last one stands for none."""

    goal: torch.Tensor
    """The block of the batch that it goes to; one past the last block for none."""
    bid: torch.Tensor
    """The goal accepts the largest; 0 for none."""
    first: torch.Tensor
    """Each block's first move."""
    end: torch.Tensor
    """One past each block's last move."""


def transport(saliency: torch.Tensor, visible: torch.Tensor, t_eps: float) -> torch.Tensor:
    """Returns which block's content each block shows.

    In each of n rounds every block proposes to its cheapest block, and a block keeps the cheapest of its proposers;
    the others propose to their next one. Of equal costs the first in the order of blocks wins. A block that accepts
    no proposal keeps its own content. On a GPU the host never waits.

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
    best, current, none = moves.bid.new_zeros(batch * size + 1), moves.first, len(moves.bid) - 1
    for _ in range(max(height, width)):
        move = torch.where(current < moves.end, current, none)
        goal, bid = moves.goal.index_select(0, move), moves.bid.index_select(0, move)
        best.scatter_reduce_(0, goal, bid, 'amax')
        beaten = best.index_select(0, goal) != bid
        if best.device.type == 'cpu' and not beaten.any():
            break
        current = current + beaten
    best = best[:-1].reshape(batch, size)
    return torch.where(best > 0, size - 1 - (best & 0xFFFFFFFF), torch.arange(size, device=best.device))


def _paying_moves(saliency: torch.Tensor, visible: torch.Tensor, t_eps: float) -> _Moves:
    batch, height, width = saliency.shape
    device, size, blocks, gains = saliency.device, height * width, saliency.numel(), saliency.flatten()
    span = (max(height, width) - 1) ** 2
    ways = _ways(height, width, device)
    prices = (ways.distance * (t_eps / span)).to(saliency.dtype)
    # block i pays for the first counts[i] ways; the blocks' ways stand one after the other
    counts = torch.searchsorted(prices, gains)
    ends = torch.cat((counts.new_zeros(1), counts.cumsum(0)))
    if device.type == 'cpu':
        room = int(ends[-1])
    else:  # an upper bound: the exact number would have to come from the device
        room = min(blocks * len(prices), batch * (size + math.ceil(4.01 * span / t_eps)))
    numbers = torch.arange(blocks + 1, device=device)
    owner = torch.repeat_interleave(numbers, torch.cat((counts, room - ends[-1:])), output_size=room)
    place = torch.arange(room, device=device)
    way = torch.where(owner < blocks, place - ends.index_select(0, owner), 0)

    # with an invisible frame, no way needs to be checked for leaving the grid
    frame = (width - 1, width - 1, height - 1, height - 1)
    framed = F.pad(visible.to(torch.uint8), frame)
    inner = torch.arange(framed.numel(), device=device).reshape(framed.shape)
    inner = inner[:, height - 1 : 2 * height - 1, width - 1 : 2 * width - 1].flatten()
    start = torch.cat((inner, inner.new_zeros(1))).index_select(0, owner)  # the owner of the rest stays in the frame
    pays = framed.flatten().index_select(0, start + ways.framed.index_select(0, way))

    # only visible goals are kept, in the same order
    before = torch.cat((ends.new_zeros(1), pays.cumsum(0)))
    kept_room = int(before[-1]) if device.type == 'cpu' else room
    kept = place.new_zeros(room + 1).scatter_(0, torch.where(pays > 0, before[:-1], room), place)[:kept_room]
    owner, way = (part.index_select(0, kept) for part in (owner, way))
    owner = owner.clamp(max=blocks - 1)
    # the bits of a positive float32 sort as it does; below them, the first block is the best
    gain = (gains.index_select(0, owner) - prices.index_select(0, way)).float().view(torch.int32).long()
    return _Moves(
        goal=torch.cat((owner + ways.inside.index_select(0, way), numbers[-1:])),
        bid=torch.cat(((gain << 32) + (size - 1 - owner % size), gain.new_zeros(1))),
        first=before.index_select(0, ends[:-1]),
        end=before.index_select(0, ends[1:]),
    )


class _Ways(NamedTuple):
    """All ways from one block of a grid to another, from near to far."""

    distance: torch.Tensor
    """Squared."""
    inside: torch.Tensor
    """Difference between the two blocks' numbers."""
    framed: torch.Tensor
    """The same in a grid with a frame as wide as the longest way."""


@lru_cache(maxsize=8)
def _ways(height: int, width: int, device: torch.device) -> _Ways:
    rows, columns = np.mgrid[1 - height : height, 1 - width : width].reshape(2, -1)
    distance = rows**2 + columns**2
    order = np.argsort(distance, kind='stable')
    ways = distance, rows * width + columns, rows * (3 * width - 2) + columns
    return _Ways(*(torch.from_numpy(way[order]).to(device) for way in ways))
