"""The examples of docs/your_own_mask.md, as written."""

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from hmix_timm import Mixup
from hmix_timm.families import FAMILIES, load_families, make_slot
from train_patch.data.digits import digits_folder

DOCUMENT = Path(__file__).parents[2] / 'docs' / 'your_own_mask.md'


@pytest.fixture(scope='module')
def my_masks(tmp_path_factory):
    """All examples in one file, as the document says."""
    blocks = re.findall(r'^```python\n(.*?)^```', DOCUMENT.read_text(encoding='utf-8'), re.M | re.S)
    path = tmp_path_factory.mktemp('masks') / 'my_masks.py'
    path.write_text('\n'.join(blocks))
    before = dict(FAMILIES)
    assert load_families(path) == ['waves', 'fade', 'inset']
    yield path
    FAMILIES.clear()
    FAMILIES.update(before)


@pytest.mark.parametrize('lam', [0.0, 0.25, 0.7, 1.0])
def test_waves_keep_the_share_lam_of_the_pixels_and_fade_is_a_soft_step(my_masks, lam):
    waves, fade = (make_slot(name).draw_mask((24, 17), lam)[0].array((24, 17)) for name in ('waves', 'fade'))
    assert set(np.unique(waves)) <= {0.0, 1.0} and waves.mean() == pytest.approx(lam, abs=0.5 / waves.size)
    step = np.clip((lam - (np.arange(17) + 0.5) / 17) / 0.25 + 0.5, 0.0, 1.0)
    assert any(np.allclose(fade, np.tile(profile, (24, 1)), atol=1e-12) for profile in (step, step[::-1]))


@pytest.mark.parametrize('name', ['waves', 'fade', 'inset'])
@pytest.mark.parametrize('mode', ['batch', 'elem'])
def test_label_weights_are_the_means_of_the_masks(my_masks, name, mode):
    labels = torch.tensor([1, 1, 0, 0])
    images = labels.view(-1, 1, 1, 1).expand(4, 3, 20, 30).float().clone()
    np.random.seed(1)
    mixer = Mixup(0.0, 1.0, cutmix_mode=name, mode=mode, num_classes=2, label_smoothing=0.0)
    mixed, target = mixer(images, labels)
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), target[:, 1], rtol=0, atol=1e-6)


def test_the_command_trains_on_digits(my_masks, tmp_path, processes):
    """The document's own command line, cut down to one epoch."""
    line = next(line for line in DOCUMENT.read_text(encoding='utf-8').splitlines() if '-c digits' in line)
    program, *words = line.replace('DIGITS', str(digits_folder())).split()
    assert program == 'hmix-train'
    shutil.copy(my_masks, tmp_path)
    cut = ['--epochs', '1', '--warmup-epochs', '0', '--output', 'out', '--experiment', 'run']
    done = processes.module('train_patch', *words, *cut, cwd=tmp_path).passed()
    assert 'Mixing: FastCollateMixup(Waves(alpha=1, periods=2)' in done.stderr + done.stdout
    assert (tmp_path / 'out' / 'run' / 'summary.csv').is_file()
    assert 'mix_mode: waves' in (tmp_path / 'out' / 'run' / 'args.yaml').read_text()


def test_the_theory_of_the_masks_is_what_the_page_prints(my_masks, capsys):
    """The coefficient is computed here anew, and the approximate loss is near the original one."""
    (code,) = re.findall(r'^```py\n(.*?)^```', DOCUMENT.read_text(encoding='utf-8'), re.M | re.S)
    torch.manual_seed(0)
    exec(code, {})
    coefficient, *losses = capsys.readouterr().out.splitlines()
    place = (np.arange(16) + 0.5) / 16
    rest = 1.0 - np.clip((0.5 - place) / 0.25 + 0.5, 0.0, 1.0)
    expected = np.mean([rest[:-4] * rest[4:], rest[::-1][:-4] * rest[::-1][4:]])
    assert float(coefficient) == pytest.approx(expected, abs=0.01)
    original, approximate = (float(re.search(r'value=([\d.]+)', line)[1]) for line in losses)
    assert approximate == pytest.approx(original, abs=0.01)
