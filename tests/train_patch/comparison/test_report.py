"""What stands beside the table: the paper's numbers where they belong, and how the runs were trained."""

import pytest

from train_patch.comparison.report import paper_top1, write_report
from train_patch.comparison.results import Failure, RunResult
from train_patch.comparison.training import Outcome
from train_patch.recipes.published import PUBLISHED

CIFAR = ['cifar100_wrn28_2', '--data-dir', 'data']
PAPER = {'none': 73.50, 'mixup': 74.05, 'cutmix': 74.79, 'stochastic': 75.49, 'hmix': 75.68, 'gmix': 76.15}


@pytest.fixture
def beside(plan):
    """`beside(argv, images)`: mix mode → the paper's number that is shown beside runs on so many validation images."""

    def show(argv, images=10_000):
        return paper_top1(plan(argv), [RunResult('none', 0, {299: 70.0}, None, images)])

    return show


@pytest.mark.parametrize('more', [[], ['--epochs', '300'], ['--amp', '--workers', '9', '--dataset-download']])
def test_the_papers_numbers_stand_beside_the_papers_training(beside, more):
    shown = beside([*CIFAR, *more])
    assert {mode: shown[mode] for mode in PAPER} == PAPER


@pytest.mark.parametrize(
    'more',
    [
        ['--epochs', '1'],
        ['--lr', '0.1'],
        ['--dataset', ''],
        ['--model', 'cifar_resnet56'],
        ['-b', '128'],
        ['--sync-bn'],
    ],
)
def test_no_number_of_the_paper_stands_beside_another_training(beside, more):
    assert beside([*CIFAR, *more]) == {}


def test_no_number_of_the_paper_stands_beside_other_data(beside):
    assert beside(CIFAR, images=500) == {}


def test_an_unknown_number_of_images_says_nothing_against_the_data(beside):
    assert beside(CIFAR, images=None) == beside(CIFAR)


def test_no_number_of_the_paper_stands_beside_another_recipe(beside, work):
    assert beside([work / 'recipe.yaml', '--data-dir', work / 'data']) == {}


def test_a_recipe_of_the_same_name_is_another_recipe(beside, tmp_path, plan):
    copy = tmp_path / 'cifar100_wrn28_2.yaml'
    copy.write_text(plan(CIFAR).recipe.read_text())
    assert beside([copy, '--data-dir', 'data']) == {}


def test_a_mode_with_other_parameters_is_not_the_papers(beside):
    shown = beside([*CIFAR, '--hmix-ratio', '0.75'])
    assert 'hmix' not in shown and shown['gmix'] == PAPER['gmix']


@pytest.mark.parametrize(
    ('launch', 'shown'),
    [([], False), (['--nproc-per-node', '8'], True), (['--nproc-per-node', '4', '--batch-size', '64'], True)],
)
def test_the_global_batch_must_be_the_papers(beside, launch, shown):
    assert bool(beside(['imagenet_resnet50', '--data-dir', 'data', *launch], images=50_000)) == shown


@pytest.mark.parametrize(
    ('name', 'top1'),
    [('wrn28_2', 76.51), ('preactresnet18', 79.38), ('preactresnet34', 80.89), ('preactresnet50', 82.46)],
)
def test_puzzlemix_is_among_the_papers_numbers(name, top1):
    assert PUBLISHED[f'cifar100_{name}'].top1['puzzlemix'] == top1
    assert 'puzzlemix' not in PUBLISHED['cifar100_resnet56'].top1


def written(plan, arguments, folder, results, failures=()):
    comparison = plan([*arguments(folder, '--mix-alpha', '0.3'), '--modes', 'none', 'hmix', '--seeds', '1', '2'])
    write_report(comparison, Outcome(list(results), list(failures)))
    return (folder / 'results.md').read_text()


def test_the_report_says_how_the_runs_were_trained(plan, arguments, tmp_path):
    results = [RunResult(mode, seed, {0: 50.0}, 1.0, 16, 2, 1) for mode in ('none', 'hmix') for seed in (1, 2)]
    text = written(plan, arguments, tmp_path, results)
    assert '- trained 2 runs at once, 1 thread in each process\n' in text
    assert '--mix-alpha 0.3' in text


def test_the_report_tells_runs_apart_that_were_trained_in_different_ways(plan, arguments, tmp_path):
    results = [RunResult('none', 1, {0: 50.0}, 1.0, 16, 1, 2), RunResult('none', 2, {0: 50.0}, 1.0, 16, 4, 1)]
    text = written(plan, arguments, tmp_path, results)
    assert '- trained one run after another, 2 threads in each process (1 of 2 runs)\n' in text
    assert '- trained 4 runs at once, 1 thread in each process (1 of 2 runs)\n' in text


def test_the_report_names_failed_runs_and_where_their_logs_are(plan, arguments, tmp_path):
    failure = Failure('hmix', 2, 'exit status 1: out of memory', tmp_path / 'train.log')
    text = written(plan, arguments, tmp_path, [RunResult('none', 1, {0: 50.0}, 1.0)], [failure])
    assert f'- hmix seed 2: exit status 1: out of memory, see {tmp_path / "train.log"}\n' in text
    assert '| hmix |' in text.replace('  ', '')


@pytest.mark.parametrize(
    ('seeds', 'said', 'not_said'),
    [((1, 2), 'mean ± sample standard deviation over seeds 1, 2', 'one seed'), ((1,), 'one seed gives them no', '± s')],
)
def test_the_report_claims_no_spread_over_one_seed(plan, arguments, tmp_path, seeds, said, not_said):
    results = [RunResult(mode, seed, {0: 50.0 + seed}, 1.0, 16) for mode in ('none', 'hmix') for seed in seeds]
    text = written(plan, arguments, tmp_path, results)
    assert said in text and not_said not in text
    assert '16 validation images' in text


def test_where_no_run_came_to_its_end_the_table_says_so_and_no_older_picture_is_left(plan, arguments, tmp_path):
    log = tmp_path / 'train.log'
    failures = [Failure('none', 1, 'exit status 1: training has diverged', log), Failure('hmix', 1, 'signal 9: x', log)]
    (tmp_path / 'results.png').write_bytes(b'')
    text = written(plan, arguments, tmp_path, [], failures)
    assert '| none |         – | 0, 1 diverged |' in text and '| hmix |         – |   0, 1 failed |' in text
    assert 'No run came to its end.' in text and 'results.png' not in text
    assert (tmp_path / 'results.csv').is_file() and not (tmp_path / 'results.png').exists()
