"""What is drawn in the rows of samples and in the grid of mixes, and how a figure becomes a file."""

import numpy as np
import pytest
from PIL import Image

from hmix_timm import BoxMask, DenseMask
from train_patch.drawing.pictures import blended, mix_grid, new_figure, plot_samples, save_figure
from train_patch.drawing.record import Batch

OWN = np.full((4, 6, 3), (200, 100, 11), np.uint8)
OTHER = np.full((4, 6, 3), (0, 50, 20), np.uint8)


def test_images_are_blended_rounded_and_clipped():
    values = np.tile([0.0, 0.25, 0.5, 0.75, 1.0, 2.0], (4, 1))
    found = blended(OWN, OTHER, DenseMask(values))
    assert found.shape == (4, 6, 3) and found.dtype == np.uint8
    # at 2 the mix is 2 own − other: 400, 150 and 2; at 0.5 the last channel is 15.5, and even numbers are nearer
    expected = [[0, 50, 20], [50, 62, 18], [100, 75, 16], [150, 88, 13], [200, 100, 11], [255, 150, 2]]
    assert found.tolist() == [expected] * 4
    assert (OWN == (200, 100, 11)).all() and (OTHER == (0, 50, 20)).all()


def test_the_grid_shows_originals_mixes_and_below_them_masks_and_label_weights_on_one_scale():
    masks = {'half': BoxMask(1.0, (0, 2, 0, 6)), 'all': BoxMask(0.75)}
    figure = mix_grid(OWN, OTHER, masks, 'the title')
    axes = np.array(figure.axes[:8]).reshape(2, 4)
    assert [ax.get_title() for ax in axes[0]] == ['image i', 'image j', 'half', 'all']
    assert [ax.get_title() for ax in axes[1]] == ['', '', 'i 0.500, j 0.500', 'i 0.750, j 0.250']
    shown = [OWN, OTHER, *(blended(OWN, OTHER, mask) for mask in masks.values())]
    for ax, image in zip(axes[0], shown, strict=True):
        np.testing.assert_array_equal(ax.images[0].get_array(), image)
    for ax, mask in zip(axes[1, 2:], masks.values(), strict=True):
        (image,) = ax.images
        np.testing.assert_array_equal(image.get_array(), mask.array((4, 6)))
        assert image.get_clim() == (0.0, 1.0)


def batch_of(number, classes=('first', 'second'), saliency=False):
    """A batch whose pictures can all be told apart."""
    images, mixed = (np.arange(24, dtype=np.uint8).reshape(2, 1, 3, 4) + start for start in (50 * number, 100))
    masks = np.arange(24, dtype=np.float32).reshape(2, 3, 4) / (24 + number)
    maps = masks[::-1] if saliency else None
    return Batch(images, classes, masks, np.array([0.125, 0.25], np.float32), maps, mixed)


@pytest.mark.parametrize('saliency', [False, True])
def test_every_panel_shows_what_its_title_says(saliency):
    batches = [batch_of(number, saliency=saliency) for number in range(2)]
    figure = plot_samples(batches, 3, 'the mixer')
    columns = 6 if saliency else 4
    assert len(figure.axes) == 3 * columns + 1 and figure.get_suptitle() == 'the mixer'
    for row, (batch, i) in enumerate(((batches[0], 0), (batches[0], 1), (batches[1], 0))):
        own, other = ('first', 'second')[i], ('second', 'first')[i]
        expected = {f'image i\n{own}': batch.images[i], f'image j\n{other}': batch.images[1 - i]}
        if saliency:
            expected |= {'saliency of i': batch.saliency[i], 'saliency of j': batch.saliency[1 - i]}
        weight = batch.weights[i]
        expected |= {'mask M': batch.masks[i], f'{weight:.3f} {own}\n{1 - weight:.3f} {other}': batch.mixed[i]}
        panels = figure.axes[columns * row : columns * (row + 1)]
        assert [panel.get_title() for panel in panels] == list(expected)
        for panel, shown in zip(panels, expected.values(), strict=True):
            (image,) = panel.get_images()
            np.testing.assert_array_equal(
                np.asarray(image.get_array()),
                np.broadcast_to(shown.T, (4, 3, 3)).swapaxes(0, 1) if shown.ndim == 3 else shown,
            )
        assert panels[-2].get_images()[0].get_clim() == (0.0, 1.0)


def test_a_figure_becomes_a_file_of_its_names_kind(tmp_path):
    path = tmp_path / 'made' / 'below' / 'figure.PNG'
    for _ in range(2):  # once more over the file that is there
        save_figure(new_figure((3.0, 2.0), None), path)
        with Image.open(path) as image:
            assert image.format == 'PNG' and image.size == (450, 300)
    assert [entry.name for entry in path.parent.iterdir()] == ['figure.PNG']
    save_figure(new_figure((3.0, 2.0), None), tmp_path / 'figure.svg')
    assert (tmp_path / 'figure.svg').read_bytes().startswith(b'<?xml')
