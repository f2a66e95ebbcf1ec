"""Mix modes side by side: one λ, one centre, the options of each."""

import numpy as np
import pytest
from timm.data.mixup import rand_bbox

from train_patch.drawing.grid import grid_masks, grid_slots

SIZE = (64, 64)


def masks(modes, lam=0.8, seed=4, recipe=None, **typed):
    drawn = grid_masks(grid_slots(modes, typed, recipe or {}), lam, SIZE, seed)
    return {title.partition('\n')[0]: mask.array(SIZE) for title, mask in drawn.items()}


def test_no_mixing_and_mixup_are_constant():
    drawn = masks(['none', 'mixup'])
    assert (drawn['No mixing'] == 1).all() and (drawn['Mixup'] == 0.8).all()


def test_boxes_and_bumps_have_one_centre():
    drawn = masks(['cutmix', 'hmix', 'gmix'], hmix_ratio='0.5')
    lowest = np.unravel_index(drawn['GMix'].argmin(), SIZE)
    assert drawn['CutMix'][lowest] == 0 and drawn['HMix'][lowest] == 0


def test_all_have_one_lambda():
    drawn = masks(['cutmix', 'hmix'], hmix_ratio='0.5')
    assert drawn['HMix'].mean() == pytest.approx(0.8)
    assert (drawn['HMix'] == 0).sum() < (drawn['CutMix'] == 0).sum()


def test_stochastic_shows_what_was_drawn():
    slots = grid_slots(['stochastic'], {}, {})
    titles = {next(iter(grid_masks(slots, 0.5, (8, 8), seed))) for seed in range(20)}
    assert titles == {'Stochastic\n(CutMix drawn)', 'Stochastic\n(Mixup drawn)'}


@pytest.mark.parametrize(
    ('typed', 'recipe', 'title'),
    [
        ({}, {}, 'HMix\nratio=0.75'),
        ({'hmix_ratio': '0.2'}, {'hmix_gamma': 1.0}, 'HMix\nratio=0.2'),
        ({}, {'hmix_gamma': 1.0}, 'HMix\ngamma=1'),
        ({'mix_preset': 'cifar100'}, {}, 'HMix\nratio=0.5'),
        ({}, {'mix_mode': 'gmix', 'gmix_kernel': 'paper', 'mix_preset': 'cifar100'}, 'HMix\nratio=0.5'),
    ],
)
def test_options_are_resolved_as_in_training(typed, recipe, title):
    assert list(grid_masks(grid_slots(['hmix'], typed, recipe), 0.5, SIZE, 0)) == [title]


@pytest.mark.parametrize(
    ('modes', 'typed', 'says'),
    [
        (['hmix', 'other'], {}, "--grid must be one of none, mixup, .* got 'other'"),
        (['gmix'], {'hmix_ratio': '0.5'}, '--hmix-ratio has no effect on any of --grid gmix'),
        (['hmix'], {'hmix_ratio': '1.5'}, '--hmix-ratio must be a finite number between 0 and 1, got 1.5'),
    ],
)
def test_wrong_modes_and_options_are_named(modes, typed, says):
    with pytest.raises(ValueError, match=says):
        grid_slots(modes, typed, {})


@pytest.mark.parametrize('seed', range(8))
def test_what_stochastic_draws_is_said_and_shown(seed):
    ((title, mask),) = grid_masks(grid_slots(['stochastic'], {}, {}), 0.75, SIZE, seed).items()
    values = set(np.unique(mask.array(SIZE)))
    if np.random.RandomState(seed).rand() < 0.5:  # as the mixers choose, with the switch_prob of the paper
        assert title == 'Stochastic\n(CutMix drawn)' and values == {0.0, 1.0}
    else:
        assert title == 'Stochastic\n(Mixup drawn)' and values == {0.75}


@pytest.mark.parametrize('seed', [0, 4])
def test_the_box_is_the_one_that_timm_draws_from_this_seed(seed):
    np.random.seed(seed)
    top, bottom, left, right = rand_bbox((1, 1, 48, 64), 0.6)
    expected = np.ones((48, 64))
    expected[top:bottom, left:right] = 0
    ((title, mask),) = grid_masks(grid_slots(['cutmix'], {}, {}), 0.6, (48, 64), seed).items()
    assert title == 'CutMix'
    np.testing.assert_array_equal(mask.array((48, 64)), expected)


def test_numpys_generator_is_left_as_it_was_found():
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    grid_masks(grid_slots(['stochastic', 'hmix', 'gmix'], {}, {}), 0.5, SIZE, 1)
    assert np.random.rand() == expected


def test_each_mode_gets_the_options_that_it_has_a_use_for():
    slots = grid_slots(
        ['mixup', 'hmix', 'gmix'], {'hmix_ratio': '0.2', 'gmix_kernel': 'paper', 'mix_preset': 'cifar100'}, {}
    )
    assert list(grid_masks(slots, 0.5, SIZE, 0)) == ['Mixup', 'HMix\nratio=0.2', 'GMix\nkernel=paper']
    assert [arguments['mixup_alpha'] for arguments, _ in slots.values()] == [1.0, 0.0, 0.0]


def test_the_formulas_of_the_paper_are_drawn_where_a_recipe_asks_for_them():
    """M outside the box: λ / (1 − (1 − λ) r) in the paper; without it, what gives the mask the mean λ."""
    literal = masks(['hmix'], recipe={'mix_mode': 'hmix', 'mix_literal': True, 'hmix_ratio': 0.5})['HMix']
    assert literal.max() == pytest.approx(0.8 / 0.9)
    exact = masks(['hmix'], recipe={'mix_mode': 'hmix', 'hmix_ratio': 0.5})['HMix']
    assert exact.mean() == pytest.approx(0.8)
    assert ((exact == 0) == (literal == 0)).all() and exact.max() != pytest.approx(0.8 / 0.9)
