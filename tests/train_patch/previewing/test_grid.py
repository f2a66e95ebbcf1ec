"""Mix modes side by side: one λ, one centre, the options of each."""

import numpy as np
import pytest

from train_patch.previewing.grid import grid_masks, grid_slots

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
