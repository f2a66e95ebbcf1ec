"""Loaders of a run: what timm is asked for, which images they give, how their workers are started."""

import inspect
import pickle
import random
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import AugMixDataset, IterableImageDataset, create_loader
from torch.utils.data import DataLoader, Dataset

from train_patch.common.processes import end_worker_with_parent
from train_patch.trainer import loaders
from train_patch.trainer.arguments import WrongArguments
from train_patch.trainer.data import EpochSeeded, draw_seed
from train_patch.trainer.loaders import build_loaders, loader_arguments, start_draws

from .test_loop import arguments

CPU = torch.device('cpu')
CONFIG = {
    'input_size': (3, 8, 10),
    'mean': (0.1, 0.2, 0.3),
    'std': (0.4, 0.5, 0.6),
    'interpolation': 'bicubic',
    'crop_pct': 0.9,
}


class Images(Dataset):
    """Images of one colour each, their number; as timm's loader wants them."""

    transform = None

    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        image = Image.new('RGB', (12, 12), (index, 2 * index, 255 - index))
        return image if self.transform is None else self.transform(image), index


def args_of(line='', distributed=False, world_size=1, rank=0, prefetcher=True):
    args = arguments(f'-j 0 {line}')
    vars(args).update(distributed=distributed, world_size=world_size, rank=rank, prefetcher=prefetcher)
    return args


@pytest.fixture
def asked(monkeypatch):
    """asked('line', …) → what timm's `create_loader` was asked for in training and in validation."""

    def run(line='', validation=True, collate_fn=None, train=None, **more):
        calls = []

        def create(dataset, **kwargs):
            inspect.signature(create_loader).bind(dataset, **kwargs)
            calls.append({'dataset': dataset, **kwargs})
            return [dataset]

        monkeypatch.setattr(loaders, 'create_loader', create)
        datasets = Images(256) if train is None else train, Images(3) if validation else None
        found = build_loaders(args_of(line, **more), datasets, CONFIG, CPU, collate_fn)
        assert [loader is not None for loader in found] == [True, validation]
        return calls

    return run


SHARED = {
    'input_size': (3, 8, 10),
    'mean': (0.1, 0.2, 0.3),
    'std': (0.4, 0.5, 0.6),
    'pin_memory': False,
    'img_dtype': torch.float32,
    'device': CPU,
    'distributed': False,
    'use_prefetcher': True,
}
# option → what timm's loader is asked for in its place
OPTIONS = {
    '--no-aug': {'no_aug': True, 'interpolation': 'bicubic'},
    '--reprob .3': {'re_prob': 0.3},
    '--remode rand': {'re_mode': 'rand'},
    '--recount 4': {'re_count': 4},
    '--resplit': {'re_split': True},
    '--train-crop-mode rkrc': {'train_crop_mode': 'rkrc'},
    '--scale .2 .9': {'scale': [0.2, 0.9]},
    '--ratio .5 2': {'ratio': [0.5, 2.0]},
    '--hflip .1': {'hflip': 0.1},
    '--vflip .2': {'vflip': 0.2},
    '--color-jitter .7': {'color_jitter': 0.7},
    '--color-jitter-prob .8': {'color_jitter_prob': 0.8},
    '--grayscale-prob .15': {'grayscale_prob': 0.15},
    '--gaussian-blur-prob .25': {'gaussian_blur_prob': 0.25},
    '--aa rand-m9': {'auto_augment': 'rand-m9'},
    '--train-interpolation box': {'interpolation': 'box'},
    '--train-interpolation ""': {'interpolation': 'bicubic'},
    '-b 32': {'batch_size': 32},
    '-j 3': {'num_workers': 3, 'persistent_workers': True},
    '--aug-repeats 2': {'num_aug_repeats': 2.0},
    '--use-multi-epochs-loader': {'use_multi_epochs_loader': True},
    '--worker-seeding part': {'worker_seeding': 'part'},
    '--pin-mem': {'pin_memory': True},
    '--model-dtype bfloat16': {'img_dtype': torch.bfloat16},
}
# fmt: off
PLAIN = {
    **SHARED,
    'is_training': True, 'no_aug': False, 're_prob': 0.0, 're_mode': 'pixel', 're_count': 1, 're_split': False,
    'train_crop_mode': None, 'scale': [0.08, 1.0], 'ratio': [3 / 4, 4 / 3], 'hflip': 0.5, 'vflip': 0.0,
    'color_jitter': 0.4, 'color_jitter_prob': None, 'grayscale_prob': None, 'gaussian_blur_prob': None,
    'auto_augment': None, 'interpolation': 'random', 'batch_size': 128, 'num_workers': 0, 'num_aug_repeats': 0,
    'num_aug_splits': 0, 'persistent_workers': False, 'collate_fn': None, 'use_multi_epochs_loader': False,
    'worker_seeding': 'all',
}
# fmt: on


@pytest.mark.parametrize('line', ['', *OPTIONS])
def test_each_option_reaches_the_training_loader_and_changes_nothing_else(asked, line):
    (found,) = asked(line, validation=False)
    dataset = found.pop('dataset')
    assert found == {**PLAIN, **OPTIONS.get(line, {})}
    assert type(dataset) is EpochSeeded and type(dataset.dataset) is Images


@pytest.mark.parametrize(
    ('line', 'more'),
    [
        ('-b 32', {'batch_size': 32}),
        ('-b 32 -vb 48', {'batch_size': 48}),
        ('-j 3', {'num_workers': 3, 'persistent_workers': True}),
        ('--dataset wds/x -j 3', {'num_workers': 3, 'persistent_workers': True}),
        ('--pin-mem --model-dtype float16', {'pin_memory': True, 'img_dtype': torch.float16}),
        ('--reprob .3 --aa rand-m9 --hflip 0', {}),
    ],
)
def test_validation_is_asked_for_without_augmentation(asked, line, more):
    _, found = asked(line)
    assert type(found.pop('dataset')) is Images
    expected = {
        **SHARED,
        'batch_size': 128,
        'is_training': False,
        'interpolation': 'bicubic',
        'num_workers': 0,
        'crop_pct': 0.9,
        'persistent_workers': False,
    }
    assert found == {**expected, **more}


def test_what_the_prefetcher_and_the_processes_are_asked_for(asked):
    mixer = object()
    train, validation = asked('--seed 5', collate_fn=mixer, prefetcher=False, distributed=True, rank=3)
    assert (train['use_prefetcher'], train['distributed'], train['collate_fn']) == (False, True, mixer)
    assert (validation['use_prefetcher'], validation['distributed']) == (False, True)
    assert 'collate_fn' not in validation
    assert (train['dataset'].seed, train['dataset'].rank) == (5, 3)


@pytest.mark.parametrize(
    ('dataset', 'distributed', 'workers', 'expected'),
    [
        ('tfds/x', True, 5, 2),
        ('wds/x', True, 5, 2),
        ('hfids/x', True, 5, 2),
        ('wds/x', True, 1, 1),
        ('wds/x', False, 5, 5),
        ('hfds/x', True, 5, 5),
        ('', True, 5, 5),
    ],
)
def test_iterable_validation_data_have_few_workers_on_several_processes(
    asked, monkeypatch, dataset, distributed, workers, expected
):
    monkeypatch.setattr(loaders, '_start_workers_from_a_server', lambda pair: None)
    train, validation = asked(f'--dataset "{dataset}" -j {workers}', distributed=distributed)
    assert (train['num_workers'], validation['num_workers']) == (workers, expected)


def test_augmentation_splits_are_seeded_as_whole_samples(asked):
    (found,) = asked('--aug-splits 3', validation=False)
    assert found['num_aug_splits'] == 3
    dataset = found['dataset']
    assert type(dataset) is EpochSeeded and type(dataset.dataset) is AugMixDataset
    assert dataset.dataset.num_splits == 3 and type(dataset.dataset.dataset) is Images


def test_iterable_training_data_are_neither_counted_nor_seeded(asked):
    stream = IterableImageDataset.__new__(IterableImageDataset)
    (found,) = asked('', validation=False, train=stream)
    assert found['dataset'] is stream


@pytest.mark.parametrize(
    ('images', 'world_size', 'enough'), [(16, 1, True), (15, 1, False), (48, 3, True), (47, 3, False)]
)
def test_there_is_a_whole_batch_for_each_process(asked, images, world_size, enough):
    if enough:
        assert asked('-b 16', validation=False, train=Images(images), world_size=world_size)
        return
    message = f'--batch-size 16: {images} training images are less than one batch for each of {world_size} process'
    with pytest.raises(WrongArguments, match=message):
        asked('-b 16', validation=False, train=Images(images), world_size=world_size)


@pytest.mark.parametrize(('line', 'refused'), [('--aug-repeats 2', True), ('--aug-repeats 0', False)])
def test_repeated_augmentation_without_a_batch_is_refused(monkeypatch, line, refused):
    monkeypatch.setattr(loaders, 'create_loader', lambda dataset, is_training, **kwargs: [])
    args = args_of(f'{line} -b 4')
    if refused:
        with pytest.raises(WrongArguments, match=r'--aug-repeats 2: timm \S+ selects no batch of the 9 training im'):
            build_loaders(args, (Images(9), None), CONFIG, CPU, None)
    else:
        assert build_loaders(args, (Images(9), None), CONFIG, CPU, None) == ([], None)


def test_the_padded_crop_is_that_of_training_alone():
    args = args_of('-b 4 --train-padding 2')
    train, validation = build_loaders(args, (Images(8), Images(3)), CONFIG, CPU, None)
    names = [type(step).__name__ for step in train.loader.dataset.transform.transforms]
    assert names[:2] == ['Resize', 'RandomCrop']
    assert train.loader.dataset.transform.transforms[1].padding == 2
    assert 'RandomCrop' not in [type(step).__name__ for step in validation.loader.dataset.transform.transforms]


def test_training_images_come_in_another_order_and_validation_images_all_in_theirs():
    train, validation = build_loaders(args_of('-b 4 --no-aug'), (Images(18), Images(7)), CONFIG, CPU, None)
    torch.manual_seed(0)
    batches = [target.tolist() for _, target in train]
    drawn = [index for batch in batches for index in batch]
    assert [len(batch) for batch in batches] == [4] * 4 and len(set(drawn)) == 16 and drawn != sorted(drawn)
    (images, first), (_, second) = validation
    assert first.tolist() + second.tolist() == list(range(7))
    assert images.shape == (4, 3, 8, 10)
    expected = (np.array([3, 6, 252]) / 255 - CONFIG['mean']) / CONFIG['std']  # of image 3, whatever is cut
    np.testing.assert_allclose(images[3].mean((1, 2)), expected, atol=1e-5)


def test_loader_arguments_are_what_the_preview_asks_timm_for_too():
    found = loader_arguments(args_of(), CONFIG)
    assert set(found) <= set(inspect.signature(create_loader).parameters)
    of_the_run = 'pin_memory img_dtype device distributed use_prefetcher batch_size num_workers persistent_workers '
    of_the_run += 'collate_fn num_aug_repeats num_aug_splits use_multi_epochs_loader worker_seeding'
    assert found == {name: value for name, value in PLAIN.items() if name not in of_the_run.split()}


# Workers


def test_workers_on_several_processes_come_from_a_server_and_end_with_theirs(monkeypatch):
    preloaded = []
    monkeypatch.setattr('multiprocessing.set_forkserver_preload', preloaded.append)
    args = args_of('-b 4 -j 2', prefetcher=False)
    args.distributed = True
    monkeypatch.setattr(loaders, 'create_loader', partial(undistributed, create_loader))
    train, validation = build_loaders(args, (Images(8), Images(3)), CONFIG, CPU, None)
    assert preloaded == [['train_patch.trainer.preload']]
    for loader in (train, validation):
        assert loader.multiprocessing_context.get_start_method() == 'forkserver'
        assert loader.worker_init_fn.func is end_worker_with_parent
        assert loader.worker_init_fn.args[0] is not None  # timm's own seeding is not lost
        pickle.dumps(loader.worker_init_fn)


def undistributed(create, dataset, distributed, **kwargs):
    assert distributed
    return create(dataset, distributed=False, **kwargs)


@pytest.mark.parametrize(
    ('line', 'distributed', 'device'), [('-j 2', False, 'cpu'), ('-j 0', True, 'cpu'), ('-j 2', True, 'meta')]
)
def test_other_workers_are_forked_as_timms(monkeypatch, line, distributed, device):
    monkeypatch.setattr('multiprocessing.set_forkserver_preload', pytest.fail)
    monkeypatch.setattr(loaders, 'create_loader', lambda dataset, is_training, **kwargs: DataLoader(dataset))
    args = args_of(f'-b 4 {line}', distributed=distributed)
    for loader in build_loaders(args, (Images(8), Images(3)), CONFIG, torch.device(device), None):
        assert loader.multiprocessing_context is None and loader.worker_init_fn is None


def test_the_prefetchers_own_loader_is_the_one_whose_workers_come_from_a_server(monkeypatch):
    monkeypatch.setattr('multiprocessing.set_forkserver_preload', lambda modules: None)
    inner = DataLoader(Images(8), num_workers=1)
    loaders._start_workers_from_a_server((SimpleNamespace(loader=inner), None))
    assert inner.multiprocessing_context.get_start_method() == 'forkserver'


def test_what_the_server_imports_is_there():
    import train_patch.trainer.preload as preload

    assert preload.setup.build_model


# Draws of an epoch


def draws():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def loader_of(prefetched):
    loader = DataLoader(EpochSeeded(Images(20), seed=1, rank=0), shuffle=True)
    return SimpleNamespace(loader=loader, dataset=loader.dataset, sampler=loader.sampler) if prefetched else loader


@pytest.mark.parametrize('prefetched', [False, True])
def test_a_later_epoch_starts_from_seed_rank_and_its_number(prefetched):
    loader = loader_of(prefetched)
    args = args_of('--seed 11', rank=2)
    start_draws(loader, args, 3)
    found = draws()
    seed = draw_seed(11, 3)
    random.seed(seed + 2)
    np.random.seed(seed + 2)
    torch.manual_seed(seed + 2)
    assert found == draws()
    inner = loader.loader if prefetched else loader
    assert inner.generator.initial_seed() == seed
    assert int(loader.dataset.epoch) == 3


def test_the_first_epoch_draws_on_from_where_the_run_was_built():
    loader = loader_of(False)
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    expected = draws()
    random.seed(5)
    np.random.seed(5)
    torch.manual_seed(5)
    start_draws(loader, args_of(), 0)
    assert draws() == expected and loader.generator is None


def test_samplers_and_data_sets_that_ask_for_it_are_told_the_epoch():
    told = []
    part = SimpleNamespace(set_epoch=told.append)
    start_draws(SimpleNamespace(dataset=part, sampler=part), args_of(), 4)
    assert told == [4, 4]
    start_draws(SimpleNamespace(dataset=object(), sampler=object()), args_of(), 4)
