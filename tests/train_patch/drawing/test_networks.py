"""Figure 6's numbers: gains from a comparison's table, and predictions for its networks."""

import argparse
import math

import numpy as np
import pytest
import torch
import tqdm

from hmix_timm.modes import mix_modes
from hmix_timm.theory.laws import Estimate
from hmix_timm.theory.prediction import Prediction
from train_patch.drawing import networks
from train_patch.drawing.networks import measured_gains, paired_gains, prediction_table
from train_patch.drawing.theory_figures import figure6


def test_gains_are_paired_by_seed(comparison):
    gains = measured_gains(comparison / 'results.csv')
    assert list(gains) == ['mixup', 'hmix', 'gmix']
    assert gains['mixup'] == pytest.approx(Estimate(4.5, 0.5))
    assert gains['hmix'].value == pytest.approx(-3.0)
    assert gains['hmix'].standard_error == pytest.approx(2.0 / math.sqrt(3))
    assert gains['gmix'] == Estimate(10.0, None)  # of one seed


def test_seeds_without_a_partner_do_not_count():
    assert paired_gains({'none': {0: 50.0, 2: 60.0}, 'mixup': {1: 90.0, 2: 61.0}}) == {'mixup': Estimate(1.0, None)}


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', "has no results for 'none'"),
        ('a,b\n1,2\n', 'is not a results.csv'),
        ('mode,top1_seed0\nnone,high\n', 'is not a results.csv'),
        ('mode,top1_seed0\nmixup,70\n', "has no results for 'none'"),
        ('mode,top1_seed0\nnone,70\n', "has no mix mode with the seeds of 'none'"),
        ('mode,top1_seed0,top1_seed1\nnone,70,\nmixup,,80\n', "has no mix mode with the seeds of 'none'"),
    ],
)
def test_another_table_is_refused_by_name(tmp_path, text, message):
    path = tmp_path / 'results.csv'
    path.write_text(text)
    with pytest.raises(ValueError, match=f'results.csv {message}'):
        measured_gains(path)


def test_a_table_that_cannot_be_read_is_refused(tmp_path):
    (tmp_path / 'results.csv').write_bytes(b'\xff\xfe\x00')
    for path in (tmp_path / 'results.csv', tmp_path / 'none.csv', tmp_path):
        with pytest.raises(ValueError, match=str(path)):
            measured_gains(path)


def prediction(scale):
    return Prediction(*(Estimate(scale * (i + 1.0), 0.1 * scale) for i in range(6)))


def test_networks_are_averaged_and_their_errors_with_them():
    gains = {'mixup': Estimate(4.5, 0.5)}
    found = {'a': {'mixup': prediction(1.0)}, 'b': {'mixup': prediction(3.0)}}
    _, numbers = networks._figure6(found, gains, 'title')
    mixup = numbers['mix_modes']['mixup']
    assert mixup['r1'] == pytest.approx({'value': 4.0, 'standard_error': 0.1 * math.sqrt(1 + 9) / 2})
    assert mixup['gain'] == {'value': 4.5, 'standard_error': 0.5}
    assert numbers['networks']['b']['mixup']['mixing']['value'] == 18.0


def test_points_of_the_figure_are_predictions_against_gains():
    gains = {'mixup': Estimate(2.0, 0.5), 'hmix': Estimate(-1.0, None), 'gmix': Estimate(3.0, 0.1)}
    predictions = {'mixup': prediction(1.0), 'hmix': prediction(3.0), 'gmix': prediction(2.0)}
    figure = figure6(predictions, gains, 'title')
    for ax, factor in zip(figure.axes, (1.0, 5.0, 6.0), strict=True):
        points = {container.get_label(): container.lines[0] for container in ax.containers}
        for name, scale in (('mixup', 1.0), ('hmix', 3.0), ('gmix', 2.0)):
            point = points[mix_modes()[name].title]
            assert point.get_xdata() == pytest.approx([scale * factor])
            assert point.get_ydata() == pytest.approx([gains[name].value])
            assert point.get_color() == mix_modes()[name].colour
        assert ax.get_title() == "Spearman's ρ = -0.50 of 3 mix modes"


def test_the_table_has_a_row_for_each_mix_mode():
    gains = {'mixup': Estimate(4.5, 0.5), 'hmix': Estimate(-1.0, None)}
    found = {'a': {'mixup': prediction(1.0), 'hmix': prediction(2.0)}}
    first, second = prediction_table(networks._figure6(found, gains, 'title')[1])
    assert list(first.values()) == [
        'mixup',
        '1.000 ± 0.100',
        '2.000 ± 0.100',
        '3.000 ± 0.100',
        '4.000 ± 0.100',
        '5.000 ± 0.100',
        '6.000 ± 0.100',
        '4.500 ± 0.500',
    ]
    assert second['mix mode'] == 'hmix' and second['gain (points)'] == '-1.000'


@pytest.mark.slow
def test_small_networks_are_trained_for_every_mix_mode_that_draws_masks(monkeypatch, few_samples):
    trained = []

    def train_digits(mode, seed, epochs, images, progress):
        trained.append((mode, seed, images))
        progress.update(epochs)
        model, others, _ = original(mode, seed, 1, images)
        return model, others, 50.0 + 2 * (mode == 'hmix') + (mode == 'gmix') + 0.5 * seed * (mode == 'hmix')

    original = networks.train_digits
    monkeypatch.setattr(networks, 'train_digits', train_digits)
    monkeypatch.setattr(networks, 'LOOKED_AT', 10)
    args = type('Args', (), {'mix_preset': 'cifar100'})
    _, numbers = networks.figure6_digits(args, seeds=2)
    modes = [name for name, mode in mix_modes().items() if mode.draws_masks]
    assert sorted(trained) == sorted((mode, seed, networks.FEW_IMAGES) for mode in ['none', *modes] for seed in (0, 1))
    assert {name: of['gain']['value'] for name, of in numbers['mix_modes'].items()} == {
        **dict.fromkeys(modes, 0.0),
        'hmix': 2.25,
        'gmix': 1.0,
    }
    assert list(numbers['networks']) == ['seed 0', 'seed 1']
    assert all(np.isfinite(of['regularization']['value']) for of in numbers['mix_modes'].values())


def test_draws_without_an_error_add_none():
    exact = Prediction(*(Estimate(2.0, None) for _ in range(6)))
    (found, *_) = networks._mean([exact, prediction(3.0), exact, exact])
    assert found == pytest.approx(Estimate((3 * 2.0 + 3.0) / 4, 0.3 / 4))


def test_gains_are_looked_up_in_columns_of_seeds_alone(tmp_path):
    path = tmp_path / 'results.csv'
    path.write_text('mode,top1_mean,top1_seed3,top1_seed10,note\nnone,1,50,60,a\nhmix,2,51,,b\nown,3,90,90,c\n')
    assert measured_gains(path) == {'hmix': Estimate(1.0, None)}


@pytest.fixture
def bars(monkeypatch):
    """Progress bars that were made: total, and by how much they came on."""
    made = []

    class Bar:
        def __init__(self, total, desc, unit):
            made.append([total, 0])

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def update(self, count=1):
            made[-1][1] += count

    monkeypatch.setattr(tqdm, 'tqdm', Bar)
    return made


def test_maps_of_small_networks_are_means_over_seeds(bars, monkeypatch):
    def train_digits(mode, seed, epochs, progress):
        progress.update(epochs)
        return (mode, seed), torch.zeros(250), 50.0 + 4 * seed

    def gradient_map(model, batches):
        assert [len(batch) for batch in batches] == [100, 100, 50]
        mode, seed = model
        return np.full((31, 31), ['none', 'mixup', 'cutmix'].index(mode) + 10.0 * seed)

    monkeypatch.setattr(networks, 'train_digits', train_digits)
    monkeypatch.setattr(networks, 'gradient_map', gradient_map)
    figure, numbers = networks.figure5_digits()
    assert bars == [[90, 90]]
    assert list(numbers) == ['none', 'mixup', 'cutmix']
    for index, found in enumerate(numbers.values()):
        assert found == {**dict.fromkeys(('0', '1', '2', '4', '8'), 5.0 + index), 'top1': 52.0}
    assert [ax.get_title() for ax in figure.axes[:3]] == ['(a) No mixing', '(b) Mixup', '(c) CutMix']
    assert figure.get_suptitle().endswith('mean of 2 seeds')


def test_small_networks_are_looked_at_on_the_last_images(bars, monkeypatch):
    others = torch.arange(1747.0)[:, None]

    def train_digits(mode, seed, epochs, images, progress):
        progress.update(epochs)
        return (mode, seed), others, 50.0

    looked = []

    def predict(network, gains, args):
        looked.append(network)
        return {name: prediction(1.0) for name in gains}

    monkeypatch.setattr(networks, 'train_digits', train_digits)
    monkeypatch.setattr(networks, '_predict', predict)
    networks.figure6_digits(None)
    ((total, came),) = bars
    assert total == came == 6 * 3 * 100
    assert [(network.name, network.model) for network in looked] == [(f'seed {i}', ('none', i)) for i in range(3)]
    for network in looked:
        ((images, labels),) = network.batches
        assert network.length == 1
        assert torch.equal(images, others[-200:]) and torch.equal(labels, networks.digit_images()[1][-200:])


def test_images_of_checkpoints_come_by_class_unless_shuffled(comparison):
    args = argparse.Namespace(checkpoint=[comparison / 'none' / f'seed{i}' / 'last.pth.tar' for i in (0, 1)])
    vars(args).update(model=None, num_classes=None, img_size=None, device='cpu', dataset=None, data_dir=None)
    vars(args).update(split=None, max_images=None, batch_size=6, workers=0)
    for shuffled, given in ((False, {}), (True, {'shuffled': True})):
        found = list(networks.checkpoint_networks(args, **given))
        assert [network.name for network in found] == ['seed0/last.pth.tar', 'seed1/last.pth.tar']
        for network in found:
            labels = [label for _, batch in network.batches for label in batch.tolist()]
            assert network.length == len(list(network.batches)) == 3 and len(labels) == 16
            assert (labels != sorted(labels)) is shuffled
