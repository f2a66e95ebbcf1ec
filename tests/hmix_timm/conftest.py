"""What the mixers' tests share."""

import inspect

import pytest
import timm.data.mixup


@pytest.fixture(autouse=True)
def timms_targets_on_the_cpu(monkeypatch):
    """Timm 0.4.12's `Mixup` makes its targets on 'cuda', whatever the device of the images."""
    if 'device' in inspect.signature(timm.data.mixup.mixup_target).parameters:
        monkeypatch.setattr(timm.data.mixup.mixup_target, '__defaults__', (1.0, 0.0, 'cpu'))
