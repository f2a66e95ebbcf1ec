"""The project's own script with --mix-mode puzzlemix."""

import re

import pytest

PUZZLEMIX = '--mix-mode puzzlemix --model-ema --drop 0.2 --std 0.2 0.3 0.4 --epochs 2 -j 1 -b 4'


def losses(run):
    return [float(row['train_loss']) for row in run.rows]


@pytest.fixture(scope='module')
def whole(lean, tmp_path_factory):
    """Two epochs, both of them mixed."""
    return lean(tmp_path_factory.mktemp('puzzlemix') / 'run', PUZZLEMIX)


def test_the_log_says_every_parameter(whole):
    mixing = re.findall('Mixing: (.*)', whole.log)
    assert mixing == [
        'PuzzleMix(alpha=1, beta=1.2, gamma=0.5, eta=0.2, neigh_size=2, t_eps=0.8, t_size=-1, blocks=2|4|8|16, prob=1, '
        'label_smoothing=0.1, num_classes=4, std=0.2|0.3|0.4)'
    ]


def test_a_run_repeats_itself_and_goes_on_where_it_was_killed(lean, tmp_path, whole):
    killed = lean(tmp_path / 'run', PUZZLEMIX, status=-9, kill_at=12)
    assert [row['epoch'] for row in killed.rows] == ['0']
    resumed = lean(tmp_path / 'run', f'{PUZZLEMIX} --resume auto')
    assert resumed.text('summary.csv') == whole.text('summary.csv')


def test_batches_are_mixed_until_the_off_epoch(lean, tmp_path, whole):
    off = lean(tmp_path / 'off', f'{PUZZLEMIX} --mixup-off-epoch 1')
    assert losses(off)[0] == losses(whole)[0]
    assert losses(off)[1] != losses(whole)[1]


def test_puzzlemix_mixes_without_the_prefetcher_in_half_precision(lean, tmp_path):
    line = '--model test_vit --model-kwargs patch_size=8 --amp --amp-dtype bfloat16 --channels-last'
    run = lean(tmp_path / 'run', f'{PUZZLEMIX} {line} --no-prefetcher --grad-accum-steps 2 --epochs 1')
    assert len(run.rows) == 1


def test_images_that_cannot_be_cut_are_an_error_before_training(lean, tmp_path):
    run = lean(tmp_path / 'run', '--mix-mode puzzlemix --img-size 40 --epochs 1', status=2)
    assert 'sides that work: ' in run.last_line
