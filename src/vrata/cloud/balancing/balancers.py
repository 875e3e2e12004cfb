"""Load balancers: create with everything nested, show, change, delete with or without cascade, failover, statuses."""

from typing import Any

import sqlalchemy as sa

from vrata.base import ids
from vrata.cloud.balancing import carry, flavors, l7, model, status, store, view, vip
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.broken import broken
from vrata.cloud.balancing.status import Event
from vrata.cloud.http import Answer, ApiError, Call, Endpoint, now
from vrata.cloud.store import Row

_OWNED = {"loadbalancer_id", "listener_id", "project_id", "tenant_id"}  # what a nested object has from its parent
NESTED_LISTENER = {name: field for name, field in model.LISTENER.items() if name not in _OWNED}
NESTED_POOL = {name: field for name, field in model.POOL.items() if name not in _OWNED}


def create(call: Call) -> Answer:
    """POST: the whole tree in one transaction."""
    store.authorize(call, write=True)
    values = store.checked(model.LOAD_BALANCER, call.body, "loadbalancer")
    project_id = values.pop("tenant_id", None) or values.get("project_id") or call.caller.project_id
    if project_id is None:
        raise ApiError(400, "Missing project ID in request where one is required.")
    if project_id != call.caller.project_id:
        store.admin_only(call)
    provider = _supported(values)
    store.count_quota(call, project_id, t.load_balancers)
    nested_pools, nested_listeners = values.pop("pools", None) or [], values.pop("listeners", None) or []
    flavors.chosen_flavor(call, values.get("flavor_id"))
    row: Row = {
        "id": ids.new_uuid(), "created_at": now(), "updated_at": None, "provisioning_status": "PENDING_CREATE",
        "operating_status": "OFFLINE", "generation": 1,
        **{name: values[name] for name in ("name", "description", "admin_state_up", "tags")},
        "vip_qos_policy_id": values.get("vip_qos_policy_id"), "vip_vnic_type": "normal", "provider": provider,
        "project_id": project_id, "flavor_id": values.get("flavor_id"),
        "availability_zone": values.get("availability_zone"),
    }  # fmt: skip
    row["topology"] = flavors.flavor_of(call.tx, row).loadbalancer_topology or "ACTIVE_STANDBY"
    row |= vip.take_vip(call, row["id"], values | {"project_id": project_id})
    flavors.chosen_zone(call, row["availability_zone"], row["vip_network_id"])
    call.tx.insert(t.load_balancers, row)
    _graph(call, row, nested_pools, nested_listeners)
    carry.place_balancer(call.tx, row, call.settings)
    body = view.load_balancers(call, [store.find(call, t.load_balancers, row["id"])])[0]
    if nested_pools or nested_listeners:
        body |= _expanded(call, row["id"])
    return Answer(201, {"loadbalancer": body})


def _supported(values: Row) -> str:
    provider = values.pop("provider", None) or model.DEFAULT_PROVIDER
    if provider not in model.PROVIDERS:
        raise ApiError(400, f"Provider '{provider}' is not enabled.")
    return str(provider)


def _graph(call: Call, balancer: Row, nested_pools: list[Any], nested_listeners: list[Any]) -> None:
    """Pools first (listeners refer to them by name), then listeners."""
    by_name: dict[str, str] = {}
    for body in nested_pools:
        values = store.checked_part(NESTED_POOL, body, f"{store.IN_TREE}.pools")
        if values["name"] in by_name:
            raise _used_twice()
        by_name[values["name"]] = store.insert_pool(call, balancer, values)["id"]
    for body in nested_listeners:
        values = store.checked_part(NESTED_LISTENER, body, f"{store.IN_TREE}.listeners")
        pool = values.pop("default_pool", None)
        if pool is not None:
            values["default_pool_id"] = _nested_pool(call, balancer, pool, by_name)
        row = store.insert_listener(call, balancer, values)
        l7.insert_nested(call, balancer, row, values.get("l7policies") or [], by_name)


def _used_twice() -> ApiError:
    return store.refuse(broken("Pool names must be unique when creating a fully populated loadbalancer."))


def _nested_pool(call: Call, balancer: Row, body: Row, by_name: dict[str, str]) -> str:
    name = body.get("name")
    if name and body.keys() == {"name"}:
        if name not in by_name:
            raise ApiError(400, f"Validation failure: Pool '{name}' was referenced but no full definition was found.")
        return by_name[name]
    values = store.checked_part(NESTED_POOL, body, f"{store.IN_TREE}.listeners.default_pool")
    if not values["name"]:
        raise ApiError(400, "Validation failure: Pools must be named when creating a fully populated loadbalancer.")
    if values["name"] in by_name:
        raise _used_twice()
    by_name[values["name"]] = row_id = str(store.insert_pool(call, balancer, values)["id"])
    return row_id


def _expanded(call: Call, balancer_id: str) -> Row:
    """After a fully populated create Octavia answers with the objects, not only their ids."""
    pool_rows = call.tx.all(_children(t.pools, balancer_id))
    pools = view.pools(call, pool_rows)
    pool_ids = [row["id"] for row in pool_rows]
    members = call.tx.all(sa.select(t.members).where(t.members.c.pool_id.in_(pool_ids)))
    monitors = call.tx.all(sa.select(t.health_monitors).where(t.health_monitors.c.pool_id.in_(pool_ids)))
    for pool in pools:
        pool["members"] = view.members(call, [row for row in members if row["pool_id"] == pool["id"]])
        mine = view.monitors(call, [row for row in monitors if row["pool_id"] == pool["id"]])
        pool["healthmonitor"] = mine[0] if mine else None
        pool.pop("healthmonitor_id", None)
        del pool["loadbalancers"]
    listeners = view.listeners(call, call.tx.all(_children(t.listeners, balancer_id)))
    for listener in listeners:
        del listener["loadbalancers"]
    return {"listeners": listeners, "pools": pools}


def _children(table: sa.Table, balancer_id: str) -> sa.Select[Any]:
    return sa.select(table).where(table.c.load_balancer_id == balancer_id).order_by(table.c.created_at, table.c.id)


def _lock(call: Call, event: Event) -> Row:
    """The load balancer of the path, locked; 409 where its state refuses the event."""
    store.authorize(call, write=True)
    row = store.find(call, t.load_balancers, call.path["id"])
    row = call.tx.lock(t.load_balancers, row["id"]) or row
    if status.after(row["provisioning_status"], event) is None:
        raise ApiError(409, f"Invalid state {row['provisioning_status']} of loadbalancer resource {row['id']}")
    return row


def update(call: Call) -> Answer:
    """PUT: the administrative state, further VIPs and security groups change what is served."""
    row = _lock(call, Event.CHANGE)
    values = store.checked(model.LOAD_BALANCER, call.body, "loadbalancer", updating=True)
    values = {
        name: ("" if value is None and name in {"name", "description"} else value) for name, value in values.items()
    }
    values |= vip.change(call, row, values)
    call.tx.update(t.load_balancers, row["id"], values | {"updated_at": now()})
    if any(values.get(name, row[name]) != row[name] for name in ("admin_state_up", "additional_vips", "vip_sg_ids")):
        store.end_change(call, row)
        store.settle_now(call, row["id"])
    return Answer(body={"loadbalancer": view.load_balancers(call, [store.find(call, t.load_balancers, row["id"])])[0]})


def delete(call: Call) -> Answer:
    """DELETE: the instances leave; rows and ports go when no live host reports them any more."""
    row = _lock(call, Event.DELETE)
    if not call.flag("cascade"):
        for table in (t.listeners, t.pools):
            if call.tx.value(_children(table, row["id"])):
                raise ApiError(400, f"Validation failure: Cannot delete Load Balancer {row['id']} - it has children")
    call.tx.update(t.load_balancers, row["id"], {"provisioning_status": "PENDING_DELETE", "updated_at": now()})
    for table in (t.listeners, t.pools):
        call.tx.execute(
            sa.update(table).where(table.c.load_balancer_id == row["id"]).values(provisioning_status="PENDING_DELETE")
        )
    alive = set(call.tx.column(sa.select(t.hosts.c.name).where(t.hosts.c.alive)))
    for instance in carry.instances_of(call.tx, row["id"]):
        if instance["host"] in alive:
            carry.leave(call.tx, instance["id"])
        else:
            carry.remove(call.tx, instance)
    store.settle_now(call, row["id"])
    return Answer(204)


def failover(call: Call) -> Answer:
    """PUT failover: others take the place of its instances, the standby's first; nothing that is served ends by it."""
    store.admin_only(call)
    row = _lock(call, Event.FAILOVER)
    if call.settings.noop:
        carry.make_anew(call.tx, row, carry.instances_of(call.tx, row["id"]), call.settings)
    else:
        carry.replace(call.tx, [one["id"] for one in carry.instances_of(call.tx, row["id"]) if not one["leaving"]])
    call.tx.update(t.load_balancers, row["id"], {"provisioning_status": "PENDING_UPDATE"})
    carry.raise_generation(call.tx, t.load_balancers, row["id"])
    store.settle_now(call, row["id"])
    return Answer(202)


def stats(call: Call) -> Answer:
    """GET stats."""
    store.authorize(call, write=False)
    return Answer(body=view.stats(call, store.find(call, t.load_balancers, call.path["id"])["id"]))


def tree(call: Call) -> Answer:
    """GET status."""
    store.authorize(call, write=False)
    return Answer(body=view.status_tree(call, store.find(call, t.load_balancers, call.path["id"])))


ENDPOINTS = [
    Endpoint("PUT", "/loadbalancers/{id}/failover", failover, write=True),
    Endpoint("GET", "/loadbalancers/{id}/stats", stats),
    Endpoint("GET", "/loadbalancers/{id}/status", tree),
    Endpoint("GET", "/loadbalancers/{id}/statuses", tree),
]
