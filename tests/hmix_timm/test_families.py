"""A family of one's own has everything that the families of the package have."""

import pickle
import random
import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from reference import resized

import hmix_timm
from hmix_timm import (
    BoxMask,
    DenseMask,
    FastCollateMixup,
    Mix,
    Mixup,
    Option,
    ProductMask,
    Resized,
    register_family,
    transforms,
)
from hmix_timm.draws import NAFLEX_DRAWS, NUMPY_DRAWS
from hmix_timm.families import FAMILIES, load_families, make_slot
from hmix_timm.modes import mix_modes, mixer_arguments
from hmix_timm.theory.coefficients import coefficient_map

STRIPES = """
import numpy as np
from hmix_timm import DenseMask, register_family
filled = {}

@register_family('stripes', title='Stripes', alpha=0.7, options={'period': 8})
def stripes(size, lam, options, draws):
    phase = draws.uniform(1)[0]
    rows = (np.arange(size[0]) / options.period + phase) % 1.0 < lam
    filled.setdefault(size, np.empty(size))[:] = rows[:, None]
    return DenseMask(filled[size])
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
    assert load_families(path) == load_families(path) == ['stripes']
    return path


@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem'])
def test_float_batches_are_mixed_with_its_masks(stripes, mode):
    """Ones against zeros show the mask; it is the oracle's, and its mean the label weight."""
    mixer = Mixup(0.0, 0.7, cutmix_mode='stripes', stripes_period=5, mode=mode, num_classes=2, label_smoothing=0.0)
    labels = torch.tensor([1, 1, 0, 0])
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
def test_uint8_samples_are_mixed_with_its_masks(stripes, mode):
    mixer = FastCollateMixup(0.0, 1.0, cutmix_mode='stripes', mode=mode, num_classes=2, label_smoothing=0.0)
    for count in (4, 5):
        samples = [(np.full((3, 9, 7), 255 * (i < count // 2), np.uint8), int(i < count // 2)) for i in range(count)]
        for seed in range(10):
            np.random.seed(seed)
            mixed, target = mixer(samples)
            means = mixed.double().mean(dim=(1, 2, 3)) / 255
            np.testing.assert_allclose(means, target[:, 1].double(), atol=1e-6)
            assert set(mixed.unique().tolist()) <= {0, 255}


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


def test_a_pickled_mixer_brings_its_family_to_where_nobody_has_registered_it(stripes):
    data = pickle.dumps(Mixup(0.0, 1.0, cutmix_mode='stripes', stripes_period=3))
    del FAMILIES['stripes'], sys.modules['hmix_timm_families_my_masks']
    assert repr(pickle.loads(data)).startswith('Mixup(Stripes(alpha=1, period=3), ')


def test_a_family_of_ones_own_is_a_mix_mode_with_its_alpha(stripes):
    assert mix_modes()['stripes'].title == 'Stripes'
    assert mixer_arguments('stripes')['cutmix_alpha'] == 0.7
    assert repr(Mixup.from_mode('stripes', stripes_period=3)).startswith('Mixup(Stripes(alpha=0.7, period=3), ')


def test_coefficients_of_ones_own_family_are_estimated_with_a_standard_error(stripes):
    """P(row kept) = λ for a whole number of periods, so a pixel with itself has E[(1 − M)²] = 1 − λ."""
    result = coefficient_map('stripes', 0.3, (16, 4), samples=2048, stripes_period=8)
    assert result.standard_error is not None
    assert abs(result.at(0, 0) - 0.7) < 5 * result.standard_error[15, 3] + 0.07
    assert result.at(8, 0) == pytest.approx(result.at(0, 0), abs=0.05), 'rows a period apart go together'


def test_coefficients_of_ones_own_family_are_exact_where_placements_can_be_enumerated(table):
    @register_family('dot')
    def dot(size, lam, options, draws):
        y, x = draws.centre(size)
        return BoxMask(1.0, (y, y + 1, x, x + 1))

    result = coefficient_map('dot', 0.5, (5, 4))
    assert result.standard_error is None and result.masks == 20
    assert result.at(0, 0) == pytest.approx(1 / 20)
    assert result.at(1, 0) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ('function', 'problem'),
    [
        (lambda size, lam, o, d: lam, 'it is a float'),
        (lambda size, lam, o, d: DenseMask(np.full(size, 1.5)), r'from 1.5 to 1.5, outside \[0, 1\]'),
        (lambda size, lam, o, d: ProductMask(0.0, np.ones(5), np.ones(6)), 'its shape is'),
        (lambda size, lam, o, d: BoxMask(1.0, (0, 9, 0, 2)), 'does not lie in 6×5 pixels'),
        (lambda size, lam, o, d: DenseMask(np.ma.masked_less(np.ones(size), 0)), 'values are a MaskedArray'),
        (lambda size, lam, o, d: DenseMask(np.ones(size, complex)), 'values are complex128'),
    ],
)
def test_a_wrong_mask_is_refused_whenever_it_is_drawn(table, function, problem):
    @register_family('wrong')
    def wrong(size, lam, options, draws):
        return BoxMask(lam) if lam > 0.5 else function(size, lam, options, draws)

    slot = make_slot('wrong')
    for lam in (1.0, 0.75):
        slot.draw_mask((6, 5), lam)
    with pytest.raises(ValueError, match=f"^family 'wrong' drew no mask for λ = 0.5: .*{problem}"):
        slot.draw_mask((6, 5), 0.5)


@pytest.mark.parametrize('value', [lambda size: np.random.default_rng().random(size), lambda _: random.random()])
def test_random_numbers_from_elsewhere_are_noticed(table, value):
    register_family('wrong')(lambda size, lam, options, draws: DenseMask(np.full(size, value(size))))
    with pytest.raises(ValueError, match=r"family 'wrong' drew no mask .*from elsewhere than `draws`"):
        make_slot('wrong').draw_mask((6, 5), 0.5)


def test_the_share_of_a_box_is_counted_and_never_believed(table):
    """0.1.0's masks said it themselves."""
    register_family('believed')(lambda size, lam, options, draws: BoxMask(1.0, (0, 3, 0, 5), 0.1))
    assert make_slot('believed').draw_mask((6, 5), 0.5)[1] == 0.5


@pytest.mark.parametrize('draws', [NUMPY_DRAWS, NAFLEX_DRAWS])
def test_checking_the_first_mask_draws_nothing_more(table, draws):
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


def test_a_notebook_may_register_its_family_again_but_no_family_of_the_package(table):
    def cell(size, lam, options, draws):
        return BoxMask(lam)

    cell.__module__ = '__main__'
    for title in ('First', 'Second'):
        register_family('cell', title=title)(cell)
        assert FAMILIES['cell'].title == title
    with pytest.raises(ValueError, match=r"^there is a family or a mix mode 'hmix' already: choose another name$"):
        register_family('hmix')(cell)


@pytest.mark.parametrize('default', [True, [1], {}])
def test_an_option_needs_a_number_or_a_text(table, default):
    with pytest.raises(ValueError, match=r"option 'period' of family 'wrong' must have a number or a text"):
        register_family('wrong', options={'period': default})


@pytest.mark.parametrize(('name', 'options'), [('switch', {'prob': 0.3}), ('wrong', [Option('a', 1)] * 2)])
def test_an_option_has_a_name_of_its_own(table, name, options):
    with pytest.raises(ValueError, match='there is an argument or an option'):
        register_family(name, options=options)


@pytest.mark.parametrize('value', ['8', 2.5, float('nan')])
def test_a_wrong_value_of_its_option_is_named(stripes, value):
    with pytest.raises(ValueError, match=r'^stripes_period must be'):
        Mixup(0.0, 1.0, cutmix_mode='stripes', stripes_period=value)


@pytest.mark.parametrize('alpha', [0, -1.0, 'a'])
def test_a_family_of_ones_own_needs_an_alpha_above_0(table, alpha):
    with pytest.raises(ValueError, match=r'^alpha must be a finite number > 0'):
        register_family('wrong', alpha=alpha)


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('masks.py', None, 'there is no such file'),
        ('masks.py', 'x = 1', 'registers no family'),
        ('masks.txt', '', 'not a Python file'),
    ],
)
def test_a_file_that_registers_nothing_is_named(table, tmp_path, name, text, message):
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=f'{name}.*{message}'):
        load_families(tmp_path / name)


def test_a_file_that_registers_and_then_raises_is_not_loaded(table, tmp_path):
    path = tmp_path / 'my_masks.py'
    path.write_text(f'{STRIPES}\nnot_defined\n')
    for _ in range(2):
        with pytest.raises(NameError):
            load_families(path)
        assert 'stripes' not in FAMILIES
    path.write_text(STRIPES)
    assert load_families(path) == ['stripes']


def test_a_name_is_one_files(table, tmp_path):
    for file in ('a.py', 'b.py'):
        (tmp_path / file).write_text(
            "from hmix_timm import BoxMask, register_family\nregister_family('halves')(lambda *given: BoxMask(0.5))\n"
        )
    assert load_families(tmp_path / 'a.py') == ['halves']
    assert sys.modules['hmix_timm_families_a'].__file__ == str(tmp_path / 'a.py')
    taken = f"there is a family or a mix mode 'halves' already (by {tmp_path}/a.py): choose another name"
    with pytest.raises(ValueError, match=f'^{re.escape(taken)}$'):
        load_families(tmp_path / 'b.py')


def test_options_reach_the_function_by_their_own_names(table):
    seen = []

    @register_family('seen', options={'count': 3, 'word': 'a', 'share': 0.5})
    def function(size, lam, options, draws):
        seen.append(options)
        return BoxMask(float(lam))

    make_slot('seen', seen_count=4, seen_word='b').draw_mask((4, 4), 0.5)
    assert seen[0] == SimpleNamespace(count=4, word='b', share=0.5, correct_lam=True, cutmix_minmax=None)
    with pytest.raises(TypeError, match='no family has an option seen_words'):
        make_slot('seen', seen_words='b')
    with pytest.raises(ValueError, match=r'^seen_word must be text, got 3$'):
        make_slot('seen', seen_word=3)


def test_a_preset_fills_in_the_options_that_are_not_given():
    hmix = FAMILIES['hmix']
    assert hmix.resolve({}) == {'hmix_ratio': 0.75, 'hmix_gamma': None}
    assert hmix.resolve({}, 'cifar100') == {'hmix_ratio': 0.5, 'hmix_gamma': None}
    assert hmix.resolve({'hmix_ratio': 0.25}, 'cifar100') == {'hmix_ratio': 0.25, 'hmix_gamma': None}
    assert hmix.resolve({'hmix_gamma': 2.0}, 'cifar100') == {'hmix_ratio': None, 'hmix_gamma': 2.0}
    with pytest.raises(ValueError, match=r'^--hmix_ratio has no effect beside --hmix_gamma: give one of them$'):
        hmix.resolve({'hmix_gamma': 2.0, 'hmix_ratio': 0.5}, shown='--{}'.format)


def test_titles_colours_and_help_of_families_of_ones_own(table):
    for name, more in (('first', {}), ('second', {'title': 'Number 2'}), ('third', {'colour': '#123456'})):
        register_family(name, options={'period': 8}, **more)(lambda size, lam, options, draws: BoxMask(lam))
    found = [FAMILIES[name] for name in ('first', 'second', 'third')]
    assert [(f.title, f.mix_mode, f.colour, f.options[0].help) for f in found] == [
        ('First', 'first', '#0072B2', 'period of First'),
        ('Number 2', 'second', '#F0E442', 'period of Number 2'),
        ('Third', 'third', '#123456', 'period of Third'),
    ]


def test_a_family_that_draws_no_lam_gets_none_and_leaves_timms_stream_as_it_is(table):
    """timm's coin and λ are drawn and dropped; `cutmix_alpha` turns the slot on, and what names λ is refused."""
    register_family('still', alpha=None)(
        lambda size, lam, options, draws: BoxMask(draws.scalar() if lam is None else 9)
    )
    mixer = Mixup.from_mode('still', num_classes=2, label_smoothing=0.0)
    assert repr(mixer).startswith('Mixup(Still(), mode=batch')
    np.random.seed(0)
    target = mixer(torch.zeros(2, 1, 2, 2), torch.tensor([0, 1]))[1]
    np.random.seed(0)
    np.random.rand(), np.random.beta(1.0, 1.0)
    assert target[0, 0].item() == pytest.approx(np.random.random_sample())
    message = "^correct_lam must be True with cutmix_mode='still', which draws no λ, got False$"
    for make in (lambda **given: Mixup(0.0, 1.0, **given), make_slot):
        with pytest.raises(ValueError, match=message):
            make(cutmix_mode='still', correct_lam=False)


ROWS, COLUMNS = np.random.default_rng(0).random(37), np.random.default_rng(1).random(53)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize(
    'mask',
    [
        ProductMask(0.0, (ROWS < 0.5).astype(np.uint8), (COLUMNS < 0.5).astype(np.uint8)),
        ProductMask(0, ROWS < 0.5, COLUMNS < 0.5),
        ProductMask(np.float16(0.1), ROWS.astype(np.float16), (COLUMNS * 0.9).astype(np.float16)),
        BoxMask(np.float16(0.3), (0, 20, 0, 11)),
        DenseMask(np.outer(ROWS < 0.5, COLUMNS < 0.5).astype(np.uint8)),
    ],
    ids=['uint8 profiles', 'bool profiles', 'half profiles', 'half', 'uint8'],
)
def test_the_label_is_the_mean_of_a_mask_in_any_dtype(table, mask, dtype):
    register_family('odd', alpha=None)(lambda *given: mask)
    labels = torch.tensor([1, 0])
    x = labels.view(2, 1, 1, 1).expand(2, 3, 37, 53).to(dtype).clone()
    mixed, target = Mixup(0.0, 1.0, cutmix_mode='odd', num_classes=2, label_smoothing=0.0)(x, labels)
    np.testing.assert_allclose(mixed[0, 0].numpy(), mask.array((37, 53)), atol=1e-6)
    assert target[0, 1].item() == pytest.approx(mixed[0].double().mean().item(), abs=1e-6)


@pytest.mark.parametrize('mode', ['batch', 'pair', 'elem'])
def test_a_small_alpha_leaves_no_image_unmixed_by_a_family_that_draws_no_lam(mode):
    """Its λ, often 1, would be dropped."""
    mixer = Mixup(0.0, 0.001, cutmix_mode='resizemix', mode=mode)
    weights = [torch.as_tensor(mixer.mix(torch.rand(8, 1, 9, 8)).weight).max() for _ in range(20)]
    assert max(weights) < 1.0


@pytest.fixture
def brighter(table):
    """A family that keeps the brighter of two pixels, so that the mix is the maximum of both images."""

    @register_family('brighter', alpha=None, sees='images')
    def function(size, lam, options, draws, images):
        own, partner = images
        assert not (own.flags.writeable or partner.flags.writeable) and own.shape == (1, *size)
        return DenseMask((own >= partner)[0])


MODES = ['batch', 'pair', 'elem', 'half']


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('kind', ['float32', 'float64', 'bfloat16', 'collate'])
def test_a_family_that_sees_the_images_gets_each_pair_and_in_batches_the_first(brighter, mode, kind):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 1, 6, 4), dtype=np.uint8)
    collate = kind == 'collate'
    mixer = (FastCollateMixup if collate else Mixup)(0.0, 1.0, mode=mode, cutmix_mode='brighter', num_classes=5)
    mixer.label_smoothing = 0.0
    if collate:
        mixed, target = mixer([(image, label) for label, image in enumerate(images)])
    else:
        mixed, target = mixer(torch.from_numpy(images).to(getattr(torch, kind)), torch.arange(5))
    mode = 'batch' if mode == 'half' and not collate else mode
    for i in range(len(mixed)):
        j = 4 - i
        first = {'batch': 0, 'pair': min(i, j)}.get(mode, i)
        keeps = images[first] >= images[4 - first]
        np.testing.assert_array_equal(mixed[i].double().numpy(), np.where(keeps, images[i], images[j]))
        assert i == j or target[i, i].item() == pytest.approx(keeps.mean(), abs=1e-6)


def test_torchvisions_transforms_show_the_images_and_resize_the_partner(brighter):
    register_family('pasted', alpha=None)(lambda *given: Mix(BoxMask(1.0, (0, 2, 0, 2)), Resized((0, 2, 0, 2))))
    images, labels = torch.rand(3, 1, 6, 4), torch.arange(3)
    mixed, _ = transforms.Mix('brighter', num_classes=3, mode='elem')(images, labels)
    assert torch.equal(mixed, torch.maximum(images, images.roll(1, 0)))
    mixed, _ = transforms.Mix('pasted', num_classes=3)(images, labels)
    assert torch.equal(mixed[..., :2, :2], images.roll(1, 0)[..., ::3, ::2]) and torch.equal(
        mixed[..., 2:], images[..., 2:]
    )


def test_a_family_that_sees_the_images_draws_nothing_without_them(brighter):
    with pytest.raises(ValueError, match='Brighter sees the images that are mixed: without them it draws no mask'):
        make_slot('brighter').draw_mask((6, 4), 0.5)
    with pytest.raises(ValueError, match="'brighter' has no coefficients of its own: its masks depend on the images"):
        coefficient_map('brighter', 0.5)


@pytest.mark.parametrize('mode', MODES)
@pytest.mark.parametrize('collate', [False, True])
def test_a_partner_is_resized_before_either_image_is_written(table, mode, collate):
    box = (1, 5, 0, 3)
    register_family('pasted', alpha=None)(lambda *given: Mix(BoxMask(1.0, box), Resized(box)))
    images = np.random.default_rng(0).integers(0, 256, (4, 3, 9, 8), dtype=np.uint8)
    mixer = (FastCollateMixup if collate else Mixup)(0.0, 1.0, mode=mode, cutmix_mode='pasted', num_classes=4)
    if collate:
        mixed, target = mixer([(image, label) for label, image in enumerate(images)])
    else:
        mixed, target = mixer(torch.from_numpy(images).float(), torch.arange(4))
    for i, image in enumerate(mixed):
        expected = images[i].copy()
        expected[:, 1:5, 0:3] = resized(images[3 - i], box)[:, 1:5, 0:3]
        np.testing.assert_array_equal(image.numpy(), expected)
        assert target[i].sum().item() == pytest.approx(1.0) and target[i].argmax() == i


def test_naflex_shows_and_resizes_what_both_images_cover(table):
    pytest.importorskip('timm.data.naflex_mixup', reason='timm has no NaFlex before 1.0.20')

    @register_family('quarter', alpha=None, sees='images')
    def quarter(size, lam, options, draws, images):
        assert [image.shape for image in images] == [(1, 4, 4)] * 2
        return Mix(BoxMask(1.0, (0, 2, 0, 2)), Resized((0, 2, 0, 2)))

    images = [torch.rand(1, 4, 6), torch.rand(1, 4, 4)]
    mixer = hmix_timm.NaFlexMixup(num_classes=2, mixup_alpha=0.0, cutmix_mode='quarter', local_shuffle=1)
    (wide, square), targets = mixer([image.clone() for image in images], torch.tensor([0, 1]))
    assert torch.equal(wide[0, :2, 1:3], images[1][0, ::2, ::2]) and torch.equal(wide[0, 2:], images[0][0, 2:])
    assert torch.equal(square[0, :2, :2], images[0][0, ::2, 1:5:2])
    assert [targets[0][0].item(), targets[1][1].item()] == pytest.approx([1 - 4 / 24, 1 - 4 / 16])


def test_options_of_ones_own_have_ranges_and_choices(table):
    ways = Option('way', 'rows', choices=('rows', 'columns'))
    options = [Option('count', 2, low=1, high=9), ways, Option('gamma', None, 'its γ')]
    register_family('concat', options=options)(lambda size, lam, o, draws: BoxMask(o.count / 9))
    assert make_slot('concat', concat_count=9).draw_mask((2, 2), 0.5)[1] == 1.0
    assert [option.help for option in FAMILIES['concat'].options] == ['count of Concat', 'way of Concat', 'its γ']
    for given, message in (
        ({'concat_way': 'diagonal'}, "concat_way must be one of rows, columns, got 'diagonal'"),
        ({'concat_count': 10}, 'concat_count must be a finite number between 1 and 9, got 10'),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            make_slot('concat', **given)
    assert make_slot('gridmix', gridmix_cells=3.0).draw_mask((6, 6), 1.0)[1] == 1.0
    with pytest.raises(ValueError, match="option 'count' of family 'wrong' must be a finite number >= 1, got 0"):
        register_family('wrong', options=[Option('count', 0, low=1)])
