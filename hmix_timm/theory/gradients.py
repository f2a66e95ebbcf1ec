"""Eq. 12: the products of input gradients that training leaves, by the displacement between the pixels.

PartialGradProd(x, p) = max_v |∂_v f(x) ∂_{v+p} f(x)|, the maximum over the pixels v for which v + p is in the image.
The paper's main text defines neither f and ∂_v for a classifier of colour images nor the normalization of Figure 5.
Here f is the largest logit, |∂_v f| the norm of its gradient over the channels of pixel v, each image's gradient is
scaled to ‖∇f(x)‖ = 1, so that models with small and large logits can be compared, and the map is the mean over images.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import nn


def input_gradient_norms(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """|∂_v f(x)| for the largest logit f: the norm over channels of its gradient at each pixel.

    Args:
        model: classifier in evaluation mode, images → logits (B, num_classes).
        x: normalized images (B, C, H, W), on the model's device.

    Returns:
        Shape (B, H, W), x's dtype.
    """
    x = x.detach().requires_grad_(True)
    with torch.enable_grad():
        # the sum over the batch: in evaluation mode no image's logits depend on another image
        largest = model(x).amax(dim=1).sum()
        (gradient,) = torch.autograd.grad(largest, x)
    return gradient.norm(dim=1)


def partial_grad_prod(gradients: torch.Tensor) -> torch.Tensor:
    """PartialGradProd(x, p) of Eq. 12 for every displacement p.

    Args:
        gradients: |∂_v f(x)| for each pixel, shape (B, H, W), not negative.

    Returns:
        Shape (B, 2 H − 1, 2 W − 1), the dtype of gradients; displacement (dy, dx) is at [:, H − 1 + dy, W − 1 + dx].
    """
    batch_size, height, width = gradients.shape
    result = gradients.new_empty(batch_size, 2 * height - 1, 2 * width - 1)
    for dy in range(height):
        for dx in range(1 - width, width):
            here = gradients[:, : height - dy, max(0, -dx) : width - max(0, dx)]
            there = gradients[:, dy:, max(0, dx) : width - max(0, -dx)]
            largest = (here * there).amax(dim=(1, 2))
            result[:, height - 1 + dy, width - 1 + dx] = largest
            # the pair (v, v + p) is the pair (v', v' − p)
            result[:, height - 1 - dy, width - 1 - dx] = largest
    return result


def gradient_map(model: nn.Module, batches: Iterable[torch.Tensor]) -> np.ndarray:
    """Mean over images of the normalized PartialGradProd: a panel of Figure 5.

    Args:
        model: classifier, images → logits; put into evaluation mode.
        batches: normalized images (B, C, H, W), on the model's device.

    Returns:
        Shape (2 H − 1, 2 W − 1), float64; displacement (dy, dx) is at [H − 1 + dy, W − 1 + dx].

    Raises:
        ValueError: there is no image.
        FloatingPointError: the gradient of an image is 0 everywhere or not finite.
    """
    model.eval()
    total: Any = 0.0
    count = 0
    for x in batches:
        gradients = input_gradient_norms(model, x).double()
        norms = gradients.flatten(1).norm(dim=1)
        if not ((norms > 0) & norms.isfinite()).all():
            raise FloatingPointError('the gradient of the largest logit of an image is 0, or not finite')
        total = total + partial_grad_prod(gradients / norms[:, None, None]).sum(dim=0)
        count += len(x)
    if not count:
        raise ValueError('there is no image to take gradients of')
    return (total / count).cpu().numpy()
