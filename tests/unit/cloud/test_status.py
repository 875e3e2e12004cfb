"""The laws of the state machine and of operating statuses."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from vrata.base.wire import VrrpState
from vrata.cloud.balancing import status
from vrata.cloud.balancing.status import TABLE, Carried, Event, Operating, Provisioning

carried = st.builds(
    Carried,
    host_alive=st.booleans(),
    observed_generation=st.integers(0, 5),
    state=st.sampled_from(["MASTER", "BACKUP", "UNKNOWN"]),
    error=st.none() | st.just("port 80: taken"),
    leaving=st.booleans(),
)
PENDING = {Provisioning.PENDING_CREATE, Provisioning.PENDING_UPDATE, Provisioning.PENDING_DELETE}


def test_a_user_changes_only_what_is_active_and_deletes_only_what_is_active_or_in_error() -> None:
    for state in Provisioning:
        assert (status.after(state, Event.CHANGE) is not None) == (state is Provisioning.ACTIVE)
        settled = state in {Provisioning.ACTIVE, Provisioning.ERROR}
        assert (status.after(state, Event.DELETE) is not None) == settled
        assert (status.after(state, Event.FAILOVER) is not None) == settled


def test_what_a_user_asks_for_is_pending_and_what_hosts_say_is_not() -> None:
    for (_, event), target in TABLE.items():
        asked = event in {Event.CHANGE, Event.DELETE, Event.FAILOVER}
        assert (target in PENDING) == asked


def test_deletion_is_never_undone() -> None:
    leads_to = {target for (state, _), target in TABLE.items() if state is Provisioning.PENDING_DELETE}
    assert leads_to == {Provisioning.DELETED}
    assert not any(state is Provisioning.DELETED for state, _ in TABLE)


def test_every_pending_state_can_end() -> None:
    for state in PENDING:
        assert any(target not in PENDING for (source, _), target in TABLE.items() if source is state)


@given(st.integers(1, 5), st.lists(carried, max_size=3))
def test_applied_means_that_every_live_instance_that_can_has_it_and_the_active_one_does(
    generation: int, instances: list[Carried]
) -> None:
    live = [one for one in instances if one.host_alive and not one.leaving]
    good = [one for one in live if one.error is None]
    active_is_sick = any(one.state == VrrpState.MASTER for one in live if one.error is not None)
    event = status.progress(generation, instances)
    if event is Event.APPLIED:
        assert good
        assert all(one.observed_generation >= generation for one in good)
    assert (event is Event.FAILED) == bool((live and not good) or active_is_sick)
    if event is None and live:
        assert min(one.observed_generation for one in good) < generation


@given(st.integers(1, 5), st.lists(carried, max_size=3), carried)
def test_an_instance_on_a_dead_host_changes_nothing(generation: int, instances: list[Carried], more: Carried) -> None:
    dead = dataclasses.replace(more, host_alive=False)
    assert status.progress(generation, [*instances, dead]) is status.progress(generation, instances)


@given(st.sampled_from(list(Provisioning)), st.sampled_from([Event.APPLIED, Event.FAILED]))
def test_a_child_is_never_left_pending_but_in_a_failed_deletion(state: Provisioning, event: Event) -> None:
    after = status.child_after(state, event)
    assert after not in PENDING or (state is Provisioning.PENDING_DELETE and event is Event.FAILED)
    if event is Event.APPLIED:
        assert after is (Provisioning.DELETED if state is Provisioning.PENDING_DELETE else Provisioning.ACTIVE)


@given(st.lists(st.sampled_from(["ONLINE", "ERROR", "NO_MONITOR", "DRAINING", "OFFLINE"]), max_size=5))
def test_a_pool_is_as_well_as_its_members(members: list[str]) -> None:
    found = status.pool_status(enabled=True, members=members)
    counted = [one for one in members if one != "OFFLINE"]
    assert (found == Operating.ERROR) == (bool(counted) and set(counted) == {"ERROR"})
    assert (found == Operating.DEGRADED) == ("ERROR" in counted and set(counted) != {"ERROR"})
    assert status.pool_status(enabled=False, members=members) == Operating.OFFLINE


@given(st.integers(0, 256), st.booleans(), st.none() | st.sampled_from(["ONLINE", "ERROR", "nonsense"]))
def test_a_member_is_online_only_if_somebody_looked(weight: int, monitored: bool, reported: str | None) -> None:
    found = status.member_status(enabled=True, weight=weight, monitored=monitored, reported=reported, before="OFFLINE")
    if found is Operating.ONLINE:
        assert monitored
        assert reported == "ONLINE"
        assert weight > 0
    disabled = status.member_status(
        enabled=False, weight=weight, monitored=monitored, reported=reported, before="ONLINE"
    )
    assert disabled is Operating.OFFLINE


def test_nothing_is_online_while_nobody_reports() -> None:
    assert status.balancer_status(enabled=True, reporting=False, below=["ONLINE"]) is Operating.OFFLINE
    assert status.balancer_status(enabled=True, reporting=True, below=[]) is Operating.ONLINE
