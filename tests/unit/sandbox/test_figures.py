"""Which of the demo's figures are only shown, and which fail it."""

import pytest

from vrata.sandbox.demo.stage import Figure


@pytest.mark.parametrize(
    ("figure", "met", "slow"),
    [
        (Figure("up", 14.0, "s", 15.0), True, False),
        (Figure("up", 17.0, "s", 15.0), False, True),
        (Figure("gap_keepalived_killed", 700.0, "ms", 500.0), False, True),
        (Figure("failed_requests_rolling_update", 1, "requests", 0), False, False),
        (Figure("idle_memory", 2000.0, "MiB", 1024.0), False, False),
    ],
    ids=lambda value: value.id if isinstance(value, Figure) else "",
)
def test_a_slow_machine_is_no_failure_and_a_lost_request_is(figure: Figure, *, met: bool, slow: bool) -> None:
    assert (figure.met, figure.slow) == (met, slow)
