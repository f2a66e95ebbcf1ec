"""What is asked before the first run: one download at a time, and the number of epochs and images."""

from argparse import Namespace

import pytest
from filelock import FileLock, Timeout

from train_patch.comparison.checks import download_lock, look_ahead


def is_free(path):
    try:
        with FileLock(path, timeout=0):
            return True
    except Timeout:
        return False


@pytest.mark.parametrize('download', [True, False])
def test_only_one_comparison_at_a_time_downloads_into_a_folder(tmp_path, download):
    lock = tmp_path / 'data' / '.hmix-compare.lock'
    (tmp_path / 'data').mkdir()
    with download_lock(Namespace(dataset_download=download, data_dir=str(tmp_path / 'data'))):
        assert is_free(lock) == (not download)
    assert is_free(lock)


def test_a_folder_for_the_download_is_made(tmp_path):
    with download_lock(Namespace(dataset_download=True, data_dir=str(tmp_path / 'new' / 'data'))):
        assert (tmp_path / 'new' / 'data').is_dir()


@pytest.mark.parametrize(
    ('more', 'epochs'),
    [
        ([], 2),
        (['--epochs', '5', '--cooldown-epochs', '3'], 8),
        (['--epochs', '5', '--warmup-epochs', '2', '--warmup-prefix'], 7),
        (['--sched', 'step', '--epochs', '5', '--cooldown-epochs', '3'], 5),
    ],
)
def test_the_number_of_epochs_is_the_schedules(plan, arguments, tmp_path, more, epochs):
    comparison = plan(arguments(tmp_path, *more))
    assert look_ahead(comparison.training, None, False, lambda: None).epochs == epochs


def test_the_number_of_validation_images_is_the_data_sets(plan, arguments, tmp_path):
    comparison = plan(arguments(tmp_path))
    assert look_ahead(comparison.training, None, False, lambda: None).validation_images == 16


def test_nothing_is_known_of_data_that_are_not_there(plan, arguments, tmp_path):
    comparison = plan(arguments(tmp_path, '--data-dir', tmp_path / 'nowhere'))
    assert look_ahead(comparison.training, None, False, prepare=None) is None


def test_repeated_augmentation_is_refused_for_one_process_alone(plan, arguments, tmp_path):
    training = plan(arguments(tmp_path, '--aug-repeats', '3')).training
    with pytest.raises(ValueError, match='--aug-repeats 3 works on several processes only'):
        look_ahead(training, None, False, lambda: None)
    assert look_ahead(training, None, True, lambda: None).epochs == 2
