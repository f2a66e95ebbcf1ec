"""The table, the report and the picture, with numbers computed by hand."""

import csv
import math
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from PIL import Image
from scipy import stats

from train_patch.compare import main
from train_patch.comparison.plot import plot_reliability, plot_results
from train_patch.comparison.reading import RunResult
from train_patch.comparison.report import (
    collect,
    screen_text,
    settings,
    table_text,
    write_pictures,
    write_report,
)
from train_patch.comparison.results import (
    Results,
    Row,
    evaluated_table,
    holm,
    make_table,
    students_t,
)
from train_patch.recipes.published import Published

NAMES = ('none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix')
COLOURS = dict(zip(NAMES, ('#000000', '#111111', '#222222', '#333333', '#D55E00', '#444444'), strict=True))
HALF = 4.302653 * 2 / math.sqrt(3)  # 4.302653: the 97.5 % quantile of Student's t with 2 degrees of freedom


def result(variant, seed, top1, seconds=None, **more):
    return RunResult(variant, seed, {0: 99.0, 4: top1}, seconds, **more)  # top-1 is the last epoch's


def failed(variant, seed, problem, folder=Path('a')):
    return RunResult(variant, seed, {}, problem=problem, folder=folder)


@pytest.fixture
def made_up():
    """hmix lies above none by 3, 5 and 7, and above cutmix by 2 with one seed in common; gmix by nothing clear."""
    results = [
        result('hmix', 2, 75.0, 2.0),
        result('hmix', 1, 73.0),
        result('hmix', 5, 77.0, 4.0),
        result('none', 1, 70.0, 1.0),
        result('none', 2, 70.0, 3.0),
        result('none', 5, 70.0, 5.0),
        result('cutmix', 2, 73.0),
        result('gmix', 1, 69.0),
        result('gmix', 2, 72.0),
        failed('cutmix', 1, 'exit status 1: out of memory'),
        failed('cutmix', 5, 'exit status 1: the loss is nan in epoch 3: training has diverged'),
        failed('mixup', 1, 'signal 9: Killed'),
        result('gmix', 5, 1.0, epochs=6),
    ]
    rows = [Row(mode, colour=colour) for mode, colour in COLOURS.items()]
    return Results('made up', rows, results, images=400, published=Published(top1={'hmix': 78.38}))


@pytest.mark.parametrize('count', [2, 3, 10])
def test_the_interval_is_that_of_the_paired_t_test(count):
    one = {seed: 50 + 3 * math.sin(seed) for seed in range(count)}
    other = {seed: 49 + 2 * math.cos(3 * seed) for seed in range(count)}
    test = stats.ttest_rel(list(one.values()), list(other.values()))
    interval = test.confidence_interval(0.95)
    mean, low, high, p = students_t([one[seed] - other[seed] for seed in one])
    assert (low, high, 2 * mean, p) == pytest.approx((interval.low, interval.high, low + high, test.pvalue))


def test_only_seeds_that_both_rows_have_are_compared():
    runs = [result('hmix', seed, top1) for seed, top1 in {1: 3.0, 2: 5.0, 3: 100.0}.items()]
    runs += [result('none', seed, top1) for seed, top1 in {2: 4.0, 4: 0.0}.items()]
    none, hmix = make_table(Results('x', [Row('none'), Row('hmix')], runs))
    assert [hmix[f'difference_to_none{end}'] for end in ('', '_low', '_high', '_p')] == [1.0, None, None, None]
    assert none['difference_to_none'] is None and students_t([]) == (None, None, None, None)


def test_pairs_that_never_differ_have_no_doubt():
    assert students_t([1.0, 1.0]) == (1.0, 1.0, 1.0, 0.0)
    assert students_t([0.0, 0.0]) == (0.0, 0.0, 0.0, 1.0)
    runs = [result(mode, seed, 70.0) for mode in ('none', 'hmix') for seed in (1, 2)]
    assert '+0.00 [+0.00, +0.00] undecided' in table_text([Results('x', [Row('none'), Row('hmix')], runs)])


def test_holms_correction_is_that_of_the_step_down_by_hand():
    # 3 · .01, then max(.03, 2 · .02), then max(.04, .03): the last is no less than the one before
    assert holm({'a': 0.03, 'b': 0.01, 'c': 0.02}) == pytest.approx({'b': 0.03, 'c': 0.04, 'a': 0.04})
    assert holm({'a': 0.9, 'b': 0.6}) == {'b': 1.0, 'a': 1.0} and holm({}) == {}


def test_only_p_values_are_corrected_whatever_a_baseline_is_called():
    runs = [
        result(name, seed, top1) for name, top1 in {'warp': 7.0, 'warp_p': 4.0, 'none': 1.0}.items() for seed in (1, 2)
    ]
    rows = [Row(name) for name in ('none', 'warp', 'warp_p')]
    table = make_table(Results('x', rows, runs, ['warp_p'], holm=True))
    assert [row['difference_to_warp_p'] for row in table] == [-3.0, 3.0, None]


def test_the_csv_table_holds_all_digits(made_up):
    rows = list(csv.DictReader(table_text([made_up], 'csv').splitlines()))
    assert [row['mode'] for row in rows] == ['none', 'mixup', 'cutmix', 'hmix', 'gmix']  # in order, if they were run
    assert ','.join(rows[0]) == (
        'mode,top1_mean,top1_std,difference_to_none,difference_to_none_low,difference_to_none_high,difference_to_none_p,'
        'difference_to_cutmix,difference_to_cutmix_low,difference_to_cutmix_high,difference_to_cutmix_p,image_error,'
        'runs,failed,diverged,unfinished,epoch_seconds,peak_memory,published,top1_seed1,top1_seed2,top1_seed5,'
        'epoch_seconds_to_none,peak_memory_to_none'
    )
    hmix = dict(rows[3])
    ends = [f'difference_to_none{end}' for end in ('_low', '_high', '_p')]
    exact = {name: float(hmix.pop(name)) for name in (*ends, 'image_error')}
    error = 100 * math.sqrt(0.75 * 0.25 / 400)
    p = stats.ttest_1samp([3, 5, 7], 0).pvalue
    assert list(exact.values()) == pytest.approx([5 - HALF, 5 + HALF, p, error], abs=1e-5)
    values = 'hmix,75.0,2.0,5.0,2.0,,,,3,0,0,0,3.0,,78.38,73.0,75.0,77.0,1.0,'
    assert ','.join(hmix.values()) == values
    assert ','.join(rows[2].values()).startswith('cutmix,73.0,,3.0,,,,,,,,2.2') and rows[2]['diverged'] == '1'


def cells(text):
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines()]


def test_the_markdown_table_shows_intervals_and_verdicts(made_up):
    header, _, none, mixup, cutmix, hmix, gmix = cells(table_text([made_up]))
    columns = 'mode, top-1 (%), difference to none, difference to cutmix, ± images, runs, s / epoch'
    assert header == [*columns.split(', '), 's / epoch ÷ none', 'published (%)']
    assert none == ['none', '70.00 ± 0.00', '–', '-3.00', '2.29', '3', '3', '1.00', '–']
    assert mixup == ['mixup', '–', '–', '–', '–', '0, 1 failed', '–', '–', '–']
    assert cutmix == ['cutmix', '73.00', '+3.00', '–', '2.22', '1, 1 failed, 1 diverged', '–', '–', '–']
    assert hmix == ['hmix', '75.00 ± 2.00', '+5.00 [+0.03, +9.97] better', '+2.00', '2.17', '3', '3', '1.00', '78.38']
    # -1 and +2: half a width of 12.7062 · 2.1213 / √2
    assert gmix[:4] == ['gmix', '70.50 ± 2.12', '+0.50 [-18.56, +19.56] undecided', '-1.00']
    assert gmix[4:] == ['2.28', '2, 1 unfinished', '–', '–', '–']
    made_up.holm = True  # a row is better only if it stays so among all: twice its own p, the smaller of two
    assert cells(table_text([made_up]))[5][2] == '+5.00 [+0.03, +9.97], p 0.099 undecided'


def test_what_was_evaluated_has_its_own_table_paired_by_the_seeds_that_were(tmp_path):
    bins = [[0.0, 0.0, 0.0]] * 14 + [[20.0, 19.0, 15.0]]
    values = {'none': [(10.0, 2.0, 100), (12.0, 3.0, 100)], 'hmix': [(15.0, 10.0, 140), (18.0, 12.0, 160)]}
    runs = [
        result(mode, seed, 50.0, memory=memory, evaluated={'fgsm': fgsm, 'ema_ece': ece, 'noise': 1.0, 'bins': bins})
        for mode, several in values.items()
        for seed, (fgsm, ece, memory) in enumerate(several)
    ]
    results = Results('x', [Row('none'), Row('hmix'), Row('gmix')], [*runs, result('hmix', 7, 50.0)])
    fgsm, ece = 'top-1 under FGSM (%)', 'calibration error, ECE (%), averaged weights'
    # half a width: 12.7062 · 0.7071 / √2
    assert [tuple(row.values()) for row in evaluated_table(results)] == [
        (fgsm, 'none', '11.00 ± 1.41', None),
        (fgsm, 'hmix', '16.50 ± 2.12', '+5.50 [-0.85, +11.85] undecided'),
        (ece, 'none', '2.50 ± 0.71', None),
        (ece, 'hmix', '11.00 ± 1.41', '+8.50 [+2.15, +14.85] worse'),
    ]
    none, hmix = make_table(results)
    assert (none['peak_memory_to_none'], hmix['peak_memory'], hmix['peak_memory_to_none']) == (1.0, 150.0, 1.5)
    assert hmix['fgsm_difference_to_none'] == 5.5 and hmix['fgsm_mean'] == 16.5
    lines = plot_reliability(results).axes[0].lines
    assert [line.get_label() for line in lines[1:]] == ['none', 'hmix']
    assert lines[2].get_xydata().tolist() == [[95.0, 75.0]]


def test_a_row_is_worse_only_if_its_whole_interval_is_below_0():
    results = [result('none', seed, 70.0) for seed in (1, 2)] + [
        result('hmix', seed, 60.0 + seed / 9) for seed in (1, 2)
    ]
    header, *_, hmix = cells(table_text([Results('x', [Row('none'), Row('hmix')], results)]))
    assert hmix[2].endswith('] worse') and header == ['mode', 'top-1 (%)', 'difference to none', 'runs']


def test_a_lower_loss_is_better_and_has_four_digits():
    losses = {'none': (0.5, 0.6, 0.7), 'hmix': (0.3, 0.41, 0.5)}
    runs = [
        result(mode, seed, loss, metric='train_loss') for mode, row in losses.items() for seed, loss in enumerate(row)
    ]
    text = screen_text([Results('x', [Row('none'), Row('hmix')], runs)])
    header, _, _, hmix, *_ = cells(text)
    assert 'Train_loss after the last epoch' in text and header[1] == 'train_loss' and hmix[1] == '0.4033 ± 0.1002'
    assert hmix[2].startswith('-0.1967 [-0.2') and hmix[2].endswith('] better')


def test_a_baseline_may_be_any_row_and_rows_are_compared_within_their_own_training():
    rows = [Row(mode, (('lr', lr),)) for mode in ('none', 'hmix') for lr in ('0.1', '0.2')]
    values = dict(zip(rows, (50.0, 60.0, 51.0, 63.0), strict=True))
    runs = [result(row.name, 0, value) for row, value in values.items()]
    results = Results('x', rows, runs)
    assert [row['difference_to_none'] for row in make_table(results)] == [None, None, 1.0, 3.0]
    results.asked = ['hmix lr=0.2']
    assert [row['difference_to_hmix lr=0.2'] for row in make_table(results)] == [-13.0, -3.0, -12.0, None]


def test_runs_that_differ_in_more_than_their_rows_say_are_not_paired(tmp_path):
    rows = [Row('none', (('model', 'a'),)), Row('hmix', (('model', 'a'),))]
    settings = {'none': {'epochs': 5, 'lr': 0.1, 'mix_mode': 'none', 'workers': 1, 'model': 'a', 'odd': 1}}
    settings['hmix'] = {'epochs': 6, 'lr': 0.2, 'mix_mode': 'hmix', 'workers': 2, 'model': 'a'}
    runs = [result(row.name, 0, 50.0, arguments=settings[row.mode]) for row in rows]
    results = Results('x', rows, runs)
    assert make_table(results)[1]['difference_to_none'] is None
    screen = write_report([results], tmp_path)
    assert 'Not compared:\n- hmix model=a with none: epochs is 6 and 5, lr is 0.2 and 0.1' in screen


def test_the_picture_shows_mean_curves_and_the_differences_with_their_intervals(made_up):
    curves, differences = plot_results(made_up).axes
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
    result = RunResult('hmix', 1, dict(enumerate([1, 50, 60, 60, 60, 60, 60, 65.0])))
    (curves,) = plot_results(Results('x', [Row('hmix')], [result])).axes
    assert curves.get_ylim()[0] == 49 and curves.get_ylim()[1] > 65


def test_the_picture_shows_the_metric_over_the_one_number_that_varies():
    ratios = {'0.25': (60, 62), '1': (70, 72), '.5': (64, 66)}
    rows = [Row('none'), Row('hmix'), *(Row('hmix', (('hmix_ratio', ratio),), '#D55E00') for ratio in ratios)]
    values = {'none': (50, 52), 'hmix': (67, 69)} | {f'hmix hmix_ratio={key}': top1 for key, top1 in ratios.items()}
    default = {'arguments': {'hmix_ratio': 0.75}}
    runs = [result(name, seed, top1, **default) for name, row in values.items() for seed, top1 in enumerate(row)]
    _, over, _ = plot_results(Results('x', rows, runs)).axes
    (line,) = over.containers
    assert [list(line.get_ydata()) for line in over.get_lines() if line.get_label() == 'none'] == [[51, 51]]
    assert [list(points) for points in line.lines[0].get_data()] == [[0.25, 0.5, 0.75, 1], [61, 65, 68, 71]]
    ends = [y for _, y in line.lines[2][0].get_segments()[0]]
    interval = stats.t.interval(0.95, 1, loc=61, scale=stats.sem([60, 62]))
    assert ends == pytest.approx(interval) and over.get_xlabel() == 'hmix_ratio'
    words = [Row('hmix', (('model', name),)) for name in ('a', 'b')]
    assert len(plot_results(Results('x', words, [result(row.name, 0, 1) for row in words])).axes) == 1


def test_several_recipes_stand_side_by_side_and_in_latex(made_up):
    other = Results('other_net', made_up.rows[4:], [result('gmix', 1, 80.0), result('gmix', 2, 81.0)])
    header, _, none, *_, gmix = cells(table_text([made_up, other]))
    assert '± images' in screen_text([made_up]) and '± images' not in screen_text([made_up, other])
    assert header == ['mode', 'made up', 'other_net'] and none == ['none', '70.00 ± 0.00', '–']
    assert gmix == ['gmix', '70.50 ± 2.12, +0.50 [-18.56, +19.56] undecided', '80.50 ± 0.71']
    lines = table_text([made_up, other], 'latex').splitlines()
    assert lines[:4] == [r'\begin{tabular}{lrr}', r'\toprule', r'mode & made up & other\_net \\', r'\midrule']
    assert lines[4] == r'none & 70.00 $\pm$ 0.00 & -- \\' and lines[-1] == r'\end{tabular}'
    rows = list(csv.DictReader(table_text([made_up, other], 'csv').splitlines()))
    assert [(row['recipe'], row['mode'], row['top1_mean']) for row in rows][-2:] == [
        ('made up', 'gmix', '70.5'),
        ('other_net', 'gmix', '80.5'),
    ]


@pytest.fixture
def report(plan, arguments, tmp_path):
    """`report(results, *more)`: the blocks of results.md, and the text for the screen."""

    def write(results, *more):
        comparison = plan([*arguments(tmp_path, *more), '--modes', 'none', 'hmix', '--seeds', '1', '2'])
        comparison.results, comparison.images = list(results), 400
        collected = collect(comparison)
        text = write_report([collected], tmp_path, settings(comparison))
        screen = '\n'.join([text, *write_pictures(collected, tmp_path)])
        return (tmp_path / 'results.md').read_text().split('\n\n'), screen

    return write


def test_the_report_explains_its_table_and_says_how_the_runs_were_trained(report, work, tmp_path):
    results = [result(mode, seed, 50.0 + seed, 1.0) for mode in ('none', 'hmix') for seed in (1, 2)]
    blocks, screen = report(results, '--mix-alpha', '0.5', '--hmix-ratio', '0.5')
    title, table, explanation, about, picture = blocks
    assert screen == f'\n\n{table}\n\n{explanation}\n\n{tmp_path}/results.md, results.csv\n{tmp_path}/results.png'
    assert title == '# recipe: comparison of mix modes' and table.startswith('| mode |')
    assert explanation == (
        'Top-1 on the validation images after the last epoch (5): mean ± sample standard deviation over seeds 1, 2.\n'
        "Differences are in percentage points, paired by seed, with their 95 % interval (Student's t, n − 1): "
        '"better" or "worse" if all of it is on that side, "undecided" else.\n'
        '± images: the standard error due to 400 validation images alone, √(p (1 − p) / n); all seeds share them.\n'
        'The time of an epoch, training and validation, depends on what else the machine did, such as other runs '
        'beside it; hmix-bench times the methods.'
    )
    assert about == (
        f'- recipe: `{work / "recipe.yaml"}`\n'
        f'- arguments: `--data-dir {work / "data"} --mix-alpha 0.5 --hmix-ratio 0.5`'
    )
    assert picture == '![validation curves and differences](results.png)\n'
    with Image.open(tmp_path / 'results.png') as image:
        assert image.format == 'PNG' and image.width > 800


def test_a_plot_that_fails_does_not_cost_the_table(plan, arguments, tmp_path):
    comparison = plan([*arguments(tmp_path), '--modes', 'none', '--seeds', '1'])
    comparison.variants = (replace(comparison.variants[0], colour='no colour'),)
    comparison.results = [result('none', 1, 50.0)]
    write_report([collect(comparison)], tmp_path)
    with pytest.raises(ValueError, match='no colour'):
        write_pictures(collect(comparison), tmp_path)
    assert sorted(path.name for path in tmp_path.glob('results*')) == ['results.csv', 'results.md']


def test_the_report_claims_no_spread_over_one_seed(report):
    says = 'seed 1.\nDifferences are in percentage points, paired by seed; one seed gives no interval, so no ranking.'
    assert says in report([result(mode, 1, 50.0) for mode in ('none', 'hmix')])[0][2]


def test_the_report_names_failed_runs_and_their_logs(report, tmp_path):
    failure = failed('hmix', 2, 'exit status 1: out of memory', tmp_path)
    blocks, screen = report([result('none', 1, 50.0), failure])
    line = f'- hmix seed 2: exit status 1: out of memory, see {tmp_path}/train.log'
    assert blocks[4:6] == ['Failed:', line] and line in screen
    (tmp_path / 'results.png').write_bytes(b'')  # of an earlier call
    for _ in range(2):
        blocks, screen = report([failure])
    assert cells(blocks[1])[::2] == [['mode', 'top-1 (%)', 'runs'], ['hmix', '–', '0, 1 failed']]
    assert blocks[2] == 'No run has finished.'
    assert 'results.png' not in screen and not (tmp_path / 'results.png').exists()


CIFAR = ['cifar100_wrn28_2', '--data-dir', 'data']
PAPER = {'none': 73.50, 'mixup': 74.05, 'cutmix': 74.79, 'stochastic': 75.49, 'hmix': 75.68, 'gmix': 76.15}


@pytest.fixture
def beside(plan):
    """`beside(argv, images)`: mix mode → the paper's number beside runs on so many validation images."""

    def show(argv, images=10_000):
        comparison = plan(argv)
        comparison.images = images
        return collect(comparison).published.top1

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
    'more', [['--epochs', '1'], ['--lr', '0.1'], ['--dataset', ''], ['--model', 'resnet18'], ['-b', '128']]
)
def test_no_number_of_the_paper_stands_beside_another_training(beside, more):
    assert beside([*CIFAR, *more]) == {}


def test_no_number_of_the_paper_stands_beside_other_data_or_another_recipe(beside, tmp_path, plan):
    assert beside(CIFAR, 500) == {} and beside(CIFAR, None) == PAPER
    copy = tmp_path / 'cifar100_wrn28_2.yaml'
    copy.write_text(plan(CIFAR).recipe.read_text())
    assert beside([copy, '--data-dir', 'data']) == PAPER, 'it is the same'
    copy.write_text(copy.read_text() + 'clip_grad: 1.0\n')
    assert beside([copy, '--data-dir', 'data']) == {}


def test_a_mode_with_other_parameters_has_no_number_of_the_paper(beside):
    modes = ['--modes', 'gmix', 'hmix', 'puzzlemix']
    assert beside([*CIFAR, '--hmix-ratio', '0.75', *modes]) == {'gmix': 76.15, 'puzzlemix': 76.51}


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


def test_the_report_says_where_the_published_numbers_stand_and_so_does_a_table(plan, tmp_path, capsys):
    comparison = plan([*CIFAR, '--modes', 'hmix', '--seeds', '0', '--output', tmp_path])
    comparison.results, (run,) = [result('hmix', 0, 75.0)], comparison.runs
    run.prepare()
    run.summary.write_text('epoch,eval_top1\n299,75.0\n')
    (run.folder / 'args.yaml').write_text(yaml.safe_dump({**run.variant.resolved, 'seed': 0}))
    comparison.claim_folder()
    assert main(['--table', str(tmp_path)]) == 0
    for text in (write_report([collect(comparison)], tmp_path), capsys.readouterr().out):
        assert 'Published: Table 2, WRN28-2 of "A Unified Analysis of Mixed Sample Data Augmentation".\n' in text
        assert '75.68 |' in text
