"""What surrounds the updates of a run: schedule, validations, log lines, recoveries, by hand on a linear model."""

import copy
import logging
import re

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from train_patch.common.errors import RunError
from train_patch.trainer.loop import train_epochs, train_one_epoch, validate

from .test_loop import batches, make_run


class Schedule:
    """Writes down what timm's schedules are told."""

    def __init__(self):
        self.epochs, self.updates = [], []

    def step(self, epoch, metric):
        self.epochs.append((epoch, metric))

    def step_update(self, num_updates, metric):
        self.updates.append((num_updates, metric))


class Output:
    """Writes down what a run's folder is given."""

    def __init__(self):
        self.rows, self.seconds, self.metrics, self.recoveries = {}, {}, {}, []

    def record(self, epoch, row, seconds, metric, state):
        self.rows[epoch], self.seconds[epoch], self.metrics[epoch] = row, seconds, metric

    def save_recovery(self, epoch, batches_done, state):
        self.recoveries.append((epoch, batches_done))


def watched(line, train, validation=None, epochs=5, **more):
    run = make_run(f'{line} --epochs {epochs}', train, validation, **more)
    run.schedule, run.output = Schedule(), Output()
    return run


def epochs_of(run, monkeypatch, start_epoch=0, start_batch=0):
    """Trains without touching the generators: the batches of these runs are given."""
    started = []
    monkeypatch.setattr('train_patch.trainer.loop.start_draws', lambda loader, args, key: started.append(key))
    train_epochs(run, start_epoch, start_batch)
    return started


@pytest.mark.parametrize(('interval', 'validated'), [(1, [0, 1, 2, 3, 4]), (2, [1, 3, 4]), (3, [2, 4]), (9, [4])])
def test_epochs_are_written_down_at_the_interval_and_at_the_end(monkeypatch, interval, validated):
    run = watched(f'--val-interval {interval}', batches(4, 3), batches(5, 2, seed=1))
    epochs_of(run, monkeypatch)
    assert list(run.output.rows) == validated
    for epoch in validated:
        row = run.output.rows[epoch]
        assert list(row) == ['train_loss', 'eval_loss', 'eval_top1', 'eval_top5', 'lr']
        assert row['lr'] == pytest.approx(0.1)
        assert run.output.metrics[epoch] == row['eval_top1']
    # the schedule hears of every epoch, and of a metric where there is one
    assert run.schedule.epochs == [(epoch + 1, run.output.metrics.get(epoch)) for epoch in range(5)]


def test_an_epoch_that_is_gone_on_with_has_draws_of_its_own(monkeypatch):
    run = watched('', batches(4, 4, 4))
    assert epochs_of(run, monkeypatch, start_epoch=2, start_batch=1) == [2 + 5 * 1, 3, 4]
    assert [update for update, _ in run.schedule.updates] == [8, 9, 10, 11, 12, 13, 14, 15]


def test_without_validation_the_training_loss_is_the_metric(monkeypatch):
    run = watched('', batches(4, 3), epochs=2)
    epochs_of(run, monkeypatch)
    assert run.output.metrics == {epoch: row['train_loss'] for epoch, row in run.output.rows.items()}
    assert list(run.output.rows[1]) == ['train_loss', 'lr']


def test_times_are_those_of_training_and_of_validation(monkeypatch):
    now = [1000.0]

    def later(name):
        original = getattr(__import__('train_patch.trainer.loop', fromlist=[name]), name)

        def slow(*args, **kwargs):
            now[0] += {'train_one_epoch': 3.0, 'validate': 0.5}[name]
            return original(*args, **kwargs)

        monkeypatch.setattr(f'train_patch.trainer.loop.{name}', slow)

    later('train_one_epoch')
    later('validate')
    monkeypatch.setattr('time.perf_counter', lambda: now[0])
    run = watched('--log-interval 100', batches(4), batches(5, seed=1), epochs=2)
    monkeypatch.setattr('train_patch.trainer.loop._Progress.log', lambda self, update: None)
    epochs_of(run, monkeypatch)
    assert run.output.seconds == {epoch: (pytest.approx(3.0), pytest.approx(0.5)) for epoch in (0, 1)}


def test_a_validation_that_is_not_finite_ends_the_run(monkeypatch):
    validation = batches(5, seed=1)
    validation[0][0][0, 0, 0, 0] = float('nan')
    run = watched('', batches(4), validation, lr=0.25)
    with pytest.raises(RunError, match=r'the loss is nan in the validation after epoch 0, at learning rate 0.25'):
        epochs_of(run, monkeypatch)
    assert run.output.rows == {}


def test_updates_are_counted_over_the_epochs():
    # 7 batches in groups of 3 are 3 updates an epoch
    run = watched('--grad-accum-steps 3', batches(*[4] * 7), lr=0.0)
    expected = train_one_epoch(run, epoch=2)['loss']
    assert [update for update, _ in run.schedule.updates] == [7, 8, 9]
    assert run.schedule.updates[-1][1] == pytest.approx(expected)


@pytest.mark.parametrize(('interval', 'expected'), [(1, [(4, 3), (4, 6)]), (2, [(4, 6)]), (3, []), (0, [])])
def test_recoveries_are_saved_every_so_many_updates_but_not_at_the_end(interval, expected):
    run = watched(f'--grad-accum-steps 3 --recovery-interval {interval}', batches(*[4] * 7))
    train_one_epoch(run, epoch=4)
    assert run.output.recoveries == expected


def lines(caplog, start):
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith(start)]


def test_training_is_logged_at_the_interval_and_at_the_end(caplog):
    run = watched('--grad-accum-steps 2 --log-interval 3', batches(*[4] * 9, 1), lr=0.5)
    with caplog.at_level(logging.INFO, 'train'):
        train_one_epoch(run, epoch=6)
    found = lines(caplog, 'Train: ')
    assert [re.match(r'Train: 6 \[ +(\d)/5 \( *(\d+)%\)\]', line).groups() for line in found] == [
        ('0', '20'),
        ('3', '80'),
        ('4', '100'),
    ]
    assert all('LR: 5.000e-01' in line for line in found)


def test_the_last_update_is_logged_with_its_number(caplog):
    run = watched('--log-interval 100', batches(4, 4, 4))
    with caplog.at_level(logging.INFO, 'train'):
        train_one_epoch(run, epoch=0)
    assert [line.split('(')[0] for line in lines(caplog, 'Train: ')] == ['Train: 0 [   0/3 ', 'Train: 0 [   2/3 ']


def test_validation_is_logged_at_the_interval_and_at_the_end(caplog):
    run = watched('--log-interval 2', validation=batches(2, 2, 2, 1, seed=1), train=batches(2))
    with caplog.at_level(logging.INFO, 'train'):
        validate(run, run.model, log_suffix=' (EMA)')
    assert [line[:21] for line in lines(caplog, 'Test')] == [f'Test (EMA): [   {b}/3]  '[:21] for b in (0, 2, 3)]


def test_validation_learns_nothing_and_takes_no_gradients():
    run = make_run(validation=batches(4, 2, seed=1))
    seen = []
    run.model.register_forward_hook(lambda module, args, output: seen.append((module.training, output.requires_grad)))
    run.model.train()
    validate(run, run.model)
    assert seen == [(False, False)] * 2


def test_of_several_outputs_the_first_is_validated():
    class Two(nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, images):
            scores = self.model(images)
            return scores, -scores

    run = make_run(validation=batches(5, 3, seed=1))
    assert validate(run, Two(run.model)) == validate(run, run.model)


def test_gradients_left_by_others_are_not_trained_on():
    train = batches(4)
    run = make_run('', train)
    model = copy.deepcopy(run.model)
    F.cross_entropy(model(train[0][0]), train[0][1]).backward()
    expected = [weight - 0.1 * weight.grad for weight in model.parameters()]
    for weight in run.model.parameters():
        weight.grad = torch.ones_like(weight)
    train_one_epoch(run, epoch=0)
    for ours, theirs in zip(run.model.parameters(), expected, strict=True):
        torch.testing.assert_close(ours.data, theirs.data)


@pytest.mark.parametrize(('mode', 'limit'), [('norm', 0.25), ('value', 0.01)])
def test_gradients_are_clipped_as_asked_for(mode, limit):
    train = batches(4)
    run = make_run(f'--clip-grad {limit} --clip-mode {mode}', train)
    model = copy.deepcopy(run.model)
    F.cross_entropy(model(train[0][0]), train[0][1]).backward()
    gradients = [weight.grad for weight in model.parameters()]
    norm = torch.sqrt(sum((gradient**2).sum() for gradient in gradients))
    assert norm > limit  # there is something to clip
    train_one_epoch(run, epoch=0)
    for ours, before, gradient in zip(run.model.parameters(), model.parameters(), gradients, strict=True):
        clipped = gradient * limit / norm if mode == 'norm' else gradient.clamp(-limit, limit)
        torch.testing.assert_close(ours.data, before.data - 0.1 * clipped, rtol=1e-4, atol=1e-6)


class Clock:
    """Time that passes where it is told to: while a batch is waited for, and while it is computed on."""

    def __init__(self, monkeypatch, model, computing):
        self.now, self.computing = 1000.0, iter(computing)
        monkeypatch.setattr('time.perf_counter', lambda: self.now)
        model.register_forward_hook(lambda *_: self.pass_by(next(self.computing)))

    def pass_by(self, seconds):
        self.now += seconds

    def loader(self, given, waiting):
        for seconds, batch in zip(waiting, given, strict=True):
            self.pass_by(seconds)
            yield batch


@pytest.mark.parametrize(
    ('world_size', 'rates'), [(1, ['0.35', '0.35', '0.13', '0.17']), (2, ['0.70', '0.70', '0.26', '0.34'])]
)
def test_the_log_says_what_an_update_took_and_what_its_batches_were_waited_for(monkeypatch, caplog, world_size, rates):
    """Two batches an update: 8 images in 1 + 10 + 2 + 10 seconds, then 6 in 3 + 20 + 4 + 20."""
    given = batches(4, 4, 4, 2)
    run = make_run('--grad-accum-steps 2 --log-interval 1', given, lr=0.0)
    run.args.world_size = world_size
    losses = [F.cross_entropy(run.model(images), target).item() for images, target in given]
    clock = Clock(monkeypatch, run.model, [10, 10, 20, 20])
    run.train_loader = clock.loader(given, [1, 2, 3, 4])
    with caplog.at_level(logging.INFO, 'train'):
        train_one_epoch(run, epoch=0)
    first, second = lines(caplog, 'Train: ')
    assert f'Time: 23.000s,    {rates[0]}/s (23.000s,    {rates[1]}/s)' in first
    assert f'Time: 47.000s,    {rates[2]}/s (35.000s,    {rates[3]}/s)' in second
    assert first.endswith('Data: 2.000 (1.500)') and second.endswith('Data: 4.000 (2.500)')
    assert f'Loss: {losses[1]:#.3g} ({(losses[0] + losses[1]) / 2:#.3g})' in first
    mean = sum(loss * len(images) for loss, (images, _) in zip(losses, given, strict=True)) / 14
    assert f'Loss: {losses[3]:#.3g} ({mean:#.3g})' in second


def test_the_log_of_a_validation_says_what_a_batch_took_with_its_images(monkeypatch, caplog):
    given = batches(5, 2, seed=1)
    run = make_run('--log-interval 1', batches(4))
    losses = [F.cross_entropy(run.model(images), target).item() for images, target in given]
    clock = Clock(monkeypatch, run.model, [10, 20])

    class Loader(list):
        def __iter__(self):
            return clock.loader(given, [1, 2])

    run.eval_loader = Loader(given)
    with caplog.at_level(logging.INFO, 'train'):
        validate(run, run.model)
    first, second = lines(caplog, 'Test')
    assert 'Time: 11.000 (11.000)' in first and 'Time: 22.000 (16.500)' in second
    mean = (5 * losses[0] + 2 * losses[1]) / 7
    assert (
        f'Loss: {losses[0]:>7.3f} ({losses[0]:>6.3f})' in first and f'Loss: {losses[1]:>7.3f} ({mean:>6.3f})' in second
    )
