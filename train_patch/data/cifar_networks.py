"""The CIFAR networks of the paper's Table 2, in timm's model registry.

Importing this module registers ``cifar_resnet56``, ``cifar_wrn28_2`` and ``cifar_preactresnet{18,34,50}``, so that
``timm.create_model`` and ``--model`` find them by name. All of them read 3×32×32 images through one 3×3 convolution
without pooling, and halve the resolution at every stage but the first. The residual blocks are timm's own:

* ResNet-56 (He et al. 2015, section 4.2): ``BasicBlock``, three stages of 9, and the paper's shortcut A, which has no
  parameters: every second pixel, new channels filled with zeros.
* WRN-28-2 (Zagoruyko & Komodakis 2016): ``PreActBasic``, three stages of 4, twice as wide, 1×1 convolution shortcuts.
* PreActResNet-18/34/50 (He et al. 2016): ``PreActBasic`` or ``PreActBottleneck`` in ImageNet's four-stage layout, 1×1
  convolution shortcuts. In both pre-activation families a 1×1 shortcut reads the activated input, as in the originals.
"""

from collections.abc import Sequence
from itertools import islice
from typing import Any

import numpy as np
import torch
from timm.layers import BatchNormAct2d, ClassifierHead, DropPath, create_conv2d
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock
from timm.models.resnetv2 import PreActBasic, PreActBottleneck, ResNetStage
from torch import nn

__all__ = ['CifarResNet']  # register_model adds each entry point to this

CIFAR_MEAN = (125.3 / 255, 123.0 / 255, 113.9 / 255)
CIFAR_STD = (63.0 / 255, 62.1 / 255, 66.7 / 255)
"""The published CutMix and WRN settings normalize CIFAR-10 and CIFAR-100 alike with these (CIFAR-10's statistics)."""


class CifarResNet(nn.Module):
    """A residual network for 32×32 images: 3×3 stem, stages at strides 1, 2, 4, …, pooling, linear classifier.

    Args:
        layers: blocks per stage.
        channels: output channels per stage.
        stem_chs: output channels of the stem.
        block: ``BasicBlock``, ``PreActBasic`` or ``PreActBottleneck``. With the last two, norm and activation come
            after the last stage instead of after the stem.
        num_classes: outputs of the classifier; 0 leaves the pooled features.
        in_chans: input channels.
        global_pool: timm's pooling type ('avg', 'max', …); '' leaves the feature map.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0 at the first.

    Shape:
        (batch, in_chans, H, W) floating point → (batch, num_classes).
    """

    def __init__(
        self,
        layers: Sequence[int],
        channels: Sequence[int],
        stem_chs: int,
        block: type[nn.Module],
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__()
        self.num_classes, self.in_chans, self.drop_rate = num_classes, in_chans, drop_rate
        self.grad_checkpointing = False
        preact = block is not BasicBlock

        self.stem = nn.Sequential()
        self.stem.add_module('conv', create_conv2d(in_chans, stem_chs, 3))
        if not preact:
            self.stem.add_module('norm', BatchNormAct2d(stem_chs))
        self.feature_info = [{'num_chs': stem_chs, 'reduction': 1, 'module': 'stem.conv' if preact else 'stem.norm'}]

        rates = iter(np.linspace(0.0, drop_path_rate, sum(layers)).tolist())
        self.stages = nn.Sequential()
        in_chs = stem_chs
        for index, (depth, out_chs) in enumerate(zip(layers, channels, strict=True)):
            make = _preact_stage if preact else _basic_stage
            self.stages.append(make(block, in_chs, out_chs, 2 if index else 1, list(islice(rates, depth))))
            self.feature_info.append({'num_chs': out_chs, 'reduction': 2**index, 'module': f'stages.{index}'})
            in_chs = out_chs

        self.num_features = self.head_hidden_size = in_chs
        self.norm = BatchNormAct2d(in_chs) if preact else nn.Identity()
        self.head = ClassifierHead(in_chs, num_classes, pool_type=global_pool, drop_rate=drop_rate)
        for module in self.modules():  # He initialization, as in timm's ResNets; the others keep torch's defaults
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameter groups for layer-wise learning rate decay."""
        block = r'^stages\.(\d+)' if coarse else r'^stages\.(\d+)\.(?:blocks\.)?(\d+)'
        return {'stem': r'^stem', 'blocks': [(block, None), (r'^norm', (99999,))]}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Computes each stage's activations again in the backward pass instead of keeping them."""
        self.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        """The classifier layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Puts in a new classifier, and another pooling if one is given."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Images (batch, in_chans, H, W) → feature map (batch, num_features, H / 4 or H / 8, …)."""
        x = self.stem(x)
        x = checkpoint_seq(self.stages, x) if self.grad_checkpointing else self.stages(x)
        return self.norm(x)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Feature map → logits (batch, num_classes), or the pooled features that the classifier reads."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))


def _basic_stage(block: Any, in_chs: int, out_chs: int, stride: int, drop_path_rates: list[float]) -> nn.Sequential:
    """A stage of post-activation blocks with shortcut A."""
    blocks = []
    for rate in drop_path_rates:
        shortcut = None
        if stride != 1:
            zeros = nn.ConstantPad3d((0, 0, 0, 0, 0, out_chs - in_chs), 0.0)
            shortcut = nn.Sequential(nn.AvgPool2d(1, stride), zeros)
        drop_path = DropPath(rate) if rate else None
        blocks.append(block(in_chs, out_chs, stride, downsample=shortcut, drop_path=drop_path))
        in_chs, stride = out_chs, 1
    return nn.Sequential(*blocks)


def _preact_stage(block: Any, in_chs: int, out_chs: int, stride: int, drop_path_rates: list[float]) -> ResNetStage:
    """A stage of pre-activation blocks with a 1×1 shortcut where the shape changes."""
    return ResNetStage(
        in_chs,
        out_chs,
        stride,
        dilation=1,
        depth=len(drop_path_rates),
        bottle_ratio=0.25 if block is PreActBottleneck else 1.0,
        block_dpr=drop_path_rates,
        block_fn=block,
        act_layer=nn.ReLU,
        conv_layer=create_conv2d,
        norm_layer=BatchNormAct2d,
    )


def _cfg(side: int) -> dict[str, Any]:
    """timm's configuration of a network whose last feature map has this side."""
    return {
        'num_classes': 100,
        'input_size': (3, 32, 32),
        'pool_size': (side, side),
        'crop_pct': 1.0,
        'interpolation': 'bilinear',
        'mean': CIFAR_MEAN,
        'std': CIFAR_STD,
        'first_conv': 'stem.conv',
        'classifier': 'head.fc',
    }


default_cfgs = generate_default_cfgs(
    {
        'cifar_resnet56.untrained': _cfg(8),
        'cifar_wrn28_2.untrained': _cfg(8),
        'cifar_preactresnet18.untrained': _cfg(4),
        'cifar_preactresnet34.untrained': _cfg(4),
        'cifar_preactresnet50.untrained': _cfg(4),
    }
)


def _create(variant: str, pretrained: bool, layers: Sequence[int], **kwargs: Any) -> CifarResNet:
    feature_cfg = {'flatten_sequential': True, 'out_indices': tuple(range(len(layers) + 1))}
    return build_model_with_cfg(CifarResNet, variant, pretrained, feature_cfg=feature_cfg, layers=layers, **kwargs)


@register_model
def cifar_resnet56(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-56 of He et al. 2015: 6n + 2 layers with n = 9, parameter-free shortcuts, 0.86 M parameters."""
    of = dict(layers=(9, 9, 9), channels=(16, 32, 64), stem_chs=16, block=BasicBlock)
    return _create('cifar_resnet56', pretrained, **of, **kwargs)


@register_model
def cifar_wrn28_2(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """WideResNet-28-2: 6n + 4 convolutions with n = 4, widths 32, 64, 128, 1.5 M parameters."""
    of = dict(layers=(4, 4, 4), channels=(32, 64, 128), stem_chs=16, block=PreActBasic)
    return _create('cifar_wrn28_2', pretrained, **of, **kwargs)


@register_model
def cifar_preactresnet18(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """PreActResNet-18 with a CIFAR stem, 11.2 M parameters."""
    of = dict(layers=(2, 2, 2, 2), channels=(64, 128, 256, 512), stem_chs=64, block=PreActBasic)
    return _create('cifar_preactresnet18', pretrained, **of, **kwargs)


@register_model
def cifar_preactresnet34(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """PreActResNet-34 with a CIFAR stem, 21.3 M parameters."""
    of = dict(layers=(3, 4, 6, 3), channels=(64, 128, 256, 512), stem_chs=64, block=PreActBasic)
    return _create('cifar_preactresnet34', pretrained, **of, **kwargs)


@register_model
def cifar_preactresnet50(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """PreActResNet-50 with a CIFAR stem: bottlenecks with the stride in the 3×3 convolution, 23.7 M parameters."""
    of = dict(layers=(3, 4, 6, 3), channels=(256, 512, 1024, 2048), stem_chs=64, block=PreActBottleneck)
    return _create('cifar_preactresnet50', pretrained, **of, **kwargs)
