"""Listeners, pools, members (single and in batch), health monitors: create, change, delete under a load balancer."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from vrata.cloud.balancing import changes, model, store, view
from vrata.cloud.balancing import tables as t
from vrata.cloud.balancing.broken import broken
from vrata.cloud.balancing.tree import CHILDREN_MAX, Tree, check_size, insert, member_key
from vrata.cloud.fields import UNSET
from vrata.cloud.http import Answer, ApiError, Call, now
from vrata.cloud.settings import Settings
from vrata.cloud.store import Row


def parse_listener(settings: Settings, body: Any) -> tuple[str, Tree]:
    """The load balancer that a new listener names, and the listener with what is nested in it."""
    values = store.checked(model.LISTENER, body, "listener")
    if not values.get("loadbalancer_id"):
        raise changes.mandatory("loadbalancer_id")
    tree = Tree(noop=settings.noop)
    nested = values.pop("default_pool", None)
    if nested is not None:
        pool = store.checked_part(model.POOL, nested, "listener_.listener.default_pool")
        values["default_pool_id"] = tree.add_pool(pool)["id"]
    tree.add_listener(values)
    check_size("listener", tree.size)
    return values["loadbalancer_id"], tree


def create_listener(call: Call) -> Answer:
    """POST listeners, with a default pool nested if asked for."""
    store.authorize(call, write=True)
    balancer_id, tree = call.parsed()
    balancer = _parent(call, balancer_id)
    insert(call, balancer, tree)
    row = tree.rows["listeners"][0]
    if row["default_pool_id"]:
        store.mark(call, t.pools, row["default_pool_id"])
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
        values["allowed_cidrs"] = store.parsed_cidrs(values)
        store.check_cidrs(balancer, values["allowed_cidrs"])
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


def parse_pool(settings: Settings, body: Any) -> tuple[Row, Tree]:
    """The fields of a new pool, and the pool with what is nested in it."""
    values = store.checked(model.POOL, body, "pool")
    tree = Tree(noop=settings.noop)
    tree.add_pool(values)
    check_size("pool", tree.size)
    return values, tree


def create_pool(call: Call) -> Answer:
    """POST pools, on a load balancer or as a listener's default."""
    store.authorize(call, write=True)
    values, tree = call.parsed()
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
    insert(call, balancer, tree)
    row = tree.rows["pools"][0]
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
    tree = Tree()
    tree.add_members(pool["id"], [values], taken=_members_of(call, pool))
    insert(call, balancer, tree)
    row = tree.rows["members"][0]
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


_CHANGEABLE = [
    name for name in model.MEMBER if name in t.members.c and name not in {"address", "protocol_port", "project_id"}
]


def _members_of(call: Call, pool: Row) -> dict[tuple[str, int], Row]:
    """What a batch may change of the pool's members, by what they are unique by."""
    c = t.members.c
    query = sa.select(c.id, c.address, c.protocol_port, *(c[name] for name in _CHANGEABLE)).where(
        c.pool_id == pool["id"]
    )
    return {member_key(row): row for row in call.tx.all(query)}


@dataclass(frozen=True)
class _Given:
    """A member of a batch: as it was given, with defaults, and as a row."""

    body: Row
    values: Row
    row: Row


def parse_members(_settings: Settings, body: Any) -> dict[tuple[str, int], _Given]:
    """The members of a batch by what they are unique by."""
    asked = body.get("members") if isinstance(body, dict) else None
    if not isinstance(asked, list):
        raise ApiError(400, 'Missing argument: "members"')
    check_size("members", len(asked), CHILDREN_MAX)
    bodies = [store.checked_part(model.MEMBER, one, "members_.members") for one in asked]
    keys = [member_key(values) for values in bodies]
    if len({*keys}) < len(keys):
        raise store.refuse(broken("Member must be updated only once in the same request."))
    tree = Tree()
    tree.add_members("", bodies)
    return dict(zip(keys, map(_Given, asked, bodies, tree.rows["members"]), strict=True))


def batch_members(call: Call) -> Answer:
    """PUT pools/ID/members: the list becomes the pool's members; nothing different means nothing happens."""
    pool = _pool(call, write=True)
    new: dict[tuple[str, int], _Given] = call.parsed()
    balancer = store.begin_change(call, pool["load_balancer_id"])
    old = _members_of(call, pool)
    moved = {key: change for key, one in new.items() if key in old and (change := _change(old[key], one))}
    gone = [] if call.flag("additive_only") else [row["id"] for key, row in old.items() if key not in new]
    tree = Tree.of_members(pool, [one.row for key, one in new.items() if key not in old])
    check_size("members", len(moved) + tree.size)  # those that stay as they are cost little
    if not (moved or gone or tree.size):
        return Answer(202)
    changed = {name for change in moved.values() for name in change}
    call.tx.update_each(t.members, [old[key] | change for key, change in moved.items()], sorted(changed))
    call.tx.update_all(t.members, gone, {"provisioning_status": "PENDING_DELETE", "updated_at": now()})
    insert(call, balancer, tree)
    store.end_change(call, balancer, pool_id=pool["id"])
    return Answer(202)


def _change(old: Row, new: _Given) -> Row:
    """What a batch changes of a member. As in Octavia these three return to their defaults where they are not given."""
    names = {*new.body, "weight", "backup", "admin_state_up"} & {*_CHANGEABLE}
    changed = {name: new.values.get(name) for name in names if new.values.get(name) != old[name]}
    return changed | {"provisioning_status": "PENDING_UPDATE", "updated_at": now()} if changed else {}


def create_monitor(call: Call) -> Answer:
    """POST healthmonitors."""
    store.authorize(call, write=True)
    values = store.checked(model.MONITOR, call.body, "healthmonitor")
    if not values.get("pool_id"):
        raise changes.mandatory("pool_id")
    pool = store.find(call, t.pools, values["pool_id"])
    balancer = store.begin_change(call, pool["load_balancer_id"])
    if call.tx.value(sa.select(t.health_monitors.c.id).where(t.health_monitors.c.pool_id == pool["id"])):
        raise ApiError(409, "This pool already has a health monitor")
    tree = Tree()
    row = tree.add_monitor(pool, values)
    insert(call, balancer, tree)
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
