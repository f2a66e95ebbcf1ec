"""The command from its first word to its exit status: which runs it starts, when, with what, and how it ends.

Shell scripts stand in for training and leave the files that training leaves; the rest is real.
"""

import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from train_patch.comparison import guard, report
from train_patch.comparison.guard import locked
from train_patch.comparison.jobs import environments

DIVERGE = 'echo "ERROR: the loss is nan in epoch 0: training has diverged"; exit 1'


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def results(call, rows_of):
    """`results()`: mode → its row of results.csv."""
    return lambda: {row['mode']: row for row in rows_of(call.output / 'results.csv')}


def test_finished_runs_end_in_a_table_and_status_0(call, results, capsys):
    assert call() == 0
    shown = capsys.readouterr()
    assert shown.out.rstrip().endswith(f'{call.output / "results.md"}, results.csv\n{call.output / "results.png"}')
    assert [line for line in shown.out.splitlines() if 'top-1 20' in line] == [
        f'{mode} seed 7: top-1 20.00 %' for mode in call.modes
    ]
    assert ' 0/6 ' in shown.err and shown.err.rstrip().rpartition('\r')[2].count(' 6/6 ') == 1
    assert {mode: row['top1_mean'] for mode, row in results().items()} == dict.fromkeys(call.modes, '20.0')
    left = ['.lock', 'comparison.yaml', *call.modes, 'results.csv', 'results.md', 'results.png']
    assert names_in(call.output) == sorted(left)
    record = {'script': None, 'processes': [], 'images': 16}
    assert yaml.safe_load((call.output / 'comparison.yaml').read_text()) == record


def test_the_log_of_a_run_holds_its_command_and_all_of_its_output(call):
    call.folder('none').mkdir(parents=True)
    log = call.folder('none') / 'train.log'
    log.write_text('of an earlier call\n')
    call(none=f'cat; echo "a b"; echo err >&2; {call.train}')  # and there is no terminal to read
    first, command, *said = log.read_text().splitlines()
    assert first == 'of an earlier call' and shlex.split(command)[0] == '$' and 'sh' in shlex.split(command)
    assert said == ['a b', 'err']


FAILING = {
    'mixup': ('echo "ValueError: odd"; echo bye; exit 3', 'exit status 3: ValueError: odd'),
    'cutmix': ('kill -9 $$', 'signal 9: no output'),
    'stochastic': (
        'printf "epoch,eval_top1\\n0,10\\n" > summary.csv',
        'ended without eval_top1 for its last epoch in summary.csv',
    ),
    'hmix': (DIVERGE, 'exit status 1: the loss is nan in epoch 0: training has diverged'),
    'gmix': (
        'printf "epoch,train_loss,eval_top1\\n0,1,5\\n1,inf,5\\n" > summary.csv',
        'diverged: train_loss is inf in epoch 1',
    ),
}
"""Mode → a script in place of its training, and the reason of its failure."""


def test_a_failed_run_is_named_with_its_reason_and_the_others_are_trained(call, results, capsys):
    call.folder('cutmix').mkdir(parents=True)
    (call.folder('cutmix') / 'train.log').write_text('ValueError: of an earlier call\n')
    call.modes = ('none', *FAILING, 'fmix')
    assert call(**{mode: script for mode, (script, _) in FAILING.items()}) == 1
    shown, rows = capsys.readouterr(), results()
    report = (call.output / 'results.md').read_text()
    for mode, (_, reason) in FAILING.items():
        line = f'{mode} seed 7: {reason}, see {call.folder(mode) / "train.log"}'
        assert f'failed: {line}' in shown.err.splitlines() and line in shown.out and f'\n- {line}\n' in report
        assert rows[mode]['diverged' if 'diverged' in reason else 'failed'] == '1'
    assert [(rows[mode]['runs'], rows[mode]['failed'], rows[mode]['diverged']) for mode in ('none', 'fmix')] == [
        ('1', '0', '0')
    ] * 2


def test_a_failure_before_any_epoch_ends_the_comparison_and_the_runs_beside_it(call, capsys):
    assert call('--jobs', '2', none='exit 1', cutmix='sleep 100; touch ended') == 1
    message = 'stopped: none seed 7 ended in its first epoch, and so would the others'
    assert capsys.readouterr().err.splitlines()[-1] == message
    assert not (call.folder('cutmix') / 'ended').exists()
    assert names_in(call.output) == ['.lock', 'comparison.yaml', 'cutmix', 'none']


@pytest.mark.parametrize('script', [DIVERGE, 'printf "epoch,eval_top1\\n0,10\\n" > summary.csv; exit 1'])
def test_a_first_run_that_diverges_or_fails_later_does_not_stop_the_others(call, results, script):
    assert call(none=script) == 1
    assert [row['runs'] for row in results().values()] == ['0', '1', '1']


def test_finished_runs_are_not_trained_again(call, capsys):
    call(hmix='exit 1')
    before = {path: path.stat().st_mtime_ns for path in call.output.glob('*/seed7/*')}
    capsys.readouterr()
    assert call('--dry-run') == 0
    shown = capsys.readouterr()
    assert shown.err.splitlines() == ['# none seed 7 is finished', '# cutmix seed 7 is finished']
    assert len(shown.out.splitlines()) == 1 and {p: p.stat().st_mtime_ns for p in before} == before
    assert call(none='exit 1', cutmix='exit 1') == 0
    shown = capsys.readouterr()
    assert '2 of 3 runs are finished already' in shown.out and ' 4/6 ' in shown.err
    changed = {path.parents[1].name for path, then in before.items() if path.stat().st_mtime_ns != then}
    assert changed == {'hmix'}


def test_as_many_runs_as_jobs_are_trained_at_once_with_the_threads_that_a_user_set(call, monkeypatch):
    """Each of the first two waits for the other to begin, and the third for the end of one."""
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    wait = 'echo $OMP_NUM_THREADS > threads; touch begun; until [ -e ../../{}/seed7/begun ]; do sleep 0.02; done; '
    scripts = {'none': wait.format('cutmix') + call.train, 'cutmix': wait.format('none') + call.train}
    ended = '[ -e ../../none/seed7/summary.csv -o -e ../../cutmix/seed7/summary.csv ] && '
    assert call('--jobs', '2', **scripts, hmix=ended + call.train) == 0
    assert {(call.folder(mode) / 'threads').read_text() for mode in scripts} == {'3\n'}


@pytest.fixture
def on_gpus(call, work, tmp_path, monkeypatch):
    """`on_gpus(count, named)`: the machine has so many GPUs, which are all that the user has named."""
    recipe = tmp_path / 'recipe.yaml'
    recipe.write_text((work / 'recipe.yaml').read_text().replace('device: cpu\n', ''))
    line = call.arguments
    call.arguments = lambda *given: [str(recipe), *line(*given)[1:]]
    monkeypatch.delenv('OMP_NUM_THREADS')

    def choose(count, named=None):
        monkeypatch.setattr(torch.cuda, 'device_count', lambda: count)
        monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
        if named is not None:
            monkeypatch.setenv('CUDA_VISIBLE_DEVICES', named)

    return choose


@pytest.mark.parametrize(('count', 'named', 'given'), [(3, None, '0 1 1'), (2, '5,,GPU-8ab', '5 GPU-8ab GPU-8ab')])
def test_a_gpu_that_is_free_goes_to_the_next_run_while_the_other_is_in_use(call, on_gpus, count, named, given):
    """The first run ends only after the third, which has to get the GPU of the second."""
    on_gpus(count, named)
    note = 'echo $CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS > gpu; '
    wait = 'until [ -e ../../hmix/seed7/summary.csv ]; do sleep 0.02; done; '
    scripts = {'none': note + wait + call.train, 'cutmix': note + call.train, 'hmix': note + call.train}
    assert call('--jobs', '2', **scripts) == 0
    seen = [(call.folder(mode) / 'gpu').read_text().split() for mode in call.modes]
    assert [gpu for gpu, _ in seen] == given.split()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()
    assert {threads for _, threads in seen} == {str(max(1, cores // 2))}


def test_more_jobs_than_gpus_are_refused(call, on_gpus, capsys):
    on_gpus(1)
    assert call('--jobs', '2') == 2
    assert '--jobs 2: each run has a GPU of its own, and there are 1 here' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('cores', 'given', 'runs'),
    [(4, '', 4), (64, '', 6), (64, '--jobs 2', 2), (4, '--nproc-per-node 2', 1), (4, '--device cuda', 1)],
)
def test_each_core_trains_a_run_on_the_digits_and_more_cores_move_no_number(plan, monkeypatch, cores, given, runs):
    monkeypatch.delenv('OMP_NUM_THREADS')
    monkeypatch.setattr(os, 'sched_getaffinity', lambda process: range(cores), raising=False)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 8)
    assert environments(plan(['digits', *given.split()])) == [{'OMP_NUM_THREADS': '1'}] * runs


@pytest.mark.skipif(sys.platform != 'linux', reason='the kernel has to offer it')
def test_the_kernel_ends_a_run_whose_comparison_is_killed(call):
    ask = 'import ctypes; n = ctypes.c_int(); ctypes.CDLL(None).prctl(2, ctypes.byref(n)); print(n.value)'
    assert call(none=f'{call.train}; exec {sys.executable} -S -c "{ask}" > signal') == 0
    assert (call.folder('none') / 'signal').read_text() == '15\n'


class SignalledPopen(subprocess.Popen):
    """A process during whose start the comparison is sent SIGTERM."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        SignalledPopen.last = self
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_while_a_run_is_started_ends_that_run_too(call, monkeypatch, capsys):
    monkeypatch.setattr(subprocess, 'Popen', SignalledPopen)
    assert call(none='sleep 100') == 128 + signal.SIGTERM
    assert 'stopped by SIGTERM; the same command resumes it' in capsys.readouterr().err
    assert SignalledPopen.last.poll() == -signal.SIGTERM
    with locked(call.output / '.lock'):  # free again
        pass


def test_a_signal_while_the_results_are_written_waits_until_they_are_complete(call, monkeypatch):
    plot = report.plot_results

    def plot_signalled(*args):
        signal.raise_signal(signal.SIGTERM)
        return plot(*args)

    monkeypatch.setattr(report, 'plot_results', plot_signalled)
    assert call() == 128 + signal.SIGTERM
    assert {'results.md', 'results.csv', 'results.png'} <= set(names_in(call.output))
    with Image.open(call.output / 'results.png') as image:
        assert image.format == 'PNG'


def test_a_folder_in_use_is_refused_with_the_name_of_the_other_process(call, capsys, monkeypatch):
    monkeypatch.setattr(guard, 'ORPHAN_SECONDS', 0)
    call.output.mkdir()
    with locked(call.output / '.lock'):
        assert call() == 2
    message = f'{call.output} is in use: process {os.getpid()} on {os.uname().nodename} trains into it'
    assert capsys.readouterr().err == f'hmix-compare: error: {message}\n'
    assert names_in(call.output) == ['.lock']


def test_an_output_that_cannot_be_written_is_refused_before_anything_is_trained(call, capsys):
    call.output.write_text('a file')
    assert call() == 2
    assert f'--output: cannot write to {call.output}' in capsys.readouterr().err


def test_an_error_of_the_operating_system_is_one_line_and_status_1(call, capsys):
    log = call.folder('cutmix') / 'train.log'
    log.mkdir(parents=True)
    assert call() == 1
    assert capsys.readouterr().err.splitlines()[-1] == f'hmix-compare: error: {log}: Is a directory'


def test_the_digits_are_written_before_they_are_checked(call, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'cache'))
    monkeypatch.setattr(call, 'arguments', lambda output, *more: ['digits', '--output', str(output), *more])
    assert call('--epochs', '2') == 0
    assert len(list(Path(tmp_path / 'cache').glob('hmix_timm/digits-v1/*/*/*.png'))) == 1797
    assert '1,697 validation images' in capsys.readouterr().out
