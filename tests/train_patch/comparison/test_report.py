"""What stands beside the table: the paper's numbers where they belong, and how the runs were trained."""

import dataclasses
from pathlib import Path

import pytest
from PIL import Image

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


def test_table_1s_numbers_stand_beside_the_command_that_its_recipe_gives(beside):
    """With the class map that picks ImageNet-100's folders out of ImageNet's."""
    argv = ['imagenet100_large_crop', '--modes', 'mixup', 'cutmix', '--data-dir', 'data', '--class-map', 'CLASSES.txt']
    assert beside(argv, images=5_000) == {'mixup': 58.3, 'cutmix': 64.4}


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


def report(plan, folder, argv, results, failures=()):
    """What is written of a comparison, and what is said on the screen."""
    folder.mkdir(exist_ok=True)
    comparison = plan([*argv, '--output', folder])
    screen = write_report(comparison, Outcome(list(results), list(failures)))
    return (folder / 'results.md').read_text(), screen


def test_the_report_holds_every_part_in_its_order(plan, arguments, tmp_path, rows_of):
    results = [RunResult('none', 1, {0: 40.0, 1: 50.0}, 2.0, 400), RunResult('hmix', 1, {0: 41.0, 1: 53.0}, 4.0, 400)]
    failures = [
        Failure('none', 2, 'signal 9: Killed', tmp_path / 'a.log'),
        Failure('hmix', 2, 'odd', tmp_path / 'b.log'),
    ]
    argv = [*arguments(tmp_path), '--modes', 'none', 'hmix', '--seeds', '1', '2']
    text, screen = report(plan, tmp_path, argv, results, failures)
    blocks = text.split('\n\n')
    assert blocks[0] == '# recipe: comparison of mix modes' and text.endswith('results.png)\n')
    assert blocks[1].splitlines()[0].startswith('| mode |') and len(blocks[1].splitlines()) == 4
    assert blocks[2] == (
        'Top-1 on the validation images after the last epoch (2): seed 1.\n'
        'Differences are in percentage points; one seed gives them no interval, and so ranks nothing.\n'
        '± images: the standard error that 400 validation images alone make, √(p (1 − p) / n); the seeds share them.\n'
        'The time of an epoch is that of training and validation.'
    )
    assert blocks[3].splitlines()[0] == f'- recipe: `{argv[0]}`'
    assert blocks[4:] == [
        'Failed:',
        f'- none seed 2: signal 9: Killed, see {tmp_path / "a.log"}\n- hmix seed 2: odd, see {tmp_path / "b.log"}',
        '![validation curves and differences](results.png)\n',
    ]
    assert screen == (
        f'\n{blocks[1]}\n\n{blocks[2]}\n2 runs failed: none seed 2, hmix seed 2\n\n'
        f'{tmp_path / "results.md"}, results.csv, results.png'
    )
    assert [(row['mode'], row['top1_seed1'], row['top1_seed2']) for row in rows_of(tmp_path / 'results.csv')] == [
        ('none', '50.0', ''),
        ('hmix', '53.0', ''),
    ]
    with Image.open(tmp_path / 'results.png') as image:
        assert image.format == 'PNG' and image.width == 1800  # 12 inches of 150 dots


def test_the_report_of_several_seeds_explains_its_intervals(plan, arguments, tmp_path):
    """Two epochs where some runs ended later: both are named; several numbers of images have no common error."""
    results = [
        *(RunResult('none', seed, {0: 40.0, 1: 50.0 + seed}, None, 400) for seed in (1, 3)),
        *(RunResult('hmix', seed, {0: 40.0, 2: 52.0}, None, None) for seed in (1, 3)),
    ]
    argv = [*arguments(tmp_path), '--modes', 'none', 'hmix', '--seeds', '1', '2', '3']
    text, screen = report(plan, tmp_path, argv, results)
    assert text.split('\n\n')[2] == (
        'Top-1 on the validation images after the last epoch (2 or 3): '
        'mean ± sample standard deviation over seeds 1, 3.\n'
        "Differences are in percentage points, paired by seed, with their 95 % interval (Student's t, n − 1): "
        '"worse" where all of it is below 0, "not better" where it holds 0.\n'
        '± images: the standard error that 400 validation images alone make, √(p (1 − p) / n); the seeds share them.\n'
        'The time of an epoch is that of training and validation.'
    )
    assert 'Failed' not in text and 'failed' not in screen


def test_the_report_without_a_baseline_explains_no_difference(plan, arguments, tmp_path):
    argv = [*arguments(tmp_path), '--modes', 'hmix', '--seeds', '1']
    text, _ = report(plan, tmp_path, argv, [RunResult('hmix', 1, {0: 50.0}, None)])
    assert text.split('\n\n')[2] == (
        'Top-1 on the validation images after the last epoch (1): seed 1.\n'
        'The time of an epoch is that of training and validation.'
    )


def test_the_report_says_where_the_published_numbers_stand(plan, tmp_path):
    results = [RunResult('hmix', 0, {299: 75.0}, None, 10_000)]
    text, _ = report(plan, tmp_path, [*CIFAR, '--modes', 'hmix', '--seeds', '0'], results)
    assert 'Published: Table 2, WRN28-2 of "A Unified Analysis of Mixed Sample Data Augmentation".\n' in text
    assert '75.68 |' in text


def test_the_report_says_what_was_given_beside_the_recipe(plan, arguments, tmp_path):
    argv = [*arguments(tmp_path, '--epochs', '3', '--model', 'test_mambaout'), '--seeds', '0']
    argv += ['--modes', 'none', 'hmix', 'gmix', '--mix-alpha', '0.5', '--hmix-ratio', '0.25', '--nproc-per-node', '2']
    text, _ = report(plan, tmp_path, argv, [RunResult('none', 0, {0: 50.0}, None)])
    (line,) = (line for line in text.splitlines() if line.startswith('- arguments: '))
    given = f'--standalone --nproc-per-node=2 --data-dir {argv[argv.index("--data-dir") + 1]} --epochs 3'
    assert line == f'- arguments: `{given} --model test_mambaout --mix-alpha 0.5 --hmix-ratio 0.25`'
    assert '- script' not in text and '- trained' not in text


def test_the_report_names_the_script_that_trained(plan, arguments, tmp_path):
    comparison = plan([*arguments(tmp_path), '--modes', 'none', '--seeds', '0'])
    comparison = dataclasses.replace(comparison, script=Path('/timm/train.py'), arguments=())
    result = RunResult('none', 0, {0: 50.0}, None, 16, 3, 2)
    write_report(comparison, Outcome([result], [], ''))
    text = (tmp_path / 'results.md').read_text()
    assert '\n- script: `/timm/train.py`\n- trained 3 runs at once, 2 threads in each process\n' in text
    assert '- arguments' not in text


@pytest.mark.parametrize(
    'more',
    [
        ['--output', 'elsewhere', '--jobs', '1'],
        ['--device', 'cpu', '--pin-mem', '--log-interval', '7', '--checkpoint-hist', '3', '--no-prefetcher'],
        ['--channels-last', '--amp-dtype', 'bfloat16', '--recovery-interval', '9', '-vb', '32', '--val-interval', '2'],
        ['--torchcompile', '--log-wandb', '--wandb-project', 'mine', '--wandb-tags', 'a', 'b'],
    ],
)
def test_where_and_how_fast_it_runs_leaves_the_papers_numbers_beside_it(beside, more):
    assert beside([*CIFAR, '--modes', 'gmix', *more]) == {'gmix': 76.15}


def test_the_papers_numbers_are_those_of_the_modes_that_were_asked_for(beside):
    assert beside([*CIFAR, '--modes', 'gmix', 'none', 'puzzlemix']) == {
        'gmix': 76.15,
        'none': 73.50,
        'puzzlemix': 76.51,
    }


def test_half_the_runs_on_other_data_take_the_papers_numbers_away(plan):
    results = [RunResult('none', seed, {299: 70.0}, None, images) for seed, images in ((0, 10_000), (1, 500))]
    assert paper_top1(plan(CIFAR), results) == {}
