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
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2

import train_patch.data.cifar_networks  # noqa: F401  # registers the CIFAR networks
from train_patch.__main__ import main
from train_patch.recipes.published import PUBLISHED
from train_patch.recipes.reader import find_recipe, shipped_recipes
from train_patch.trainer import data
from train_patch.trainer.arguments import parse_arguments
from train_patch.trainer.options import build_parser

SCRIPT = os.environ.get('TIMM_TRAIN_SCRIPT')
NETWORKS = ('resnet56', 'wrn28_2', 'preactresnet18', 'preactresnet34', 'preactresnet50')
CIFAR = {f'cifar100_{network}': f'cifar_{network}' for network in NETWORKS}
IMAGENET100 = {'imagenet100_large_crop': [0.8, 1.0], 'imagenet100_small_crop': [0.25, 0.4]}
PAPER = [*CIFAR, *IMAGENET100, 'imagenet_resnet50']
OWN = ['digits', 'fashion_mnist', 'fashion_mnist_1000']


def load(name):
    return yaml.safe_load(find_recipe(name).read_text())


@pytest.fixture(params=PAPER)
def name(request):
    return request.param


def test_all_rows_of_the_tables_ship():
    assert set(shipped_recipes()) == {*PAPER, *OWN} and set(PAPER) == set(PUBLISHED)


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


@pytest.mark.parametrize('name', ['cifar100_resnet56', 'imagenet_resnet50'])
def test_optimizer(name):
    recipe = load(name)
    with torch.device('meta'):
        model = timm.create_model(recipe['model'], num_classes=recipe['num_classes'])
    arguments = {key: recipe[key] for key in ('opt', 'lr', 'momentum', 'weight_decay')}
    optimizer = create_optimizer_v2(model, **arguments, **recipe['opt_kwargs'])
    assert type(optimizer) is torch.optim.SGD
    (group,) = optimizer.param_groups
    assert len(group['params']) == len(list(model.parameters()))
    assert group['weight_decay'] == 1e-4 and group['momentum'] == 0.9 and group['nesterov']


def test_the_settings_around_the_papers_are_those_of_the_published_cutmix(name):
    """What timm makes of them, a run below shows for CIFAR."""
    settings = {'hflip': 0.5, 'smoothing': 0.0, 'color_jitter': 0.0, 'crop_pct': 1.0}
    if name not in CIFAR:
        settings |= {'color_jitter': 0.4, 'crop_pct': 0.875}
        settings |= dict.fromkeys(('train_interpolation', 'interpolation'), 'bilinear')
    assert settings.items() <= load(name).items()


def check_parsed(options, parsed):
    for name, args in parsed.items():
        recipe = load(name)
        assert set(recipe) <= set(options), "timm's scripts take unknown keys in silence"
        assert {key: args[key] for key in recipe} == recipe
        # section 5 of the paper: α of GMix
        assert (args['mixup'], args['cutmix']) == (0, {'imagenet': 1, 'cifar100': 0.5}[recipe['mix_preset']])


def test_the_lean_script_takes_every_key():
    lines = {n: ['-c', n, '--data-dir', 'somewhere', '--mix-mode', 'gmix'] for n in shipped_recipes()}
    parsed = {name: vars(parse_arguments(line)[0]) for name, line in lines.items()}
    check_parsed([action.dest for action in build_parser()._actions], parsed)


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

    timm.data.create_loader = data.create_loader = create_loader
    main(argv)
    print(json.dumps([repr(dataset.transform) for dataset in datasets]))


# The paper's tables as printed, row by row.
TABLE_2 = {
    'none': [73.23, 73.50, 76.73, 77.68, 79.07],
    'mixup': [73.12, 74.05, 77.21, 79.02, 79.34],
    'cutmix': [74.83, 74.79, 78.66, 80.05, 81.23],
    'stochastic': [74.88, 75.49, 79.25, 81.05, 81.21],
    'hmix': [74.99, 75.68, 79.25, 81.07, 81.38],
    'gmix': [75.75, 76.15, 79.17, 80.52, 81.45],
    'puzzlemix': [None, 76.51, 79.38, 80.89, 82.46],
}
COLUMNS = ('RN56', 'WRN28-2', 'PreActRN18', 'PreActRN34', 'PreActRN50')


def test_published_numbers_are_those_of_the_paper():
    for number, (name, column) in enumerate(zip(CIFAR, COLUMNS, strict=True)):
        published = PUBLISHED[name]
        assert published.top1 == {mode: row[number] for mode, row in TABLE_2.items() if row[number]}
        where = (f'Table 2, {column}', 10_000, 1)
        assert (published.where, published.validation_images, published.processes) == where
    table_3 = PUBLISHED['imagenet_resnet50']
    assert (table_3.where, table_3.validation_images, table_3.processes) == ('Table 3', 50_000, 8)
    gains = {mode: round(top1 - 75.68, 2) for mode, top1 in table_3.top1.items()}
    assert gains == {'none': 0, 'mixup': 2.10, 'cutmix': 2.36, 'stochastic': 2.45, 'hmix': 2.70, 'gmix': 2.45}
    for number, (name, mixup, gain) in enumerate(zip(IMAGENET100, (58.3, 67.7), (6.1, -0.7), strict=True), start=1):
        published = PUBLISHED[name]
        assert set(published.top1) == {'mixup', 'cutmix'} and published.top1['mixup'] == mixup
        assert published.top1['cutmix'] - mixup == pytest.approx(gain)
        assert (published.where, published.validation_images) == (f'Table 1, scenario {number}', 5_000)
