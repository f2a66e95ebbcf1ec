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

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from timm.layers import BatchNormAct2d, ClassifierHead, DropPath, create_conv2d
from timm.models import build_model_with_cfg, checkpoint_seq, generate_default_cfgs, register_model
from timm.models.resnet import BasicBlock
from timm.models.resnetv2 import PreActBasic, PreActBottleneck, ResNetStage
from torch import nn
from torch.nn import functional as F

from ..private import feature_take_indices

__all__ = ['CifarResNet']  # register_model adds each entry point to this

CIFAR_MEAN = (125.3 / 255, 123.0 / 255, 113.9 / 255)
CIFAR_STD = (63.0 / 255, 62.1 / 255, 66.7 / 255)
"""What the published CutMix and WRN settings normalize CIFAR-10 and CIFAR-100 alike with (CIFAR-10's statistics)."""

StageFactory = Callable[[int, int, int, list[float]], nn.Module]
"""(input channels, output channels, stride, one drop path rate per block) → a stage of residual blocks."""


class PadShortcut(nn.Module):
    """Shortcut A of He et al. 2015: every ``stride``-th pixel, ``extra_chs`` channels of zeros after the others."""

    def __init__(self, extra_chs: int, stride: int) -> None:
        super().__init__()
        self.extra_chs = extra_chs
        self.stride = stride

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.extra_chs))


def basic_stage(in_chs: int, out_chs: int, stride: int, drop_path_rates: list[float]) -> nn.Sequential:
    """A stage of ``BasicBlock`` (post-activation) with parameter-free shortcuts."""
    blocks = []
    for rate in drop_path_rates:
        shortcut = PadShortcut(out_chs - in_chs, stride) if stride != 1 or in_chs != out_chs else None
        drop_path = DropPath(rate) if rate > 0 else None
        blocks.append(BasicBlock(in_chs, out_chs, stride, downsample=shortcut, drop_path=drop_path))
        in_chs, stride = out_chs, 1
    return nn.Sequential(*blocks)


def preact_stage(
    in_chs: int,
    out_chs: int,
    stride: int,
    drop_path_rates: list[float],
    bottleneck: bool = False,
) -> ResNetStage:
    """A stage of ``PreActBasic`` or ``PreActBottleneck`` with a 1×1 shortcut where the shape changes."""
    return ResNetStage(
        in_chs,
        out_chs,
        stride,
        dilation=1,
        depth=len(drop_path_rates),
        bottle_ratio=0.25 if bottleneck else 1.0,
        block_dpr=drop_path_rates,
        block_fn=PreActBottleneck if bottleneck else PreActBasic,
        act_layer=nn.ReLU,
        conv_layer=create_conv2d,
        norm_layer=BatchNormAct2d,
    )


class CifarResNet(nn.Module):
    """A residual network for 32×32 images: 3×3 stem, stages at strides 1, 2, 4, …, pooling, linear classifier.

    Args:
        layers: blocks per stage.
        channels: output channels per stage.
        stem_chs: output channels of the stem.
        make_stage: builds a stage.
        preact: blocks are pre-activation: norm and activation come after the last stage instead of after the stem.
        num_classes: outputs of the classifier; 0 leaves the pooled features.
        in_chans: input channels.
        global_pool: timm's pooling type ('avg', 'max', …); '' leaves the feature map.
        drop_rate: dropout before the classifier.
        drop_path_rate: stochastic depth of the last block; it grows linearly from 0 at the first.
        zero_init_last: start every residual branch at zero. Off by default: the published settings have it off.

    Shape:
        (batch, in_chans, H, W) floating point → (batch, num_classes).
    """

    def __init__(
        self,
        layers: Sequence[int],
        channels: Sequence[int],
        stem_chs: int,
        make_stage: StageFactory,
        preact: bool,
        num_classes: int = 100,
        in_chans: int = 3,
        global_pool: str = 'avg',
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        zero_init_last: bool = False,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.in_chans = in_chans
        self.drop_rate = drop_rate
        self.grad_checkpointing = False

        self.stem = nn.Sequential()
        self.stem.add_module('conv', create_conv2d(in_chans, stem_chs, 3))
        if not preact:
            self.stem.add_module('norm', BatchNormAct2d(stem_chs))
        self.feature_info = [{'num_chs': stem_chs, 'reduction': 1, 'module': 'stem.conv' if preact else 'stem.norm'}]

        drop_path_step = drop_path_rate / max(sum(layers) - 1, 1)
        self.stages = nn.Sequential()
        in_chs, reduction = stem_chs, 1
        for index, (depth, out_chs) in enumerate(zip(layers, channels, strict=True)):
            stride, blocks_before = 1 if index == 0 else 2, sum(layers[:index])
            drop_path_rates = [drop_path_step * (blocks_before + block) for block in range(depth)]
            self.stages.add_module(str(index), make_stage(in_chs, out_chs, stride, drop_path_rates))
            in_chs, reduction = out_chs, reduction * stride
            self.feature_info.append({'num_chs': out_chs, 'reduction': reduction, 'module': f'stages.{index}'})

        self.num_features = self.head_hidden_size = in_chs
        self.norm = BatchNormAct2d(in_chs) if preact else nn.Identity()
        self.head = ClassifierHead(in_chs, num_classes, pool_type=global_pool, drop_rate=drop_rate)
        self.init_weights(zero_init_last)

    def init_weights(self, zero_init_last: bool = False) -> None:
        """He initialization of the convolutions, as in timm's ResNets; norms and classifier keep torch's defaults."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode='fan_out', nonlinearity='relu')
        if zero_init_last:
            for module in self.modules():
                if isinstance(module, BasicBlock | PreActBasic | PreActBottleneck):
                    module.zero_init_last()

    def group_matcher(self, coarse: bool = False) -> dict[str, Any]:
        """Parameter groups for layer-wise learning rate decay."""
        block = r'^stages\.(\d+)' if coarse else r'^stages\.(\d+)\.(?:blocks\.)?(\d+)'
        return {'stem': r'^stem', 'blocks': [(block, None), (r'^norm', (99999,))]}

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each stage's activations in the backward pass instead of keeping them."""
        self.grad_checkpointing = enable

    def get_classifier(self) -> nn.Module:
        """The classifier layer."""
        return self.head.fc

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Put in a new classifier, and another pooling if one is given."""
        self.num_classes = num_classes
        self.head.reset(num_classes, global_pool)

    def forward_intermediates(
        self,
        x: torch.Tensor,
        indices: int | list[int] | None = None,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list[torch.Tensor] | tuple[torch.Tensor, list[torch.Tensor]]:
        """Forward features that also returns the stem's and the stages' outputs.

        Args:
            x: images, (batch, in_chans, H, W).
            indices: the last n outputs if int, all if None, these if a list; 0 is the stem.
            norm: apply the final norm to the last stage's output.
            stop_early: skip the stages after the last output asked for.
            output_fmt: 'NCHW'.
            intermediates_only: leave out the final features.

        Returns:
            Final features and the list of outputs, or that list alone.
        """
        if output_fmt != 'NCHW':
            raise ValueError(f"output_fmt must be 'NCHW', got {output_fmt!r}")
        take_indices, max_index = feature_take_indices(len(self.stages) + 1, indices)
        x = self.stem(x)
        intermediates = [x] if 0 in take_indices else []
        stages = list(self.stages)[:max_index] if stop_early else list(self.stages)
        for index, stage in enumerate(stages, start=1):
            x = stage(x)
            if index in take_indices:
                intermediates.append(self.norm(x) if norm and index == len(self.stages) else x)
        if intermediates_only:
            return intermediates
        return (self.norm(x) if len(stages) == len(self.stages) else x), intermediates

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        """Images (batch, in_chans, H, W) → feature map (batch, num_features, H / 4 or H / 8, …)."""
        x = self.stem(x)
        if self.grad_checkpointing and not torch.jit.is_scripting():
            x = checkpoint_seq(self.stages, x)
        else:
            x = self.stages(x)
        return self.norm(x)

    def forward_head(self, x: torch.Tensor, pre_logits: bool = False) -> torch.Tensor:
        """Feature map → logits (batch, num_classes), or the pooled features that the classifier reads."""
        return self.head(x, pre_logits=pre_logits)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.forward_head(self.forward_features(x))


def _create(variant: str, pretrained: bool, layers: Sequence[int], **kwargs: Any) -> CifarResNet:
    feature_cfg = {'flatten_sequential': True, 'out_indices': tuple(range(len(layers) + 1))}
    return build_model_with_cfg(CifarResNet, variant, pretrained, feature_cfg=feature_cfg, layers=layers, **kwargs)


def _cfg(**kwargs: Any) -> dict[str, Any]:
    return {
        'num_classes': 100,
        'input_size': (3, 32, 32),
        'pool_size': (4, 4),
        'crop_pct': 1.0,
        'interpolation': 'bilinear',
        'mean': CIFAR_MEAN,
        'std': CIFAR_STD,
        'first_conv': 'stem.conv',
        'classifier': 'head.fc',
        **kwargs,
    }


default_cfgs = generate_default_cfgs(
    {
        'cifar_resnet56.untrained': _cfg(pool_size=(8, 8)),
        'cifar_wrn28_2.untrained': _cfg(pool_size=(8, 8)),
        'cifar_preactresnet18.untrained': _cfg(),
        'cifar_preactresnet34.untrained': _cfg(),
        'cifar_preactresnet50.untrained': _cfg(),
    }
)


@register_model
def cifar_resnet56(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """ResNet-56 of He et al. 2015: 6n + 2 layers with n = 9, parameter-free shortcuts, 0.86 M parameters."""
    return _create(
        'cifar_resnet56',
        pretrained,
        layers=(9, 9, 9),
        channels=(16, 32, 64),
        stem_chs=16,
        make_stage=basic_stage,
        preact=False,
        **kwargs,
    )


@register_model
def cifar_wrn28_2(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """WideResNet-28-2: 6n + 4 convolutions with n = 4, widths 32, 64, 128, 1.5 M parameters."""
    return _create(
        'cifar_wrn28_2',
        pretrained,
        layers=(4, 4, 4),
        channels=(32, 64, 128),
        stem_chs=16,
        make_stage=preact_stage,
        preact=True,
        **kwargs,
    )


@register_model
def cifar_preactresnet18(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """PreActResNet-18 with a CIFAR stem, 11.2 M parameters."""
    return _create(
        'cifar_preactresnet18',
        pretrained,
        layers=(2, 2, 2, 2),
        channels=(64, 128, 256, 512),
        stem_chs=64,
        make_stage=preact_stage,
        preact=True,
        **kwargs,
    )


@register_model
def cifar_preactresnet34(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """PreActResNet-34 with a CIFAR stem, 21.3 M parameters."""
    return _create(
        'cifar_preactresnet34',
        pretrained,
        layers=(3, 4, 6, 3),
        channels=(64, 128, 256, 512),
        stem_chs=64,
        make_stage=preact_stage,
        preact=True,
        **kwargs,
    )


@register_model
def cifar_preactresnet50(pretrained: bool = False, **kwargs: Any) -> CifarResNet:
    """PreActResNet-50 with a CIFAR stem: bottlenecks with the stride in the 3×3 convolution, 23.7 M parameters."""
    return _create(
        'cifar_preactresnet50',
        pretrained,
        layers=(3, 4, 6, 3),
        channels=(256, 512, 1024, 2048),
        stem_chs=64,
        make_stage=partial(preact_stage, bottleneck=True),
        preact=True,
        **kwargs,
    )
