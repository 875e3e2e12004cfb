"""An in-memory cloud that carries out the provider's planned actions, for testing plans without one."""

from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from vrata.provider.model import (
    FloatingIp,
    Member,
    Monitor,
    Observed,
    ObservedListener,
    ObservedPool,
    World,
)
from vrata.provider.plan import Action, AttachFloating, CreateFloating, DeleteFloating, Write

TIMEOUTS = ("timeout_client_data", "timeout_member_connect", "timeout_member_data", "timeout_tcp_inspect")


@dataclass
class CloudTwin:
    """Holds one load balancer and floating IPs; each write makes it PENDING until `settle`."""

    description: str
    balancer: Observed | None = None
    floating: dict[str, FloatingIp] = field(default_factory=dict)
    writes: int = 0
    _ids: Any = field(default_factory=lambda: count(1))

    def world(self) -> World:
        port = self.balancer.vip_port_id if self.balancer else None
        held = next((entry for entry in self.floating.values() if port and entry.port_id == port), None)
        strays = tuple(entry for entry in self.floating.values() if entry.ours and not entry.port_id)
        return World(self.balancer, held, None, () if held else strays)

    def settle(self) -> None:
        """The cloud finishes what it was doing."""
        if self.balancer and self.balancer.provisioning_status == "PENDING_DELETE":
            self.balancer = None
        elif self.balancer:
            self.balancer = replace(self.balancer, provisioning_status="ACTIVE")

    def apply(self, action: Action) -> None:
        match action:
            case Write():
                self._write(action)
            case CreateFloating(port_id=port_id):
                id_ = f"fip-{next(self._ids)}"
                self.floating[id_] = FloatingIp(id_, f"203.0.113.{20 + len(self.floating)}", port_id, ours=True)
            case AttachFloating(id=id_, port_id=port_id):
                self.floating[id_] = replace(self.floating[id_], port_id=port_id)
            case DeleteFloating(id=id_):
                del self.floating[id_]

    def _write(self, write: Write) -> None:
        self.writes += 1
        if self.balancer is None:
            assert (write.method, write.path) == ("POST", "/loadbalancers")
            body = (write.body or {})["loadbalancer"]
            listeners = tuple(self._listener(entry) for entry in body["listeners"])
            self.balancer = Observed("lb", "PENDING_CREATE", "10.10.0.100", "port", listeners)
            return
        assert self.balancer.provisioning_status in ("ACTIVE", "ERROR"), "no write while a change is under way"
        changed = self._changed(write)
        status = "PENDING_DELETE" if write.path.startswith("/loadbalancers/") else "PENDING_UPDATE"
        self.balancer = replace(changed, provisioning_status=status)

    def _changed(self, write: Write) -> Observed:
        assert self.balancer
        words = write.path.strip("/").split("/")
        body: dict[str, Any] = next(iter((write.body or {"": {}}).values()))
        listeners = list(self.balancer.listeners)
        orphans = self.balancer.orphan_pool_ids
        match write.method, words:
            case "POST", ["listeners"]:
                listeners.append(self._listener(body))
            case "DELETE", ["listeners", id_]:
                gone = next(entry for entry in listeners if entry.id == id_)
                listeners.remove(gone)
                orphans += (gone.pool.id,) if gone.pool else ()
            case "PUT", ["listeners", id_]:
                listeners = [self._put_listener(entry, body) if entry.id == id_ else entry for entry in listeners]
            case "POST", ["pools"]:
                pool = self._pool({**body, "members": []})
                listeners = [replace(e, pool=pool) if e.id == body["listener_id"] else e for e in listeners]
            case "DELETE", ["pools", id_]:
                orphans = tuple(entry for entry in orphans if entry != id_)
                listeners = [replace(e, pool=None) if e.pool and e.pool.id == id_ else e for e in listeners]
            case _, [kind, *rest]:
                listeners = [self._put_pool(entry, write.method, kind, rest, body) for entry in listeners]
        return replace(self.balancer, listeners=tuple(listeners), orphan_pool_ids=orphans)

    @staticmethod
    def _put_listener(entry: ObservedListener, body: dict[str, Any]) -> ObservedListener:
        timeouts = {**entry.timeouts_ms, **{name: body[name] for name in TIMEOUTS if name in body}}
        return replace(
            entry,
            connection_limit=body.get("connection_limit", entry.connection_limit),
            allowed_cidrs=frozenset(body["allowed_cidrs"] or ()) if "allowed_cidrs" in body else entry.allowed_cidrs,
            timeouts_ms=timeouts,
        )

    def _put_pool(
        self, entry: ObservedListener, method: str, kind: str, rest: list[str], body: Any
    ) -> ObservedListener:
        pool = entry.pool
        if pool is None:
            return entry
        if kind == "pools" and rest[0] == pool.id and rest[1:] == ["members"]:
            pool = replace(pool, members=_members(body))
        elif kind == "pools" and rest == [pool.id]:
            persistence = body.get("session_persistence", {"type": pool.persistence})
            pool = replace(
                pool,
                algorithm=body.get("lb_algorithm", pool.algorithm),
                persistence=(persistence or {}).get("type"),
            )
        elif kind == "healthmonitors" and method == "POST" and body["pool_id"] == pool.id:
            pool = replace(pool, monitor_id=f"hm-{next(self._ids)}", monitor=_monitor(body, body["type"]))
        elif kind == "healthmonitors" and rest == [pool.monitor_id]:
            gone = method == "DELETE"
            kept = pool.monitor.type if pool.monitor else ""
            pool = replace(
                pool, monitor_id=None if gone else pool.monitor_id, monitor=None if gone else _monitor(body, kept)
            )
        return replace(entry, pool=pool)

    def _listener(self, body: dict[str, Any]) -> ObservedListener:
        return ObservedListener(
            id=f"listener-{next(self._ids)}",
            protocol=body["protocol"],
            port=body["protocol_port"],
            connection_limit=body["connection_limit"],
            allowed_cidrs=frozenset(body.get("allowed_cidrs") or ()),
            timeouts_ms={name: body[name] for name in TIMEOUTS if name in body},
            pool=self._pool(body["default_pool"]) if "default_pool" in body else None,
        )

    def _pool(self, body: dict[str, Any]) -> ObservedPool:
        monitor = body.get("healthmonitor")
        return ObservedPool(
            id=f"pool-{next(self._ids)}",
            protocol=body["protocol"],
            algorithm=body["lb_algorithm"],
            persistence=(body.get("session_persistence") or {}).get("type"),
            members=_members(body["members"]),
            monitor_id=f"hm-{next(self._ids)}" if monitor else None,
            monitor=_monitor(monitor, monitor["type"]) if monitor else None,
        )


def _members(bodies: list[dict[str, Any]]) -> frozenset[Member]:
    return frozenset(
        Member(body["name"], body["address"], body["protocol_port"], body.get("monitor_port")) for body in bodies
    )


def _monitor(body: dict[str, Any], type_: str) -> Monitor:
    return Monitor(
        type_, body["delay"], body["timeout"], body["max_retries"], body["max_retries_down"], body.get("url_path")
    )
