"""Which runs are started, when, and with what, and which failures stop the others.

The training processes are shell scripts here, which leave what training would leave; the rest is real.
"""

import shlex
import time

import pytest

from train_patch.comparison import training
from train_patch.comparison.checks import Prospect
from train_patch.comparison.processes import locked
from train_patch.comparison.results import RunResult
from train_patch.comparison.runs import Run, all_runs
from train_patch.comparison.training import Job, train_all

PROSPECT = Prospect(epochs=2, validation_images=16)
TRAIN = 'printf "epoch,eval_top1\\n0,10\\n1,20\\n" > summary.csv'
DIVERGE = 'echo "ERROR: the loss is nan in epoch 0: training has diverged"; exit 1'
MODES = ('none', 'cutmix', 'hmix')


@pytest.fixture
def train(plan, arguments, tmp_path, monkeypatch):
    """`train(scripts, parts)`: trains three modes with one seed; `scripts` gives the shell script of those named."""

    def call(scripts=None, parts=({},), before=()):
        comparison = plan([*arguments(tmp_path), '--modes', *MODES, '--seeds', '7'])

        def command(run, environment):
            setting = ['env', *(f'{name}={value}' for name, value in environment.items())]
            script = (scripts or {}).get(run.variant.name, TRAIN)
            return [*setting, 'sh', '-c', f'cd {run.folder} && {script}']

        monkeypatch.setattr(Run, 'command', command)
        for run in all_runs(comparison):
            if run.variant.name in before:
                run.folder.mkdir(parents=True)
                (run.folder / 'last.pth.tar').touch()
        with locked(tmp_path / '.lock') as lock:
            return train_all(comparison, PROSPECT, parts, lock)

    return call


def ended(outcome):
    """Names of the runs that finished, and of those that failed."""
    return sorted(r.variant for r in outcome.results), sorted(failure.variant for failure in outcome.failures)


def test_all_runs_are_trained(train):
    outcome = train()
    assert ended(outcome) == (sorted(MODES), []) and outcome.stopped == ''
    assert all(isinstance(result, RunResult) and result.top1 == 20.0 for result in outcome.results)


def test_what_is_known_of_a_run_is_kept_with_its_result(train):
    outcome = train(parts=({'OMP_NUM_THREADS': '3'},))
    assert {(r.validation_images, r.jobs, r.threads, r.seed) for r in outcome.results} == {(16, 1, 3, 7)}


def test_one_at_a_time_they_are_trained_in_order(train, tmp_path):
    train({mode: f'{TRAIN} && echo {mode} >> ../../order' for mode in MODES})
    assert (tmp_path / 'order').read_text().split() == list(MODES)


def test_as_many_as_there_are_parts_are_trained_at_once(train):
    """Each of the first two waits for the other to begin, and the third for the end of one."""
    wait = 'touch begun; until [ -e ../../{}/seed7/begun ]; do sleep 0.02; done; '
    outcome = train(
        {
            'none': wait.format('cutmix') + TRAIN,
            'cutmix': wait.format('none') + TRAIN,
            'hmix': '[ -e ../../none/seed7/summary.csv -o -e ../../cutmix/seed7/summary.csv ] && ' + TRAIN,
        },
        parts=({}, {}),
    )
    assert ended(outcome) == (sorted(MODES), [])


def test_each_part_of_the_machine_has_one_run_at_a_time(train, tmp_path):
    script = 'mkdir ../../part$PART && sleep 0.3 && rmdir ../../part$PART && echo $PART > part && ' + TRAIN
    outcome = train(dict.fromkeys(MODES, script), parts=({'PART': '5'}, {'PART': '8'}))
    assert ended(outcome) == (sorted(MODES), [])
    parts = [(tmp_path / mode / 'seed7' / 'part').read_text().strip() for mode in MODES]
    assert parts[:2] == ['5', '8'] and parts[2] in ('5', '8')


def test_a_failed_run_is_kept_with_its_reason_and_log(train, tmp_path):
    (failure,) = train({'cutmix': 'echo "ValueError: odd" && exit 3'}).failures
    assert (failure.variant, failure.seed, failure.reason) == ('cutmix', 7, 'exit status 3: ValueError: odd')
    assert failure.log == tmp_path / 'cutmix' / 'seed7' / 'train.log'


def test_a_run_that_ended_too_early_is_no_result(train):
    (failure,) = train({'cutmix': 'printf "epoch,eval_top1\\n0,10\\n" > summary.csv'}).failures
    assert failure.reason == 'ended without eval_top1 for its last epoch in summary.csv'


def test_the_reason_is_not_that_of_an_earlier_call(train, tmp_path):
    folder = tmp_path / 'cutmix' / 'seed7'
    folder.mkdir(parents=True)
    (folder / 'train.log').write_text('ValueError: of an earlier call\n')
    (failure,) = train({'cutmix': 'echo killed; exit 1'}).failures
    assert failure.reason == 'exit status 1: killed'


def test_what_ends_the_first_run_at_its_start_ends_the_comparison(train, tmp_path):
    outcome = train({'none': 'echo "hmix-train: error: out of luck"; exit 2'})
    assert ended(outcome) == ([], ['none'])
    assert outcome.stopped == 'none seed 7 did not get beyond its start, and nor would the others'
    assert not (tmp_path / 'cutmix').exists()


def test_runs_that_are_trained_at_once_with_it_are_ended(train, tmp_path):
    outcome = train({'none': 'exit 1', 'cutmix': 'sleep 100; touch ended'}, parts=({}, {}))
    assert outcome.stopped and ended(outcome) == ([], ['none'])
    assert not (tmp_path / 'cutmix' / 'seed7' / 'ended').exists() and not (tmp_path / 'hmix').exists()


@pytest.mark.parametrize(
    'script',
    [
        DIVERGE,
        'kill -9 $$',
        'echo "Train: 0 [ 0/5]"; echo "Train: 1 [ 0/5]"; exit 1',  # no row yet: it validates every second epoch
        'printf "epoch,eval_top1\\n0,10\\n" > summary.csv; exit 1',
    ],
    ids=['diverged', 'killed', 'second epoch', 'a row'],
)
def test_what_may_not_meet_the_others_does_not_stop_them(train, script):
    outcome = train({'none': script})
    assert ended(outcome) == (['cutmix', 'hmix'], ['none']) and outcome.stopped == ''


def test_a_run_that_had_a_checkpoint_does_not_stop_the_others(train):
    outcome = train({'none': 'exit 1'}, before=('none',))
    assert ended(outcome) == (['cutmix', 'hmix'], ['none'])


def test_a_later_run_does_not_stop_the_others(train):
    outcome = train({'cutmix': 'exit 1'})
    assert ended(outcome) == (['hmix', 'none'], ['cutmix']) and outcome.stopped == ''


def test_a_run_that_fails_in_its_first_epoch_alone_says_so(train):
    outcome = train({'none': 'echo "Train: 0 [ 0/5]"; exit 1'})
    assert outcome.stopped and ended(outcome) == ([], ['none'])


def test_progress_is_counted_in_epochs_of_all_runs(train, capsys):
    train()
    shown = capsys.readouterr()
    assert [line for line in shown.out.splitlines() if line] == [f'{mode} seed 7: top-1 20.00 %' for mode in MODES]
    for number, mode in enumerate(MODES, 1):
        assert f'{mode} seed 7 ({number}/3): ' in shown.err
    assert ' 0/6 ' in shown.err and shown.err.rstrip().rpartition('\r')[2].count(' 6/6 ') == 1


def test_runs_that_are_trained_at_once_are_named_together(train, capsys):
    train(parts=({}, {}, {}))
    assert 'none seed 7, cutmix seed 7, hmix seed 7 (3/3): ' in capsys.readouterr().err


def test_finished_runs_are_counted_and_not_trained_again(train, tmp_path, capsys):
    first = train({'hmix': 'exit 1'})
    capsys.readouterr()
    logs = {mode: (tmp_path / mode / 'seed7' / 'train.log').read_text() for mode in MODES}
    second = train({'none': 'exit 1'})
    shown = capsys.readouterr()
    assert ended(first) == (['cutmix', 'none'], ['hmix']) and ended(second) == (sorted(MODES), [])
    assert [line for line in shown.out.splitlines() if line] == [
        '2 of 3 runs are finished already',
        'hmix seed 7: top-1 20.00 %',
    ]
    assert ' 4/6 ' in shown.err and 'hmix seed 7 (3/3): ' in shown.err
    for mode in ('none', 'cutmix'):
        assert (tmp_path / mode / 'seed7' / 'train.log').read_text() == logs[mode]


def test_nothing_is_said_of_finished_runs_where_there_are_none(train, capsys):
    train()
    assert 'already' not in capsys.readouterr().out


def test_a_failed_run_is_named_on_standard_error(train, tmp_path, capsys):
    (failure,) = train({'cutmix': 'kill -9 $$'}).failures
    assert failure.reason == 'signal 9: no output' and failure.seed == 7
    shown = capsys.readouterr()
    line = f'failed: cutmix seed 7: signal 9: no output, see {tmp_path / "cutmix" / "seed7" / "train.log"}'
    assert line in shown.err.splitlines() and 'failed' not in shown.out


def test_the_log_of_a_run_begins_with_its_command(train, tmp_path):
    train({'none': 'echo "a b" && ' + TRAIN}, parts=({'PART': '5'},))
    command, *said = (tmp_path / 'none' / 'seed7' / 'train.log').read_text().splitlines()
    assert shlex.split(command)[:5] == ['$', 'env', 'PART=5', 'sh', '-c'] and len(shlex.split(command)) == 6
    assert said == ['a b']


def test_machines_that_do_not_keep_the_books_mark_no_run_as_finished(plan, arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(Run, 'command', lambda run, environment: ['sh', '-c', f'cd {run.folder} && {TRAIN}'])
    launch = ['--nproc-per-node', '1', '--nnodes', '2', '--node-rank', '1']
    comparison = plan([*arguments(tmp_path), '--modes', 'none', '--seeds', '7', *launch])
    with locked(tmp_path / '.lock') as lock:
        outcome = train_all(comparison, PROSPECT, ({},), lock)
    assert ended(outcome) == ([], [])
    assert sorted(file.name for file in (tmp_path / 'none' / 'seed7').iterdir()) == ['summary.csv', 'train-node1.log']


def test_epochs_of_a_run_are_timed_while_it_is_trained(plan, arguments, tmp_path, monkeypatch):
    monkeypatch.setattr(training, 'READ_SECONDS', 0)
    monkeypatch.setattr(
        Run, 'command', lambda run, environment: ['sh', '-c', f'until [ -e {run.folder}/go ]; do sleep 0.01; done']
    )
    (run,) = all_runs(plan([*arguments(tmp_path), '--modes', 'none', '--seeds', '7']))
    with locked(tmp_path / '.lock') as lock:
        job = Job(run, {}, lock)
        times = []
        assert not job.look()  # no row yet
        for epochs in (1, 2, 3, 4):
            run.summary.write_text('epoch,eval_top1\n' + ''.join(f'{epoch},10\n' for epoch in range(epochs)))
            before = time.monotonic()
            assert not job.look()
            times.append((before, time.monotonic()))
            assert job.table.epochs == epochs
        (run.folder / 'go').touch()
        job.process.wait()
        assert job.look()
    # three epochs, from when the first row was seen to when the last one was
    low, high = (times[3][0] - times[0][1]) / 3, (times[3][1] - times[0][0]) / 3
    assert low <= job.outcome(PROSPECT).epoch_seconds <= high


@pytest.mark.parametrize(
    ('script', 'checkpoint', 'at_its_start'),
    [
        ('exit 1', False, True),
        ('echo "Train: 0 [ 0/5]"; exit 1', False, True),
        ('exit 1', True, False),
        ('echo "Train: 1 [ 0/5]"; exit 1', False, False),
        ('echo "Train: 0 [ 0/5]"; echo "Train: 12 [ 0/5]"; exit 1', False, False),
        ('printf "epoch,eval_top1\\n0,10\\n" > summary.csv; exit 1', False, False),
        ('kill -9 $$', False, False),
        (DIVERGE, False, False),
    ],
)
def test_what_a_run_ended_with_tells_whether_it_was_at_its_start(
    plan, arguments, tmp_path, monkeypatch, script, checkpoint, at_its_start
):
    monkeypatch.setattr(Run, 'command', lambda run, environment: ['sh', '-c', f'cd {run.folder} && {script}'])
    (run,) = all_runs(plan([*arguments(tmp_path), '--modes', 'none', '--seeds', '7']))
    if checkpoint:
        run.folder.mkdir(parents=True)
        (run.folder / 'last.pth.tar').touch()
    with locked(tmp_path / '.lock') as lock:
        job = Job(run, {}, lock)
        job.process.wait()
        assert job.look()
    assert job.ended_at_its_start(job.outcome(PROSPECT)) == at_its_start
