"""The shipped recipes: the paper's values, the published CutMix setting around them, accepted by the scripts."""

import functools
import json
import os
import sys
from pathlib import Path

import pytest
import timm
import torch
import yaml
from timm.data import create_loader, create_transform, resolve_data_config
from timm.data.transforms import RandomResizedCropAndInterpolation
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from torchvision import transforms

import train_patch.data.cifar_networks  # noqa: F401  # registers the CIFAR networks
from hmix_timm.modes import mix_modes
from train_patch import compare, preview
from train_patch.__main__ import main
from train_patch.data.crop import padded_crop_loader
from train_patch.recipes.published import PUBLISHED
from train_patch.recipes.reader import RECIPE_FOLDER, find_recipe, read_recipe, shipped_recipes
from train_patch.trainer import loaders
from train_patch.trainer.arguments import parse_arguments
from train_patch.trainer.options import build_parser

SCRIPT = os.environ.get('TIMM_TRAIN_SCRIPT')
CIFAR = {
    'cifar100_resnet56': 'cifar_resnet56',
    'cifar100_wrn28_2': 'cifar_wrn28_2',
    'cifar100_preactresnet18': 'cifar_preactresnet18',
    'cifar100_preactresnet34': 'cifar_preactresnet34',
    'cifar100_preactresnet50': 'cifar_preactresnet50',
}
IMAGENET100 = {'imagenet100_large_crop': [0.8, 1.0], 'imagenet100_small_crop': [0.25, 0.4]}
PAPER = [*CIFAR, *IMAGENET100, 'imagenet_resnet50']


def load(name):
    return yaml.safe_load(find_recipe(name).read_text())


@pytest.fixture(params=PAPER)
def name(request):
    return request.param


def test_all_rows_of_the_tables_ship():
    assert set(PAPER) <= set(shipped_recipes())
    assert set(PAPER) == set(PUBLISHED)


@pytest.mark.parametrize('command', [main, compare.main, preview.main], ids=lambda command: command.__module__)
def test_help_lists_them(command, capsys):
    with pytest.raises(SystemExit):
        command(['--help'])
    said = capsys.readouterr().out
    assert [name for name in shipped_recipes() if name not in said] == []


def test_every_line_says_where_it_comes_from(name):
    lines = find_recipe(name).read_text().splitlines()
    settings = [line for line in lines if line.strip() and not line.startswith('#')]
    assert len(settings) >= 20
    for line in settings:
        _, mark, source = line.partition('  # ')
        assert mark, line
        assert any(word in source for word in ('paper', 'CutMix setting', 'timm', "CIFAR-100's classes")), line


def test_values_of_the_paper(name):
    recipe = load(name)
    assert recipe['epochs'] == 300 and recipe['opt'] == 'sgd'
    assert recipe['lr'] == (0.2 if name in CIFAR else 0.1)
    assert recipe['mix_preset'] == ('cifar100' if name in CIFAR else 'imagenet')
    assert recipe['model'] == CIFAR.get(name, 'resnet50')
    assert recipe['num_classes'] == (1000 if name == 'imagenet_resnet50' else 100)
    assert recipe['img_size'] == (32 if name in CIFAR else 64 if name in IMAGENET100 else 224)
    assert recipe.get('scale') == (None if name in CIFAR else IMAGENET100.get(name, [0.08, 1.0]))
    assert recipe.get('train_padding') == (4 if name in CIFAR else None)
    assert recipe.get('dataset') == ('torch/cifar100' if name in CIFAR else None)
    processes = 8 if name == 'imagenet_resnet50' else 1
    assert recipe['batch_size'] * processes == (64 if name in CIFAR else 256)
    mixing = ('mix_mode', 'mixup', 'cutmix', 'cutmix_minmax', 'mix_alpha', 'hmix_ratio')
    assert not set(recipe) & set(mixing), 'the mode is the command line’s'


def test_learning_rate_of_every_epoch(name):
    """× 0.1 at 150 and 225 of 300 epochs on CIFAR, at 75, 150 and 225 on ImageNet, through timm's own scheduler."""
    recipe = load(name)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=recipe['lr'])
    # train.py's defaults for what a recipe does not set, where they differ from the function's
    keys = ('sched', 'decay_epochs', 'decay_milestones', 'decay_rate', 'warmup_epochs')
    settings = {'sched': 'cosine', 'warmup_epochs': 5, **{key: recipe[key] for key in keys if key in recipe}}
    scheduler, num_epochs = create_scheduler_v2(optimizer, num_epochs=recipe['epochs'], **settings)
    assert num_epochs == 300
    drops = (150, 225) if name in CIFAR else (75, 150, 225)
    for epoch in range(num_epochs):  # as train.py steps it: lr of epoch 0 is the optimizer's own
        expected = recipe['lr'] * 0.1 ** sum(epoch >= drop for drop in drops)
        assert optimizer.param_groups[0]['lr'] == pytest.approx(expected, rel=1e-9), epoch
        scheduler.step(epoch + 1)


def test_optimizer():
    for name in ('cifar100_resnet56', 'imagenet_resnet50'):
        recipe = load(name)
        with torch.device('meta'):
            model = timm.create_model(recipe['model'], num_classes=recipe['num_classes'])
        arguments = {key: recipe[key] for key in ('opt', 'lr', 'momentum', 'weight_decay')}
        optimizer = create_optimizer_v2(model, **arguments, **recipe['opt_kwargs'])
        assert type(optimizer) is torch.optim.SGD
        (group,) = optimizer.param_groups
        assert len(group['params']) == len(list(model.parameters()))
        assert group['weight_decay'] == 1e-4 and group['momentum'] == 0.9 and group['nesterov']


def test_transforms(name):
    """The training and validation transforms that timm's scripts build from the recipe."""
    recipe = load(name)
    with torch.device('meta'):
        model = timm.create_model(recipe['model'])
    config = resolve_data_config(recipe, model=model)
    size = recipe['img_size']
    assert config['input_size'] == (3, size, size)
    dataset = torch.utils.data.TensorDataset(torch.zeros(1))
    create = padded_crop_loader(create_loader, recipe.get('train_padding'))
    create(
        dataset,
        config['input_size'],
        batch_size=1,
        is_training=True,
        scale=recipe.get('scale', [0.08, 1.0]),
        hflip=recipe['hflip'],
        color_jitter=recipe['color_jitter'],
        interpolation=recipe.get('train_interpolation', 'random'),
        device=torch.device('cpu'),
    )
    steps = dataset.transform.transforms
    flips = [step.p for step in steps if isinstance(step, transforms.RandomHorizontalFlip)]
    (jitter,) = (step for step in steps if isinstance(step, transforms.ColorJitter))
    assert flips == [0.5]
    if name in CIFAR:
        assert isinstance(steps[1], transforms.RandomCrop) and steps[1].padding == 4
        assert not any(isinstance(step, RandomResizedCropAndInterpolation) for step in steps)
        assert jitter.brightness is jitter.contrast is jitter.saturation is jitter.hue is None
        assert [round(255 * v, 1) for v in config['mean'] + config['std']] == [125.3, 123.0, 113.9, 63.0, 62.1, 66.7]
    else:
        assert isinstance(steps[0], RandomResizedCropAndInterpolation)
        assert tuple(steps[0].scale) == tuple(recipe['scale']) and steps[0].size == (size, size)
        assert steps[0].interpolation == transforms.InterpolationMode.BILINEAR
        assert jitter.brightness == jitter.contrast == jitter.saturation == (0.6, 1.4) and jitter.hue is None
        assert config['mean'] == timm.data.IMAGENET_DEFAULT_MEAN and config['std'] == timm.data.IMAGENET_DEFAULT_STD
    resize, crop = create_transform(
        config['input_size'], crop_pct=config['crop_pct'], interpolation=config['interpolation']
    ).transforms[:2]
    resized = {32: 32, 64: 73, 224: 256}[size]
    assert resize.size in (resized, (resized, resized)) and tuple(crop.size) == (size, size)
    assert resize.interpolation == transforms.InterpolationMode.BILINEAR


def check_parsed(options, parsed):
    for name in PAPER:
        recipe, args = load(name), parsed[name]
        assert set(recipe) <= set(options), "timm's scripts take unknown keys in silence"
        assert {key: args[key] for key in recipe} == recipe
        assert (args['mixup'], args['cutmix']) == (0, 0.5 if name in CIFAR else 1), "the preset is the recipe's"


def test_lean_script_takes_every_key():
    lines = [['-c', str(find_recipe(name)), '--data-dir', 'somewhere', '--mix-mode', 'gmix'] for name in PAPER]
    parsed = [vars(parse_arguments(line)[0]) for line in lines]
    check_parsed([action.dest for action in build_parser()._actions], dict(zip(PAPER, parsed, strict=True)))


@pytest.mark.skipif(not SCRIPT, reason="TIMM_TRAIN_SCRIPT names no timm train.py: recipes not tried on timm's own")
def test_timms_script_takes_every_key(processes):
    argv = [SCRIPT, *(str(find_recipe(name)) for name in PAPER)]
    done = processes.call(f'{__name__}:parse_with_timms_script', {'argv': argv}).passed()
    options, *parsed = json.loads(done.stdout.splitlines()[-1])
    check_parsed(options, dict(zip(PAPER, parsed, strict=True)))


def parse_with_timms_script(argv):
    """Prints the names of all options of timm's script, and what it makes of each recipe with `--mix-mode gmix`."""
    from train_patch.launcher.timm_script import TimmScript

    path, *recipes = argv
    sys.path.insert(0, str(Path(path).resolve().parent))
    sys.argv = [path]
    options = {action.dest for action in TimmScript(path).module.parser._actions}
    parsed = []
    for recipe in recipes:
        sys.argv = [path, '-c', recipe, '--mix-mode', 'gmix']
        parsed.append(vars(TimmScript(path).module._parse_args()[0]))
    print(json.dumps([sorted(options), *parsed]))


@pytest.mark.parametrize(
    'script',
    [
        pytest.param(None, id='lean'),
        pytest.param(
            SCRIPT,
            marks=pytest.mark.skipif(not SCRIPT, reason='TIMM_TRAIN_SCRIPT names no timm train.py'),
            id='timm',
        ),
    ],
)
def test_a_cifar_recipe_trains_on_padded_crops(script, image_folder, processes, tmp_path):
    """One epoch of a recipe on a folder of photographs; what the loaders' data sets really transform with."""
    argv = [script] if script else []
    argv += ['-c', 'cifar100_resnet56', '--dataset', '', '--data-dir', str(image_folder)]
    argv += ['--num-classes', '4', '--epochs', '1', '--batch-size', '8', '--workers', '1', '--device', 'cpu']
    argv += ['--mix-mode', 'hmix', '--output', str(tmp_path), '--experiment', 'run']
    result = processes.call(f'{__name__}:train_and_print_transforms', {'argv': argv}, cwd=tmp_path).passed()
    training, evaluation = json.loads(result.stdout.splitlines()[-1])
    assert 'RandomCrop(size=(32, 32), padding=4)' in training and 'RandomHorizontalFlip(p=0.5)' in training
    assert 'RandomResizedCrop' not in training and 'RandomCrop' not in evaluation
    assert len((tmp_path / 'run' / 'summary.csv').read_text().splitlines()) == 2
    assert yaml.safe_load((tmp_path / 'run' / 'args.yaml').read_text())['train_padding'] == 4


def train_and_print_transforms(argv):
    timms_create_loader = timm.data.create_loader
    datasets = []

    @functools.wraps(timms_create_loader)
    def create_loader(dataset, *args, **kwargs):
        datasets.append(dataset)
        return timms_create_loader(dataset, *args, **kwargs)

    timm.data.create_loader = loaders.create_loader = create_loader
    main(argv)
    print(json.dumps([repr(dataset.transform) for dataset in datasets]))


# The paper's tables as printed, row by row.
TABLE_2_COLUMNS = [f'cifar100_{net}' for net in ('resnet56', 'wrn28_2', 'preactresnet18', 'preactresnet34')]
TABLE_2_COLUMNS.append('cifar100_preactresnet50')
TABLE_2 = {
    'none': [73.23, 73.50, 76.73, 77.68, 79.07],
    'mixup': [73.12, 74.05, 77.21, 79.02, 79.34],
    'cutmix': [74.83, 74.79, 78.66, 80.05, 81.23],
    'stochastic': [74.88, 75.49, 79.25, 81.05, 81.21],
    'hmix': [74.99, 75.68, 79.25, 81.07, 81.38],
    'gmix': [75.75, 76.15, 79.17, 80.52, 81.45],
}


def test_published_numbers():
    for mode, row in TABLE_2.items():
        assert [PUBLISHED[name].top1[mode] for name in TABLE_2_COLUMNS] == row
    table_3 = PUBLISHED['imagenet_resnet50'].top1
    gains = {mode: round(top1 - table_3['none'], 2) for mode, top1 in table_3.items()}
    assert table_3['none'] == 75.68
    assert gains == {'none': 0, 'mixup': 2.10, 'cutmix': 2.36, 'stochastic': 2.45, 'hmix': 2.70, 'gmix': 2.45}
    for name, mixup, gain in (('imagenet100_large_crop', 58.3, 6.1), ('imagenet100_small_crop', 67.7, -0.7)):
        row = PUBLISHED[name].top1
        assert set(row) == {'mixup', 'cutmix'} and row['mixup'] == mixup
        assert row['cutmix'] - row['mixup'] == pytest.approx(gain)
    assert all(set(published.top1) <= set(mix_modes()) for published in PUBLISHED.values())


@pytest.mark.parametrize('form', ['{}', '{}.yaml', 'recipes/{}.yaml', 'recipes/{}'])
def test_find_shipped_recipe(form, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()  # a folder of that name is no recipe
    assert find_recipe(form.format(name)) == RECIPE_FOLDER / f'{name}.yaml'


def test_find_recipe_prefers_an_existing_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = Path('imagenet_resnet50.yaml')
    own.write_text('model: resnet18\n')
    assert find_recipe('imagenet_resnet50.yaml') == own
    assert find_recipe(tmp_path / own) == tmp_path / own


@pytest.mark.parametrize(
    'wrong, nearest',
    [
        ('imagenet_resnet5', 'imagenet_resnet50'),
        ('cifar100_preactresnet_18.yaml', 'cifar100_preactresnet18'),
        ('elsewhere/cifar100_resnet56.yaml', 'cifar100_resnet56'),
        ('zzz', None),
        ('', None),
    ],
)
def test_unknown_recipe(wrong, nearest, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError) as error:
        find_recipe(wrong)
    message = str(error.value)
    assert repr(wrong) in message and all(name in message for name in PAPER)
    assert (f'did you mean {nearest}?' in message) if nearest else ('did you mean' not in message)


def test_where_the_paper_prints_its_numbers_and_for_what():
    """Table and column, the images for validation that CIFAR-100 and ImageNet have, and the processes."""
    columns = ('RN56', 'WRN28-2', 'PreActRN18', 'PreActRN34', 'PreActRN50')
    expected = {name: (f'Table 2, {column}', 10_000, 1) for name, column in zip(CIFAR, columns, strict=True)}
    expected |= {
        'imagenet100_large_crop': ('Table 1, scenario 1', 5_000, 1),
        'imagenet100_small_crop': ('Table 1, scenario 2', 5_000, 1),
        'imagenet_resnet50': ('Table 3', 50_000, 8),
    }
    assert {
        name: (paper.where, paper.validation_images, paper.processes) for name, paper in PUBLISHED.items()
    } == expected


def test_puzzlemix_numbers_are_those_of_table_2():
    printed = {name: paper.top1['puzzlemix'] for name, paper in PUBLISHED.items() if 'puzzlemix' in paper.top1}
    assert printed == dict(zip(TABLE_2_COLUMNS[1:], [76.51, 79.38, 80.89, 82.46], strict=True))


def test_a_folder_of_another_name_is_no_recipe_and_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('mine').mkdir()
    with pytest.raises(ValueError, match=r"^recipe 'mine' is a folder, not a file$"):
        find_recipe('mine')


def test_names_of_the_shipped_recipes_are_sorted_and_without_their_ending():
    names = shipped_recipes()
    assert names == sorted(names) and names[0] == 'cifar100_preactresnet18'
    assert all((RECIPE_FOLDER / f'{name}.yaml').is_file() for name in names)


def read(path, content):
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_recipe(path)


@pytest.mark.parametrize(
    ('content', 'expected'),
    [
        ('', {}),
        ('# nothing but a remark\n', {}),
        ('model: ä\nlr: 0.1\nscale: [0.5, 1]\n', {'model': 'ä', 'lr': 0.1, 'scale': [0.5, 1]}),
        ('base: &base {momentum: 0.5}\nopt_kwargs: {<<: *base, nesterov: true}\n', {
            'base': {'momentum': 0.5}, 'opt_kwargs': {'momentum': 0.5, 'nesterov': True},
        }),
    ],
)  # fmt: skip
def test_what_a_recipe_holds(tmp_path, content, expected):
    assert read(tmp_path / 'own.yaml', content) == expected


@pytest.mark.parametrize(
    ('content', 'says'),
    [
        (
            'lr: 0.1\nmodel: a\nlr: 0.2\n',
            "own.yaml is not plain YAML: the key 'lr' is there twice in .* line 3, column 1",
        ),
        ('opt_kwargs:\n  eps: 1\n  eps: 2\n', "own.yaml is not plain YAML: the key 'eps' is there twice"),
        ('a: [1', 'own.yaml is not plain YAML: while parsing a flow sequence'),
        ('- lr\n', 'own.yaml must hold lines of "name: value", it holds a list$'),
        ('model\n', 'own.yaml must hold lines of "name: value", it holds a str$'),
        ('lr: 0.1\n3: x\n', 'own.yaml must hold lines of "name: value", got the name 3$'),
        (b'model: \xff\n', 'own.yaml is not text in UTF-8: invalid start byte at byte 7$'),
        ('day: 2024-13-41\n', 'own.yaml is not plain YAML: month must be in 1..12'),
    ],
)
def test_what_is_wrong_with_a_recipe_is_said_on_one_line(tmp_path, content, says):
    with pytest.raises(ValueError, match=says) as caught:
        read(tmp_path / 'own.yaml', content)
    assert str(caught.value).startswith(f'recipe {tmp_path}/own.yaml ') and '\n' not in str(caught.value)


@pytest.mark.skipif(sys.platform != 'linux', reason='a file that nobody can read as text, root included')
def test_a_recipe_that_cannot_be_read_says_why():
    with pytest.raises(ValueError, match=r'^recipe /proc/self/mem: Input/output error$'):
        read_recipe('/proc/self/mem')
