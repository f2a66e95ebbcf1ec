"""A family of one's own has everything that the families of the package have."""

import random
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import hmix_timm
from hmix_timm import BoxMask, DenseMask, FastCollateMixup, Mixup, ProductMask, families, register_family
from hmix_timm.draws import NAFLEX_DRAWS, NUMPY_DRAWS
from hmix_timm.families import FAMILIES, load_families, make_slot
from hmix_timm.modes import mix_modes, mixer_arguments
from hmix_timm.theory.coefficients import coefficient_map

STRIPES = """
import numpy as np
from hmix_timm import DenseMask, register_family

@register_family('stripes', title='Stripes', alpha=0.7, options={'period': 8})
def stripes(size, lam, options, draws):
    phase = draws.uniform(1)[0]
    rows = (np.arange(size[0]) / options.period + phase) % 1.0 < lam
    return DenseMask(np.repeat(rows[:, None], size[1], axis=1).astype(float))
"""


def stripes_oracle(size, lam, phase, period):
    return np.array([[float((y / period + phase) % 1.0 < lam)] * size[1] for y in range(size[0])])


@pytest.fixture
def table():
    """A table of families that forgets what a test registers."""
    before = dict(FAMILIES)
    yield FAMILIES
    FAMILIES.clear()
    FAMILIES.update(before)


@pytest.fixture
def stripes(table, tmp_path):
    path = tmp_path / 'my_masks.py'
    path.write_text(STRIPES)
    assert load_families(path) == ['stripes']
    return path


def halves(count):
    return torch.tensor([1] * (count // 2) + [0] * (count - count // 2))


@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem'])
def test_float_batches_are_mixed_with_its_masks(stripes, mode):
    """Ones against zeros show the mask; it is the oracle's, and its mean the label weight."""
    mixer = Mixup(0.0, 0.7, cutmix_mode='stripes', stripes_period=5, mode=mode, num_classes=2, label_smoothing=0.0)
    labels = halves(4)
    for seed in range(10):
        np.random.seed(seed)
        mixed, target = mixer(labels.view(-1, 1, 1, 1).expand(4, 3, 11, 6).float().clone(), labels)
        np.random.seed(seed)
        if mode == 'batch':
            np.random.rand()
            lams = [np.random.beta(0.7, 0.7)] * 4
            phases = [np.random.random_sample(1)[0]] * 4
        else:
            count = 2 if mode == 'pair' else 4
            lams = list(np.random.beta(0.7, 0.7, size=count).astype(np.float32))
            np.random.rand(count)
            phases = [np.random.random_sample(1)[0] for _ in range(count)]
            lams, phases = ([*values, *values[::-1]][:4] for values in (lams, phases))
        for i in range(4):
            mask = stripes_oracle((11, 6), lams[i], phases[i], 5)
            expected = mask if labels[i] else 1.0 - mask
            np.testing.assert_allclose(mixed[i].numpy(), np.broadcast_to(expected, (3, 11, 6)), atol=1e-6)
            assert target[i, labels[i]].item() == pytest.approx(mask.mean(), abs=1e-6)


@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem', 'half'])
@pytest.mark.parametrize('layout', ['planar', 'interleaved'])
def test_uint8_samples_are_mixed_with_its_masks(stripes, mode, layout):
    mixer = FastCollateMixup(0.0, 1.0, cutmix_mode='stripes', mode=mode, num_classes=2, label_smoothing=0.0)
    for count in (4, 5):
        samples = []
        for index in range(count):
            image = np.full((3, 9, 7), 255 * (index < count // 2), np.uint8)
            if layout == 'interleaved':
                image = np.ascontiguousarray(image.transpose(1, 2, 0)).transpose(2, 0, 1)
            samples.append((image, int(index < count // 2)))
        for seed in range(10):
            np.random.seed(seed)
            mixed, target = mixer(samples)
            means = mixed.double().mean(dim=(1, 2, 3)) / 255
            np.testing.assert_allclose(means, target[:, 1].double(), atol=1e-6)
            assert set(mixed.unique().tolist()) <= {0, 255}


def test_values_between_0_and_1_are_blended_and_rounded(table):
    values = np.linspace(0.0, 1.0, 35).reshape(5, 7)

    @register_family('ramp')
    def ramp(size, lam, options, draws):
        return DenseMask(values)

    images = np.random.default_rng(0).integers(0, 256, (4, 3, 5, 7), dtype=np.uint8)
    exact = values * images + (1.0 - values) * images[::-1].astype(float)
    mixer = FastCollateMixup(0.0, 1.0, cutmix_mode='ramp', num_classes=2)
    mixed, _ = mixer([(image, 0) for image in images])
    assert np.abs(mixed.numpy() - exact).max() <= 0.5 + 1e-3
    floats, _ = Mixup(0.0, 1.0, cutmix_mode='ramp', num_classes=2)(torch.from_numpy(images).double(), halves(4))
    np.testing.assert_allclose(floats.numpy(), exact, atol=1e-9)


def test_naflex_mixes_with_its_masks(stripes):
    pytest.importorskip('timm.data.naflex_mixup', reason='timm has no NaFlex before 1.0.20')
    mixer = hmix_timm.NaFlexMixup(num_classes=2, mixup_alpha=0.0, cutmix_mode='stripes', local_shuffle=1)
    random.seed(1)
    torch.manual_seed(1)
    mixed, targets = mixer([torch.zeros(1, 16, 12), torch.ones(1, 16, 12)], torch.tensor([0, 1]))
    for i in range(2):
        share = mixed[i].double() if i else 1.0 - mixed[i].double()
        assert set(share.unique().tolist()) <= {0.0, 1.0}
        assert share.mean().item() == pytest.approx(targets[i][i].item(), abs=1e-6)


def test_it_is_a_mix_mode_with_its_alpha(stripes):
    assert mix_modes()['stripes'].title == 'Stripes'
    assert mixer_arguments('stripes')['cutmix_alpha'] == 0.7
    assert repr(Mixup.from_mode('stripes', stripes_period=3)).startswith('Mixup(Stripes(alpha=0.7, period=3), ')


def test_its_coefficients_are_estimated_with_a_standard_error(stripes):
    """P(row kept) = λ for a whole number of periods, so a pixel with itself has E[(1 − M)²] = 1 − λ."""
    result = coefficient_map('stripes', 0.3, (16, 4), samples=2048, stripes_period=8)
    assert result.standard_error is not None
    assert abs(result.at(0, 0) - 0.7) < 5 * result.standard_error[15, 3] + 0.07
    assert result.at(8, 0) == pytest.approx(result.at(0, 0), abs=0.05), 'rows a period apart go together'


def test_its_coefficients_are_exact_where_placements_can_be_enumerated(table):
    @register_family('dot')
    def dot(size, lam, options, draws):
        y, x = draws.centre(size)
        return BoxMask(1.0, (y, y + 1, x, x + 1), 1.0 / (size[0] * size[1]))

    result = coefficient_map('dot', 0.5, (5, 4))
    assert result.standard_error is None and result.masks == 20
    assert result.at(0, 0) == pytest.approx(1 / 20)
    assert result.at(1, 0) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ('function', 'problem'),
    [
        (lambda size, lam, o, d: lam, 'it is a float'),
        (lambda size, lam, o, d: DenseMask(np.zeros((2, 2))), r'its shape is \(2, 2\), not \(6, 5\)'),
        (lambda size, lam, o, d: DenseMask([[0.5]]), 'its values are a list'),
        (lambda size, lam, o, d: DenseMask(np.full(size, np.nan)), 'not finite'),
        (lambda size, lam, o, d: DenseMask(np.full(size, 1.5)), r'from 1.5 to 1.5, outside \[0, 1\]'),
        (lambda size, lam, o, d: ProductMask(0.5, np.ones(6), np.ones(5)), 'outside'),
        (lambda size, lam, o, d: ProductMask(0.0, np.ones(5), np.ones(6)), 'its shape is'),
        (lambda size, lam, o, d: BoxMask(1.0, (0, 9, 0, 2), 0.3), 'does not lie in 6×5 pixels'),
        (lambda size, lam, o, d: BoxMask(1.0, (0, 2, 0, 2), 0.5), 'box_fraction 0.5'),
        (lambda size, lam, o, d: DenseMask(np.random.default_rng().random(size)), 'from elsewhere than `draws`'),
        (lambda size, lam, o, d: DenseMask(np.full(size, random.random())), 'from elsewhere than `draws`'),
    ],
)
def test_nonsense_is_caught_at_the_first_mask(table, function, problem):
    register_family('wrong')(function)
    mixer = Mixup(0.0, 1.0, cutmix_mode='wrong', num_classes=2)
    with pytest.raises(ValueError, match=f"family 'wrong' drew no mask for λ = .*{problem}"):
        mixer(torch.zeros(2, 3, 6, 5), torch.tensor([0, 1]))


@pytest.mark.parametrize('draws', [NUMPY_DRAWS, NAFLEX_DRAWS])
def test_looking_at_the_first_mask_draws_nothing_more(table, draws):
    @register_family('noise')
    def noise(size, lam, options, draws):
        return DenseMask((draws.normal(size) < draws.integers(0, 2)).astype(float))

    slot, after = make_slot('noise'), []
    for _ in range(2):
        random.seed(5)
        np.random.seed(5)
        torch.manual_seed(5)
        after.append((slot.draw_mask((4, 4), 0.5, draws)[0].values.tolist(), draws.uniform(2).tolist()))
    assert after[0] == after[1]


@pytest.mark.parametrize('name', ['Stripes', 'my-mask', 'my_mask', '', 'mix', 'hmix', 'bbox', 'none', 'cutmix'])
def test_a_name_that_cannot_be_an_option_or_is_taken_is_refused(table, name):
    with pytest.raises(ValueError, match='name'):
        register_family(name)(lambda size, lam, options, draws: BoxMask(lam))


@pytest.mark.parametrize('default', [None, True, [1], {}])
def test_an_option_needs_a_number_or_a_text(table, default):
    with pytest.raises(ValueError, match=r"option 'period' of family 'wrong' must have a number or a text"):
        register_family('wrong', options={'period': default})


@pytest.mark.parametrize('value', ['8', 2.5, float('nan')])
def test_a_wrong_value_of_its_option_is_named(stripes, value):
    with pytest.raises(ValueError, match=r'^stripes_period must be'):
        Mixup(0.0, 1.0, cutmix_mode='stripes', stripes_period=value)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        (None, 'there is no such file'),
        ('x = ', 'cannot be executed: SyntaxError'),
        ('x = 1', 'registers no family'),
    ],
)
def test_a_file_that_registers_nothing_is_named(table, tmp_path, text, message):
    path = tmp_path / 'masks.py'
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=f'masks.py.*{message}'):
        load_families(path)


def test_loading_a_file_twice_is_loading_it_once(stripes):
    assert load_families(stripes) == ['stripes']


def test_options_reach_the_function_by_their_own_names(table):
    seen = []

    @register_family('seen', options={'count': 3, 'word': 'a', 'share': 0.5})
    def function(size, lam, options, draws):
        seen.append(options)
        return BoxMask(float(lam))

    make_slot('seen', seen_count=4, seen_word='b').draw_mask((4, 4), 0.5)
    expected = SimpleNamespace(count=4, word='b', share=0.5, correct_lam=True, cutmix_minmax=None)
    assert seen[0] == expected


@pytest.mark.parametrize(
    ('mode', 'options', 'message'),
    [
        ('nope', {}, "^cutmix_mode must be one of bbox, hmix, gmix, got 'nope'"),
        ('hmix', {'hmix_ratio': -0.01}, '^hmix_ratio must be a finite number between 0 and 1'),
        ('hmix', {'hmix_ratio': 1.01}, '^hmix_ratio must be a finite number between 0 and 1'),
        ('hmix', {'hmix_ratio': None}, '^hmix_ratio must be a finite number'),
        ('hmix', {'hmix_gamma': 0}, '^hmix_gamma must be a finite number > 0'),
        ('hmix', {'hmix_gamma': 'a'}, '^hmix_gamma must be a finite number > 0'),
        ('hmix', {'hmix_gamma': 1.0, 'hmix_ratio': 0.5}, '^hmix_ratio has no effect beside hmix_gamma'),
        ('bbox', {'hmix_ratio': 0.5}, "^hmix_ratio is for cutmix_mode='hmix', not for 'bbox'; got 0.5"),
        ('gmix', {'gmix_kernel': 'other'}, '^gmix_kernel must be one of reference, paper'),
    ],
)
def test_wrong_options_are_named(mode, options, message):
    with pytest.raises(ValueError, match=message):
        make_slot(mode, **options)


def test_options_without_a_value_are_not_set():
    assert make_slot('hmix', hmix_gamma=None).hmix_gamma is None
    assert FAMILIES['hmix'].resolve({'hmix_ratio': 0.25}) == {'hmix_ratio': 0.25, 'hmix_gamma': None}


def test_hmix_outside_its_box():
    # the box has 4 of 16 pixels
    mask = families.hmix_mask((4, 4), 0.6, 0.5, (0, 2, 1, 3))
    assert (mask.outside, mask.box, mask.box_fraction) == (pytest.approx(0.8), (0, 2, 1, 3), 0.25)
    literal = families.hmix_mask((4, 4), 0.6, 0.5, (0, 2, 1, 3), correct_lam=False)
    assert literal.outside == pytest.approx(0.6 / 0.8) and literal.box_fraction == 0.25
    assert families.hmix_mask((4, 4), 0.0, 1.0, (0, 4, 0, 4)).outside == 0.0


@pytest.mark.parametrize('centre', [(0, 0), (1, 4), (3, 2), (-2, 9)])
@pytest.mark.parametrize(
    ('kernel', 'lam', 'spread', 'kept'),
    [
        ('reference', 0.3, 0.3, True),
        ('reference', 0.5, 0.5, False),
        ('reference', 0.8, 0.2, False),
        ('paper', 0.3, 1.4, False),
        ('paper', 0.8, 0.4, False),
    ],
)
def test_gmix_is_a_gaussian_around_a_pixel(kernel, lam, spread, kept, centre):
    mask = families.gmix_mask((4, 5), lam, centre, kernel)
    for y in range(4):
        for x in range(5):
            bump = np.exp(-np.pi * ((y - centre[0]) ** 2 + (x - centre[1]) ** 2) / (spread * 20))
            assert mask.array((4, 5))[y, x] == pytest.approx(bump if kept else 1 - bump)


def test_gmix_at_its_ends_is_one_image():
    assert (families.gmix_mask((4, 5), 0.0, (1, 1)).array((4, 5)) == 0).all()
    assert (families.gmix_mask((4, 5), 1.0, (1, 1)).array((4, 5)) == 1).all()


def test_records_of_families_do_not_change():
    with pytest.raises(AttributeError):
        FAMILIES['hmix'].title = 'another'


@pytest.mark.parametrize('alpha', [0, -1.0, 'a'])
def test_a_family_needs_an_alpha_above_0(table, alpha):
    with pytest.raises(ValueError, match=r'^alpha must be a finite number > 0'):
        register_family('wrong', alpha=alpha)


def test_titles_colours_and_help_of_families_of_ones_own(table):
    for name, more in (('first', {}), ('second', {'title': 'Number 2'}), ('third', {'colour': '#123456'})):
        register_family(name, options={'period': 8}, **more)(lambda size, lam, options, draws: BoxMask(lam))
    found = [FAMILIES[name] for name in ('first', 'second', 'third')]
    assert [family.title for family in found] == ['First', 'Number 2', 'Third']
    assert [family.colour for family in found] == ['#0072B2', '#F0E442', '#123456']
    assert [family.options[0].help for family in found] == [
        f'period of {title}' for title in ('First', 'Number 2', 'Third')
    ]
    assert [family.mix_mode for family in found] == ['first', 'second', 'third']
    assert found[0].presets == {'imagenet': {'alpha': 1.0}, 'cifar100': {'alpha': 1.0}}
    assert found[0].source == __file__ and not found[0].timms_own


def test_there_are_colours_for_any_number_of_families_of_ones_own(table):
    for number in range(8):
        register_family(f'number{number}')(lambda size, lam, options, draws: BoxMask(lam))
    colours = [FAMILIES[f'number{number}'].colour for number in range(8)]
    assert len(set(colours[:6])) == 6 and colours[6:] == colours[:2]


def test_a_name_is_one_files(table, tmp_path):
    text = "from hmix_timm import BoxMask, register_family\nregister_family('{}')(lambda *given: BoxMask(0.5))\n"
    (tmp_path / 'a.py').write_text(text.format('halves'))
    (tmp_path / 'b.py').write_text(text.format('halves'))
    assert load_families(tmp_path / 'a.py') == ['halves']
    assert sys.modules['hmix_timm_families_a'].__file__ == str(tmp_path / 'a.py')
    taken = f"there is a family or a mix mode 'halves' already (by {tmp_path}/a.py): choose another name"
    with pytest.raises(ValueError, match=f'b.py cannot be executed: ValueError: {re.escape(taken)}$'):
        load_families(tmp_path / 'b.py')
    (tmp_path / 'c.txt').write_text('')
    with pytest.raises(ValueError, match=r'c\.txt: not a Python file$'):
        load_families(tmp_path / 'c.txt')
    with pytest.raises(ValueError, match=r"^there is a family or a mix mode 'hmix' already: choose another name$"):
        register_family('hmix')(lambda *given: BoxMask(0.5))
