"""hmix-figures as a user runs it: the files it writes, their numbers, how it ends."""

import json
import os
import resource
import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import timm
import torch
from PIL import Image

from train_patch.common.files import locked_folder
from train_patch.figures import main, read_arguments


def figures(*arguments):
    """The exit status."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code


def numbers(folder):
    return json.loads((folder / 'figures.json').read_text())


def test_the_figures_asked_for_are_written_into_a_new_folder_with_a_family_of_ones_own(tmp_path, processes):
    folder, family = tmp_path / 'new' / 'folder', tmp_path / 'masks.py'
    family.write_text(
        'from hmix_timm import BoxMask, register_family\n'
        "@register_family('faint')\n"
        'def faint(size, lam, options, draws):\n'
        '    return BoxMask(lam / 2)\n'
    )
    line = ['--output', folder, '--figures', 3, 2, 3, '--mix-families', family]
    done = processes.module('train_patch.figures', *line).passed()
    assert sorted(path.name for path in folder.iterdir()) == ['figure2.png', 'figure3.png', 'figures.json']
    assert list(numbers(folder)) == ['figure2', 'figure3']
    named = [line.split(' (')[0] for line in done.stdout.splitlines()]
    assert named == [f'{folder}/figure2.png', f'{folder}/figure3.png', f'{folder}/figures.json']
    assert numbers(folder)['figure3']['mask_mean']['faint'] == pytest.approx(0.325)
    for number in (2, 3):
        with Image.open(folder / f'figure{number}.png') as image:
            assert image.format == 'PNG' and image.width > 1000 and np.asarray(image.convert('RGB')).std() > 20


@pytest.mark.parametrize('text', ['{"figure2": ', '[]'])
def test_damaged_numbers_of_earlier_figures_are_not_written_over(tmp_path, text, capsys):
    (tmp_path / 'figures.json').write_text(text)
    assert figures('--output', tmp_path, '--figures', '2') == 2
    assert f'--output: {tmp_path}/figures.json ' in capsys.readouterr().err
    assert [path.read_text() for path in tmp_path.iterdir()] == [text]


def horizontal_products(model, images):
    """Eq. 12 along the x axis for each image, by autograd and numpy alone; the mean over images."""
    total = dict.fromkeys((0, 1, 2, 4, 8, 16), 0.0)
    for image in images:
        x = image[None].clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(model(x).max(), x)
        norms = gradient[0].double().norm(dim=0).numpy()
        norms /= np.linalg.norm(norms)
        for d in total:
            total[d] += (norms[:, : 32 - d] * norms[:, d:]).max() / len(images)
    return {str(d): value for d, value in total.items()}


def test_figure_5_of_checkpoints(tmp_path, image_folder, checkpoints, capsys):
    line = ['--figures', '5', '--model', 'test_resnet', '--num-classes', '4', '--img-size', '32', '-b', '3', '-j', '0']
    assert figures('--output', tmp_path, *line, '--data-dir', image_folder, '--checkpoint', *checkpoints) == 0
    found = numbers(tmp_path)['figure5']
    assert list(found) == [f'run{run}/model_best.pth.tar' for run in range(3)]
    assert found['run0/model_best.pth.tar'] == found['run2/model_best.pth.tar']
    model = timm.create_model('test_resnet', num_classes=4).eval()
    model.load_state_dict(torch.load(checkpoints[1], weights_only=False)['state_dict'])
    dataset = timm.data.create_dataset('', root=str(image_folder), split='validation')
    dataset.transform = timm.data.create_transform(**timm.data.resolve_data_config({'img_size': 32}, model=model))
    expected = horizontal_products(model, [image for image, _ in dataset])
    assert found['run1/model_best.pth.tar'] == pytest.approx(expected, rel=1e-4)
    progress = capsys.readouterr().err
    assert 'figure 5: run0/model_best.pth.tar: ' in progress and '6/6' in progress  # 16 images in batches of 3


def test_checkpoints_of_a_comparison_need_no_more_than_their_paths(tmp_path, comparison):
    beside = comparison['cutmix'].parent / 'args.yaml'  # a mode of the comparison with an r of its own
    beside.write_text(f'{beside.read_text()}mix_mode: hmix\nhmix_ratio: 0.3\nmix_families: /no/such.py\n')
    line = ['--output', tmp_path / 'out', '-j', '0', '--max-images', '4', '--checkpoint', *comparison.values()]
    assert figures(*line, '--figures', '5') == 0
    assert list(numbers(tmp_path / 'out')['figure5']) == ['none/seed0/last.pth.tar', 'cutmix/seed0/last.pth.tar']
    mixings = read_arguments([*map(str, line), '--figures', '3', '5']).mixings
    assert mixings[3]['hmix'].values['hmix_ratio'] == 0.3


OWN = ['--checkpoint', 'CHECKPOINT', '--figures', '5', '-j', '0', '--img-size', '32', '--num-classes', '4']
RESNET = [*OWN, '--model', 'test_resnet']


@pytest.fixture
def given(tmp_path, checkpoints, image_folder):
    """Words of the command lines below → what they stand for."""
    (tmp_path / 'empty').mkdir()
    nan = tmp_path / 'run1' / 'nan.pth'
    weights = torch.load(checkpoints[1], weights_only=False)['state_dict']
    torch.save({key: value * float('nan') for key, value in weights.items()}, nan)
    return {'CHECKPOINT': checkpoints[0], 'NAN': nan, 'IMAGES': image_folder, 'EMPTY': tmp_path / 'empty'}


@pytest.mark.parametrize(
    ('arguments', 'status', 'message'),
    [
        (['--figures', '7'], 2, 'argument --figures: invalid choice: 7'),
        (['--model', 'resnet18'], 2, '--model is for --checkpoint'),
        (['--max-images', '1'], 2, '--max-images is for --checkpoint'),
        (['-j', '0'], 2, '--workers is for --checkpoint'),
        (['--device', 'cuda'], 2, '--device is for --checkpoint'),
        (['--mix-families', 'no.py'], 2, '--mix-families no.py: there is no such file'),
        (['--figures', '1', '2', '--hmix-ratio', '1'], 2, '--hmix-ratio has no effect on --figures 1 2'),
        (['--figures', '3', '4', '--mix-alpha', '1'], 2, '--mix-alpha has no effect on --figures 3 4'),
        (['--figures', '2', '-c', 'digits'], 2, '--config has no effect on --figures 2'),
        (['--figures', '5', '--hmix-ratio', '1'], 2, '--hmix-ratio has no effect on any of --figures 5'),
        ([*RESNET, '--data-dir', 'IMAGES', '--device', 'cuda:99'], 2, '--device cuda:99: there are '),
        (['--output', 'CHECKPOINT'], 2, '--output must be a folder, got '),
        (['--checkpoint', 'x.pth'], 2, '--checkpoint must be a file, got x.pth'),
        (OWN, 2, '--checkpoint needs --model: no args.yaml beside '),
        (RESNET, 2, '--checkpoint needs --data-dir: no args.yaml beside '),
        ([*RESNET, '--figures', '1'], 2, '--checkpoint is for Figure 5, which --figures 1 leaves out'),
        ([*RESNET, '--data-dir', 'no/such'], 2, '--data-dir must be a folder of images, got no/such'),
        ([*RESNET, '--data-dir', 'IMAGES', '--split', 'foo'], 2, '--split: there is no folder foo in '),
        ([*RESNET, '--data-dir', 'IMAGES', '--model-module', 'no.such'], 2, "--model-module: No module named 'no'"),
        (
            [*OWN, '--data-dir', 'IMAGES', '--model', 'resnot'],
            2,
            "--model must be a model that timm knows, got 'resnot'",
        ),
        ([*RESNET, '--data-dir', 'EMPTY'], 1, 'cannot read the images of --data-dir '),
        ([*RESNET, '--data-dir', 'IMAGES', '--num-classes', '9'], 1, 'cannot be used for test_resnet with 9 classes: '),
        (
            [*RESNET, '--data-dir', 'IMAGES', '--checkpoint', 'NAN'],
            1,
            'run1/nan.pth: the gradient of the largest logit',
        ),
    ],
)
def test_an_error_that_the_user_can_fix_ends_in_one_line(arguments, status, message, given, tmp_path, capsys):
    assert figures('--output', tmp_path / 'out', *[given.get(word, word) for word in arguments]) == status
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith('hmix-figures: error: ') and message in last
    assert not (tmp_path / 'out').exists()


def test_a_folder_in_place_of_a_figure_is_found_before_the_work(tmp_path, capsys):
    (tmp_path / 'figure3.png').mkdir()
    assert figures('--output', tmp_path, '--figures', '2', '3') == 2
    assert f'--output: {tmp_path}/figure3.png is a folder' in capsys.readouterr().err
    assert not (tmp_path / 'figure2.png').exists()


def test_a_disk_that_fills_up_ends_in_one_line(tmp_path, capsys):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limit[1]))  # a few bytes still fit, the figure does not
    try:
        assert figures('--output', tmp_path / 'out', '--figures', '2') == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == f'hmix-figures: error: cannot write {tmp_path}/out/figure2.png: File too large'
    assert list(numbers(tmp_path / 'out')) == ['figure2'], 'a figure that fails costs no numbers'
    assert [path.name for path in (tmp_path / 'out').iterdir()] == ['figures.json']


def test_a_plot_that_fails_costs_no_numbers(tmp_path):
    with matplotlib.rc_context({'figure.subplot.left': 0.8, 'figure.subplot.right': 0.7}), pytest.raises(ValueError):
        figures('--output', tmp_path, '--figures', '2')
    assert list(numbers(tmp_path)) == ['figure2']


@pytest.mark.skipif(sys.platform != 'linux', reason='looks into /proc')
def test_numbers_that_are_there_are_kept_also_those_of_another_call_at_the_same_time(tmp_path, processes):
    def opened(pid):
        return [os.path.realpath(file) for file in Path(f'/proc/{pid}/fd').iterdir()]

    with locked_folder(tmp_path):  # as another call holds it while it reads, changes and writes
        call = processes.module('train_patch.figures', '--output', tmp_path, '--figures', 2)
        call.wait_until(lambda: str(tmp_path) in opened(call.pid))
        (tmp_path / 'figures.json').write_text('{"figure3": "of the other call", "figure2": "old"}')
    call.passed()
    assert list(numbers(tmp_path)) == ['figure2', 'figure3']
    assert numbers(tmp_path)['figure3'] == 'of the other call' and numbers(tmp_path)['figure2'] != 'old'
