"""Checkpoints and images of users: what they are called, what is loaded, how what cannot be loaded is refused."""

import argparse
import os

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from train_patch.common.errors import RunError
from train_patch.drawing.trained import checkpoint_names, load_images, load_model, run_settings, split_folder

CONFIG = {
    'input_size': (3, 24, 24),
    'interpolation': 'bicubic',
    'mean': (0.1, 0.2, 0.3),
    'std': (0.5, 0.6, 0.7),
    'crop_pct': 0.9,
    'crop_mode': 'center',
}


def arguments(**given):
    defaults = dict(model=None, num_classes=None, img_size=None, device='cpu', dataset=None, data_dir=None, split=None)
    return argparse.Namespace(**{**defaults, 'max_images': None, 'batch_size': 3, 'workers': 0, **given})


def files(root, *names):
    paths = [root / name for name in names]
    for index, path in enumerate(paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bytes([index]))
    return paths


def test_names_are_two_parts_of_the_path(tmp_path):
    assert checkpoint_names(files(tmp_path, 'a/x.pth', 'b/x.pth')) == ['a/x.pth', 'b/x.pth']


def test_names_are_as_much_of_the_path_as_tells_them_apart(tmp_path):
    paths = files(tmp_path, 'none/seed0/last.pth.tar', 'cutmix/seed0/last.pth.tar', 'none/seed1/last.pth.tar')
    assert checkpoint_names(paths) == [
        'none/seed0/last.pth.tar',
        'cutmix/seed0/last.pth.tar',
        'none/seed1/last.pth.tar',
    ]


def test_names_of_relative_paths_reach_above_the_folder(tmp_path, monkeypatch):
    first, _ = files(tmp_path, 'one/run/x.pth', 'two/run/x.pth')
    monkeypatch.chdir(first.parent)
    relative = [type(first)('x.pth'), type(first)('../../two/run/x.pth')]
    assert len(set(checkpoint_names(relative))) == 2


@pytest.mark.parametrize('link', ['same', os.symlink, os.link])
def test_the_same_file_twice_is_refused(tmp_path, link):
    (path,) = files(tmp_path, 'a/x.pth')
    other = path
    if link != 'same':
        other = tmp_path / 'y.pth'
        link(path, other)
    with pytest.raises(ValueError, match='the same file twice: '):
        checkpoint_names([path, other])


def test_settings_are_those_of_the_run_beside_the_checkpoint(tmp_path):
    (path,) = files(tmp_path, 'run/x.pth')
    assert run_settings(path) == {}
    (tmp_path / 'run' / 'args.yaml').write_text('model: resnet18\nlr: 0.1\n')
    assert run_settings(path) == {'model': 'resnet18', 'lr': 0.1}


@pytest.mark.parametrize('text', ['- a list', 'model: [', '', '\x00'])
def test_damaged_settings_are_refused_by_name(tmp_path, text):
    (path,) = files(tmp_path, 'run/x.pth')
    (tmp_path / 'run' / 'args.yaml').write_text(text)
    with pytest.raises(ValueError, match=r'run/args\.yaml (holds no settings|cannot be read: )'):
        run_settings(path)


def test_the_split_is_the_one_named_or_validation_or_the_folder_itself(tmp_path):
    for name in ('train/cat', 'val/cat', 'test/cat', 'plain/cat', 'plain/dog'):
        (tmp_path / name).mkdir(parents=True)
    assert split_folder(tmp_path, 'test') == tmp_path / 'test'
    assert split_folder(tmp_path, None) == tmp_path / 'val'
    assert split_folder(tmp_path / 'plain', None) == tmp_path / 'plain'


def test_a_split_that_is_not_there_is_refused(tmp_path):
    for name in ('train', 'val'):
        (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match=r'there is no folder foo in .*: it holds train, val$'):
        split_folder(tmp_path, 'foo')
    (tmp_path / 'val').rmdir()
    with pytest.raises(ValueError, match=r'there is no validation split in .*it holds train$'):
        split_folder(tmp_path, None)


def test_weights_and_data_configuration_are_the_checkpoints(checkpoints):
    args = arguments(model='test_resnet', num_classes=4, img_size=48)
    model, config = load_model(args, checkpoints[1], {'mean': [0.1, 0.1, 0.1], 'input_size': [3, 32, 32]})
    saved = torch.load(checkpoints[1], weights_only=False)['state_dict']
    assert all(torch.equal(value, saved[key]) for key, value in model.state_dict().items())
    assert not model.training
    assert config['input_size'] == (3, 48, 48) and config['mean'] == (0.1, 0.1, 0.1)


def test_the_run_says_what_the_command_line_does_not(comparison):
    path = comparison / 'none' / 'seed0' / 'last.pth.tar'
    model, config = load_model(arguments(), path, run_settings(path))
    assert model(torch.zeros(1, 1, 32, 32)).shape == (1, 4)
    assert config['input_size'] == (1, 32, 32) and config['std'] == (0.2,)


@pytest.mark.parametrize(
    ('given', 'message'),
    [
        (
            {'num_classes': 7},
            r'7 classes: fc\.weight is \(7, \d+\) in the model and \(4, \d+\) in the file, and 1',
        ),
        ({'model': 'test_vit', 'num_classes': 4}, 'does not fit test_vit with 4 classes: .* and not there in the file'),
        ({'model': 'no_such_model'}, 'timm cannot make the model no_such_model for '),
    ],
)
def test_a_checkpoint_of_another_model_is_refused_in_one_line(checkpoints, given, message):
    with pytest.raises(RunError, match=message) as error:
        load_model(arguments(**{'model': 'test_resnet', **given}), checkpoints[0], {})
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('damage', ['cut', 'empty', 'text', 'list'])
def test_a_damaged_checkpoint_is_refused_in_one_line(checkpoints, damage):
    content = checkpoints[0].read_bytes()
    damaged = {'cut': content[: len(content) // 2], 'empty': b'', 'text': b'no checkpoint at all'}
    if damage == 'list':
        torch.save([1, 2], checkpoints[0])
    else:
        checkpoints[0].write_bytes(damaged[damage])
    with pytest.raises(RunError, match=r'model_best\.pth\.tar cannot be read as a checkpoint: ') as error:
        load_model(arguments(model='test_resnet', num_classes=4), checkpoints[0], {})
    assert '\n' not in str(error.value)


@pytest.fixture
def grey_levels(tmp_path):
    """An image folder of three classes with 2, 5 and 3 images; each image has one grey level of its own."""
    for level, name in enumerate(['a/0', 'a/1', *(f'b/{i}' for i in range(5)), *(f'c/{i}' for i in range(3))]):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.full((32, 40, 3), 20 * level, np.uint8)).save(tmp_path / f'{name}.png')
    return tmp_path


def levels(loader, config=CONFIG):
    """Grey levels and labels in the order of the loader."""
    images, labels = zip(*loader, strict=True)
    found = torch.cat(images)[:, 1, 0, 0] * config['std'][1] + config['mean'][1]
    return (found * 255 / 20).round().int().tolist(), torch.cat(labels).tolist()


def test_images_are_normalized_and_labelled(grey_levels):
    loader = load_images(arguments(data_dir=grey_levels), {}, CONFIG)
    assert [len(images) for images, _ in loader] == [3, 3, 3, 1]
    first = next(iter(loader))[0][2]
    expected = (torch.tensor(40 / 255) - torch.tensor(CONFIG['mean'])) / torch.tensor(CONFIG['std'])
    torch.testing.assert_close(first, expected.view(3, 1, 1).expand(3, 24, 24), atol=1e-6, rtol=0)
    assert levels(loader) == (list(range(10)), [0] * 2 + [1] * 5 + [2] * 3)


def test_few_images_are_spread_over_the_classes(grey_levels):
    found, labels = levels(load_images(arguments(data_dir=grey_levels, max_images=4), {}, CONFIG))
    assert found == [0, 3, 6, 9] and labels == [0, 1, 1, 2]


def test_shuffled_images_are_the_same_in_one_arbitrary_order(grey_levels):
    loaders = [load_images(arguments(data_dir=grey_levels, max_images=9), {}, CONFIG, shuffled=True) for _ in range(2)]
    (first, labels), (second, _) = map(levels, loaders)
    straight = levels(load_images(arguments(data_dir=grey_levels, max_images=9), {}, CONFIG))
    assert first == second == levels(loaders[0])[0]
    assert first != straight[0]
    assert sorted(zip(first, labels, strict=True)) == sorted(zip(*straight, strict=True))


def test_the_images_are_those_of_timms_own_evaluation(image_folder):
    loader = load_images(arguments(data_dir=image_folder, batch_size=16), {}, CONFIG)
    dataset = timm.data.create_dataset('', root=str(image_folder), split='validation')
    timms = timm.data.create_loader(
        dataset, batch_size=16, num_workers=0, persistent_workers=False, device=torch.device('cpu'), **CONFIG
    )
    (images, labels), (expected, expected_labels) = next(iter(loader)), next(iter(timms))
    torch.testing.assert_close(images, expected, atol=0.02, rtol=0)  # timm's loader rounds to grey levels
    assert torch.equal(labels, expected_labels)


def test_a_data_set_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(RunError, match=f'cannot read the images of --data-dir {tmp_path}: '):
        load_images(arguments(dataset='torch/fashion_mnist', data_dir=tmp_path), {}, CONFIG)


def test_grey_images_are_read_as_one_channel(grey_levels):
    config = {**CONFIG, 'input_size': (1, 24, 24), 'mean': (0.5,), 'std': (0.25,)}
    images, _ = next(iter(load_images(arguments(data_dir=grey_levels), {}, config)))
    assert images.shape == (3, 1, 24, 24)
    torch.testing.assert_close(images[2], torch.full((1, 24, 24), (40 / 255 - 0.5) / 0.25))


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(RunError, match='cannot read the images of --data-dir'):
        load_images(arguments(data_dir=tmp_path), {}, CONFIG)


def test_a_data_set_of_another_kind_is_made_by_timm(image_folder):
    settings = {'dataset': 'torch/image_folder', 'data_dir': str(image_folder)}
    validation = load_images(arguments(), settings, CONFIG)
    assert type(validation.dataset.dataset).__module__.startswith('torchvision.') and len(validation.dataset) == 16
    assert len(load_images(arguments(split='train'), settings, CONFIG).dataset) == 32
    named = arguments(dataset='torch/image_folder', data_dir=image_folder / 'train')
    assert len(load_images(named, {'data_dir': 'nowhere'}, CONFIG).dataset) == 32
    folder = load_images(arguments(dataset='folder'), settings, CONFIG)
    assert isinstance(folder.dataset.dataset, timm.data.ImageDataset) and len(folder.dataset) == 16


def test_the_validation_split_has_timms_names_in_timms_order(tmp_path):
    for name in ('evaluation', 'eval', 'valid', 'val', 'validation'):
        (tmp_path / name).mkdir()
        assert split_folder(tmp_path, None) == tmp_path / name


def test_no_more_than_eight_folders_are_named(tmp_path):
    for index in range(9):
        with pytest.raises(ValueError, match='it holds no folders$' if index == 0 else f'a{index - 1}$'):
            split_folder(tmp_path, 'b')
        (tmp_path / f'a{index}').mkdir()
    with pytest.raises(ValueError, match=r': it holds a0, a1, a2, a3, a4, a5, a6, a7, …$'):
        split_folder(tmp_path, 'b')
    with pytest.raises(ValueError, match=r'there is no folder b in .*: it holds no folders$'):
        split_folder(tmp_path / 'missing', 'b')


def test_settings_that_cannot_be_read_say_why(tmp_path):
    (path,) = files(tmp_path, 'run/x.pth')
    (tmp_path / 'run' / 'args.yaml').write_text('model: [')
    with pytest.raises(ValueError, match=r'run/args\.yaml cannot be read: while parsing'):
        run_settings(path)


def test_the_command_line_goes_before_the_run(checkpoints):
    settings = {'model': 'no_such_model', 'num_classes': 7, 'img_size': 40, 'input_size': [3, 32, 32]}
    model, config = load_model(arguments(model='test_resnet', num_classes=4), checkpoints[0], settings)
    assert model.num_classes == 4 and config['input_size'] == (3, 32, 32)
    more = {**settings, 'model': 'test_resnet', 'num_classes': 4, 'model_kwargs': {'drop_rate': 0.25}}
    assert load_model(arguments(), checkpoints[0], more)[0].drop_rate == 0.25
