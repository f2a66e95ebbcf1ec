"""The package's names: all of them there, and none of them imports torch before it is asked for."""

import importlib
import pickle
import subprocess
import sys

import pytest
import timm

import hmix_timm


def in_a_new_process(code):
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize('name', hmix_timm.__all__)
def test_a_public_name_is_what_its_module_calls_so(name):
    value = getattr(hmix_timm, name)
    assert value is getattr(importlib.import_module(value.__module__), name)
    assert value.__module__.startswith('hmix_timm.')


@pytest.mark.parametrize('statement', ['import hmix_timm', 'import hmix_timm.families', 'import hmix_timm.modes'])
def test_the_table_of_families_needs_no_torch(statement):
    code = f'{statement}, sys; print([name for name in ("torch", "timm") if name in sys.modules])'
    assert in_a_new_process(code) == '[]'


def test_a_file_of_families_needs_no_torch():
    code = 'import sys; from hmix_timm import DenseMask, register_family; print("torch" in sys.modules)'
    assert in_a_new_process(code) == 'False'


def test_names_are_listed_before_they_are_imported():
    code = 'import hmix_timm; print(set(hmix_timm.__all__) <= set(dir(hmix_timm)))'
    assert in_a_new_process(code) == 'True'


def test_a_mixer_is_pickled_by_the_name_of_its_module():
    data = pickle.dumps(hmix_timm.Mixup)
    assert b'hmix_timm.mixup' in data
    assert pickle.loads(data) is hmix_timm.Mixup


def test_a_name_that_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'hmix_timm' has no attribute 'CutMix'"):
        _ = hmix_timm.CutMix
    with pytest.raises(ImportError, match='cannot import name'):
        exec('from hmix_timm import CutMix')


def test_an_old_timm_is_named_where_naflex_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, 'hmix_timm.naflex', None)  # cannot be imported
    monkeypatch.delitem(vars(hmix_timm), 'NaFlexMixup', raising=False)
    with pytest.raises(ImportError) as raised:
        _ = hmix_timm.NaFlexMixup
    assert str(raised.value) == f'NaFlexMixup needs timm 1.0.20 or newer, and this is {timm.__version__}'


@pytest.mark.parametrize('name', ['BoxMask', 'PuzzleMix'])
def test_what_fails_in_another_module_is_told_as_it_is(monkeypatch, name):
    home = {'BoxMask': 'masks', 'PuzzleMix': 'puzzle'}[name]
    monkeypatch.setitem(sys.modules, f'hmix_timm.{home}', None)
    monkeypatch.delitem(vars(hmix_timm), name, raising=False)
    with pytest.raises(ImportError, match=f'hmix_timm.{home}'):
        getattr(hmix_timm, name)
