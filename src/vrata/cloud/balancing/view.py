"""Rows of the tree as Octavia shows them, in batches: one query per relation, however many objects are shown."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Protocol

import sqlalchemy as sa

from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.plan import PRIORITIES, SINGLE
from vrata.cloud.http import Call
from vrata.cloud.store import Row, Tx

_HIDDEN = {
    "load_balancers": {"generation", "vip_port_owned", "topology"},
    "listeners": {"load_balancer_id", "transport"},
    "pools": {"load_balancer_id"},
    "members": {"pool_id", "description"},
    "health_monitors": {"pool_id", "description"},
    "l7policies": set(),
    "l7rules": {"l7policy_id", "name", "description"},
}
_LISTS = ("sni_container_refs", "vip_sg_ids", "additional_vips")


def _base(table: sa.Table, row: Row) -> Row:
    out = {name: value for name, value in row.items() if name not in _HIDDEN[table.name]}
    out["tenant_id"] = row["project_id"]
    out["tags"] = row["tags"] or []
    for name in _LISTS:
        if name in out:
            out[name] = out[name] or []
    for name in ("created_at", "updated_at"):
        out[name] = None if row[name] is None else _stamp(row[name])
    return out


def _stamp(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")


class Related(Protocol):
    """Where the ids of related objects come from: the database, or what a request has just made."""

    def related(self, key: sa.Column[Any], wanted: set[str], order: sa.Column[Any]) -> Iterable[tuple[str, str]]:
        """(foreign key, id) of rows whose `key` is one of `wanted`, in order."""


class Stored:
    """Relations in the database."""

    def __init__(self, tx: Tx) -> None:
        self._tx = tx

    def related(self, key: sa.Column[Any], wanted: set[str], order: sa.Column[Any]) -> Iterable[tuple[str, str]]:
        """See `Related`."""
        table = key.table
        show = table.c.listener_id if key is _POLICY_POOL else table.c.id
        query = sa.select(key, show).where(key.in_(wanted)).order_by(order, table.c.created_at, table.c.id)
        return ((owner, row_id) for owner, row_id in self._tx.connection.execute(query))


class Made:
    """Relations among rows that are all there is."""

    def __init__(self, rows: Mapping[str, list[Row]]) -> None:
        self._rows = rows

    def related(self, key: sa.Column[Any], wanted: set[str], order: sa.Column[Any]) -> Iterable[tuple[str, str]]:
        """See `Related`. Rows of one request are in the order in which they were made."""
        rows = self._rows.get(key.table.name, [])
        if order.name != "created_at":
            rows = sorted(rows, key=lambda row: row[order.name])
        show = "listener_id" if key is _POLICY_POOL else "id"
        return ((row[key.name], row[show]) for row in rows if row[key.name] in wanted)


_POLICY_POOL = t.l7policies.c.redirect_pool_id  # leads from a pool to the listeners that reach it through a policy


def _grouped(
    call: Call | Related, key: sa.Column[Any], wanted: set[str], order: sa.Column[Any] | None = None
) -> dict[str, list[str]]:
    """Ids of a table's rows by a foreign key."""
    out: dict[str, list[str]] = defaultdict(list)
    if wanted:
        source = Stored(call.tx) if isinstance(call, Call) else call
        for owner, row_id in source.related(key, wanted, key.table.c.created_at if order is None else order):
            out[owner].append(row_id)
    return out


def _refs(ids_: list[str]) -> list[dict[str, str]]:
    return [{"id": one} for one in ids_]


def load_balancers(call: Call | Related, rows: list[Row]) -> list[Row]:
    """Load balancers with the ids of their listeners and pools."""
    wanted = {row["id"] for row in rows}
    listeners = _grouped(call, t.listeners.c.load_balancer_id, wanted)
    pools = _grouped(call, t.pools.c.load_balancer_id, wanted)
    return [
        _base(t.load_balancers, row) | {"listeners": _refs(listeners[row["id"]]), "pools": _refs(pools[row["id"]])}
        for row in rows
    ]


def listeners(call: Call | Related, rows: list[Row]) -> list[Row]:
    """Listeners with their load balancer and their policies."""
    policies = _grouped(call, t.l7policies.c.listener_id, {row["id"] for row in rows}, t.l7policies.c.position)
    return [
        _base(t.listeners, row)
        | {
            "loadbalancers": [{"id": row["load_balancer_id"]}],
            "l7policies": _refs(policies[row["id"]]),
            "insert_headers": row["insert_headers"] or {},
        }
        for row in rows
    ]


def pools(call: Call | Related, rows: list[Row]) -> list[Row]:
    """Pools with listeners, members and monitor."""
    wanted = {row["id"] for row in rows}
    by_listener = _grouped(call, t.listeners.c.default_pool_id, wanted)
    by_policy = _grouped(call, _POLICY_POOL, wanted)
    members = _grouped(call, t.members.c.pool_id, wanted)
    monitors = _grouped(call, t.health_monitors.c.pool_id, wanted)
    return [
        _base(t.pools, row)
        | {
            "loadbalancers": [{"id": row["load_balancer_id"]}],
            "listeners": _refs(sorted({*by_listener[row["id"]], *by_policy[row["id"]]})),
            "members": _refs(members[row["id"]]),
            "session_persistence": _persistence(row["session_persistence"]),
        }
        | ({"healthmonitor_id": monitors[row["id"]][0]} if monitors[row["id"]] else {})
        for row in rows
    ]


def _persistence(stored: Any) -> Any:
    names = ("type", "cookie_name", "persistence_timeout", "persistence_granularity")
    return {name: stored.get(name) for name in names} if stored else None


def members(_call: Call | Related, rows: list[Row]) -> list[Row]:
    """Members."""
    return [_base(t.members, row) for row in rows]


def monitors(_call: Call | Related, rows: list[Row]) -> list[Row]:
    """Health monitors with their pool."""
    return [_base(t.health_monitors, row) | {"pools": [{"id": row["pool_id"]}]} for row in rows]


def l7policies(call: Call | Related, rows: list[Row]) -> list[Row]:
    """L7 policies with the ids of their rules."""
    found = _grouped(call, t.l7rules.c.l7policy_id, {row["id"] for row in rows})
    return [_base(t.l7policies, row) | {"rules": _refs(found[row["id"]])} for row in rows]


def l7rules(_call: Call | Related, rows: list[Row]) -> list[Row]:
    """L7 rules."""
    return [_base(t.l7rules, row) for row in rows]


def status_tree(call: Call, balancer: Row) -> Row:
    """The tree of statuses of one load balancer."""
    tx = call.tx
    pools = {
        row["id"]: row | {"members": [], "health_monitor": None}
        for row in tx.all(_statuses(t.pools).where(t.pools.c.load_balancer_id == balancer["id"]))
    }
    c = t.members.c
    for row in tx.all(_statuses(t.members, c.address, c.protocol_port, c.pool_id).where(c.pool_id.in_(pools))):
        pools[row.pop("pool_id")]["members"].append(row)
    m = t.health_monitors.c
    for row in tx.all(_statuses(t.health_monitors, m.type, m.pool_id).where(m.pool_id.in_(pools))):
        pools[row.pop("pool_id")]["health_monitor"] = row
    tree = []
    mine = t.listeners.c.load_balancer_id == balancer["id"]
    for row in tx.all(_statuses(t.listeners, t.listeners.c.default_pool_id).where(mine)):
        pool = pools.get(row.pop("default_pool_id"))
        tree.append(row | {"pools": [pool] if pool else []})
    return {"statuses": {"loadbalancer": {name: balancer[name] for name in _SHORT} | {"listeners": tree}}}


_SHORT = ("id", "name", "operating_status", "provisioning_status")


def _statuses(table: sa.Table, *more: sa.Column[Any]) -> sa.Select[Any]:
    return sa.select(*(table.c[name] for name in _SHORT), *more)


STATS = ("active_connections", "bytes_in", "bytes_out", "request_errors", "total_connections")


def stats(call: Call, balancer_id: str, listener_id: str | None = None) -> Row:
    """Counters of a listener, or of all, summed over the instances."""
    total = dict.fromkeys(STATS, 0)
    for reported in call.tx.column(sa.select(t.instances.c.listeners).where(t.instances.c.owner_id == balancer_id)):
        for name, counters in (reported or {}).items():
            if listener_id in {None, name}:
                for counter in STATS:
                    total[counter] += counters[counter]
    return {"stats": total}


def _configured_role(row: Row, balancer: Row | None) -> str:
    """The role an instance will have as long as both are well."""
    if balancer is not None and balancer["topology"] == SINGLE:
        return "STANDALONE"
    return "MASTER" if row["priority"] == max(PRIORITIES) else "BACKUP"


def _compute_id(row: Row) -> str:
    """A UUID for the host, as clients expect one of a server."""
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, row["host"]))


def amphora(row: Row, balancer: Row | None, router_id: int) -> Row:
    """An instance as an amphora; `cached_zone` is the host that carries it, `compute_id` an id made of it."""
    role = row["state"] if row["state"] in {"MASTER", "BACKUP"} else _configured_role(row, balancer)
    status = "PENDING_DELETE" if row["leaving"] else ("ERROR" if row["error"] else "ALLOCATED")
    return {
        "id": row["id"], "loadbalancer_id": row["owner_id"], "compute_id": _compute_id(row), "role": role, "status": status,
        "lb_network_ip": row["vrrp_address"], "vrrp_ip": row["vrrp_address"], "vrrp_port_id": row["vrrp_port_id"],
        "ha_ip": balancer and balancer["vip_address"], "ha_port_id": balancer and balancer["vip_port_id"],
        "vrrp_interface": "tenant", "vrrp_id": router_id, "vrrp_priority": row["priority"], "cert_busy": False,
        "cert_expiration": None, "cached_zone": row["host"], "image_id": None, "compute_flavor": None,
        "created_at": _stamp(row["created_at"]),
        "updated_at": None if row["updated_at"] is None else _stamp(row["updated_at"]),
    }  # fmt: skip
