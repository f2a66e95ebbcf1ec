"""The CIFAR networks of Table 2: published sizes, timm's model interface, usable by name."""

import pytest
import timm
import torch
from timm.optim import create_optimizer_v2
from torch import nn

from train_patch.data import cifar_networks

FEATURES = {
    'cifar_resnet56': (64, 8),
    'cifar_wrn28_2': (128, 8),
    'cifar_preactresnet18': (512, 4),
    'cifar_preactresnet34': (512, 4),
    'cifar_preactresnet50': (2048, 4),
}
"""Name → channels and side of the last feature map."""

KINDS = [name for name in FEATURES if name != 'cifar_preactresnet34']
"""Those that differ in more than their depths, where a test computes with them."""


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def shape_only(name, **kwargs):
    with torch.device('meta'):
        return timm.create_model(name, **kwargs)


def test_importing_them_adds_them_to_timm_and_overwrites_nothing():
    assert {*timm.list_models(module='cifar_networks')} == {*FEATURES} <= {*timm.list_models()}
    assert not [name for name in FEATURES if hasattr(timm.models, name)]  # where timm's own are


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
def test_parameter_counts_are_those_of_the_published_architectures(classes):
    four = (64, 128, 256, 512)
    expected = {
        'cifar_resnet56': resnet_6n_2(9, classes),
        'cifar_wrn28_2': preact(16, (32, 64, 128), (4, 4, 4), False, classes),
        'cifar_preactresnet18': preact(64, four, (2, 2, 2, 2), False, classes),
        'cifar_preactresnet34': preact(64, four, (3, 4, 6, 3), False, classes),
        'cifar_preactresnet50': preact(64, four, (3, 4, 6, 3), True, classes),
    }
    models = {name: shape_only(name, num_classes=classes) for name in FEATURES}
    assert {name: sum(p.numel() for p in model.parameters()) for name, model in models.items()} == expected
    if classes == 100:  # as printed in the papers
        assert [round(count / 1e6, 1) for count in expected.values()] == [0.9, 1.5, 11.2, 21.3, 23.7]


# Logits of two networks made and fed from fixed seeds, as this project's first version gave them: a run of a recipe
# that is resumed, or repeated from its seed, needs the same names, draws and layers.
LOGITS = {
    'cifar_resnet56': ('stages.2.8.conv2.weight', [0.11189, -0.74896, 0.38594]),
    'cifar_wrn28_2': ('stages.2.blocks.3.conv2.weight', [-0.21597, 0.15249, 0.25654]),
    'cifar_preactresnet50': ('stages.3.blocks.2.conv3.weight', [0.09754, -0.02312, -0.15762]),
}


@pytest.mark.parametrize('name', LOGITS)
def test_the_same_seed_gives_the_same_network_as_ever(name):
    parameter, expected = LOGITS[name]
    model = timm.create_model(name, num_classes=10).train()
    torch.manual_seed(1)
    logits = model(torch.randn(2, 3, 32, 32))
    torch.testing.assert_close(logits[0, :3], torch.tensor(expected), rtol=1e-3, atol=1e-4)
    assert parameter in model.state_dict()


@pytest.mark.parametrize('name', KINDS)
def test_features_head_and_classifier_are_timms_interface(name):
    channels, size = FEATURES[name]
    x = torch.randn(2, 3, 32, 32)
    model = timm.create_model(name).eval()
    features = model.forward_features(x)
    assert features.shape == (2, channels, size, size) and model.num_features == channels
    torch.testing.assert_close(model.forward_head(features, pre_logits=True), features.mean((2, 3)))
    torch.testing.assert_close(model(x), model.get_classifier()(features.mean((2, 3))))
    model.reset_classifier(7)
    assert model(x).shape == (2, 7) and model.num_classes == 7
    model.reset_classifier(0, 'max')
    torch.testing.assert_close(model(x), features.amax((2, 3)))


@pytest.mark.parametrize('name', KINDS)
def test_features_only_gives_every_stage(name):
    net = timm.create_model(name, features_only=True).eval()
    outputs = net(torch.randn(1, 3, 32, 32))
    assert [o.shape[1] for o in outputs] == net.feature_info.channels()
    assert [32 // o.shape[-1] for o in outputs] == net.feature_info.reduction() == [1, 1, 2, 4, 8][: len(outputs)]


@pytest.mark.parametrize('name', KINDS)
def test_arguments_of_create_model_are_used(name):
    model = timm.create_model(name, in_chans=1, num_classes=5, drop_rate=0.5, drop_path_rate=0.5, global_pool='avgmax')
    assert model.train()(torch.randn(4, 1, 32, 32)).shape == (4, 5)
    rates = [module.drop_prob for module in model.modules() if type(module).__name__ == 'DropPath']
    blocks = [m for m in model.modules() if type(m).__name__ in ('BasicBlock', 'PreActBasic', 'PreActBottleneck')]
    assert rates == pytest.approx([0.5 * i / (len(blocks) - 1) for i in range(1, len(blocks))])  # none at the first
    assert model.head.drop.p == model.drop_rate == 0.5 and model.head.global_pool.pool_type == 'avgmax'
    plain = timm.create_model(name)
    assert not [module for module in plain.modules() if type(module).__name__ == 'DropPath'] and plain.head.drop.p == 0


@pytest.mark.parametrize('name', ['cifar_resnet56', 'cifar_preactresnet18'])
def test_gradient_checkpointing_changes_no_gradient_and_keeps_less(name):
    x, model = torch.randn(2, 3, 32, 32), timm.create_model(name, num_classes=4).train()
    grads, kept = [], []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.zero_grad()
        tensors = []
        with torch.autograd.graph.saved_tensors_hooks(lambda t, to=tensors: to.append(t) or t, lambda t: t):
            loss = model(x).sum()
        loss.backward()
        kept.append(len(tensors))
        grads.append([p.grad.clone() for p in model.parameters()])
    torch.testing.assert_close(grads[0], grads[1], rtol=1e-3, atol=1e-4)
    assert kept[1] < kept[0]


def test_shortcuts_of_resnet56_have_no_parameters_and_pad_with_zeros():
    model = timm.create_model('cifar_resnet56')
    x = torch.randn(2, 16, 32, 32)
    y = model.stages[1][0].downsample(x)
    assert y.shape == (2, 32, 16, 16)
    assert torch.equal(y[:, :16], x[:, :, ::2, ::2]) and not y[:, 16:].any()
    assert [block.downsample is None for stage in model.stages for block in stage].count(False) == 2


@pytest.mark.parametrize('name', FEATURES)
def test_timm_is_told_the_truth_about_each_network(name):
    model, cfg = shape_only(name), cifar_networks.default_cfgs[name].default
    assert isinstance(model.get_submodule(cfg.first_conv), nn.Conv2d)
    assert model.get_submodule(cfg.classifier) is model.get_classifier()
    assert cfg.pool_size == (FEATURES[name][1],) * 2 and cfg.num_classes == model.num_classes == 100
    config = timm.data.resolve_data_config({}, model=model)
    assert (config['input_size'], config['crop_pct'], config['interpolation']) == ((3, 32, 32), 1.0, 'bilinear')
    assert [round(255 * v, 1) for v in config['mean'] + config['std']] == [125.3, 123.0, 113.9, 63.0, 62.1, 66.7]


@pytest.mark.parametrize('name', ['cifar_resnet56', 'cifar_wrn28_2'])
def test_layer_decay_gives_deeper_blocks_larger_rates(name):
    model = timm.create_model(name)
    groups = create_optimizer_v2(model, 'sgd', lr=1.0, weight_decay=0.1, layer_decay=0.5).param_groups
    scale = {id(p): g['lr_scale'] for g in groups for p in g['params']}
    blocks = [scale[id(p)] for n, p in model.named_parameters() if n.endswith('conv1.weight')]
    assert blocks == sorted(set(blocks)) and scale[id(model.stem.conv.weight)] < blocks[0]
    assert scale[id(model.head.fc.weight)] == 1.0
