"""The tables of the part `puzzle`."""

import sys

import pytest

from hmix_timm import bench
from hmix_timm.benching import puzzle


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
