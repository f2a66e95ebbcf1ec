"""hmix-compare with real training processes on a handful of real images."""

import io
import os
import shlex
import shutil
import signal
import statistics
import subprocess
import sys
from contextlib import redirect_stdout

import pytest
import yaml
from PIL import Image

from train_patch.compare import main

MODES = ('none', 'hmix')


def files_of(folder):
    """Identity and time of every file below a folder: any writing or replacing changes it."""
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in folder.rglob('*') if path.is_file()}


def compare_under_nohup(argv):
    """What `nohup hmix-compare … &` does."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    return main(argv)


def children_of(pid):
    listed = subprocess.run(['ps', '-A', '-o', 'pid=,ppid='], capture_output=True, text=True, check=True).stdout
    return [int(child) for child, parent in map(str.split, listed.splitlines()) if int(parent) == pid]


def launch_lines(argv):
    """The arguments of `python -m` in each line of a dry run, which a cluster would be given."""
    with redirect_stdout(io.StringIO()) as lines:
        assert main([*argv, '--dry-run']) == 0
    words = [shlex.split(line) for line in lines.getvalue().splitlines()]
    assert all(line[:3] == [sys.executable, '-m', 'train_patch'] for line in words)
    return [line[2:] for line in words]


@pytest.fixture(scope='module')
def finished(work, arguments, rows_of, processes):
    """A comparison that ran to its end: one run by its dry-run line, as a cluster would, the other by compare.

    It runs under nohup, and the terminal is closed while it does.
    """
    output = work / 'finished'
    argv = [*arguments(output), '--modes', *MODES, '--seeds', '3']
    _, line = launch_lines(argv)
    assert not output.exists()
    processes.module(*line).passed()
    times = rows_of(output / 'hmix' / 'seed3' / 'times.csv')
    call = processes.call(f'{__name__}:compare_under_nohup', {'argv': argv})
    log = output / 'none' / 'seed3' / 'train.log'
    call.wait_until(lambda: log.exists() and 'Train: 0' in log.read_text() and children_of(call.pid))
    for pid in (call.pid, *children_of(call.pid)):
        os.kill(pid, signal.SIGHUP)
    screen = call.passed().stdout
    # the run that was there already was taken as it stood: wall times never repeat
    assert rows_of(output / 'hmix' / 'seed3' / 'times.csv') == times and len(times) == 2
    return output, argv, screen


@pytest.mark.parametrize('mode', MODES)
def test_a_run_is_what_the_command_line_asked_for(finished, rows_of, mode):
    folder = finished[0] / mode / 'seed3'
    resolved = yaml.safe_load((folder / 'args.yaml').read_text())
    assert (resolved['mix_mode'], resolved['seed'], resolved['lr']) == (mode, 3, 2e-3)
    assert (folder / 'last.pth.tar').is_file() and (folder / 'train.log').is_file() == (mode == 'none')
    assert [row['epoch'] for row in rows_of(folder / 'summary.csv')] == ['0', '1']


def test_finished_runs_are_evaluated_beside_their_table(finished, work, rows_of, refused, tmp_path, capsys):
    copy = shutil.copytree(finished[0], tmp_path / 'copy')
    assert main(['--table', str(copy), '--evaluate', 'fgsm', 'calibration', '--output', str(tmp_path / 'out')]) == 0
    rows = rows_of(tmp_path / 'out' / 'results.csv')
    for row in rows:
        assert float(row['fgsm_mean']) <= 100 and float(row['nll_mean']) > 0 and float(row['peak_memory']) > 50
    shown = capsys.readouterr().out
    assert '| top-1 under FGSM (%)         | none |' in shown and 'Evaluation' not in shown
    assert '](reliability.png)' in (tmp_path / 'out' / 'results.md').read_text()
    with Image.open(tmp_path / 'out' / 'reliability.png') as image:
        assert image.width > 500
    for args in copy.rglob('args.yaml'):
        args.write_text(args.read_text().replace('/data', '/gone/data'))
    moved = ['--table', str(copy), '--data-dir', str(work / 'data')]
    assert main([*moved, '--evaluate', 'calibration']) == 0
    shown = capsys.readouterr().out
    assert '| negative log-likelihood, NLL |' in shown and 'Evaluation' not in shown
    assert 'it cannot go with --data-dir' in refused(moved)
    for file in (copy / 'none').rglob('*.pth.tar'):
        file.unlink()
    summary = copy / 'hmix' / 'seed3' / 'summary.csv'
    summary.write_text('epoch,eval_top1\n0,1\n1,1\n')
    assert main([*moved, '--evaluate', 'pgd']) == 0
    shown = capsys.readouterr().out
    assert f'\n- none seed 3 is not evaluated: there is no checkpoint in {copy}/none/seed3\n' in shown
    assert 'hmix seed 3 has a top-1 of ' in shown and ', and summary.csv has 1.00\n' in shown


def test_the_table_is_what_the_runs_wrote(finished, rows_of):
    output = finished[0]
    none, hmix = rows_of(output / 'results.csv')
    for row, mode in ((none, 'none'), (hmix, 'hmix')):
        folder = output / mode / 'seed3'
        times = rows_of(folder / 'times.csv')
        seconds = statistics.median(float(time['train_time']) + float(time['eval_time']) for time in times)
        assert (row['mode'], row['runs'], row['failed'], row['top1_std'], row['published']) == (mode, '1', '0', '', '')
        assert row['top1_mean'] == row['top1_seed3'] == rows_of(folder / 'summary.csv')[-1]['eval_top1']
        assert float(row['epoch_seconds']) == pytest.approx(seconds, abs=1e-9)
    difference = float(hmix['top1_mean']) - float(none['top1_mean'])
    assert float(hmix['difference_to_none']) == pytest.approx(difference, abs=1e-9)


def test_the_number_of_validation_images_is_that_of_the_data(finished):
    assert '16 validation images' in (finished[0] / 'results.md').read_text()


def test_the_table_is_on_the_screen_and_in_its_file_beside_a_picture(finished):
    output, _, screen = finished
    lines = [line for line in (output / 'results.md').read_text().splitlines() if line.startswith('|')]
    assert len(lines) == 4 and '\n'.join(lines) in screen
    with Image.open(output / 'results.png') as image:
        assert image.format == 'PNG' and image.width > 800


def test_finished_runs_are_not_trained_again(finished, capsys):
    output, argv, _ = finished
    before = {mode: files_of(output / mode) for mode in MODES}
    (output / 'results.md').unlink()
    assert main([*argv, '--epochs=2', '-b', '8', '--workers', '2']) == 0  # the same in other words
    assert {mode: files_of(output / mode) for mode in MODES} == before
    assert (output / 'results.md').exists()
    assert '2 of 2 runs are finished already' in capsys.readouterr().out


def test_a_comparison_that_is_asked_for_other_arguments_is_left_as_it_is(finished, refused):
    output, argv, _ = finished
    before = files_of(output)
    message = refused([*argv, '--epochs', '9'])
    assert 'epochs is 2 there, 9 here' in message
    assert refused([*argv, '--epochs', '9', '--dry-run']) == message
    assert {path for path, then in before.items() if files_of(output)[path] != then} <= {output / '.lock'}


def test_the_table_can_be_made_where_nothing_but_the_runs_is(finished, tmp_path, rows_of):
    """In another folder, without data or checkpoints."""
    output, _, _ = finished
    shutil.copytree(output, tmp_path / 'moved', ignore=shutil.ignore_patterns('*.pth.tar', 'results.*'))
    for args in (tmp_path / 'moved').rglob('args.yaml'):
        args.write_text(args.read_text().replace('/data', '/gone/data'))
    assert main(['--table', str(tmp_path / 'moved'), '--output', str(tmp_path)]) == 0
    made, there = rows_of(tmp_path / 'results.csv'), rows_of(output / 'results.csv')
    kept = ('mode', 'top1_mean', 'difference_to_none', 'runs', 'unfinished', 'epoch_seconds')
    assert [[row[name] for name in kept] for row in made] == [[row[name] for name in kept] for row in there]


def test_nohup_keeps_a_comparison_and_its_runs_alive_when_the_terminal_closes(finished, rows_of):
    """The second run was under way when both it and the comparison were told so."""
    output = finished[0]
    assert [row['epoch'] for row in rows_of(output / 'none' / 'seed3' / 'summary.csv')] == ['0', '1']
    assert [row['failed'] for row in rows_of(output / 'results.csv')] == ['0', '0']


@pytest.mark.slow
def test_a_diverged_run_has_failed(arguments, tmp_path, capsys, rows_of):
    argv = [*arguments(tmp_path, '--lr', '1e30', '--opt', 'sgd', '--epochs', '1'), '--modes', 'hmix', '--seeds', '0']
    assert main(argv) == 1
    shown = capsys.readouterr().err
    (line,) = (line for line in shown.splitlines() if line.startswith('failed: hmix seed 0'))
    assert 'the loss is' in line and 'training has diverged' in line
    assert 'stopped' not in shown  # another mode or seed may be spared
    assert [(row['mode'], row['runs'], row['diverged']) for row in rows_of(tmp_path / 'results.csv')] == [
        ('hmix', '0', '1')
    ]
