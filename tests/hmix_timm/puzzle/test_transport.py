"""The transport against deferred acceptance over the full matrix of costs."""

import numpy as np
import pytest
import torch

from hmix_timm.puzzle.transport import transport


def deferred_acceptance(saliency, visible, t_eps):
    """One image's sources, from the matrix of all costs."""
    height, width = saliency.shape
    size, rounds = saliency.size, max(height, width)
    position = np.stack(np.divmod(np.arange(size), width), 1)
    squared = ((position[:, None] - position[None]) ** 2).sum(2)
    costs = t_eps * squared / (rounds - 1) ** 2 - saliency.reshape(-1, 1) * visible.reshape(1, -1)
    for _ in range(rounds):
        sources = np.arange(size)
        proposals = costs.argmin(1)
        for goal in range(size):
            proposers = np.flatnonzero(proposals == goal)
            if not len(proposers):
                continue
            winner = proposers[costs[proposers, goal].argmin()]
            if costs[winner, goal] < 0:
                sources[goal] = winner
            else:
                winner = -1
            costs[proposers[proposers != winner], goal] += 1
    return sources


def random_problems(count, height, width, seed, concentration=0.3):
    rng = np.random.default_rng(seed)
    saliency = rng.dirichlet(np.full(height * width, concentration), count).reshape(count, height, width)
    return saliency, rng.random((count, height, width)) < rng.random((count, 1, 1))


def solve(saliency, visible, t_eps=0.8):
    return transport(torch.from_numpy(saliency), torch.from_numpy(visible), t_eps).numpy()


@pytest.mark.parametrize(('height', 'width'), [(2, 2), (4, 4), (8, 8), (12, 12), (4, 6)])
@pytest.mark.parametrize('concentration', [0.03, 1.0])
@pytest.mark.parametrize('t_eps', [0.05, 0.8])
def test_the_transport_is_deferred_acceptance_over_all_costs(height, width, concentration, t_eps):
    problems = random_problems(
        2 if height == 12 else 8, height, width, seed=height * width, concentration=concentration
    )
    expected = np.stack([deferred_acceptance(s, v, t_eps) for s, v in zip(*problems, strict=True)])
    sources = solve(*problems, t_eps)
    assert (sources != np.arange(height * width)).any() or height == 2
    np.testing.assert_array_equal(sources, expected)


@pytest.mark.parametrize(('worth', 'source'), [([1.0, 0.0], 0), ([0.5, 0.5], 1)])
def test_the_farthest_way_that_pays_is_gone_too(worth, source):
    """The last block alone is visible, at a price of 0.3 from beside it and of 0.6 from the first one."""
    saliency, visible = np.array([[worth, [0.0, 0.0]]]), np.array([[[False, False], [False, True]]])
    np.testing.assert_array_equal(solve(saliency, visible, t_eps=0.3), [[0, 1, 2, source]])
