"""Imports that the garbage collector is kept off."""

import gc

import pytest

from train_patch.imports import uncollected


@pytest.mark.parametrize('enabled', [True, False])
def test_what_is_made_in_the_block_is_out_of_the_collectors_sight_and_the_collector_is_as_it_was(enabled):
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(ImportError), uncollected():
            made = [[]]
            assert not gc.isenabled()
            raise ImportError
        assert gc.isenabled() == enabled
        assert not any(found is made for found in gc.get_objects())  # those that it looks through
    finally:
        gc.unfreeze()
        gc.enable()
