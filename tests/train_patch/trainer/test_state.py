"""What a checkpoint holds of a run and what a run takes from one, with real optimizers, averages and schedules."""

import copy
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch
from timm.scheduler import PlateauLRScheduler
from timm.utils import ModelEmaV3
from torch import nn

from train_patch.trainer.state import Run, Updates


class Scaler:
    """torch's scaler for the CPU under the name that timm's, which is made for CUDA, has in checkpoints."""

    state_dict_key = 'amp_scaler'

    def __init__(self, scale):
        self.scaler = torch.amp.GradScaler('cpu', init_scale=scale)

    def state_dict(self):
        return self.scaler.state_dict()

    def load_state_dict(self, state):
        self.scaler.load_state_dict(state)


def make_run(seed, plateau=True, average=True, scaler=True, no_resume_opt=False):
    """A run whose every part has a state that depends on the seed."""
    torch.manual_seed(seed)
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1 * (seed + 1), momentum=0.9)
    ema = ModelEmaV3(model, decay=0.5) if average else None
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()  # now momentum has a state, and model and average differ
    schedule = PlateauLRScheduler(optimizer, patience_t=seed + 5) if plateau else None
    if plateau:
        schedule.step(1, metric=1.0 + seed)
        schedule.restore_lr = [0.5 + seed]
    return Run(
        args=SimpleNamespace(model='linear', no_resume_opt=no_resume_opt),
        device=torch.device('cpu'),
        model=model,
        average=ema,
        mixup_fn=None,
        train_loader=None,
        eval_loader=None,
        loss_fn=nn.CrossEntropyLoss(),
        optimizer=optimizer,
        schedule=schedule,
        num_epochs=1,
        updates=Updates(1, 1),
        autocast=nullcontext,
        scaler=Scaler(1024.0 * (seed + 1)) if scaler else None,
        eval_metric='top1',
    )


def weights(module):
    return [tensor.clone() for tensor in module.state_dict().values()]


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def momentum(run):
    return [state['momentum_buffer'] for state in run.optimizer.state.values()]


def test_all_parts_stand_in_a_checkpoint_under_timms_names():
    state = make_run(0).state()
    assert set(state) == {'arch', 'state_dict', 'optimizer', 'lr_scheduler', 'amp_scaler', 'state_dict_ema'}
    assert state['arch'] == 'linear' and state['amp_scaler']['scale'] == 1024.0
    assert not torch.equal(state['state_dict']['weight'], state['state_dict_ema']['weight'])


def test_parts_that_a_run_lacks_are_not_in_its_checkpoint():
    state = make_run(0, plateau=False, average=False, scaler=False).state()
    assert set(state) == {'arch', 'state_dict', 'optimizer', 'lr_scheduler'} and state['lr_scheduler'] is None


def test_a_run_takes_everything_from_a_checkpoint():
    saved, run = make_run(0), make_run(1)
    run.load_state(copy.deepcopy(saved.state()))
    assert same(weights(run.model), weights(saved.model))
    assert same(weights(run.average.module), weights(saved.average.module))
    assert same(momentum(run), momentum(saved)) and run.learning_rate == pytest.approx(0.1)
    assert run.scaler.state_dict()['scale'] == 1024.0
    assert run.schedule.restore_lr == [0.5] and run.schedule.lr_scheduler.best == 1.0


def test_without_the_optimizer_the_weights_alone_are_taken():
    saved, run = make_run(0), make_run(1, no_resume_opt=True)
    before = [tensor.clone() for tensor in momentum(run)]
    run.load_state(copy.deepcopy(saved.state()))
    assert same(weights(run.model), weights(saved.model))
    assert same(weights(run.average.module), weights(saved.average.module))
    assert same(momentum(run), before) and run.learning_rate == pytest.approx(0.2)
    assert run.scaler.state_dict()['scale'] == 2048.0
    assert run.schedule.restore_lr == [1.5] and run.schedule.lr_scheduler.best == 2.0


def test_a_checkpoint_without_an_average_starts_one_from_its_weights():
    saved, run = make_run(0, average=False, scaler=False), make_run(1)
    run.load_state(copy.deepcopy(saved.state()))
    assert same(weights(run.average.module), weights(saved.model))
    assert run.scaler.state_dict()['scale'] == 2048.0  # nor has it a scale


def test_a_run_without_parts_passes_over_those_of_a_checkpoint():
    saved, run = make_run(0), make_run(1, plateau=False, average=False, scaler=False)
    run.load_state(copy.deepcopy(saved.state()))
    assert same(weights(run.model), weights(saved.model)) and same(momentum(run), momentum(saved))


def test_a_plateau_goes_on_from_a_checkpoint_without_one():
    saved, run = make_run(0, plateau=False), make_run(1)
    run.load_state(copy.deepcopy(saved.state()))
    assert run.schedule.restore_lr == [1.5] and run.schedule.lr_scheduler.best == 2.0


def test_the_learning_rate_is_the_mean_over_the_groups():
    run = make_run(0, plateau=False)
    run.optimizer.param_groups[0]['lr'] = 0.1
    run.optimizer.add_param_group({'params': [nn.Parameter(torch.zeros(1))], 'lr': 0.4})
    run.optimizer.add_param_group({'params': [nn.Parameter(torch.zeros(1))], 'lr': 0.7})
    assert run.learning_rate == pytest.approx(0.4)


@pytest.mark.parametrize(('batches', 'made'), [(0, 6), (2, 6), (3, 7), (5, 7), (6, 8)])
def test_updates_made_are_whole_groups(batches, made):
    found = Updates(num_batches=7, accum_steps=3).made(2, batches)
    assert found == made and type(found) is int
