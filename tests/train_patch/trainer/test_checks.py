"""What only torch and timm can tell about the arguments, asked of them without a GPU and without compiling."""

import pytest
import torch

from train_patch.trainer.arguments import WrongArguments
from train_patch.trainer.checks import check_arguments, image_channels, image_mode

from .test_loop import arguments


def refusal(line):
    with pytest.raises(WrongArguments) as refused:
        check_arguments(arguments(line))
    return str(refused.value)


def test_what_is_said_nowhere_is_not_asked(monkeypatch):
    monkeypatch.setattr(torch, 'compile', lambda *args, **kwargs: pytest.fail('compiled'))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: pytest.fail('asked for a GPU'))
    check_arguments(arguments(''))


def test_backend_and_mode_of_the_compiler_are_tried_together(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, 'compile', lambda model, **kwargs: asked.append(kwargs))
    check_arguments(arguments('--torchcompile eager --torchcompile-mode default'))
    assert asked == [{'backend': 'eager', 'mode': 'default'}]

    def fail(*args, **kwargs):
        raise RuntimeError('no\n  such')

    monkeypatch.setattr(torch, 'compile', fail)
    assert refusal('--torchcompile other') == '--torchcompile other: no such'


@pytest.mark.parametrize(
    ('name', 'count', 'message'),
    [
        ('cuda', 1, None),
        ('cuda', 2, None),
        ('cuda:0', 1, None),
        ('cuda:1', 2, None),
        ('cuda:1', 1, '--device cuda:1: there are 1 CUDA devices, counted from 0'),
        ('cuda:5', 2, '--device cuda:5: there are 2 CUDA devices, counted from 0'),
        ('cuda', 0, '--device cuda: CUDA is not available here; without --device the run uses the CPU'),
    ],
)
def test_a_gpu_is_one_of_those_that_are_there(monkeypatch, name, count, message):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: count > 0)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)
    if message is None:
        check_arguments(arguments(f'--device {name}'))
    else:
        assert refusal(f'--device {name}') == message


def test_a_device_that_holds_no_numbers_cannot_be_used():
    check_arguments(arguments('--device cpu'))
    assert refusal('--device meta').startswith('--device meta: cannot be used here: ')


@pytest.mark.parametrize(
    ('line', 'channels', 'mode'),
    [
        ('', 3, 'RGB'),
        ('--in-chans 1', 1, 'L'),
        ('--in-chans 3', 3, 'RGB'),
        ('--input-size 1 8 9', 1, 'L'),
        ('--input-size 3 8 9 --in-chans 3', 3, 'RGB'),
        ('--in-chans 4 --input-img-mode CMYK', 4, 'CMYK'),
    ],
)
def test_channels_and_mode_of_the_images(line, channels, mode):
    args = arguments(line)
    assert (image_channels(args), image_mode(args)) == (channels, mode)
    check_arguments(args)


@pytest.mark.parametrize(
    ('line', 'option'), [('--in-chans 4', '--in-chans'), ('--input-size 4 8 9', '--input-size'), ('', '--in-chans')]
)
def test_channels_that_the_mode_does_not_have_are_named_by_their_option(line, option):
    mode = 'LA' if line else 'L'
    channels = 4 if line else 3
    found = refusal(f'{line} --input-img-mode {mode}')
    assert found.startswith(f'{option}: {channels} channels, but images of PIL mode {mode} have {len(mode)}; ')


@pytest.mark.parametrize(('epoch', 'refused'), [(4, False), (5, True), (6, True)])
def test_a_first_epoch_is_one_of_the_schedules(epoch, refused):
    line = f'--epochs 3 --cooldown-epochs 2 --warmup-epochs 0 --start-epoch {epoch}'
    if refused:
        assert refusal(line) == f'--start-epoch {epoch}: the schedule has 5 epochs, counted from 0'
    else:
        check_arguments(arguments(line))


@pytest.mark.parametrize('line', ['none', 'step --sched-on-updates', 'cosine --sched-on-updates', 'multistep', 'tanh'])
def test_schedules_that_work_are_let_through(line):
    check_arguments(arguments(f'--sched {line} --epochs 3 --decay-epochs 1'))


@pytest.mark.parametrize('opt', ['adamw', 'lamb', 'sgd'])
def test_layer_decay_waits_for_the_model(opt):
    check_arguments(arguments(f'--opt {opt} --layer-decay .5 --lr 0'))


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('--model resnet5O', '--model resnet5O: no such model in timm; the nearest is resnet50'),
        ('--model qqqqqqqq', '--model qqqqqqqq: no such model in timm'),
        ('--device no-such', '--device no-such: torch knows no such device'),
        ('--input-size 3 8 9 --in-chans 1', '--in-chans 1: --input-size has 3 channels'),
        ('--in-chans 1 --input-img-mode XYZ', '--input-img-mode XYZ: PIL knows no such mode'),
        ('--in-chans 1 --input-img-mode F', "--input-img-mode F: timm's loader takes channels of 8 bits: L, RGB, "),
        ('--in-chans 1 --input-img-mode 1', "--input-img-mode 1: timm's loader takes channels of 8 bits: L, RGB, "),
        ('--in-chans 1 --input-img-mode P', "--input-img-mode P: timm's loader takes channels of 8 bits: L, RGB, "),
        ('--in-chans 2 --input-img-mode PA', "--input-img-mode PA: timm's loader takes channels of 8 bits: L, RGB, "),
        ('--aa no-such', '--aa no-such: timm does not know this policy '),
        ('--opt no-such', '--opt no-such: '),
        ('--opt adamw --opt-betas 2 3', '--opt adamw: ValueError: Invalid beta'),
        ('--opt sgd --opt-kwargs no_such=1', '--opt sgd: TypeError: '),
        ('--sched no-such', '--sched no-such: '),
        ('--lr-cycle-mul 0 --lr-cycle-limit 2', '--sched cosine: cannot '),
        ('--sched step --decay-rate -1 --decay-epochs 9 --epochs 10', '--sched step: cannot go to epoch 9: ValueError'),
        ('--sched step --decay-rate -1 --decay-epochs 999 --epochs 1200', '--sched step: cannot go to epoch 999: '),
        (
            '--sched step --decay-rate -1 --decay-epochs 9 --epochs 10 --sched-on-updates',
            '--sched step: cannot go to epoch 9: ValueError',
        ),
        ('--in-chans 3 --input-img-mode RGBA', '--in-chans: 3 channels, but images of PIL mode RGBA have 4; '),
    ],
)
def test_what_cannot_work_is_named(line, message):
    found = refusal(line)
    assert found.startswith(message) and '\n' not in found


@pytest.mark.parametrize(
    'line',
    [
        '--model hf-hub:timm/resnet18.a1_in1k',  # only the hub knows
        '--model resnet18.a1_in1k',
        '--model cifar_resnet56',
        '--opt adamw --opt-betas .8 .9 --opt-eps 1e-6 --opt-kwargs amsgrad=True',
        '--sched step --decay-rate -1 --decay-epochs 9 --epochs 9',  # never comes to the step
        '--sched step --decay-rate -1 --decay-epochs 1000 --epochs 1200',  # a thousand epochs are looked at
        '--sched step --decay-rate 0 --decay-epochs 2 --epochs 5',  # a learning rate of 0 is one
        '--aa rand-m9-mstd0.5 --in-chans 4 --input-img-mode RGBA',
    ],
)
def test_what_can_work_is_let_through(line):
    check_arguments(arguments(line))


def test_a_learning_rate_that_is_no_number_is_named():
    found = refusal('--sched step --decay-rate 1e300 --decay-epochs 1 --epochs 9 --warmup-epochs 0')
    assert found == '--sched step: cannot go to epoch 2: ValueError: the learning rate would be inf' or (
        'OverflowError' in found
    )


@pytest.mark.parametrize(('world_size', 'refused'), [('1', True), ('2', False)])
def test_repeated_augmentation_needs_several_processes(monkeypatch, world_size, refused):
    monkeypatch.setenv('WORLD_SIZE', world_size)
    if refused:
        expected = '--aug-repeats 2.5 works on several processes only: start with torchrun'
        assert refusal('--aug-repeats 2.5') == expected
    else:
        check_arguments(arguments('--aug-repeats 2.5'))


@pytest.mark.parametrize('installed', [True, False])
def test_weights_and_biases_are_looked_for_where_they_are_asked_for(monkeypatch, installed):
    looked_for = []
    monkeypatch.setattr('importlib.util.find_spec', lambda name: looked_for.append(name) or (installed or None))
    if installed:
        check_arguments(arguments('--log-wandb'))
    else:
        assert refusal('--log-wandb') == '--log-wandb: the package wandb is not installed'
    assert looked_for == ['wandb']
