"""Which version of timm is taken for which work."""

from pathlib import Path

import pytest
import timm

from train_patch.common.errors import RunError
from train_patch.common.timm_version import OLDEST_FOR_MIXING, require_timm_for_training, timm_version


@pytest.mark.parametrize(('found', 'version'), [('0.4.12', (0, 4, 12)), ('1.1.0.dev0', (1, 1, 0))])
def test_the_oldest_version_that_will_do_does(monkeypatch, found, version):
    monkeypatch.setattr(timm, '__version__', found)
    assert timm_version(OLDEST_FOR_MIXING, 'this') == timm_version(version, 'this') == version


@pytest.mark.parametrize(('found', 'oldest'), [('0.4.9', '0.4.12'), ('1.0.9', '1.0.20'), ('unknown', '0.4.12')])
def test_an_older_version_is_named_with_its_place_and_the_work_that_needs_another(monkeypatch, found, oldest):
    monkeypatch.setattr(timm, '__version__', found)
    with pytest.raises(RunError) as refusal:
        timm_version(tuple(map(int, oldest.split('.'))), 'this')
    folder = Path(timm.__file__).parent
    assert str(refusal.value) == f'timm {found} at {folder} is too old: this needs {oldest} or newer'


def test_training_needs_a_newer_timm_than_mixing(monkeypatch):
    monkeypatch.setattr(timm, '__version__', '1.0.20')
    require_timm_for_training()
    monkeypatch.setattr(timm, '__version__', '1.0.19')
    with pytest.raises(RunError, match=r"training through timm's library needs 1\.0\.20 or newer"):
        require_timm_for_training()
