"""What was right is known by fingerprints: a change of members is written without a look, any other one is looked at."""

from dataclasses import replace

from hypothesis import assume, given, settings
from tests.unit.provider.test_plan import desires, members, run
from tests.unit.provider.twin import CloudTwin

from vrata.provider.model import Desired, Member
from vrata.provider.plan import plan_ensure
from vrata.provider.settled import Settled, is_known, plan_members, settled


def with_members(desired: Desired, others: frozenset[Member]) -> Desired:
    listeners = (replace(one, pool=replace(one.pool, members=others)) for one in desired.listeners)
    return replace(desired, listeners=tuple(listeners))


def right(twin: CloudTwin, desired: Desired) -> Settled:
    run(twin, desired)
    balancer = twin.world(desired).balancer
    assert balancer
    return settled(desired, balancer, [])


@given(desires, members)
@settings(max_examples=40)
def test_a_change_of_members_takes_a_write_a_pool_and_then_all_is_right(
    desired: Desired, others: frozenset[Member]
) -> None:
    twin = CloudTwin()
    known, wanted = right(twin, desired), with_members(desired, others)
    assert is_known(known, wanted)
    before = twin.writes
    while found := plan_members(known, wanted):
        call, known = found
        twin.apply(call)
        twin.settle()
    assert twin.writes - before == sum(one.pool.members != others for one in desired.listeners)
    assert plan_ensure(wanted, twin.world(wanted)).settled


@given(desires, desires)
@settings(max_examples=40)
def test_any_other_change_is_not_known(desired: Desired, other: Desired) -> None:
    nobody: frozenset[Member] = frozenset()
    assume(with_members(desired, nobody) != with_members(other, nobody))
    assert not is_known(right(CloudTwin(), desired), other)


@given(desires)
@settings(max_examples=20)
def test_our_own_annotations_change_nothing(desired: Desired) -> None:
    known = right(CloudTwin(), desired)
    assert is_known(known, replace(desired, balancer_id=known.balancer_id, known_address="203.0.113.9"))
    assert not is_known(known, replace(desired, balancer_id="another"))
