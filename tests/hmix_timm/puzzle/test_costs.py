"""The costs against the formulas, written out pixel by pixel."""

import itertools
import math

import numpy as np
import pytest
import torch

from hmix_timm.puzzle import energy
from hmix_timm.puzzle.costs import block_saliency, puzzle_costs

STD = (0.2, 0.3, 0.5)
OPTIONS = dict(std=STD, beta=1.2, gamma=0.5, eta=0.2)


def make_batch(height, width, batch=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn((batch, 3, height, width), generator=generator, dtype=torch.float64)
    return images, torch.rand((batch, height, width), generator=generator, dtype=torch.float64)


def border(images, above, below, n, neigh_size, r, c, down):
    """The mean jump from the images `above` at block (r, c) to the images `below` at the next block down or right."""
    if not down:
        images, r, c = images.transpose(0, 1, 3, 2), c, r
    height, width = images.shape[2] // n, images.shape[3] // n
    size = min(neigh_size, height, width)
    total = 0.0
    for channel in range(3):
        for k in range(width // size):
            column = slice(c * width + k * size, c * width + (k + 1) * size)
            top = images[above, channel, (r + 1) * height - size : (r + 1) * height, column].mean()
            bottom = images[below, channel, (r + 1) * height : (r + 1) * height + size, column].mean()
            total += abs(top - bottom) * STD[channel] / 3 / (width // size)
    return total


def jumps(images, n, neigh_size):
    """For each image and edge: (its two blocks, {(own or partner above, below): D})."""
    last = len(images) - 1
    for i in range(len(images)):
        for down, r, c in itertools.product((True, False), range(n), range(n)):
            q = (r + 1, c) if down else (r, c + 1)
            if max(q) == n:
                continue
            which = {1: i, 0: last - i}
            yield (
                i,
                (r, c),
                q,
                {
                    (a, b): 1.2 / (16 * n) * 0.5 * border(images, which[a], which[b], n, neigh_size, r, c, down)
                    for a, b in itertools.product((0, 1), repeat=2)
                },
            )


@pytest.mark.parametrize(
    ('height', 'width', 'n', 'neigh_size'),
    [(32, 32, 4, 4), (32, 32, 16, 4), (32, 32, 2, 2), (32, 64, 8, 4), (48, 32, 4, 1)],
)
def test_costs_are_the_formulas(height, width, n, neigh_size):
    images, maps = make_batch(height, width)
    s = block_saliency(maps, (n, n))
    lam = 0.3
    own, partner = s.numpy().copy(), s.flip(0).numpy().copy()
    vertical, horizontal = np.zeros((4, n - 1, n)), np.zeros((4, n, n - 1))
    for i, p, q, d in jumps(images.numpy(), n, neigh_size):
        partner[i][p] += (d[1, 0] + d[1, 1]) / 2
        own[i][p] += (d[0, 1] + d[0, 0]) / 2
        partner[i][q] += (d[0, 1] + d[1, 1]) / 2
        own[i][q] += (d[1, 0] + d[0, 0]) / 2
        weights = vertical if q[0] > p[0] else horizontal
        weights[i][p] = max(0.0, 1.2 / (16 * n) + (d[1, 0] + d[0, 1] - d[1, 1] - d[0, 0]) / 2)
    prior = [-math.log(share + 1e-8) * 0.2 / n**2 for share in (lam**2, 2 * lam * (1 - lam), (1 - lam) ** 2)]
    unaries = np.stack((partner + prior[0], (own + partner) / 2 + prior[1], own + prior[2]), 1)
    costs = puzzle_costs(images, s, lam, neigh_size=neigh_size, **OPTIONS)
    for computed, expected in zip(costs, (unaries, vertical, horizontal), strict=True):
        np.testing.assert_allclose(computed.numpy(), expected, atol=1e-7)


def test_for_hard_masks_the_energy_counts_the_jumps_of_the_mixed_image():
    n = 4
    images, maps = make_batch(32, 32)
    s = block_saliency(maps, (n, n))
    costs = puzzle_costs(images, s, 0.5, neigh_size=4, **OPTIONS)
    assert all((weights > 0).all() for weights in costs[1:])  # clamped, the formula is another

    def direct(mask):
        total = (mask * s.flip(0).numpy() + (1 - mask) * s.numpy()).sum((1, 2))
        for i, p, q, d in jumps(images.numpy(), n, 4):
            total[i] += 1.2 / (16 * n) * (mask[i][p] - mask[i][q]) ** 2 + d[int(mask[i][p]), int(mask[i][q])]
        return total

    rng = np.random.default_rng(0)
    masks = rng.integers(0, 2, (5, 4, n, n)).astype(float)
    direct_energies = np.stack([direct(mask) for mask in masks])
    energies = np.stack([energy(torch.from_numpy(mask), *costs).numpy() for mask in masks])
    np.testing.assert_allclose(energies - energies[:1], direct_energies - direct_energies[:1], atol=1e-6)


def test_the_partners_costs_mirror_the_own():
    images, maps = make_batch(32, 32)
    s = block_saliency(maps, (8, 8))
    costs = puzzle_costs(images, s, 0.2, neigh_size=4, **OPTIONS)
    swapped = puzzle_costs(images.flip(0), s.flip(0), 0.8, neigh_size=4, **OPTIONS)
    torch.testing.assert_close(swapped.unaries, costs.unaries.flip(1))
    torch.testing.assert_close(swapped.vertical, costs.vertical)


def test_what_normalization_subtracted_does_not_matter():
    images, maps = make_batch(32, 32)
    s = block_saliency(maps, (8, 8))
    shifted = images + torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64).reshape(3, 1, 1)
    for a, b in zip(*(puzzle_costs(x, s, 0.2, neigh_size=4, **OPTIONS) for x in (images, shifted)), strict=True):
        torch.testing.assert_close(a, b)


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
