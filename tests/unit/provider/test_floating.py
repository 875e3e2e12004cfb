"""A Service's floating IP is replaced without a moment in which a refusal would leave it with none."""

import asyncio
import contextlib
from dataclasses import dataclass, replace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st
from tests.unit.provider.test_swaps import PORT_80, STILL, Refusing, come_to_rest, wish
from tests.unit.provider.twin import CloudTwin

from vrata.provider.apply import apply_plan
from vrata.provider.cloud import Cloud, CloudError
from vrata.provider.plan import plan_ensure


@dataclass
class RefusingAddress(Refusing):
    """As Neutron: no two floating IPs on one port; what it has against the named one is said before that, or after."""

    refused: str = ""
    before: bool = True

    async def request(
        self, method: str, service: str, path: str, *, params: dict[str, str] | None = None, body: Any = None
    ) -> dict[str, Any]:
        port_id = (body or {}).get("floatingip", {}).get("port_id")
        rows = self.twin.floatingips
        if method == "PUT" and port_id:
            bad = rows[path.rpartition("/")[2]]["floating_ip_address"] == self.refused
            taken = any(row["port_id"] == port_id for row in rows.values())
            if bad and (self.before or not taken):
                raise CloudError(404, "External network x is not reachable from subnet y")
            if taken:
                raise CloudError(409, "that fixed IP already has a floating IP")
        return await super().request(method, service, path, params=params, body=body)


@given(st.sampled_from(["", "203.0.113.77"]), st.booleans(), st.booleans())
def test_a_floating_ip_makes_room_only_for_one_that_can_take_its_place(refused: str, before: bool, keep: bool) -> None:
    """The old one was deleted, then the cloud refused to put the other one on the port."""
    twin = CloudTwin()
    old = wish({}, PORT_80)
    come_to_rest(twin, old)
    [held] = twin.floatingips.values()
    twin.floatingips["named"] = {"id": "named", "floating_ip_address": "203.0.113.77", "port_id": None}
    new = replace(old, floating_address="203.0.113.77", keep_floating=keep)
    cloud = RefusingAddress(twin, refused=refused, before=before)
    for _ in range(STILL):
        plan = plan_ensure(new, twin.world(new))
        with contextlib.suppress(CloudError):
            asyncio.run(apply_plan(cast("Cloud", cloud), plan.calls, plan.later))
        [there] = [row["floating_ip_address"] for row in twin.floatingips.values() if row["port_id"]]
        assert there == (held["floating_ip_address"] if refused else "203.0.113.77")
    assert (held["id"] in twin.floatingips) == bool(refused or keep)
