"""The training loop on a linear model, against the same arithmetic done by hand."""

import copy
import math
import random
import shlex
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from timm import utils
from torch import nn
from torch.nn import functional as F

from hmix_timm import Mixup
from train_patch.common.errors import RunError
from train_patch.trainer import loop
from train_patch.trainer.arguments import parse_arguments
from train_patch.trainer.data import EpochSeeded
from train_patch.trainer.loaders import start_draws
from train_patch.trainer.loop import TrainAccuracy, train_one_epoch, validate
from train_patch.trainer.output import best_epochs
from train_patch.trainer.setup import prepare_torch
from train_patch.trainer.state import Run, Updates

CLASSES = 7


def batches(*sizes, seed=0):
    """Images of 1 × 2 × 3 numbers and their classes."""
    generator = torch.Generator().manual_seed(seed)
    return [
        (torch.randn(n, 1, 2, 3, generator=generator), torch.randint(CLASSES, (n,), generator=generator)) for n in sizes
    ]


def arguments(line=''):
    args, _ = parse_arguments(shlex.split(line))
    vars(args).update(distributed=False, rank=0, world_size=1, prefetcher=False)
    return args


def make_run(line='', train=(), validation=None, mixup_fn=None, lr=0.1):
    args = arguments(line)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(6, CLASSES))
    return Run(
        args=args,
        device=torch.device('cpu'),
        model=model,
        average=None,
        mixup_fn=mixup_fn,
        train_loader=list(train),
        eval_loader=validation,
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=torch.optim.SGD(model.parameters(), lr=lr),
        schedule=None,
        num_epochs=args.epochs,
        updates=Updates(len(train), args.grad_accum_steps),
        autocast=nullcontext,
        scaler=None,
        eval_metric='top1',
        train_model=model,
        eval_model=model,
    )


@pytest.mark.parametrize(
    ('num_batches', 'accum_steps', 'sizes', 'completes'),
    [
        (7, 3, [3, 3, 3, 3, 3, 3, 1], [0, 0, 1, 0, 0, 1, 1]),
        (8, 3, [3, 3, 3, 3, 3, 3, 2, 2], [0, 0, 1, 0, 0, 1, 0, 1]),
        (4, 2, [2, 2, 2, 2], [0, 1, 0, 1]),
        (2, 5, [2, 2], [0, 1]),
        (3, 1, [1, 1, 1], [1, 1, 1]),
    ],
)
def test_updates_by_hand(num_batches, accum_steps, sizes, completes):
    updates = Updates(num_batches, accum_steps)
    assert [updates.group_size(batch) for batch in range(num_batches)] == sizes
    assert [updates.completes(batch) for batch in range(num_batches)] == completes
    assert updates.per_epoch == sum(completes)


def test_updates_made_before_an_epoch_and_in_the_middle_of_one():
    updates = Updates(num_batches=7, accum_steps=3)
    assert (updates.made(0, 0), updates.made(0, 3), updates.made(2, 0), updates.made(2, 6)) == (0, 1, 6, 8)


@pytest.mark.parametrize(('count', 'accum_steps'), [(7, 3), (8, 3), (5, 5), (3, 4)])
def test_accumulated_gradients_are_those_of_the_images_together(count, accum_steps):
    """The last group, too, weighs as much as its own batches, not as much as a whole group."""
    train = batches(*[4] * count)
    run = make_run(f'--grad-accum-steps {accum_steps}', train)
    model = copy.deepcopy(run.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for start in range(0, count, accum_steps):
        images, target = (torch.cat(part) for part in zip(*train[start : start + accum_steps], strict=True))
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
    train_one_epoch(run, epoch=0)
    for ours, theirs in zip(run.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('line', ['--clip-grad 0.1', '--clip-grad 0.01 --clip-mode value'])
def test_scaled_gradients_are_clipped_as_others_are(line):
    """Float16's scale, which is a power of two, leaves nothing behind."""
    weights = []
    for options, scaler in ((line, utils.NativeScaler('cpu')), (line, None), ('', None)):
        run = make_run(f'--grad-accum-steps 2 {options}', batches(4, 4, 4))
        run.scaler = scaler
        train_one_epoch(run, epoch=0)
        weights.append(torch.cat([parameter.detach().flatten() for parameter in run.model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=1e-5, atol=1e-7)
    assert not torch.allclose(weights[1], weights[2], rtol=1e-2)


def test_there_is_nothing_to_wait_for_on_a_cpu():
    assert train_one_epoch(make_run('--synchronize-step', batches(4)), epoch=0).keys() == {'loss'}


def test_train_loss_is_the_mean_over_images():
    train = batches(4, 4, 1)
    run = make_run('', train, lr=0.0)
    images, target = (torch.cat(part) for part in zip(*train, strict=True))
    expected = F.cross_entropy(run.model(images), target).item()
    assert train_one_epoch(run, epoch=0) == {'loss': pytest.approx(expected, rel=1e-6)}


def test_train_loss_of_accumulated_batches_is_that_of_the_batches():
    train = batches(4, 4, 4)
    run = make_run('--grad-accum-steps 2', train, lr=0.0)
    images, target = (torch.cat(part) for part in zip(*train, strict=True))
    expected = F.cross_entropy(run.model(images), target).item()
    assert train_one_epoch(run, epoch=0)['loss'] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize('sizes', [(8, 3), (5, 5, 1), (9,)])
def test_validation_counts_images_not_batches(sizes):
    validation = batches(*sizes, seed=3)
    run = make_run(validation=validation)
    images, target = (torch.cat(part) for part in zip(*validation, strict=True))
    scores = run.model(images).detach().numpy()
    ranks = [(row > row[label]).sum() for row, label in zip(scores, target, strict=True)]
    metrics = validate(run, run.model)
    assert metrics['top1'] == pytest.approx(100 * np.mean([rank < 1 for rank in ranks]), rel=1e-5)
    assert metrics['top5'] == pytest.approx(100 * np.mean([rank < 5 for rank in ranks]), rel=1e-5)
    assert metrics['loss'] == pytest.approx(F.cross_entropy(torch.tensor(scores), target).item(), rel=1e-5)
    assert 0 < metrics['top1'] < metrics['top5'] < 100  # the numbers can tell


@pytest.mark.parametrize('first_batch', [1, 3])
def test_an_epoch_that_starts_in_the_middle_makes_the_rest_of_its_batches(first_batch):
    train = batches(4, 4, 4, 4)
    run = make_run('', train)
    model = copy.deepcopy(run.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for images, target in train[: 4 - first_batch]:
        optimizer.zero_grad()
        F.cross_entropy(model(images), target).backward()
        optimizer.step()
    train_one_epoch(run, 0, first_batch)
    for ours, theirs in zip(run.model.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize('loss', [math.nan, math.inf])
def test_a_loss_that_is_not_finite_ends_the_run(loss):
    train = batches(4, 4, 4)
    train[1][0][0, 0, 0, 0] = loss
    run = make_run('', train, lr=0.25)
    with pytest.raises(RunError, match=r'the loss is nan in epoch 6, batch 1, at learning rate 0.25'):
        train_one_epoch(run, epoch=6)


@pytest.mark.parametrize(('epoch', 'mixed'), [(0, True), (1, True), (2, False), (3, False)])
def test_mixing_ends_with_the_epoch_that_is_asked_for(epoch, mixed):
    train = batches(4)
    run = make_run('--mixup-off-epoch 2', train, mixup_fn=Mixup(1.0, num_classes=CLASSES))
    seen = []
    run.model.register_forward_hook(lambda module, args, output: seen.append(args[0].clone()))
    before = train[0][0].clone()
    np.random.seed(0)
    train_one_epoch(run, epoch)
    assert torch.equal(seen[0], before) is not mixed


def test_train_accuracy_by_hand():
    """Four images with two labels each; the model predicts classes 0, 1, 2 and 0."""
    scores = torch.tensor([[9.0, 0, 0], [0, 9, 0], [0, 0, 9], [9, 0, 0]])
    target = torch.tensor([[0.7, 0.3, 0], [0.6, 0.4, 0], [0.5, 0.5, 0], [0.1, 0, 0.9]])
    accuracy = TrainAccuracy()
    accuracy.update(scores, target)
    expected = {'top1_larger_label': 100 * 1 / 4, 'top1_expected': 100 * (0.7 + 0.4 + 0 + 0.1) / 4}
    assert accuracy.averages() == pytest.approx(expected)
    accuracy.update(scores[:1], target[:1])  # a smaller batch counts by its images
    expected = {'top1_larger_label': 100 * 2 / 5, 'top1_expected': 100 * (0.7 + 0.4 + 0 + 0.1 + 0.7) / 5}
    assert accuracy.averages() == pytest.approx(expected)


def test_train_accuracy_without_mixing_is_plain_accuracy():
    scores = torch.tensor([[9.0, 0, 0], [0, 9, 0], [0, 0, 9]])
    accuracy = TrainAccuracy()
    accuracy.update(scores, torch.tensor([0, 1, 1]))
    assert accuracy.averages() == pytest.approx({'top1_larger_label': 200 / 3, 'top1_expected': 200 / 3})


@pytest.mark.parametrize(
    ('line', 'columns'), [('', {'loss'}), ('--train-accuracy', {'loss', 'top1_larger_label', 'top1_expected'})]
)
def test_train_accuracy_is_measured_where_it_is_asked_for(line, columns):
    assert train_one_epoch(make_run(line, batches(4)), 0).keys() == columns


def draws():
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_draws_of_the_training_process_depend_on_seed_rank_and_epoch():
    """Each generator gives another number for each of them, and the same one again."""

    def drawn(seed, rank, epoch):
        args = arguments(f'--seed {seed}')
        args.rank = rank
        prepare_torch(args, torch.device('cpu'))
        start_draws(torch.utils.data.DataLoader(EpochSeeded(range(4), seed, rank)), args, epoch)
        return draws()

    keys = [(seed, rank, epoch) for seed in (1, 2, 3) for rank in (0, 7) for epoch in (0, 1, 2)]
    found = {key: drawn(*key) for key in keys}
    for generator in range(3):
        assert len({values[generator] for values in found.values()}) == len(keys)
    assert all(drawn(*key) == found[key] for key in keys)


def test_order_of_the_images_depends_on_seed_and_epoch():
    def order(seed, epoch):
        args = arguments(f'--seed {seed}')
        prepare_torch(args, torch.device('cpu'))
        loader = torch.utils.data.DataLoader(EpochSeeded(range(100), seed, 0), shuffle=True)
        start_draws(loader, args, epoch)
        return tuple(int(index) for index in loader)

    found = {(seed, epoch): order(seed, epoch) for seed in (1, 2) for epoch in (0, 1, 2)}
    assert len(set(found.values())) == 6
    assert order(2, 1) == found[2, 1]


@pytest.mark.parametrize(
    ('metric', 'expected'),
    [('top1', [4, 3, 5, 13, 6, 7, 12, 8, 9, 11]), ('loss', [4, 3, 5, 13, 6, 7, 12, 8, 9, 11])],
)
def test_the_ten_best_epochs_end_with_the_best(metric, expected):
    top1 = [1, 2, 3, 5, 4, 6, 8, 9, 20, 30, 0, 40, 10, 7]
    rows = {
        epoch: {'epoch': epoch, 'train_loss': 1.0, 'eval_loss': 100.0 - value, 'eval_top1': float(value), 'lr': 0.1}
        for epoch, value in enumerate(top1)
    }
    found = best_epochs(rows, metric)
    assert [result['epoch'] for result in found] == expected
    assert found[-1] == {'epoch': 11, 'train': {'loss': 1.0}, 'validation': {'loss': 60.0, 'top1': 40.0}}


def ended_by(error, monkeypatch, workers=2):
    """What comes out of a training whose second epoch meets an error."""

    def epoch(run, number, first_batch):
        if number == 1:
            raise error

    monkeypatch.setattr(loop, 'start_draws', lambda *arguments: None)
    monkeypatch.setattr(loop, '_epoch', epoch)
    args = SimpleNamespace(workers=workers, rank=0)
    with pytest.raises(Exception) as caught:
        loop.train_epochs(SimpleNamespace(num_epochs=3, args=args, train_loader=None, schedule=None), 0, 0)
    return caught.value


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        (
            RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed. '),
            '(pid 7) is killed by signal: Killed',
        ),
        (RuntimeError('DataLoader worker (pid(s) 7, 8) exited unexpectedly'), '(pid(s) 7, 8) exited unexpectedly'),
        (
            ConnectionResetError(104, 'Connection reset by peer'),
            'seems to have ended (Connection reset by peer)',
        ),
        (EOFError(), 'seems to have ended (EOFError)'),
        (RunError('cannot write last.pth.tar: DataLoader worker (pid 7) is killed by signal: K'), '(pid 7) is killed'),
    ],
)
def test_a_worker_that_something_else_has_ended_is_named(monkeypatch, error, said):
    ended = ended_by(error, monkeypatch)
    assert isinstance(ended, RunError)
    assert str(ended).startswith(f'epoch 1: DataLoader worker {said}') and '--workers 2?' in str(ended)


@pytest.mark.parametrize('kind', [ValueError, EOFError, ConnectionResetError])
def test_an_error_in_a_worker_is_no_ended_worker(monkeypatch, kind):
    error = kind(f'Caught {kind.__name__} in DataLoader worker process 0.')
    assert ended_by(error, monkeypatch) is error


def test_an_error_that_a_line_explains_stays_that_line(monkeypatch, caplog):
    error = RunError('cannot write last.pth.tar: No space left on device')
    assert ended_by(error, monkeypatch) is error and caplog.text == ''


def test_without_workers_none_has_ended(monkeypatch):
    error = EOFError('a truncated file')
    assert ended_by(error, monkeypatch, workers=0) is error
