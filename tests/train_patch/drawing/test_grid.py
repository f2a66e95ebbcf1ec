"""Mix modes side by side: one λ, one centre, the options of each."""

import numpy as np
import pytest
from timm.data.mixup import rand_bbox

from train_patch.drawing.grid import grid_masks
from train_patch.mixing import resolve

SIZE = (64, 64)


def drawn(modes, lam=0.8, seed=4, recipe=None, size=SIZE, **typed):
    mixings = {mode: resolve({**typed, 'mix_mode': mode}, recipe or {}) for mode in modes}
    return {
        title: mask.array(size)
        for title, mask in grid_masks(mixings, lam, [np.zeros((*size, 3), np.uint8)] * 2, seed).items()
    }


def test_all_modes_have_one_lambda_and_one_centre():
    masks = drawn(['none', 'mixup', 'cutmix', 'gmix'])
    hmix = drawn(['hmix'], hmix_ratio='0.5')['HMix\nratio=0.5']
    assert (masks['No mixing'] == 1).all() and (masks['Mixup'] == 0.8).all()
    assert hmix.mean() == pytest.approx(0.8) and (hmix == 0).sum() < (masks['CutMix'] == 0).sum()
    lowest = np.unravel_index(masks['GMix\nkernel=reference'].argmin(), SIZE)
    assert masks['CutMix'][lowest] == 0 and hmix[lowest] == 0


@pytest.mark.parametrize('seed', range(8))
def test_stochastic_shows_what_it_draws_with_the_box_of_the_others(seed):
    (cutmix,) = drawn(['cutmix'], seed=seed).values()
    ((title, mask),) = drawn(['stochastic'], seed=seed).items()
    if np.random.RandomState(seed).rand() < 0.5:  # as the mixers choose, with the switch_prob of the paper
        assert title == 'Stochastic\n(CutMix drawn)'
        np.testing.assert_array_equal(mask, cutmix)
    else:
        assert title == 'Stochastic\n(Mixup drawn)' and (mask == 0.8).all()


@pytest.mark.parametrize('seed', [0, 4])
def test_the_box_is_the_one_that_timm_draws_from_this_seed(seed):
    np.random.seed(seed)
    top, bottom, left, right = rand_bbox((1, 1, 48, 64), 0.6)
    expected = np.ones((48, 64))
    expected[top:bottom, left:right] = 0
    np.testing.assert_array_equal(drawn(['cutmix'], 0.6, seed, size=(48, 64))['CutMix'], expected)


def test_numpys_generator_is_left_as_it_was_found():
    np.random.seed(5)
    expected = np.random.rand()
    np.random.seed(5)
    drawn(['stochastic', 'hmix', 'gmix'])
    assert np.random.rand() == expected


@pytest.mark.parametrize(
    ('typed', 'recipe', 'title'),
    [
        ({}, {}, 'HMix\nratio=0.75'),
        ({'hmix_ratio': '0.2'}, {'hmix_gamma': 1.0}, 'HMix\nratio=0.2'),
        ({}, {'hmix_gamma': 1.0}, 'HMix\ngamma=1'),
        ({}, {'mix_mode': 'gmix', 'gmix_kernel': 'paper', 'mix_preset': 'cifar100'}, 'HMix\nratio=0.5'),
    ],
)
def test_options_are_resolved_as_in_training(typed, recipe, title):
    assert list(drawn(['hmix'], recipe=recipe, **typed)) == [title]


def test_the_formulas_of_the_paper_are_drawn_where_a_recipe_asks_for_them():
    """M outside the box: λ / (1 − (1 − λ) r) in the paper; without it the value that gives the mask the mean λ."""
    (literal,) = drawn(['hmix'], recipe={'mix_mode': 'hmix', 'mix_literal': True, 'hmix_ratio': 0.5}).values()
    (exact,) = drawn(['hmix'], recipe={'mix_mode': 'hmix', 'hmix_ratio': 0.5}).values()
    assert literal.max() == pytest.approx(0.8 / 0.9) and exact.max() != pytest.approx(0.8 / 0.9)
    assert ((exact == 0) == (literal == 0)).all()
