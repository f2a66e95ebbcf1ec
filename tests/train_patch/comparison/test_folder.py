"""The folder of a comparison: which runs belong there, how they are resumed, and when a run counts as finished."""

from pathlib import Path

import pytest
import yaml

from hmix_timm.families import FAMILIES
from train_patch.common.errors import WrongArguments
from train_patch.mixing import load_mix_families

SCRIPT = Path(__file__).parents[1] / 'launcher' / 'timm_like.py'


@pytest.fixture
def runs(arguments, plan, tmp_path):
    """`runs(*more)`: the runs of the modes none and hmix with seed 3."""

    def make(*more):
        comparison = plan([*arguments(tmp_path, *more), '--modes', 'none', 'hmix', '--seeds', '3'])
        return comparison.runs

    return make


def by_timms_script(run):
    """The same run, trained by timm's script."""
    run.comparison.script = SCRIPT
    return run


def trained(run, top1=(10.0, 20.0), **changes):
    """Leaves in a run's folder the files that training leaves."""
    run.folder.mkdir(parents=True, exist_ok=True)
    settings = {**run.variant.resolved, 'seed': run.seed, 'resume': 'auto', **changes}
    (run.folder / 'args.yaml').write_text(yaml.safe_dump(settings))
    rows = [f'{epoch},0.5,{value}' for epoch, value in enumerate(top1)]
    run.summary.write_text('\n'.join(['epoch,train_loss,eval_top1', *rows]) + '\n')
    return run


def refusal(run):
    with pytest.raises(WrongArguments, match='holds runs of another comparison') as caught:
        run.comparison.check_folder()
    return str(caught.value)


@pytest.mark.parametrize(
    ('first', 'second'),
    [
        (['--epochs=2'], []),  # the recipe's
        (['--batch-s', '4'], ['-b4']),
        (['--hmix-ratio', '0.5'], ['--hmix-ratio=.50']),
        (['--opt', 'sgd', '--sched', 'step'], ['--sched', 'step', '--opt', 'sgd']),
        ([], ['--workers', '7', '--pin-mem', '--log-interval', '1', '--dataset-download', '--checkpoint-hist', '1']),
        ([], ['--log-wandb', '--wandb-project', 'mine', '--wandb-tags', 'a', 'b']),
    ],
)
@pytest.mark.parametrize('trainer', [lambda run: run, by_timms_script], ids=['lean', 'script'])
def test_the_same_training_belongs_to_the_same_comparison(runs, first, second, trainer):
    """However the arguments are spelt, and wherever and however fast it is trained."""
    for run in runs(*first):
        trained(trainer(run))
    run.comparison.claim_folder()
    trainer(runs(*second)[0]).comparison.check_folder()


def test_the_same_data_by_another_path_belong_to_the_same_comparison(runs, work, monkeypatch):
    trained(runs()[0])
    monkeypatch.chdir(work)
    runs('--data-dir', 'data')[0].comparison.check_folder()


@pytest.mark.parametrize(
    ('more', 'named'),
    [
        (['--epochs', '9'], 'none seed 3: epochs is 2 there, 9 here\n'),
        (['--smoothing', '0'], 'smoothing is 0.1 there, 0.0 here'),
        (['--hmix-ratio', '0.5'], 'hmix seed 3: hmix_ratio is 0.75 there, 0.5 here'),
        (['--data-dir', '/tmp'], "'/tmp' here"),
        (['--nproc-per-node', '2'], "  processes: [] there, ['--nproc-per-node=2'] here"),
    ],
)
def test_runs_with_other_arguments_are_not_mixed_in(runs, more, named):
    for run in runs():
        trained(run)
    run.comparison.claim_folder()
    other = runs(*more)[0]
    assert named in refusal(other) + '\n'
    other.comparison.claim_folder()  # the record of trained runs stays
    assert (run.comparison.output / 'comparison.yaml').read_text() == 'script: null\nprocesses: []\nimages: null\n'


def test_runs_of_modes_that_are_not_asked_for_now_are_compared_too(runs, arguments, plan, tmp_path):
    trained(runs('--mix-alpha', '0.25')[1])  # hmix, whose mixing says nothing of other modes
    plan(arguments(tmp_path, '--modes', 'none', 'mixup', 'cutmix')).check_folder()
    for more, named in ((['--lr', '0.5'], 'lr is 0.002 there, 0.5 here'), (['--mix-preset', 'cifar100'], 'mix_preset')):
        other = plan(arguments(tmp_path, '--modes', 'mixup', *more))
        assert f'hmix seed 3: {named}' in refusal(other.runs[0])


def test_runs_of_an_edited_family_are_not_mixed_in(arguments, plan, tmp_path):
    family = tmp_path / 'my_masks.py'
    family.write_text(
        'from hmix_timm import BoxMask, register_family\n\n'
        "@register_family('whole')\ndef whole(size, lam, options, draws):\n    return BoxMask(lam)\n"
    )
    argv = arguments(tmp_path / 'out', '--mix-families', family, '--modes', 'none', 'whole', '--seeds', '3')
    try:
        load_mix_families(argv, {})
        for run in plan(argv).runs:
            trained(run)
        digest = run.variant.resolved['mix_digest']
        assert ['--mix-digest', digest] == run.command({})[run.command({}).index('--mix-digest') :][:2]
        plan(argv).check_folder()
        family.write_text(family.read_text().replace('BoxMask(lam)', 'BoxMask(1 - lam)'))
        other = plan(argv)
    finally:
        FAMILIES.pop('whole', None)
    message = refusal(other.runs[0])
    now = other.runs[1].variant.resolved['mix_digest']
    assert f"whole seed 3: mix_digest is '{digest}' there, '{now}' here (the code of its family was edited" in message
    assert 'none seed' not in message  # which has no need of it


def test_rows_that_are_not_asked_for_now_may_differ_in_what_varies(arguments, plan, tmp_path):
    for run in plan(arguments(tmp_path, '--modes', 'hmix', '--seeds', '3', '--vary', 'lr=0.1,0.2')).runs:
        trained(run)
    plan(arguments(tmp_path, '--modes', 'none', '--vary', 'lr=0.3')).check_folder()
    other = plan(arguments(tmp_path, '--modes', 'none', '--vary', 'lr=0.3', '--epochs', '9'))
    assert 'hmix lr=0.1 seed 3: epochs is 2 there, 9 here' in refusal(other.runs[0])
    same = plan(arguments(tmp_path, '--modes', 'hmix', '--vary', 'lr=0.1', '--seeds', '3'))
    assert same.runs[0].read().value == 20.0


def test_a_run_with_another_seed_or_script_is_not_mixed_in(runs):
    run = trained(runs()[0], seed=4)
    run.comparison.claim_folder()
    assert 'none seed 3: seed is 4 there, 3 here' in refusal(run)
    trained(run)
    assert f"script: None there, '{SCRIPT}' here" in refusal(by_timms_script(run))
    (run.folder / 'args.yaml').unlink()
    assert 'none seed 3: its args.yaml is lost' in refusal(run)


def test_a_folder_without_a_trained_run_is_free(runs):
    run = trained(runs('--lr', '0.5')[0])
    run.comparison.claim_folder()
    run.summary.unlink()
    for name in ('none/seed', 'none/seed3.old'):  # not folders of runs
        (run.comparison.output / name).mkdir(parents=True)
        (run.comparison.output / name / 'summary.csv').touch()
    other = runs('--nproc-per-node', '2')[0].comparison
    other.check_folder()
    other.claim_folder()
    record = yaml.safe_load((run.comparison.output / 'comparison.yaml').read_text())
    assert record == {'script': None, 'processes': ['--nproc-per-node=2'], 'images': None}


def test_an_option_that_an_older_version_did_not_record_is_not_compared(runs):
    run = trained(runs()[0])
    settings = yaml.safe_load((run.folder / 'args.yaml').read_text())
    del settings['epochs']
    (run.folder / 'args.yaml').write_text(yaml.safe_dump(settings))
    runs('--epochs', '9')[0].comparison.check_folder()


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        ('comparison.yaml', 'a: [1'),
        ('comparison.yaml', 'just text'),
        ('none/seed3/args.yaml', '\x00'),
        ('none/seed3/summary.csv', 'epoch,eval_top1\nfirst,10\n'),
        ('none/seed3/summary.csv', 'epoch,eval_top1\n0,much\n'),
        ('none/seed3/times.csv', 'epoch,train_time\n0,1\n'),
    ],
)
def test_a_damaged_file_is_named(runs, arguments, refused, name, content):
    run = trained(runs()[0])
    path = run.comparison.output / name
    path.write_text(content)
    argv = [*arguments(run.comparison.output), '--modes', 'none', '--seeds', '3']
    assert str(path) in refused(argv, status=1)


def test_a_run_that_was_trained_longer_than_asked_is_finished(runs):
    run = trained(runs()[0])
    run.summary.write_text('epoch,train_loss,eval_top1\n0,1,10\n1,1,30\n2,1,\n3,1,40\n')
    result = run.finish()
    assert (result.variant, result.seed, result.curve, result.value) == ('none', 3, {0: 10, 1: 30, 3: 40}, 40)
    assert run.read() == result and result.state == 'finished'


def test_a_run_of_timms_newest_script_with_many_labels_is_measured_by_its_map(runs):
    run = by_timms_script(trained(runs()[0]))
    run.summary.write_text('epoch,train_loss,eval_loss,eval_map,eval_macro_f1\n0,1,1,50,9\n1,1,1,60,9\n')
    result = run.finish()
    assert (result.metric, result.value) == ('eval_map', 60)
    run.comparison.options.metric = 'eval_macro_f1'
    assert (run.read().metric, run.read().value) == ('eval_macro_f1', 9)
    run.comparison.options.metric = 'eval_top5'
    assert run.finish().problem == 'ended without eval_top5 for its last epoch in summary.csv'


def test_the_last_epochs_may_be_averaged(runs):
    run = trained(runs('--epochs', '4')[0], (10.0, 30.0, 20.0, 60.0))
    run.comparison.options.last = 2
    assert run.read().curve == {0: 10, 1: 20, 2: 25, 3: 40} and run.read().value == 40


def test_a_finished_run_whose_table_was_lost_is_trained_again(runs):
    run = trained(runs()[0])
    assert run.read().state == 'finished'
    trained(run, (10.0,))
    assert run.read().state == 'unfinished'


def test_an_epoch_takes_the_median_of_training_and_its_share_of_a_validation(runs):
    run = trained(runs('--val-interval', '4')[0])
    (run.folder / 'times.csv').write_text('epoch,train_time,eval_time\n3,9,4\n7,2,4\n11,3,2\n')
    # 9 + 4/4 = 10, 2 + 4/4 = 3, 3 + 2/4 = 3.5
    assert run.finish().epoch_seconds == 3.5


def test_a_loss_that_is_not_finite_is_named(runs):
    run = trained(runs()[0])
    run.summary.write_text('epoch,train_loss,eval_loss,eval_top1\n0,0.5,,20\n1,0.5,nan,30\n')
    assert (run.finish().state, run.finish().problem) == ('diverged', 'diverged: eval_loss is nan in epoch 1')


@pytest.mark.parametrize(
    ('names', 'expected'),
    [
        (['checkpoint-9', 'checkpoint-10', 'checkpoint-100', 'checkpoint-11'], 'checkpoint-100'),
        (['checkpoint-10', 'last', 'recovery-11-3', 'model_best'], 'last'),
    ],
)
def test_timms_script_is_resumed_from_the_newest_checkpoint(runs, names, expected):
    run = by_timms_script(runs()[0])
    run.folder.mkdir(parents=True)
    for name in names:
        (run.folder / f'{name}.pth.tar').touch()
    assert run.command({})[-2:] == ['--resume', str(run.folder / f'{expected}.pth.tar')]


def test_timms_script_starts_again_if_its_checkpoint_was_lost(runs):
    run = trained(by_timms_script(runs()[0]))
    (run.folder / 'recovery-2-5.pth.tar').touch()
    run.prepare()
    assert not run.summary.exists()  # timm's script would append, so that epochs 0 and 1 would be there twice
    assert '--resume' not in run.command({})


def test_the_table_of_timms_script_is_tidied_before_it_appends_and_at_its_end(runs):
    """timm repeats the header on resuming, and an epoch without checkpoint; a kill can cut the last line anywhere."""
    run = trained(by_timms_script(runs()[0]))
    (run.folder / 'last.pth.tar').touch()
    untidy = (
        b'epoch,train_loss,eval_top1\r\n0,1.5,10.25\r\n1,1.25,20.5\r\n'
        b'epoch,train_loss,eval_top1\r\n1,1.125,21.5\r\n2,1,30\r\n1'
    )
    for tidy in (run.prepare, run.finish):
        run.summary.write_bytes(untidy)
        tidy()
        assert run.summary.read_text() == 'epoch,train_loss,eval_top1\n0,1.5,10.25\n1,1.125,21.5\n2,1,30\n'
