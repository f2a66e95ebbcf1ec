"""The picture of samples: every class name can be written, none is a formula, none is too long."""

import io

import numpy as np
import pytest

from train_patch.previewing.plot import fonts_for, plot_samples, shortened
from train_patch.previewing.record import Sample


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
