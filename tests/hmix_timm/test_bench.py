"""hmix-bench runs as a command, measures what it says, and refuses what it cannot measure."""

import json
import subprocess
import sys
import time

import numpy as np
import pytest
import timm
import torch
from PIL import Image

from hmix_timm import bench

TINY = ['--batch-size', '4', '--size', '32', '--repeats', '1', '--epochs', '1', '--workers', '1']
OURS = {'Mixup', 'CutMix', 'HMix', 'GMix'}
TIMMS = {"timm's Mixup", "timm's CutMix"}


def run(*arguments):
    command = [sys.executable, '-m', 'hmix_timm.bench', *TINY, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def rows(table):
    return {next(iter(row.values())): list(row.values())[1:] for row in table}


def test_mixers_are_timed_in_every_mode_beside_timms(tmp_path):
    file = tmp_path / 'report.json'
    done = run('--only', 'mixers', '--dtype', 'bfloat16', '--json', str(file))
    assert done.returncode == 0, done.stderr
    report = json.loads(file.read_text())
    assert list(tmp_path.iterdir()) == [file]
    assert report['machine']['timm'] == timm.__version__
    assert report['machine']['threads'] == 1
    times, memory, bandwidth = report['tables'].values()
    float_rows = [f'bfloat16 cpu, {mode}' for mode in ('batch', 'pair', 'elem')]
    paths = ['uint8 collate', "uint8 collate, loader's layout"]
    collate_rows = [f'{path}, {mode}' for path in paths for mode in ('batch', 'pair', 'elem', 'half')]
    assert list(rows(times)) == list(rows(memory)) == float_rows + collate_rows
    assert list(rows(bandwidth)) == float_rows
    for row in times:
        assert all(value > 0 for value in list(row.values())[1:])
    for row in memory:
        assert set(row) == {'path, mode'} | OURS | TIMMS
    # what was written is what was printed
    assert done.stdout.count('\n| bfloat16 cpu, pair |') == 3
    assert f'timm {timm.__version__}' in done.stdout
    assert 'mixers:' in done.stderr and 'mixers:' not in done.stdout


def write_jpegs(folder, count):
    rng = np.random.default_rng(0)
    for i in range(count):
        path = folder / f'class{i % 2}' / f'{i}.jpg'
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)


def check_loader_report(file):
    (table,) = json.loads(file.read_text())['tables'].values()
    assert list(rows(table)) == ['no mixing', "timm's Mixup", 'Mixup', 'HMix', 'GMix']
    assert rows(table)['no mixing'][1] == 1.0
    assert all(rate > 0 and share > 0 for rate, share in rows(table).values())


def test_the_whole_loader_is_timed(tmp_path):
    file = tmp_path / 'report.json'
    done = run('--only', 'loader', '--images', '9', '--json', str(file))
    assert done.returncode == 0, done.stderr
    check_loader_report(file)


def test_the_whole_loader_is_timed_on_ones_own_images(tmp_path):
    data, file = tmp_path / 'data', tmp_path / 'report.json'
    data.mkdir()
    write_jpegs(data, 9)
    bench.main([*TINY, '--only', 'loader', '--data-dir', str(data), '--json', str(file)])
    check_loader_report(file)


def test_scaling_covers_sizes_and_batches(monkeypatch):
    monkeypatch.setattr(bench, 'SIZES', (8, 16))
    monkeypatch.setattr(bench, 'BATCH_SIZES', (2, 4, 6))
    args = bench.build_parser().parse_args(['--repeats', '1'])
    sizes, batches = bench.bench_scaling(args).values()
    assert list(rows(sizes)) == ['64×3×8×8', '64×3×16×16']
    assert list(rows(batches)) == ['2×3×128×128', '4×3×128×128', '6×3×128×128']
    for row in sizes + batches:
        assert set(row) == {'images'} | {f'{path} {name}' for path in ('float32', 'uint8') for name in OURS}
        assert all(value > 0 for value in list(row.values())[1:])


def test_calls_alternate_from_the_same_seeds():
    draws = {'a': [], 'b': []}
    order = []

    def call(name, seconds):
        order.append(name)
        draws[name].append(np.random.rand())
        time.sleep(seconds)

    times = bench.alternate({'a': lambda: call('a', 0.004), 'b': lambda: call('b', 0.0)}, 3, 'cpu')
    assert order == ['a', 'b'] * 5  # two of the five are a warm-up
    assert draws['a'] == draws['b'] and len(set(draws['a'])) == 3
    assert len(times['a']) == len(times['b']) == 3
    assert min(times['a']) >= 4.0


def test_ratios_are_ours_to_timms_within_a_turn():
    times = {
        "timm's Mixup": [2.0, 60.0, 5.0],  # all is slow in the second turn
        "timm's CutMix": [1.0, 40.0, 4.0],
        'HMix': [1.0, 30.0, 4.0],
        'GMix': [4.0, 60.0, 20.0],
        'Mixup': [0.5, 15.0, 1.0],
        'CutMix': [3.0, 40.0, 2.0],
    }
    assert bench.beside_timms(times) == {
        "HMix ÷ timm's Mixup": 0.5,
        "GMix ÷ timm's Mixup": 2.0,
        "Mixup ÷ timm's": 0.25,
        "CutMix ÷ timm's": 1.0,
        "timm's Mixup, ms": 5.0,
        "timm's CutMix, ms": 4.0,
    }


def test_memory_counts_what_numpy_and_torch_hold_at_the_peak():
    def temporaries():
        for _ in range(3):
            np.ones(2**20, np.uint8).sum()
            torch.ones(2**19).sum()  # 2 MiB
        return torch.ones(2**20), np.ones(2**23, np.uint8)

    assert bench.extra_memory(temporaries, 'cpu') == pytest.approx(0.0, abs=0.1)  # what is returned is more

    def peak():
        held = torch.ones(2**18), torch.ones(2**19), np.ones(2**20, np.uint8)
        return held[0].sum()

    assert bench.extra_memory(peak, 'cpu') == pytest.approx(4.0, abs=0.1)


def test_samples_have_the_layouts_of_the_paths():
    contiguous, as_loaded = (bench.make_samples(2, 8, channels_last=flag)[0][0] for flag in (False, True))
    assert contiguous.shape == as_loaded.shape == (3, 8, 8)
    assert contiguous.flags.c_contiguous
    assert as_loaded.strides == np.rollaxis(np.array(Image.new('RGB', (8, 8))), 2).strides


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        (['--batch-size', '3'], "--batch-size: must be even, as timm's mixers need it, got 3"),
        (['--batch-size', '0'], '--batch-size: must be a whole number >= 1, got 0'),
        (['--size', 'big'], '--size: must be a whole number >= 1, got big'),
        (['--dtype', 'int8'], "--dtype: invalid choice: 'int8'"),
        (['--only', 'everything'], "--only: invalid choice: 'everything'"),
        (['--images', '5', '--batch-size', '8'], '--images: must fill a batch of 8, got 5'),
        (['--data-dir', 'no/such/folder'], '--data-dir: no/such/folder is not a folder'),
        (['--json', 'no/such/folder/report.json'], 'no/such/folder is not a folder'),
    ],
)
def test_wrong_arguments_end_with_status_2(arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        bench.main(arguments)
    assert end.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize('device', ['cuda', 'mps'])
def test_a_device_that_is_not_there_is_refused(device, capsys):
    if (torch.cuda if device == 'cuda' else torch.backends.mps).is_available():
        pytest.skip(f'{device} is there')
    with pytest.raises(SystemExit) as end:
        bench.main(['--device', device])
    assert end.value.code == 2
    assert f'--device: {device} is not available here' in capsys.readouterr().err


def test_a_folder_without_images_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        bench.main(['--data-dir', str(tmp_path)])
    assert end.value.code == 2
    assert 'holds no images in class folders' in capsys.readouterr().err
