"""The numbers behind the plots, on maps that are not square, and what the plots show of them."""

import itertools

import numpy as np
import pytest

from hmix_timm import BoxMask, register_family
from hmix_timm.families import FAMILIES, make_slot
from hmix_timm.theory.coefficients import CoefficientMap, placed_masks
from train_patch.drawing import theory_figures as plots


@pytest.fixture
def dim():
    """A family whose every mask is λ² on the left half and 1 on the right."""

    @register_family('dim', title='Dimmed', options={'power': 2.0})
    def draw(size, lam, options, draws):
        return BoxMask(lam**options.power)

    yield 'dim'
    del FAMILIES['dim']


def test_numbers_lie_along_the_horizontal_axis():
    values = np.arange(5 * 9).reshape(5, 9)  # displacements up to ±2 vertically, ±4 horizontally
    assert plots.along_x(values) == {'0': 22.0, '1': 23.0, '2': 24.0, '4': 26.0}
    assert plots.along_x(values, (0, 3)) == {'0': 22.0, '3': 25.0}


def test_panels_of_figure_5_have_one_scale_and_the_middle_in_the_middle():
    maps = {'wide': np.arange(5 * 9).reshape(5, 9) / 10, 'high': np.ones((7, 3))}
    figure = plots.figure5(maps, 'title')
    for ax, (name, values) in zip(figure.axes, maps.items(), strict=False):
        (image,) = ax.images
        np.testing.assert_array_equal(image.get_array(), values)
        assert image.get_clim() == (0.0, 4.4)
        left, right, bottom, top = image.get_extent()
        assert (left, right) == (-values.shape[1] / 2, values.shape[1] / 2)
        assert (bottom, top) == (values.shape[0] / 2, -values.shape[0] / 2)
        assert name in ax.get_title()


def test_figure_3_shows_mixup_and_every_family(dim):
    figure, numbers = plots.figure3()
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[:7] == [
        'Original A',
        'Original B',
        'Mixup',
        'CutMix',
        'HMix\n(ratio=0.5)',
        'GMix\n(kernel=reference)',
        'Dimmed\n(power=2)',
    ]
    assert numbers['lam'] == 0.65 and numbers['options'] == {'hmix_ratio': 0.5}
    means = numbers['mask_mean']
    assert list(means) == ['mixup', 'cutmix', 'hmix', 'gmix', 'dim']
    assert means['mixup'] == 0.65
    assert means['hmix'] == pytest.approx(0.65, abs=1e-9)
    assert means['cutmix'] == pytest.approx(0.65, abs=0.02)  # the box is chosen to lie inside, up to whole pixels
    assert means['dim'] == pytest.approx(0.65**2)


def test_maps_are_those_of_everything_that_mixes(dim):
    size = (4, 6)
    maps, titles = plots.coefficient_maps(0.3, size)
    assert list(maps) == ['mixup', 'cutmix', 'stochastic', 'hmix', 'gmix', 'gmix_paper', 'dim']
    slots = {
        'cutmix': make_slot('bbox'),
        'hmix': make_slot('hmix', hmix_ratio=0.75),
        'gmix': make_slot('gmix'),
        'gmix_paper': make_slot('gmix', gmix_kernel='paper'),
    }
    for name, slot in slots.items():
        rest = np.stack([1.0 - mask.array(size) for mask in placed_masks(size, 0.3, slot)])
        assert maps[name].at(1, -2) == pytest.approx((rest[:, :-1, 2:] * rest[:, 1:, :-2]).mean())
    assert maps['mixup'].at(2, 1) == pytest.approx(0.49)
    assert maps['dim'].at(2, 1) == pytest.approx((1 - 0.3**2) ** 2)
    assert maps['stochastic'].at(1, -2) == pytest.approx((0.49 + maps['cutmix'].at(1, -2)) / 2)
    assert titles['hmix'] == 'HMix\n(ratio=0.75)' and titles['gmix_paper'] == 'GMix\n(kernel=paper)'


@pytest.fixture(scope='module')
def figure4():
    return plots.figure4()


def test_figure_4_numbers(figure4):
    _, numbers = figure4
    assert list(numbers) == ['mixup', 'cutmix', 'stochastic', 'hmix', 'gmix', 'gmix_paper', 'gmix_eq11']
    rest = np.stack([1.0 - mask.array((64, 64)) for mask in placed_masks((64, 64), 0.5, make_slot())])
    for d in (0, 16, 32):
        assert numbers['mixup'][str(d)] == 0.25
        assert numbers['cutmix'][str(d)] == pytest.approx((rest[:, :, : 64 - d] * rest[:, :, d:]).mean(), abs=1e-12)
        assert numbers['gmix_eq11'][str(d)] == pytest.approx(0.5 * np.exp(-np.pi * d**2 / (4 * 0.5 * 64**2)))


def check_layout(figure):
    """Panels lie beside each other within the figure and fill it; the last axes are a narrow scale beside them."""
    figure.draw_without_rendering()
    *panels, scale = [ax.get_position() for ax in figure.axes if ax.axison]
    assert all(0 <= box.x0 < box.x1 <= 1 and 0 <= box.y0 < box.y1 <= 1 for box in (*panels, scale))
    assert not any(a.overlaps(b) for a, b in itertools.combinations((*panels, scale), 2))
    left, right = min(box.x0 for box in panels), max(box.x1 for box in panels)
    assert right - left > 0.8
    assert scale.width < 0.03 and max(left - scale.x1, scale.x0 - right) < 0.1


def test_panels_lie_beside_each_other_and_their_scale():
    check_layout(plots.figure5({'a': np.ones((9, 9)), 'b': np.zeros((9, 9)), 'c': np.ones((9, 9))}, 'the title'))


def test_places_without_a_panel_stay_empty(monkeypatch):
    maps = {name: CoefficientMap(np.ones((127, 127)), None, 0) for name in ('mixup', 'cutmix', 'hmix')}
    monkeypatch.setattr(plots, 'coefficient_maps', lambda lam, size: (maps, {name: name for name in maps}))
    figure, _ = plots.figure4()
    assert [ax.axison for ax in figure.axes] == [True] * 5 + [False] * 3 + [True]
    check_layout(figure)


def test_figure_4_says_which_panel_no_mixer_draws(figure4):
    figure, _ = figure4
    titles = [ax.get_title() for ax in figure.axes]
    assert titles[6] == 'GMix, Eq. 11:\nformula without borders'
    assert figure.get_suptitle().endswith('masks as the mixers draw them, and Eq. 11 beside them')
    curves = figure.axes[7].lines
    assert [line.get_linestyle() for line in curves] == ['-'] * 6 + ['--']


def test_figure_2_mixes_with_the_lambdas_that_it_names():
    figure, numbers = plots.figure2()
    assert numbers == {'lam': [-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75]}
    flower, temple = plots.photographs((192, 192))
    for ax, lam in zip(figure.axes, numbers['lam'], strict=True):
        shown = np.asarray(ax.images[0].get_array()).astype(float)
        expected = np.clip(lam * flower.astype(float) + (1 - lam) * temple, 0, 255)
        assert np.abs(shown - expected).max() <= 0.51


def test_figure_4_draws_the_numbers_along_the_axis(figure4):
    figure, numbers = figure4
    curves = figure.axes[7].lines
    for line, found in zip(curves, numbers.values(), strict=True):
        assert line.get_xdata().tolist() == list(range(64))
        for d, value in found.items():
            assert line.get_ydata()[int(d)] == value
    labels = [text.get_text() for text in figure.axes[7].get_legend().get_texts()]
    titles = [ax.get_title().replace('\n', ' ') for ax in figure.axes[:7]]
    assert labels == titles == [line.get_label() for line in curves]
    for ax in figure.axes[:7]:
        assert ax.images[0].get_array().shape == (127, 127) and ax.images[0].get_clim() == (0.0, 0.5)
        assert ax.get_xticks().tolist() == ax.get_yticks().tolist() == [-48, 0, 48]
    bottom, top = figure.axes[7].get_ylim()
    assert bottom == 0.0 and top > max(line.get_ydata().max() for line in curves)
    assert len(figure.axes) == 9  # and the scale


def test_figure_5_has_a_panel_for_each_map_and_one_scale():
    figure = plots.figure5({'a': np.ones((3, 5)), 'b': np.zeros((3, 5))}, 'the title')
    assert len(figure.axes) == 3 and figure.get_suptitle() == 'the title'
    assert [ax.get_title() for ax in figure.axes] == ['(a) a', '(b) b', '']


def test_figure_3_is_of_imagenets_size():
    figure, _ = plots.figure3(0.5)
    assert {ax.images[0].get_array().shape[:2] for ax in figure.axes[:2]} == {(224, 224)}
    assert figure.get_suptitle() == r'$\lambda = 0.5$'


def test_figure_6_has_both_standard_errors_and_the_legend():
    estimates = {name: plots.Estimate(i + 1.0, 0.25 * (i + 1)) for i, name in enumerate(plots.Prediction._fields)}
    predicted = plots.Prediction(**estimates)
    figure = plots.figure6({'mixup': predicted}, {'mixup': plots.Estimate(2.0, 0.5)}, 'the title')
    assert figure.get_suptitle() == 'the title'
    for ax, quantity in zip(figure.axes, ('coefficient', 'regularization', 'mixing'), strict=True):
        (points,) = ax.containers
        estimate = estimates[quantity]
        horizontal, vertical = (bars.get_segments()[0] for bars in points.lines[2])
        assert horizontal[:, 0] == pytest.approx([0.75 * estimate.value, 1.25 * estimate.value])
        assert vertical[:, 1] == pytest.approx([1.5, 2.5])
        assert ax.get_title() == ''
    assert [ax.get_legend() is None for ax in figure.axes] == [True, True, False]
    assert [text.get_text() for text in figure.axes[2].get_legend().get_texts()] == ['Mixup']


def test_figure_1_draws_both_losses(monkeypatch):
    curves = {
        law: {kind: np.linspace(start, 0.1, 101) for kind, start in (('original', 0.9), ('approximate', 0.8))}
        for law in ('mixup', 'cutmix')
    }
    monkeypatch.setattr(plots, 'two_moons_curves', lambda steps: {100: curves}[steps])
    figure, numbers = plots.figure1()
    for ax, (law, pair) in zip(figure.axes, curves.items(), strict=True):
        assert [line.get_linestyle() for line in ax.lines] == ['-', '--']
        for line, (kind, curve) in zip(ax.lines, pair.items(), strict=True):
            np.testing.assert_array_equal(line.get_ydata(), curve)
            assert line.get_label().startswith(f'{kind} loss')
            assert numbers[law][kind] == {str(step): curve[step] for step in (0, 10, 50, 100)}
    assert 'Mixup' in figure.axes[0].get_title() and 'CutMix' in figure.axes[1].get_title()
