"""hmix-bench as a user runs it: what it measures and writes, how it ends, what it refuses."""

import json
import os
import sys
import time

import pytest
import timm
import torch

from hmix_timm.modes import mix_modes
from train_patch import bench

TINY = ['--batch-size', '4', '--size', '32', '--repeats', '1', '--epochs', '1', '--workers', '1']

STRIPES = """
import numpy as np
from hmix_timm import DenseMask, register_family

@register_family('stripes', title='Stripes', options={'period': 8})
def stripes(size, lam, options, draws):
    open(__file__ + '.drawn', 'a').close()
    rows = (np.arange(size[0]) + draws.integers(0, options.period)) % options.period < lam * options.period
    return DenseMask(np.repeat(rows[:, None], size[1], axis=1))
"""


@pytest.fixture(scope='module')
def start(processes):
    """Starts a small hmix-bench."""
    return lambda *arguments: processes.module('train_patch.bench', *TINY, *arguments)


@pytest.fixture
def report(start, tmp_path):
    """Runs a small hmix-bench and reads its report: tables, and the seconds that the whole command took."""

    def run(*arguments):
        begin = time.monotonic()
        start(*arguments, '--json', tmp_path / 'report.json').passed()
        tables = json.loads((tmp_path / 'report.json').read_text())['tables']
        return list(tables.values()), time.monotonic() - begin

    return run


@pytest.fixture(scope='module')
def measured(start, tmp_path_factory):
    """The process of one run, and its report."""
    folder = tmp_path_factory.mktemp('bench')
    line = ['--only', 'mixers', '--dtype', 'bfloat16', '--mix-modes', 'mixup', 'cutmix', 'hmix', 'gmix']
    done = start(*line, '--json', folder / 'new' / 'report.json').passed()
    assert [path.name for path in (folder / 'new').iterdir()] == ['report.json']
    return done, json.loads((folder / 'new' / 'report.json').read_text())


def test_every_mixer_is_measured_on_every_path_and_in_every_mode(measured):
    times, memory = measured[1]['tables'].values()
    rows = [f'bfloat16 cpu, {mode}' for mode in ('batch', 'pair', 'elem')]
    for path in ('uint8 collate', "uint8 collate, loader's layout"):
        rows += [f'{path}, {mode}' for mode in ('batch', 'pair', 'elem', 'half')]
    assert [row['path, mode'] for row in times] == [row['path, mode'] for row in memory] == rows
    mixup, cutmix = "timm's Mixup", "timm's CutMix"
    ratios = [f'Mixup ÷ {mixup}', f'CutMix ÷ {cutmix}', f'HMix ÷ {mixup}', f'GMix ÷ {mixup}']
    for row in times:
        assert list(row)[1:] == [*ratios, f'{mixup}, ms', f'{cutmix}, ms'] and all(
            v > 0 for v in list(row.values())[1:]
        )
        assert row[f'{mixup}, ms'] > 0.005  # not seconds: no call is done within 5 µs
    for row in memory:
        assert list(row)[1:] == [mixup, cutmix, 'Mixup', 'CutMix', 'HMix', 'GMix']


def test_mixup_and_the_mask_of_each_method_are_measured_by_default():
    args = bench.read_arguments([])
    assert [*args.mixings] == [name for name in mix_modes() if name not in ('none', 'stochastic', 'puzzlemix')]
    assert (args.batch_size, args.size, args.repeats, args.epochs) == (64, 224, 20, 5)


def test_the_report_is_what_was_printed_and_names_the_machine(measured):
    done, report = measured
    for title, table in report['tables'].items():
        lines = done.stdout.partition(title)[2].strip().splitlines()
        header, _, *found = ([cell.strip() for cell in line.strip('| ').split(' | ')] for line in lines)
        assert header == list(table[0])
        for cells, row in zip(found, table, strict=False):
            assert cells[0] == row['path, mode']
            assert [float(cell) for cell in cells[1:]] == pytest.approx(list(row.values())[1:], rel=0.01, abs=0.5)
    machine = report['machine']
    assert (machine['timm'], machine['torch']) == (timm.__version__, torch.__version__)
    assert (machine['threads'], machine['cores'], machine['device']) == (1, os.cpu_count(), 'cpu')
    assert machine['processor'] in done.stdout.splitlines()[0] and 'model name' not in machine['processor']
    assert done.stdout.splitlines()[1:5] == list(report['mixers'].values())


def test_progress_goes_to_standard_error_alone(measured):
    lines = measured[0].stderr.splitlines()
    assert len(lines) == 11 and all(line.startswith('mixers: ') for line in lines)
    assert 'mixers: ' not in measured[0].stdout


def test_a_users_own_family_is_measured_with_the_parameters_of_a_run(report, tmp_path):
    (tmp_path / 'masks.py').write_text(STRIPES)
    recorded = {'mix_mode': 'cutmix', 'mix_alpha': 0.3, 'mix_families': str(tmp_path / 'masks.py'), 'epochs': 3}
    (tmp_path / 'args.yaml').write_text(json.dumps(recorded))
    modes = ['--mix-modes', 'stripes', 'cutmix', 'stripes', '--stripes-period', '4']
    (times, _), _ = report('--only', 'mixers', '-c', tmp_path / 'args.yaml', *modes)
    mixers = json.loads((tmp_path / 'report.json').read_text())['mixers']
    assert 'Stripes(alpha=1, period=4)' in mixers['stripes'] and 'CutMix(alpha=0.3)' in mixers['cutmix']
    ratios = ["Stripes ÷ timm's Mixup", "CutMix ÷ timm's CutMix"]
    assert list(times[0])[1:] == [*ratios, "timm's Mixup, ms", "timm's CutMix, ms"]


def test_the_whole_loader_is_timed_while_it_mixes(report, tmp_path):
    (mine := tmp_path / 'mine.py').write_text(STRIPES)
    (table,), seconds = report('--only', 'loader', '--images', 9, '--mix-families', mine, '--mix-modes', 'stripes')
    assert (tmp_path / 'mine.py.drawn').exists()
    assert [row['loader'] for row in table] == ['no mixing', "timm's Mixup", 'Stripes']
    assert table[0]['÷ no mixing'] == 1
    for row in table:  # 8 images an epoch, which took less than the whole command
        assert row['images per second'] > 8 / seconds
        assert row['÷ no mixing'] == pytest.approx(row['images per second'] / table[0]['images per second'])


def test_a_training_step_with_puzzlemix_is_timed_beside_one_with_cutmix(report):
    (table,), seconds = report('--only', 'puzzle', '--model', 'test_resnet')
    assert [row['mixing'] for row in table] == ['CutMix', 'PuzzleMix']
    assert table[0]['÷ CutMix'] == 1 and table[1]['÷ CutMix'] == pytest.approx(table[1]['ms'] / table[0]['ms'])
    assert all(0.005 < row['ms'] < 1e3 * seconds for row in table)


def test_without_scipy_all_but_puzzlemix_is_measured(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, 'scipy', None)  # how Python marks a module that is not there
    bench.main([*TINY, '--images', '9', '--mix-modes', 'hmix', '--json', str(tmp_path / 'report.json')])
    assert 'puzzle: left out, scipy is not installed' in capsys.readouterr().err
    assert len(json.loads((tmp_path / 'report.json').read_text())['tables']) == 3


@pytest.mark.parametrize(
    ('line', 'message'),
    [
        ('--batch-size 3', "--batch-size must be even, as timm's mixers need it, got 3"),
        ('--batch-size 0', '--batch-size: must be a whole number >= 1, got 0'),
        ('--size big', '--size: must be a whole number >= 1, got big'),
        ('--dtype int8', "--dtype: invalid choice: 'int8'"),
        ('--dtype float64 --device mps', '--dtype must not be float64 with --device mps'),
        ('--only everything', "--only: invalid choice: 'everything'"),
        ('--mix-modes hmixx', '--mix-modes must be of mixup, cutmix, stochastic, hmix, gmix, fmix'),
        ('--mix-modes none', '--mix-modes must be of mixup, cutmix, stochastic, hmix, gmix, fmix'),
        ('--mix-families no/such.py', '--mix-families no/such.py: there is no such file'),
        ('--mix-modes cutmix --hmix-ratio .5', '--hmix-ratio has no effect on any of --mix-modes cutmix'),
        ('--hmix-ratio 2', '--hmix-ratio must be a finite number between 0 and 1, got 2.0'),
        ('-c no.yaml', "recipe 'no.yaml' is neither a file nor a shipped recipe"),
        ('--images 5 --batch-size 8', '--images must fill a batch of 8, got 5'),
        ('--data-dir no/such/folder', '--data-dir must be a folder of class folders with at least 64 images'),
        ('--data-dir {images} --batch-size 34', '--data-dir must be a folder of class folders with at least 34 images'),
        ('--model resnet19', '--model must be a model of timm, got resnet19'),
        ('--device cuda', '--device cuda: there are 0 CUDA devices'),
        ('--json tests', '--json: tests is a folder'),
    ],
)
def test_wrong_arguments_end_with_status_2_and_one_line(line, message, image_folder, capsys):
    if '--device cuda' in line and torch.cuda.is_available():
        pytest.skip('cuda is there')
    try:
        status = bench.main(line.format(images=image_folder / 'train').split())
    except SystemExit as end:
        status = end.code
    out, err = capsys.readouterr()
    assert status == 2 and message in err.splitlines()[-1] and out == ''
