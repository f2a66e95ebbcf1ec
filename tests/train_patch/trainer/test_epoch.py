"""An epoch of training and one of validation on a linear model, against the same arithmetic done by hand."""

import copy
import random

import numpy as np
import pytest
import torch
from timm import utils
from timm.scheduler import create_scheduler_v2
from torch.nn import functional as F

from hmix_timm import Mixup
from train_patch.common.errors import RunError
from train_patch.train import train_one_epoch, validate
from train_patch.trainer.data import EpochSeeded, start_epoch

from .conftest import CLASSES, arguments, batches


def joined(given):
    return [torch.cat(part) for part in zip(*given, strict=True)]


@pytest.mark.parametrize(('count', 'accum_steps'), [(7, 3), (8, 3), (5, 5), (3, 4), (3, 1)])
def test_accumulated_gradients_are_those_of_the_images_together(linear_run, count, accum_steps):
    """The last group, too, weighs as much as its own batches, not as much as a whole group."""
    train = batches(*[4] * count)
    run = linear_run(f'--grad-accum-steps {accum_steps}', train)
    model = copy.deepcopy(run.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for start in range(0, count, accum_steps):
        images, target = joined(train[start : start + accum_steps])
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
    train_one_epoch(run, 0)
    for ours, theirs in zip(run.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('line', ['--clip-grad 0.1', '--clip-grad 0.01 --clip-mode value'])
def test_scaled_gradients_are_clipped_as_others_are(linear_run, line):
    """Float16's scale, which is a power of two, leaves nothing behind."""
    weights = []
    for options, scaler in ((line, utils.NativeScaler('cpu')), (line, None), ('', None)):
        run = linear_run(f'--grad-accum-steps 2 {options}', batches(4, 4, 4))
        run.scaler = scaler
        train_one_epoch(run, 0)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-7)
    assert not torch.allclose(weights[1], weights[2], rtol=1e-2)


@pytest.mark.parametrize(('sizes', 'accum_steps'), [((4, 4, 1), 1), ((4, 4, 4), 2)])
def test_the_training_loss_is_the_mean_over_images(linear_run, sizes, accum_steps):
    train = batches(*sizes)
    run = linear_run(f'--grad-accum-steps {accum_steps}', train, lr=0.0)
    images, target = joined(train)
    expected = F.cross_entropy(run.model(images), target).item()
    assert train_one_epoch(run, 0) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('sizes', [(8, 3), (5, 5, 1), (9,)])
def test_a_validation_counts_images_not_batches(linear_run, sizes):
    validation = batches(*sizes, seed=3)
    run = linear_run(validation=validation)
    images, target = joined(validation)
    scores = run.model(images).detach().numpy()
    ranks = [(row > row[label]).sum() for row, label in zip(scores, target, strict=True)]
    metrics = validate(run, run.model)
    assert metrics['top1'] == pytest.approx(100 * np.mean([rank < 1 for rank in ranks]), rel=1e-5)
    assert metrics['top5'] == pytest.approx(100 * np.mean([rank < 5 for rank in ranks]), rel=1e-5)
    assert metrics['loss'] == pytest.approx(F.cross_entropy(torch.tensor(scores), target).item(), rel=1e-5)
    assert 0 < metrics['top1'] < metrics['top5'] < 100  # the numbers can tell


def test_a_loss_that_is_not_finite_ends_the_run_where_it_arises(linear_run):
    train = batches(4, 4, 4)
    train[1][0][0, 0, 0, 0] = float('inf')
    with pytest.raises(RunError, match=r'the loss is nan in epoch 6, batch 1, at learning rate 0.25'):
        train_one_epoch(linear_run('', train, lr=0.25), 6)


def test_average_and_schedule_move_with_each_update(linear_run):
    run = linear_run('--grad-accum-steps 2', batches(4, 4, 4))
    run.average = utils.ModelEmaV3(run.model, decay=0.75)
    kwargs = dict(sched='cosine', num_epochs=4, warmup_epochs=0, step_on_epochs=False, updates_per_epoch=2)
    run.schedule, _ = create_scheduler_v2(run.optimizer, **kwargs)
    seen = []
    run.optimizer.register_step_post_hook(lambda *_: seen.append(run.model[1].weight.detach().clone()))
    train_one_epoch(run, 1)
    # timm's average is a copy at update 1, which an earlier epoch has made: here it starts from the first weights
    first = linear_run().model[1].weight
    expected = 0.75 * (0.75 * first + 0.25 * seen[0]) + 0.25 * seen[1]
    torch.testing.assert_close(run.average.module[1].weight, expected)
    assert run.optimizer.param_groups[0]['lr'] == pytest.approx(0.1 * (1 + np.cos(np.pi * 4 / 8)) / 2)  # update 4 of 8


@pytest.mark.parametrize('channels_last', [True, False])
def test_images_are_mixed_and_in_the_memory_format_that_is_asked_for(linear_run, channels_last):
    run = linear_run('--channels-last' if channels_last else '', [(torch.rand(4, 2, 2, 3), torch.tensor([0, 1, 2, 3]))])
    run.mixup_fn = Mixup(1.0, num_classes=CLASSES)
    run.model[1] = torch.nn.Linear(12, CLASSES)
    seen, before = [], run.train_loader[0][0].clone()
    run.model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    train_one_epoch(run, 0)
    assert seen[0].is_contiguous(memory_format=torch.channels_last) is channels_last
    assert not torch.equal(seen[0], before)


# Draws of an epoch


def test_draws_of_the_training_process_depend_on_seed_rank_and_epoch():
    """Each generator gives another number for each of them, and the same one again; epoch 0 draws on."""

    def drawn(seed, rank, epoch):
        args = arguments(f'--seed {seed}', rank=rank)
        utils.random_seed(seed, rank)
        start_epoch(torch.utils.data.DataLoader(EpochSeeded(range(4), seed, rank)), args, epoch)
        return random.random(), float(np.random.rand()), float(torch.rand(()))

    keys = [(seed, rank, epoch) for seed in (1, 2, 3) for rank in (0, 7) for epoch in (0, 1, 2)]
    found = {key: drawn(*key) for key in keys}
    for generator in range(3):
        assert len({values[generator] for values in found.values()}) == len(keys)
    assert all(drawn(*key) == found[key] for key in keys)
    utils.random_seed(2, 7)
    assert found[2, 7, 0][0] == random.random()


def test_the_order_of_the_images_depends_on_seed_and_epoch():
    def order(seed, epoch):
        utils.random_seed(seed, 0)
        loader = torch.utils.data.DataLoader(EpochSeeded(range(100), seed, 0), shuffle=True)
        start_epoch(loader, arguments(f'--seed {seed}'), epoch)
        return tuple(int(index) for index in loader)

    found = {(seed, epoch): order(seed, epoch) for seed in (1, 2) for epoch in (0, 1, 2)}
    assert len(set(found.values())) == 6
    assert order(2, 1) == found[2, 1]
