"""How calls are timed and what they need, against calls whose cost is known."""

import numpy as np
import pytest
import torch

from hmix_timm.benching import timing
from hmix_timm.benching.timing import alternate, extra_memory, median_ratio


def test_calls_are_made_in_turns_two_of_them_as_a_warm_up():
    order = []
    alternate({'a': lambda: order.append('a'), 'b': lambda: order.append('b')}, 3, 'cpu')
    assert order == ['a', 'b'] * 5


def test_all_calls_of_a_turn_draw_the_same_and_turns_differ():
    draws = {'a': [], 'b': []}
    alternate({name: lambda found=found: found.append(np.random.rand()) for name, found in draws.items()}, 3, 'cpu')
    assert draws['a'] == draws['b']
    assert len(set(draws['a'][2:])) == 3


def test_times_are_milliseconds_of_the_turns_after_the_warm_up(clock, monkeypatch):
    monkeypatch.setattr(timing, 'time', clock)
    seconds = {'a': iter([9.0, 9.0, 0.002, 0.004]), 'b': iter([9.0, 9.0, 0.25, 1.5])}

    def work(name):
        clock.now += next(seconds[name])

    times = alternate({'a': lambda: work('a'), 'b': lambda: work('b')}, 2, 'cpu')
    assert times['a'] == pytest.approx([2.0, 4.0])
    assert times['b'] == pytest.approx([250.0, 1500.0])


def test_ratios_are_taken_within_a_turn():
    # all is slow in the second turn; the ratio of the medians would be 4 / 3
    assert median_ratio([2.0, 40.0, 4.0], [1.0, 40.0, 3.0]) == pytest.approx(4 / 3)
    assert median_ratio([1.0, 30.0, 4.0], [2.0, 60.0, 5.0]) == 0.5


def test_memory_that_is_given_back_before_the_next_is_taken_counts_once():
    def work():
        for _ in range(3):
            torch.ones(2**19).sum()  # 2 MiB
            np.ones(2**20, np.uint8).sum()

    assert extra_memory(work, 'cpu') == pytest.approx(2.0 + 1.0, abs=0.1)


def test_memory_that_is_returned_does_not_count():
    def work():
        torch.ones(2**18).sum()
        return torch.ones(2**20), np.ones(2**23, np.uint8)

    assert extra_memory(work, 'cpu') == pytest.approx(0.0, abs=0.1)


def test_memory_is_what_numpy_and_torch_hold_at_the_peak():
    def work():
        held = torch.ones(2**18), torch.ones(2**19), np.ones(2**20, np.uint8)
        return held[0].sum()

    assert extra_memory(work, 'cpu') == pytest.approx(4.0, abs=0.1)
