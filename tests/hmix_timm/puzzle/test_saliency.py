"""The input gradient: its definition, and that a training does not notice it."""

import contextlib
import copy
from functools import partial

import pytest
import timm
import torch
from timm.utils import ModelEmaV2
from torch import multiprocessing, nn
from torch.nn import functional as F

from hmix_timm import input_gradient

BFLOAT16 = partial(torch.autocast, 'cpu', dtype=torch.bfloat16)


def make_images(count=4, size=32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((count, 3, size, size), generator=generator)
    return images, torch.randint(0, 10, (count,), generator=generator)


def make_model(checkpointing=False):
    """Convolutions with BatchNorm, dropout and stochastic depth; a frozen BatchNorm stays in eval mode."""
    torch.manual_seed(0)
    model = timm.create_model('test_resnet', num_classes=10, drop_rate=0.3, drop_path_rate=0.3)
    model.set_grad_checkpointing(checkpointing)
    model.train()
    model.bn1.eval()
    return model


def test_saliency_is_the_root_mean_square_over_channels_of_the_losses_gradient():
    torch.manual_seed(0)
    linear = nn.Linear(3 * 8 * 8, 10).double()
    images, target = make_images(size=8)
    images = images.double()
    softmax = linear(images.flatten(1)).softmax(1) - F.one_hot(target, 10)
    gradient = (softmax @ linear.weight).reshape(images.shape)
    saliency = input_gradient(nn.Sequential(nn.Flatten(), linear))(images, target)
    torch.testing.assert_close(saliency, gradient.square().mean(1).sqrt().detach())
    assert not saliency.requires_grad


def test_saliency_is_that_of_eval_mode_of_each_image_alone():
    model = make_model()
    images, target = make_images()
    saliency = input_gradient(model)(images, target)
    torch.testing.assert_close(saliency, input_gradient(copy.deepcopy(model).eval())(images, target))
    alone = torch.cat([input_gradient(model)(images[i : i + 1], target[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(alone, saliency)
    leaf = images.clone().requires_grad_()
    with torch.no_grad():
        torch.testing.assert_close(input_gradient(model)(leaf, target), saliency)
    assert leaf.grad is None


def test_saliency_runs_the_module_below_every_wrapping():
    def fails(*_):
        raise AssertionError('compiled')

    model = make_model()
    wrapped = torch.compile(nn.DataParallel(torch.compile(nn.DataParallel(model), backend=fails)), backend=fails)
    images, target = make_images()
    torch.testing.assert_close(input_gradient(wrapped)(images, target), input_gradient(model)(images, target))


def test_bfloat16_autocast_gives_about_the_same_map_in_float32():
    model = make_model()
    images, target = make_images()
    saliency, exact = (input_gradient(model, autocast)(images, target) for autocast in (BFLOAT16, None))
    assert saliency.dtype == torch.float32
    assert not torch.equal(saliency, exact)
    assert torch.corrcoef(torch.stack((saliency.flatten(), exact.flatten())))[0, 1] > 0.95


def test_training_flags_are_restored_after_an_error():
    model = make_model()
    flags = [module.training for module in model.modules()]
    images, target = make_images()
    with pytest.raises(RuntimeError):
        input_gradient(model)(images[:, :2], target)
    assert [module.training for module in model.modules()] == flags


def train(model, bare, observe, *, autocast=None, memory_format=torch.contiguous_format):
    """Two updates of two accumulated batches each, with a look at the saliency before each batch and each update.

    Returns everything that a training has: parameters, gradients, buffers, averages, random numbers, losses.
    """
    context = contextlib.nullcontext if autocast is None else autocast
    model.to(memory_format=memory_format)
    ema = ModelEmaV2(bare, decay=0.9)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    saliency = input_gradient(model, autocast)
    torch.manual_seed(1)
    losses = []
    for step in range(4):
        images, target = make_images(seed=step)
        images = images.contiguous(memory_format=memory_format)
        before = images.clone()
        if observe:
            assert saliency(images, target).shape == (4, 32, 32)
        assert torch.equal(images, before)
        with context():
            loss = F.cross_entropy(model(images), target)
        loss.backward()
        losses.append(loss.detach())
        if observe:
            saliency(images, target)
        if step % 2:
            optimizer.step()
            ema.update(bare)
            if step == 1:
                optimizer.zero_grad()
    result = {**bare.state_dict(), **{f'gradient of {n}': p.grad for n, p in bare.named_parameters()}}
    result |= {f'average of {name}': value for name, value in ema.module.state_dict().items()}
    result |= {'losses': torch.stack(losses), 'random numbers': torch.get_rng_state()}
    return result, [module.training for module in bare.modules()]


def assert_unnoticed(wrap=lambda model: model, checkpointing=False, **settings):
    observed, unobserved = (
        train(wrap(bare), bare, observe, **settings)
        for observe, bare in ((True, make_model(checkpointing)), (False, make_model(checkpointing)))
    )
    assert observed[1] == unobserved[1]
    assert observed[0].keys() == unobserved[0].keys()
    for name, value in observed[0].items():
        assert torch.equal(value, unobserved[0][name]), name


@pytest.mark.parametrize(
    'settings',
    [{'checkpointing': True, 'memory_format': torch.channels_last}, {'autocast': BFLOAT16}],
    ids=['gradient checkpointing', 'bfloat16'],  # without either: in two processes
)
def test_a_training_does_not_notice_that_saliency_is_asked_for(settings):
    assert_unnoticed(**settings)


def _train_in_two_processes(rank, address):
    torch.set_num_threads(1)
    torch.distributed.init_process_group('gloo', init_method=f'file://{address}', rank=rank, world_size=2)
    assert_unnoticed(nn.parallel.DistributedDataParallel)
    torch.distributed.destroy_process_group()


def start_two_processes(address):
    multiprocessing.start_processes(_train_in_two_processes, (address,), nprocs=2, start_method='fork')


def test_a_training_in_two_processes_does_not_notice_that_saliency_is_asked_for(tmp_path, processes):
    start = f'{start_two_processes.__module__}:{start_two_processes.__name__}'
    processes.call(start, {'address': str(tmp_path / 'address')}).passed()
