"""Listeners, pools, members (single and in batch), health monitors: create, change, delete under a load balancer."""

from typing import Any

import sqlalchemy as sa

from vrata.cloud.balancing import changes, l7, model, store, view
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.broken import broken
from vrata.cloud.fields import UNSET
from vrata.cloud.http import Answer, ApiError, Call, now
from vrata.cloud.store import Row


def create_listener(call: Call) -> Answer:
    """POST listeners, with a default pool nested if asked for."""
    store.authorize(call, write=True)
    values = store.checked(model.LISTENER, call.body, "listener")
    if not values.get("loadbalancer_id"):
        raise changes.mandatory("loadbalancer_id")
    balancer = _parent(call, values["loadbalancer_id"])
    nested = values.pop("default_pool", None)
    if nested is not None:
        pool = store.checked_part(model.POOL, nested, "listener_.listener.default_pool")
        values["default_pool_id"] = store.insert_pool(call, balancer, pool)["id"]
    row = store.insert_listener(call, balancer, values)
    if values.get("default_pool_id"):
        store.mark(call, t.pools, values["default_pool_id"])
    l7.insert_nested(call, balancer, row, values.get("l7policies") or [], {})
    store.end_change(call, balancer)
    return changes.shown(call, t.listeners, row["id"], 201)


def _parent(call: Call, balancer_id: str) -> Row:
    """The load balancer a child is made on: seen by the caller, mutable, locked."""
    store.find(call, t.load_balancers, balancer_id)
    return store.begin_change(call, balancer_id)


def update_listener(call: Call) -> Answer:
    """PUT listeners/ID."""
    row, balancer, values = changes.begin_update(call, t.listeners, model.LISTENER)
    if values.get("default_pool_id"):
        store.check_default_pool(call, balancer, row["protocol"], values["default_pool_id"])
    checked = store.obey(model.check_listener, _as_update(row, values), sctp=call.settings.noop)
    values |= {name: checked[name] for name in ("tls_ciphers", "tls_versions", "alpn_protocols") if name in values}
    store.check_references(call, values, ("default_tls_container_ref", "sni_container_refs"), store.CA_AND_CRL)
    if "allowed_cidrs" in values:
        values["allowed_cidrs"] = store.cidrs(balancer, values)
    return changes.end_update(call, t.listeners, model.LISTENER, row=row, balancer=balancer, values=values)


def _as_update(row: Row, values: Row) -> Row:
    """The row as the update would leave it; null sets a field back to its default."""
    defaults = {
        name: None if model.LISTENER[name].default is UNSET else model.LISTENER[name].default for name in values
    }
    return row | {name: defaults[name] if value is None else value for name, value in values.items()}


def delete(table: sa.Table) -> Any:
    """DELETE of a child: it stays PENDING_DELETE until the hosts serve without it."""

    def serve(call: Call) -> Answer:
        row, balancer = changes.begin_delete(call, table)
        if table is t.members:
            _right_pool(call, row)
        if table is t.pools:
            _not_in_use(call, row)
        call.tx.update(table, row["id"], {"provisioning_status": "PENDING_DELETE", "updated_at": now()})
        store.end_change(call, balancer, pool_id=row.get("pool_id"))
        return Answer(204)

    return serve


def _not_in_use(call: Call, pool: Row) -> None:
    """409 for a pool that an L7 policy leads to."""
    query = sa.select(t.l7policies.c.id).where(
        t.l7policies.c.redirect_pool_id == pool["id"], t.l7policies.c.provisioning_status != "PENDING_DELETE"
    )
    if call.tx.value(query):
        raise ApiError(409, f"Pool {pool['id']} is in use by L7 policy {call.tx.value(query)}")


def create_pool(call: Call) -> Answer:
    """POST pools, on a load balancer or as a listener's default."""
    store.authorize(call, write=True)
    values = store.checked(model.POOL, call.body, "pool")
    listener = None
    balancer_id = values.get("loadbalancer_id")
    if values.get("listener_id"):
        listener = store.find(call, t.listeners, values["listener_id"])
        balancer_id = listener["load_balancer_id"]
    if not balancer_id:
        raise ApiError(400, "Validation failure: Must provide at least one of: loadbalancer_id, listener_id")
    balancer = _parent(call, balancer_id)
    if listener is not None:
        if listener["default_pool_id"] is not None:
            raise ApiError(409, "This listener already has a default pool")
        store.obey(model.check_pair, listener["protocol"], values["protocol"])
    row = store.insert_pool(call, balancer, values)
    if listener is not None:
        call.tx.update(t.listeners, listener["id"], {"default_pool_id": row["id"]})
    store.end_change(call, balancer, pool_id=row["id"])
    return changes.shown(call, t.pools, row["id"], 201)


def update_pool(call: Call) -> Answer:
    """PUT pools/ID."""
    row, balancer, values = changes.begin_update(call, t.pools, model.POOL)
    if values.get("session_persistence") and row["session_persistence"]:
        values["session_persistence"] = _merged(row["session_persistence"], values["session_persistence"])
    checked = store.obey(
        model.check_pool, row | {name: value for name, value in values.items() if value is not None},
        sctp=call.settings.noop,
    )  # fmt: skip
    if values.get("tls_enabled") or row["tls_enabled"]:
        values |= {name: checked[name] for name in ("tls_ciphers", "tls_versions", "alpn_protocols")}
    store.check_references(call, values, ("tls_container_ref",), store.POOL_CA_AND_CRL)
    return changes.end_update(call, t.pools, model.POOL, row=row, balancer=balancer, values=values)


def _merged(old: Row, new: Row) -> Row:
    """A partial change of persistence keeps the rest, unless the type changes."""
    return new if new.get("type", old.get("type")) != old.get("type") else {**old, **new}


def _pool(call: Call, *, write: bool) -> Row:
    store.authorize(call, write=write)
    return store.find(call, t.pools, call.path["pool_id"])


def _right_pool(call: Call, member: Row) -> None:
    if member["pool_id"] != call.path["pool_id"]:
        raise store.not_found(t.members, member["id"])


def create_member(call: Call) -> Answer:
    """POST pools/ID/members."""
    pool = _pool(call, write=True)
    values = store.checked(model.MEMBER, call.body, "member")
    balancer = store.begin_change(call, pool["load_balancer_id"])
    row = store.insert_members(call, pool, [values])[0]
    store.end_change(call, balancer, pool_id=pool["id"])
    return changes.shown(call, t.members, row["id"], 201)


def show_member(call: Call) -> Answer:
    """GET pools/ID/members/ID."""
    store.authorize(call, write=False)
    row = store.find(call, t.members, call.path["id"])
    _right_pool(call, row)
    return changes.shown(call, t.members, row["id"])


def update_member(call: Call) -> Answer:
    """PUT pools/ID/members/ID."""
    row, balancer, values = changes.begin_update(call, t.members, model.MEMBER)
    _right_pool(call, row)
    return changes.end_update(call, t.members, model.MEMBER, row=row, balancer=balancer, values=values)


def batch_members(call: Call) -> Answer:
    """PUT pools/ID/members: the list becomes the pool's members; nothing different means nothing happens."""
    pool = _pool(call, write=True)
    asked = call.body.get("members") if isinstance(call.body, dict) else None
    if not isinstance(asked, list):
        raise ApiError(400, 'Missing argument: "members"')
    bodies = [(one, store.checked_part(model.MEMBER, one, "members_.members")) for one in asked]
    balancer = store.begin_change(call, pool["load_balancer_id"])
    old = {
        store.member_key(row): row for row in call.tx.all(sa.select(t.members).where(t.members.c.pool_id == pool["id"]))
    }
    new = {store.member_key(values): (given, values) for given, values in bodies}
    if len(new) < len(bodies):
        raise store.refuse(broken("Member must be updated only once in the same request."))
    changed = False
    for key, (given, values) in new.items():
        if key in old:
            # As in Octavia these three return to their defaults where they are not given; a name stays.
            names = {*given, "weight", "backup", "admin_state_up"} - {
                "address",
                "protocol_port",
                "request_sriov",
                "project_id",
                "tenant_id",
            }
            changes = {name: values.get(name) for name in names if values.get(name) != old[key][name]}
            if changes:
                changed = True
                changes |= {"provisioning_status": "PENDING_UPDATE", "updated_at": now()}
                call.tx.update(t.members, old[key]["id"], changes)
    if not call.flag("additive_only"):
        gone = [row["id"] for key, row in old.items() if key not in new]
        if gone:
            changed = True
            call.tx.execute(
                sa.update(t.members)
                .where(t.members.c.id.in_(gone))
                .values(provisioning_status="PENDING_DELETE", updated_at=now())
            )
    fresh = [values for key, (_, values) in new.items() if key not in old]
    if fresh:
        changed = True
        store.insert_members(call, pool, fresh)
    if changed:
        store.end_change(call, balancer, pool_id=pool["id"])
    return Answer(202)


def create_monitor(call: Call) -> Answer:
    """POST healthmonitors."""
    store.authorize(call, write=True)
    values = store.checked(model.MONITOR, call.body, "healthmonitor")
    if not values.get("pool_id"):
        raise changes.mandatory("pool_id")
    pool = store.find(call, t.pools, values["pool_id"])
    balancer = store.begin_change(call, pool["load_balancer_id"])
    row = store.insert_monitor(call, pool, values)
    store.end_change(call, balancer, pool_id=pool["id"])
    return changes.shown(call, t.health_monitors, row["id"], 201)


def update_monitor(call: Call) -> Answer:
    """PUT healthmonitors/ID."""
    row, balancer, values = changes.begin_update(call, t.health_monitors, model.MONITOR)
    if row["type"] in model.HTTP_MONITORS:
        for name, default in model.HTTP_DEFAULTS.items():
            if name in values and values[name] is None:
                values[name] = default
    pool = call.tx.get(t.pools, row["pool_id"])
    assert pool is not None
    store.obey(
        model.check_monitor,
        row | {n: value for n, value in values.items() if value is not None or n in {"http_version", "domain_name"}},
        pool["protocol"],
    )
    return changes.end_update(call, t.health_monitors, model.MONITOR, row=row, balancer=balancer, values=values)


def listener_stats(call: Call) -> Answer:
    """GET listeners/ID/stats."""
    store.authorize(call, write=False)
    row = store.find(call, t.listeners, call.path["id"])
    return Answer(body=view.stats(call, row["load_balancer_id"], row["id"]))
