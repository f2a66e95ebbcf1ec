"""Eq. 12: against loops over pixels, a model whose gradients are known, and a real checkpoint."""

import numpy as np
import pytest
import torch
from torch import nn

from hmix_timm.theory.gradients import gradient_map, input_gradient_norms, partial_grad_prod


class Bilinear(nn.Module):
    """Two logits whose input gradients are known weights; the second is larger."""

    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, x):
        score = (x * self.weight).sum(dim=(1, 2, 3))
        return torch.stack((score - 100.0, 2.0 * score), dim=1)


def loops(gradients):
    """max over pixels v of |g_v g_{v+p}| for one image, spelled out."""
    height, width = gradients.shape
    result = np.zeros((2 * height - 1, 2 * width - 1))
    for y, x in np.ndindex(height, width):
        for y2, x2 in np.ndindex(height, width):
            at = (y2 - y + height - 1, x2 - x + width - 1)
            result[at] = max(result[at], gradients[y, x] * gradients[y2, x2])
    return result


def test_products_equal_loops_over_pixels():
    gradients = torch.rand(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = partial_grad_prod(gradients)
    for image, expected in zip(result, gradients, strict=True):
        np.testing.assert_allclose(image, loops(expected.numpy()), rtol=1e-14)


def test_gradient_is_that_of_the_largest_logit_over_channels():
    weight = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    x = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(2))
    norms = input_gradient_norms(Bilinear(weight), x)
    torch.testing.assert_close(norms, (2.0 * weight).norm(dim=0).expand(2, 4, 5))


def test_map_is_the_mean_over_normalized_images_whatever_the_batches():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(4 * 3 * 4, 3)
    ).double()
    x = torch.randn(5, 2, 5, 6, dtype=torch.float64)
    model(x)  # moves the running statistics: a model left in training mode would depend on the batches
    expected = []
    for image in x:
        image = image[None].clone().requires_grad_(True)
        logits = model.eval()(image)
        (gradient,) = torch.autograd.grad(logits.max(), image)
        norms = gradient[0].norm(dim=0).numpy()
        expected.append(loops(norms / np.linalg.norm(norms)))
    model.train()
    for size in (1, 2, 5):
        result = gradient_map(model, x.split(size))
        np.testing.assert_allclose(result, np.mean(expected, axis=0), rtol=1e-10)
    assert result.shape == (9, 11)
    assert not model.training


def test_scale_of_the_logits_does_not_matter():
    weight = torch.randn(1, 4, 4, generator=torch.Generator().manual_seed(3))
    x = [torch.ones(1, 1, 4, 4)]
    np.testing.assert_allclose(gradient_map(Bilinear(weight), x), gradient_map(Bilinear(7 * weight), x), rtol=1e-6)


@pytest.mark.parametrize('weight', [0.0, float('nan'), float('inf')])
def test_a_gradient_that_is_0_or_not_finite_is_refused(weight):
    with pytest.raises(FloatingPointError, match='is 0, or not finite'):
        gradient_map(Bilinear(torch.full((1, 2, 2), weight)), [torch.ones(1, 1, 2, 2)])


def test_no_image_is_refused():
    with pytest.raises(ValueError, match='no image'):
        gradient_map(nn.Identity(), [])
