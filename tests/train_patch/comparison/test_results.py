"""The table and the picture, with numbers computed by hand."""

import csv
import math
from pathlib import Path

import pytest
from scipy import stats

from train_patch.comparison.plot import plot_results
from train_patch.comparison.results import (
    Difference,
    Failure,
    RunResult,
    csv_table,
    epoch_seconds,
    image_error,
    markdown_table,
    paired_difference,
    table,
)

BASELINES = ('none', 'cutmix')
COLOURS = {'none': '#000000', 'cutmix': '#E69F00', 'hmix': '#D55E00', 'gmix': '#CC79A7'}


def result(variant, seed, top1, seconds=None, images=None):
    return RunResult(variant, seed, {0: 40.0, 4: top1}, seconds, images)


def made_up_rows(published=None):
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
        result('gmix', 2, 72.0),
    ]
    failures = [
        Failure('cutmix', 1, 'exit status 1: out of memory', Path('a.log')),
        Failure('cutmix', 5, 'exit status 1: the loss is nan in epoch 3: training has diverged', Path('b.log')),
        Failure('mixup', 1, 'signal 9: Killed', Path('c.log')),
    ]
    names = ['none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix']
    return results, table(results, failures, names, BASELINES, published or {})


def by_name():
    return {row.variant: row for row in made_up_rows({'hmix': 78.38})[1]}


def cells(text):
    return [[cell.strip() for cell in line.strip('|').split('|')] for line in text.splitlines()]


def test_rows_stand_in_the_order_asked_for_without_what_was_never_run():
    assert [row.variant for row in made_up_rows()[1]] == ['none', 'mixup', 'cutmix', 'hmix', 'gmix']


def test_mean_and_standard_deviation_are_those_over_the_seeds():
    row = by_name()['hmix']
    assert row.top1 == {1: 73.0, 2: 75.0, 5: 77.0}
    assert (row.mean, row.std) == (75.0, pytest.approx(2.0))
    assert (by_name()['cutmix'].mean, by_name()['cutmix'].std) == (73.0, None)
    assert (by_name()['mixup'].mean, by_name()['mixup'].std) == (None, None)


def test_differences_are_paired_by_seed_with_students_interval():
    difference = by_name()['hmix'].differences['none']
    # 3, 5, 7: mean 5, standard deviation 2; the 97.5 % quantile of Student's t with 2 degrees of freedom is 4.302653
    half = 4.302653 * 2 / math.sqrt(3)
    assert difference.mean == 5.0
    assert (difference.low, difference.high) == (pytest.approx(5 - half, abs=1e-5), pytest.approx(5 + half, abs=1e-5))


@pytest.mark.parametrize('count', [2, 3, 5, 10])
def test_the_interval_is_the_one_sample_t_tests(count):
    one = {seed: 50 + 3 * math.sin(seed) for seed in range(count)}
    other = {seed: 49 + 2 * math.cos(3 * seed) for seed in range(count)}
    difference = paired_difference(one, other)
    interval = stats.ttest_rel(list(one.values()), list(other.values())).confidence_interval(0.95)
    assert (difference.low, difference.high) == (pytest.approx(interval.low), pytest.approx(interval.high))


def test_only_seeds_that_both_have_count():
    assert paired_difference({1: 3.0, 2: 5.0, 3: 100.0}, {2: 4.0, 4: 0.0}) == Difference(1.0)
    assert paired_difference({1: 3.0}, {2: 4.0}) is None
    assert by_name()['hmix'].differences['cutmix'] == Difference(2.0)


@pytest.mark.parametrize(
    ('low', 'high', 'verdict'),
    [
        (0.1, 0.3, 'better'),
        (-0.1, 0.3, 'not better'),
        (-0.3, -0.1, 'worse'),
        (0.0, 0.0, 'not better'),
        (None, None, ''),
    ],
)
def test_a_mode_is_better_only_where_its_whole_interval_is(low, high, verdict):
    assert Difference(0.1, low, high).verdict == verdict


def test_the_images_alone_make_a_binomial_standard_error():
    assert image_error(50.0, 100) == 5.0  # √(0.5 · 0.5 / 100)
    assert image_error(90.0, 900) == pytest.approx(1.0)  # √(0.9 · 0.1 / 900)
    assert by_name()['hmix'].image_error == pytest.approx(100 * math.sqrt(0.75 * 0.25 / 400))
    assert by_name()['gmix'].image_error is None  # nobody knows how many images


def test_time_per_epoch_is_the_mean_of_what_was_measured():
    assert (by_name()['none'].epoch_seconds, by_name()['hmix'].epoch_seconds) == (3.0, 3.0)
    assert by_name()['cutmix'].epoch_seconds is None


def test_the_markdown_table_shows_it_all():
    _, rows = made_up_rows({'hmix': 78.38})
    text = markdown_table(rows, BASELINES)
    header, _, none, mixup, cutmix, hmix, gmix = cells(text)
    assert header == [
        'mode',
        'top-1 (%)',
        'difference to none',
        'difference to cutmix',
        '± images',
        'runs',
        's / epoch',
        'published (%)',
    ]
    assert none == ['none', '70.00 ± 0.00', '–', '-3.00', '2.29', '3', '3', '–']
    assert mixup == ['mixup', '–', '–', '–', '–', '0, 1 failed', '–', '–']
    assert cutmix == ['cutmix', '73.00', '+3.00', '–', '2.22', '1, 1 failed, 1 diverged', '–', '–']
    assert hmix == ['hmix', '75.00 ± 2.00', '+5.00 [+0.03, +9.97]', '+2.00', '2.17', '3', '3', '78.38']
    # -1 and +2: half a width of 12.7062 · 2.1213 / √2
    assert gmix == ['gmix', '70.50 ± 2.12', '+0.50 [-18.56, +19.56] not better', '-1.00', '–', '2', '–', '–']
    assert len({len(line) for line in text.splitlines()}) == 1  # in columns


def test_columns_that_would_be_empty_are_left_out_of_the_markdown_table():
    rows = table([RunResult('gmix', 0, {0: 12.5}, None)], [], ['gmix'], BASELINES, {})
    assert cells(markdown_table(rows, BASELINES))[0] == ['mode', 'top-1 (%)', 'runs', 's / epoch']
    assert cells(markdown_table(rows, BASELINES))[2] == ['gmix', '12.50', '1', '–']


def test_the_csv_table_holds_all_digits():
    _, rows = made_up_rows({'hmix': 78.38})
    read = {row['mode']: row for row in csv.DictReader(csv_table(rows, BASELINES, [1, 2, 5]).splitlines())}
    hmix = read['hmix']
    assert {name: hmix[name] for name in ('top1_mean', 'difference_to_none', 'difference_to_cutmix', 'runs')} == {
        'top1_mean': '75.0',
        'difference_to_none': '5.0',
        'difference_to_cutmix': '2.0',
        'runs': '3',
    }
    assert {name: hmix[name] for name in ('epoch_seconds', 'published', 'failed', 'difference_to_cutmix_low')} == {
        'epoch_seconds': '3.0',
        'published': '78.38',
        'failed': '0',
        'difference_to_cutmix_low': '',
    }
    assert float(hmix['difference_to_none_low']) == pytest.approx(5 - 4.302653 * 2 / math.sqrt(3), abs=1e-5)
    assert float(hmix['image_error']) == pytest.approx(2.16506, abs=1e-5)
    assert [hmix[f'top1_seed{seed}'] for seed in (1, 2, 5)] == ['73.0', '75.0', '77.0']
    assert (read['cutmix']['failed'], read['cutmix']['diverged'], read['cutmix']['top1_seed1']) == ('1', '1', '')


def plotted(results, rows):
    figure = plot_results(results, rows, BASELINES, COLOURS, 'made up')
    figure.canvas.draw()
    return figure.axes


def test_curves_of_several_seeds_are_means_in_the_modes_colours():
    results, rows = made_up_rows()
    axes = plotted(results, rows)[0]
    lines = {line.get_color(): list(line.get_ydata()) for line in axes.get_lines()}
    assert lines['#D55E00'] == [40.0, 75.0] and lines['#000000'] == [40.0, 70.0]
    assert axes.get_title() == 'made up: mean ± standard deviation over seeds'


def test_curves_of_one_seed_have_no_spread_in_their_title():
    results = [result('none', 1, 70.0), result('hmix', 1, 73.0)]
    axes = plotted(results, table(results, [], ['none', 'hmix'], BASELINES, {}))[0]
    assert axes.get_title() == 'made up: one seed'
    assert not any('±' in text.get_text() for text in axes.get_legend().get_texts())


@pytest.mark.parametrize('epochs', [1, 2, 3, 7])
def test_epochs_are_marked_as_whole_numbers(epochs):
    results = [RunResult(name, 1, {epoch: 50.0 + epoch for epoch in range(epochs)}, None) for name in ('none', 'hmix')]
    axes = plotted(results, table(results, [], ['none', 'hmix'], BASELINES, {}))[0]
    low, high = axes.get_xlim()
    shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
    assert shown and all(tick == round(tick) for tick in shown)


def test_the_picture_of_the_differences_shows_the_intervals():
    results, rows = made_up_rows()
    axes = plotted(results, rows)[1]
    ends = [list(line.get_xdata()) for line in axes.get_lines() if line.get_color() == '#D55E00']
    half = 4.302653 * 2 / math.sqrt(3)
    assert ends[0] == pytest.approx([5 - half, 5 + half], abs=1e-5)
    assert ends[1:] == [[5.0], [2.0]]


def test_there_is_no_picture_of_differences_without_a_baseline():
    results = [result('hmix', 1, 73.0), result('gmix', 1, 70.0)]
    assert len(plotted(results, table(results, [], ['hmix', 'gmix'], BASELINES, {}))) == 1


def drawn(results, failures=(), names=('none', 'cutmix', 'hmix')):
    rows = table(results, list(failures), names, BASELINES, {})
    return plotted(results, rows)


def curve_of(axes, colour):
    (line,) = (line for line in axes.get_lines() if line.get_color() == colour)
    return list(line.get_xdata()), list(line.get_ydata())


def test_curves_are_means_over_the_epochs_that_all_seeds_have_with_a_band_of_one_standard_deviation():
    results = [
        RunResult('hmix', 1, {0: 10.0, 1: 50.0, 2: 99.0, 3: 60.0}, None),
        RunResult('hmix', 2, {0: 20.0, 1: 54.0, 3: 64.0}, None),
        RunResult('gmix', 1, {0: 5.0, 1: 6.0, 2: 7.0, 3: 8.0}, None),
    ]
    (axes,) = drawn(results, names=('hmix', 'gmix'))
    assert curve_of(axes, COLOURS['hmix']) == ([1, 2, 4], [15.0, 52.0, 62.0])
    assert curve_of(axes, COLOURS['gmix']) == ([1, 2, 3, 4], [5.0, 6.0, 7.0, 8.0])
    band, line = (collection.get_paths()[0].vertices for collection in axes.collections)
    one, two = math.sqrt(50), math.sqrt(8)  # of 10 and 20, and of two numbers 4 apart
    edges = {(1, 15 - one), (1, 15 + one), (2, 52 - two), (2, 52 + two), (4, 62 - two), (4, 62 + two)}
    assert {(x, round(y, 6)) for x, y in band} == {(x, round(y, 6)) for x, y in edges}
    assert {(x, y) for x, y in line} == {(1, 5.0), (2, 6.0), (3, 7.0), (4, 8.0)}  # one seed has no spread
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ['hmix  62.00 ± 2.83', 'gmix  8.00']
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('epoch', 'validation top-1 (%)')
    assert axes.get_legend().get_title().get_text() == 'last epoch'


@pytest.mark.parametrize(
    ('curve', 'limits'),
    [
        # eight epochs: those before the second are not looked at; a point of room below and above
        ([1, 50, 60, 60, 60, 60, 60, 65], (49, 66)),
        ([1, 70, 60, 60, 60, 60, 60, 65], (59, 71)),
        ([0, 0.5, 60, 60, 60, 60, 60, 99.5], (0, 100)),
        ([40], (39, 41)),
    ],
)
def test_the_picture_of_the_curves_leaves_out_what_is_near_chance(curve, limits):
    (axes,) = drawn([RunResult('hmix', 1, dict(enumerate(map(float, curve))), None)])
    assert axes.get_ylim() == limits


def test_the_last_epoch_is_in_the_picture_where_epochs_are_rarely_validated():
    results = [RunResult('hmix', 1, {9: 60.0}, None), RunResult('gmix', 1, {0: 30.0, 9: 50.0}, None)]
    (axes,) = drawn(results, names=('hmix', 'gmix'))
    assert axes.get_ylim() == (49, 61)


def test_the_picture_of_the_differences_has_a_place_for_every_row_and_baseline():
    results, rows = made_up_rows()
    axes = plotted(results, rows)[1]
    names = ['none', 'cutmix', 'hmix', 'gmix']  # mixup has no run
    assert [label.get_text() for label in axes.get_yticklabels()] == names and list(axes.get_yticks()) == [0, 1, 2, 3]
    assert axes.get_ylim() == (3.5, -0.5)  # the first row on top
    marks = {
        (line.get_color(), line.get_markerfacecolor()): line for line in axes.get_lines() if line.get_marker() == 'o'
    }
    shown = {key: (line.get_xdata()[0], line.get_ydata()[0]) for key, line in marks.items() if len(line.get_xdata())}
    own = {name: COLOURS[name] for name in names}
    assert {key: x for key, (x, _) in shown.items()} == {
        (own['none'], 'white'): -3.0,
        (own['cutmix'], own['cutmix']): 3.0,
        (own['hmix'], own['hmix']): 5.0,
        (own['hmix'], 'white'): 2.0,
        (own['gmix'], own['gmix']): 0.5,
        (own['gmix'], 'white'): -1.0,
    }
    # beside each other around the row's line: the first baseline above, the second below
    assert {key: y for key, (_, y) in shown.items()} == pytest.approx(
        {
            (own['none'], 'white'): 0.12,
            (own['cutmix'], own['cutmix']): 0.88,
            (own['hmix'], own['hmix']): 1.88,
            (own['hmix'], 'white'): 2.12,
            (own['gmix'], own['gmix']): 2.88,
            (own['gmix'], 'white'): 3.12,
        }
    )
    intervals = [line for line in axes.get_lines() if line.get_marker() != 'o' and len(set(line.get_xdata())) == 2]
    assert [(line.get_color(), line.get_ydata()[0]) for line in intervals] == [(own['hmix'], 1.88), (own['gmix'], 2.88)]
    legend = axes.get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ['to none', 'to cutmix']
    assert [handle.get_markerfacecolor() for handle in legend.legend_handles] == ['grey', 'white']
    assert axes.get_title() == 'difference, paired by seed, 95 % interval'
    assert axes.get_xlabel() == 'percentage points'
    assert [0, 0] in [list(line.get_xdata()) for line in axes.get_lines()]  # where there is no difference


def test_one_seed_has_no_interval_in_the_picture_and_one_baseline_the_rows_own_line():
    results = [result('none', 1, 70.0), result('hmix', 1, 73.0)]
    _, axes = drawn(results)
    (mark,) = (line for line in axes.get_lines() if line.get_color() == COLOURS['hmix'])
    assert (list(mark.get_xdata()), list(mark.get_ydata())) == ([3.0], [1.0])
    assert axes.get_title() == 'difference, paired by seed'
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ['to none']


def test_the_csv_table_is_what_pythons_reader_and_a_spreadsheet_take():
    """One line a row, with the ends of lines that the other tables have."""
    results = [result('none', 3, 50.0, 1.5, 100), result('hmix', 3, 53.25)]
    rows = table(results, [], ['none', 'hmix'], ['none'], {'hmix': 54.5})
    assert csv_table(rows, ['none'], [3, 4]) == (
        'mode,top1_mean,top1_std,difference_to_none,difference_to_none_low,difference_to_none_high,image_error,runs,'
        'failed,diverged,epoch_seconds,published,top1_seed3,top1_seed4\n'
        'none,50.0,,,,,5.0,1,0,0,1.5,,50.0,\n'
        'hmix,53.25,,3.25,,,,1,0,0,,54.5,53.25,\n'
    )


def test_a_table_of_times_that_is_not_there_says_nothing(tmp_path):
    assert epoch_seconds(tmp_path / 'times.csv', 1) is None


@pytest.mark.parametrize(('interval', 'seconds'), [(1, 5.0), (2, 4.0), (4, 3.5)])
def test_an_epoch_takes_the_median_of_training_and_its_share_of_a_validation(tmp_path, interval, seconds):
    (tmp_path / 'times.csv').write_text('epoch,train_time,eval_time\n0,90,10\n1,3,2\n2,1,2\n')
    # training and a share of 2 seconds: 3 + 2, 3 + 1, 3 + 0.5; the first epoch holds the start, the last is shorter
    assert epoch_seconds(tmp_path / 'times.csv', interval) == seconds


def test_a_failure_is_told_by_what_it_said():
    failure = Failure('hmix', 4, 'exit status 1: out of memory', Path('a/train.log'))
    assert str(failure) == 'hmix seed 4: exit status 1: out of memory, see a/train.log' and failure.kind == 'failed'
    assert Failure('hmix', 4, 'diverged: train_loss is nan in epoch 1', Path('a/train.log')).kind == 'diverged'


def test_images_that_differ_between_runs_make_no_common_error():
    results = [result('none', 1, 70.0, None, 400), result('none', 2, 72.0, None, 100)]
    assert table(results, [], ['none'], [], {})[0].image_error is None


def test_top1_is_that_of_the_last_epoch_and_not_of_the_best():
    assert RunResult('none', 1, {0: 40.0, 9: 70.0, 10: 65.0}, None).top1 == 65.0
