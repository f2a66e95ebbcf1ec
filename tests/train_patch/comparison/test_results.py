"""The table, the report and the picture, with numbers computed by hand."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from scipy import stats

from train_patch.comparison.plot import plot_results
from train_patch.comparison.report import paper_top1, write_picture, write_report
from train_patch.comparison.results import (
    Failure,
    RunResult,
    csv_table,
    image_error,
    make_table,
    markdown_table,
    paired_difference,
)
from train_patch.recipes.published import PUBLISHED

BASELINES = ('none', 'cutmix')
NAMES = ('none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix')
HALF = 4.302653 * 2 / math.sqrt(3)  # 4.302653: the 97.5 % quantile of Student's t with 2 degrees of freedom


def result(variant, seed, top1, seconds=None, images=None, **facts):
    return RunResult(variant, seed, {0: 99.0, 4: top1}, seconds, images, **facts)  # top-1 is the last epoch's


@pytest.fixture
def made_up():
    """hmix lies above none by 3, 5 and 7, and above cutmix by 2 with one seed in common; gmix by nothing clear."""
    results = [
        result('hmix', 2, 75.0, 2.0, 400),
        result('hmix', 1, 73.0, None, 400),
        result('hmix', 5, 77.0, 4.0, 400),
        result('none', 1, 70.0, 1.0, 400),
        result('none', 2, 70.0, 3.0, 400),
        result('none', 5, 70.0, 5.0, 400),
        result('cutmix', 2, 73.0, None, 400),
        result('gmix', 1, 69.0),
        result('gmix', 2, 72.0, None, 400),
    ]
    failures = [
        Failure('cutmix', 1, 'exit status 1: out of memory', Path('a.log')),
        Failure('cutmix', 5, 'exit status 1: the loss is nan in epoch 3: training has diverged', Path('b.log')),
        Failure('mixup', 1, 'signal 9: Killed', Path('c.log')),
    ]
    return results, make_table(results, failures, NAMES, BASELINES, (1, 2, 5), {'hmix': 78.38})


@pytest.mark.parametrize('count', [2, 3, 10])
def test_the_interval_is_that_of_the_paired_t_test(count):
    one = {seed: 50 + 3 * math.sin(seed) for seed in range(count)}
    other = {seed: 49 + 2 * math.cos(3 * seed) for seed in range(count)}
    interval = stats.ttest_rel(list(one.values()), list(other.values())).confidence_interval(0.95)
    mean, low, high = paired_difference(one, other)
    assert (low, high, 2 * mean) == pytest.approx((interval.low, interval.high, low + high))


def test_only_seeds_that_both_rows_have_are_compared():
    assert paired_difference({1: 3.0, 2: 5.0, 3: 100.0}, {2: 4.0, 4: 0.0}) == (1.0, None, None)
    assert paired_difference({1: 3.0}, {2: 4.0}) == (None, None, None)


def test_the_images_alone_make_a_binomial_standard_error():
    assert image_error(50.0, 100) == 5.0  # √(0.5 · 0.5 / 100)
    assert image_error(90.0, 900) == pytest.approx(1.0)  # √(0.9 · 0.1 / 900)


def test_the_csv_table_holds_all_digits(made_up):
    rows = list(csv.DictReader(csv_table(made_up[1]).splitlines()))
    assert [row['mode'] for row in rows] == ['none', 'mixup', 'cutmix', 'hmix', 'gmix']  # in order, if they were run
    assert ','.join(rows[0]) == (
        'mode,top1_mean,top1_std,difference_to_none,difference_to_none_low,difference_to_none_high,difference_to_cutmix,'
        'difference_to_cutmix_low,difference_to_cutmix_high,image_error,runs,failed,diverged,epoch_seconds,published,'
        'top1_seed1,top1_seed2,top1_seed5'
    )
    hmix = dict(rows[3])
    exact = {
        name: float(hmix.pop(name)) for name in ('difference_to_none_low', 'difference_to_none_high', 'image_error')
    }
    error = 100 * math.sqrt(0.75 * 0.25 / 400)
    assert list(exact.values()) == pytest.approx([5 - HALF, 5 + HALF, error], abs=1e-5)
    values = 'hmix,75.0,2.0,5.0,2.0,,,3,0,0,3.0,78.38,73.0,75.0,77.0'
    assert ','.join(hmix.values()) == values
    assert ','.join(rows[2].values()).startswith('cutmix,73.0,,3.0,,,,,,2.2') and rows[2]['diverged'] == '1'


def cells(text):
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines()]


def test_the_markdown_table_shows_intervals_and_verdicts(made_up):
    header, _, none, mixup, cutmix, hmix, gmix = cells(markdown_table(made_up[1], BASELINES))
    columns = 'mode, top-1 (%), difference to none, difference to cutmix, ± images, runs, s / epoch, published (%)'
    assert header == columns.split(', ')
    assert none == ['none', '70.00 ± 0.00', '–', '-3.00', '2.29', '3', '3', '–']
    assert mixup == ['mixup', '–', '–', '–', '–', '0, 1 failed', '–', '–']
    assert cutmix == ['cutmix', '73.00', '+3.00', '–', '2.22', '1, 1 failed, 1 diverged', '–', '–']
    assert hmix == ['hmix', '75.00 ± 2.00', '+5.00 [+0.03, +9.97]', '+2.00', '2.17', '3', '3', '78.38']
    # -1 and +2: half a width of 12.7062 · 2.1213 / √2; two numbers of images have no common error
    assert gmix == ['gmix', '70.50 ± 2.12', '+0.50 [-18.56, +19.56] not better', '-1.00', '–', '2', '–', '–']


def test_a_row_is_worse_only_if_its_whole_interval_is_below_0():
    results = [result('none', seed, 70.0) for seed in (1, 2)] + [
        result('hmix', seed, 60.0 + seed / 9) for seed in (1, 2)
    ]
    table = make_table(results, [], ('none', 'hmix'), ['none'], (1, 2), {})
    assert cells(markdown_table(table, ['none']))[-1][2].endswith('] worse')
    assert cells(markdown_table(table, ['none']))[0] == ['mode', 'top-1 (%)', 'difference to none', 'runs']


COLOURS = dict(zip(NAMES, ('#000000', '#111111', '#222222', '#333333', '#D55E00', '#444444'), strict=True))


def test_the_picture_shows_mean_curves_and_the_differences_with_their_intervals(made_up):
    results, table = made_up
    curves, differences = plot_results(results, table, BASELINES, COLOURS, 'made up').axes
    lines = {line.get_color(): (list(line.get_xdata()), list(line.get_ydata())) for line in curves.get_lines()}
    assert lines['#D55E00'] == ([1, 5], [99.0, 75.0]) and '#111111' not in lines
    band = curves.collections[2].get_paths()[0].vertices  # of hmix, behind none and cutmix
    assert {(x, y) for x, y in band} == {(1, 99.0), (5, 73.0), (5, 77.0)}
    points = {}
    for bars in differences.containers:
        x, y = bars.lines[0].get_data()
        points[bars.lines[0].get_color(), round(float(x[0]), 6)] = (round(float(y[0])), bars)
    none, cutmix, hmix, gmix = range(4)  # one line for each row that has a run
    assert {key: place for key, (place, _) in points.items()} == {
        ('#000000', -3.0): none,
        ('#222222', 3.0): cutmix,
        ('#D55E00', 5.0): hmix,
        ('#D55E00', 2.0): hmix,
        ('#444444', 0.5): gmix,
        ('#444444', -1.0): gmix,
    }
    (segment,) = points['#D55E00', 5.0][1].lines[2][0].get_segments()
    assert [x for x, _ in segment] == pytest.approx([5 - HALF, 5 + HALF], abs=1e-5)


def test_the_picture_leaves_out_the_first_epochs_and_differences_without_a_baseline():
    """Near chance, the first quarter of a run would flatten all that is to be compared."""
    result = RunResult('hmix', 1, dict(enumerate([1, 50, 60, 60, 60, 60, 60, 65.0])), None)
    table = make_table([result], [], ['hmix'], [], [1], {})
    (curves,) = plot_results([result], table, [], COLOURS, 'x').axes
    assert curves.get_ylim()[0] == 49 and curves.get_ylim()[1] > 65


@pytest.fixture
def report(plan, arguments, tmp_path):
    """`report(results, failures, *more)`: the blocks of results.md, and the text for the screen."""

    def write(results, failures=(), *more):
        comparison = plan([*arguments(tmp_path, *more), '--modes', 'none', 'hmix', '--seeds', '1', '2'])
        comparison.results, comparison.failures = list(results), list(failures)
        screen = f'{write_report(comparison)}\n{write_picture(comparison)}'
        return (tmp_path / 'results.md').read_text().split('\n\n'), screen

    return write


def test_the_report_explains_its_table_and_says_how_the_runs_were_trained(report, work, tmp_path):
    results = [
        result(mode, seed, 50.0 + seed, 1.0, 400, jobs=2, threads=1) for mode in ('none', 'hmix') for seed in (1, 2)
    ]
    blocks, screen = report(results, [], '--mix-alpha', '0.5', '--hmix-ratio', '0.5')
    title, table, explanation, settings, picture = blocks
    assert screen == f'\n\n{table}\n\n{explanation}\n\n{tmp_path}/results.md, results.csv\n{tmp_path}/results.png'
    assert title == '# recipe: comparison of mix modes' and table.startswith('| mode |')
    assert explanation == (
        'Top-1 on the validation images after the last epoch (5): mean ± sample standard deviation over seeds 1, 2.\n'
        "Differences are in percentage points, paired by seed, with their 95 % interval (Student's t, n − 1): "
        '"worse" if all of it is below 0, "not better" if it contains 0.\n'
        '± images: the standard error due to 400 validation images alone, √(p (1 − p) / n); all seeds share them.\n'
        'The time of an epoch is that of training and validation.'
    )
    assert settings == (
        f'- recipe: `{work / "recipe.yaml"}`\n'
        f'- arguments: `--data-dir {work / "data"} --mix-alpha 0.5 --hmix-ratio 0.5`\n'
        '- trained 2 runs at once, 1 thread in each process'
    )
    assert picture == '![validation curves and differences](results.png)\n'
    with Image.open(tmp_path / 'results.png') as image:
        assert image.format == 'PNG' and image.width > 800


def test_a_plot_that_fails_does_not_cost_the_table(plan, arguments, tmp_path):
    comparison = plan([*arguments(tmp_path), '--modes', 'none', '--seeds', '1'])
    comparison.variants = (replace(comparison.variants[0], colour='no colour'),)
    comparison.results = [result('none', 1, 50.0)]
    write_report(comparison)
    with pytest.raises(ValueError, match='no colour'):
        write_picture(comparison)
    assert sorted(path.name for path in tmp_path.glob('results*')) == ['results.csv', 'results.md']


def test_the_report_claims_no_spread_over_one_seed(report):
    explanation = report([result(mode, 1, 50.0) for mode in ('none', 'hmix')])[0][2]
    assert 'seed 1.\nDifferences are in percentage points; one seed gives no interval, so no ranking.' in explanation


def test_the_report_names_failed_runs_and_their_logs(report, tmp_path):
    failure = Failure('hmix', 2, 'exit status 1: out of memory', tmp_path / 'train.log')
    blocks, screen = report([result('none', 1, 50.0)], [failure])
    assert blocks[4:6] == ['Failed:', f'- {failure}'] and f'- {failure}' in screen
    (tmp_path / 'results.png').write_bytes(b'')  # of an earlier call
    for _ in range(2):
        blocks, screen = report([], [failure])
    assert cells(blocks[1])[2] == ['hmix', '–', '0, 1 failed'] and blocks[2] == 'No run has finished.'
    assert 'results.png' not in screen and not (tmp_path / 'results.png').exists()


CIFAR = ['cifar100_wrn28_2', '--data-dir', 'data']
PAPER = {'none': 73.50, 'mixup': 74.05, 'cutmix': 74.79, 'stochastic': 75.49, 'hmix': 75.68, 'gmix': 76.15}


@pytest.fixture
def beside(plan):
    """`beside(argv, *images)`: mix mode → the paper's number beside runs on so many validation images."""

    def show(argv, *images):
        comparison = plan(argv)
        comparison.results = [result('none', seed, 70.0, None, count) for seed, count in enumerate(images or [10_000])]
        return paper_top1(comparison)

    return show


@pytest.mark.parametrize(
    'more',
    [
        [],
        ['--epochs', '300'],
        ['--amp', '--workers', '9', '--dataset-download', '--device', 'cpu', '--log-interval', '7', '--output', 'x'],
        ['--channels-last', '--amp-dtype', 'bfloat16', '-vb', '32', '--val-interval', '2', '--checkpoint-hist', '3'],
        ['--torchcompile', '--log-wandb', '--wandb-project', 'mine', '--pin-mem', '--no-prefetcher', '--jobs', '1'],
    ],
)
def test_the_papers_numbers_stand_beside_the_papers_training(beside, more):
    """Wherever it runs, and however fast."""
    assert beside([*CIFAR, *more]) == PAPER


@pytest.mark.parametrize(
    'more', [['--epochs', '1'], ['--lr', '0.1'], ['--dataset', ''], ['--model', 'cifar_resnet56'], ['-b', '128']]
)
def test_no_number_of_the_paper_stands_beside_another_training(beside, more):
    assert beside([*CIFAR, *more]) == {}


def test_no_number_of_the_paper_stands_beside_other_data_or_another_recipe(beside, tmp_path, plan):
    assert beside(CIFAR, 10_000, 500) == {} and beside(CIFAR, 10_000, None) == PAPER
    copy = tmp_path / 'cifar100_wrn28_2.yaml'
    copy.write_text(plan(CIFAR).recipe.read_text())
    assert beside([copy, '--data-dir', 'data']) == {}


def test_a_mode_with_other_parameters_has_no_number_of_the_paper(beside):
    shown = beside([*CIFAR, '--hmix-ratio', '0.75', '--modes', 'gmix', 'hmix', 'puzzlemix'])
    assert shown == {'gmix': 76.15, 'puzzlemix': 76.51}


def test_table_1s_numbers_stand_beside_the_command_that_its_recipe_gives(beside):
    """With the class map that picks ImageNet-100's folders out of ImageNet's."""
    argv = ['imagenet100_large_crop', '--modes', 'mixup', 'cutmix', '--data-dir', 'data', '--class-map', 'CLASSES.txt']
    assert beside(argv, 5_000) == {'mixup': 58.3, 'cutmix': 64.4}


@pytest.mark.parametrize(
    ('launch', 'shown'),
    [([], False), (['--nproc-per-node', '8'], True), (['--nproc-per-node', '4', '--batch-size', '64'], True)],
)
def test_the_batch_over_all_processes_must_be_the_papers(beside, launch, shown):
    assert bool(beside(['imagenet_resnet50', '--data-dir', 'data', *launch], 50_000)) == shown


def test_the_report_says_where_the_published_numbers_stand(plan, tmp_path):
    comparison = plan([*CIFAR, '--modes', 'hmix', '--seeds', '0', '--output', tmp_path])
    comparison.results = [result('hmix', 0, 75.0, None, 10_000)]
    text = write_report(comparison)
    assert 'Published: Table 2, WRN28-2 of "A Unified Analysis of Mixed Sample Data Augmentation".\n' in text
    assert '75.68 |' in text and PUBLISHED['cifar100_wrn28_2'].top1['hmix'] == 75.68
