"""The CIFAR networks of Table 2: published sizes, timm's model interface, usable by name."""

import re

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2
from torch import nn

from train_patch.data import cifar_networks

NAMES = ['cifar_resnet56', 'cifar_wrn28_2', 'cifar_preactresnet18', 'cifar_preactresnet34', 'cifar_preactresnet50']
FEATURES = {
    'cifar_resnet56': (64, 8),
    'cifar_wrn28_2': (128, 8),
    'cifar_preactresnet18': (512, 4),
    'cifar_preactresnet34': (512, 4),
    'cifar_preactresnet50': (2048, 4),
}


BLOCKS = ('BasicBlock', 'PreActBasic', 'PreActBottleneck')
MILLIONS = {
    'cifar_resnet56': 0.86,
    'cifar_wrn28_2': 1.48,
    'cifar_preactresnet18': 11.2,
    'cifar_preactresnet34': 21.3,
    'cifar_preactresnet50': 23.7,
}


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(params=[name for name in NAMES if name != 'cifar_preactresnet34'])
def kind(request):
    """Those that differ in more than their depths, where a test computes with them."""
    return request.param


def shape_only(name, **kwargs):
    with torch.device('meta'):
        return timm.create_model(name, **kwargs)


# Parameter counts from the published architectures, written out layer by layer: k×k convolution without bias, batch
# norm with two parameters a channel, classifier with bias.
def conv(in_chs, out_chs, k):
    return in_chs * out_chs * k * k


def resnet_6n_2(n, classes):
    count, in_chs = conv(3, 16, 3) + 2 * 16, 16
    for out_chs in (16, 32, 64):
        for _ in range(n):
            count += conv(in_chs, out_chs, 3) + 2 * out_chs + conv(out_chs, out_chs, 3) + 2 * out_chs
            in_chs = out_chs
    return count + 64 * classes + classes


def preact(stem, widths, depths, bottleneck, classes):
    count, in_chs = conv(3, stem, 3), stem
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        out_chs = 4 * width if bottleneck else width
        for block in range(depth):
            if bottleneck:
                count += 2 * in_chs + conv(in_chs, width, 1) + 2 * width + conv(width, width, 3)
                count += 2 * width + conv(width, out_chs, 1)
            else:
                count += 2 * in_chs + conv(in_chs, out_chs, 3) + 2 * out_chs + conv(out_chs, out_chs, 3)
            if block == 0 and (stage > 0 or in_chs != out_chs):
                count += conv(in_chs, out_chs, 1)
            in_chs = out_chs
    return count + 2 * in_chs + in_chs * classes + classes


@pytest.mark.parametrize('classes', [10, 100])
def test_parameter_count(name, classes):
    four = (64, 128, 256, 512)
    expected = {
        'cifar_resnet56': resnet_6n_2(9, classes),
        'cifar_wrn28_2': preact(16, (32, 64, 128), (4, 4, 4), False, classes),
        'cifar_preactresnet18': preact(64, four, (2, 2, 2, 2), False, classes),
        'cifar_preactresnet34': preact(64, four, (3, 4, 6, 3), False, classes),
        'cifar_preactresnet50': preact(64, four, (3, 4, 6, 3), True, classes),
    }
    model = shape_only(name, num_classes=classes)
    assert sum(p.numel() for p in model.parameters()) == expected[name]


def test_parameter_count_as_published(name):
    count = sum(p.numel() for p in shape_only(name).parameters()) / 1e6
    assert count == pytest.approx(MILLIONS[name], abs=0.05 if MILLIONS[name] > 2 else 0.005)


@pytest.mark.parametrize(
    'name, layers',
    # ResNet names count convolutions on the main path and the classifier; WideResNet's 6n + 4 counts every convolution
    [
        ('cifar_resnet56', 56),
        ('cifar_wrn28_2', 28),
        ('cifar_preactresnet18', 18),
        ('cifar_preactresnet34', 34),
        ('cifar_preactresnet50', 50),
    ],
)
def test_layer_count(name, layers):
    model = shape_only(name)
    convs = {n: m for n, m in model.named_modules() if isinstance(m, nn.Conv2d)}
    shortcuts = [n for n in convs if 'downsample' in n]
    if name == 'cifar_wrn28_2':
        assert len(convs) == layers and len(shortcuts) == 3
    else:
        assert len(convs) - len(shortcuts) + 1 == layers
    assert len(shortcuts) == {'cifar_resnet56': 0, 'cifar_preactresnet50': 4}.get(name, 3)


def test_forward_shapes_and_head(kind):
    channels, size = FEATURES[kind]
    x = torch.randn(2, 3, 32, 32)
    model = timm.create_model(kind).eval()
    assert model.num_features == channels and model.num_classes == 100
    features = model.forward_features(x)
    assert features.shape == (2, channels, size, size)
    assert model.forward_head(features, pre_logits=True).shape == (2, channels)
    torch.testing.assert_close(model(x), model.forward_head(features))
    torch.testing.assert_close(
        model(x), model.get_classifier()(features.mean((2, 3))), msg='average pooling, then the classifier'
    )
    model.reset_classifier(7)
    assert model(x).shape == (2, 7) and model.get_classifier().out_features == 7 and model.num_classes == 7
    model.reset_classifier(0, 'max')
    torch.testing.assert_close(model(x), features.amax((2, 3)))
    model.reset_classifier(0, '')
    assert model(x).shape == features.shape


def test_arguments_of_create_model(kind):
    model = timm.create_model(kind, in_chans=1, num_classes=5, drop_rate=0.5, drop_path_rate=0.5, global_pool='avgmax')
    model.train()
    x = torch.randn(4, 1, 32, 32)
    assert model(x).shape == (4, 5)
    rates = [m.drop_prob for m in model.modules() if type(m).__name__ == 'DropPath']
    assert len(rates) == sum(m.__class__.__name__ in BLOCKS for m in model.modules()) - 1, 'all blocks but the first'
    assert rates == sorted(rates) and rates[-1] == pytest.approx(0.5) and model.head.drop.p == 0.5
    torch.manual_seed(1)
    first = model(x)
    torch.manual_seed(2)
    assert not torch.equal(first, model(x)), 'dropout is on in training'


def test_features_only_and_intermediates(kind):
    x = torch.randn(1, 3, 32, 32)
    net = timm.create_model(kind, features_only=True).eval()
    outputs = net(x)
    assert [o.shape[1] for o in outputs] == net.feature_info.channels()
    assert [32 // o.shape[-1] for o in outputs] == net.feature_info.reduction() == [1, 1, 2, 4, 8][: len(outputs)]
    model = timm.create_model(kind).eval()
    final, intermediates = model.forward_intermediates(x)
    torch.testing.assert_close(final, model.forward_features(x))
    assert [i.shape for i in intermediates] == [o.shape for o in outputs]
    first_two = model.forward_intermediates(x, indices=[0, 1], stop_early=True, intermediates_only=True)
    torch.testing.assert_close(first_two, intermediates[:2])
    torch.testing.assert_close(model.forward_intermediates(x, indices=[0, 1])[0], final)
    early = model.forward_intermediates(x, indices=[0, 1], stop_early=True)[0]
    torch.testing.assert_close(early, intermediates[1])
    last = model.forward_intermediates(x, indices=1, norm=True, intermediates_only=True)
    torch.testing.assert_close(last[0], final)


@pytest.mark.parametrize('name', ['cifar_resnet56', 'cifar_wrn28_2', 'cifar_preactresnet50'])
def test_one_training_step_lowers_the_loss(name):
    model = timm.create_model(name, num_classes=4).train()
    x, target = torch.randn(8, 3, 16, 16), torch.arange(8) % 4
    optimizer = create_optimizer_v2(model, 'sgd', lr=0.02, momentum=0.9, weight_decay=1e-4)
    losses = []
    for _ in range(3):
        loss = nn.functional.cross_entropy(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize('name', ['cifar_resnet56', 'cifar_wrn28_2'])
def test_gradient_checkpointing_changes_no_gradient(name):
    x = torch.randn(2, 3, 32, 32)
    model = timm.create_model(name, num_classes=4)
    grads = []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        model.eval()(x).sum().backward()
        grads.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(grads[0], grads[1])


def test_resnet56_shortcut_has_no_parameters_and_pads_with_zeros():
    x = torch.randn(2, 16, 32, 32)
    y = cifar_networks.PadShortcut(extra_chs=16, stride=2)(x)
    assert y.shape == (2, 32, 16, 16)
    assert torch.equal(y[:, :16], x[:, :, ::2, ::2]) and not y[:, 16:].any()


def test_preactivation_blocks_keep_an_identity_path():
    """With every residual branch at zero a stage without a change of shape passes its input on untouched."""
    model = timm.create_model('cifar_preactresnet18', zero_init_last=True).eval()
    x = torch.randn(1, 64, 32, 32)
    assert torch.equal(model.stages[0](x), x)
    model = timm.create_model('cifar_preactresnet18').eval()
    assert not torch.allclose(model.stages[0](x), x), 'residual branches are not zero by default'


def test_he_initialization(name):
    for module in timm.create_model(name).modules():
        if isinstance(module, nn.Conv2d) and module.weight.numel() > 2000:
            fan_out = module.out_channels * module.kernel_size[0] * module.kernel_size[1]
            assert module.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)


def test_default_cfg(name):
    config = timm.data.resolve_data_config({}, model=shape_only(name))
    assert config['input_size'] == (3, 32, 32) and config['crop_pct'] == 1.0
    assert [round(255 * v, 1) for v in config['mean'] + config['std']] == [125.3, 123.0, 113.9, 63.0, 62.1, 66.7]


def test_parameter_groups_for_layer_decay():
    """Deeper blocks get larger rates, the stem the smallest, the head the full one."""
    for name in ('cifar_resnet56', 'cifar_wrn28_2'):
        model = timm.create_model(name)
        groups = create_optimizer_v2(model, 'sgd', lr=1.0, weight_decay=0.1, layer_decay=0.5).param_groups
        scale = {id(p): g['lr_scale'] for g in groups for p in g['params']}
        blocks = [scale[id(p)] for n, p in model.named_parameters() if n.endswith('conv1.weight')]
        assert blocks == sorted(set(blocks)) and scale[id(model.stem.conv.weight)] < blocks[0]
        assert scale[id(model.head.fc.weight)] == 1.0


# The same class on a network of two blocks, small enough to look at every number


def tiny(preact=False, layers=(1, 1), **kwargs):
    stage = cifar_networks.preact_stage if preact else cifar_networks.basic_stage
    return cifar_networks.CifarResNet(layers, (4, 8, 12)[: len(layers)], 4, stage, preact, **kwargs).eval()


def drop_paths(model):
    """Drop path rate of each block; 0 where it has none."""
    blocks = [module for module in model.modules() if type(module).__name__ in BLOCKS]
    return [getattr(block.drop_path, 'drop_prob', 0) for block in blocks]


def test_what_a_network_is_unless_it_is_asked_to_be_something_else():
    model = tiny()
    assert (model.num_classes, model.in_chans, model.drop_rate, model.grad_checkpointing) == (100, 3, 0, False)
    assert model.stem.conv.weight.shape == (4, 3, 3, 3) and model.head.fc.weight.shape == (100, 8)
    assert model.head.drop.p == 0 and model.head.global_pool.pool_type == 'avg'
    assert not [module for module in model.modules() if type(module).__name__ == 'DropPath']
    for block in (module for module in model.modules() if type(module).__name__ in BLOCKS):
        assert all(module.weight.any() for module in block.modules() if isinstance(module, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ('layers', 'rates'),
    [((1, 1), [0, 0.3]), ((2, 2), [0, 0.1, 0.2, 0.3]), ((1,), [0]), ((1, 2, 1), [0, 0.1, 0.2, 0.3])],
)
@pytest.mark.parametrize('preact', [False, True])
def test_stochastic_depth_grows_linearly_from_none(preact, layers, rates):
    model = tiny(preact, layers, drop_path_rate=0.3, drop_rate=0.2)
    assert drop_paths(model) == pytest.approx(rates)
    assert model.head.drop.p == model.drop_rate == 0.2


@pytest.mark.parametrize('preact', [False, True])
def test_feature_info_says_what_each_stage_gives(preact):
    model = tiny(preact, (1, 1, 1))
    x = torch.randn(2, 3, 16, 16)
    _, outputs = model.forward_intermediates(x)
    assert [info['num_chs'] for info in model.feature_info] == [output.shape[1] for output in outputs] == [4, 4, 8, 12]
    assert [info['reduction'] for info in model.feature_info] == [16 // output.shape[2] for output in outputs]
    seen = []
    for info in model.feature_info:
        model.get_submodule(info['module']).register_forward_hook(lambda module, args, output: seen.append(output))
    model(x)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(seen, outputs, strict=True)) and len(seen) == 4


def test_intermediates_come_in_one_format():
    with pytest.raises(ValueError, match="output_fmt must be 'NCHW', got 'NLC'"):
        tiny().forward_intermediates(torch.randn(1, 3, 16, 16), output_fmt='NLC')


@pytest.mark.parametrize('preact', [False, True])
def test_intermediates_are_those_that_are_asked_for(preact):
    model, x = tiny(preact, (1, 1, 1)), torch.randn(1, 3, 16, 16)
    final, outputs = model.forward_intermediates(x)
    assert torch.equal(final, model.norm(outputs[3])) and torch.equal(final, model.forward_features(x))
    for indices, expected in ([0], [0]), ([2], [2]), ([0, 3], [0, 3]), (2, [2, 3]), (None, [0, 1, 2, 3]):
        for stop_early in (False, True):
            last, found = model.forward_intermediates(x, indices, stop_early=stop_early)
            assert all(torch.equal(ours, outputs[i]) for ours, i in zip(found, expected, strict=True))
            assert torch.equal(last, outputs[expected[-1]] if stop_early and expected[-1] < 3 else final)
    normed = model.forward_intermediates(x, [1, 3], norm=True, intermediates_only=True)
    assert torch.equal(normed[0], outputs[1]) and torch.equal(normed[1], final)


@pytest.mark.parametrize('preact', [False, True])
def test_checkpointed_stages_give_the_same_and_keep_less(preact):
    model, x = tiny(preact, (1, 1, 1)).train(), torch.randn(4, 3, 16, 16)
    results, kept = [], []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        tensors = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor, to=tensors: to.append(tensor) or tensor, lambda t: t
        ):
            results.append(model(x))
        kept.append(len(tensors))
    torch.testing.assert_close(results[0], results[1])
    assert kept[1] < kept[0]
    model.set_grad_checkpointing()
    assert model.grad_checkpointing


def test_layer_groups_count_stages_or_blocks():
    model = tiny(True, (2, 1))
    names = [name for name, _ in model.named_parameters()]
    for coarse, count in ((False, 3), (True, 2)):
        matcher = model.group_matcher(coarse)
        (block, _), (norm, _) = matcher['blocks']
        groups = {re.match(block, name).groups() for name in names if name.startswith('stages')}
        assert len(groups) == count
        assert re.match(norm, 'norm.weight') and not re.match(norm, 'head.fc.weight')
        assert re.match(matcher['stem'], 'stem.conv.weight')


def test_the_functions_themselves_build_networks_without_weights_of_others(name):
    with torch.device('meta'):
        model = getattr(cifar_networks, name)()
    assert model.num_classes == 100 and model.default_cfg['architecture'] == name


def test_what_timm_is_told_of_each_network_is_so(name):
    cfg = cifar_networks.default_cfgs[name].default
    size = FEATURES[name][1]
    assert (cfg.num_classes, cfg.pool_size, cfg.input_size) == (100, (size, size), (3, 32, 32))
    model = shape_only(name)
    assert isinstance(model.get_submodule(cfg.first_conv), nn.Conv2d)
    assert model.get_submodule(cfg.classifier) is model.get_classifier()
    assert (cfg.interpolation, cfg.crop_pct) == ('bilinear', 1.0)
