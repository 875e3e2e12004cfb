"""A child that ends is started again: at once after it has lived, and ever later if it does not stay."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from vrata.loop.restarts import FIRST_S, LIVED_S, MOST_S, SEVERAL, Restarts


@given(st.lists(st.floats(0, 0.9 * LIVED_S), min_size=2, max_size=40), st.floats(0, 1e6))
def test_one_that_does_not_stay_waits_longer_each_time(lifetimes: list[float], now: float) -> None:
    restarts, pauses = Restarts(), []
    for lived_s in lifetimes:
        restarts.started(now)
        now += lived_s
        pauses.append(restarts.ended(now))
        assert (restarts.pause_s(now) > 0) == (pauses[-1] > 0)
        now += pauses[-1]
        assert restarts.pause_s(now) == 0
    assert pauses[:2] == [0.0, FIRST_S]
    assert all(later == min(2 * earlier, MOST_S) for earlier, later in pairwise(pauses[1:]))
    restarts.started(now)
    assert restarts.is_failing(now) == (len(lifetimes) >= SEVERAL)


@given(st.integers(1, 20), st.floats(1.1 * LIVED_S, 1e6))
def test_one_that_has_lived_is_started_at_once(ends: int, lived_s: float) -> None:
    restarts = Restarts()
    for _ in range(ends):
        restarts.started(0.0)
        restarts.ended(0.0)
    restarts.started(100.0)
    assert not restarts.is_failing(100.0 + lived_s)
    assert restarts.ended(100.0 + lived_s) == 0.0


def test_one_that_is_given_something_else_to_do_is_started_at_once() -> None:
    restarts = Restarts()
    for _ in range(5):
        restarts.started(0.0)
        restarts.ended(0.0)
    restarts.forgive()
    assert restarts.pause_s(0.0) == 0
    assert not restarts.is_failing(0.0)
