"""How calls are timed and what they need, against calls whose cost is known."""

import numpy as np
import pytest
import torch

from train_patch.benching import timing
from train_patch.benching.timing import alternate, extra_memory, median_ratio


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


def test_ratios_of_unequal_numbers_of_turns_are_a_mistake():
    with pytest.raises(ValueError, match='shorter'):
        median_ratio([1.0, 2.0], [1.0])


def test_the_device_has_done_its_work_when_the_clock_is_read(clock, monkeypatch):
    """A device that works 2 s behind the call: what is left over from before is waited for, but not counted."""
    monkeypatch.setattr(timing, 'time', clock)
    pending = [5.0]

    def synchronize():
        clock.now += sum(pending)
        pending.clear()

    monkeypatch.setattr(torch.cuda, 'synchronize', synchronize)
    clock.now = 1.0
    times = alternate({'a': lambda: pending.append(2.0)}, 2, 'cuda')
    assert times == {'a': [pytest.approx(2000.0)] * 2}
    assert clock.now == 1.0 + 5.0 + 4 * 2.0


def test_what_was_left_undone_is_not_part_of_a_call(clock, monkeypatch):
    monkeypatch.setattr(timing, 'time', clock)
    pending = []

    def synchronize():
        clock.now += sum(pending)
        pending.clear()

    seed = np.random.seed

    def seed_and_leave_work(value):
        seed(value)
        pending.append(7.0)

    monkeypatch.setattr(torch.cuda, 'synchronize', synchronize)
    monkeypatch.setattr(np.random, 'seed', seed_and_leave_work)
    assert alternate({'a': lambda: pending.append(0.5)}, 1, 'cuda') == {'a': [pytest.approx(500.0)]}


def test_a_processor_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(torch.cpu, 'synchronize', lambda: pytest.fail('waited for'))
    timing.synchronize('cpu')


def test_the_turns_draw_from_the_seeds_0_0_0_1_2():
    found = []
    alternate({'a': lambda: found.append(np.random.rand())}, 3, 'cpu')
    assert found == [np.random.RandomState(seed).rand() for seed in (0, 0, 0, 1, 2)]


def test_memory_is_measured_from_a_seed_of_its_own():
    found = []
    np.random.seed(9)
    extra_memory(lambda: found.append(np.random.rand()), 'cpu')
    assert found == [np.random.RandomState(0).rand()]


def test_memory_of_a_gpu_is_its_peak_above_what_is_left(monkeypatch):
    """By a GPU of two counters: 10 MiB are held before, the call takes 7 more and gives back 4 of them."""
    order, held, peak, waiting = [], [10], [99], []

    def synchronize():
        order.append('synchronize')
        for change in waiting:
            held[0] += change
            peak[0] = max(peak[0], held[0])
        waiting.clear()

    def reset():
        order.append('reset')
        peak[0] = held[0]

    def call():
        order.append('call')
        waiting.extend((7, -4))
        return object()

    monkeypatch.setattr(torch.cuda, 'synchronize', synchronize)
    monkeypatch.setattr(torch.cuda, 'reset_peak_memory_stats', reset)
    monkeypatch.setattr(torch.cuda, 'max_memory_allocated', lambda: peak[0] * 2**20)
    monkeypatch.setattr(torch.cuda, 'memory_allocated', lambda: held[0] * 2**20)
    assert extra_memory(call, 'cuda') == 4.0
    assert order == ['synchronize', 'reset', 'call', 'synchronize']


def test_where_torch_cannot_tell_there_is_no_figure():
    assert extra_memory(lambda: pytest.fail('called'), 'mps') is None


def test_progress_goes_to_standard_error_at_once(capsys):
    timing.progress('mixers: a')
    timing.progress('mixers: b')
    assert capsys.readouterr() == ('', 'mixers: a\nmixers: b\n')


def test_a_call_may_take_longer_than_the_clock_has_run(clock, monkeypatch):
    monkeypatch.setattr(timing, 'time', clock)
    clock.now = 1.0
    seconds = iter([0.0, 0.0, 5.0])

    def work():
        clock.now += next(seconds)

    assert alternate({'a': work}, 1, 'cpu') == {'a': [5000.0]}
