"""An in-memory cloud that carries out planned calls on rows as the APIs answer them, for testing plans without one."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from vrata.provider.call import Call
from vrata.provider.model import Desired, World
from vrata.provider.rows import Rows, parse_members, world

Json = dict[str, Any]
EXTERNAL = "external"
SUBNETS = ((4, "subnet-4"), (6, "subnet-6"))


@dataclass
class CloudTwin:
    """Load balancers with all under them and floating IPs; each write makes its load balancer PENDING until `settle`."""

    rows: dict[str, dict[str, Json]] = field(
        default_factory=lambda: {
            kind: {} for kind in ("loadbalancers", "listeners", "pools", "healthmonitors", "floatingips")
        }
    )
    members: dict[str, list[Json]] = field(default_factory=dict)
    writes: int = 0
    calls: list[Call] = field(default_factory=list)
    _ids: Any = field(default_factory=lambda: count(1))

    def __getattr__(self, kind: str) -> dict[str, Json]:
        return self.rows[kind]

    def read(self) -> Rows:
        """What lists of the whole project tell."""
        rows = Rows()
        rows.add_balancers(self.loadbalancers.values())
        rows.add_tree(self.listeners.values(), self.pools.values(), self.healthmonitors.values())
        rows.add_floating(self.floatingips.values())
        rows.members = {key: parse_members(found) for key, found in self.members.items()}
        return rows

    def world(self, desired: Desired, hints: Iterable[str] = ()) -> World:
        """What a pass over one Service sees."""
        seen = world(self.read(), desired, set(hints))
        return World(
            seen.balancer,
            seen.floating,
            seen.wanted_floating,
            seen.stray_floating,
            EXTERNAL,
            None,
            SUBNETS,
            seen.namesakes,
        )

    def settle(self) -> None:
        """The cloud finishes what it was doing."""
        for id_, row in list(self.loadbalancers.items()):
            if row["provisioning_status"] == "PENDING_DELETE":
                self._drop(id_)
            else:
                row["provisioning_status"] = "ACTIVE"

    def _drop(self, balancer_id: str) -> None:
        port = self.loadbalancers.pop(balancer_id)["vip_port_id"]
        for kind in ("listeners", "pools"):
            self.rows[kind] = {k: v for k, v in self.rows[kind].items() if v["loadbalancers"][0]["id"] != balancer_id}
        for row in self.floatingips.values():
            if row["port_id"] == port:
                row["port_id"] = None

    def apply(self, call: Call) -> None:
        """Carry out one call; AssertionError where the cloud would refuse."""
        self.calls.append(call)
        body: Any = next(iter(call.body.values())) if call.body else {}
        words = call.path.removeprefix("/v2.0/lbaas").removeprefix("/v2.0").strip("/").split("/")
        kind, id_, batch = words[0], words[1] if len(words) > 1 else "", len(words) > 2
        if kind == "floatingips":
            self._floating(call.method, id_, body)
            return
        self.writes += 1
        owner = self._owner(kind, id_, body) if call.method != "POST" or kind != "loadbalancers" else None
        if owner:
            assert owner["provisioning_status"] in ("ACTIVE", "ERROR"), "no write while a change is under way"
            owner["provisioning_status"] = "PENDING_DELETE" if call.params else "PENDING_UPDATE"
        if batch:
            self.members[id_] = [self._member(one) for one in body]
        elif call.method == "POST":
            self._make(kind, body, owner["id"] if owner else "")
        elif call.method == "PUT":
            self.rows[kind][id_] |= body
        elif kind != "loadbalancers":
            self._delete(kind, id_)

    def _floating(self, method: str, id_: str, body: Json) -> None:
        if method == "POST":
            id_ = f"fip-{next(self._ids)}"
            address = body.get("floating_ip_address", f"203.0.113.{20 + len(self.floatingips)}")
            self.floatingips[id_] = {"id": id_, "floating_ip_address": address, "port_id": None, **body}
        elif method == "PUT":
            self.floatingips[id_] |= body
        else:
            del self.floatingips[id_]

    def _owner(self, kind: str, id_: str, body: Json) -> Json:
        if kind == "loadbalancers":
            return self.loadbalancers[id_]
        if kind == "healthmonitors":
            pool_id = body.get("pool_id") or next(p["id"] for p in self.pools.values() if p["healthmonitor_id"] == id_)
            return self._owner("pools", pool_id, {})
        if not id_:
            listener = self.listeners.get(body.get("listener_id", ""))
            id_, kind = (listener["id"], "listeners") if listener else ("", kind)
            if not listener:
                return self.loadbalancers[body["loadbalancer_id"]]
        return self.loadbalancers[self.rows[kind][id_]["loadbalancers"][0]["id"]]

    def _make(self, kind: str, body: Json, owner_id: str) -> str:
        id_ = f"{kind}-{next(self._ids)}"
        made: Json = {"id": id_, "loadbalancers": [{"id": owner_id}], **body}
        match kind:
            case "loadbalancers":
                vip = {
                    "vip_address": "10.10.0.100",
                    "vip_port_id": f"port-{id_}",
                    "provisioning_status": "PENDING_CREATE",
                }
                others = [{"ip_address": "fd00::100"} for _ in body.get("additional_vips", ())]
                made = {**vip, **made, "additional_vips": others}
                for listener in made.pop("listeners"):
                    self._make("listeners", listener, id_)
            case "listeners":
                pool = made.pop("default_pool", None)
                made["default_pool_id"] = self._make("pools", pool, owner_id) if pool else made.get("default_pool_id")
            case "pools":
                monitor = made.pop("healthmonitor", None)
                self.members[id_] = [self._member(one) for one in made.pop("members", ())]
                made |= {"healthmonitor_id": None, "members": [{"id": "m"}] * len(self.members[id_])}
                listener_id = made.pop("listener_id", None)
                if listener_id:
                    self.listeners[listener_id]["default_pool_id"] = id_
                self.pools[id_] = made
                if monitor:
                    self._make("healthmonitors", {**monitor, "pool_id": id_}, owner_id)
            case "healthmonitors":
                self.pools[made.pop("pool_id")]["healthmonitor_id"] = id_
        self.rows[kind][id_] = made
        return id_

    def _delete(self, kind: str, id_: str) -> None:
        gone = self.rows[kind].pop(id_)
        if kind == "pools":  # with all that is under it
            self.healthmonitors.pop(gone["healthmonitor_id"], None)
            self.members.pop(id_, None)
        field_, of = ("healthmonitor_id", "pools") if kind == "healthmonitors" else ("default_pool_id", "listeners")
        for row in self.rows[of].values():
            if row.get(field_) == id_:
                row[field_] = None

    @staticmethod
    def _member(body: Json) -> Json:
        return {"monitor_port": None, "subnet_id": None, **body}
