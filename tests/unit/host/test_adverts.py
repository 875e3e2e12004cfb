"""How long the peer was silent, and what that says."""

import pytest

from vrata.base.wire import Cause
from vrata.host.adverts import cause_of, parse_silence

LISTING = """table inet vrata_adverts {
	set heard {
		type inet_proto
		size 2
		flags dynamic,timeout
		timeout 1h
		elements = { vrrp expires %s }
	}
}
"""


@pytest.mark.parametrize(
    ("left", "silent_s"), [("59m59s856ms", 0.144), ("59m58s", 2.0), ("1h", 0.0), ("992ms", 3599.008), ("30m", 1800.0)]
)
def test_what_is_left_of_the_hour_says_how_long_ago(left: str, silent_s: float) -> None:
    assert parse_silence(LISTING % left) == pytest.approx(silent_s)


def test_without_an_element_nobody_was_heard() -> None:
    assert parse_silence(LISTING.replace("\t\telements = { vrrp expires %s }\n", "")) is None


@pytest.mark.parametrize(
    ("silent_s", "cause"),
    [(None, Cause.FIRST), (0.0, Cause.GOODBYE), (0.06, Cause.GOODBYE), (0.15, Cause.SILENCE), (40.0, Cause.SILENCE)],
)
def test_the_cause_is_in_the_length(silent_s: float | None, cause: Cause) -> None:
    assert cause_of(silent_s, advert_interval_ms=50) is cause
