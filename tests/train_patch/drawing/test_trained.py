"""Checkpoints and images of users: names, settings, the models and images that are loaded."""

import argparse

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image

from train_patch.common.errors import RunError, WrongArguments
from train_patch.drawing.trained import checkpoint_names, load_images, load_model, read_runs

CONFIG = {
    'input_size': (3, 24, 24),
    'interpolation': 'bicubic',
    'mean': (0.1, 0.2, 0.3),
    'std': (0.5, 0.6, 0.7),
    'crop_pct': 0.9,
    'crop_mode': 'center',
}


def arguments(*checkpoint, **given):
    options = dict.fromkeys(('model', 'num_classes', 'img_size', 'dataset', 'data_dir', 'split', 'max_images'))
    return argparse.Namespace(**{**options, 'checkpoint': checkpoint, 'batch_size': 3, 'workers': 0, **given})


def folders(root, *names):
    for name in names:
        (root / name).mkdir(parents=True)


@pytest.mark.parametrize(
    ('paths', 'names'),
    [
        (['a/x.pth'], ['a/x.pth']),
        (['a/x.pth', 'b/x.pth'], ['a/x.pth', 'b/x.pth']),
        (['none/seed0/x.pth', 'none/seed1/x.pth'], ['seed0/x.pth', 'seed1/x.pth']),
        (
            ['none/seed0/x.pth', 'cutmix/seed0/x.pth', 'none/seed1/x.pth'],
            ['none/seed0/x.pth', 'cutmix/seed0/x.pth', 'none/seed1/x.pth'],
        ),
    ],
)
def test_names_are_as_much_of_the_paths_as_tells_them_apart(tmp_path, monkeypatch, paths, names):
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    monkeypatch.chdir(tmp_path / paths[0].rpartition('/')[0])
    relative = type(tmp_path)('x.pth')
    assert checkpoint_names([tmp_path / path for path in paths]) == names
    assert checkpoint_names([relative, *(tmp_path / path for path in paths[1:])]) == names


def test_options_go_before_the_args_yaml_beside_a_checkpoint_and_that_is_said(
    comparison, image_folder, tmp_path, capsys
):
    runs = read_runs(arguments(*comparison.values()))
    assert list(runs) == ['none/seed0/last.pth.tar', 'cutmix/seed0/last.pth.tar']
    settings = runs['cutmix/seed0/last.pth.tar']
    model, config = load_model(settings, 'cpu')
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 4) and not model.training and model.drop_rate == 0.25
    assert config['input_size'] == (1, 32, 32) and config['std'] == (0.2,)
    folders(tmp_path, 'other')
    typed = {'model': 'test_vit', 'num_classes': 4, 'img_size': 48, 'data_dir': tmp_path / 'other'}
    (settings,) = read_runs(arguments(comparison['none'], **typed)).values()
    assert typed.items() <= settings.items() and settings['mean'] == [0.4]
    assert load_model({**settings, 'model': 'test_resnet'}, 'cpu')[1]['input_size'] == (1, 48, 48)
    said = f'--model test_vit in place of test_resnet, --img-size 48 in place of 32, --data-dir {tmp_path / "other"} in'
    assert capsys.readouterr().out.startswith(f'seed0/last.pth.tar: {said} place of {image_folder} in args.yaml')


def test_what_a_training_changed_of_its_model_and_its_images_is_taken_over(comparison, image_folder):
    beside = comparison['none'].parent / 'args.yaml'
    more = {'data_dir': None, 'data': str(image_folder), 'val_split': 'train', 'gp': 'max'}
    beside.write_text(yaml.safe_dump({**yaml.safe_load(beside.read_text()), **more, 'class_map': 'x.pkl'}))
    given = arguments(comparison['none'])
    (settings,) = read_runs(given).values()
    model, config = load_model(settings, 'cpu')
    assert model.global_pool.pool_type == 'max'
    assert len(load_images(settings, config, given).dataset) == 32, 'the split that it validated on'
    assert 'class_map' not in settings, 'a pickle would run code'


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('- a list', 'args.yaml must hold lines of "name: value"'),
        ('model: [', 'args.yaml is not plain YAML'),
        ('dataset: hfds/some', 'names hfds/some: give it as --dataset'),
    ],
)
def test_an_args_yaml_that_cannot_be_used_is_named(checkpoints, text, message):
    (checkpoints[0].parent / 'args.yaml').write_text(text)
    with pytest.raises(WrongArguments, match=f'^--checkpoint: .*{message}'):
        read_runs(arguments(checkpoints[0]))


@pytest.mark.parametrize(
    ('there', 'split', 'root'),
    [
        (['train', 'val', 'test'], 'test', 'test'),
        (['train', 'val', 'validation'], None, 'validation'),
        (['train', 'eval'], None, 'eval'),
        (['cat', 'dog'], None, ''),
        (['train', 'val'], 'foo', None),
        (['train'], None, None),
    ],
)
def test_the_images_are_those_of_the_split_named_or_of_validation_or_of_the_whole_folder(
    checkpoints, tmp_path, there, split, root
):
    for name in there:
        folders(tmp_path, f'data/{name}/class')
        Image.new('RGB', (40, 40), len(name)).save(tmp_path / 'data' / name / 'class' / f'{name}.png')
    given = arguments(checkpoints[0], model='test_resnet', data_dir=tmp_path / 'data', split=split)
    if root is None:
        with pytest.raises(WrongArguments, match=f'--split: there is no folder {split or "validation or"}'):
            read_runs(given)
    else:
        (settings,) = read_runs(given).values()
        loader = load_images(settings, CONFIG, given)
        assert len(loader.dataset) == (1 if root else 2)
        names = loader.dataset.dataset.filenames(basename=True)
        assert names == [f'{root}.png'] if root else names == ['cat.png', 'dog.png']


def test_weights_and_data_configuration_are_the_checkpoints(checkpoints):
    settings = {'model': 'test_resnet', 'num_classes': 4, 'img_size': 48, 'mean': [0.1, 0.1, 0.1]}
    model, config = load_model({**settings, 'checkpoint': checkpoints[1]}, 'cpu')
    saved = torch.load(checkpoints[1], weights_only=False)['state_dict']
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())
    assert config['input_size'] == (3, 48, 48) and config['mean'] == (0.1, 0.1, 0.1)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        ({'num_classes': 7}, r'cannot be used for test_resnet with 7 classes: .*size mismatch for fc\.weight'),
        ({'model': 'test_vit'}, r'cannot be used for test_vit with 4 classes: .*Missing key'),
        ({'model_kwargs': 'text'}, 'timm cannot make the model test_resnet for '),
        ({'model_kwargs': {'no_such': 1}}, 'timm cannot make the model test_resnet for '),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_in_one_line(checkpoints, given, message):
    settings = {'model': 'test_resnet', 'num_classes': 4, 'checkpoint': checkpoints[0], **given}
    with pytest.raises(RunError, match=message) as error:
        load_model(settings, 'cpu')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('content', [b'', b'no checkpoint at all', 'half', [1, 2]])
def test_a_damaged_checkpoint_is_refused_in_one_line(checkpoints, content):
    path = checkpoints[0]
    if isinstance(content, list):
        torch.save(content, path)
    else:
        path.write_bytes(path.read_bytes()[:5000] if content == 'half' else content)
    with pytest.raises(RunError, match=r'model_best\.pth\.tar cannot be used for test_resnet with 4 ') as error:
        load_model({'model': 'test_resnet', 'num_classes': 4, 'checkpoint': path}, 'cpu')
    assert '\n' not in str(error.value)


@pytest.fixture
def grey_levels(tmp_path):
    """An image folder of three classes with 2, 5 and 3 images; each image has one grey level of its own."""
    for level, name in enumerate(['a/0', 'a/1', *(f'b/{i}' for i in range(5)), *(f'c/{i}' for i in range(3))]):
        (tmp_path / 'grey' / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(np.full((32, 40, 3), 20 * level, np.uint8)).save(tmp_path / 'grey' / f'{name}.png')
    return {'data_dir': tmp_path / 'grey'}


@pytest.mark.parametrize(
    ('count', 'expected'), [(None, list(range(10))), (20, list(range(10))), (4, [0, 3, 6, 9]), (1, [0])]
)
def test_images_are_normalized_and_some_of_them_are_spread_over_the_classes(grey_levels, count, expected):
    loader = load_images(grey_levels, CONFIG, arguments(max_images=count))
    found = torch.cat([images for images, _ in loader])
    levels = (torch.tensor(expected).view(-1, 1) * 20 / 255 - torch.tensor(CONFIG['mean'])) / torch.tensor(
        CONFIG['std']
    )
    torch.testing.assert_close(found, levels[:, :, None, None].expand(-1, 3, 24, 24), atol=1e-6, rtol=0)


def test_grey_images_are_read_as_one_channel(grey_levels):
    config = {**CONFIG, 'input_size': (1, 24, 24), 'mean': (0.5,), 'std': (0.25,)}
    images, _ = next(iter(load_images(grey_levels, config, arguments())))
    torch.testing.assert_close(images[2], torch.full((1, 24, 24), (40 / 255 - 0.5) / 0.25))


def test_the_images_are_those_of_timms_own_evaluation(image_folder):
    loader = load_images({'data_dir': image_folder}, CONFIG, arguments(batch_size=16))
    dataset = timm.data.create_dataset('', root=str(image_folder), split='validation')
    timms = timm.data.create_loader(
        dataset, batch_size=16, num_workers=0, persistent_workers=False, device=torch.device('cpu'), **CONFIG
    )
    (images, labels), (expected, expected_labels) = next(iter(loader)), next(iter(timms))
    torch.testing.assert_close(images, expected, atol=0.02, rtol=0)  # timm's loader rounds to grey levels
    assert torch.equal(labels, expected_labels)


def test_a_data_set_of_another_kind_is_made_by_timm(image_folder):
    settings = {'dataset': 'torch/image_folder', 'data_dir': image_folder}
    validation = load_images(settings, CONFIG, arguments())
    assert type(validation.dataset.dataset).__module__.startswith('torchvision.') and len(validation.dataset) == 16
    assert len(load_images({**settings, 'split': 'train'}, CONFIG, arguments()).dataset) == 32


@pytest.mark.parametrize('dataset', ['', 'torch/fashion_mnist'])
def test_data_that_are_not_there_are_refused(tmp_path, dataset):
    with pytest.raises(RunError, match=f'cannot read the images of --data-dir {tmp_path}: '):
        load_images({'dataset': dataset, 'data_dir': tmp_path}, CONFIG, arguments())
