"""The cut against every labeling of small grids, and against what can be known of large ones."""

import itertools
import math
import sys

import numpy as np
import pytest
import torch

from hmix_timm.puzzle import energy, minimum_cut
from hmix_timm.puzzle.cut import _cosines, load_scipy

LAMBDAS = (0.0, 1e-6, 1e-3, 0.1, 0.3, 0.5, 0.7, 0.9, 0.999, 1.0 - 1e-6, 1.0)
EXACT = 1e-6
"""Of an energy's scale; capacities are rounded to 2⁻²⁹ of a block's."""


def all_labelings(height, width):
    return np.array(list(itertools.product((1.0, 0.5, 0.0), repeat=height * width))).reshape(-1, height, width)


def energy_of_every(labelings, unaries, vertical, horizontal):
    """One image's energies, block by block and edge by edge."""
    total = np.zeros(len(labelings))
    height, width = unaries.shape[1:]
    for r, c in itertools.product(range(height), range(width)):
        for label, value in enumerate((1.0, 0.5, 0.0)):
            total[labelings[:, r, c] == value] += unaries[label, r, c]
        if r + 1 < height:
            total += vertical[r, c] * (labelings[:, r, c] - labelings[:, r + 1, c]) ** 2
        if c + 1 < width:
            total += horizontal[r, c] * (labelings[:, r, c] - labelings[:, r, c + 1]) ** 2
    return total


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


@pytest.mark.parametrize(('height', 'width', 'count'), [(2, 2, 400), (3, 3, 200), (1, 4, 100), (4, 2, 100)])
def test_no_labeling_has_less_energy(height, width, count):
    problems = random_problems(count, height, width, seed=height * 10 + width)
    masks = minimum_cut(*problems)
    labelings = all_labelings(height, width)
    for mask, *problem in zip(masks, *problems, strict=True):
        energies = energy_of_every(labelings, *problem)
        reached = energies[np.flatnonzero((labelings == mask).all((1, 2)))]
        assert reached == pytest.approx(energies.min(), abs=EXACT * np.abs(energies).max())


def test_energy_is_the_sum_over_blocks_and_edges():
    labelings = all_labelings(2, 3)
    unaries, vertical, horizontal = (part[:1] for part in random_problems(1, 2, 3, seed=0))
    computed = energy(
        *np.broadcast_arrays(labelings), *(part.repeat(len(labelings), 0) for part in (unaries, vertical, horizontal))
    )
    np.testing.assert_allclose(computed, energy_of_every(labelings, unaries[0], vertical[0], horizontal[0]))


@pytest.fixture(scope='module')
def large():
    """Problems of 16 × 16 blocks, and their masks."""
    problems = random_problems(22, 16, 16, seed=1)
    return problems, minimum_cut(*problems)


def test_no_constant_mask_has_less_energy(large):
    problems, masks = large
    for value in (1.0, 0.5, 0.0):
        constant = energy(np.full_like(masks, value), *problems)
        assert (energy(masks, *problems) <= constant + EXACT * np.abs(constant)).all()


def test_no_flip_of_one_block_has_less_energy(large):
    problems, masks = large
    for mask, *problem in zip(masks, *problems, strict=True):
        flipped = np.repeat(mask[None], 3 * 256, 0).reshape(3, 256, 256)
        for label, value in enumerate((1.0, 0.5, 0.0)):
            np.fill_diagonal(flipped[label], value)
        repeated = (np.broadcast_to(part, (3 * 256, *part.shape)) for part in problem)
        energies = energy(flipped.reshape(-1, 16, 16), *repeated)
        least = energy(mask[None], *(part[None] for part in problem))
        assert energies.min() >= least - EXACT * np.abs(energies).max()


def test_an_image_has_the_same_mask_alone_and_in_a_batch():
    problems = random_problems(60, 8, 8, seed=2)
    alone = [minimum_cut(*(part[i : i + 1] for part in problems)) for i in range(60)]
    np.testing.assert_array_equal(np.concatenate(alone), minimum_cut(*problems))


@pytest.mark.parametrize('scale', [2.0**-90, 2.0**90])
def test_the_unit_of_the_costs_does_not_matter(scale):
    problems = random_problems(30, 4, 4, seed=3)
    np.testing.assert_array_equal(minimum_cut(*(part * scale for part in problems)), minimum_cut(*problems))


def test_without_edges_every_block_takes_its_cheapest_label_and_ties_go_to_the_partner():
    unaries = np.zeros((1, 3, 2, 2))
    unaries[0, :, 0, 0] = 0.0, 1.0, 1.0
    unaries[0, :, 0, 1] = 1.0, 0.0, 1.0
    unaries[0, :, 1, 0] = 1.0, 1.0, 0.0
    mask = minimum_cut(unaries, np.zeros((1, 1, 2)), np.zeros((1, 2, 1)))
    np.testing.assert_array_equal(mask, [[[1.0, 0.5], [0.0, 0.0]]])


@pytest.mark.parametrize(('costs', 'cheapest'), [((0.0, 1.0, 2.0), 1.0), ((2.0, 1.0, 0.0), 0.0)])
def test_a_tie_does_not_decide_for_the_block_beside_it(costs, cheapest):
    unaries = np.stack((np.array(costs), np.ones(3)), 1).reshape(1, 3, 1, 2)
    assert minimum_cut(unaries, np.zeros((1, 0, 2)), np.zeros((1, 1, 1))).tolist() == [[[cheapest, 0.0]]]


def test_tensors_give_a_tensor_of_the_unaries_dtype():
    problems = [torch.from_numpy(part).float() for part in random_problems(8, 4, 4, seed=4)]
    masks = minimum_cut(*problems)
    assert masks.dtype == torch.float32
    np.testing.assert_array_equal(masks.numpy(), minimum_cut(*(part.numpy() for part in problems)))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda u, v, h: (u[:, :2], v, h), r'unaries must be \(B, 3, n, m\)'),
        (lambda u, v, h: (u, v[:, 1:], h), 'vertical must be'),
        (lambda u, v, h: (u, v, h[:, :, 1:]), 'horizontal must be'),
        (lambda u, v, h: (u, v - 2.0, h), 'vertical weights must be finite and >= 0'),
        (lambda u, v, h: (u, v, h * math.nan), 'horizontal weights must be finite and >= 0'),
        (lambda u, v, h: (u * math.inf, v, h), 'unaries must be finite'),
    ],
)
def test_what_cannot_be_cut_is_an_error(change, message):
    with pytest.raises(ValueError, match=message):
        minimum_cut(*change(np.ones((1, 3, 3, 3)), np.ones((1, 2, 3)), np.ones((1, 3, 2))))


def test_without_scipy_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'scipy.sparse', None)
    with pytest.raises(ImportError, match=r"pip install 'hmix-timm\[puzzle\]'"):
        load_scipy()


@pytest.mark.parametrize('size', [(3, 4), (1, 5), (2, 2)])
def test_cosines_are_the_eigenvectors_of_the_grids_laplacian(size):
    """Any potential is a first flow; these make it the one that settles most images."""
    columns, rows, inverse = _cosines(*size)
    for basis, length in ((columns, size[0]), (rows, size[1])):
        np.testing.assert_allclose(basis @ basis.T, np.eye(length), atol=1e-12)
        differences = np.diff(np.eye(length), axis=0)
        laplacian = basis @ differences.T @ differences @ basis.T
        np.testing.assert_allclose(laplacian, np.diag(np.diag(laplacian)), atol=1e-12)
    eigenvalues = [
        np.diag(basis @ np.diff(np.eye(length), axis=0).T @ np.diff(np.eye(length), axis=0) @ basis.T)
        for basis, length in ((columns, size[0]), (rows, size[1]))
    ]
    total = eigenvalues[0][:, None] + eigenvalues[1]
    assert inverse[0, 0] == 0
    np.testing.assert_allclose((inverse * total).ravel()[1:], 1.0)


def test_an_image_without_any_costs_goes_to_the_partner_beside_others():
    unaries = np.zeros((3, 3, 2, 2))
    unaries[0, 1:], unaries[2, :2] = 1.0, 1.0  # own is cheapest in the first, the partner in the last
    masks = minimum_cut(unaries, np.zeros((3, 1, 2)), np.zeros((3, 2, 1)))
    assert masks.tolist() == [[[1.0] * 2] * 2, [[0.0] * 2] * 2, [[0.0] * 2] * 2]


def test_energies_of_arrays_are_those_of_blocks_and_edges():
    problems = random_problems(5, 3, 4, seed=1)
    masks = np.random.default_rng(2).choice([1.0, 0.5, 0.0], (5, 3, 4))
    expected = [energy_of_every(mask[None], *problem)[0] for mask, *problem in zip(masks, *problems, strict=True)]
    np.testing.assert_allclose(energy(masks, *problems), expected)
    np.testing.assert_allclose(energy(*map(torch.from_numpy, (masks, *problems))).numpy(), expected)


@pytest.mark.parametrize(
    ('shapes', 'message'),
    [
        (((1, 2, 3, 4), (1, 2, 4), (1, 3, 3)), r'unaries must be (B, 3, n, m), got (1, 2, 3, 4)'),
        (((3, 3, 4), (1, 2, 4), (1, 3, 3)), r'unaries must be (B, 3, n, m), got (3, 3, 4)'),
        (((1, 3, 3, 4), (1, 3, 4), (1, 3, 3)), 'vertical must be (1, 2, 4) for unaries (1, 3, 3, 4), got (1, 3, 4)'),
        (((1, 3, 3, 4), (1, 2, 4), (1, 3, 4)), 'horizontal must be (1, 3, 3) for unaries (1, 3, 3, 4), got (1, 3, 4)'),
        (((1, 3, 3, 4), (1, 2, 4), (1, 3, 2)), 'horizontal must be (1, 3, 3) for unaries (1, 3, 3, 4), got (1, 3, 2)'),
    ],
)
def test_shapes_that_do_not_fit_are_named(shapes, message):
    with pytest.raises(ValueError) as error:
        minimum_cut(*map(np.zeros, shapes))
    assert str(error.value) == message
