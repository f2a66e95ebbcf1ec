"""How calls are timed and what memory they need, against calls whose cost is known."""

import time

import numpy as np
import pytest
import torch

from train_patch.benching.timing import alternate, extra_memory, median_ratio


def test_all_calls_draw_from_the_same_seeds_and_turns_from_others():
    draws = {'a': [], 'b': []}
    times = alternate({name: lambda seen=seen: seen.append(np.random.rand()) for name, seen in draws.items()}, 3, 'cpu')
    assert {name: len(ms) for name, ms in times.items()} == {'a': 3, 'b': 3}
    assert draws['a'] == draws['b'] and len(set(draws['a'][-3:])) == 3


def test_times_are_milliseconds_and_leave_the_warm_up_out():
    seconds = iter([0.2, 0.2, 0.02, 0.04])
    begin = time.perf_counter()
    (first, second) = alternate({'a': lambda: time.sleep(next(seconds))}, 2, 'cpu')['a']
    assert first >= 20 and second >= 40
    assert first + second <= (time.perf_counter() - begin) * 1e3 - 400


def test_ratios_are_taken_within_a_turn():
    # all is slow in the second turn; the ratio of the medians would be 4 / 3 in both
    assert median_ratio([2.0, 40.0, 4.0], [1.0, 40.0, 3.0]) == pytest.approx(4 / 3)
    assert median_ratio([1.0, 30.0, 4.0], [2.0, 60.0, 5.0]) == 0.5


def freed():
    for _ in range(3):
        torch.ones(2**19).sum()  # 2 MiB, given back before the next
        np.ones(2**20, np.uint8).sum()


def returned():
    torch.ones(2**18).sum()
    return torch.ones(2**20), np.ones(2**23, np.uint8)


def held():
    together = torch.ones(2**18), torch.ones(2**19), np.ones(2**20, np.uint8)
    return together[0].sum()


@pytest.mark.parametrize(('work', 'mebibytes'), [(freed, 3.0), (returned, 0.0), (held, 4.0)])
def test_extra_memory_is_the_peak_beyond_what_is_returned(work, mebibytes):
    assert extra_memory(work, 'cpu') == pytest.approx(mebibytes, abs=0.1)


def test_there_is_no_figure_for_memory_where_torch_cannot_tell():
    assert extra_memory(lambda: pytest.fail('called'), 'mps') is None
