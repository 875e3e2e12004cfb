"""Which calls are sent again, and when."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vrata.provider.retry import (
    ATTEMPTS_MAX,
    JITTER,
    WAIT_MAX_S,
    may_send_again,
    retry_after_s,
    wait_before_retry_s,
)

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("-1", None),
        ("soon", None),
        ("Fri, 02 Jan 2026 03:04:15 GMT", 10.0),
        ("Fri, 02 Jan 2026 03:00:00 GMT", 0.0),
        ("٣", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str | None, seconds: float | None) -> None:
    assert retry_after_s(header, NOW) == seconds


@given(st.text(max_size=40))
def test_any_header_is_survived(header: str) -> None:
    seconds = retry_after_s(header, NOW)

    assert seconds is None or seconds >= 0


@given(
    st.sampled_from([400, 404, 409, 429, 500, 502, 503]),
    st.none() | st.floats(0, 1e9),
    st.integers(1, 9),
    st.floats(0, 1, exclude_max=True),
)
def test_waits_are_bounded_and_never_shorter_than_asked(
    status: int, asked_s: float | None, attempt: int, chance: float
) -> None:
    wait_s = wait_before_retry_s(status, asked_s, attempt, chance)

    if wait_s is not None:
        assert status in (429, 503)
        assert attempt < ATTEMPTS_MAX
        assert (asked_s or 0) <= wait_s <= WAIT_MAX_S * (1 + JITTER)


def test_503_without_a_time_is_for_the_callers_backoff() -> None:
    assert wait_before_retry_s(503, None, 1, 0.0) is None
    assert wait_before_retry_s(429, None, 1, 0.0) == 1.0
    assert wait_before_retry_s(429, None, 3, 0.0) == 4.0


def test_what_never_left_is_sent_again_whatever_it_is() -> None:
    assert may_send_again("POST", connected=False, attempt=1)
    assert not may_send_again("POST", connected=True, attempt=1)
    assert may_send_again("PUT", connected=True, attempt=1)
    assert not may_send_again("PUT", connected=True, attempt=2)
