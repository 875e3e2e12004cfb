"""A Service on a load balancer of another changes its own listeners, pools and members, and nothing else of it."""

import copy
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.provider.test_plan import STEPS_MAX, desires
from tests.unit.provider.twin import CloudTwin, Json

from vrata.kube.objects import ObjectMeta, Service
from vrata.provider.annotations import BALANCER_ID, PORT_ID, TLS_REFERENCE, restricted_annotation
from vrata.provider.desired import FLOATING_FOR
from vrata.provider.model import Desired, Listener, Pool
from vrata.provider.plan import plan_ensure, plan_remove

GUEST = "kube_service_c_tenant_guest"


def settle(twin: CloudTwin, desired: Desired, *, remove: bool = False) -> str:
    """Passes until nothing is left to do, or something stands in the way; that problem."""
    for _ in range(STEPS_MAX):
        plan = (plan_remove if remove else plan_ensure)(desired, twin.world(desired))
        for call in plan.calls:
            twin.apply(call)
        twin.settle()
        if plan.settled or (plan.problem and not plan.calls):
            return plan.problem or ""
    raise AssertionError("it does not come to rest")


def of_the_owner(twin: CloudTwin, guest: Desired) -> Json:
    """Everything but what carries the guest's tag or name."""
    kept: dict[str, dict[str, Any]] = copy.deepcopy(twin.rows)
    kept["members"] = copy.deepcopy(twin.members)
    for row in kept["loadbalancers"].values():
        row["tags"] = sorted(set(row["tags"]) - {guest.name})
    guests = [id_ for id_, row in kept["listeners"].items() if guest.name in row["tags"]]
    pools = [id_ for id_, row in kept["pools"].items() if row["name"].endswith(guest.name)]
    monitors = {row["healthmonitor_id"] for id_, row in kept["pools"].items() if id_ in pools}
    for kind, ids in (("listeners", guests), ("pools", pools), ("members", pools), ("healthmonitors", monitors)):
        for id_ in ids:
            kept[kind].pop(id_, None)
    return kept


@given(
    owner=desires,
    guest=desires,
    address=st.sampled_from([None, "203.0.113.20", "203.0.113.99"]),
    keep=st.booleans(),
    tagged=st.booleans(),
)
@settings(max_examples=200)
def test_a_guest_comes_and_goes_and_the_owner_has_what_it_had(
    owner: Desired, guest: Desired, address: str | None, keep: bool, tagged: bool
) -> None:
    twin = CloudTwin()
    settle(twin, owner)
    [balancer] = twin.loadbalancers.values()
    if not tagged:  # made by an older controller, or by hand
        balancer["tags"] = []
        for listener in twin.listeners.values():
            listener["tags"] = []
    guest = replace(guest, name=GUEST, balancer_id=balancer["id"], floating_address=address, keep_floating=keep)
    before = of_the_owner(twin, guest)
    problem = settle(twin, guest)
    assert of_the_owner(twin, guest) == before
    if guest.internal != owner.internal:
        assert "public address" in problem
    if problem:
        assert not [row for row in twin.listeners.values() if GUEST in row["tags"]]
    own = {row["protocol_port"] for row in twin.listeners.values() if GUEST in row["tags"]}
    if plan_ensure(guest, twin.world(guest)).addresses:  # the owner's listener answers on a port that the guest lacks
        assert {listener.port for listener in guest.listeners} <= own
    settle(twin, guest, remove=True)
    assert of_the_owner(twin, guest) == before


def test_an_address_that_another_service_keeps_is_not_deleted_by_who_names_it() -> None:
    twin = CloudTwin()
    mark = FLOATING_FOR + "{} from cluster c"
    pool = Pool(protocol="TCP", algorithm="ROUND_ROBIN", members=frozenset())
    keeper = Desired(
        name="kube_service_c_victim_web", description="d", floating_description=mark.format("victim/web"),
        internal=False, listeners=(Listener("TCP", 80, pool),), keep_floating=True,
    )  # fmt: skip
    settle(twin, keeper)
    settle(twin, keeper, remove=True)
    [kept] = twin.floatingips.values()
    thief = replace(
        keeper, name=GUEST, floating_description=mark.format("thieves/web"), keep_floating=False,
        floating_address=kept["floating_ip_address"],
    )  # fmt: skip
    settle(twin, thief)
    settle(twin, thief, remove=True)
    assert [row["id"] for row in twin.floatingips.values()] == [kept["id"]]


def annotated(**annotations: str) -> Service:
    return Service(metadata=ObjectMeta(name="web", namespace="default", annotations=annotations))


@pytest.mark.parametrize(
    ("annotations", "guest", "expected"),
    [
        ({BALANCER_ID: "id"}, True, BALANCER_ID),
        ({BALANCER_ID: "id"}, False, ""),  # its own: the provider writes it there
        ({PORT_ID: "id"}, False, PORT_ID),
        ({TLS_REFERENCE: "https://key-manager/v1/secrets/1"}, False, TLS_REFERENCE),
        ({}, True, ""),
    ],
)
def test_what_needs_the_operators_permission(annotations: dict[str, str], guest: bool, expected: str) -> None:
    assert restricted_annotation(annotated(**annotations), guest=guest) == expected
