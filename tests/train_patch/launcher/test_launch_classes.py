"""The mixers of a launch between processes: how they travel, and which process speaks."""

import copy
import inspect
import pickle

import pytest

from train_patch.launcher import mixers
from train_patch.launcher.watch import rank

HMIX = {'mixup_alpha': 0.0, 'cutmix_alpha': 1.0, 'cutmix_mode': 'hmix', 'hmix_ratio': 0.5}


def launch_class(base):
    return mixers.launch_class(base, lambda: HMIX, lambda mixer, text: None)


@pytest.mark.parametrize('travel', [lambda mixer: pickle.loads(pickle.dumps(mixer)), copy.deepcopy])
@pytest.mark.parametrize('base', [mixers.Mixup, mixers.FastCollateMixup])
def test_a_mixer_travels_as_one_that_every_process_can_import(travel, base):
    mixer = launch_class(base)(num_classes=5, prob=0.25)
    mixer.note = ['kept']
    other = travel(mixer)
    assert type(other) is base and 'HMix(alpha=1, ratio=0.5)' in repr(other) == repr(mixer)
    assert isinstance(other, type(mixer))
    assert 'label_smoothing' in inspect.signature(type(mixer)).parameters  # by which configurations choose
    assert vars(other).keys() == vars(mixer).keys() and other.note == ['kept']


class Own(launch_class(mixers.Mixup)):
    """A script's own subclass, at the top level of a module."""


def test_a_scripts_own_subclass_travels_as_itself():
    other = pickle.loads(pickle.dumps(Own(num_classes=5)))
    assert type(other) is Own and 'HMix(' in repr(other)


@pytest.mark.parametrize(
    ('environment', 'first'),
    [
        ({}, True),
        ({'RANK': '0'}, True),
        ({'RANK': '3'}, False),
        ({'SLURM_PROCID': '2'}, False),
        ({'RANK': '0', 'SLURM_PROCID': '2'}, True),
        ({'RANK': '', 'SLURM_PROCID': ''}, True),
    ],
)
def test_before_the_processes_have_met_the_environment_says_which_is_first(monkeypatch, environment, first):
    for name in ('RANK', 'SLURM_PROCID'):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert (rank() == 0) is first
