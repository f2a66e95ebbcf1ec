"""Figures 1 to 6: the numbers behind the plots, and that the plots show them."""

import numpy as np
import pytest

from hmix_timm import BoxMask, register_family
from hmix_timm.draws import PlacedDraws
from hmix_timm.families import FAMILIES, make_slot
from hmix_timm.modes import mix_modes
from hmix_timm.theory import coefficients
from hmix_timm.theory.laws import bernoulli_law, mixup_law
from train_patch.drawing import theory_figures as plots
from train_patch.figures import read_arguments

from ...hmix_timm.theory.oracles import brute_force_map

NAMES = ['mixup', 'cutmix', 'stochastic', 'hmix', 'gmix', 'gmix_paper', 'fmix', 'fmix_paper', 'gridmix']
NAMES += ['smoothmix', 'resizemix', 'maskmix', 'gmix_eq11']
"""The maps of Figure 4."""


def mixings(number, *line):
    """The mix modes of a figure, as the command resolves them."""
    return read_arguments(['--output', 'figures', '--figures', str(number), *line]).mixings[number]


@pytest.fixture
def dim():
    """A family whose mask is λ² everywhere."""

    @register_family('dim', title='Dimmed', options={'power': 2.0})
    def draw(size, lam, options, draws):
        return BoxMask(lam**options.power)

    yield
    del FAMILIES['dim']


def test_figure_1_draws_losses_that_descend_from_the_same_start_and_gives_their_numbers():
    numbers, figure = plots.figure1()
    assert list(numbers) == ['mixup', 'cutmix']
    ends = []
    for ax, found in zip(figure.axes, numbers.values(), strict=True):
        for line, (kind, values) in zip(ax.lines, found.items(), strict=True):
            curve = line.get_ydata()
            assert line.get_label().startswith(f'{kind} loss') and len(curve) == 101
            assert values == {str(step): curve[step] for step in (0, 10, 50, 100)}
            assert curve[0] == pytest.approx(np.log(2)) and (np.diff(curve) < 0).all()
        original, approximate = (line.get_ydata() for line in ax.lines)
        np.testing.assert_allclose(original[:8], approximate[:8], rtol=0.01)
        ends.append(original[-1])
    assert ends[1] > ends[0] + 0.01, 'CutMix regularizes a single coordinate more than Mixup'


def test_figure_2_mixes_with_the_lambdas_that_it_names():
    numbers, figure = plots.figure2()
    assert numbers == {'lam': [-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75]}
    flower, temple = (image.astype(float) for image in plots.photographs((192, 192)))
    for ax, lam in zip(figure.axes, numbers['lam'], strict=True):
        expected = np.clip(lam * flower + (1 - lam) * temple, 0, 255)
        assert np.abs(np.asarray(ax.images[0].get_array()).astype(float) - expected).max() <= 0.51


def test_figure_3_shows_mixup_and_every_family(dim):
    numbers, figure = plots.figure3(mixings(3))
    titles = [ax.get_title().replace('\n', ' ') for ax in figure.axes]
    assert {'Mixup', 'CutMix', 'HMix ratio=0.5', 'GMix kernel=reference', 'Dimmed power=2'} <= {*titles}
    assert 'FMix decay=3, noise=reference' in titles
    assert numbers['lam'] == 0.65
    assert {'hmix_ratio': 0.5, 'gmix_kernel': 'reference', 'dim_power': 2.0}.items() <= numbers['options'].items()
    means = numbers['mask_mean']
    assert list(means) == [name for name in mix_modes() if name not in ('none', 'stochastic', 'puzzlemix')]
    assert means['mixup'] == 0.65 and means['dim'] == pytest.approx(0.65**2)
    assert means['hmix'] == pytest.approx(0.65, abs=1e-9)
    assert means['cutmix'] == pytest.approx(0.65, abs=0.02)  # the box lies inside, up to whole pixels


def test_maps_are_those_of_everything_that_mixes(dim, monkeypatch):
    monkeypatch.setattr(coefficients, 'SAMPLES', 128)
    size = (4, 6)
    maps = plots.coefficient_maps(mixings(4), 0.3, size)
    assert list(maps) == [*NAMES[:-1], 'dim']
    slots = {
        'cutmix': ('CutMix', make_slot('bbox')),
        'hmix': ('HMix\n(ratio=0.75)', make_slot('hmix', hmix_ratio=0.75)),
        'gmix': ('GMix\n(kernel=reference)', make_slot('gmix')),
        'gmix_paper': ('GMix\n(kernel=paper)', make_slot('gmix', gmix_kernel='paper')),
        'dim': ('Dimmed\n(power=2)', make_slot('dim')),
    }
    for name, (title, slot) in slots.items():
        masks = [slot.draw_mask(size, 0.3, PlacedDraws(pixel, size))[0].array(size) for pixel in np.ndindex(size)]
        assert maps[name][0] == title
        np.testing.assert_allclose(maps[name][1].values, brute_force_map(np.stack(masks)), atol=1e-12)
    np.testing.assert_allclose(maps['mixup'][1].values, 0.49)
    np.testing.assert_allclose(maps['dim'][1].values, (1 - 0.3**2) ** 2)
    np.testing.assert_allclose(maps['stochastic'][1].values, (0.49 + maps['cutmix'][1].values) / 2)


def test_maps_are_those_of_the_options_that_are_given(dim, monkeypatch):
    monkeypatch.setattr(coefficients, 'SAMPLES', 128)
    line = ['--hmix-ratio', '0.5', '--dim-power', '1', '--gmix-kernel', 'paper']
    maps = plots.coefficient_maps(mixings(4, *line), 0.3, (4, 6))
    titles = [panel.title for panel in maps.values()]
    assert titles[3:6] == ['HMix\n(ratio=0.5)', 'GMix\n(kernel=paper)', 'GMix\n(kernel=reference)']
    slot = make_slot('hmix', hmix_ratio=0.5)
    masks = [slot.draw_mask((4, 6), 0.3, PlacedDraws(at, (4, 6)))[0].array((4, 6)) for at in np.ndindex(4, 6)]
    np.testing.assert_allclose(maps['hmix'].map.values, brute_force_map(np.stack(masks)), atol=1e-12)
    np.testing.assert_allclose(maps['dim'].map.values, 0.49)


def test_figure_4_draws_the_maps_and_their_numbers_along_the_axis(monkeypatch):
    monkeypatch.setattr(coefficients, 'SAMPLES', 128)
    numbers, figure = plots.figure4(mixings(4))
    assert list(numbers) == NAMES and '(without SaliencyMix, PuzzleMix: ' in figure.get_suptitle()
    for d in (0, 16, 32):
        assert numbers['mixup'][str(d)] == 0.25
        assert numbers['gmix_eq11'][str(d)] == pytest.approx(0.5 * np.exp(-np.pi * d**2 / (4 * 0.5 * 64**2)))
    *panels, curves, _ = figure.axes
    for ax, line, found in zip(panels, curves.lines, numbers.values(), strict=True):
        image = ax.images[0].get_array()
        assert ax.images[0].get_clim() == (0.0, 0.5)
        for d, value in found.items():
            assert line.get_ydata()[int(d)] == image[63, 63 + int(d)] == value


def test_the_methods_on_two_features_keep_lambda_and_hmix_lies_between_its_parents():
    for name, law in plots.two_feature_laws().items():
        support = law(0.3)
        assert support.probability.sum() == pytest.approx(1.0)
        if name != 'gmix':  # borders cut its bump off
            np.testing.assert_allclose(support.probability @ support.masks, 0.3)
            np.testing.assert_allclose(support.weight, 0.3)
    for ratio, parent in ((0.0, mixup_law), (1.0, bernoulli_law)):
        found, expected = (
            sorted((tuple(mask.tolist()), p.item()) for mask, p in zip(s.masks, s.probability, strict=True) if p > 0)
            for s in (plots.two_feature_laws(ratio)['hmix'](0.3), parent(0.3))
        )
        assert [p for _, p in found] == pytest.approx([p for _, p in expected])
        np.testing.assert_allclose([mask for mask, _ in found], [mask for mask, _ in expected])


def test_figure_6_says_up_to_which_attack_the_approximate_loss_is_the_larger_one():
    numbers, figure = plots.figure6(steps=20)
    left, right = figure.axes
    assert list(numbers) == ['none', 'mixup', 'cutmix', 'stochastic', 'hmix', 'gmix']
    for curve, mark, difference, found in zip(
        left.lines[::2], left.lines[1::2], right.lines, numbers.values(), strict=True
    ):
        epsilons, adversarial = curve.get_data()
        bound, loss = found['bounded_epsilon'], found['approximate_loss']
        assert mark.get_xydata().tolist() == [[0.0, loss], [bound, loss]]
        assert (adversarial[epsilons < bound] < loss).all() and (adversarial[epsilons > bound + 1e-9] > loss).all()
        for epsilon, value in found['adversarial_loss'].items():
            assert value == pytest.approx(adversarial[round(float(epsilon) / 0.005)])
        np.testing.assert_allclose(difference.get_ydata(), adversarial - left.lines[0].get_ydata())
    assert numbers['none']['bounded_epsilon'] == pytest.approx(0.0, abs=1e-12)
    assert all(found['bounded_epsilon'] > 0.01 for name, found in numbers.items() if name != 'none')
