"""Files of weights: no command runs code from one, and somebody else's script loads what it likes."""

import os
import pickle
import re

import pytest
import timm
import torch
import yaml

from train_patch import train
from train_patch.common.weights import only_weights

FORCE, FORCE_NOT = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD', 'TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD'


class Writing:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), 'w')


@pytest.fixture
def weights(tmp_path):
    """A file of weights with code in it, which makes the file beside it."""
    path = tmp_path / 'weights.pth'
    torch.save({'state_dict': {}, 'code': Writing(tmp_path / 'written')}, path)
    yield path
    assert not (tmp_path / 'written').exists()


def run_through(command, work, monkeypatch):
    if command == 'train':
        monkeypatch.setattr(train, 'build', lambda args, mixing: work())
        monkeypatch.setattr(train, 'resume', lambda run: 0)
        monkeypatch.setattr(train, 'train', lambda run, start_epoch: None)
        monkeypatch.setattr(train, 'end_with_torchrun', lambda: None)
        train.main([])
    else:
        only_weights()(work)()


@pytest.mark.parametrize('command', ['train', 'hmix-x'])
@pytest.mark.parametrize('asked', [{}, {FORCE: '0'}, {FORCE_NOT: '1'}, {FORCE: '1', FORCE_NOT: '1'}])
def test_whatever_is_asked_a_commands_work_loads_weights_and_no_code(monkeypatch, tmp_path, weights, command, asked):
    torch.save({'weight': torch.ones(2)}, tmp_path / 'sound.pth')
    for name in (FORCE, FORCE_NOT):
        monkeypatch.delenv(name, raising=False)
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    loaded = []

    def work():
        for arguments in ({}, {'weights_only': False}):
            loaded.append(torch.load(tmp_path / 'sound.pth', **arguments))
            with pytest.raises(pickle.UnpicklingError):
                torch.load(weights, **arguments)

    run_through(command, work, monkeypatch)
    assert len(loaded) == 2 and dict(os.environ) == before


def test_preview_shows_no_model_whose_weights_hold_code(processes, tmp_path, weights):
    words = f'--mix-mode puzzlemix --model test_resnet --pretrained --pretrained-path {weights} -o {tmp_path}/x.png'
    ran = processes.module('train_patch.preview', *words.split()).wait()
    assert ran.status == 2 and re.search(r'--pretrained-path .*weights\.pth: cannot be built', ran.stderr), ran.stderr


def test_figures_take_no_weights_but_the_checkpoints(processes, tmp_path, image_folder, weights):
    checkpoint = tmp_path / 'model_best.pth.tar'
    torch.save({'state_dict': timm.create_model('test_resnet', num_classes=4).state_dict()}, checkpoint)
    given = {'checkpoint_path': str(weights), 'pretrained': True}
    given |= {key: {'file': str(weights)} for key in ('pretrained_cfg', 'pretrained_cfg_overlay')}
    settings = {'model': 'test_resnet', 'num_classes': 4, 'model_kwargs': given}
    settings |= {'data_dir': str(image_folder), 'img_size': 16}
    (tmp_path / 'args.yaml').write_text(yaml.safe_dump(settings))
    words = ['--figures', 5, '--checkpoint', checkpoint, '--max-images', 1, '-j', 0, '--output', tmp_path]
    processes.module('train_patch.figures', *words).passed()


def test_somebody_elses_script_loads_what_it_likes(processes, tmp_path):
    """So does the one of a comparison: see test_request.py."""
    script, seen = tmp_path / 'script.py', tmp_path / 'seen'
    script.write_text(
        f'import os\nprint(*map(os.environ.get, ({FORCE!r}, {FORCE_NOT!r})), file=open({str(seen)!r}, "w"))'
    )
    processes.module('train_patch', script, **{FORCE_NOT: '1'}).passed()
    assert seen.read_text() == 'None 1\n'
