"""The tables of the part `puzzle`."""

import sys

import numpy as np
import pytest
import torch

from hmix_timm.modes import puzzle_arguments
from hmix_timm.puzzle import minimum_cut
from hmix_timm.puzzle.costs import block_saliency, puzzle_costs
from train_patch import bench
from train_patch.benching import puzzle
from train_patch.data.scikit_images import photographs


def arguments(*line):
    parser = bench.build_parser()
    args = parser.parse_args(['--batch-size', '2', '--repeats', '1', '--model', 'test_resnet', *line])
    bench.check_arguments(parser, args)
    return args


def test_parts_and_steps_stand_in_tables(monkeypatch):
    monkeypatch.setattr(puzzle, 'BATCH_SIZES', (2, 3))
    parts, steps = puzzle.bench_puzzle(arguments()).values()
    assert [row['images, blocks'] for row in parts] == [f'{b}, {n}×{n}' for b in (2, 3) for n in (2, 4, 8, 16)]
    assert all(row[part] > 0 for row in parts for part in ('costs', 'cut', 'transport'))
    assert [row['mixing'] for row in steps] == ['CutMix', 'PuzzleMix', 'PuzzleMix without the step']
    assert steps[0]['÷ CutMix'] == 1.0


def test_without_scipy_it_is_left_out_or_refused(monkeypatch, capsys):
    monkeypatch.setattr(bench.importlib.util, 'find_spec', lambda name: None)
    monkeypatch.setitem(sys.modules, 'scipy.sparse', None)
    assert bench.available_parts() == ['mixers', 'loader', 'scaling']
    assert bench.run_command('hmix-bench', lambda: puzzle.bench_puzzle(arguments())) == 1
    assert "pip install 'hmix-timm[puzzle]'" in capsys.readouterr().err


def test_an_unknown_model_is_named(capsys):
    with pytest.raises(SystemExit):
        bench.main(['--only', 'puzzle', '--model', 'resnet19'])
    assert 'argument --model: timm has no model resnet19' in capsys.readouterr().err


def test_photographs_are_means_over_areas_normalized():
    images, classes = puzzle.make_photographs(103, 'cpu')
    assert images.shape == (103, 3, 32, 32)
    assert classes.tolist() == [*range(100), 0, 1, 2]
    rng = np.random.default_rng(0)
    for index, image in enumerate(images[:4]):
        whole = torch.tensor(photographs()[index % 2]).permute(2, 0, 1) / 255
        side = rng.integers(64, 320)
        top, left = rng.integers(427 - side), rng.integers(640 - side)
        cutting = whole[:, top : top + side, left : left + side]
        expected = torch.nn.functional.adaptive_avg_pool2d(cutting, 32)
        torch.testing.assert_close(image, (expected - 0.5) / 0.25)


def test_each_part_gets_what_a_batch_gives_it(monkeypatch):
    monkeypatch.setattr(puzzle.np.random, 'default_rng', lambda seed: Lams())
    seen = {'costs': [], 'cut': [], 'transport': []}
    monkeypatch.setattr(puzzle, 'transport', lambda *given: seen['transport'].append(given))
    images, saliency = torch.rand(4, 3, 32, 32), torch.rand(4, 32, 32)
    calls = puzzle.part_calls(images, saliency, 2)
    assert list(calls) == ['costs', 'cut', 'transport']
    monkeypatch.setattr(puzzle, 'puzzle_costs', lambda *given, **options: seen['costs'].append((given, options)))
    monkeypatch.setattr(puzzle, 'minimum_cut', lambda *problem: seen['cut'].append(problem))
    for _ in range(3):  # two λ, and the first of them again
        for call in calls.values():
            call()
    for (given, shares, lam), options in seen['costs']:
        assert given is images and lam == 0.5 and options['std'] == (0.25, 0.25, 0.25)
        torch.testing.assert_close(shares, block_saliency(saliency, (2, 2)))
    shares = block_saliency(saliency, (2, 2))
    masks = []
    for lam, problem in zip((0.2, 0.7, 0.2), seen['cut'], strict=True):
        assert all(isinstance(part, np.ndarray) for part in problem)
        options = seen['costs'][0][1]
        masks.append(minimum_cut(*puzzle_costs(images, shares, lam, **options)))
        for part, expected in zip(problem, puzzle_costs(images, shares, lam, **options), strict=True):
            np.testing.assert_array_equal(part, expected.numpy())
    for mask, (both, visible, t_eps) in zip(masks, seen['transport'], strict=True):
        assert torch.equal(both, torch.cat((shares, shares.flip(0))))
        assert torch.equal(visible, torch.cat((mask != 0, mask != 1)))
        assert t_eps == puzzle_arguments('cifar100')['t_eps']


class Lams:
    """A generator of two λ."""

    def beta(self, a, b, count):
        assert (a, b) == (1.0, 1.0) and count > 1
        return np.array([0.2, 0.7])


def test_the_mixers_of_the_steps_are_those_of_the_images(monkeypatch, capsys):
    made = []

    class Mixers(puzzle.PuzzleMix):
        def __init__(self, *given, **options):
            made.append(options)
            super().__init__(*given, **options)

    monkeypatch.setattr(puzzle, 'PuzzleMix', Mixers)
    monkeypatch.setattr(puzzle, 'BATCH_SIZES', (2,))
    monkeypatch.setattr(puzzle, 'BLOCKS', (2, 4))
    parts, steps = puzzle.bench_puzzle(arguments())
    assert made == [{'num_classes': 100, 'std': (0.25, 0.25, 0.25), **puzzle_arguments('cifar100')}]
    assert parts == 'Parts of PuzzleMix, ms a batch of 3×32×32, mean over λ'
    assert steps == 'A training step of test_resnet, 2 images 3×32×32'
    assert capsys.readouterr().err.splitlines() == [
        'puzzle: 2 images, 2 × 2 blocks',
        'puzzle: 2 images, 4 × 4 blocks',
        'puzzle: training steps of test_resnet',
    ]
