"""`--mix-check`: what the log says was seen is what went in, what came out, and what the model got."""

import json
import re

import numpy as np
import pytest
import torch

from hmix_timm import BoxMask, Mix, Resized
from hmix_timm.families import FAMILIES, Family
from train_patch.launcher import seen

from .conftest import SCRIPTS
from .test_timm_script import LIKE

MIXING = SCRIPTS / 'mixing' / 'main.py'


BOX = (3, 20, 1, 9)
PASTED = Family('pasted', 'Pasted', lambda *given: Mix(BoxMask(1.0, BOX), Resized(BOX)), 'pasted')


@pytest.fixture
def look(tmp_path, monkeypatch):
    """Makes a mixer that is looked at; returns it and a function that gives the one fact that it has left."""

    monkeypatch.setitem(FAMILIES, 'pasted', PASTED)

    def make(kind=seen.Mixup, **options):
        np.random.seed(0)
        mixer = kind(0.8, 1.0, num_classes=5, **options)
        mixer.witness = str(tmp_path)

        def fact():
            (path,) = tmp_path.glob('seen-*')
            return json.loads(path.read_text())

        return mixer, fact

    return make


@pytest.mark.parametrize(('mode', 'dtype'), [
    ('batch', torch.uint8), ('batch', torch.float64), ('pair', torch.float16), ('pair', torch.uint8),
    ('elem', torch.float32), ('elem', torch.bfloat16), ('elem', torch.uint8), ('half', torch.uint8),
])  # fmt: skip
@pytest.mark.parametrize('cutmix_mode', ['bbox', 'hmix', 'gmix', 'pasted'])
def test_what_was_drawn_is_found_in_the_pixels(look, mode, cutmix_mode, dtype):
    images = torch.rand(9, 3, 24, 17, generator=torch.Generator().manual_seed(0)) * 255
    collate = mode == 'half' or dtype == torch.uint8
    mixer, fact = look(seen.FastCollateMixup if collate else seen.Mixup, mode=mode, cutmix_mode=cutmix_mode)
    if collate:
        mixer([(image, 3) for image in images.byte().numpy()])
    else:
        mixer((images / 255).to(dtype), torch.arange(9) % 5)
    found = fact()
    assert found['wrong'] == []
    assert 0 <= found['gap'][0] < 5e-3 and bool(found['gap'][1]) == collate
    assert sum(found['names'].values()) == len(found['prints']) == {'batch': 9, 'half': 4}.get(mode, 8)
    assert {*found['names']} <= {'Mixup', mixer.family.title}


@pytest.mark.parametrize(
    ('put', 'said'),
    [
        (lambda x, masks: x, 'a mask from 1 to 1, not 0'),
        (lambda x, masks: x.copy_((x + x.flip(0)) / 2), 'a mask from 0.5 to 0.5, not 0.'),
    ],
)
def test_a_mask_that_is_not_the_one_that_was_drawn_is_described(look, monkeypatch, put, said):
    monkeypatch.setattr('hmix_timm.blend.mix_', put)
    mixer, fact = look(cutmix_mode='hmix')
    mixer(torch.rand(6, 3, 16, 16), torch.arange(6) % 5)
    assert len(fact()['wrong']) >= 6 and fact()['wrong'][0].startswith(said)


def test_a_label_that_is_not_the_mean_of_its_mask_ends_the_run(launch, tmp_path):
    families = tmp_path / 'mine.py'
    families.write_text(
        'import numpy as np\nfrom hmix_timm import DenseMask, register_family\n'
        'class Mask(DenseMask):\n    def mean(self, size):\n        return self.values.max()\n'
        "@register_family('kept')\ndef kept(size, lam, options, draws):\n"
        '    return Mask(np.linspace(0, lam, 256).reshape(16, 16))\n'
    )
    before = f'--mix-check --mix-families {families} --mix-mode kept'
    run = launch(before, MIXING, '--mode elem --output {folder}')
    assert re.search(r'--mix-check: \d of 8 mixed images have a label weight [.\d]+ off the mean', run.refused(1))
    assert not (run.folder / 'record0.pt').exists()


def test_a_model_that_gets_images_unmixed_ends_the_run(launch):
    run = launch('--mix-check --mix-mode hmix', MIXING, '--way clones --epochs 9 --output {folder}')
    assert 'error: --mix-check: the model gets 64 of 64 images unmixed' in run.refused(1)
    assert not (run.folder / 'record0.pt').exists()


def test_images_that_the_model_gets_in_another_form_are_not_said_to_have_reached_it(launch):
    run = launch('--mix-check --mix-mode hmix', MIXING, '--way turned --output {folder}').passed()
    assert 'Mixing: seen: 64 of 64 images HMix' in run.log and 'not traced to the model' in run.log


def test_no_more_is_looked_at_than_64_images(look, tmp_path):
    mixer, _ = look()
    for _ in range(3):
        mixer(torch.rand(64, 3, 4, 4), torch.arange(64) % 5)
    assert len([*tmp_path.glob('seen-*')]) == 1


@pytest.mark.parametrize(
    ('before', 'line', 'said'),
    [
        ('--mix-mode stochastic', '', r'seen: \d+ of 64 images (Mixup|CutMix), .* of 64 images .*, reached the model'),
        ('--mix-mode none', '--mixup 0.3', 'seen: no mixed batch'),
        ('--mix-mode puzzlemix', '', '--mix-check cannot look at PuzzleMix'),
        ('--mix-mode hmix', '--naflex-loader', '--mix-check cannot look at NaFlexMixup'),
    ],
)
def test_timms_script_is_looked_at(launch, image_folder, before, line, said):
    arguments = f'--data-dir {image_folder} --num-classes 4 --output {{folder}} --epochs 2 --workers 1 {line}'
    run = launch(f'--mix-check {before}', LIKE, arguments)
    assert run.status == (2 if 'puzzlemix' in before else 'cannot' in said)
    assert re.search(said, run.log.splitlines()[-1])
    assert ('Mixing: none' in run.log) == ('none' in before)


@pytest.mark.parametrize('loader', ['--workers 1', pytest.param('--no-prefetcher', marks=pytest.mark.slow)])
def test_the_projects_own_script_is_looked_at(processes, image_folder, tmp_path, loader):
    line = f'--mix-check --data-dir {image_folder} --num-classes 4 --model test_resnet --img-size 32 --epochs 2 -b 8'
    line += f' --device cpu --reprob 0.25 --mix-mode hmix --output {tmp_path} --experiment run {loader}'
    done = processes.call('train_patch.__main__:main', {'argv': line.split()}).wait()
    assert done.status == 0
    assert re.search(r'Mixing: seen: 64 of 64 images HMix, label = .*, reached the model', done.stderr)
    assert 'mix_check' not in (tmp_path / 'run' / 'args.yaml').read_text()
