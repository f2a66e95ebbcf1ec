"""What a run is built of, part by part: model, mixer, loss, optimizer, schedule, average, precision."""

import math
import random
import re
from contextlib import nullcontext
from types import SimpleNamespace

import numpy as np
import pytest
import timm
import torch
from timm import utils
from timm.loss import BinaryCrossEntropy, JsdCrossEntropy, LabelSmoothingCrossEntropy, SoftTargetCrossEntropy
from torch import nn

from hmix_timm import FastCollateMixup, Mixup, PuzzleMix
from train_patch.common.errors import RunError
from train_patch.trainer import setup
from train_patch.trainer.arguments import WrongArguments, parse_arguments

from .test_loop import arguments

CPU = torch.device('cpu')
FOUR = SimpleNamespace(class_to_idx={name: index for index, name in enumerate('abcd')})
SMALL = '--model test_resnet --num-classes 4'


def args_of(line='', **more):
    args = arguments(line)
    vars(args).update(prefetcher=True, **more)
    return args


def build(line=SMALL, dataset=FOUR, **more):
    torch.manual_seed(0)
    return setup.build_model(args_of(line, **more), dataset, CPU)


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True))


def plain(**kwargs):
    torch.manual_seed(0)
    return timm.create_model('test_resnet', **{'num_classes': 4, **kwargs})


# The process


@pytest.mark.parametrize(('rank', 'seed'), [(0, 7), (3, 10)])
def test_everything_is_built_from_the_seed_and_the_rank(rank, seed):
    args = args_of('--seed 7', rank=rank)
    setup.prepare_torch(args, CPU)
    found = random.random(), np.random.rand(), torch.rand(())
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    assert found == (random.random(), np.random.rand(), torch.rand(()))


@pytest.mark.parametrize(('line', 'prefetcher'), [('', True), ('--no-prefetcher', False)])
def test_the_prefetcher_is_used_unless_it_is_refused(line, prefetcher):
    args = arguments(line)
    del args.prefetcher
    setup.prepare_torch(args, CPU)
    assert args.prefetcher is prefetcher


@pytest.mark.parametrize(
    ('line', 'distributed', 'device', 'refused'),
    [
        ('--sync-bn', True, 'cpu', True),
        ('--sync-bn', False, 'cpu', False),
        ('', True, 'cpu', False),
        ('--sync-bn', True, 'meta', False),
    ],
)
def test_statistics_of_all_processes_need_gpus(line, distributed, device, refused):
    args = args_of(line, distributed=distributed)
    if refused:
        with pytest.raises(WrongArguments, match='--sync-bn works on GPUs only'):
            setup.prepare_torch(args, torch.device(device))
    else:
        setup.prepare_torch(args, torch.device(device))


@pytest.mark.parametrize('line', ['', '--fast-norm'])
def test_fast_norm_is_used_where_it_is_asked_for(monkeypatch, line):
    called = []
    monkeypatch.setattr(setup, 'set_fast_norm', lambda: called.append(True))
    setup.prepare_torch(args_of(line), CPU)
    assert called == [True] * bool(line)


def test_fast_kernels_belong_to_cuda():
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.benchmark
    try:
        matmul.allow_tf32 = cudnn.benchmark = False
        setup.prepare_torch(args_of(), CPU)
        assert (matmul.allow_tf32, cudnn.benchmark) == (False, False)
        setup.prepare_torch(args_of(), torch.device('cuda'))
        assert (matmul.allow_tf32, cudnn.benchmark) == (True, True)
    finally:
        matmul.allow_tf32, cudnn.benchmark = before


# The model


def test_a_model_is_timms_with_the_weights_of_the_seed(caplog):
    caplog.set_level('INFO', 'train')
    model = build()
    assert same(model, plain())
    count = sum(weight.numel() for weight in plain().parameters())
    assert f'Model test_resnet created, param count: {count}' in caplog.text


def test_only_the_first_process_speaks_of_the_model(caplog):
    caplog.set_level('INFO', 'train')
    build(rank=1)
    assert caplog.text == ''


@pytest.fixture
def asked(monkeypatch):
    """asked('line') → what timm's `create_model` is asked for."""

    def run(line):
        calls = []

        def create(name, **kwargs):
            calls.append({'name': name, **kwargs})
            return plain()

        monkeypatch.setattr(setup, 'create_model', create)
        build(line)
        return calls[0]

    return run


NOTHING = {
    'name': 'test_resnet',
    'pretrained': False,
    'in_chans': 3,
    'num_classes': 4,
    'drop_rate': 0.0,
    'drop_path_rate': None,
    'drop_block_rate': None,
    'global_pool': None,
    'bn_momentum': None,
    'bn_eps': None,
}
MODEL_OPTIONS = {
    '': {},
    '--pretrained': {'pretrained': True},
    '--in-chans 1': {'in_chans': 1},
    '--input-size 1 8 8': {'in_chans': 1},
    '--drop .1': {'drop_rate': 0.1},
    '--drop-path .2': {'drop_path_rate': 0.2},
    '--drop-block .3': {'drop_block_rate': 0.3},
    '--gp max': {'global_pool': 'max'},
    '--bn-momentum .4': {'bn_momentum': 0.4},
    '--bn-eps .5': {'bn_eps': 0.5},
    '--model-kwargs a=1 b=x': {'a': 1, 'b': 'x'},
}


@pytest.mark.parametrize('line', MODEL_OPTIONS)
def test_each_option_reaches_timms_factory_and_changes_nothing_else(asked, line):
    assert asked(f'{SMALL} {line}') == {**NOTHING, **MODEL_OPTIONS[line]}


def test_a_file_in_the_place_of_the_published_weights_keeps_its_classifier(asked, tmp_path):
    path = tmp_path / 'weights.pth'
    path.touch()
    found = asked(f'{SMALL} --pretrained --pretrained-path {path}')
    assert found == {**NOTHING, 'pretrained': True, 'pretrained_cfg_overlay': {'file': str(path), 'num_classes': -1}}


@pytest.mark.parametrize('option', ['--initial-checkpoint', '--pretrained-path'])
def test_a_missing_file_of_weights_is_named_before_anything_is_built(asked, option):
    with pytest.raises(WrongArguments, match=f'^{option} /no/file: there is no such file$'):
        asked(f'{SMALL} {option} /no/file')


def test_what_a_model_does_not_know_is_said_in_one_line(tmp_path):
    with pytest.raises(WrongArguments) as refusal:
        build(f'{SMALL} --model-kwargs no_such=1')
    assert re.fullmatch("--model test_resnet: cannot be built with these arguments: .*'no_such'.*", str(refusal.value))
    path = tmp_path / 'weights.pth'
    path.write_bytes(b'none')
    with pytest.raises(WrongArguments) as refusal:
        build(f'{SMALL} --pretrained --pretrained-path {path}')
    assert str(refusal.value).startswith(f'--model test_resnet --pretrained-path {path}: cannot be built with')


def test_classes_left_to_the_model_are_its_own_and_the_datas():
    args = args_of('--model test_resnet')
    thousand = SimpleNamespace(class_to_idx={index: index for index in range(1000)})
    setup.build_model(args, thousand, CPU)
    assert args.num_classes == 1000
    with pytest.raises(
        WrongArguments, match=r"^--num-classes is missing, and the model's 1000: the data has 4 classes"
    ):
        build('--model test_resnet')
    setup.build_model(args_of('--model test_resnet --class-map map.txt'), FOUR, CPU)  # may leave some out


def test_initial_weights_are_loaded_and_a_moving_average_is_preferred(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.manual_seed(1)
    weights, average = (timm.create_model('test_resnet', num_classes=4) for _ in range(2))
    torch.save({'state_dict': weights.state_dict(), 'args': SMALL}, path)
    assert same(build(f'{SMALL} --initial-checkpoint {path}'), weights)
    torch.save({'state_dict': weights.state_dict(), 'state_dict_ema': average.state_dict()}, path)
    assert same(build(f'{SMALL} --initial-checkpoint {path}'), average)
    torch.save({'state_dict': weights.state_dict(), 'args': args_of()}, path)  # as timm's script saves them
    assert same(build(f'{SMALL} --initial-checkpoint {path}'), weights)


def test_initial_weights_that_do_not_fit_are_named_in_one_short_line(tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save({f'{i}\n': torch.zeros(1) for i in range(200)}, path)
    with pytest.raises(RunError) as refusal:
        build(f'{SMALL} --initial-checkpoint {path}')
    start = f'cannot use --initial-checkpoint {path}: '
    assert str(refusal.value).startswith(start)
    assert '\n' not in str(refusal.value) and len(str(refusal.value)) <= len(start) + 300


def test_a_new_head_is_scaled_and_its_bias_set():
    before = plain().get_classifier()
    scaled = build(f'{SMALL} --head-init-scale .5').get_classifier()
    assert torch.equal(scaled.weight, before.weight / 2) and torch.equal(scaled.bias, before.bias / 2)
    both = build(f'{SMALL} --head-init-scale 0 --head-init-bias -1').get_classifier()
    assert not both.weight.any() and (both.bias == -1).all()
    zero = build(f'{SMALL} --head-init-bias 0').get_classifier()
    assert torch.equal(zero.weight, before.weight) and not zero.bias.any()


@pytest.mark.parametrize(
    ('line', 'named'),
    [
        ('--head-init-scale 2', '--head-init-scale'),
        ('--head-init-bias 1', '--head-init-bias'),
        ('--head-init-scale 2 --head-init-bias 1', '--head-init-scale'),
    ],
)
def test_a_head_of_another_kind_is_named(line, named):
    class TwoHeads(nn.Module):
        def get_classifier(self):
            return nn.Linear(2, 2), nn.Linear(2, 2)

    with pytest.raises(
        WrongArguments, match=f'^{named}: the model test_resnet has no head with one weight and one bias$'
    ):
        setup._convert_model(args_of(f'{SMALL} {line}'), TwoHeads())


def test_checkpointing_is_turned_on_where_a_model_can():
    assert build(f'{SMALL} --grad-checkpointing').grad_checkpointing is True
    assert build().grad_checkpointing is False
    with pytest.raises(WrongArguments, match=r'^--grad-checkpointing: the model test_resnet cannot do it$'):
        setup._convert_model(args_of(f'{SMALL} --grad-checkpointing'), nn.Linear(2, 2))


@pytest.mark.parametrize(('line', 'splits'), [('--aug-splits 3', 3), ('--aug-splits 2', 2), ('--resplit', 2)])
def test_batch_norm_is_split_as_the_batch_is(line, splits):
    model = build(f'{SMALL} --split-bn {line}')
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    split = [module for module in norms if hasattr(module, 'num_splits')]
    assert split and {module.num_splits for module in split} == {splits}


@pytest.mark.parametrize(('distributed', 'line', 'dist_bn'), [(True, '--sync-bn', ''), (False, '--sync-bn', 'reduce')])
def test_synchronized_statistics_leave_nothing_to_share(distributed, line, dist_bn):
    args = args_of(f'{SMALL} {line}', distributed=distributed)
    model = setup.build_model(args, FOUR, CPU)
    assert any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()) is distributed
    assert args.dist_bn == dist_bn
    args = args_of(SMALL, distributed=distributed)
    model = setup.build_model(args, FOUR, CPU)
    assert not any(isinstance(module, nn.SyncBatchNorm) for module in model.modules()) and args.dist_bn == 'reduce'


def test_precision_and_memory_format_are_those_that_are_asked_for():
    assert {weight.dtype for weight in build(f'{SMALL} --model-dtype bfloat16').parameters()} == {torch.bfloat16}
    model = build(f'{SMALL} --channels-last')
    assert model.conv1[0].weight.is_contiguous(memory_format=torch.channels_last)
    model = build()
    assert not model.conv1[0].weight.is_contiguous(memory_format=torch.channels_last)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


# One image through the model


def fits(line, model, size=(3, 32, 32)):
    return setup.check_images_fit(args_of(line), model, size, CPU)


def test_a_look_at_one_image_changes_nothing():
    model = build(f'{SMALL} --drop .5')
    before = {name: value.clone() for name, value in model.state_dict().items()}
    drawing = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(3072, 4))
    torch.manual_seed(0)
    fits(SMALL, model)
    fits(f'{SMALL} -b 1', drawing)
    drawn = torch.rand(())
    torch.manual_seed(0)
    assert drawn == torch.rand(())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_image_has_the_models_size_precision_and_no_gradients():
    seen = []

    class Model(nn.Module):
        def forward(self, images):
            seen.append((images.shape, images.dtype, bool(images.any()), torch.is_grad_enabled(), self.training))
            return torch.zeros(1, 4), torch.zeros(1, 9)  # of several outputs the first counts

    fits(f'{SMALL} --model-dtype bfloat16', Model(), (1, 8, 10))
    assert seen == [((1, 1, 8, 10), torch.bfloat16, False, False, False)]
    fits(f'{SMALL} -b 1', Model(), (1, 8, 10))
    assert [training for *_, training in seen[1:]] == [False, True]


@pytest.mark.parametrize(
    ('line', 'model', 'message'),
    [
        ('', nn.Linear(5, 4), r'--model test_resnet: cannot take images of 3×32×40: mat1 and mat2 '),
        (
            '-b 1',
            nn.Sequential(nn.Flatten(), nn.Linear(3840, 4), nn.BatchNorm1d(4)),
            '--batch-size 1: the model test_re',
        ),
        ('-b 2', nn.Sequential(nn.Flatten(), nn.Linear(3840, 4), nn.BatchNorm1d(4)), None),
        ('', nn.Sequential(nn.Flatten(), nn.Linear(3840, 5)), r'--model test_resnet: gives (1, 5) for an image with'),
        (
            '',
            nn.Identity(),
            r'--model test_resnet: gives (1, 3, 32, 40) for an image with these arguments, not 4 scores',
        ),
    ],
)
def test_a_model_that_cannot_take_the_images_is_named(line, model, message):
    if message is None:
        return fits(f'{SMALL} {line}', model, (3, 32, 40))
    with pytest.raises(WrongArguments, match=f'^{re.escape(message)}') as refusal:
        fits(f'{SMALL} {line}', model, (3, 32, 40))
    assert '\n' not in str(refusal.value)


def test_batch_norm_over_one_value_is_named_by_the_batch_size():
    class Norm(nn.Module):
        def forward(self, images):
            raise ValueError('Expected more than 1 value per channel when training')

    with pytest.raises(WrongArguments, match=r'^--batch-size 128: the model test_resnet cannot train on so few images'):
        fits(SMALL, Norm())


# The mixer


def mixing_of(line):
    return parse_arguments(line.split())[1]


def mixers(line, **more):
    config = {'input_size': (3, 32, 32), 'std': (0.2, 0.3, 0.4)}
    args, mixing = args_of(f'{SMALL} {line}', **more), mixing_of(f'{SMALL} {line}')
    return setup.build_mixers(args, nn.Identity(), config, nullcontext, mixing)


def test_a_mixer_mixes_in_the_workers_or_in_the_loop(caplog):
    caplog.set_level('INFO', 'train')
    assert mixers('') == (None, None)
    in_loop, collate_fn = mixers('--mix-mode hmix --mixup 0.3')
    assert in_loop is None and type(collate_fn) is FastCollateMixup
    assert repr(collate_fn).startswith('FastCollateMixup(HMix(alpha=1, ratio=0.75), ')
    args = args_of(f'{SMALL} --mix-mode hmix')
    args.prefetcher = False
    in_loop, collate_fn = setup.build_mixers(args, nn.Identity(), {}, nullcontext, mixing_of('--mix-mode hmix'))
    assert type(in_loop) is Mixup and collate_fn is None
    in_loop, collate_fn = mixers('--mix-mode puzzlemix')
    assert type(in_loop) is PuzzleMix and collate_fn is None and tuple(in_loop.std) == (0.2, 0.3, 0.4)
    lines = [record.getMessage().split('(')[0] for record in caplog.records]
    said = ['Mixing: none', 'Mixing: FastCollateMixup', 'Mixing: Mixup', 'Mixing: PuzzleMix']
    assert lines == [said[0], 'replaced by --mix-mode hmix: --mixup 0.3', *said[1:]]


def test_only_the_first_process_speaks_of_the_mixer(caplog):
    caplog.set_level('INFO', 'train')
    mixers('--mix-mode hmix', rank=1)
    assert caplog.text == ''


def test_images_that_cannot_be_cut_are_named():
    config = {'input_size': (3, 32, 40), 'std': (0.2, 0.3, 0.4)}
    with pytest.raises(WrongArguments, match=r'^--mix-mode puzzlemix: '):
        mixing = mixing_of('--mix-mode puzzlemix')
        setup.build_mixers(args_of(f'{SMALL} --mix-mode puzzlemix'), nn.Identity(), config, nullcontext, mixing)


# Loss, against the formulas


SCORES = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.3, -2.0]])
HARD = torch.tensor([0, 2])
SOFT = torch.tensor([[0.7, 0.3, 0.0], [0.0, 0.2, 0.8]])
LOGS = SCORES.log_softmax(1)


def loss(line):
    return setup.build_loss(args_of(f'--num-classes 3 {line}'), mixing_of(line).active)


def test_smoothed_cross_entropy():
    smooth = -(0.7 * LOGS[[0, 1], HARD] + 0.3 * LOGS.mean(1)).mean()
    assert loss('--smoothing .3')(SCORES, HARD).item() == pytest.approx(smooth.item())
    assert type(loss('')) is LabelSmoothingCrossEntropy
    assert loss('--smoothing 0')(SCORES, HARD).item() == pytest.approx(-LOGS[[0, 1], HARD].mean().item())


def test_soft_cross_entropy_where_labels_are_mixed():
    found = loss('--mix-mode hmix --smoothing .3')
    assert type(found) is SoftTargetCrossEntropy
    assert found(SCORES, SOFT).item() == pytest.approx(-(SOFT * LOGS).sum(1).mean().item())


def binary(target, weight=1.0):
    p = SCORES.sigmoid()
    return -(weight * target * p.log() + (1 - target) * (1 - p).log())


def test_binary_cross_entropy():
    assert type(loss('--bce-loss')) is BinaryCrossEntropy
    smooth = torch.full((2, 3), 0.1).scatter(1, HARD[:, None], 0.7 + 0.1)
    assert loss('--bce-loss --smoothing .3')(SCORES, HARD).item() == pytest.approx(binary(smooth).mean().item())
    # a mixer's labels are smoothed already
    mixed = '--mix-mode hmix --smoothing .3 --bce-loss'
    assert loss(mixed)(SCORES, SOFT).item() == pytest.approx(binary(SOFT).mean().item())
    assert loss(mixed).smoothing == 0.0
    summed = loss(f'{mixed} --bce-sum')(SCORES, SOFT).item()
    assert summed == pytest.approx(binary(SOFT).sum(1).mean().item())
    above = loss(f'{mixed} --bce-target-thresh .25')(SCORES, SOFT).item()
    assert above == pytest.approx(binary((SOFT > 0.25).float()).mean().item())
    weighted = loss(f'{mixed} --bce-pos-weight 3')(SCORES, SOFT).item()
    assert weighted == pytest.approx(binary(SOFT, 3.0).mean().item())


def test_jensen_shannon_over_the_splits():
    found = loss('--jsd-loss --aug-splits 4 --smoothing .3')
    assert type(found) is JsdCrossEntropy and found.num_splits == 4
    assert found.cross_entropy_loss.smoothing == 0.3


# Optimizer and learning rate


@pytest.mark.parametrize(
    ('line', 'world_size', 'lr'),
    [
        ('--lr .3 --lr-base 5', 4, 0.3),
        ('--lr-base .1 -b 64', 2, 0.1 * 128 / 256),
        ('--lr-base .2 -b 64 --grad-accum-steps 3', 2, 0.2 * 384 / 256),
        ('--lr 0 --lr-base .1 -b 64 --lr-base-size 128', 1, 0.1 * 64 / 128),
        ('--lr-base .1 -b 64 --opt adamw', 1, 0.1 * math.sqrt(64 / 256)),
        ('--lr-base .1 -b 64 --opt lamb', 1, 0.1 * math.sqrt(64 / 256)),
        ('--lr-base .1 -b 64 --opt AdamW', 1, 0.1 * math.sqrt(64 / 256)),
        ('--lr-base .1 -b 64 --opt adamw --lr-base-scale linear', 1, 0.1 * 64 / 256),
        ('--lr-base .1 -b 64 --lr-base-scale sqrt', 1, 0.1 * math.sqrt(64 / 256)),
    ],
)
def test_the_learning_rate_follows_the_global_batch(line, world_size, lr):
    args = args_of(line, world_size=world_size)
    optimizer = setup.build_optimizer(args, nn.Linear(2, 2))
    assert args.lr == pytest.approx(lr)
    assert all(group['lr'] == args.lr for group in optimizer.param_groups)


def test_a_scaled_learning_rate_is_explained_by_the_first_process(caplog):
    caplog.set_level('INFO', 'train')
    for rank in (1, 0):
        setup.build_optimizer(args_of('--lr-base .2 -b 64', rank=rank), nn.Linear(2, 2))
    assert [record.getMessage() for record in caplog.records] == [
        'Learning rate 0.05: --lr-base 0.2, global batch 64, linear scaling.'
    ]


def test_optimizer_options_reach_it():
    line = '--opt sgd --momentum .3 --weight-decay .4 --opt-kwargs dampening=.5 nesterov=False --lr .1'
    decayed, kept = setup.build_optimizer(args_of(line), nn.Linear(2, 2)).param_groups[::-1]
    if not decayed['weight_decay']:
        decayed, kept = kept, decayed
    assert (decayed['momentum'], decayed['weight_decay'], decayed['dampening']) == (0.3, 0.4, 0.5)
    assert kept['weight_decay'] == 0  # of biases


def test_an_optimizer_that_does_not_go_with_the_model_is_named():
    with pytest.raises(WrongArguments, match=r'^--opt sgd: does not work with test_resnet: [^\n]*$'):
        setup.build_optimizer(args_of(f'{SMALL} --opt-kwargs no_such=1 --lr .1'), nn.Linear(2, 2))


# Schedule, average, precision


def rates(line, updates_per_epoch=5, on_updates=False):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule, epochs = setup.build_schedule(args_of(line), optimizer, updates_per_epoch, 'top1')
    found = []
    for step in range(3):
        (schedule.step_update if on_updates else schedule.step)(step)
        found.append(optimizer.param_groups[0]['lr'])
    return found, epochs


def test_a_schedule_is_timms_and_says_its_epochs():
    step = '--sched step --decay-epochs 1 --decay-rate .5 --warmup-epochs 0 --epochs 4'
    assert rates(step) == ([1.0, 0.5, 0.25], 4)
    assert rates('--sched cosine --epochs 4 --warmup-epochs 0 --cooldown-epochs 2')[1] == 6
    warm = '--sched cosine --warmup-epochs 1 --warmup-lr 0 --epochs 2 --sched-on-updates'
    assert rates(warm, updates_per_epoch=4, on_updates=True)[0] == pytest.approx([0, 0.25, 0.5])
    assert setup.build_schedule(args_of('--sched none --epochs 7'), None, 1, 'top1')[0] is None


@pytest.mark.parametrize(('metric', 'decreasing'), [('loss', True), ('top1', False), ('top5', False)])
def test_a_schedule_knows_whether_less_is_better(monkeypatch, metric, decreasing):
    asked = []
    monkeypatch.setattr(setup, 'create_scheduler_v2', lambda optimizer, **kwargs: asked.append(kwargs))
    setup.build_schedule(args_of('--eval-metric loss'), None, 9, metric)
    assert asked[0]['plateau_mode'] == ('min' if decreasing else 'max')
    assert asked[0]['updates_per_epoch'] == 9


def test_the_moving_average_by_hand():
    model = nn.Linear(1, 1)
    assert setup.build_average(args_of(''), model) is None
    average = setup.build_average(args_of('--model-ema --model-ema-decay .75'), model)
    for step, value in enumerate((1.0, 0.0, 4.0), start=1):  # timm's average is a copy at the first update
        nn.init.constant_(model.weight, value)
        average.update(model, step=step)
    assert average.module.weight.item() == pytest.approx(0.75 * (0.75 * 1 + 0.25 * 0) + 0.25 * 4)
    assert average.device is None and not average.use_warmup
    average = setup.build_average(args_of('--model-ema --model-ema-warmup --model-ema-force-cpu'), model)
    assert (average.decay, average.use_warmup, str(average.device)) == (0.9998, True, 'cpu')


@pytest.mark.parametrize(
    ('line', 'dtype'),
    [('', torch.float32), ('--amp', torch.float16), ('--amp --amp-dtype bfloat16', torch.bfloat16)],
)
def test_a_forward_pass_is_in_the_precision_that_is_asked_for(line, dtype):
    autocast, scaler = setup.build_precision(args_of(line), CPU)
    with autocast():
        assert nn.Linear(2, 2)(torch.zeros(1, 2)).dtype == dtype
    assert scaler is None


@pytest.mark.parametrize(('line', 'scaled'), [('--amp', True), ('--amp --amp-dtype bfloat16', False), ('', False)])
def test_float16_gradients_are_scaled_on_cuda(monkeypatch, line, scaled):
    monkeypatch.setattr(utils, 'NativeScaler', lambda device: ('scaler', device))
    _, scaler = setup.build_precision(args_of(line), torch.device('cuda'))
    assert scaler == (('scaler', 'cuda') if scaled else None)


def test_compiling_is_done_where_it_is_asked_for(monkeypatch):
    calls = []
    monkeypatch.setattr(torch, 'compile', lambda model, **kwargs: calls.append((model, kwargs)) or 'compiled')
    model = nn.Linear(2, 2)
    assert setup.compile_model(args_of(''), model) is model
    assert setup.compile_model(args_of('--torchcompile eager'), None) is None
    assert calls == []
    line = '--torchcompile eager --torchcompile-mode max-autotune'
    assert setup.compile_model(args_of(line), model) == 'compiled'
    assert calls == [(model, {'backend': 'eager', 'mode': 'max-autotune'})]
