"""Whatever a Service says and whatever the cloud refuses: a port that is served and still wanted ends served."""

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tests.unit.provider.test_desired import NODES, make_service
from tests.unit.provider.twin import CloudTwin

from vrata.provider import swaps
from vrata.provider.annotations import PREFIX
from vrata.provider.apply import apply_plan
from vrata.provider.call import Call
from vrata.provider.cloud import Cloud, CloudError
from vrata.provider.desired import desired
from vrata.provider.model import Desired, Settings, Swaps
from vrata.provider.plan import plan_ensure
from vrata.provider.settled import half_settled
from vrata.provider.swaps import layer4

STILL = 6  # passes without a change: the planner has come to rest
LATE = "listeners, once their place is free"  # what only the driver refuses, which sees what the API has let through

GOOD = {
    "x-forwarded-for": "true",
    "proxy-protocol": "v2",
    "lb-method": "SOURCE_IP",
    "connection-limit": "7",
    "timeout-client-data": "70",
    "health-monitor-delay": "9",
    "enable-health-monitor": "false",
    "default-tls-container-ref": "https://k/v1/containers/1",
}
BAD = {
    "x-forwarded-for": "yes",
    "proxy-protocol": "v9",
    "lb-method": "NOPE",
    "connection-limit": "x",
    "timeout-client-data": "x",
    "timeout-member-data": "-1",
    "health-monitor-delay": "0",
    "health-monitor-timeout": "3601",
    "enable-health-monitor": "maybe",
    "member-subnet-id": "x",
    "node-selector": "a in (b",
    "default-tls-container-ref": "no address",
    "service.beta.kubernetes.io/load-balancer-source-ranges": "300.0.0.0/8",
    "vrata.dev/target": "moon",
    "loadbalancer.openstack.org/class": "gold",
    "flavor-id": "x",
    "floating-subnet-id": "x",
}
ports = st.lists(
    st.fixed_dictionaries(
        {
            "port": st.sampled_from([80, 81, 443]),
            "nodePort": st.sampled_from([30080, 30081, 30082]),
            "protocol": st.sampled_from(["TCP", "TCP", "UDP"]),
        }
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda one: (one["protocol"], one["port"]),
)


def some_of(values: Mapping[str, str]) -> st.SearchStrategy[dict[str, str]]:
    names = st.lists(st.sampled_from(sorted(values)), max_size=3, unique=True)
    return names.map(lambda chosen: {name: values[name] for name in chosen})


def wish(annotations: Mapping[str, str], ports: object) -> Desired:
    full = {name if "/" in name else PREFIX + name: value for name, value in annotations.items()}
    return desired(Settings(), make_service(full, ports=ports), NODES)


@dataclass
class Refusing:
    """A cloud that refuses calls of one kind, always."""

    twin: CloudTwin
    kind: str = ""
    status: int = 400
    refusals: list[str] = field(default_factory=list)

    async def request(
        self, method: str, service: str, path: str, *, params: dict[str, str] | None = None, body: Any = None
    ) -> dict[str, Any]:
        call = Call(service, method, path, "", body, tuple((params or {}).items()))
        asked = (body or {}).get("listener", {})
        coming = method == "POST" and call.resource == "listeners"
        taken = coming and (layer4(asked["protocol"]), asked["protocol_port"]) in served(self.twin, full=False)
        late = self.kind == LATE and coming and not taken and asked["protocol"] not in ("TCP", "UDP")
        if late or self.kind == f"{method} {call.resource}":
            self.refusals.append(path)
            raise CloudError(self.status, "refused")
        if taken:
            raise CloudError(409, "Another Listener on this Load Balancer is already using the port")
        self.twin.apply(call)
        return {"loadbalancer": None}


def served(twin: CloudTwin, *, full: bool = True) -> set[tuple[str, int]]:
    """Ports that a client finds somebody behind."""
    return {
        (layer4(row["protocol"]), row["protocol_port"])
        for row in twin.listeners.values()
        if not full or twin.members.get(row["default_pool_id"] or "")
    }


def come_to_rest(twin: CloudTwin, wanted: Desired, kind: str = "", status: int = 400) -> Refusing:
    """Passes as the controller makes them, until nothing changes any more."""
    cloud, known, still, seen = Refusing(twin, kind, status), Swaps(), 0, ""
    while still < STILL:
        world = replace(twin.world(wanted), swaps=known)
        plan = plan_ensure(wanted, world)
        if world.balancer and (half := half_settled(wanted, world.balancer, plan)):
            pools = {one.pool.id: one for one in world.balancer.listeners if one.pool}
            pairs = zip(half.pools, wanted.listeners, strict=True)
            assert all(pools[id_].pool.protocol == one.pool.protocol for (id_, _), one in pairs)  # type: ignore[union-attr]
        with contextlib.suppress(CloudError):
            applied = asyncio.run(apply_plan(cast("Cloud", cloud), plan.calls, plan.later))
            known = swaps.after(known, wanted, world.balancer, applied.made_room, applied.put_back)
        twin.settle()
        state = repr((twin.rows, twin.members))
        still, seen = (still + 1 if state == seen else 0), state
        assert twin.writes < 300, "no rest"
    return cloud


PORT_80 = [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]
PORT_8081 = [{"port": 8081, "nodePort": 30080, "protocol": "TCP"}]
REFUSALS = [
    "",
    LATE,
    *(f"POST {kind}" for kind in ("listeners", "pools", "healthmonitors")),
    *(f"PUT {kind}" for kind in ("listeners", "pools", "healthmonitors", "members")),
    *(f"DELETE {kind}" for kind in ("listeners", "pools", "healthmonitors")),
]


@given(some_of(GOOD), ports, some_of(GOOD), some_of(BAD), ports, st.sampled_from(REFUSALS), st.sampled_from([400, 403]))
@settings(max_examples=100)
@example({}, PORT_80, {}, {"health-monitor-delay": "0"}, PORT_8081, "", 400)
@example({}, PORT_80, {}, {"timeout-client-data": "x"}, PORT_8081, "", 400)
@example({}, PORT_80, {}, {"proxy-protocol": "v9"}, PORT_8081, "", 400)
@example({}, PORT_80, {"x-forwarded-for": "true"}, {"lb-method": "NOPE"}, PORT_80, "", 400)
@example({}, PORT_80, {"x-forwarded-for": "true"}, {"node-selector": "a in (b"}, PORT_80, "", 400)
@example({}, PORT_80, {"x-forwarded-for": "true"}, {}, PORT_80, "POST listeners", 403)
@example({}, PORT_80, {"x-forwarded-for": "true"}, {}, PORT_80, LATE, 501)
@example({}, PORT_80, {"x-forwarded-for": "true"}, {}, PORT_8081, "POST listeners", 403)
@example({}, PORT_80, {"proxy-protocol": "v2"}, {}, PORT_80, "PUT members", 400)
def test_a_port_that_was_served_and_is_still_wanted_ends_served(
    before: dict[str, str],
    first: list[dict[str, Any]],
    good: dict[str, str],
    bad: dict[str, str],
    second: list[dict[str, Any]],
    kind: str,
    status: int,
) -> None:
    """A listener was deleted before it was known whether its successor could be made: for good, where it could not."""
    twin = CloudTwin()
    old, new = wish(before, first), wish(good | bad, second)
    assume(not old.problems)
    assume(kind != LATE or all(one.protocol in ("TCP", "UDP") for one in old.listeners))  # what it had it takes again
    come_to_rest(twin, old)
    there = served(twin)
    come_to_rest(twin, new, kind, status)
    wanted = {(layer4(one.protocol), one.port) for one in new.listeners}
    assert there & wanted <= served(twin), (before, first, good, bad, second, kind, status)
    if not wanted <= served(twin):
        assert there <= served(twin)  # nothing goes for the sake of what cannot be made
    come_to_rest(twin, old)
    assert served(twin) == there
    assert len(twin.pools) == len(twin.listeners) == len(old.listeners)


@pytest.mark.parametrize("name", ["connection-limit", "timeout-client-data", "lb-method", "health-monitor-delay"])
def test_a_port_that_moves_keeps_the_last_good_value_of_what_is_refused(name: str) -> None:
    """A refused annotation holds up itself only: the port comes, with what the Service had."""
    twin = CloudTwin()
    come_to_rest(twin, wish({name: GOOD[name]}, PORT_80))
    come_to_rest(twin, wish({name: BAD[name]}, PORT_8081))
    assert served(twin) == {("TCP", 8081)}
    shown = wish({name: GOOD[name]}, PORT_8081)
    found = twin.world(shown)
    assert found.balancer
    assert plan_ensure(shown, found).calls == ()


def test_a_protocol_that_was_refused_is_not_tried_again_and_again() -> None:
    twin, wanted = CloudTwin(), wish({"x-forwarded-for": "true"}, PORT_80)
    come_to_rest(twin, wish({}, PORT_80))
    assert len(come_to_rest(twin, wanted, LATE, 501).refusals) == 1
    assert [row["protocol"] for row in twin.listeners.values()] == ["TCP"]
