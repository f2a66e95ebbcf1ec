"""The mask of least energy over {own, half, partner}, found exactly as one minimum cut.

With ℓ = 2 (1 − m) in {0, 1, 2} a block is two binary nodes, x₁ = [ℓ ≥ 1] and x₂ = [ℓ ≥ 2], and up to a constant

    4 E = Σ_blocks 4 (u₁ − u₀) x₁ + 4 (u₂ − u₁) x₂ + Σ_edges w (ℓ − ℓ′)²
    (ℓ − ℓ′)² = |x₁ − x₁′| + |x₂ − x₂′| + 2 [x₁ < x₂′] + 2 [x₁′ < x₂]

where an arc that no cut can afford forbids x₁ < x₂ within a block. All terms are arcs of one graph: a node on the
sink's side has x = 1.
"""

from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

Array = TypeVar('Array', np.ndarray, torch.Tensor)

CAPACITY = 1 << 29
"""The largest node of an image, its unaries and edges together, is scaled to this; capacities are rounded to integers.

scipy's are int32, and what is left of an arc may reach the sum of its two directions, here below 2³¹.
"""

FORBIDDEN = (1 << 30) - 1
"""Capacity of the arc that forbids x₁ < x₂: more than can flow into its tail."""

BLOCKS_PER_GRAPH = 4096
"""Images are put into one graph until it has about this many blocks: it stays in the processor's cache, and an image
that needs many phases does not hold up a whole batch."""


def load_scipy() -> tuple[Any, Any]:
    """Returns scipy.sparse and scipy.sparse.csgraph.

    Raises:
        ImportError: scipy is not installed; the message says how to install it.
    """
    try:
        import scipy.sparse
        import scipy.sparse.csgraph
    except ImportError as error:
        raise ImportError(f"PuzzleMix needs scipy (pip install 'hmix-timm[puzzle]'): {error}") from error
    return scipy.sparse, scipy.sparse.csgraph


def energy(mask: Array, unaries: Array, vertical: Array, horizontal: Array) -> Array:
    """Returns the energy of masks over blocks: unaries of their labels and w (m − m′)² over the edges.

    Args:
        mask: (B, n, m) of 1 (own), ½ and 0 (partner).
        unaries: (B, 3, n, m), the costs of own, half and partner.
        vertical: (B, n − 1, m), weights of the edges between a block and the one below it.
        horizontal: (B, n, m − 1), weights of the edges between a block and the one to its right.

    Returns:
        (B,), of the type of the arguments, NumPy arrays or tensors.
    """
    chosen = sum((mask == value) * unaries[:, label] for label, value in enumerate((1.0, 0.5, 0.0)))
    below, beside = mask[:, 1:] - mask[:, :-1], mask[:, :, 1:] - mask[:, :, :-1]
    return chosen.sum((1, 2)) + (vertical * below**2).sum((1, 2)) + (horizontal * beside**2).sum((1, 2))


def minimum_cut(unaries: Array, vertical: Array, horizontal: Array) -> Array:
    """Returns masks of least `energy`, by maximum flow; exact up to the rounding of capacities.

    For each image, capacities are rounded to 2⁻²⁹ of the largest sum of |unary differences| and edges at a block. Of
    several minima it is the one with the most of the partner.

    Args:
        unaries: (B, 3, n, m), the costs of own, half and partner, floating.
        vertical: (B, n − 1, m), weights ≥ 0 of the edges between a block and the one below it.
        horizontal: (B, n, m − 1), weights ≥ 0 of the edges between a block and the one to its right.

    Returns:
        (B, n, m) of 1 (own), ½ and 0 (partner): a tensor on the device and of the dtype of `unaries`, or, for NumPy
        arrays, an array.

    Raises:
        ImportError: scipy is not installed.
        ValueError: shapes do not fit each other, a value is not finite or a weight negative.
    """
    if isinstance(unaries, torch.Tensor):
        arrays = (array.detach().double().cpu().numpy() for array in (unaries, vertical, horizontal))
        return torch.from_numpy(minimum_cut(*arrays)).to(unaries)
    _check(unaries, vertical, horizontal)
    mask = np.empty((len(unaries), *unaries.shape[2:]), unaries.dtype)
    step = max(1, BLOCKS_PER_GRAPH // max(1, mask[0].size if len(mask) else 1))
    for start in range(0, len(mask), step):
        part = slice(start, start + step)
        capacities = _capacities(*(array[part].astype(np.float64) for array in (unaries, vertical, horizontal)))
        graph = _graph(*mask[part].shape)
        x = _sink_side(graph, capacities[graph.take]).reshape(-1, 2, *mask.shape[1:])
        mask[part] = 1.0 - 0.5 * x.sum(1)
    return mask


class _Graph(NamedTuple):
    """The arcs of a few images' blocks in CSR form; node 0 is the sink, the last one the source."""

    indptr: np.ndarray
    indices: np.ndarray
    take: np.ndarray
    """For each arc, which of `_capacities` it has."""


def _check(unaries: np.ndarray, vertical: np.ndarray, horizontal: np.ndarray) -> None:
    batch, labels, height, width = unaries.shape if unaries.ndim == 4 else (0, 0, 0, 0)
    if labels != 3:
        raise ValueError(f'unaries must be (B, 3, n, m), got {unaries.shape}')
    for name, weights, shape in (
        ('vertical', vertical, (batch, height - 1, width)),
        ('horizontal', horizontal, (batch, height, width - 1)),
    ):
        if weights.shape != shape:
            raise ValueError(f'{name} must be {shape} for unaries {unaries.shape}, got {weights.shape}')
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError(f'{name} weights must be finite and >= 0')
    if not np.isfinite(unaries).all():
        raise ValueError('unaries must be finite')


def _capacities(unaries: np.ndarray, vertical: np.ndarray, horizontal: np.ndarray) -> np.ndarray:
    """All different capacities of a graph, scaled and rounded, in the order that `_graph` counts in."""
    steps = 4.0 * np.diff(unaries, axis=1)
    degree = np.zeros_like(unaries[:, 0])
    degree[:, 1:] += vertical
    degree[:, :-1] += vertical
    degree[:, :, 1:] += horizontal
    degree[:, :, :-1] += horizontal
    largest = (np.abs(steps).max(1) + 4.0 * degree).max((1, 2))
    scale = np.divide(CAPACITY, largest, out=np.zeros_like(largest), where=largest > 0)
    steps, vertical, horizontal = (
        np.rint(array * scale.reshape(-1, *[1] * (array.ndim - 1))).astype(np.int32)
        for array in (steps, vertical, horizontal)
    )
    parts = (np.maximum(steps, 0), np.maximum(-steps, 0), vertical, 2 * vertical, horizontal, 2 * horizontal)
    return np.concatenate([part.ravel() for part in parts] + [np.array([FORBIDDEN, 0], np.int32)])


@lru_cache(maxsize=16)
def _graph(count: int, height: int, width: int) -> _Graph:
    """The graph of `count` images. Every arc has its reverse, with capacity 0 where need be, as scipy wants it."""
    nodes = 1 + np.arange(count * 2 * height * width).reshape(count, 2, height, width)
    sink, source = np.zeros_like(nodes), np.full_like(nodes, nodes.size + 1)
    above, below, left, right = nodes[:, :, :-1], nodes[:, :, 1:], nodes[..., :-1], nodes[..., 1:]
    sizes = (nodes.size, nodes.size) + (above.size // 2,) * 2 + (left.size // 2,) * 2
    *starts, forbidden = (int(start) for start in np.cumsum((0, *sizes)))
    zero = forbidden + 1
    to_node, to_sink, vertical, twice_vertical, horizontal, twice_horizontal = (
        start + np.arange(size) for start, size in zip(starts, sizes, strict=True)
    )
    none = np.array(zero)
    arcs = [  # tails, heads, and which capacity the arcs have in this direction and in the other
        (source, nodes, to_node, none),
        (nodes, sink, to_sink, none),
        (nodes[:, 0], nodes[:, 1], np.array(forbidden), none),
    ]
    for first, second, weight, twice in (
        (above, below, vertical, twice_vertical),
        (left, right, horizontal, twice_horizontal),
    ):
        arcs += [(first[:, x], second[:, x], weight, weight) for x in (0, 1)]
        arcs += [(first[:, 0], second[:, 1], twice, none), (second[:, 0], first[:, 1], twice, none)]
    tails, heads, take = (
        np.concatenate([np.broadcast_to(part.ravel(), end.size) for pair in pairs for part, end in pair])
        for pairs in (
            [((tail, tail), (head, tail)) for tail, head, _, _ in arcs],
            [((head, tail), (tail, tail)) for tail, head, _, _ in arcs],
            [((there, tail), (back, tail)) for tail, _, there, back in arcs],
        )
    )
    order = np.lexsort((heads, tails))
    indptr = np.searchsorted(tails[order], np.arange(nodes.size + 3)).astype(np.int32)
    return _Graph(indptr, heads[order].astype(np.int32), take[order])


def _sink_side(graph: _Graph, capacities: np.ndarray) -> np.ndarray:
    """Solves the maximum flow; True for the nodes that the source does not reach in the residual graph."""
    sparse, csgraph = load_scipy()
    source = len(graph.indptr) - 2
    network = sparse.csr_matrix((capacities, graph.indices, graph.indptr))
    flow = csgraph.maximum_flow(network, source, 0, method='dinic').flow.data[: len(capacities)]
    left = np.flatnonzero(capacities > flow)
    indptr = np.searchsorted(left, graph.indptr)
    residual = sparse.csr_matrix((np.ones(len(left)), graph.indices[left], indptr), shape=network.shape)
    reached = csgraph.breadth_first_order(residual, source, return_predecessors=False)
    beyond = np.ones(source + 1, bool)
    beyond[reached] = False
    return beyond[1:-1]
