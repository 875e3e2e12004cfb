"""Silence is measured by one process' own time, and only while it looks."""

from hypothesis import given
from hypothesis import strategies as st

from vrata.cloud.balancing.watch import Watch

TIMEOUT_S, GAP_S = 5.0, 0.5


def test_a_host_whose_number_stands_still_is_silent_after_its_time() -> None:
    watch = Watch(TIMEOUT_S, GAP_S)
    looks = [watch.look({"a": number, "b": 7}, number * 0.25) for number in range(23)]
    assert [bool(one) for one in looks] == [False] * 21 + [True, True]
    assert looks[-1] == {"b": 7}


@given(st.lists(st.floats(0.6, 10_000.0), min_size=1, max_size=9))
def test_a_process_that_was_stopped_gives_every_host_its_full_time(pauses: list[float]) -> None:
    """However long it did not run: it counts at most one gap each time it comes late."""
    watch, now = Watch(TIMEOUT_S, GAP_S), 0.0
    watch.look({"a": 1}, now)
    for pause in pauses:
        now += pause
        assert watch.look({"a": 1}, now) == {}
    assert watch.look({"a": 2}, now + 3600.0) == {}


def test_what_this_process_hears_itself_counts_at_once_and_a_host_that_goes_is_forgotten() -> None:
    watch = Watch(1.0, GAP_S)
    for step in range(3):
        watch.look({"a": 1}, step * 0.5)
    watch.heard("a")
    assert watch.look({"a": 1}, 1.5) == {}
    assert watch.look({}, 2.0) == {}
    assert watch.look({"a": 1}, 2.5) == {}


@given(st.lists(st.floats(-100.0, 100.0), max_size=20))
def test_hosts_that_go_on_beating_never_die_whatever_the_clock_does(times: list[float]) -> None:
    watch = Watch(TIMEOUT_S, GAP_S)
    for beat, now in enumerate(times):
        assert watch.look({"a": beat}, now) == {}
