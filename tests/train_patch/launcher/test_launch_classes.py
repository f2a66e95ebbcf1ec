"""Mixers of a launch: what their constructor takes, what they tell, how they travel, where scripts find them."""

import copy
import os
import pickle
import sys
from types import ModuleType

import numpy as np
import pytest
import torch

import hmix_timm
from train_patch.common.errors import RunError
from train_patch.launcher.first_process import is_first_process
from train_patch.launcher.mixers import HOMES, WitnessedFastCollateMixup, WitnessedMixup, launch_class, put_in_place

HMIX = {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_ratio': 0.5}


def made_by(replaced, base=WitnessedMixup, name='Mixup'):
    """A class of a launch, and the list of what it tells."""
    told = []
    return launch_class(name, base, lambda: replaced, lambda mixer, text: told.append((mixer, text))), told


def test_the_launch_has_its_say_in_what_is_mixed_and_the_script_in_all_else():
    mixup, told = made_by(HMIX)
    expected = 'Mixup(HMix(alpha=1, ratio=0.5), mode=elem, prob=0.7, label_smoothing=0.2, num_classes=5)'
    mixers = [
        mixup(mixup_alpha=0.8, cutmix_alpha=0.3, prob=0.7, mode='elem', label_smoothing=0.2, num_classes=5),
        mixup(0.8, 0.3, None, 0.7, 0.5, 'elem', True, 0.2, 5),
    ]
    assert told == [(mixer, expected) for mixer in mixers]
    assert all(repr(mixer) == expected and isinstance(mixer, hmix_timm.Mixup) for mixer in mixers)


def test_without_replacements_the_scripts_own_arguments_hold():
    mixup, told = made_by({})
    assert repr(mixup(mixup_alpha=0.8, num_classes=5)) == repr(hmix_timm.Mixup(mixup_alpha=0.8, num_classes=5))
    assert len(told) == 1


def test_arguments_of_a_users_family_reach_the_mixer():
    mixup, _ = made_by({'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'gmix', 'gmix_kernel': 'paper'})
    assert 'GMix(alpha=1, kernel=paper)' in repr(mixup())


def test_replacements_are_asked_for_at_each_construction():
    now = {}
    mixup = launch_class('Mixup', WitnessedMixup, lambda: now, lambda mixer, text: None)
    assert 'Mixup(alpha=0.8)' in repr(mixup(mixup_alpha=0.8))
    now.update(HMIX)
    assert 'HMix(' in repr(mixup(mixup_alpha=0.8))
    assert now == HMIX  # and are left as they were


def test_a_mixer_that_cannot_be_made_as_asked_is_the_launchs_error():
    mixup, told = made_by({'cutmix_mode': 'hmix'})
    with pytest.raises(RunError, match=r"^the script's Mixup cannot mix as asked: .*cutmix_alpha"):
        mixup(mixup_alpha=0.8, cutmix_alpha=0.0)
    assert told == []
    mixup, _ = made_by({})
    with pytest.raises(ValueError, match='prob') as refusal:  # the script's own mistake
        mixup(prob=7)
    assert not isinstance(refusal.value, RunError)


def test_the_class_looks_like_timms():
    mixup, _ = made_by({})
    assert (mixup.__name__, mixup.__qualname__, mixup.__doc__) == ('Mixup', 'Mixup', WitnessedMixup.__doc__)


@pytest.mark.parametrize('travel', [lambda mixer: pickle.loads(pickle.dumps(mixer)), copy.copy, copy.deepcopy])
@pytest.mark.parametrize(('base', 'name'), [(WitnessedMixup, 'Mixup'), (WitnessedFastCollateMixup, 'FastCollateMixup')])
def test_a_mixer_travels_as_one_that_every_process_knows(travel, base, name):
    mixup, told = made_by(HMIX, base, name)
    mixer = mixup(num_classes=5, prob=0.25)
    mixer.note = ['kept']
    other = travel(mixer)
    assert type(other) is base and repr(other) == repr(mixer).replace(name, base.__name__, 1)
    assert vars(other).keys() == vars(mixer).keys() and other.note == ['kept']
    assert len(told) == 1  # it is not made again


class Subclassed:
    """A script's own subclass, at the top level of a module."""


def test_a_scripts_own_subclass_travels_as_itself():
    mixup, told = made_by(HMIX)

    class Own(mixup):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            self.own = True

    Own.__qualname__ = Own.__name__ = 'Subclassed'
    before = globals()['Subclassed']
    globals()['Subclassed'] = Own
    try:
        other = pickle.loads(pickle.dumps(Own(num_classes=5)))
        assert type(other) is Own and other.own and 'HMix(' in repr(other)
    finally:
        globals()['Subclassed'] = before
    assert len(told) == 1


def batch():
    return torch.rand(4, 3, 8, 8), torch.arange(4)


def test_a_mixer_leaves_a_file_at_its_first_call_and_mixes_all_the_same(tmp_path):
    path = tmp_path / 'called'
    mixer, plain = (cls(cutmix_alpha=1.0, mixup_alpha=0.0, num_classes=4) for cls in (WitnessedMixup, hmix_timm.Mixup))
    mixer.witness = str(path)
    images, target = batch()
    for left in (True, False):
        np.random.seed(3)
        ours, labels = mixer(images.clone(), target)
        np.random.seed(3)
        theirs, expected = plain(images.clone(), target)
        assert torch.equal(ours, theirs) and torch.equal(labels, expected)
        assert path.exists() is left
        path.unlink(missing_ok=True)


def test_without_a_file_to_leave_a_mixer_leaves_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    WitnessedMixup(num_classes=4)(*batch())
    collate = WitnessedFastCollateMixup(num_classes=4)
    collate.witness = 'called'
    assert os.listdir() == []
    collate([(np.zeros((3, 8, 8), np.uint8), 0), (np.zeros((3, 8, 8), np.uint8), 1)])
    assert os.listdir() == ['called']


def test_classes_stand_where_scripts_import_timms_from(monkeypatch):
    homes = {home: ModuleType(home) for places in HOMES.values() for home in places}
    for name, home in homes.items():
        monkeypatch.setitem(sys.modules, name, home)
    first, second, third = type('A', (), {}), type('B', (), {}), type('C', (), {})
    put_in_place({'Mixup': first})
    assert homes['timm.data'].Mixup is homes['timm.data.mixup'].Mixup is first
    assert not hasattr(homes['timm.data'], 'FastCollateMixup')
    put_in_place({'FastCollateMixup': second, 'NaFlexMixup': third})
    assert homes['timm.data'].FastCollateMixup is homes['timm.data.mixup'].FastCollateMixup is second
    assert homes['timm.data'].NaFlexMixup is homes['timm.data.naflex_mixup'].NaFlexMixup is third
    assert homes['timm.data'].Mixup is first


def test_the_homes_are_timms():
    import importlib

    for name, places in HOMES.items():
        assert len({id(getattr(importlib.import_module(home), name)) for home in places}) == 1, name


# Which process speaks


@pytest.mark.parametrize(
    ('environment', 'first'),
    [
        ({}, True),
        ({'RANK': '0'}, True),
        ({'RANK': '3'}, False),
        ({'SLURM_PROCID': '0'}, True),
        ({'SLURM_PROCID': '2'}, False),
        ({'RANK': '0', 'SLURM_PROCID': '2'}, True),
        ({'RANK': '', 'SLURM_PROCID': ''}, True),
    ],
)
def test_before_they_have_met_the_environment_says_which_process_is_first(monkeypatch, environment, first):
    for name in ('RANK', 'SLURM_PROCID'):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert is_first_process() is first


@pytest.mark.parametrize(('rank', 'first'), [(0, True), (1, False)])
def test_after_they_have_met_torch_says_it(monkeypatch, rank, first):
    monkeypatch.setenv('RANK', str(1 - rank))
    monkeypatch.setattr(torch.distributed, 'is_initialized', lambda: True)
    monkeypatch.setattr(torch.distributed, 'get_rank', lambda: rank)
    assert is_first_process() is first
    monkeypatch.setattr(torch.distributed, 'is_available', lambda: False)
    assert is_first_process() is not first
