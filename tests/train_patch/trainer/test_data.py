"""Images of a run: which data sets timm is asked for, what is checked before them, how they are read and drawn."""

import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import AugMixDataset, ImageDataset, create_dataset
from timm.data.readers.reader import Reader

from train_patch.trainer import data
from train_patch.trainer.arguments import WrongArguments
from train_patch.trainer.data import (
    EpochSeeded,
    StrictImageDataset,
    UnreadableImage,
    check_classes,
    check_data_folder,
    check_num_classes,
    class_indices,
    draw_seed,
    load_datasets,
    strict,
)

from .test_loop import arguments

# What timm is asked for


@pytest.fixture
def asked(monkeypatch):
    """asked('line') → what `create_dataset` was called with, for training and for validation."""

    def run(line):
        calls = []
        monkeypatch.setattr(data, 'create_dataset', lambda name, **kwargs: calls.append({'name': name, **kwargs}))
        load_datasets(arguments(line))
        return calls

    return run


def test_timm_is_asked_for_what_the_options_say(asked):
    line = '--dataset hfds/x --data-dir folder --train-split a --val-split b --train-num-samples 5 --val-num-samples 7 '
    line += '--dataset-download --class-map map.txt --input-img-mode L --in-chans 1 --input-key i --target-key t -b 9 '
    train, validation = asked(f'{line} --seed 3 --epoch-repeats 2.5')
    shared = {
        'name': 'hfds/x',
        'root': 'folder',
        'class_map': 'map.txt',
        'download': True,
        'batch_size': 9,
        'input_img_mode': 'L',
        'input_key': 'i',
        'target_key': 't',
    }
    repeated = {'seed': 3, 'repeats': 2.5}
    assert train == {**shared, **repeated, 'split': 'a', 'is_training': True, 'num_samples': 5}
    assert validation == {**shared, 'split': 'b', 'is_training': False, 'num_samples': 7}


def test_without_options_timm_is_asked_for_its_defaults(asked, image_folder):
    train, validation = asked(f'--data-dir {image_folder}')
    for found, split in ((train, 'train'), (validation, 'validation')):
        assert (found['name'], found['split'], found['input_img_mode']) == ('', split, 'RGB')
        assert (found['download'], found['class_map'], found['num_samples']) == (False, '', None)


def test_without_a_validation_split_there_is_no_validation(asked, image_folder):
    assert [call['split'] for call in asked(f'--data-dir {image_folder} --val-split ""')] == ['train']


def test_loaded_data_sets_are_read_strictly(image_folder):
    train, validation = load_datasets(arguments(f'--data-dir {image_folder} --num-classes 4'))
    assert type(train) is type(validation) is StrictImageDataset
    assert (len(train), len(validation)) == (32, 16)
    assert [train[i][1] for i in (0, 8, 31)] == [0, 1, 3]
    assert load_datasets(arguments(f'--data-dir {image_folder} --val-split ""'))[1] is None


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('--num-classes 3', '--num-classes 3: the data has 4 classes; pass --num-classes 4'),
        ('--train-split other', '--data-dir {folder}: there is no folder other/ in it'),
        ('--val-split other', '--data-dir {folder}: there is no folder other/ in it'),
        ('--class-map none.txt', '--data-dir {folder}: '),
    ],
)
def test_data_that_do_not_fit_are_named_by_the_option(image_folder, line, message):
    with pytest.raises(WrongArguments) as refusal:
        load_datasets(arguments(f'--data-dir {image_folder} {line}'))
    assert str(refusal.value).startswith(message.format(folder=image_folder))


@pytest.mark.parametrize(
    ('dataset', 'error', 'message'),
    [
        (
            'torch/x',
            RuntimeError('not found.\n  use download=True'),
            '--dataset torch/x: not found. use --dataset-down',
        ),
        ('', AssertionError(), '--data-dir {folder}: AssertionError'),
    ],
)
def test_what_others_complain_of_is_one_line(monkeypatch, image_folder, dataset, error, message):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(data, 'create_dataset', fail)
    with pytest.raises(WrongArguments) as refusal:
        load_datasets(arguments(f'--data-dir {image_folder} --dataset "{dataset}"'))
    assert str(refusal.value).startswith(message.format(folder=image_folder))
    assert '\n' not in str(refusal.value)


# The folder


@pytest.mark.parametrize('dataset', ['', 'torch/folder', 'torch/image_folder'])
def test_a_folder_is_looked_at_before_it_is_scanned(tmp_path, dataset):
    for name in ('train', 'val'):
        (tmp_path / name).mkdir()
    check_data_folder(str(tmp_path), dataset, ['train', 'validation'])  # timm knows `val`, too
    (tmp_path / 'test').touch()
    (tmp_path / 'data.tar').touch()
    check_data_folder(f'{tmp_path}/data.tar', dataset, ['train', 'validation'])
    for root, splits, message in (
        (None, ['train'], '--data-dir is missing: '),
        ('', ['train'], '--data-dir is missing: '),
        (f'{tmp_path}/none', ['train'], f'--data-dir {tmp_path}/none: there is no such folder'),
        (f'{tmp_path}/test', ['train'], f'--data-dir {tmp_path}/test: neither a folder nor a .tar file'),
        (str(tmp_path), ['train', 'other'], f'--data-dir {tmp_path}: there is no folder other/ in it'),
        (str(tmp_path), ['other', 'train'], f'--data-dir {tmp_path}: there is no folder other/ in it'),
    ):
        with pytest.raises(ValueError, match=f'^{re.escape(message)}'):
            check_data_folder(root, dataset, splits)


def test_a_split_that_is_a_file_is_named(tmp_path):
    (tmp_path / 'train').touch()
    with pytest.raises(ValueError, match=f'--data-dir {tmp_path}: {tmp_path}/train is not a folder'):
        check_data_folder(str(tmp_path), '', ['train'])


@pytest.mark.parametrize('dataset', ['hfds/x', 'torch/cifar10', 'wds/x'])
def test_other_kinds_of_data_need_no_folder(dataset):
    check_data_folder(None, dataset, ['train'])


# Classes


def classes(*names, **indices):
    return SimpleNamespace(class_to_idx=indices or {name: index for index, name in enumerate(names)})


def test_class_indices_of_timms_of_torchvisions_and_of_those_that_do_not_say():
    assert class_indices(classes('a', 'b')) == {'a': 0, 'b': 1}
    assert class_indices(SimpleNamespace(reader=classes('a'), class_to_idx={'z': 5})) == {'a': 0}
    assert class_indices(SimpleNamespace()) == class_indices(SimpleNamespace(class_to_idx=None)) == {}


def test_classes_have_images_in_both():
    check_classes(classes('a', 'b'), classes('b', 'a'), '')
    check_classes(classes('a', 'b'), None, '')
    check_classes(classes('a', 'b'), classes('a'), 'map.txt')  # a map may leave classes out
    check_classes(classes('a'), SimpleNamespace(), '')
    check_classes(SimpleNamespace(), classes('a'), '')


@pytest.mark.parametrize(
    ('train', 'validation', 'message'),
    [
        ('ab', 'a', '1 class(es) with training images have no validation images: b (every'),
        ('a', 'acb', '2 class(es) with validation images have no training images: b, c (every'),
        ('afedcb', 'a', '5 class(es) with training images have no validation images: b, c, d, e, f (every'),
        ('agfedcb', 'a', '6 class(es) with training images have no validation images: b, c, d, e, f, … (every'),
    ],
)
def test_a_class_that_one_of_them_lacks_is_named(train, validation, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_classes(classes(*train), classes(*validation), '')


@pytest.mark.parametrize(
    ('number', 'class_map', 'fits'),
    [(3, '', True), (2, '', False), (4, '', False), (3, 'map', True), (2, 'map', False), (4, 'map', True)],
)
def test_a_model_has_as_many_classes_as_the_data(number, class_map, fits):
    dataset = classes(b=0, c=2)  # the highest index counts: a map may leave some out
    if fits:
        check_num_classes(number, dataset, class_map, given=True)
        return
    for given, start in (
        (True, f'--num-classes {number}'),
        (False, f"--num-classes is missing, and the model's {number}"),
    ):
        with pytest.raises(ValueError, match=f'^{start}: the data has 3 classes; pass --num-classes 3$'):
            check_num_classes(number, dataset, class_map, given=given)


def test_data_that_do_not_say_their_classes_go_with_any_number():
    check_num_classes(7, SimpleNamespace(), '', given=True)


# Reading


@pytest.fixture
def folder(tmp_path):
    """Two classes of a colour image each, and what timm makes of it."""
    for label, color in enumerate([(200, 10, 60), (0, 0, 255)]):
        (tmp_path / 'train' / f'class{label}').mkdir(parents=True)
        Image.new('RGB', (4, 3), color).save(tmp_path / 'train' / f'class{label}' / 'image.png')
    return create_dataset('', str(tmp_path), split='train', input_img_mode='RGB')


def test_strict_reading_gives_timms_images_and_targets(folder):
    ours = strict(folder)
    for index in range(2):
        (image, target), (timms, expected) = ours[index], folder[index]
        assert (image.mode, image.tobytes(), target) == (timms.mode, timms.tobytes(), expected)
    ours.transform, ours.target_transform = (lambda image: image.getpixel((0, 0))), (lambda target: target + 10)
    assert [ours[0], ours[1]] == [((200, 10, 60), 10), ((0, 0, 255), 11)]


def test_images_keep_their_mode_or_get_the_one_that_is_asked_for(folder):
    for mode, expected in (('L', 'L'), (None, 'RGB'), ('', 'RGB')):
        folder.input_img_mode = mode
        image, _ = strict(folder)[0]
        assert image.mode == expected
    image.getpixel((0, 0))  # read from the file while that was open


def test_an_image_without_a_label_gets_timms_minus_one(folder):
    class Unlabelled(Reader):
        def __getitem__(self, index):
            return folder.reader[index][0], None

        def __len__(self):
            return 1

        def _filename(self, index, basename=False, absolute=False):
            return 'name'

    ours = StrictImageDataset('', reader=Unlabelled())
    ours.target_transform = lambda target: target + 1
    assert ours[0][1] == -1


def test_an_unreadable_image_is_named_by_its_whole_path_in_one_line(folder, tmp_path):
    path = tmp_path / 'train' / 'class1' / 'image.png'
    path.write_bytes(b'no\nimage')
    with pytest.raises(UnreadableImage, match=f'^cannot read the image {path}: cannot identify [^\n]*$'):
        strict(folder)[1]
    assert strict(folder)[0][1] == 0


def test_other_data_sets_stay_as_they_are(folder):
    class Own(ImageDataset):
        pass

    own = Own('', reader=folder.reader)
    assert strict(own) is own and strict(None) is None
    split = AugMixDataset(folder, 2)
    assert strict(split) is split


# Drawing


class Numbers(torch.utils.data.Dataset):
    """What each generator gives for a sample."""

    transform = 'first'

    def __len__(self):
        return 5

    def __getitem__(self, index):
        return index, random.random(), float(np.random.rand()), float(torch.rand(()))


def reseed(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def expected_of(seed, index):
    reseed(seed)
    return Numbers()[index]


def test_a_worker_is_seeded_where_a_new_epoch_begins_and_only_there(monkeypatch):
    draws = EpochSeeded(Numbers(), seed=42, rank=3)
    monkeypatch.setattr(data, 'get_worker_info', lambda: SimpleNamespace(id=2))
    untouched = expected_of(7, 1)
    reseed(7)
    assert draws[1] == untouched  # the first epoch is timm's
    draws.set_epoch(4)
    first = expected_of(draw_seed(42, 4, 3, 2), 0)
    second = Numbers()[1]
    reseed(0)
    assert (draws[0], draws[1]) == (first, second)
    draws.set_epoch(5)
    fifth = expected_of(draw_seed(42, 5, 3, 2), 0)
    assert draws[0] == fifth


def test_without_workers_the_training_process_draws(monkeypatch):
    draws = EpochSeeded(Numbers(), seed=42, rank=3)
    draws.set_epoch(4)
    expected = expected_of(7, 0)
    reseed(7)
    assert draws[0] == expected


def test_the_data_set_inside_is_what_timms_loader_deals_with():
    inner = Numbers()
    draws = EpochSeeded(inner, seed=42, rank=3)
    assert (len(draws), draws.transform) == (5, 'first')
    draws.transform = 'other'
    assert inner.transform == 'other'


def test_an_epoch_reaches_workers_that_are_running():
    assert EpochSeeded(Numbers(), seed=42, rank=3).epoch.is_shared()


def test_seeds_are_those_of_numpys_sequence():
    expected = np.random.SeedSequence((1, 2, 3)).generate_state(1)[0] // 2
    assert draw_seed(1, 2, 3) == expected and type(draw_seed(1, 2, 3)) is int
    assert all(draw_seed(key) < 2**31 for key in range(100))
