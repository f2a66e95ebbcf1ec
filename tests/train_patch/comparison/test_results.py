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
        *(result('hmix', 2, 75.0, 2.0, 400), result('hmix', 1, 73.0, None, 400), result('hmix', 5, 77.0, 4.0, 400)),
        *(result('none', 1, 70.0, 1.0, 400), result('none', 2, 70.0, 3.0, 400), result('none', 5, 70.0, 5.0, 400)),
        *(result('cutmix', 2, 73.0, None, 400), result('gmix', 1, 69.0), result('gmix', 2, 72.0)),
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
        *('mode', 'top-1 (%)', 'difference to none', 'difference to cutmix', '± images', 'runs', 's / epoch'),
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
        **dict(top1_mean='75.0', difference_to_none='5.0', difference_to_cutmix='2.0', runs='3')
    }
    assert {name: hmix[name] for name in ('epoch_seconds', 'published', 'failed', 'difference_to_cutmix_low')} == {
        **dict(epoch_seconds='3.0', published='78.38', failed='0', difference_to_cutmix_low='')
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
