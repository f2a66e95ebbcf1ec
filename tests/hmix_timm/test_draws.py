"""Sources of random numbers by themselves: what they give, and placements that cannot be enumerated."""

import itertools

import numpy as np
import pytest
import torch
from timm.data import mixup as timm_mixup

from hmix_timm.draws import NAFLEX_DRAWS, NUMPY_DRAWS, NotEnumerable, PlacedDraws, numpy_seed

SOURCES = pytest.mark.parametrize('source', [NUMPY_DRAWS, NAFLEX_DRAWS], ids=['numpy', 'naflex'])


@SOURCES
def test_numbers_are_double_precision(source):
    assert source.uniform(5).shape == (5,) and source.uniform(5).dtype == np.float64
    assert source.normal((2, 3)).shape == (2, 3) and source.normal(4).dtype == np.float64
    assert isinstance(source.beta(2.0), float) and isinstance(source.scalar(), float)
    # a float32 in double precision has its last 29 bits empty
    assert any(float(np.float32(value)) != value for value in source.uniform(20))


@SOURCES
def test_a_beta_has_both_its_parameters_and_a_permutation_each_number_once(source):
    assert np.mean([source.beta(1.0, 9.0) for _ in range(400)]) == pytest.approx(0.1, abs=0.03)
    orders = {tuple(source.permutation(3).tolist()) for _ in range(200)}
    assert orders == set(itertools.permutations(range(3)))


@SOURCES
def test_whole_numbers_and_centres_are_all_that_they_can_be(source):
    found = [source.integers(3, 6) for _ in range(200)]
    assert set(found) == {3, 4, 5} and all(type(value) is int for value in found)
    assert {source.centre((2, 3)) for _ in range(400)} == {(y, x) for y in range(2) for x in range(3)}


def test_naflex_boxes_have_the_rounded_sides_and_reach_every_edge():
    # √(1 − 0.75) = 0.5 of 5 and 8 pixels: 2 × 4
    boxes = {NAFLEX_DRAWS.box((5, 8), 0.75) for _ in range(2000)}
    assert boxes == {(y, y + 2, x, x + 4) for y in range(4) for x in range(5)}


@SOURCES
def test_a_source_leaves_the_other_generators_alone(source):
    other = np.random.random_sample if source is NAFLEX_DRAWS else lambda: torch.rand(()).item()
    found = []
    for draw in (False, True):
        np.random.seed(0)
        torch.manual_seed(0)
        if draw:
            source.box((20, 30), 0.4), source.centre((20, 30)), source.beta(0.7), source.uniform(3), source.normal(2)
        found.append(other())
    assert found[0] == found[1]


def test_a_placement_is_timms_box_around_a_pixel_or_the_pixel():
    with numpy_seed(0):
        box = NUMPY_DRAWS.box((4, 6), 0.3)
    with numpy_seed(0):
        assert PlacedDraws((np.random.randint(4), np.random.randint(6)), (4, 6)).box((4, 6), 0.3) == box
    assert PlacedDraws((1, 5), (4, 6)).centre((4, 6)) == (1, 5)


@pytest.mark.parametrize('first', ['box', 'centre'])
@pytest.mark.parametrize('second', ['box', 'centre'])
def test_a_second_placement_cannot_be_enumerated(first, second):
    arguments = {'box': ((4, 6), 0.3), 'centre': ((4, 6),)}
    draws = PlacedDraws((1, 5), (4, 6))
    getattr(draws, first)(*arguments[first])
    with pytest.raises(NotEnumerable, match='more than one box or centre'):
        getattr(draws, second)(*arguments[second])


@pytest.mark.parametrize(
    ('draw', 'named'),
    [
        (lambda draws: draws.box((4, 6), 0.3, (0.2, 0.8)), 'cutmix_minmax'),
        (lambda draws: draws.centre((2, 3)), 'a part of the image'),
        (lambda draws: draws.beta(1.0), 'numbers besides'),
        (lambda draws: draws.uniform(2), 'numbers besides'),
        (lambda draws: draws.scalar(), 'numbers besides'),
        (lambda draws: draws.permutation(2), 'numbers besides'),
        (lambda draws: draws.normal(2), 'numbers besides'),
        (lambda draws: draws.integers(0, 2), 'numbers besides'),
    ],
)
def test_other_draws_cannot_be_enumerated(draw, named):
    with pytest.raises(NotEnumerable, match=named):
        draw(PlacedDraws((0, 0), (4, 6)))


def test_boxes_that_a_script_draws_cannot_be_enumerated(monkeypatch):
    monkeypatch.setattr(timm_mixup, 'rand_bbox', lambda size, lam, count=None: (0, 1, 0, 1))
    with pytest.raises(NotEnumerable, match='unknown way'):
        PlacedDraws((1, 2), (5, 9)).box((5, 9), 0.1)


def test_the_seed_holds_inside_and_leaves_the_generator_as_it_was():
    np.random.seed(3)
    expected = np.random.random_sample(2).tolist()
    np.random.seed(3)
    first = np.random.random_sample()
    with pytest.raises(KeyError), numpy_seed(5):
        assert np.random.random_sample() == np.random.RandomState(5).random_sample()
        raise KeyError
    assert [first, np.random.random_sample()] == expected
