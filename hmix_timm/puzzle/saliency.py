"""Saliency: the gradient of a model's loss with respect to the image."""

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from torch import nn
from torch.nn import functional as F

Saliency = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(images (B, C, H, W), class indices (B,)) → saliency (B, H, W), not negative."""


def input_gradient(model: nn.Module, autocast: Callable[[], AbstractContextManager] | None = None) -> Saliency:
    """Makes the saliency function of PuzzleMix: √(mean over channels of (∂CE/∂x)²), with clean images and hard labels.

    It runs the bare module (below DDP and `torch.compile`) in eval mode, and changes nothing: parameters and their
    gradients, buffers, training flags of every submodule and random number generators stay as they are.

    Args:
        model: classifier, images (B, C, H, W) → logits (B, classes); may be wrapped.
        autocast: makes the context of the forward pass, for example
            ``functools.partial(torch.autocast, 'cuda', dtype=torch.bfloat16)``.

    Returns:
        A function (images, target) → (B, H, W) float32 (float64 for such images), on the images' device.
    """
    bare = unwrap(model)

    def saliency(images: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad(), _untouched(bare, images.device):
            x = images.detach().clone().requires_grad_()
            with contextlib.nullcontext() if autocast is None else autocast():
                loss = F.cross_entropy(bare(x), target, reduction='sum')
            (gradient,) = torch.autograd.grad(loss, x)
        gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        return gradient.square().mean(1).sqrt()

    return saliency


def unwrap(model: nn.Module) -> nn.Module:
    """Returns the module inside DDP, DataParallel and `torch.compile`."""
    while True:
        inner = (getattr(model, name, None) for name in ('module', '_orig_mod'))
        found = next((module for module in inner if isinstance(module, nn.Module)), None)
        if found is None:
            return model
        model = found


@contextlib.contextmanager
def _untouched(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Eval mode inside; afterwards, every module's training flag and the random number generators are restored."""
    # not by train(), which may be overridden and sets one mode for all
    modules = list(model.modules())
    flags = [module.training for module in modules]
    devices = [device] if device.type == 'cuda' else []
    with torch.random.fork_rng(devices=devices):
        try:
            for module in modules:
                module.training = False
            yield
        finally:
            for module, flag in zip(modules, flags, strict=True):
                module.training = flag
