"""hmix-bench as a user runs it: what it measures and writes, how it ends, what it refuses."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import timm
import torch

from train_patch import bench

TINY = ['--batch-size', '4', '--size', '32', '--repeats', '1', '--epochs', '1', '--workers', '1']

STRIPES = """
import numpy as np
from hmix_timm import DenseMask, register_family

@register_family('stripes', title='Stripes', options={'period': 8})
def stripes(size, lam, options, draws):
    rows = (np.arange(size[0]) + draws.integers(0, options.period)) % options.period < lam * options.period
    return DenseMask(np.repeat(rows[:, None], size[1], axis=1))
"""


@pytest.fixture(scope='module')
def start(processes):
    """Starts a small hmix-bench."""
    return lambda *arguments: processes.module('train_patch.bench', *TINY, *arguments)


@pytest.fixture(scope='module')
def measured(start, tmp_path_factory):
    """What a run printed, and the report that it wrote."""
    folder = tmp_path_factory.mktemp('bench')
    done = start('--only', 'mixers', '--dtype', 'bfloat16', '--json', folder / 'report.json').passed()
    assert [path.name for path in folder.iterdir()] == ['report.json']
    return done, json.loads((folder / 'report.json').read_text())


def test_every_path_and_mode_has_a_row(measured):
    times, memory, bandwidth = measured[1]['tables'].values()
    float_rows = [f'bfloat16 cpu, {mode}' for mode in ('batch', 'pair', 'elem')]
    paths = ['uint8 collate', "uint8 collate, loader's layout"]
    collate_rows = [f'{path}, {mode}' for path in paths for mode in ('batch', 'pair', 'elem', 'half')]
    assert [row['path, mode'] for row in times] == [row['path, mode'] for row in memory] == float_rows + collate_rows
    assert [row['path, mode'] for row in bandwidth] == float_rows


def test_every_mixer_is_measured(measured):
    times, memory, bandwidth = measured[1]['tables'].values()
    for row in memory + bandwidth:
        assert set(row) == {'path, mode', "timm's Mixup", "timm's CutMix", 'Mixup', 'CutMix', 'HMix', 'GMix'}
    for row in times + bandwidth:
        assert all(value > 0 for value in list(row.values())[1:])


def test_the_report_names_the_machine(measured):
    machine = measured[1]['machine']
    assert machine['timm'] == timm.__version__
    assert machine['torch'] == torch.__version__
    assert machine['threads'] == 1 and machine['cores'] == os.cpu_count()


def test_what_was_written_is_what_was_printed(measured):
    done, report = measured
    for title, table in report['tables'].items():
        lines = done.stdout.partition(title)[2].strip().splitlines()
        header, _, *found = ([cell.strip() for cell in line.strip('| ').split(' | ')] for line in lines)
        assert header == list(table[0])
        for cells, row in zip(found, table, strict=False):
            assert cells[0] == row['path, mode']
            assert [float(cell) for cell in cells[1:]] == pytest.approx(list(row.values())[1:], rel=0.01, abs=0.5)


def test_standard_error_holds_the_progress_alone(measured):
    lines = measured[0].stderr.splitlines()
    assert len(lines) == 11 and all(line.startswith('mixers: ') for line in lines)
    assert 'mixers: ' not in measured[0].stdout


def test_a_family_of_ones_own_is_measured(start, tmp_path):
    (tmp_path / 'masks.py').write_text(STRIPES)
    line = ['--only', 'mixers', '--mix-families', tmp_path / 'masks.py', '--mix-modes', 'stripes', 'cutmix']
    done = start(*line).passed()
    header = "| path, mode | Stripes ÷ timm's Mixup | CutMix ÷ timm's | timm's Mixup, ms | timm's CutMix, ms |"
    assert header in done.stdout


def test_the_whole_loader_is_timed(start, tmp_path):
    start('--only', 'loader', '--images', '9', '--mix-modes', 'gmix', '--json', tmp_path / 'report.json').passed()
    (table,) = json.loads((tmp_path / 'report.json').read_text())['tables'].values()
    assert [row['loader'] for row in table] == ['no mixing', "timm's Mixup", 'GMix']
    assert all(row['images per second'] > 0 for row in table)


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--batch-size', '3'], "--batch-size: must be even, as timm's mixers need it, got 3"),
        (['--batch-size', '0'], '--batch-size: must be a whole number >= 1, got 0'),
        (['--size', 'big'], '--size: must be a whole number >= 1, got big'),
        (['--dtype', 'int8'], "--dtype: invalid choice: 'int8'"),
        (['--dtype', 'float64', '--device', 'mps'], '--dtype: mps has no float64'),
        (['--only', 'everything'], "--only: invalid choice: 'everything'"),
        (['--mix-modes', 'hmixx'], '--mix-modes: must be of mixup, cutmix, stochastic, hmix, gmix, got hmixx'),
        (['--mix-modes', 'none'], '--mix-modes: must be of mixup, cutmix, stochastic, hmix, gmix, got none'),
        (['--mix-families', 'no/such.py'], '--mix-families: no/such.py: there is no such file'),
        (['--images', '5', '--batch-size', '8'], '--images: must fill a batch of 8, got 5'),
        (['--data-dir', 'no/such/folder'], '--data-dir: no/such/folder is not a folder'),
        (['--json', 'no/such/folder/report.json'], '--json: '),
        (['--json', 'no/such/folder/report.json'], 'no/such/folder is not a folder'),
        (['--json', 'tests'], '--json: tests is a folder'),
        (['--json', os.devnull], '--json: /dev/null is not a regular file'),
        (['--json', '/proc/report.json'], '--json: cannot write to /proc: '),
    ],
)
def test_wrong_arguments_end_with_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        bench.main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    'line', ['--help', '--version', '--hepl', '--only nothing', '--batch-size 3', '--mix-modes x', '--json /proc/x']
)
def test_neither_help_nor_a_typo_waits_for_torch(line):
    code = f"""
import sys
from hmix_timm import bench
try:
    bench.main({line.split()})
except SystemExit:
    print('imported:', [name for name in ('torch', 'timm') if name in sys.modules])
"""
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith('imported: []\n'), done.stderr


@pytest.mark.parametrize('device', ['cuda', 'mps'])
def test_a_device_that_is_not_there_is_refused(device, capsys):
    if (torch.cuda if device == 'cuda' else torch.backends.mps).is_available():
        pytest.skip(f'{device} is there')
    with pytest.raises(SystemExit) as end:
        bench.main(['--device', device])
    assert end.value.code == 2
    assert f'argument --device: {device} cannot be used here: ' in capsys.readouterr().err


def test_a_folder_without_images_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        bench.main(['--data-dir', str(tmp_path)])
    assert end.value.code == 2
    assert 'holds no images in class folders' in capsys.readouterr().err


def test_a_disk_that_takes_nothing_is_found_before_the_work(tmp_path):
    # no file may grow: for every user what a full disk is
    line = f'ulimit -f 0; exec {sys.executable} -m train_patch.bench --json {tmp_path}/report.json'
    done = subprocess.run(['bash', '-c', line], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith(f'hmix-bench: error: argument --json: cannot write to {tmp_path}: ')
    assert done.stdout == '' and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ('part', 'under_way'), [('mixers', 'mixers: float32'), ('loader', 'loader: no mixing, epoch 1')]
)
def test_ctrl_c_ends_in_one_line(start, part, under_way):
    process = start('--only', part, '--repeats', '9999', '--epochs', '9999', '--images', '8')
    process.wait_until(lambda: f'\n{under_way}' in f'\n{process.stderr}')
    process.interrupt()
    assert process.wait().status == 130, process.stderr
    assert 'Traceback' not in process.stderr
    assert process.stderr.splitlines()[-1] == 'hmix-bench: interrupted'


def test_what_is_measured_without_arguments():
    found = vars(bench.build_parser().parse_args([]))
    assert found == {
        'only': None,
        'mix_modes': None,
        'mix_families': None,
        'device': 'cpu',
        'batch_size': 64,
        'size': 224,
        'dtype': 'float32',
        'threads': 1,
        'repeats': 20,
        'workers': 2,
        'epochs': 5,
        'images': 768,
        'data_dir': None,
        'model': 'resnet18',
        'json': None,
    }


def test_every_argument_is_explained_with_what_holds_without_it():
    actions = bench.build_parser()._actions
    assert all(action.help for action in actions)
    given = [action for action in actions if action.nargs != 0]
    assert len(given) > 10 and all('(default: ' in action.help for action in given)


def test_arguments_have_their_kinds():
    parser = bench.build_parser()
    for name in ('batch-size', 'size', 'threads', 'repeats', 'workers', 'epochs', 'images'):
        assert vars(parser.parse_args([f'--{name}', '1']))[name.replace('-', '_')] == 1
        for wrong in ('0', 'x'):
            with pytest.raises(SystemExit):
                parser.parse_args([f'--{name}', wrong])
    for name in ('data-dir', 'json'):
        assert vars(parser.parse_args([f'--{name}', 'a']))[name.replace('-', '_')] == Path('a')
    for line in ('--only x', '--device tpu', '--dtype float8', '--mix-modes'):
        with pytest.raises(SystemExit):
            parser.parse_args(line.split())
    for name, words in {
        'only': 'mixers loader scaling puzzle',
        'device': 'cpu cuda mps',
        'dtype': 'float32 float64 float16 bfloat16',
    }.items():
        assert [vars(parser.parse_args([f'--{name}', word]))[name] for word in words.split()] == words.split()


@pytest.mark.parametrize(
    'line',
    [
        '--device mps --dtype float32',
        '--device cpu --dtype float64',
        '--images 64 --batch-size 64',
        '--images 2 --data-dir {folder}',
        '--json {folder}/report.json',
        '--mix-modes gmix stochastic gmix',
    ],
)
def test_arguments_that_fit_are_taken(line, tmp_path):
    parser = bench.build_parser()
    args = parser.parse_args(line.format(folder=tmp_path).split())
    bench.check_arguments(parser, args)
    assert args.mix_modes == (['gmix', 'stochastic'] if 'gmix' in line else ['mixup', 'cutmix', 'hmix', 'gmix'])


def test_parts_that_can_be_measured_here(monkeypatch, capsys):
    found = {'scipy': 'there'}
    monkeypatch.setattr(bench.importlib.util, 'find_spec', found.get)
    assert bench.available_parts() == ['mixers', 'loader', 'scaling', 'puzzle']
    found.clear()
    assert bench.available_parts() == ['mixers', 'loader', 'scaling']
    assert capsys.readouterr() == ('', 'puzzle: left out, scipy is not installed\n')
