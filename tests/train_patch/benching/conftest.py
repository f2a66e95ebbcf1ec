"""A clock that the tests turn by hand, so that what is measured is known to the last digit."""

import pytest


class Clock:
    """Stands in for the module `time`. Every reading moves it on by `tick` seconds, and so may whatever is timed."""

    def __init__(self, tick=0.0):
        self.now, self.tick = 0.0, tick

    def perf_counter(self):
        self.now += self.tick
        return self.now


@pytest.fixture
def clock():
    return Clock()
