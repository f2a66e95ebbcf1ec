"""The picture of samples: every class name can be written, none is a formula, none is too long."""

import io

import numpy as np
import pytest

from train_patch.drawing.preview_plot import fonts_for, plot_samples, shortened, to_rgb
from train_patch.drawing.record import Sample


def sample(*labels):
    image = np.zeros((1, 4, 4), np.uint8)
    return Sample(image, image, labels, (3, 5), np.full((4, 4), 0.25, np.float32), 0.25, image)


def titles(figure):
    return [ax.get_title() for ax in figure.axes]


def test_rows_show_images_mask_and_weights():
    figure = plot_samples([sample('a', 'b'), sample('c', 'd')], 'the mixer')
    assert titles(figure)[:4] == ['image i\na', 'image j\nb', 'mask M', '0.250 a\n0.750 b']
    assert len(figure.axes) == 2 * 4 + 1  # and the scale
    assert figure.get_suptitle() == 'the mixer'


@pytest.mark.parametrize('name', ['$', 'a$b$', '$x^{2}$', r'\frac{', '_^', '%s {0}', 'tab\there\nand\0there'])
def test_no_class_name_is_a_formula(name):
    figure = plot_samples([sample(name, 'b')], 'title')
    figure.savefig(io.BytesIO(), format='png')
    assert titles(figure)[0] == 'image i\n' + ''.join(c if c.isprintable() else ' ' for c in name)


def test_a_class_that_no_font_can_write_is_shown_by_number(capsys):
    name = 'dog \U00012000'  # cuneiform
    if not fonts_for([name])[1]:
        pytest.skip('this machine has a font for it')
    figure = plot_samples([sample('cat', name)], 'title')
    assert titles(figure)[1] == 'image j\nclass 5' and titles(figure)[0] == 'image i\ncat'
    assert 'no installed font has \U00012000' in capsys.readouterr().err


def test_fonts_are_looked_for_only_where_they_are_needed():
    assert fonts_for(['tench, Tinca tinca', 'λ Ω ж']) == (['DejaVu Sans'], set())


@pytest.mark.parametrize(
    ('text', 'expected'),
    [
        ('short', 'short'),
        ('0123456789', '0123456789'),
        ('0123456789a', '01234…789a'),
        ('猫猫猫猫猫', '猫猫猫猫猫'),
        ('猫猫猫猫猫猫', '猫猫…猫猫'),
    ],
)
def test_long_names_lose_their_middle(text, expected):
    assert shortened(text, 10) == expected


def distinct(number, saliency=False):
    """A sample whose pictures can all be told apart."""
    own, other, mixed = (np.full((3, 4, 6), 40 * number + level, np.uint8) for level in (1, 2, 3))
    maps = tuple(np.full((4, 6), number + level) for level in (0.25, 0.75)) if saliency else None
    mask = np.full((4, 6), (number + 1) / 8, np.float32)
    return Sample(own, other, ('first', 'second'), (3, 5), mask, 0.125, mixed, maps)


@pytest.mark.parametrize('saliency', [False, True])
def test_every_panel_shows_what_its_title_says(saliency):
    samples = [distinct(number, saliency) for number in range(3)]
    figure = plot_samples(samples, 'the mixer')
    columns = 6 if saliency else 4
    assert len(figure.axes) == 3 * columns + 1
    for number, sample in enumerate(samples):
        panels = figure.axes[columns * number : columns * (number + 1)]
        expected = {
            'image i\nfirst': sample.own.transpose(1, 2, 0),
            'image j\nsecond': sample.other.transpose(1, 2, 0),
            **({'saliency of i': sample.saliency[0], 'saliency of j': sample.saliency[1]} if saliency else {}),
            'mask M': sample.mask,
            '0.125 first\n0.875 second': sample.mixed.transpose(1, 2, 0),
        }
        assert [panel.get_title() for panel in panels] == list(expected)
        for panel, shown in zip(panels, expected.values(), strict=True):
            (image,) = panel.get_images()
            np.testing.assert_array_equal(image.get_array(), shown)
            assert not panel.axison


def test_masks_are_drawn_on_one_scale_from_0_to_1():
    figure = plot_samples([distinct(0), distinct(1)], 'the mixer')
    masks = [panel.get_images()[0] for panel in figure.axes if panel.get_title() == 'mask M']
    assert [mask.get_clim() for mask in masks] == [(0.0, 1.0)] * 2
    scale = figure.axes[-1]
    assert scale.get_ylabel() == "M: image i's share" and scale.get_ylim() == (0.0, 1.0)
    assert list(scale.get_yticks()) == [0.0, 0.5, 1.0]
    assert len({mask.get_cmap().name for mask in masks}) == 1


def test_saliency_is_drawn_from_0_on():
    figure = plot_samples([distinct(0, saliency=True)], 'PuzzleMix')
    maps = [panel.get_images()[0] for panel in figure.axes if 'saliency' in panel.get_title()]
    assert [image.get_clim()[0] for image in maps] == [0.0, 0.0]


@pytest.mark.parametrize(('rows', 'saliency'), [(1, False), (4, True)])
def test_panels_titles_and_scale_have_room_of_their_own_in_the_picture(rows, saliency):
    """All places are set by hand, so nothing else sees to it: with names as long as they may be and a long title."""
    x = distinct(0, saliency)
    names = ('sulphur-crested cockatoo', 'Staffordshire bullterrier')
    figure = plot_samples(
        [Sample(x.own, x.other, names, x.targets, x.mask, x.weight, x.mixed, x.saliency)] * rows, 'word ' * 60
    )
    assert tuple(figure.get_size_inches()) == pytest.approx((13.8 if saliency else 9.2, 2.35 * rows + 0.9))
    figure.draw_without_rendering()
    *panels, scale = (panel.get_window_extent() for panel in figure.axes)
    texts = [panel.title.get_window_extent() for panel in figure.axes[:-1]] + [figure._suptitle.get_window_extent()]
    boxes = [*panels, *texts, figure.axes[-1].get_tightbbox()]
    for number, box in enumerate(boxes):
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width and 0 <= box.y0 < box.y1 <= figure.bbox.height
        assert not any(box.overlaps(other) for other in boxes[:number])
    inches = [(box.width / figure.dpi, box.height / figure.dpi) for box in (*panels, scale)]
    assert all(width > 1.8 and height > 1.2 for width, height in inches[:-1])
    assert inches[-1][0] < 0.3 and inches[-1][1] > 0.4 * (2.35 * rows)
    above = (figure.bbox.height - texts[-1].y1) / figure.dpi  # the long title begins at the top
    assert above == pytest.approx(0.12, abs=0.04)


def test_a_character_that_matplotlibs_own_font_lacks_is_taken_from_another_font(monkeypatch):
    from matplotlib import font_manager

    gone = font_manager.FontEntry(fname='/nowhere/gone.ttf', name='Gone')  # removed since the fonts were listed
    monkeypatch.setattr(font_manager.fontManager, 'ttflist', [gone, *font_manager.fontManager.ttflist])
    letter = 'Ⓐ'  # is in STIX, which comes with matplotlib
    (first, *others), missing = fonts_for(['class A', f'class {letter}'])
    assert (first, missing) == ('DejaVu Sans', set())
    (name,) = others
    assert 'Last Resort' not in name
    assert any(
        ord(letter) in font_manager.get_font(entry.fname).get_charmap()
        for entry in font_manager.fontManager.ttflist
        if entry.name == name
    )


def test_only_the_class_that_no_font_can_write_is_shown_by_number():
    unknown = '\U0001fae8\U0002ebf0'  # one of them at least is in no font of this machine, or the test has no subject
    if not fonts_for([unknown])[1]:
        pytest.skip('this machine has fonts for both')
    figure = plot_samples([sample('cat', 'dog'), sample(unknown, 'fox')], 'title')
    shown = titles(figure)
    assert (shown[0], shown[1], shown[4], shown[5]) == (
        'image i\ncat',
        'image j\ndog',
        'image i\nclass 3',
        'image j\nfox',
    )


def test_a_grey_image_is_shown_in_three_equal_channels():
    grey = np.arange(6, dtype=np.uint8).reshape(1, 2, 3)
    shown = to_rgb(grey)
    assert shown.shape == (2, 3, 3) and all((shown[:, :, channel] == grey[0]).all() for channel in range(3))
    coloured = np.arange(18, dtype=np.uint8).reshape(3, 2, 3)
    assert to_rgb(coloured)[1, 2].tolist() == coloured[:, 1, 2].tolist()
