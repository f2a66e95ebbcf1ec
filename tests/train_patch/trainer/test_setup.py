"""The parts of a run: timm's model with the weights that are asked for, losses by their formulas, learning rates."""

import argparse
import math
import re
from contextlib import suppress
from types import SimpleNamespace

import pytest
import timm
import torch
from timm import layers
from torch import nn

from train_patch.common.errors import WrongArguments
from train_patch.trainer import setup
from train_patch.trainer.arguments import parse_arguments

from .conftest import arguments

CPU = torch.device('cpu')
FOUR = SimpleNamespace(class_to_idx={name: index for index, name in enumerate('abcd')})
SMALL = '--model test_resnet --num-classes 4'


def build(line=SMALL, dataset=FOUR, **more):
    torch.manual_seed(0)
    return setup.build_model(arguments(line, **more), dataset, CPU)


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def plain(**kwargs):
    torch.manual_seed(0)
    return timm.create_model('test_resnet', **{'num_classes': 4, **kwargs})


def kinds(model):
    return {type(module) for module in model.modules()}


# The model


def test_a_model_is_timms_with_the_weights_of_the_seed_and_the_options_that_are_given():
    assert same(build(), plain()) and layers.DropPath not in kinds(build())
    assert same(build(f'{SMALL} --input-size 1 8 8'), plain(in_chans=1))
    assert build(f'{SMALL} --drop .25').drop_rate == 0.25
    assert layers.DropPath in kinds(build(f'{SMALL} --drop-path .2'))
    assert build(f'{SMALL} --model-kwargs global_pool=max').global_pool.pool_type == 'max'
    assert build(f'{SMALL} --channels-last').conv1[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_classes_left_to_the_model_are_those_of_the_data():
    thousand = SimpleNamespace(class_to_idx={index: index for index in range(1000)})
    assert build('--model test_resnet', thousand).num_classes == 1000
    with pytest.raises(
        WrongArguments, match=r"^--num-classes is missing, and the model's 1000: the data has 4 classes"
    ):
        build('--model test_resnet')
    build('--model test_resnet --class-map map.txt')  # a map may leave some out


@pytest.mark.parametrize('option', ['--initial-checkpoint {}', '--pretrained --pretrained-path {}'])
def test_first_weights_come_from_a_file(tmp_path, option):
    path, expected = tmp_path / 'weights.pth', plain()
    nn.init.ones_(expected.conv1[0].weight)
    torch.save(expected.state_dict(), path)
    assert same(build(f'{SMALL} {option.format(path)}'), expected)


def test_first_weights_come_from_a_checkpoint_of_timms_and_its_moving_average_is_preferred(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.manual_seed(1)
    weights, average = (timm.create_model('test_resnet', num_classes=4) for _ in range(2))
    torch.save({'state_dict': weights.state_dict(), 'args': argparse.Namespace(lr=1)}, path)
    assert same(build(f'{SMALL} --initial-checkpoint {path}'), weights)
    torch.save({'state_dict': weights.state_dict(), 'state_dict_ema': average.state_dict()}, path)
    assert same(build(f'{SMALL} --initial-checkpoint {path}'), average)


def test_weights_that_do_not_fit_are_named_in_one_short_line(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save({f'{i}\n': torch.zeros(1) for i in range(200)}, path)
    named = f'--model test_resnet --initial-checkpoint {path}: cannot be built with these arguments'
    with pytest.raises(WrongArguments, match=f'^{named}: [^\n]{{1,300}}$'):
        build(f'{SMALL} --initial-checkpoint {path}')


@pytest.mark.parametrize(('distributed', 'dist_bn'), [(True, ''), (False, 'reduce')])
def test_synchronized_statistics_leave_nothing_to_share(distributed, dist_bn):
    args = arguments(f'{SMALL} --sync-bn', distributed=distributed)
    model = setup.build_model(args, FOUR, CPU)
    assert any(issubclass(kind, nn.SyncBatchNorm) for kind in kinds(model)) is distributed
    assert args.dist_bn == dist_bn


@pytest.mark.parametrize(
    ('model', 'message'),
    [
        (nn.Sequential(nn.Linear(5, 4)), '--model test_resnet: cannot take images of 3×32×40: mat1 and mat2 '),
        (nn.Sequential(nn.Flatten(), nn.Linear(3840, 5)), '--model test_resnet: gives (1, 5) for an image with'),
    ],
)
def test_a_model_that_cannot_take_the_images_is_named(model, message):
    for line in (SMALL, f'{SMALL} -b 1'):
        with pytest.raises(WrongArguments, match=f'^{re.escape(message)}[^\n]*$'):
            setup.check_images_fit(arguments(line), model, (3, 32, 40))


def test_a_look_at_one_image_changes_nothing_and_says_where_batch_norm_needs_two():
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.BatchNorm1d(3072), nn.Linear(3072, 4))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(0)
    setup.check_images_fit(arguments(SMALL), model, (3, 32, 32))
    with pytest.raises(WrongArguments, match=r'^--batch-size 1: the model cannot train on one image: Expected more'):
        setup.check_images_fit(arguments(f'{SMALL} -b 1'), model, (3, 32, 32))
    drawn = torch.rand(())
    torch.manual_seed(0)
    assert drawn == torch.rand(())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(('line', 'shared'), [('', True), ('--no-ddp-bb', False)])
def test_buffers_are_shared_unless_it_is_switched_off(tmp_path, line, shared):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/meeting', rank=0, world_size=1)
    try:
        model = setup.distribute_model(arguments(line, distributed=True), nn.Linear(1, 1), CPU)
        assert model.broadcast_buffers is shared
    finally:
        torch.distributed.destroy_process_group()


# Losses by their formulas

SCORES = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.3, -2.0]])
HARD = torch.tensor([0, 2])
SOFT = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.2, 0.8]])
LOGS, P = SCORES.log_softmax(1), SCORES.sigmoid()


def binary(target):
    return -(target * P.log() + (1 - target) * (1 - P).log()).mean()


@pytest.mark.parametrize(
    ('line', 'target', 'expected'),
    [
        ('--smoothing .3', HARD, -(0.7 * LOGS[[0, 1], HARD] + 0.3 * LOGS.mean(1)).mean()),
        ('--smoothing 0', HARD, -LOGS[[0, 1], HARD].mean()),
        # a mixer's labels are smoothed already
        ('--smoothing .3 --mix-mode hmix', SOFT, -(SOFT * LOGS).sum(1).mean()),
        ('--smoothing .3 --bce-loss', HARD, binary(torch.full((2, 3), 0.1).scatter(1, HARD[:, None], 0.8))),
        ('--smoothing .3 --bce-loss --mix-mode hmix', SOFT, binary(SOFT)),
        ('--bce-loss --bce-target-thresh .25 --mix-mode hmix', SOFT, binary((SOFT > 0.25).float())),
    ],
)
def test_losses_follow_their_formulas(line, target, expected):
    args, mixing = parse_arguments(f'--num-classes 3 {line}'.split())
    assert setup.build_loss(args, mixing.active)(SCORES, target).item() == pytest.approx(expected.item())


# Optimizer and schedule


@pytest.mark.parametrize(
    ('line', 'world_size', 'lr'),
    [
        ('--lr .3 --lr-base 5', 4, 0.3),
        ('--lr-base .1 -b 64', 2, 0.1 * 128 / 256),
        ('--lr-base .2 -b 64 --grad-accum-steps 3', 2, 0.2 * 384 / 256),
        ('--lr 0 --lr-base .1 -b 64 --lr-base-size 128', 1, 0.1 * 64 / 128),
        ('--lr-base .1 -b 64 --opt AdamW', 1, 0.1 * math.sqrt(64 / 256)),
        ('--lr-base .1 -b 64 --opt lamb', 1, 0.1 * math.sqrt(64 / 256)),
        ('--lr-base .1 -b 64 --opt adamw --lr-base-scale linear', 1, 0.1 * 64 / 256),
        ('--lr-base .1 -b 64 --lr-base-scale sqrt', 1, 0.1 * math.sqrt(64 / 256)),
    ],
)
def test_the_learning_rate_follows_the_global_batch(line, world_size, lr):
    args = arguments(line, world_size=world_size)
    optimizer = setup.build_optimizer(args, nn.Linear(2, 2))
    assert args.lr == pytest.approx(lr)
    assert all(group['lr'] == args.lr for group in optimizer.param_groups)


def test_the_options_of_an_optimizer_reach_it():
    line = '--opt sgd --momentum .3 --weight-decay .4 --opt-kwargs dampening=.5 nesterov=False --lr .1'
    groups = setup.build_optimizer(arguments(line), nn.Linear(2, 2)).param_groups
    kept, decayed = sorted(groups, key=lambda group: group['weight_decay'])
    assert (decayed['momentum'], decayed['weight_decay'], decayed['dampening']) == (0.3, 0.4, 0.5)
    assert kept['weight_decay'] == 0  # of biases


def test_a_schedule_is_timms_and_says_its_epochs():
    def rates(line, step):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule, epochs = setup.build_schedule(arguments(line), optimizer, 4, 'top1')
        found = []
        for count in range(3):
            getattr(schedule, step)(count)
            found.append(optimizer.param_groups[0]['lr'])
        return found, epochs

    line = '--sched step --decay-epochs 1 --decay-rate .5 --warmup-epochs 0 --epochs 4'
    assert rates(line, 'step') == ([1.0, 0.5, 0.25], 4)
    assert rates('--sched cosine --epochs 4 --warmup-epochs 0 --cooldown-epochs 2', 'step')[1] == 6
    warm = '--sched cosine --warmup-epochs 1 --warmup-lr 0 --epochs 2 --sched-on-updates'
    assert rates(warm, 'step_update')[0] == pytest.approx([0, 0.25, 0.5])
    assert setup.build_schedule(arguments('--sched none --epochs 7'), None, 1, 'top1')[0] is None
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with suppress(WrongArguments):  # timm 1.0.20's plateau does not work with the newest torch
        for metric, better in (('top1', 'max'), ('loss', 'min')):
            plateau, _ = setup.build_schedule(arguments('--sched plateau'), optimizer, 1, metric)
            assert plateau.lr_scheduler.mode == better
