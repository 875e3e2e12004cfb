"""Instances as Octavia shows them: amphorae, for administrators; list, show, counters, configure, failover, delete."""

import sqlalchemy as sa

from vrata.cloud import listing
from vrata.cloud.balancing import carry, plan, status, store, view
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.status import Event
from vrata.cloud.http import Answer, ApiError, Call, Endpoint
from vrata.cloud.store import Row

SHOWN = (
    "id", "loadbalancer_id", "compute_id", "role", "status", "lb_network_ip", "vrrp_ip", "vrrp_port_id", "ha_ip",
    "ha_port_id", "vrrp_interface", "vrrp_id", "vrrp_priority", "cert_busy", "cert_expiration", "cached_zone",
    "image_id", "compute_flavor", "created_at", "updated_at",
)  # fmt: skip


def _all(call: Call) -> list[Row]:
    return call.tx.all(
        sa.select(t.instances)
        .where(t.instances.c.kind == "balancer")
        .order_by(t.instances.c.created_at, t.instances.c.id)
    )


def _found(call: Call) -> Row:
    store.admin_only(call)
    row = call.tx.get(t.instances, call.path["id"])
    if row is None or row["kind"] != "balancer":
        raise ApiError(404, f"Amphora {call.path['id']} not found.")
    return row


def _view(call: Call, row: Row) -> Row:
    return view.amphora(row, call.tx.get(t.load_balancers, row["owner_id"]), plan.router_id(row["owner_id"]))


def index(call: Call) -> Answer:
    """GET octavia/amphorae."""
    store.admin_only(call)
    rows = [_view(call, row) for row in _all(call)]
    return Answer(body=listing.page(call, rows, "amphorae", listing.OCTAVIA, known=SHOWN))


def show(call: Call) -> Answer:
    """GET octavia/amphorae/ID."""
    return Answer(body={"amphora": listing.select_fields(call, [_view(call, _found(call))])[0]})


def stats(call: Call) -> Answer:
    """GET octavia/amphorae/ID/stats: one row a listener."""
    row = _found(call)
    rows = [
        {"amphora_id": row["id"], "loadbalancer_id": row["owner_id"], "listener_id": listener_id, **counters}
        for listener_id, counters in sorted((row["listeners"] or {}).items())
    ]
    if not rows:
        raise ApiError(404, f"Amphora_stats {row['id']} not found.")
    return Answer(body={"amphora_stats": rows})


def configure(call: Call) -> Answer:
    """PUT octavia/amphorae/ID/config: the host applies what is desired anew."""
    row = _found(call)
    carry.touch_owner(call.tx, row["owner_id"])
    return Answer(202)


def failover(call: Call) -> Answer:
    """PUT octavia/amphorae/ID/failover: another instance takes this one's place, on another host if there is one."""
    row = _found(call)
    balancer = call.tx.lock(t.load_balancers, row["owner_id"])
    if balancer is None:
        raise ApiError(404, f"Amphora {row['id']} not found.")
    if status.after(balancer["provisioning_status"], Event.FAILOVER) is None:
        raise ApiError(
            409, f"Invalid state {balancer['provisioning_status']} of loadbalancer resource {balancer['id']}"
        )
    carry.replace(call.tx, [row["id"]], call.settings)
    call.tx.update(t.load_balancers, balancer["id"], {"provisioning_status": "PENDING_UPDATE"})
    carry.raise_generation(call.tx, t.load_balancers, balancer["id"])
    store.settle_now(call, balancer["id"])
    return Answer(202)


def delete(call: Call) -> Answer:
    """DELETE octavia/amphorae/ID: one that leaves and whose host is gone; one that serves is in use."""
    row = _found(call)
    if not row["leaving"]:
        raise ApiError(409, f"Amphora {row['id']} is in use and cannot be deleted.")
    carry.remove(call.tx, [row])
    return Answer(204)


PATH = "/octavia/amphorae"
ENDPOINTS = [
    Endpoint("GET", PATH, index),
    Endpoint("GET", PATH + "/{id}", show),
    Endpoint("GET", PATH + "/{id}/stats", stats),
    Endpoint("PUT", PATH + "/{id}/config", configure, write=True),
    Endpoint("PUT", PATH + "/{id}/failover", failover, write=True),
    Endpoint("DELETE", PATH + "/{id}", delete, write=True),
]
