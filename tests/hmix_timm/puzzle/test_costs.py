"""The costs against their meaning: the saliency that a mask hides, its smoothness, and the jumps in the mixed image."""

import itertools
import math

import numpy as np
import pytest
import torch
from reference import puzzle_energy

from hmix_timm.puzzle.costs import block_saliency, puzzle_costs

STD = (0.2, 0.3, 0.5)
BETA, GAMMA, ETA = 1.2, 0.5, 0.2


def make_batch(height, width, batch=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((batch, 3, height, width), generator=generator, dtype=torch.float64)
    return images, torch.rand((batch, height, width), generator=generator, dtype=torch.float64)


def border(images, first, second, n, neigh_size, r, c, down):
    """The mean jump from image `first` at block (r, c) to image `second` at the next block down or right."""
    if not down:
        images, r, c = images.transpose(0, 1, 3, 2), c, r
    height, width = images.shape[2] // n, images.shape[3] // n
    size = min(neigh_size, height, width)
    total = 0.0
    for channel in range(3):
        for k in range(width // size):
            column = slice(c * width + k * size, c * width + (k + 1) * size)
            top = images[first, channel, (r + 1) * height - size : (r + 1) * height, column].mean()
            bottom = images[second, channel, (r + 1) * height : (r + 1) * height + size, column].mean()
            total += abs(top - bottom) * STD[channel] / 3 / (width // size)
    return total


def edges(images, n, neigh_size):
    """For each image and edge: (image, its two blocks, {(own 1 or partner 0, on both sides): jump})."""
    last = len(images) - 1
    for i, down, r, c in itertools.product(range(len(images)), (True, False), range(n), range(n)):
        second = (r + 1, c) if down else (r, c + 1)
        if max(second) < n:
            which = {1: i, 0: last - i}
            jumps = {
                (a, b): BETA / (16 * n) * GAMMA * border(images, which[a], which[b], n, neigh_size, r, c, down)
                for a, b in itertools.product((0, 1), repeat=2)
            }
            yield i, (r, c), second, jumps


@pytest.mark.parametrize(
    ('height', 'width', 'n', 'neigh_size'),
    [(32, 32, 4, 4), (32, 64, 16, 4), (32, 32, 2, 2), (48, 32, 4, 1)],
)
def test_the_energy_of_a_hard_mask_is_hidden_saliency_smoothness_and_jumps(height, width, n, neigh_size):
    """Up to a constant; but an edge's weight is never below 0, which counts for the blocks that differ."""
    images, maps = make_batch(height, width)
    s = block_saliency(maps, (n, n))
    lam = 0.3
    costs = [cost.numpy() for cost in puzzle_costs(images, s, lam, std=STD, beta=BETA, gamma=GAMMA, eta=ETA,
                                                   neigh_size=neigh_size)]  # fmt: skip
    masks = np.random.default_rng(0).integers(0, 2, (5, 4, n, n)).astype(float)
    prior = {1.0: -math.log(lam**2 + 1e-8) * ETA / n**2, 0.0: -math.log((1 - lam) ** 2 + 1e-8) * ETA / n**2}
    hidden = masks * (s.flip(0).numpy() + prior[1.0]) + (1 - masks) * (s.numpy() + prior[0.0])
    direct = hidden.sum((2, 3))
    smoothness = BETA / (16 * n)
    for i, p, q, d in edges(images.numpy(), n, neigh_size):
        clamped = max(0.0, -(smoothness + (d[1, 0] + d[0, 1] - d[1, 1] - d[0, 0]) / 2))
        for k, mask in enumerate(masks[:, i]):
            differ = (mask[p] - mask[q]) ** 2
            direct[k, i] += (smoothness + clamped) * differ + d[int(mask[p]), int(mask[q])]
    for i in range(4):
        energies = puzzle_energy(masks[:, i], *(cost[i] for cost in costs))
        np.testing.assert_allclose(energies - energies[0], direct[:, i] - direct[0, i], atol=1e-6)


def test_half_costs_the_mean_of_both_images_and_its_own_prior():
    images, maps = make_batch(32, 32)
    s, lam, n = block_saliency(maps, (4, 4)), 0.3, 4
    unaries, _, _ = puzzle_costs(images, s, lam, std=STD, beta=BETA, gamma=GAMMA, eta=ETA, neigh_size=4)
    own, half, partner = (-math.log(p + 1e-8) * ETA / n**2 for p in (lam**2, 2 * lam * (1 - lam), (1 - lam) ** 2))
    mean = (unaries[:, 0] - own + unaries[:, 2] - partner) / 2
    torch.testing.assert_close(unaries[:, 1] - half, mean)


def test_block_saliency_is_the_share_of_each_block():
    _, maps = make_batch(32, 48)
    shares = block_saliency(maps, (4, 8)).numpy()
    for i, r, c in itertools.product(range(4), range(4), range(8)):
        block = maps[i, r * 8 : r * 8 + 8, c * 6 : c * 6 + 6].numpy()
        assert shares[i, r, c] == pytest.approx(block.sum() / maps[i].sum().item())


@pytest.mark.parametrize('scale', [1e-30, 1e30])
def test_the_unit_of_the_saliency_does_not_matter(scale):
    maps = make_batch(32, 32)[1].float()
    torch.testing.assert_close(block_saliency(maps * scale, (4, 4)), block_saliency(maps, (4, 4)))


@pytest.mark.parametrize('value', [0.0, math.nan, math.inf])
def test_a_map_without_sound_values_becomes_uniform_and_leaves_the_others_alone(value):
    maps = make_batch(32, 32)[1].float()
    broken = maps.clone()
    broken[1] = 0.0
    broken[1, 5, 5] = value
    shares = block_saliency(broken, (4, 4))
    torch.testing.assert_close(shares[1], torch.full((4, 4), 1 / 16))
    keep = [0, 2, 3]
    torch.testing.assert_close(shares[keep], block_saliency(maps, (4, 4))[keep])
