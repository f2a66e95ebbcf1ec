"""hmix-figures as a user runs it: the files it writes, their numbers, how it ends."""

import json
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from train_patch.drawing import digit_networks as digits
from train_patch.figures import main, make_parser


def pixels(path):
    with Image.open(path) as image:
        image.load()
        assert image.format == 'PNG'
        return np.asarray(image.convert('RGB'))


def figures(*arguments):
    return main([str(argument) for argument in arguments])


def numbers(folder):
    return json.loads((folder / 'figures.json').read_text())


def test_writes_the_figures_asked_for_into_a_new_folder(tmp_path):
    folder = tmp_path / 'new' / 'folder'
    assert figures('--output', folder, '--figures', '3', '2', '3') == 0
    assert sorted(path.name for path in folder.iterdir()) == ['figure2.png', 'figure3.png', 'figures.json']
    assert list(numbers(folder)) == ['figure2', 'figure3']
    for number in (2, 3):
        image = pixels(folder / f'figure{number}.png')
        assert image.shape[1] > 1000
        assert image.std() > 20


def test_numbers_of_figures_that_are_there_are_kept(tmp_path):
    (tmp_path / 'figures.json').write_text('{"figure4": {"mixup": 1}, "figure2": "old"}')
    assert figures('--output', tmp_path, '--figures', '2') == 0
    assert list(numbers(tmp_path)) == ['figure2', 'figure4']
    assert numbers(tmp_path)['figure4'] == {'mixup': 1} and numbers(tmp_path)['figure2'] != 'old'


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
    config = timm.data.resolve_data_config({'img_size': 32}, model=model)
    dataset = timm.data.create_dataset('', root=str(image_folder), split='validation')
    dataset.transform = timm.data.create_transform(
        config['input_size'],
        interpolation=config['interpolation'],
        mean=config['mean'],
        std=config['std'],
        crop_pct=config['crop_pct'],
        crop_mode=config['crop_mode'],
    )
    expected = horizontal_products(model, [image for image, _ in dataset])
    assert found['run1/model_best.pth.tar'] == pytest.approx(expected, rel=1e-4)
    assert pixels(tmp_path / 'figure5.png').std() > 20
    progress = capsys.readouterr().err
    assert '6/6' in progress  # 16 images in batches of 3
    assert 'figure 5: run0/model_best.pth.tar: ' in progress


def test_checkpoints_of_a_comparison_need_no_more_than_their_paths(tmp_path, comparison):
    paths = [comparison / 'none' / f'seed{seed}' / 'last.pth.tar' for seed in (0, 1)]
    assert figures('--output', tmp_path / 'out', '--figures', '5', '-j', '0', '--checkpoint', *paths) == 0
    assert list(numbers(tmp_path / 'out')['figure5']) == ['seed0/last.pth.tar', 'seed1/last.pth.tar']


def test_modes_of_a_comparison_have_a_panel_each(tmp_path, comparison):
    shutil.copytree(comparison / 'none', comparison / 'cutmix')
    paths = [comparison / mode / 'seed0' / 'last.pth.tar' for mode in ('none', 'cutmix')]
    line = ['--figures', '5', '-j', '0', '--max-images', '4', '--checkpoint', *paths]
    assert figures('--output', tmp_path / 'out', *line) == 0
    assert list(numbers(tmp_path / 'out')['figure5']) == ['none/seed0/last.pth.tar', 'cutmix/seed0/last.pth.tar']


def test_figure_6_of_a_comparison(tmp_path, comparison, few_samples, capsys):
    paths = [comparison / 'none' / f'seed{seed}' / 'last.pth.tar' for seed in (0, 1)]
    line = ['--figures', '6', '-j', '0', '-b', '16', '--results', comparison / 'results.csv', '--checkpoint', *paths]
    assert figures('--output', tmp_path / 'out', *line) == 0
    found = numbers(tmp_path / 'out')['figure6']
    assert list(found['mix_modes']) == ['mixup', 'hmix', 'gmix']
    assert {name: of['gain']['value'] for name, of in found['mix_modes'].items()} == {
        'mixup': 4.5,
        'hmix': -3.0,
        'gmix': 10.0,
    }
    assert list(found['networks']) == ['seed0/last.pth.tar', 'seed1/last.pth.tar']
    for name, of in found['mix_modes'].items():
        each = [network[name]['mixing']['value'] for network in found['networks'].values()]
        assert of['mixing']['value'] == pytest.approx(np.mean(each))
        assert of['r2']['value'] > 0
    printed = capsys.readouterr().out
    assert 'Eq. 12 coefficient |' in printed and '| hmix ' in printed
    assert pixels(tmp_path / 'out' / 'figure6.png').std() > 10


def test_a_family_of_ones_own_is_in_figure_3(tmp_path, processes):
    (tmp_path / 'masks.py').write_text(
        'from hmix_timm import BoxMask, register_family\n'
        "@register_family('faint')\n"
        'def faint(size, lam, options, draws):\n'
        '    return BoxMask(lam / 2)\n'
    )
    line = ['--output', tmp_path, '--figures', '3', '--mix-families', tmp_path / 'masks.py']
    processes.module('train_patch.figures', *line).passed()
    assert numbers(tmp_path)['figure3']['mask_mean']['faint'] == pytest.approx(0.325)


def test_digits_training_learns():
    model, images, accuracy = digits.train_digits('cutmix', seed=0, epochs=3)
    assert not model.training
    assert images.shape == (797, 1, 16, 16)
    assert accuracy > 50  # of ten classes


def test_digits_training_takes_as_many_images_as_it_is_told():
    _, others, _ = digits.train_digits('none', seed=0, epochs=1, train_images=130)
    assert others.shape == (1667, 1, 16, 16)


def test_digits_training_leaves_the_generators_alone():
    torch.manual_seed(5)
    np.random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    digits.train_digits('hmix', seed=0, epochs=1)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()


OWN = ['--output', 'OUT', '--checkpoint', 'CHECKPOINT']


@pytest.fixture
def given(tmp_path, checkpoints, image_folder):
    """Words of the command lines below → what they stand for."""
    return {'OUT': tmp_path / 'figures', 'CHECKPOINT': checkpoints[0], 'IMAGES': image_folder, 'TMP': tmp_path}


def refused(arguments, given, capsys):
    try:
        status = figures(*[given.get(argument, argument) for argument in arguments])
    except SystemExit as end:
        status = end.code
    assert status == 2
    assert not given['OUT'].exists()
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ([], 'arguments are required: --output'),
        (['--output', 'OUT', '--figures', '7'], 'argument --figures: invalid choice: 7'),
        (['--output', 'OUT', '--model', 'resnet18'], '--model is for --checkpoint'),
        (['--output', 'OUT', '--split', 'train'], '--split is for --checkpoint'),
        (['--output', 'OUT', '--results', 'x.csv'], '--results is for --checkpoint'),
        (['--output', 'OUT', '--mix-families', 'no.py'], '--mix-families: no.py: there is no such file'),
        (['--output', 'OUT', '--checkpoint', 'x.pth'], '--checkpoint must be a file, got x.pth'),
        (OWN, '--checkpoint needs --model: no args.yaml beside '),
        ([*OWN, '--model', 'resnet18'], '--checkpoint needs --data-dir: no args.yaml beside '),
        ([*OWN, '--model', 'resnot', '--data-dir', 'IMAGES'], "timm knows, got 'resnot'"),
        ([*OWN, '--model', 'resnet18', '--data-dir', 'no/such'], '--data-dir must be a folder of images, got no/such'),
        ([*OWN, '--model', 'resnet18', '--data-dir', 'IMAGES', '--split', 'foo'], 'there is no folder foo in '),
        (
            [*OWN, '--model', 'resnet18', '--data-dir', 'IMAGES', '--device', 'foo'],
            '--device foo cannot be used here: ',
        ),
        ([*OWN, '--model', 'resnet18', '--data-dir', 'IMAGES', '--model-module', 'no.such'], "No module named 'no'"),
        ([*OWN, 'CHECKPOINT', '--model', 'resnet18', '--data-dir', 'IMAGES'], 'the same file twice: '),
        ([*OWN, '--figures', '1'], '--checkpoint is for Figures 5 and 6, which --figures 1 leaves out'),
        (
            [*OWN, '--model', 'resnet18', '--data-dir', 'IMAGES', '--figures', '6'],
            '--results and --figures 6 belong together',
        ),
        (
            [*OWN, '--model', 'resnet18', '--data-dir', 'IMAGES', '--figures', '6', '--results', 'no.csv'],
            '--results must be a results.csv of hmix-compare, got no.csv',
        ),
        (
            [*OWN, '--model', 'resnet18', '--data-dir', 'IMAGES', '--figures', '6', '--results', 'CHECKPOINT'],
            'model_best.pth.tar is not a results.csv',
        ),
        (['--output', 'OUT', '--img-size', '0'], '--img-size: must be a whole number >= 1, got 0'),
        (['--output', 'OUT', '--device', 'cuda:99'], '--device cuda:99 cannot be used here: '),
        (['--output', 'CHECKPOINT'], '--output must be a folder, got '),
        (['--output', '/proc/figures'], '--output: cannot write to /proc: '),
    ],
)
def test_wrong_options_end_with_status_2(arguments, message, given, capsys):
    assert message in refused(arguments, given, capsys)


def test_networks_trained_with_mixing_predict_nothing_here(comparison, tmp_path, capsys):
    path = comparison / 'none' / 'seed1' / 'args.yaml'
    path.write_text(path.read_text().replace('mix_mode: none', 'mix_mode: hmix'))
    line = ['--output', 'OUT', '--figures', '6', '--results', comparison / 'results.csv', '--checkpoint']
    given = {'OUT': tmp_path / 'figures'}
    error = refused([*line, path.parent / 'last.pth.tar'], given, capsys)
    assert f'trained without mixing, and {path.parent / "last.pth.tar"} was trained with hmix' in error


@pytest.mark.parametrize('text', ['{"figure2": ', '[]'])
def test_damaged_numbers_of_earlier_figures_are_not_written_over(tmp_path, text, capsys):
    (tmp_path / 'figures.json').write_text(text)
    with pytest.raises(SystemExit) as error:
        figures('--output', tmp_path, '--figures', '2')
    assert error.value.code == 2
    assert f'--output: {tmp_path}/figures.json is ' in capsys.readouterr().err
    assert (tmp_path / 'figures.json').read_text() == text
    assert not (tmp_path / 'figure2.png').exists()


def test_a_folder_in_place_of_a_figure_is_found_before_the_work(tmp_path, capsys):
    (tmp_path / 'figure3.png').mkdir()
    assert figures('--output', tmp_path, '--figures', '2', '3') == 2
    assert f'--output: {tmp_path}/figure3.png is a folder' in capsys.readouterr().err
    assert not (tmp_path / 'figure2.png').exists()


@pytest.mark.parametrize(
    ('given_options', 'message'),
    [
        (['--model', 'test_resnet', '--num-classes', '9'], 'does not fit test_resnet with 9 classes: '),
        (['--model', 'test_vit', '--num-classes', '4'], 'does not fit test_vit with 4 classes: '),
    ],
)
def test_a_checkpoint_that_does_not_fit_ends_in_one_line(given_options, message, given, capsys):
    line = ['--figures', '5', '--checkpoint', given['CHECKPOINT'], '--data-dir', given['IMAGES'], *given_options]
    assert figures('--output', given['OUT'], *line) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f'hmix-figures: error: --checkpoint {given["CHECKPOINT"]} {message}')
    assert not given['OUT'].exists()


def test_a_folder_without_images_ends_in_one_line(given, capsys):
    (given['TMP'] / 'empty').mkdir()
    line = ['--figures', '5', '--checkpoint', given['CHECKPOINT'], '--model', 'test_resnet', '--num-classes', '4']
    assert figures('--output', given['OUT'], *line, '--data-dir', given['TMP'] / 'empty') == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f'hmix-figures: error: cannot read the images of --data-dir {given["TMP"] / "empty"}: ')


def test_weights_that_are_not_finite_end_in_one_line(given, capsys):
    weights = torch.load(given['CHECKPOINT'], weights_only=False)['state_dict']
    torch.save({'state_dict': {key: value * float('nan') for key, value in weights.items()}}, given['CHECKPOINT'])
    line = ['--figures', '5', '--checkpoint', given['CHECKPOINT'], '--model', 'test_resnet', '--num-classes', '4']
    line += ['--img-size', '32', '-j', '0', '--data-dir', given['IMAGES']]
    assert figures('--output', given['OUT'], *line) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith('hmix-figures: error: run0/model_best.pth.tar: ') and 'Traceback' not in error


@pytest.mark.parametrize(
    'line',
    [
        '--help',
        '--version',
        '--figurs 1',
        '--output x --figures 9',
        '--output x --checkpoint none.pth',
        '--output /proc/x',
    ],
)
def test_neither_help_nor_a_typo_waits_for_torch(line):
    code = f"""
import sys
from pathlib import Path
from train_patch import figures
try:
    figures.main({line.split()})
except SystemExit:
    pass
finally:
    print('imported:', [name for name in ('torch', 'timm', 'matplotlib') if name in sys.modules])
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith('imported: []\n'), done.stderr


def test_every_option_is_explained():
    actions = make_parser()._actions
    assert all(action.help for action in actions)
    given = [action for action in actions if action.nargs != 0 and not action.required]
    assert len(given) > 10 and all('(default: ' in action.help for action in given)
    assert [action.dest for action in given if action.metavar is None and not action.choices] == ['device']


def test_help_says_what_each_figure_is(capsys):
    with pytest.raises(SystemExit):
        figures('--help')
    text = ' '.join(capsys.readouterr().out.split())
    for words in ('two moons', "in place of the paper's dog and cat", 'the formula of Eq. 11', '6 not in the paper: '):
        assert words in text


def test_a_disk_that_takes_nothing_is_found_before_the_work(tmp_path):
    # no file may grow: for every user what a full disk is
    line = f'ulimit -f 0; exec {sys.executable} -m train_patch.figures --output {tmp_path}/out'
    done = subprocess.run(['bash', '-c', line], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f'hmix-figures: error: --output: cannot write to {tmp_path}: ')
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_ends_in_one_line(tmp_path, capsys):
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, limit[1]))  # what is tried before fits, the figure does not
    try:
        assert figures('--output', tmp_path / 'out', '--figures', '2') == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == f'hmix-figures: error: cannot write {tmp_path}/out/figure2.png: File too large'
    assert list((tmp_path / 'out').iterdir()) == []


def test_ctrl_c_ends_in_one_line(tmp_path, processes):
    process = processes.module('train_patch.figures', '--output', tmp_path, '--figures', '5')
    process.wait_until(lambda: 'figure 5: training' in process.stderr)
    process.interrupt()
    assert process.wait().status == 130, process.stderr
    assert 'Traceback' not in process.stderr
    assert process.stderr.splitlines()[-1] == 'hmix-figures: interrupted'


def test_without_matplotlib_the_message_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)  # how Python marks a module that cannot be imported
    assert figures('--output', tmp_path) == 1
    assert "matplotlib not installed: pip install 'hmix-timm[demo]'" in capsys.readouterr().err


def test_what_is_drawn_without_arguments(capsys):
    found = vars(make_parser().parse_args(['--output', 'a/b']))
    assert found.pop('output') == Path('a/b') and found.pop('figures') == [1, 2, 3, 4, 5]
    defaults = {'batch_size': 64, 'workers': 2, 'device': 'cpu', 'mix_preset': 'cifar100'}
    names = 'mix_families checkpoint model model_module num_classes dataset data_dir split img_size max_images results'
    assert found == {**defaults, **dict.fromkeys(names.split())}
    with pytest.raises(SystemExit):
        make_parser().parse_args([])
    assert 'the following arguments are required: --output' in capsys.readouterr().err


def test_options_have_their_kinds():
    def parsed(*line):
        found = vars(make_parser().parse_args(['--output', 'x', *line]))
        return found[line[0].strip('-').replace('-', '_')]

    for name, low in {'num-classes': 1, 'img-size': 1, 'max-images': 1, 'batch-size': 1, 'workers': 0}.items():
        assert parsed(f'--{name}', str(low)) == low
        for wrong in (str(low - 1), '1.5'):
            with pytest.raises(SystemExit):
                parsed(f'--{name}', wrong)
    for name in ('data-dir', 'results'):
        assert parsed(f'--{name}', 'a') == Path('a')
    assert parsed('--checkpoint', 'a', 'b') == [Path('a'), Path('b')]
    for name in ('model', 'model-module', 'dataset', 'split', 'device'):
        assert parsed(f'--{name}', 'a') == 'a'
    assert parsed('--figures', '6', '1') == [6, 1] and parsed('--mix-preset', 'imagenet') == 'imagenet'
    for line in (('--figures', '0'), ('--figures', '7'), ('--mix-preset', 'x')):
        with pytest.raises(SystemExit):
            parsed(*line)
