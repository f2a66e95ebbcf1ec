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
        ('--input-size 3 8 9 --in-chans 1', 3, 'RGB'),
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
