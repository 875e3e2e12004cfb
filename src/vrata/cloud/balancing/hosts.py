"""The hosts, for administrators: list, show, drain, use again, forget. Vrata's own; Octavia has compute nodes for it.

GET    vrata/hosts            {"hosts": [...]}
GET    vrata/hosts/NAME       {"host": {...}}
PUT    vrata/hosts/NAME       {"host": {"drained": true | false}}, or {"host": {"adopt": true}}: take what is desired
DELETE vrata/hosts/NAME       forget a host that is dead and will not return
"""

import sqlalchemy as sa

from vrata.base.wire import VrrpState
from vrata.cloud import listing
from vrata.cloud.balancing import carry, plan, store
from vrata.cloud.balancing import tables as t
from vrata.cloud.http import Answer, ApiError, Call, Endpoint
from vrata.cloud.network import tables as n
from vrata.cloud.store import Row

PATH = "/vrata/hosts"
SHOWN = (
    "id", "alive", "drained", "instances", "active", "moving", "silent_s", "refusal", "physical_networks",
    "rebuilding_stopped",
)  # fmt: skip


def _found(call: Call) -> Row:
    store.admin_only(call)
    row = call.tx.get(t.hosts, call.path["id"])
    if row is None:
        raise ApiError(404, f"Host {call.path['id']} not found.")
    return row


def _view(call: Call, row: Row, hosts: list[plan.Host], placed: list[Row]) -> Row:
    heard = (call.tx.get(t.heartbeats, row["name"]) or {"at": 0.0})["at"]
    here = [one for one in placed if one["host"] == row["name"] and not one["leaving"]]
    return {
        "id": row["name"],
        "alive": row["alive"],
        "drained": row["drained_at"] is not None,
        "instances": len(here),
        "active": sum(one["state"] == VrrpState.MASTER for one in here),
        "moving": _moving(call, row, hosts, placed) if row["drained_at"] is not None else 0,
        "silent_s": round(max(0.0, call.tx.now() - heard), 1),
        "refusal": (row["refusal"] or {}).get("reason"),
        "physical_networks": row["physical_networks"] or [],
        "rebuilding_stopped": plan.breaker_open(hosts),
    }


def _moving(call: Call, row: Row, hosts: list[plan.Host], placed: list[Row]) -> int:
    """Instances that a drained host has to move, and those that have been replaced and still serve their last connections."""
    here = [one for one in placed if one["host"] == row["name"]]
    ending = sa.select(sa.func.count()).select_from(t.departures).where(t.departures.c.host == row["name"])
    moving = sum(bool(one["leaving"]) or _moves(one, hosts, placed) for one in here)
    return moving + (int(call.tx.value(ending)) if row["alive"] else 0)


def _moves(one: Row, hosts: list[plan.Host], placed: list[Row]) -> bool:
    """Whether an instance of a drained host still has somewhere to go, or somebody to hand over to."""
    good = {host.name for host in hosts if host.alive and not host.drained}
    owners = {other["host"] for other in placed if other["owner_id"] == one["owner_id"]}
    return bool(good - owners) or (one["state"] == VrrpState.MASTER and bool(good & owners))


def _views(call: Call, rows: list[Row]) -> list[Row]:
    hosts, placed = carry.placement_hosts(call.tx), call.tx.all(sa.select(t.instances))
    return [_view(call, row, hosts, placed) for row in rows]


def index(call: Call) -> Answer:
    """GET vrata/hosts."""
    store.admin_only(call)
    rows = _views(call, call.tx.all(sa.select(t.hosts).order_by(t.hosts.c.name)))
    return Answer(body={"hosts": listing.kept(call, rows, listing.OCTAVIA, known=SHOWN)})


def show(call: Call) -> Answer:
    """GET vrata/hosts/NAME."""
    return Answer(body={"host": _views(call, [_found(call)])[0]})


def update(call: Call) -> Answer:
    """PUT vrata/hosts/NAME: drain it, use it again, or overrule its refusal of the desired set.

    Nothing new comes to a drained host, and the sweep moves what it carries, as in a failover.
    """
    row = _found(call)
    wanted = call.body.get("host") if isinstance(call.body, dict) else None
    match wanted:
        case {"adopt": True, **rest} if not rest:
            _adopt(call, row)
        case {"drained": bool(drained), **rest} if not rest:
            if drained != (row["drained_at"] is not None):
                _drain(call, row, drained=drained)
        case _:
            raise ApiError(
                400, 'Validation failure: send {"host": {"drained": true}}, or false, or {"host": {"adopt": true}}.'
            )
    return show(call)


def _adopt(call: Call, row: Row) -> None:
    if not row["refusal"]:
        raise ApiError(409, f"Host {row['name']} does not refuse its desired set: there is nothing to adopt.")
    call.tx.update(t.hosts, row["name"], {"adopt": row["refusal"]["id"]})
    call.tx.touch([row["name"]])


def _drain(call: Call, row: Row, *, drained: bool) -> None:
    if not drained:
        here = t.instances.c.host == row["name"]
        call.tx.execute(sa.update(t.instances).where(here, t.instances.c.replace_at.is_(None)).values(yield_at=None))
    call.tx.update(t.hosts, row["name"], {"drained_at": call.tx.now() if drained else None})
    call.tx.unsettle()


def delete(call: Call) -> Answer:
    """DELETE vrata/hosts/NAME: what it carried counts as gone."""
    row = _found(call)
    if row["alive"]:
        raise ApiError(409, f"Host {row['name']} is alive. Drain it and stop its agent first.")
    here = call.tx.all(sa.select(t.instances).where(t.instances.c.host == row["name"]).order_by(t.instances.c.id))
    for table in (t.load_balancers, n.routers):
        call.tx.hold(table, {one["owner_id"] for one in here})
    carry.remove(call.tx, here)
    floor = sa.case(
        (t.databases.c.revision_floor > row["revision"], t.databases.c.revision_floor), else_=row["revision"]
    )
    call.tx.execute(sa.update(t.databases).values(revision_floor=floor))
    call.tx.delete(t.hosts, row["name"])
    call.tx.delete(t.heartbeats, row["name"])
    call.tx.unsettle()
    return Answer(204)


ENDPOINTS = [
    Endpoint("GET", PATH, index),
    Endpoint("GET", PATH + "/{id}", show),
    Endpoint("PUT", PATH + "/{id}", update, write=True),
    Endpoint("DELETE", PATH + "/{id}", delete, write=True),
]
