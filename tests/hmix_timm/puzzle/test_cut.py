"""The cut against every labeling of small grids, and against the neighbours of its masks in large ones."""

import itertools
import math
import sys

import numpy as np
import pytest
from reference import puzzle_energy

from hmix_timm.puzzle import minimum_cut
from hmix_timm.puzzle.cut import load_scipy

LAMBDAS = (0.0, 1e-6, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999, 1.0 - 1e-6, 1.0)
EXACT = 1e-6
"""Of an energy's scale; capacities are rounded to 2⁻²⁹ of a block's."""


def random_problems(count, height, width, seed):
    """Saliencies with a prior, as PuzzleMix has them, and for a third of the images any unaries at all."""
    rng = np.random.default_rng(seed)
    own, partner = (rng.dirichlet(np.ones(height * width), count).reshape(count, height, width) for _ in range(2))
    lam = rng.choice(LAMBDAS, count)[:, None, None]
    prior = [-np.log(p + 1e-8) for p in (lam**2, 2 * lam * (1 - lam), (1 - lam) ** 2)]
    eta = rng.choice([0.0, 0.2, 1.0], count)[:, None, None] / (height * width)
    unaries = np.stack((partner + eta * prior[0], (own + partner) / 2 + eta * prior[1], own + eta * prior[2]), 1)
    unaries[::3] = rng.standard_normal(unaries[::3].shape)
    strength = rng.choice([0.0, 0.01, 0.1, 1.0, 10.0], count)[:, None, None]
    vertical = strength * rng.random((count, height - 1, width)) * (rng.random((count, height - 1, width)) < 0.9)
    horizontal = strength * rng.random((count, height, width - 1))
    return unaries, vertical, horizontal


def assert_least(mask, others, problem):
    energies = puzzle_energy(np.concatenate((mask[None], others)), *problem)
    assert energies[0] <= energies.min() + EXACT * np.abs(energies).max()


@pytest.mark.parametrize(('height', 'width', 'count'), [(2, 2, 200), (3, 3, 60), (1, 4, 60), (4, 2, 60)])
def test_no_mask_of_a_small_grid_has_less_energy(height, width, count):
    problems = random_problems(count, height, width, seed=height * 10 + width)
    labelings = np.array(list(itertools.product((1.0, 0.5, 0.0), repeat=height * width))).reshape(-1, height, width)
    for mask, *problem in zip(minimum_cut(*problems), *problems, strict=True):
        assert_least(mask, labelings, problem)


def test_no_constant_mask_and_no_change_of_one_block_has_less_energy_in_a_large_grid():
    problems = random_problems(22, 16, 16, seed=1)
    for mask, *problem in zip(minimum_cut(*problems), *problems, strict=True):
        others = np.repeat(mask[None], 3 * 256 + 3, 0).reshape(-1, 256)
        for label, value in enumerate((1.0, 0.5, 0.0)):
            np.fill_diagonal(others[256 * label : 256 * (label + 1)], value)
            others[label - 3] = value
        assert_least(mask, others.reshape(-1, 16, 16), problem)


def test_an_image_has_the_same_mask_alone_and_in_a_batch():
    problems = random_problems(60, 8, 8, seed=2)
    alone = [minimum_cut(*(part[i : i + 1] for part in problems)) for i in range(60)]
    np.testing.assert_array_equal(np.concatenate(alone), minimum_cut(*problems))


@pytest.mark.parametrize('scale', [2.0**-90, 2.0**90])
def test_the_unit_of_the_costs_does_not_matter(scale):
    problems = random_problems(30, 4, 4, seed=3)
    np.testing.assert_array_equal(minimum_cut(*(part * scale for part in problems)), minimum_cut(*problems))


def test_without_edges_every_block_takes_its_cheapest_label_and_ties_go_to_the_partner():
    unaries = np.zeros((2, 3, 2, 2))
    unaries[0, :, 0, 0] = 0.0, 1.0, 1.0
    unaries[0, :, 0, 1] = 1.0, 0.0, 1.0
    unaries[0, :, 1, 0] = 1.0, 1.0, 0.0
    mask = minimum_cut(unaries.astype(np.float32), np.zeros((2, 1, 2)), np.zeros((2, 2, 1)))
    np.testing.assert_array_equal(mask, [[[1.0, 0.5], [0.0, 0.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert mask.dtype == np.float32


@pytest.mark.parametrize(('costs', 'cheapest'), [((0.0, 1.0, 2.0), 1.0), ((2.0, 1.0, 0.0), 0.0)])
def test_a_tie_does_not_decide_for_the_block_beside_it(costs, cheapest):
    unaries = np.stack((np.array(costs), np.ones(3)), 1).reshape(1, 3, 1, 2)
    assert minimum_cut(unaries, np.zeros((1, 0, 2)), np.zeros((1, 1, 1))).tolist() == [[[cheapest, 0.0]]]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda u, v, h: (u, v - 2.0, h), 'vertical weights must be finite and >= 0'),
        (lambda u, v, h: (u, v, h * math.nan), 'horizontal weights must be finite and >= 0'),
        (lambda u, v, h: (u * math.inf, v, h), 'unaries must be finite'),
    ],
)
def test_costs_that_cannot_be_cut_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        minimum_cut(*change(np.ones((1, 3, 3, 3)), np.ones((1, 2, 3)), np.ones((1, 3, 2))))


def test_without_scipy_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'scipy.sparse', None)
    with pytest.raises(ImportError, match=r"pip install 'hmix-timm\[puzzle\]'"):
        load_scipy()
