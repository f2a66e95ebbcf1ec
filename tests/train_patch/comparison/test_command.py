"""hmix-compare from its first word to its exit status, with shell scripts for training."""

import errno
import importlib.util
import json
import os
import platform
import signal

import pytest
import yaml

from hmix_timm.families import FAMILIES
from train_patch import compare
from train_patch.compare import main
from train_patch.comparison.processes import handling_signals, locked
from train_patch.comparison.runs import Run

TRAIN = 'printf "epoch,eval_top1\\n0,10\\n1,20\\n" > summary.csv'


@pytest.fixture
def call(arguments, tmp_path, monkeypatch):
    """`call(*more)`: what the command returns for the modes none and hmix; `call.scripts` says how they train."""
    scripts = {}

    def command(run, environment):
        (tmp_path / 'environment').write_text(json.dumps(environment))
        return ['sh', '-c', f'cd {run.folder} && {scripts.get(run.variant.name, TRAIN)}']

    monkeypatch.setattr(Run, 'command', command)

    def run(*more):
        return main([*arguments(tmp_path / 'out', *more), '--modes', 'none', 'hmix', '--seeds', '7'])

    run.scripts, run.output = scripts, tmp_path / 'out'
    return run


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_finished_runs_end_in_a_table_and_status_0(call, rows_of, capsys):
    assert call() == 0
    shown = capsys.readouterr()
    assert '| hmix ' in shown.out and shown.out.rstrip().endswith(
        f'{call.output / "results.md"}, results.csv, results.png'
    )
    assert 'stopped' not in shown.err
    assert [(row['mode'], row['top1_mean']) for row in rows_of(call.output / 'results.csv')] == [
        ('none', '20.0'),
        ('hmix', '20.0'),
    ]
    left = ['.lock', 'comparison.yaml', 'hmix', 'none', 'results.csv', 'results.md', 'results.png']
    assert names_in(call.output) == left
    assert yaml.safe_load((call.output / 'comparison.yaml').read_text()) == {'script': None, 'processes': []}
    mark = json.loads((call.output / 'none' / 'seed7' / 'finished.json').read_text())
    assert (mark['epochs'], mark['validation_images'], mark['jobs']) == (2, 16, 1)


def test_a_run_that_failed_is_status_1(call, capsys):
    call.scripts['hmix'] = 'exit 3'
    assert call() == 1
    shown = capsys.readouterr()
    assert '1 run failed: hmix seed 7' in shown.out and 'stopped' not in shown.err
    assert (call.output / 'results.md').exists()


def test_what_stopped_it_is_the_last_word_and_nothing_is_written(call, capsys):
    call.scripts['none'] = 'exit 3'
    assert call() == 1
    shown = capsys.readouterr()
    assert shown.err.splitlines()[-1] == ('stopped: none seed 7 did not get beyond its start, and nor would the others')
    assert names_in(call.output) == ['.lock', 'comparison.yaml', 'none']


def test_another_machine_trains_and_leaves_the_books_alone(call, capsys):
    assert call('--nproc-per-node', '1', '--nnodes', '2', '--node-rank', '1') == 0
    assert '|' not in capsys.readouterr().out
    assert names_in(call.output) == ['.lock-node1', 'hmix', 'none']


def test_runs_get_their_part_of_the_machine(call, tmp_path, monkeypatch):
    monkeypatch.setenv('OMP_NUM_THREADS', '3')
    assert call('--jobs', '2') == 0
    assert json.loads((tmp_path / 'environment').read_text()) == {'OMP_NUM_THREADS': '3'}


def test_a_folder_in_use_is_status_2(call, capsys):
    call.output.mkdir()
    with locked(call.output / '.lock'), pytest.raises(SystemExit) as ended:
        call()
    assert ended.value.code == 2
    who = f'process {os.getpid()} on {platform.node()}'
    assert capsys.readouterr().err == f'hmix-compare: error: {call.output} is in use: {who} trains into it\n'
    assert names_in(call.output) == ['.lock']


def test_runs_of_another_comparison_are_status_2_and_stay(call, capsys):
    assert call() == 0
    for mode in ('none', 'hmix'):
        (call.output / mode / 'seed7' / 'args.yaml').write_text('epochs: 2\n')
    capsys.readouterr()
    with pytest.raises(SystemExit) as ended:
        call('--epochs', '5')
    assert ended.value.code == 2
    assert 'none seed 7: epochs is 2 there, 5 here' in capsys.readouterr().err


def test_an_output_that_cannot_be_written_is_status_2_before_anything_is_trained(call, capsys):
    call.output.write_text('a file')
    with pytest.raises(SystemExit) as ended:
        call()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f'hmix-compare: error: --output: {call.output} is not a folder\n'


@pytest.mark.parametrize(
    ('error', 'said'),
    [
        (OSError(errno.ENOSPC, 'No space left on device', 'out/train.log'), 'out/train.log: No space left on device'),
        (OSError(errno.ENOMEM, 'Cannot allocate memory'), 'Cannot allocate memory'),
    ],
)
def test_what_the_system_refuses_is_one_line_and_status_1(call, capsys, monkeypatch, error, said):
    def fail(*_):
        raise error

    monkeypatch.setattr(compare, 'train_all', fail)
    with pytest.raises(SystemExit) as ended:
        call()
    assert ended.value.code == 1
    assert capsys.readouterr().err == f'hmix-compare: error: {said}\n'


@pytest.mark.parametrize(
    ('missing', 'said'),
    [
        (('scipy',), 'scipy not installed'),
        (('tqdm',), 'tqdm not installed'),
        (('matplotlib', 'scipy', 'tqdm'), 'matplotlib and scipy and tqdm not installed'),
    ],
)
def test_missing_packages_are_listed(call, capsys, monkeypatch, missing, said):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None if name in missing else find_spec(name))
    with pytest.raises(SystemExit) as ended:
        call()
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"hmix-compare: error: {said}: pip install 'hmix-timm[demo]'\n"
    assert not call.output.exists()


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_it_with_one_line_and_the_signals_status(number, capsys):
    before = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended, handling_signals(compare._end_on_signal):
        signal.raise_signal(number)
    assert ended.value.code == 128 + number
    name = signal.Signals(number).name
    assert capsys.readouterr().err == f'\nhmix-compare: stopped by {name}; the same command resumes it\n'
    assert signal.getsignal(number) == before


def test_signals_are_listened_to_while_it_works(call, monkeypatch, capsys):
    monkeypatch.setattr(compare, 'train_all', lambda *_: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(SystemExit) as ended:
        call()
    assert ended.value.code == 128 + signal.SIGTERM
    with locked(call.output / '.lock'):  # it is free again
        pass


def test_a_dry_run_lists_what_is_not_finished(call, capsys):
    call.scripts['hmix'] = 'exit 3'
    call()
    before = names_in(call.output / 'hmix' / 'seed7')
    capsys.readouterr()
    assert call('--dry-run') == 0
    shown = capsys.readouterr()
    assert (
        shown.out == f"sh -c 'cd {call.output}/hmix/seed7 && exit 3'\n" and shown.err == '# none seed 7 is finished\n'
    )
    assert names_in(call.output / 'hmix' / 'seed7') == before


def test_a_dry_run_on_the_digits_says_that_they_are_not_there_yet(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    assert main(['--dry-run', '--modes', 'none', '--seeds', '4', '--output', str(tmp_path / 'out')]) == 0
    shown = capsys.readouterr()
    assert shown.err == '# the digits are not there yet; a comparison without --dry-run writes them\n'
    assert len(shown.out.splitlines()) == 1 and ' --seed 4 ' in shown.out
    assert list(tmp_path.iterdir()) == []


def test_the_digits_are_written_before_they_are_looked_at(tmp_path, monkeypatch):
    written = []
    monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
    monkeypatch.setattr(compare, 'digits_folder', lambda: written.append(True))
    with pytest.raises(SystemExit) as ended:  # by that they are not there
        main(['--modes', 'none', '--seeds', '4', '--output', str(tmp_path / 'out')])
    assert written == [True] and ended.value.code == 2


def test_the_words_of_the_process_are_taken_where_none_are_given(monkeypatch, capsys):
    monkeypatch.setattr('sys.argv', ['hmix-compare', '--version'])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0 and capsys.readouterr().out.startswith('hmix-compare ')


def test_families_of_ones_own_are_among_the_modes(arguments, tmp_path, capsys):
    path = tmp_path / 'my_masks.py'
    path.write_text(
        'from hmix_timm import BoxMask, register_family\n'
        "@register_family('even', title='Even', options={'by': 1.0})\n"
        'def even(size, lam, options, draws):\n'
        '    return BoxMask(lam)\n'
    )
    try:
        given = ['--mix-families', str(path), '--modes', 'even', '--even-by', '2', '--seeds', '0', '--dry-run']
        assert main([*arguments(tmp_path / 'out'), *given]) == 0
    finally:
        FAMILIES.pop('even', None)
    assert '--mix-mode even --even-by 2 ' in capsys.readouterr().out


def test_a_damaged_record_is_status_1_and_named(call, capsys):
    mark = call.output / 'none' / 'seed7' / 'finished.json'
    mark.parent.mkdir(parents=True)
    mark.write_text('half a mar')
    with pytest.raises(SystemExit) as ended:
        call()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith(f'hmix-compare: error: {mark} is damaged: ')
