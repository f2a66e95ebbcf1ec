"""The launcher's parts within this process, whose timm, torch and multiprocessing are put back afterwards."""

import logging
import multiprocessing.spawn
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import timm.data
import timm.data.mixup
import timm.data.naflex_loader
import timm.data.naflex_mixup
import torch
import yaml

import hmix_timm
import train_patch
from hmix_timm.families import FAMILIES
from train_patch.common.errors import RunError
from train_patch.launcher import children, watch
from train_patch.launcher.mixers import HOMES
from train_patch.launcher.timm_script import TimmScript

LIKE = Path(__file__).parent / 'timm_like.py'
NAFLEX_LOADER = timm.data.naflex_loader.NaFlexPrefetchLoader


@pytest.fixture(autouse=True)
def process(monkeypatch):
    """What a launch changes of its process is put back."""
    for name, homes in HOMES.items():
        for home in homes:
            monkeypatch.setattr(sys.modules[home], name, getattr(sys.modules[home], name))
    monkeypatch.setattr(multiprocessing.spawn, 'get_preparation_data', multiprocessing.spawn.get_preparation_data)
    monkeypatch.setenv(children.VARIABLE, '')
    monkeypatch.setattr(sys, 'argv', ['train_patch'])
    monkeypatch.setattr(sys, 'path', [*sys.path])
    for name in ('RANK', 'SLURM_PROCID'):
        monkeypatch.delenv(name, raising=False)
    if not hasattr(NAFLEX_LOADER, 'mixup_enabled'):
        monkeypatch.setattr(NAFLEX_LOADER, 'mixup_enabled', None, raising=False)
        monkeypatch.delattr(NAFLEX_LOADER, 'mixup_enabled')
    hooks, families, modules = [], dict(FAMILIES), {*sys.modules}
    register = watch.register_optimizer_step_pre_hook
    monkeypatch.setattr(watch, 'register_optimizer_step_pre_hook', lambda hook: hooks.append(register(hook)))
    yield
    for hook in hooks:
        hook.remove()
    FAMILIES.clear()
    FAMILIES.update(families)
    for name in {'timm_train_script', '__mp_main__'} - modules:
        sys.modules.pop(name, None)


# timm's script


@pytest.fixture
def timms(monkeypatch, caplog):
    """timms('line') → a TimmScript whose arguments are parsed, and the lines that it logged."""
    caplog.set_level(logging.INFO, 'train_patch')

    def run(line='', path=LIKE):
        caplog.clear()
        monkeypatch.setattr(sys, 'argv', ['train.py', *line.split()])
        script = TimmScript(str(path))
        script.module._parse_args()
        return script, [record.getMessage() for record in caplog.records]

    return run


def test_a_script_that_lacks_what_timms_has_is_refused(tmp_path):
    path = tmp_path / 'train.py'
    path.write_text('parser = main = create_loader = train_one_epoch = _parse_args = 1\n')
    message = f'^{path} is not a timm train script: it has no Mixup, FastCollateMixup at its top level$'
    with pytest.raises(RunError, match=message):
        TimmScript(str(path))


@pytest.mark.parametrize('name', ['Mixup', 'FastCollateMixup'])
def test_a_script_with_a_mixer_of_its_own_is_refused(tmp_path, name):
    path = tmp_path / 'train.py'
    path.write_text(LIKE.read_text().replace('\nconfig_parser', f'\nclass {name}:\n    pass\n\n\nconfig_parser', 1))
    message = f'^{path} does not take {name} from timm.data, so mixing could not be replaced there$'
    with pytest.raises(RunError, match=message):
        TimmScript(str(path))


def test_the_script_is_a_module_of_its_own_that_others_can_import(timms):
    script, _ = timms()
    assert sys.modules['timm_train_script'] is script.module and script.module.__name__ == 'timm_train_script'
    called = []
    script.module.main = lambda: called.append(True)
    script.main()
    assert called == [True]


@pytest.mark.parametrize(
    ('line', 'resolved', 'said'),
    [
        ('', (None, 0.0, 0.0), ['Mixing: none']),
        ('--mix-mode none --mixup .3', ('none', 0.0, 0.0), ['replaced', 'Mixing: none']),
        ('--mix-mode hmix', ('hmix', 0.0, 1.0), []),
        ('--mix-mode hmix --mixup .3', ('hmix', 0.0, 1.0), ['replaced']),
        ('--mixup .3', (None, 0.3, 0.0), []),
    ],
)
def test_arguments_are_resolved_where_the_script_parses_them(timms, line, resolved, said):
    script, lines = timms(line)
    assert (script.args.mix_mode, script.args.mixup, script.args.cutmix) == resolved
    assert [text.partition(' ')[0] if 'replaced' in text else text for text in lines] == [
        text if text != 'replaced' else lines[0].partition(' ')[0] for text in said
    ]
    assert all('--mixup 0.3' in text for text in lines if 'replaced' in text)


def test_mixers_of_the_script_draw_the_masks_that_are_asked_for_and_are_said(timms, caplog):
    script, _ = timms('--cutmix-mode hmix --cutmix 1 --hmix-ratio .5')
    mixer = script.module.FastCollateMixup(mixup_alpha=0.8, cutmix_alpha=1.0, num_classes=4)
    assert repr(mixer).startswith('FastCollateMixup(Mixup(alpha=0.8) | HMix(alpha=1, ratio=0.5), ')
    assert caplog.records[-1].getMessage() == f'Mixing: {mixer!r}'
    assert isinstance(script.module.Mixup(cutmix_alpha=1.0), hmix_timm.Mixup) and script.naflex_mixers == []
    naflex = timm.data.NaFlexMixup(cutmix_alpha=1.0, num_classes=4)
    assert script.naflex_mixers == [naflex] and caplog.records[-1].getMessage() == f'Mixing: {naflex!r}'


@pytest.mark.parametrize(('off_epoch', 'enabled'), [(0, [True] * 4), (2, [True, True, False, False])])
def test_naflex_mixers_are_on_until_the_off_epoch(timms, off_epoch, enabled):
    script, _ = timms(f'--mix-mode hmix --mixup-off-epoch {off_epoch}')
    mixers = [timm.data.NaFlexMixup(num_classes=4) for _ in range(2)]
    told = []
    script.timms_train_one_epoch = lambda *words, **more: told.append((words, more)) or 'result'
    for epoch in range(4):
        assert script.module.train_one_epoch(epoch, 'model', optimizer='x') == 'result'
        assert [mixer.mixup_enabled for mixer in mixers] == [enabled[epoch]] * 2
    assert told == [((epoch, 'model'), {'optimizer': 'x'}) for epoch in range(4)]


def test_the_scripts_functions_stay_its_own_unless_something_is_asked_of_them(timms):
    script, _ = timms()
    assert script.module.create_loader is script.timms_create_loader is timm.data.create_loader
    padded, _ = timms('--train-padding 2')
    assert padded.module.create_loader is not timm.data.create_loader
    assert padded.module.train_one_epoch == padded.train_one_epoch


def test_puzzlemix_is_given_the_padded_crop_that_is_asked_for(timms, image_folder):
    script, _ = timms('--mix-mode puzzlemix --train-padding 2 --num-classes 4')
    dataset = timm.data.create_dataset('', root=str(image_folder), split='train')
    script.module.create_loader(
        dataset,
        input_size=(3, 32, 32),
        batch_size=8,
        is_training=True,
        num_workers=0,
        persistent_workers=False,
        device=torch.device('cpu'),
    )
    (crop,) = (step for step in dataset.transform.transforms if 'Crop' in type(step).__name__)
    assert (type(crop).__name__, crop.padding) == ('RandomCrop', 2)


def test_puzzlemix_goes_around_the_loop_and_leaves_the_scripts_mixers_unsaid(timms, caplog):
    script, lines = timms('--mix-mode puzzlemix --num-classes 4')
    assert lines == []
    script.module.FastCollateMixup(cutmix_alpha=1.0, num_classes=4)
    assert [record.getMessage() for record in caplog.records] == []
    assert script.module.create_loader is not timm.data.create_loader
    assert script.module.train_one_epoch.__wrapped__ is script.timms_train_one_epoch
    images = [(torch.zeros(3, 32, 32, dtype=torch.uint8).numpy(), 0)] * 8
    script.module.create_loader(images_of(images), (3, 32, 32), 4, is_training=True, num_workers=0,
                                persistent_workers=False, device=torch.device('cpu'))  # fmt: skip
    assert [record.getMessage().partition('(')[0] for record in caplog.records] == ['Mixing: PuzzleMix']


def images_of(samples):
    class Images(torch.utils.data.Dataset):
        def __len__(self):
            return len(samples)

        def __getitem__(self, index):
            return samples[index]

    return Images()


# A recipe of timm's script


def test_a_recipe_may_be_one_of_the_packages_or_any_file(timms, tmp_path):
    script, _ = timms('-c cifar100_resnet56 --model test_resnet --epochs 3')
    recipe = yaml.safe_load((Path(train_patch.__file__).parent / 'recipes/cifar100_resnet56.yaml').read_text())
    assert (script.args.weight_decay, script.args.epochs) == (recipe['weight_decay'], 3)
    assert sys.argv[0] == 'train.py' and sys.argv[1] == '--config' and sys.argv[2].endswith('cifar100_resnet56.yaml')
    assert sys.argv[3:] == ['--model', 'test_resnet', '--epochs', '3']
    path = tmp_path / 'recipe.yaml'
    path.write_text('mix_mode: gmix\nepochs: 5\n')
    script, _ = timms(f'--config {path}')
    assert (script.args.mix_mode, script.args.epochs) == ('gmix', 5)
    assert script.read_recipe() == {'mix_mode': 'gmix', 'epochs': 5}
    assert timms('')[0].read_recipe() == {}


@pytest.mark.parametrize(
    ('text', 'line', 'message'),
    [
        ('mix_mod: hmix\n', '', "'mix_mod'"),
        ('mix_mode: hmx\n', '', "--mix-mode must be one of .*'hmx'"),
        ('- a\n', '', 'name: value'),
        ('', '--mix-mode hmx', "'hmx'"),
        ('', '--train-padding -1', '--train-padding must be'),
        ('', '--hmix-ratio .5', '--hmix-ratio needs --mix-mode'),
        ('', '--mix-families nowhere.py', 'nowhere.py'),
    ],
)
def test_what_is_wrong_is_the_scripts_parsers_error(timms, tmp_path, capsys, text, line, message):
    path = tmp_path / 'recipe.yaml'
    path.write_text(text or 'epochs: 1\n')
    with pytest.raises(SystemExit) as ended:
        timms(f'-c {path} {line}')
    assert ended.value.code == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert 'error: ' in last and re.search(message, last), last


def test_a_recipe_that_goes_between_reading_and_running_is_the_parsers_error(timms, tmp_path, monkeypatch, capsys):
    path = tmp_path / 'recipe.yaml'
    path.write_text('epochs: 1\n')
    script, _ = timms(f'-c {path}')
    path.unlink()
    monkeypatch.setattr(sys, 'argv', ['train.py', '-c', str(path)])
    with pytest.raises(SystemExit) as ended:
        script.module._parse_args()
    assert ended.value.code == 2 and 'recipe.yaml' in capsys.readouterr().err


def test_options_of_a_family_are_declared_where_it_is_named(timms, tmp_path):
    families = tmp_path / 'my_masks.py'
    families.write_text(
        'from hmix_timm import BoxMask, register_family\n'
        "@register_family('plain', options={'edge': 0.5})\n"
        'def plain(size, lam, options, draws):\n    return BoxMask(1.0, (0, 0, 0, 0), 0.0)\n'
    )
    script, _ = timms(f'--mix-families {families} --mix-mode plain --plain-edge .25')
    assert script.args.plain_edge == 0.25
    assert 'Plain(alpha=1, edge=0.25)' in repr(script.module.Mixup(cutmix_alpha=1.0))


@pytest.mark.parametrize(('mixer', 'enabled'), [(SimpleNamespace(mixup_enabled=True), True), (None, False)])
def test_naflex_loaders_say_whether_they_mix(timms, mixer, enabled):
    timms()
    loader = NAFLEX_LOADER.__new__(NAFLEX_LOADER)
    loader.loader = SimpleNamespace(dataset=SimpleNamespace(mixup_fn=mixer))
    assert loader.mixup_enabled is enabled
