"""The mask of least energy over {own, half, partner}, found exactly as one minimum cut.

With ℓ = 2 (1 − m) in {0, 1, 2} a block is two binary nodes, x₁ = [ℓ ≥ 1] and x₂ = [ℓ ≥ 2], and up to a constant

    4 E = Σ_blocks a₁ x₁ + a₂ x₂ + Σ_edges w (ℓ − ℓ′)²,   a₁ = 4 (u_half − u_own), a₂ = 4 (u_partner − u_half)
    (ℓ − ℓ′)² = |x₁ − x₁′| + |x₂ − x₂′| + 2 [x₁ < x₂′] + 2 [x₁′ < x₂]

while an arc that no cut can afford forbids x₁ < x₂ within a block. All terms are arcs of one graph; a node on the
sink's side has x = 1. Before scipy solves the graph, all images at once are given a first flow, found by a cosine
transform. It leaves the minimum cuts as they are, settles most images whose mask is constant, and shortens the rest.
"""

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

CAPACITY = float(1 << 29)
"""The largest node of an image, its |a| and four times its edges, is scaled to this before rounding to integers.

scipy's capacities are int32, and the rest of an arc may reach the sum of its two directions.
"""

FORBIDDEN = (1 << 30) - 1
"""Capacity of the arc that forbids x₁ < x₂: more than can ever flow into its tail."""

BLOCKS_PER_GRAPH = 4096
"""Images are put into one graph until it has about this many blocks: it stays in the processor's cache, and an image
that needs many phases does not hold up the whole batch."""


def load_scipy() -> tuple[Any, Any, Any]:
    """Returns scipy.fft, scipy.sparse and scipy.sparse.csgraph.

    Raises:
        ImportError: scipy is not installed; the message says how to install it.
    """
    try:
        import scipy.fft
        import scipy.sparse
        import scipy.sparse.csgraph
    except ImportError as error:
        raise ImportError(f"PuzzleMix needs scipy (pip install 'hmix-timm[puzzle]'): {error}") from error
    return scipy.fft, scipy.sparse, scipy.sparse.csgraph


def minimum_cut(unaries: np.ndarray, vertical: np.ndarray, horizontal: np.ndarray) -> np.ndarray:
    """Returns masks of least energy E, by maximum flow; exact but for the rounding of capacities.

    E is the sum over the blocks of the unaries of their labels, and over the edges of w (m − m′)². In an image's graph
    capacities are rounded to 2⁻²⁹ of the largest sum of a block's |a| and four times its edge weights.

    Args:
        unaries: (B, 3, n, m), the costs of own, half and partner, floating.
        vertical: (B, n − 1, m), weights ≥ 0 of the edges between a block and the one below it.
        horizontal: (B, n, m − 1), weights ≥ 0 of the edges between a block and the one to its right.

    Returns:
        (B, n, m) of 1 (own), ½ and 0 (partner), of the dtype of `unaries`. Where no edge has a weight, equal costs go
        to the partner.

    Raises:
        ImportError: scipy is not installed.
        ValueError: a value is not finite or a weight negative.
    """
    if not np.isfinite(unaries).all():
        raise ValueError('unaries must be finite')
    for name, weights in {'vertical': vertical, 'horizontal': horizontal}.items():
        if not (np.isfinite(weights).all() and (weights >= 0).all()):
            raise ValueError(f'{name} weights must be finite and >= 0')
    if unaries.size == 0:
        return np.empty_like(unaries[:, 0])
    network, swapped = _network(unaries, vertical, horizontal)
    network = _with_first_flow(network)
    x, settled = _settled(network)
    unsettled = np.flatnonzero(~settled)
    step = max(1, BLOCKS_PER_GRAPH // x[0, 0].size)
    for start in range(0, len(unsettled), step):
        part = unsettled[start : start + step]
        x[part] = _solve(_Network(*(capacities[part] for capacities in network)))
    mask = 1.0 - 0.5 * x.sum(1)
    mask[swapped] = 1.0 - mask[swapped]
    return mask.astype(unaries.dtype)


class _Network(NamedTuple):
    """The remaining capacities in the graphs of B images: integers, kept in float64."""

    terminal: np.ndarray
    """(B, 2, n, m): from the source to x₁ and x₂ where positive, and to the sink where negative."""
    down: np.ndarray
    """(B, 2, n − 1, m): of the arcs from x to the same x of the block below."""
    up: np.ndarray
    right: np.ndarray
    """(B, 2, n, m − 1): of the arcs from x to the same x of the block to the right."""
    left: np.ndarray
    vertical: np.ndarray
    """(B, n − 1, m): of the arcs from x₁ to x₂ of the block above or below."""
    horizontal: np.ndarray
    """(B, n, m − 1): of the arcs from x₁ to x₂ of the block to the left or right."""


def _network(unaries: np.ndarray, vertical: np.ndarray, horizontal: np.ndarray) -> tuple[_Network, np.ndarray]:
    """The graphs, scaled and rounded, and the images (a mask) for which own and partner change places in them."""
    terminal = 4.0 * np.diff(unaries.astype(np.float64), axis=1)
    vertical, horizontal = (weights[:, None].astype(np.float64) for weights in (vertical, horizontal))
    degree = _at_both_ends(vertical, horizontal)
    largest = (np.abs(terminal) + 4.0 * degree).max((1, 2, 3), keepdims=True)
    scale = np.divide(CAPACITY, largest, out=np.ones_like(largest), where=largest > 0)
    terminal, vertical, horizontal = (np.rint(array * scale) for array in (terminal, vertical, horizontal))
    # a search from the source ends sooner if little flow comes from it
    swapped = (terminal.sum((1, 2, 3)) > 0) & (degree.max((1, 2, 3)) > 0)
    terminal[swapped] = -terminal[swapped, ::-1]
    down, right = (np.repeat(weights, 2, axis=1) for weights in (vertical, horizontal))
    network = _Network(terminal, down, down, right, right, 2.0 * vertical[:, 0], 2.0 * horizontal[:, 0])
    return network, swapped


def _at_both_ends(vertical: np.ndarray, horizontal: np.ndarray, sign: float = 1.0) -> np.ndarray:
    """The sum of the values of each block's edges, times `sign` at the lower and at the right end of an edge."""
    total = np.zeros((*horizontal.shape[:-1], vertical.shape[-1]))
    total[..., :-1, :] += vertical
    total[..., 1:, :] += sign * vertical
    total[..., :-1] += horizontal
    total[..., 1:] += sign * horizontal
    return total


def _with_first_flow(network: _Network) -> _Network:
    """Spreads the flow from the source and to the sink evenly over each layer, as far as capacities go.

    It flows like a current through equal resistors. Without capacities, every node would be left with the mean.
    """
    fft = load_scipy()[0]
    # the cosines are the eigenvectors of the grid's Laplacian
    eigenvalues = [2.0 - 2.0 * np.cos(np.pi * np.arange(size) / size) for size in network.terminal.shape[2:]]
    laplacian = eigenvalues[0][:, None] + eigenvalues[1]
    laplacian[0, 0] = np.inf  # a constant stays where it is
    spectrum = fft.dctn(network.terminal, axes=(2, 3), norm='ortho') / laplacian
    potential = fft.idctn(spectrum, axes=(2, 3), norm='ortho')
    down = np.rint(np.clip(-np.diff(potential, axis=2), -network.up, network.down))
    right = np.rint(np.clip(-np.diff(potential, axis=3), -network.left, network.right))
    return network._replace(
        terminal=network.terminal - _at_both_ends(down, right, -1.0),
        down=network.down - down,
        up=network.up + down,
        right=network.right - right,
        left=network.left + right,
    )


def _settled(network: _Network) -> tuple[np.ndarray, np.ndarray]:
    """The labels of images with no flow left, and a mask of these images.

    In them every layer is joined to one terminal only, and not x₁ to the source while x₂ is to the sink.
    """
    to_source = np.all(network.terminal > 0, axis=(2, 3))
    to_sink = np.all(network.terminal <= 0, axis=(2, 3))
    settled = (to_source | to_sink).all(1) & ~(to_source[:, 0] & to_sink[:, 1])
    return np.broadcast_to(to_sink[:, :, None, None], network.terminal.shape).copy(), settled


def _solve(network: _Network) -> np.ndarray:
    """The labels x, (B, 2, n, m) bool: True where the source does not reach a node after the maximum flow."""
    _, sparse, csgraph = load_scipy()
    batch, _, height, width = network.terminal.shape
    count = batch * 2 * height * width
    degrees, heads, take = _arcs(height, width)
    parts = np.maximum(-network.terminal, 0.0), *network[1:], np.full((batch, 1), FORBIDDEN), np.zeros((batch, 1))
    values = np.concatenate([part.reshape(batch, -1) for part in parts], 1)
    # node 0 is the sink, node 1 the source, then come the images'
    nodes = np.arange(2, 2 + count, dtype=np.int32)
    shifts = np.where(heads < 0, 0, nodes[:: 2 * height * width, None])
    indices = np.concatenate((nodes, nodes, (np.where(heads < 0, heads + 2, heads) + shifts).ravel())).astype(np.int32)
    indptr = np.cumsum([0, count, count, *np.tile(degrees, batch)], dtype=np.int32)
    from_source = np.maximum(network.terminal, 0.0).ravel()
    capacities = np.concatenate((np.zeros(count), from_source, values[:, take].ravel())).astype(np.int32)

    graph = sparse.csr_matrix((capacities, indices, indptr))
    flow = csgraph.maximum_flow(graph, 1, 0, method='dinic').flow.data[: len(capacities)]
    left = np.flatnonzero(capacities > flow)
    residual = sparse.csr_matrix((np.ones(len(left)), indices[left], np.searchsorted(left, indptr)), shape=graph.shape)
    x = np.ones(2 + count, bool)
    x[csgraph.breadth_first_order(residual, 1, return_predecessors=False)] = False
    return x[2:].reshape(network.terminal.shape)


@lru_cache(maxsize=16)
def _arcs(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The arcs that leave the nodes of one image, in order, each with its reverse, as scipy would have to add it.

    Returns:
        The number of arcs of each node, their heads (−2 is the sink, −1 the source), and the indices of their
        capacities among an image's values in `_solve`.
    """
    nodes = np.arange(2 * height * width).reshape(2, height, width)
    above, below, left, right = nodes[:, :-1], nodes[:, 1:], nodes[..., :-1], nodes[..., 1:]
    sizes = [nodes.size] + [above.size] * 2 + [left.size] * 2 + [above.size // 2, left.size // 2]
    *starts, forbidden = np.cumsum([0, *sizes])
    to_sink, down, up, rightwards, leftwards, vertical, horizontal = (
        start + np.arange(size) for start, size in zip(starts, sizes, strict=True)
    )
    none = forbidden + 1
    pairs = (  # tails, heads, values of the arcs and of their reverses
        (nodes[0], nodes[1], forbidden, none),
        (above, below, down, up),
        (left, right, rightwards, leftwards),
        (above[0], below[1], vertical, none),
        (below[0], above[1], vertical, none),
        (left[0], right[1], horizontal, none),
        (right[0], left[1], horizontal, none),
    )
    arcs: list[tuple[Any, Any, Any]] = [(nodes, -2, to_sink), (nodes, -1, none)]
    arcs += [(tails, heads, there) for tails, heads, there, _ in pairs]
    arcs += [(heads, tails, back) for tails, heads, _, back in pairs]
    tails, heads, take = (
        np.concatenate([np.broadcast_to(np.ravel(arc[i]), arc[0].size) for arc in arcs]) for i in range(3)
    )
    order = np.lexsort((heads, tails))
    return np.bincount(tails), heads[order], take[order]
