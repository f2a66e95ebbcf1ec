"""PuzzleMix as a whole: pixels, labels, draws and arguments."""

import copy
import itertools
import math

import numpy as np
import pytest
import timm.data.mixup as timm_mixup
import torch

from hmix_timm import PuzzleMix
from hmix_timm.puzzle.transport import transport


def local_contrast(images, target):
    """A saliency that needs no model."""
    return (images.float() - images.float().mean((2, 3), keepdim=True)).square().mean(1)


def make_batch(count=6, height=32, width=32, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn((count, 3, height // 4, width // 4), generator=generator)
    images = torch.nn.functional.interpolate(coarse, (height, width), mode='bilinear').to(dtype)
    return images, torch.randint(0, 10, (count,), generator=generator)


def make_mixer(saliency=local_contrast, **arguments):
    return PuzzleMix(saliency, **{'num_classes': 10, 't_size': 4, 'std': (0.3, 0.3, 0.3), **arguments})


def mixed_tile_by_tile(images, mask, own_sources, partner_sources, grid):
    """m T₁x + (1 − m) T₂x_partner, with the mask and the sources of each of the grid's tiles."""
    height, width = images.shape[2] // grid[0], images.shape[3] // grid[1]
    result = torch.empty_like(images, dtype=torch.float64)

    def tile(image, number):
        r, c = divmod(int(number), grid[1])
        return image[:, r * height : (r + 1) * height, c * width : (c + 1) * width].double()

    for i in range(len(images)):
        partner = images[len(images) - 1 - i]
        for number, (r, c) in enumerate(itertools.product(range(grid[0]), range(grid[1]))):
            m = mask[i, r * mask.shape[1] // grid[0], c * mask.shape[2] // grid[1]].double()
            own, other = tile(images[i], own_sources[i, number]), tile(partner, partner_sources[i, number])
            result[i, :, r * height : (r + 1) * height, c * width : (c + 1) * width] = m * own + (1 - m) * other
    return result


def shares_of(saliency, grid):
    tiles = saliency.double().unflatten(2, (grid[1], -1)).unflatten(1, (grid[0], -1)).mean((2, 4))
    return (tiles / tiles.sum((1, 2), keepdim=True)).float()


@pytest.mark.parametrize(
    ('size', 'blocks', 't_size', 'grid', 'dtype', 'memory_format'),
    [
        ((32, 32), 4, 4, (8, 8), torch.float64, torch.contiguous_format),
        ((32, 64), 8, 4, (8, 16), torch.float32, torch.contiguous_format),
        ((32, 32), 16, 4, (16, 16), torch.bfloat16, torch.channels_last),
        ((512, 512), 4, -1, (4, 4), torch.float32, torch.channels_last),  # so large that few pairs are mixed at once
    ],
)
def test_the_pixels_are_the_tiles_that_mask_and_transport_choose(size, blocks, t_size, grid, dtype, memory_format):
    images, _ = make_batch(6, *size, dtype=dtype)
    images = images.contiguous(memory_format=memory_format)
    mixer = make_mixer(t_eps=0.01, t_size=t_size)
    coarse = torch.rand((6, 1, *grid), generator=torch.Generator().manual_seed(0)) ** 4
    saliency = torch.nn.functional.interpolate(coarse, size).squeeze(1)
    mask = mixer.solve_masks(images, saliency, 0.5, blocks)
    shares = shares_of(saliency, grid)
    seen = mask.repeat_interleave(grid[0] // blocks, 1).repeat_interleave(grid[1] // blocks, 2)
    own_sources, partner_sources = transport(shares, seen > 0, 0.01), transport(shares.flip(0), seen < 1, 0.01)
    assert (own_sources != torch.arange(grid[0] * grid[1])).any()
    expected = mixed_tile_by_tile(images, mask, own_sources, partner_sources, grid)
    mixed = mixer.blend_(images, saliency, mask)
    assert mixed is images and mixed.is_contiguous(memory_format=memory_format)
    torch.testing.assert_close(mixed, expected.to(dtype))


@pytest.mark.parametrize('seed', range(8))
def test_the_label_weight_is_the_share_of_the_own_image(seed):
    """Own images of ones and partners of zeros; the saliency comes from elsewhere."""
    np.random.seed(seed)
    images = torch.zeros(6, 3, 32, 32)
    images[:3] = 1.0
    maps = torch.rand((6, 32, 32), generator=torch.Generator().manual_seed(seed)) ** 4
    target = torch.arange(6)
    mixed, soft = make_mixer(lambda *_: maps, label_smoothing=0.0)(images, target)
    weight = soft[torch.arange(6), target]
    share = mixed.mean((1, 2, 3))
    torch.testing.assert_close(weight[:3], share[:3])
    torch.testing.assert_close(weight[3:], 1 - share[3:])
    torch.testing.assert_close(soft.sum(1), torch.ones(6))


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
@pytest.mark.parametrize('count', [1, 2, 5])
def test_targets_are_float32_and_the_middle_of_an_odd_batch_stays_as_it_is(count, dtype):
    images, target = make_batch(count, dtype=dtype)
    before = images.clone()
    mixed, soft = make_mixer(label_smoothing=0.0)(images, target)
    assert soft.dtype == torch.float32 and soft.shape == (count, 10)
    torch.testing.assert_close(soft.sum(1), torch.ones(count))
    if count % 2:
        middle = count // 2
        assert torch.equal(mixed[middle], before[middle]) and soft[middle, target[middle]] == 1.0
    assert count == 1 or not torch.equal(mixed, before)


@pytest.mark.parametrize(('lam', 'value'), [(0.0, 0.0), (0.2, 0.0), (0.5, 0.5), (0.9, 1.0), (1.0, 1.0)])
def test_the_prior_alone_follows_lambda_and_the_smoothest_mask_is_constant(lam, value):
    images, _ = make_batch()
    saliency = local_contrast(images, None)
    assert (make_mixer(beta=0.0, gamma=0.0, eta=1e4).solve_masks(images, saliency, lam, 4) == value).all()
    smooth = make_mixer(beta=1e4, gamma=0.0).solve_masks(images, saliency, lam, 16)
    assert (smooth == smooth[:, :1, :1]).all()


def test_both_images_keep_a_salient_corner_each_and_move_apart_from_the_same_place():
    images, _ = make_batch(2)
    maps = torch.full((2, 32, 32), 1e-3)
    maps[0, :8, :8] = maps[1, 24:, 24:] = 1.0
    mask = make_mixer().solve_masks(images, maps, 0.5, 4)
    assert mask[:, 0, 0].tolist() == [1.0, 0.0] and mask[:, 3, 3].tolist() == [0.0, 1.0]
    maps = torch.full((2, 32, 32), 1e-3)
    maps[:, 8:16, 8:16] = 1.0
    mask = torch.tensor([[1.0, 0.0, 0.0, 0.0]] * 4).expand(2, 4, 4)
    before = images.clone()
    mixed = make_mixer(t_size=-1).blend_(images, maps, mask)
    assert torch.equal(mixed[0, :, 8:16, :8], before[0, :, 8:16, 8:16])
    assert torch.equal(mixed[0, :, 8:16, 8:16], before[1, :, 8:16, 8:16])


@pytest.mark.parametrize('off', [{'prob': 0.0}, {'enabled': False}])
def test_when_off_no_saliency_is_computed_and_targets_are_timms(off):
    def fails(*_):
        raise AssertionError('saliency computed')

    mixer = make_mixer(fails, prob=off.get('prob', 1.0))
    mixer.mixup_enabled = off.get('enabled', True)
    images, target = make_batch()
    before = images.clone()
    mixed, soft = mixer(images, target)
    assert torch.equal(mixed, before)
    torch.testing.assert_close(soft, timm_mixup.mixup_target(target, 10, 1.0, 0.1))


def test_numpys_seed_decides_whether_to_mix_lambda_and_the_number_of_blocks():
    drawn = []

    class Recorded(PuzzleMix):
        def solve_masks(self, images, saliency, lam, count):
            drawn.append((lam, count))
            return super().solve_masks(images, saliency, lam, count)

    mixer = Recorded(local_contrast, num_classes=10, alpha=2.0, prob=0.7)
    np.random.seed(3)
    for _ in range(60):
        mixer(*make_batch(2))
    after = np.random.rand()
    np.random.seed(3)
    expected = []
    for _ in range(60):
        if np.random.rand() < 0.7:
            expected.append((np.random.beta(2.0, 2.0), (2, 4, 8, 16)[np.random.randint(4)]))
    assert drawn == expected and np.random.rand() == after
    assert {count for _, count in drawn} == {2, 4, 8, 16} and len(drawn) < 60


@pytest.mark.parametrize('value', [0.0, math.nan])
def test_a_model_without_a_gradient_still_mixes(value):
    images, target = make_batch()
    mixed, soft = make_mixer(lambda images, _: torch.full_like(images[:, 0], value))(images, target)
    assert mixed.isfinite().all() and soft.isfinite().all()


def test_repr_says_every_parameter_and_copies_have_a_switch_of_their_own():
    mixer = make_mixer(alpha=0.5)
    assert repr(mixer) == (
        'PuzzleMix(alpha=0.5, beta=1.2, gamma=0.5, eta=0.2, neigh_size=4, t_eps=0.8, t_size=4, blocks=2|4|8|16, '
        'prob=1, label_smoothing=0.1, num_classes=10, std=0.3|0.3|0.3)'
    )
    deep = copy.deepcopy(mixer)
    deep.mixup_enabled = False
    assert mixer.mixup_enabled and repr(deep) == repr(mixer)


@pytest.mark.parametrize(
    ('size', 'arguments', 'message'),
    [
        ((224, 224), {'t_size': -1}, r'224×224 .* neigh_size 4.*sides that work: .*192, 256.*neigh_size 1 or 2'),
        ((30, 30), {}, r'30×30 into 2, 4, 8, 16 blocks.*sides that work: 16, 32'),
        ((32, 48), {}, r'32×48'),
        ((32, 40), {}, r'32×40'),
        ((64, 64), {'t_size': 3}, 't_size 3'),
        ((224, 224), {'neigh_size': 2, 't_size': -1}, None),
        ((32, 64), {}, None),
        ((16, 16), {}, None),
        ((40, 40), {'blocks': (2, 5)}, None),
    ],
)
def test_sides_that_fit_are_mixed_and_an_error_says_which_do(size, arguments, message):
    images, target = make_batch(2, *size)
    if message is None:
        assert make_mixer(**arguments)(images, target)[0].shape == (2, 3, *size)
    else:
        with pytest.raises(ValueError, match=message):
            make_mixer(**arguments)(images, target)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'alpha': 0.0}, 'alpha must be a finite number > 0'),
        ({'beta': -1.0}, 'beta must be a finite number >= 0'),
        ({'gamma': math.nan}, 'gamma must be a finite number >= 0'),
        ({'eta': '0.2'}, 'eta must be a finite number >= 0'),
        ({'neigh_size': 0}, 'neigh_size must be a whole number >= 1'),
        ({'t_eps': 0.0}, 't_eps must be a finite number > 0'),
        ({'t_size': 0}, 't_size, where not -1, must be a whole number >= 1'),
        ({'blocks': ()}, 'blocks must hold'),
        ({'blocks': (2, 1)}, 'every number in blocks must be a whole number >= 2'),
        ({'prob': 1.5}, 'prob must be a finite number between 0 and 1'),
        ({'label_smoothing': -0.1}, 'label_smoothing must be'),
        ({'num_classes': 0}, 'num_classes must be'),
        ({'std': (0.3, 0.0, 0.3)}, 'std must be a finite number > 0'),
        ({'std': (0.3, 0.3)}, 'std must have a value for each of the 3 channels'),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_mixer(**arguments)(*make_batch())
