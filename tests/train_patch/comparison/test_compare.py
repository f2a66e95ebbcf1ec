"""hmix-compare with real training processes on a handful of real images, and its table against one computed here.

The tests that resume timm's own script run where TIMM_TRAIN_SCRIPT names one.
"""

import contextlib
import csv
import fcntl
import io
import json
import math
import os
import shlex
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image
from sklearn.datasets import load_digits

from hmix_timm.presets import mix_modes
from train_patch.compare import EpochWatch, last_error, main
from train_patch.comparison.results import (
    RunResult,
    csv_table,
    markdown_table,
    plot_curves,
    read_summary,
    table,
    tidy_summary,
)
from train_patch.recipes.published import PUBLISHED_TOP1

RECIPE = """
model: test_mambaout
num_classes: 2
input_size: [3, 32, 32]
no_aug: true
batch_size: 8
epochs: 2
warmup_epochs: 0
opt: adamw
lr: 2e-3          # text to YAML 1.1
workers: 1
device: cpu
"""


@pytest.fixture(scope='module', autouse=True)
def _one_thread():
    """Threads of several processes at once would fight for a small machine."""
    before = os.environ.get('OMP_NUM_THREADS')
    os.environ['OMP_NUM_THREADS'] = '1'
    yield
    del os.environ['OMP_NUM_THREADS']
    if before is not None:
        os.environ['OMP_NUM_THREADS'] = before


@pytest.fixture(scope='module')
def work(tmp_path_factory):
    """A folder with `recipe.yaml`, and `data/`: 16 zeros and ones to train on and 16 to validate."""
    root = tmp_path_factory.mktemp('compare')
    digits = load_digits(n_class=2)
    for label in (0, 1):
        for number, index in enumerate(np.flatnonzero(digits.target == label)[:16]):
            folder = root / 'data' / ('train' if number < 8 else 'validation') / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            image = Image.fromarray((digits.images[index] * 15).astype(np.uint8))
            image.resize((32, 32)).save(folder / f'{index}.png')
    (root / 'recipe.yaml').write_text(RECIPE)
    return root


def arguments(work: Path, output: Path, *more: str, epochs: int | None = None) -> list[str]:
    given = [str(work / 'recipe.yaml'), '--output', str(output), '--data-dir', str(work / 'data')]
    return given + ([] if epochs is None else ['--epochs', str(epochs)]) + list(more)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline='') as file:
        return list(csv.DictReader(file))


def files_of(folder: Path) -> dict[Path, tuple[int, int]]:
    """Identity and time of every file below a folder: any writing or replacing changes it."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob('*') if path.is_file()}


def refused(capsys, argv: list[str], status: int = 2) -> str:
    """The error message of a command line that is refused."""
    with pytest.raises(SystemExit) as caught:
        main(argv)
    assert caught.value.code == status
    return capsys.readouterr().err


@pytest.fixture(scope='module')
def finished(work):
    """A comparison that ran to its end: one run by its dry-run line, as a cluster would, the others by compare."""
    output = work / 'finished'
    argv = arguments(work, output, '--modes', 'none', 'hmix', '--seeds', '3')
    with contextlib.redirect_stdout(io.StringIO()) as lines:
        assert main([*argv, '--dry-run']) == 0
    assert not output.exists()
    _, line = lines.getvalue().splitlines()
    subprocess.run(shlex.split(line), capture_output=True, check=True)
    times = rows_of(output / 'hmix' / 'seed3' / 'times.csv')
    with contextlib.redirect_stdout(io.StringIO()) as screen:
        assert main(argv) == 0
    # the run that was there already was taken up as it stood: wall times never repeat
    assert rows_of(output / 'hmix' / 'seed3' / 'times.csv') == times and len(times) == 2
    return output, argv, screen.getvalue()


def test_table_is_what_the_runs_wrote(finished):
    output, _, screen = finished
    expected = {}
    for mode in ('none', 'hmix'):
        folder = output / mode / 'seed3'
        resolved = yaml.safe_load((folder / 'args.yaml').read_text())
        assert (resolved['mix_mode'], resolved['seed'], resolved['lr']) == (mode, 3, 2e-3)
        assert (folder / 'last.pth.tar').is_file() and (folder / 'train.log').is_file()
        summary = rows_of(folder / 'summary.csv')
        assert [row['epoch'] for row in summary] == ['0', '1']
        times = rows_of(folder / 'times.csv')
        seconds = statistics.median(float(row['train_time']) + float(row['eval_time']) for row in times)
        expected[mode] = float(summary[-1]['eval_top1']), seconds
    difference = expected['hmix'][0] - expected['none'][0]

    for row, mode in zip(rows_of(output / 'results.csv'), ('none', 'hmix'), strict=True):
        assert row['mode'] == mode and row['runs'] == '1' and row['top1_std'] == '' and row['published'] == ''
        assert float(row['top1_mean']) == float(row['top1_seed3']) == expected[mode][0]
        assert float(row['difference']) == pytest.approx(difference if mode == 'hmix' else 0, abs=1e-9)
        assert float(row['epoch_seconds']) == pytest.approx(expected[mode][1], abs=1e-9)

    lines = (output / 'results.md').read_text().splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines if line.startswith('|')]
    assert cells[0] == ['mode', 'top-1 (%)', 'difference to none', 'runs', 's / epoch']
    assert cells[2][:4] == ['none', f'{expected["none"][0]:.2f}', '–', '1']
    assert cells[3][:4] == ['hmix', f'{expected["hmix"][0]:.2f}', f'{difference:+.2f}', '1']
    assert '\n'.join(line for line in lines if line.startswith('|')) in screen
    with Image.open(output / 'results.png') as image:
        assert image.format == 'PNG' and image.width > 800


def test_finished_runs_are_not_trained_again(finished, capsys):
    output, argv, _ = finished
    before = {mode: files_of(output / mode) for mode in ('none', 'hmix')}
    (output / 'results.md').unlink()
    assert main(argv) == 0
    assert {mode: files_of(output / mode) for mode in ('none', 'hmix')} == before
    assert (output / 'results.md').exists()
    assert '2 of 2 runs are finished already' in capsys.readouterr().out
    # nor would a dry run name them
    assert main([*argv, '--dry-run']) == 0
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize(
    ('more', 'named'),
    [
        (['--epochs', '9'], "'--epochs', '9'"),
        (['--hmix-ratio', '0.5'], "'--hmix-ratio': '0.5'"),
        (['--nproc-per-node', '2'], 'nproc-per-node=2'),
    ],
)
def test_runs_with_other_arguments_are_not_mixed_in(finished, capsys, more, named):
    output, argv, _ = finished
    before = files_of(output)
    message = refused(capsys, [*argv, *more])
    assert str(output) in message and named in message
    assert {path: now for path, now in files_of(output).items() if path.name != '.lock'} == {
        path: then for path, then in before.items() if path.name != '.lock'
    }


def test_another_recipe_is_not_mixed_in(finished, work, capsys, tmp_path):
    output, argv, _ = finished
    other = tmp_path / 'other.yaml'
    other.write_text(RECIPE.replace('batch_size: 8', 'batch_size: 4'))
    assert 'batch_size: 8 there, 4 here' in refused(capsys, [str(other), *argv[1:]])

    # runs that came without compare's own record are held against their args.yaml
    record = (output / 'comparison.yaml').read_bytes()
    (output / 'comparison.yaml').unlink()
    try:
        assert 'none seed 3: batch_size is 8 there, 4 here' in refused(capsys, [str(other), *argv[1:]])
        assert not (output / 'comparison.yaml').exists()
    finally:
        (output / 'comparison.yaml').write_bytes(record)


def test_a_second_call_says_who_holds_the_folder(finished, capsys):
    output, argv, _ = finished
    with (output / '.lock').open('r+') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.truncate(0)
        file.write(json.dumps({'pid': os.getpid(), 'host': os.uname().nodename}))
        file.flush()
        message = refused(capsys, argv)
        assert f'process {os.getpid()} on {os.uname().nodename}' in message and str(output) in message
    assert main(argv) == 0


def test_a_killed_comparison_leaves_the_lock_to_its_training_process(finished):
    output, argv, _ = finished
    # a process that is gone by now, whose child has inherited the lock and ends soon
    code = (
        'import fcntl, json, os, subprocess, sys\n'
        'file = open(sys.argv[1], "r+")\n'
        'fcntl.flock(file, fcntl.LOCK_EX)\n'
        'file.truncate(0)\n'
        'file.write(json.dumps({"pid": os.getpid(), "host": os.uname().nodename}))\n'
        'file.flush()\n'
        'subprocess.Popen(["sh", "-c", "sleep 1; touch " + sys.argv[2]], pass_fds=[file.fileno()])\n'
    )
    ended = output / 'ended'
    subprocess.run([sys.executable, '-c', code, str(output / '.lock'), str(ended)], check=True)
    assert not ended.exists()
    assert main(argv) == 0
    assert ended.exists()
    ended.unlink()


def test_a_failed_run_is_named_and_the_others_go_on(tmp_path, capsys, monkeypatch):
    """On the embedded digits by their own recipe; the failing run finds a checkpoint that is none."""
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    output = tmp_path / 'runs'
    (output / 'hmix' / 'seed0').mkdir(parents=True)
    (output / 'hmix' / 'seed0' / 'last.pth.tar').write_bytes(b'no checkpoint')
    argv = ['--modes', 'hmix', 'none', '--seeds', '0', '--output', str(output), '--epochs', '1']
    assert main(argv) == 1
    shown = capsys.readouterr()
    log = output / 'hmix' / 'seed0' / 'train.log'
    line = next(line for line in shown.err.splitlines() if line.startswith('failed: hmix seed 0'))
    assert str(log) in line and 'exit status 1' in line and 'none of the checkpoints in' in line, line
    assert [row['mode'] for row in rows_of(output / 'results.csv')] == ['none']
    assert str(log) in (output / 'results.md').read_text()
    assert [row['epoch'] for row in rows_of(output / 'none' / 'seed0' / 'summary.csv')] == ['0']
    assert not (output / 'hmix' / 'seed0' / 'finished.json').exists()


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f'/proc/{pid}/task/{pid}/children').read_text().split()]


def is_running(pid: int) -> bool:
    try:
        return Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[0] != 'Z'
    except FileNotFoundError:
        return False


SCRIPTS = [
    pytest.param(None, id='lean'),
    pytest.param(
        os.environ.get('TIMM_TRAIN_SCRIPT'),
        id='timm',
        marks=pytest.mark.skipif('TIMM_TRAIN_SCRIPT' not in os.environ, reason='TIMM_TRAIN_SCRIPT names no script'),
    ),
]


def check_not_trained_anew(
    folder: Path, known: dict[int, dict[str, str]], times: list[dict[str, str]]
) -> list[dict[str, str]]:
    """Epochs known from before stand as they were; the last of them may lack its checkpoint. Returns the times now."""
    rows = read_summary(folder / 'summary.csv')
    for epoch in list(known)[:-1]:
        assert rows[epoch] == known[epoch]
    if not (folder / 'times.csv').exists():  # timm's script; its draws are new in each process, so its losses are too
        return []
    now, settled = rows_of(folder / 'times.csv'), max(len(known) - 1, 0)
    assert now[:settled] == times[:settled]  # wall times never repeat
    return now


@pytest.mark.skipif(sys.platform != 'linux', reason='elsewhere the lock alone tells of a training process left behind')
@pytest.mark.parametrize('script', SCRIPTS)
def test_ended_at_any_moment_it_goes_on_where_it_was(work, tmp_path, script):
    output = tmp_path / 'runs'
    epochs = 40
    argv = arguments(work, output, '--modes', 'gmix', '--seeds', '0', epochs=epochs)
    argv += ['--script', script] if script else []
    folder = output / 'gmix' / 'seed0'
    known: dict[int, dict[str, str]] = {}
    times: list[dict[str, str]] = []
    for number in (signal.SIGTERM, signal.SIGKILL):
        with (tmp_path / 'stderr').open('w') as stderr:
            compare = subprocess.Popen([sys.executable, '-m', 'train_patch.compare', *argv], stderr=stderr)
        while len(epochs_seen := read_summary(folder / 'summary.csv')) < len(known) + 3:
            assert compare.poll() is None, (tmp_path / 'stderr').read_text()
            time.sleep(0.01)
        (training,) = children_of(compare.pid)
        # elsewhere than on Linux this is what tells the next call of a training process left behind
        assert str(output / '.lock') in {os.readlink(fd) for fd in Path(f'/proc/{training}/fd').iterdir()}
        compare.send_signal(number)
        assert compare.wait() == (143 if number == signal.SIGTERM else -signal.SIGKILL)
        assert number == signal.SIGKILL or not is_running(training)
        while is_running(training):
            time.sleep(0.05)
        epochs_seen = read_summary(folder / 'summary.csv')
        assert len(epochs_seen) < epochs - 5, 'too late to have interrupted anything'
        times = check_not_trained_anew(folder, known, times)
        known = epochs_seen

    assert main(argv) == 0
    summary = (folder / 'summary.csv').read_text().splitlines()
    assert [line.partition(',')[0] for line in summary] == ['epoch', *map(str, range(epochs))]
    check_not_trained_anew(folder, known, times)
    final = rows_of(folder / 'summary.csv')
    assert float(rows_of(output / 'results.csv')[0]['top1_mean']) == float(final[-1]['eval_top1'])


def test_dry_run_prints_one_launch_line_per_run_and_writes_nothing(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'my cache'))
    monkeypatch.delenv('OMP_NUM_THREADS')
    assert main(['--dry-run', '--hmix-ratio', '0.5', '--mix-alpha=0.3', '--gmix-kernel', 'paper', '-b', '20']) == 0
    lines = [shlex.split(line) for line in capsys.readouterr().out.splitlines()]
    assert not list(tmp_path.iterdir())
    seen = []
    for words in lines:
        assert words[:5] == ['env', 'OMP_NUM_THREADS=1', sys.executable, '-m', 'train_patch']
        options = dict(zip(words[5::2], words[6::2], strict=True))
        mode, seed = options['--mix-mode'], options['--seed']
        seen.append((mode, seed))
        assert options['-c'].endswith('digits.yaml') and Path(options['-c']).is_file()
        assert options['--data-dir'] == str(tmp_path / 'my cache' / 'hmix_timm' / 'digits-v1')
        assert Path(options['--output'], options['--experiment']) == tmp_path / f'comparison/digits/{mode}/seed{seed}'
        assert options['-b'] == '20'
        assert options.get('--hmix-ratio') == ('0.5' if mode == 'hmix' else None)
        assert options.get('--gmix-kernel') == ('paper' if mode == 'gmix' else None)
        assert options.get('--mix-alpha') == (None if mode == 'none' else '0.3')
    assert sorted(seen) == sorted((mode, str(seed)) for mode in mix_modes() for seed in range(3))


def test_dry_run_for_many_processes_and_machines(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = tmp_path / 'my train.py'
    script.write_text('')
    argv = ['imagenet_resnet50', '--data-dir', '/no where', '--script', 'my train.py', '--modes', 'cutmix', '--amp']
    argv += ['--seeds', '7', '--dry-run', '--nproc_per_node', '8']
    assert main(argv) == 0
    (line,) = capsys.readouterr().out.splitlines()
    words = shlex.split(line)
    assert words[1:6] == ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=8', '-m']
    assert words[6:8] == ['train_patch', str(script)]
    assert '--resume' not in words and words[-3:] == ['--data-dir', '/no where', '--amp']

    assert main([*argv, '--nnodes', '2', '--rdzv-backend', 'c10d', '--rdzv-endpoint', 'host:29400']) == 0
    words = shlex.split(capsys.readouterr().out)
    launch = ['--nproc-per-node=8', '--nnodes=2', '--rdzv-backend=c10d', '--rdzv-endpoint=host:29400']
    assert words[1:7] == ['-m', 'torch.distributed.run', *launch]
    # machine 0 writes the results, so the machines must be told apart
    here = [word for word in argv if word != '--dry-run']
    assert '--node-rank' in refused(capsys, [*here, '--data-dir', str(tmp_path), '--nnodes', '2'])


@pytest.mark.parametrize(
    ('argv', 'named'),
    [
        (['--modes', 'hmixx'], "'hmixx'"),
        (['--modes', 'none', 'none'], '--modes none none'),
        (['--seeds', '-1'], '-1'),
        (['--seeds', 'one'], "'one'"),
        (['--seeds', '1', '1'], '--seeds 1 1'),
        (['--seed', '1'], '--seeds'),
        (['--mix-mode', 'hmix'], '--modes'),
        (['--experiment=first'], '--output DIR'),
        (['--exper', 'first'], '--output DIR'),
        (['--resume', 'auto'], 'interrupted runs are resumed'),
        (['-c', 'other'], 'the recipe is the first argument'),
        (['--epochs', '2', 'recipe.yaml'], 'must be the first argument'),
        (['digits', 'folder'], 'must be the first argument'),
        (['digit'], 'did you mean digits?'),
        (['imagenet_resnet50'], '--data-dir'),
        (['imagenet_resnet50', '--data-dir', '/nowhere'], '/nowhere'),
        (['--script', 'nowhere/train.py'], 'nowhere/train.py'),
        (['--modes', 'gmix', 'none', '--hmix-ratio', '0.5'], '--hmix-ratio'),
        (['--modes', 'none', '--mix-alpha', '1'], '--mix-alpha'),
        (['--mix-alpha', '0'], '--mix-alpha must be'),
        (['--hmix-ratio', '1.5'], 'hmix_ratio must be'),
        (['--hmix-ratio', '0.5', '--hmix-gamma', '1'], 'give one of them'),
        (['--gmix-kernel', 'papr'], "'papr'"),
        (['--node-rank', 'first'], 'first'),
    ],
)
def test_wrong_arguments_are_refused_by_name_before_anything_is_written(tmp_path, capsys, monkeypatch, argv, named):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert named in refused(capsys, argv)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    'content', ['- a list', 'a: [1', '!!python/object/apply:os.system ["touch hacked"]', '', '\x00']
)
def test_a_file_that_is_no_recipe_is_refused(tmp_path, capsys, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    Path('recipe.yaml').write_text(content)
    assert 'recipe.yaml' in refused(capsys, ['recipe.yaml', '--data-dir', '.'])
    assert [path.name for path in tmp_path.iterdir()] == ['recipe.yaml']


def test_missing_packages_are_named_before_anything_is_trained(work, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, 'matplotlib', None)  # Python's own way of saying: not there
    message = refused(capsys, arguments(work, tmp_path / 'runs'))
    assert 'matplotlib' in message and "pip install 'hmix-timm[demo]'" in message
    assert not (tmp_path / 'runs').exists()


def test_summary_of_a_resumed_timm_script_is_read_and_tidied(tmp_path):
    """timm repeats the header on resuming, and an epoch without checkpoint; a kill can cut the last line anywhere."""
    path = tmp_path / 'summary.csv'
    path.write_bytes(
        b'epoch,train_loss,eval_top1\r\n0,1.5,10.25\r\n1,1.25,20.5\r\n'
        b'epoch,train_loss,eval_top1\r\n1,1.125,21.5\r\n2,1,30\r\n1'
    )
    rows = read_summary(path)
    assert {epoch: row['eval_top1'] for epoch, row in rows.items()} == {0: '10.25', 1: '21.5', 2: '30'}
    tidy_summary(path)
    assert path.read_text() == 'epoch,train_loss,eval_top1\n0,1.5,10.25\n1,1.125,21.5\n2,1,30\n'
    identity = path.stat().st_ino
    tidy_summary(path)
    assert path.stat().st_ino == identity
    assert read_summary(tmp_path / 'missing.csv') == {}


def made_up_results() -> list[RunResult]:
    return [
        RunResult('hmix', 2, {0: 40.0, 4: 71.0}, 2.0),
        RunResult('hmix', 1, {0: 45.0, 4: 74.5}, None),
        RunResult('none', 1, {0: 50.0, 4: 70.0}, 1.0),
        RunResult('none', 2, {0: 90.0, 4: 69.0}, 3.0),
        RunResult('none', 5, {0: 50.0, 4: 68.0}, 5.0),
    ]


def test_table_of_several_seeds():
    rows = table(made_up_results(), ['none', 'mixup', 'hmix'], PUBLISHED_TOP1['imagenet_resnet50'])
    none, hmix = rows
    assert (none.mode, none.seeds, none.top1) == ('none', (1, 2, 5), (70.0, 69.0, 68.0))
    assert (none.mean, none.difference, none.epoch_seconds, none.published) == (69.0, 0.0, 3.0, 75.68)
    assert none.std == pytest.approx(1.0)
    assert (hmix.mean, hmix.difference, hmix.epoch_seconds, hmix.published) == (72.75, 3.75, 2.0, 78.38)
    assert hmix.std == pytest.approx(math.sqrt(2 * 1.75**2))

    text = markdown_table(rows)
    assert [cell.strip() for cell in text.splitlines()[-1].strip('|').split('|')] == [
        *('hmix', '72.75 ± 2.47', '+3.75', '2', '2', '78.38')
    ]
    assert [cell.strip() for cell in text.splitlines()[-2].strip('|').split('|')][2] == '–'  # none to itself
    assert len({len(line) for line in text.splitlines()}) == 1  # in columns
    header, _, last = csv.reader(csv_table(rows, [1, 2, 5]).splitlines())
    assert dict(zip(header, last, strict=True)) | {'top1_std': ''} == {
        **dict(mode='hmix', top1_mean='72.75', top1_std='', difference='3.75', runs='2', epoch_seconds='2.0'),
        **dict(published='78.38', top1_seed1='74.5', top1_seed2='71.0', top1_seed5=''),
    }
    assert plot_curves(made_up_results(), rows, 'made up').startswith(b'\x89PNG')


def test_table_without_the_baseline():
    (row,) = table([RunResult('gmix', 0, {0: 12.5}, None)], ['gmix'], {})
    assert (row.mean, row.std, row.difference, row.epoch_seconds, row.published) == (12.5, None, None, None, None)
    assert [cell.strip() for cell in markdown_table([row]).splitlines()[-1].strip('|').split('|')] == [
        *('gmix', '12.50', '–', '1', '–')
    ]


def test_epochs_are_timed_between_rows():
    watch = EpochWatch()
    for epochs in (3, 3, 5):  # taken up at epoch 3; the first row holds the start
        watch.see(epochs)
    assert watch.epoch_seconds() is None
    time.sleep(0.05)
    watch.see(10)
    assert watch.epoch_seconds() >= 0.01


def test_the_line_that_says_what_went_wrong(tmp_path):
    log = tmp_path / 'train.log'
    log.write_text('ValueError: of an earlier call\n')
    start = log.stat().st_size
    with log.open('a') as file:
        file.write('Traceback (most recent call last):\n  File "x.py"\ntorch.OutOfMemoryError: out of memory\nbye\n\n')
    assert last_error(log, start) == 'torch.OutOfMemoryError: out of memory'
    log.write_text('train.py: error: argument --lr: invalid float value\n')
    assert last_error(log) == 'train.py: error: argument --lr: invalid float value'
    log.write_text('Killed\n')
    assert last_error(log) == 'Killed'
    assert last_error(log, 7) == 'no output'
