"""The folder of a comparison: which runs belong there, where training goes on, and when a run counts as finished."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import yaml

from train_patch.compare import main
from train_patch.comparison.runs import Run, all_runs, check_same_comparison, claim_folder

SCRIPT = Path(__file__).parents[1] / 'launcher' / 'timm_like.py'
FACTS = dict(epoch_seconds=1.5, validation_images=16, jobs=1, threads=1)


@pytest.fixture
def runs(arguments, plan, tmp_path):
    """`runs(*more)`: the runs of the modes none and hmix with seed 3."""

    def make(*more):
        return all_runs(plan([*arguments(tmp_path, *more), '--modes', 'none', 'hmix', '--seeds', '3']))

    return make


def by_timms_script(run):
    """The same run, trained by timm's script."""
    return dataclasses.replace(run, comparison=dataclasses.replace(run.comparison, script=SCRIPT))


def trained(run, top1=(10.0, 20.0), **changes):
    """Leaves in a run's folder what training would leave there."""
    run.folder.mkdir(parents=True, exist_ok=True)
    settings = {**run.comparison.resolved[run.variant.name], 'seed': run.seed, 'resume': 'auto', **changes}
    (run.folder / 'args.yaml').write_text(yaml.safe_dump(settings))
    table(run.folder, top1)
    return run


def table(folder, top1, losses=()):
    rows = [f'{epoch},{losses[epoch] if losses else 0.5},{value}' for epoch, value in enumerate(top1)]
    (folder / 'summary.csv').write_text('\n'.join(['epoch,train_loss,eval_top1', *rows]) + '\n')


def refusal(run):
    with pytest.raises(ValueError, match='holds runs of another comparison') as caught:
        check_same_comparison(run.comparison)
    return str(caught.value)


@pytest.mark.parametrize(
    ('first', 'second'),
    [
        (['--epochs=3'], ['--epochs', '3']),
        (['--epochs', '2'], []),  # the recipe's
        (['-b', '4'], ['--batch-size=4']),
        (['--batch-s', '4'], ['-b4']),
        (['--opt', 'sgd', '--sched', 'step'], ['--sched', 'step', '--opt', 'sgd']),
        (['--hmix-ratio', '0.5'], ['--hmix-ratio=.50']),
        ([], ['--workers', '7', '--log-interval', '1', '--dataset-download', '--checkpoint-hist', '1']),
    ],
)
def test_the_same_in_other_words_is_the_same_comparison(runs, first, second):
    for run in runs(*first):
        trained(run)
    check_same_comparison(runs(*second)[0].comparison)


def test_the_same_data_by_another_path_are_the_same_comparison(runs, work, monkeypatch):
    trained(runs()[0])
    monkeypatch.chdir(work)
    check_same_comparison(runs('--data-dir', 'data')[0].comparison)


@pytest.mark.parametrize(
    ('more', 'named'),
    [
        (['--epochs', '9'], 'epochs is 2 there, 9 here'),
        (['-b', '4'], 'batch_size is 8 there, 4 here'),
        (['--hmix-ratio', '0.5'], 'hmix seed 3: hmix_ratio is 0.75 there, 0.5 here'),
        (['--no-prefetcher'], 'no_prefetcher is False there, True here'),
        (['--data-dir', '/tmp'], "'/tmp' here"),
        (['--nproc-per-node', '2'], "processes: [] there, ['--nproc-per-node=2'] here"),
    ],
)
def test_runs_with_other_arguments_are_not_mixed_in(runs, more, named):
    before = [trained(run) for run in runs()]
    claim_folder(before[0].comparison)
    assert named in refusal(runs(*more)[0])


def test_runs_of_a_mode_that_is_not_asked_for_now_are_held_against_it_too(runs, arguments, plan, tmp_path):
    trained(runs()[1])  # hmix
    check_same_comparison(plan(arguments(tmp_path, '--modes', 'none')))
    other = all_runs(plan(arguments(tmp_path, '--modes', 'none', '--lr', '0.5')))[0]
    assert 'hmix seed 3: lr is 0.002 there, 0.5 here' in refusal(other)


def test_a_run_with_another_seed_than_its_folder_says_is_not_mixed_in(runs):
    run = trained(runs()[0], seed=4)
    assert 'seed is 4 there, 3 here' in refusal(run)


def test_runs_of_another_script_are_not_mixed_in(runs):
    run = trained(runs()[0])
    (run.comparison.output / 'comparison.yaml').write_text('script: /a/train.py\nprocesses: []\n')
    assert "script: '/a/train.py' there, None here" in refusal(run)


def test_a_folder_in_which_nothing_was_trained_belongs_to_nobody(runs):
    run = trained(runs('--lr', '0.5')[0])
    claim_folder(run.comparison)
    run.summary.unlink()
    other = runs('--nproc-per-node', '2')[0].comparison
    check_same_comparison(other)
    claim_folder(other)
    record = yaml.safe_load((run.comparison.output / 'comparison.yaml').read_text())
    assert record['processes'] == ['--nproc-per-node=2']


@pytest.mark.parametrize('content', ['', 'a: [1', 'just text', '\x00', 'script: null\n'])
def test_a_damaged_record_is_named(runs, arguments, refused, content):
    run = trained(runs()[0])
    path = run.comparison.output / 'comparison.yaml'
    path.write_text(content)
    assert str(path) in refused([*arguments(run.comparison.output), '--modes', 'none', '--seeds', '3'], status=1)


@pytest.mark.parametrize('content', ['', '{"epochs": 2', '[2]', '{}', '{"epochs": "two"}', '{"epochs": 2, "odd": 1}'])
def test_a_damaged_mark_of_a_finished_run_is_named(runs, arguments, refused, content):
    run = trained(runs()[0])
    (run.folder / 'finished.json').write_text(content)
    message = refused([*arguments(run.comparison.output), '--modes', 'none', '--seeds', '3'], status=1)
    assert str(run.folder / 'finished.json') in message


def test_damaged_arguments_of_a_run_are_named(runs, arguments, refused):
    run = trained(runs()[0])
    (run.folder / 'args.yaml').write_text('a: [1')
    message = refused([*arguments(run.comparison.output), '--modes', 'none', '--seeds', '3'], status=1)
    assert str(run.folder / 'args.yaml') in message


def test_a_damaged_table_of_a_run_is_named(runs, arguments, refused):
    run = trained(runs()[0])
    run.summary.write_text('epoch,eval_top1\nfirst,10\n')
    message = refused([*arguments(run.comparison.output), '--modes', 'none', '--seeds', '3'], status=1)
    assert str(run.summary) in message


def test_a_finished_run_gives_its_curve_and_what_was_noted_of_it(runs):
    run = trained(runs()[0], top1=(10.0, 30.0))
    assert run.result() is None
    result = run.finish(2, FACTS)
    assert (result.variant, result.seed, result.curve, result.top1) == ('none', 3, {0: 10.0, 1: 30.0}, 30.0)
    assert json.loads((run.folder / 'finished.json').read_text()) == {'epochs': 2, **FACTS}
    assert run.result() == result


def test_a_mark_of_an_earlier_version_is_still_good(runs):
    run = trained(runs()[0])
    (run.folder / 'finished.json').write_text('{"epochs": 2, "epoch_seconds": 1.5}')
    result = run.result()
    assert (result.top1, result.epoch_seconds, result.validation_images) == (20.0, 1.5, None)


def test_a_finished_run_whose_table_was_lost_is_trained_again(runs):
    run = trained(runs()[0])
    run.finish(2, FACTS)
    table(run.folder, (10.0,))
    assert run.result() is None


def test_a_run_without_its_last_epoch_is_not_finished(runs):
    run = trained(runs()[0], top1=(10.0, 20.0))
    assert run.finish(3, FACTS) == 'ended without eval_top1 for its last epoch in summary.csv'
    assert run.result() is None


def test_a_run_that_went_on_with_a_loss_that_is_not_finite_has_diverged(runs):
    run = trained(runs()[0])
    table(run.folder, (10.0, 10.0, 10.0), losses=(1.0, math.nan, math.inf))
    assert run.finish(3, FACTS) == 'diverged: train_loss is nan in epoch 1'
    assert run.result() is None


def test_time_per_epoch_has_its_share_of_a_validation_every_four_epochs(runs):
    run = trained(runs()[0], val_interval=4)
    (run.folder / 'times.csv').write_text('epoch,train_time,eval_time\n3,9,4\n7,2,4\n11,3,2\n')
    # 9 + 4/4 = 10, 2 + 4/4 = 3, 3 + 2/4 = 3.5
    assert run.finish(2, FACTS).epoch_seconds == 3.5


def test_the_project_script_finds_its_checkpoint_itself(runs):
    run = trained(runs()[0])
    (run.folder / 'last.pth.tar').touch()
    assert run.command({})[-2:] == ['--resume', 'auto']


@pytest.mark.parametrize(
    ('names', 'expected'),
    [
        (['checkpoint-9', 'checkpoint-10', 'checkpoint-100', 'checkpoint-11'], 'checkpoint-100'),
        (['checkpoint-9', 'checkpoint-10'], 'checkpoint-10'),
        (['checkpoint-10', 'last', 'recovery-11-3', 'model_best'], 'last'),
        (['checkpoint-2', 'recovery-3-1'], 'checkpoint-2'),
    ],
)
def test_timms_script_goes_on_from_the_newest_checkpoint(runs, names, expected):
    run = by_timms_script(runs()[0])
    run.folder.mkdir(parents=True)
    for name in names:
        (run.folder / f'{name}.pth.tar').touch()
    assert run.command({})[-2:] == ['--resume', str(run.folder / f'{expected}.pth.tar')]


def test_timms_script_starts_again_where_its_checkpoint_was_lost(runs):
    run = by_timms_script(runs()[0])
    run.folder.mkdir(parents=True)
    table(run.folder, (10.0, 20.0))
    (run.folder / 'recovery-2-5.pth.tar').touch()
    run.prepare()
    assert not run.summary.exists()  # timm's script would append, and epochs 0 and 1 would stand there twice
    assert '--resume' not in run.command({})


def test_a_table_that_timms_script_wrote_on_is_tidied_before_it_writes_on(runs):
    """timm repeats the header on resuming, and an epoch without checkpoint; a kill can cut the last line anywhere."""
    run = by_timms_script(runs()[0])
    run.folder.mkdir(parents=True)
    (run.folder / 'last.pth.tar').touch()
    run.summary.write_bytes(
        b'epoch,train_loss,eval_top1\r\n0,1.5,10.25\r\n1,1.25,20.5\r\n'
        b'epoch,train_loss,eval_top1\r\n1,1.125,21.5\r\n2,1,30\r\n1'
    )
    run.prepare()
    assert run.summary.read_text() == 'epoch,train_loss,eval_top1\n0,1.5,10.25\n1,1.125,21.5\n2,1,30\n'
    identity = run.summary.stat().st_ino
    run.prepare()
    assert run.summary.stat().st_ino == identity


def test_the_table_of_the_projects_script_is_left_to_it(runs):
    run = trained(runs()[0])
    run.prepare()
    assert run.epochs_done() == 2


def test_finished_runs_are_no_part_of_a_dry_run(runs, arguments, capsys):
    none, hmix = runs()
    trained(none)
    none.finish(2, FACTS)
    assert main([*arguments(none.comparison.output), '--modes', 'none', 'hmix', '--seeds', '3', '--dry-run']) == 0
    shown = capsys.readouterr()
    assert '# none seed 3 is finished' in shown.err
    assert len(shown.out.splitlines()) == 1 and f'--output {hmix.folder.parent} ' in shown.out


def test_other_machines_keep_logs_of_their_own(runs, arguments, plan, tmp_path):
    launch = ['--nproc-per-node', '1', '--nnodes', '2']
    logs = [Run(plan(arguments(tmp_path, *launch, '--node-rank', rank)), runs()[0].variant, 3).log for rank in (0, 1)]
    assert [log.name for log in logs] == ['train.log', 'train-node1.log']


# everything that says where and how a run is trained, and not what
# fmt: off
ELSEWHERE = [
    '--workers', '7', '--pin-mem', '--log-interval', '1', '--recovery-interval', '3', '--checkpoint-hist', '1',
    '--dataset-download', '--log-wandb', '--wandb-project', 'mine', '--wandb-tags', 'a', 'b',
]
# fmt: on


@pytest.mark.parametrize('trainer', [lambda run: run, by_timms_script], ids=['lean', 'script'])
def test_where_and_how_a_run_is_trained_is_not_held_against_it(runs, trainer):
    """Neither where it is passed through to a script of timm's, whose `args.yaml` holds all of it."""
    first = [trained(trainer(run)) for run in runs()]
    claim_folder(first[0].comparison)
    there = yaml.safe_load((first[0].folder / 'args.yaml').read_text())
    again = trainer(runs(*ELSEWHERE)[0]).comparison
    changed = {key for key, value in again.training.items() if there[key] != value} - {'seed', 'resume'}
    assert changed == {
        'workers',
        'pin_mem',
        'log_interval',
        'recovery_interval',
        'checkpoint_hist',
        'dataset_download',
        'log_wandb',
        'wandb_project',
        'wandb_tags',
    }
    check_same_comparison(again)


@pytest.mark.parametrize(
    'key', ['output', 'experiment', 'resume', 'config', 'local_rank', 'wandb_resume_id', 'save_images']
)
def test_what_timms_script_alone_takes_of_that_is_not_held_against_a_run_either(runs, key):
    run = trained(by_timms_script(runs()[0]), **{key: 'of another call'})
    resolved = {name: {**values, key: 'passed through'} for name, values in run.comparison.resolved.items()}
    check_same_comparison(dataclasses.replace(run.comparison, resolved=resolved))


def test_what_trains_another_network_is_held_against_a_run_of_a_script(runs):
    first = trained(by_timms_script(runs()[0]))
    claim_folder(first.comparison)
    assert 'smoothing is 0.1 there, 0.0 here' in refusal(by_timms_script(runs('--smoothing', '0')[0]))


def test_a_run_of_this_projects_script_is_not_mixed_with_those_of_timms(runs):
    first = trained(runs()[0])
    claim_folder(first.comparison)
    assert f"script: None there, '{SCRIPT}' here" in refusal(by_timms_script(first))


def test_an_option_that_an_older_script_did_not_have_is_not_held_against_its_run(runs):
    run = trained(runs()[0])
    path = run.folder / 'args.yaml'
    settings = yaml.safe_load(path.read_text())
    del settings['epochs'], settings['val_interval']
    path.write_text(yaml.safe_dump(settings))
    check_same_comparison(run.comparison)


def test_every_difference_is_listed_on_a_line_of_its_own(runs):
    for run in runs():
        trained(run)
    claim_folder(run.comparison)
    other = runs('--epochs', '9', '--nproc-per-node', '2')[0]
    text, *lines = refusal(other).splitlines()
    assert text == f'--output {run.comparison.output} holds runs of another comparison; give another folder.'
    assert lines == [
        "  processes: [] there, ['--nproc-per-node=2'] here",
        '  hmix seed 3: epochs is 2 there, 9 here',
        '  none seed 3: epochs is 2 there, 9 here',
    ]


@pytest.mark.parametrize(
    ('there', 'here', 'same'),
    [('2e-3', 2e-3, True), (1, 1.0, True), ('2e-3', 0.003, False), (None, 0, False), ([1, 2], [1, 2], True)],
)
def test_numbers_that_yaml_reads_as_text_are_numbers(runs, there, here, same):
    run = trained(runs()[0], lr=there)
    resolved = {name: {**values, 'lr': here} for name, values in run.comparison.resolved.items()}
    comparison = dataclasses.replace(run.comparison, resolved=resolved)
    if same:
        check_same_comparison(comparison)
    else:
        assert f'lr is {there!r} there, {here!r} here' in refusal(dataclasses.replace(run, comparison=comparison))


def test_data_that_one_of_both_does_not_name_are_different_data(runs):
    run = trained(runs()[0], data_dir=None)
    assert 'data_dir is None there' in refusal(run)


def test_modes_that_are_not_asked_for_now_may_mix_as_they_like(runs, arguments, plan, tmp_path):
    """What the variants differ in says nothing of another variant; nor do options that only one row here has."""
    trained(runs('--mix-alpha', '0.25')[1])  # hmix
    check_same_comparison(plan(arguments(tmp_path, '--modes', 'none', 'mixup', 'cutmix')))


def test_another_preset_is_held_against_modes_that_are_not_asked_for_now(runs, arguments, plan, tmp_path):
    trained(runs('--mix-preset', 'cifar100')[1])
    other = all_runs(plan(arguments(tmp_path, '--modes', 'mixup')))[0]
    assert "hmix seed 3: mix_preset is 'cifar100' there, 'imagenet' here" in refusal(other)


def test_only_folders_of_runs_are_looked_at(runs):
    run = trained(runs()[0])
    for name in ('none/seed', 'none/seedling', 'none/seed3.old', 'other/seed5'):
        folder = run.comparison.output / name
        folder.mkdir(parents=True)
        (folder / 'args.yaml').write_text('epochs: 99\n')
        if name != 'other/seed5':  # a folder of a run in which nothing was trained
            (folder / 'summary.csv').touch()
    check_same_comparison(run.comparison)


def test_the_record_of_a_folder_with_runs_stays_as_it_is(runs):
    run = runs()[0]
    run.comparison.output.mkdir(exist_ok=True)
    path = run.comparison.output / 'comparison.yaml'
    claim_folder(run.comparison)
    assert path.read_text() == 'script: null\nprocesses: []\n'
    trained(run)
    claim_folder(by_timms_script(run).comparison)
    assert path.read_text() == 'script: null\nprocesses: []\n'


def test_a_folder_whose_record_was_lost_gets_a_new_one(runs):
    run = trained(by_timms_script(runs()[0]))
    check_same_comparison(run.comparison)
    claim_folder(run.comparison)
    assert yaml.safe_load((run.comparison.output / 'comparison.yaml').read_text()) == {
        'script': str(SCRIPT),
        'processes': [],
    }


def test_a_run_lies_in_the_folder_of_its_mode_and_seed(runs, tmp_path):
    run = runs()[1]
    assert (run.name, run.folder) == ('hmix seed 3', tmp_path / 'hmix' / 'seed3')
    assert (run.summary, run.log) == (run.folder / 'summary.csv', run.folder / 'train.log')
    words = run.command({'OMP_NUM_THREADS': '4'})
    assert words[:2] == ['env', 'OMP_NUM_THREADS=4'] and words[-2:] == ['--resume', 'auto']


def test_runs_are_trained_seed_by_seed(arguments, plan, tmp_path):
    comparison = plan([*arguments(tmp_path), '--modes', 'none', 'hmix', '--seeds', '5', '2'])
    assert [run.name for run in all_runs(comparison)] == ['none seed 5', 'hmix seed 5', 'none seed 2', 'hmix seed 2']


def test_a_run_that_was_not_started_has_done_nothing(runs):
    run = runs()[0]
    assert (run.epochs_done(), run.result()) == (0, None)
    run.prepare()
    run.prepare()
    assert list(run.folder.iterdir()) == []


def test_a_run_trained_for_longer_than_was_asked_is_finished(runs):
    run = trained(runs()[0], top1=(10.0, 20.0, 30.0))
    assert run.finish(2, FACTS).top1 == 30.0
    assert json.loads((run.folder / 'finished.json').read_text())['epochs'] == 3


def test_epochs_without_a_validation_are_no_part_of_the_curve(runs):
    run = trained(runs()[0])
    run.summary.write_text('epoch,train_loss,eval_top1\n0,1,\n1,1,20\n2,1,\n3,1,40\n')
    result = run.finish(4, FACTS)
    assert (result.variant, result.seed, result.curve) == ('none', 3, {1: 20.0, 3: 40.0})
    assert run.result() == result
    assert run.summary.read_text() == 'epoch,train_loss,eval_top1\n0,1,\n1,1,20\n2,1,\n3,1,40\n'


def test_any_loss_that_is_not_finite_is_named(runs):
    run = trained(runs()[0])
    run.summary.write_text('epoch,train_loss,eval_loss,eval_top1\n0,0.5,,20\n1,0.5,inf,30\n')
    assert run.finish(2, FACTS) == 'diverged: eval_loss is inf in epoch 1'
    assert not (run.folder / 'finished.json').exists()


def test_a_table_that_timms_script_left_is_tidied_when_the_run_is_finished(runs):
    run = trained(by_timms_script(runs()[0]))
    run.summary.write_text('epoch,eval_top1\n0,10\nepoch,eval_top1\n1,15\n1,20\n')
    assert run.finish(2, FACTS).top1 == 20.0
    assert run.summary.read_text() == 'epoch,eval_top1\n0,10\n1,20\n'


def test_a_header_that_grew_is_tidied_though_the_lines_are_as_many_as_the_rows(runs):
    """timm's script repeats its header, and a line was lost that a kill had cut off."""
    run = by_timms_script(runs()[0])
    run.folder.mkdir(parents=True)
    (run.folder / 'last.pth.tar').touch()
    run.summary.write_text('epoch,train_loss\n0,1\nepoch,train_loss,eval_top1\n0,2,10\n')
    run.prepare()
    assert run.summary.read_text() == 'epoch,train_loss,eval_top1\n0,2,10\n'


def test_the_time_per_epoch_that_the_run_measured_itself_goes_before_what_was_seen(runs):
    run = trained(runs()[0], val_interval=None)
    assert run.finish(2, FACTS).epoch_seconds == 1.5  # what was seen: it has no times of its own
    (run.folder / 'times.csv').write_text('epoch,train_time,eval_time\n0,3,1\n1,4,2\n')
    assert run.finish(2, FACTS).epoch_seconds == 5.0
