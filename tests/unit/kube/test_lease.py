"""When a lease may be taken, and what its holder writes."""

from vrata.kube.lease import LeaseObject, LeaseSpec, Seen, Times, may_take, taken
from vrata.kube.objects import ObjectMeta

NOW = "2026-01-02T03:04:05.000000Z"


def seen(holder: str | None, since_s: float = 100.0) -> Seen:
    spec = LeaseSpec(holder_identity=holder, lease_duration_seconds=5, acquire_time="before", lease_transitions=3)
    return Seen(LeaseObject(ObjectMeta(name="x"), spec), since_s)


def test_another_ones_lease_is_left_alone_until_it_was_silent_for_its_duration() -> None:
    assert not may_take(seen("a"), "b", 104.9)
    assert may_take(seen("a"), "b", 105.0)


def test_own_given_back_and_absent_leases_are_free() -> None:
    assert may_take(seen("b"), "b", 100.0)
    assert may_take(seen(""), "b", 100.0)
    assert may_take(seen(None), "b", 100.0)
    assert may_take(None, "b", 100.0)


def test_renewing_keeps_the_time_of_taking() -> None:
    renewed = taken(seen("a").lease.spec, "a", 5, NOW)

    assert (renewed.acquire_time, renewed.renew_time, renewed.lease_transitions) == ("before", NOW, 3)


def test_taking_over_counts_a_transition() -> None:
    spec = taken(seen("a").lease.spec, "b", 5, NOW)

    assert (spec.holder_identity, spec.acquire_time, spec.lease_transitions) == ("b", NOW, 4)
    assert taken(LeaseSpec(), "b", 5, NOW).lease_transitions == 0


def test_a_holder_gives_up_before_anybody_may_take_over() -> None:
    for duration_s in (2, 5, 15, 60):
        times = Times(duration_s)
        assert times.renew_deadline_s < duration_s
        assert times.retry_s * 3 < times.renew_deadline_s
