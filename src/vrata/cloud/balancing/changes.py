"""What every change of a child of a load balancer has in common: find, lock, check, write, show."""

from typing import Any

import sqlalchemy as sa

from vrata.cloud.balancing import store, view
from vrata.cloud.balancing import tables as t
from vrata.cloud.fields import UNSET, Field
from vrata.cloud.http import Answer, ApiError, Call, now
from vrata.cloud.store import Row


def mandatory(name: str) -> ApiError:
    """400 for a field that must be there."""
    return ApiError(400, f"Invalid input for field/attribute {name}. Value: 'None'. Mandatory field missing.")


SINGULAR: dict[str, tuple[str, Any]] = {
    "load_balancers": ("loadbalancer", view.load_balancers),
    "listeners": ("listener", view.listeners),
    "pools": ("pool", view.pools),
    "members": ("member", view.members),
    "health_monitors": ("healthmonitor", view.monitors),
    "l7policies": ("l7policy", view.l7policies),
    "l7rules": ("rule", view.l7rules),
}


def shown(call: Call, table: sa.Table, row_id: str, code: int = 200) -> Answer:
    """The row as an answer."""
    name, show = SINGULAR[table.name]
    return Answer(code, {name: show(call, [store.find(call, table, row_id)])[0]})


def begin_update(call: Call, table: sa.Table, fields: dict[str, Field]) -> tuple[Row, Row, Row]:
    """The row under its load balancer's lock, that load balancer, and the checked values."""
    store.authorize(call, write=True)
    row = store.find(call, table, call.path["id"])
    values = store.checked(fields, call.body, SINGULAR[table.name][0], updating=True)
    balancer = store.begin_change(call, balancer_of(call, table, row))
    guarded = call.tx.get(table, row["id"])  # as it is under the lock, not as it was before
    if guarded is None:
        raise store.not_found(table, call.path["id"])
    return guarded, balancer, values


def balancer_of(call: Call, table: sa.Table, row: Row) -> str:
    """The load balancer a row belongs to."""
    if "load_balancer_id" in table.c:
        return str(row["load_balancer_id"])
    if table is t.l7policies:
        owner = sa.select(t.listeners.c.load_balancer_id).where(t.listeners.c.id == row["listener_id"])
        return str(call.tx.value(owner))
    return str(call.tx.value(sa.select(t.pools.c.load_balancer_id).where(t.pools.c.id == row["pool_id"])))


def end_update(
    call: Call, table: sa.Table, fields: dict[str, Field], *, row: Row, balancer: Row, values: Row
) -> Answer:
    """Write; null sets a field to its default, as in Octavia."""
    changes = {}
    for name, value in values.items():
        default = fields[name].default
        if value is None and fields[name].required:
            raise ApiError(400, f"Invalid input for field/attribute {name}. Value: 'None'. Mandatory field missing.")
        changes[name] = default if value is None and default is not UNSET else value
    changes |= {"updated_at": now()}
    if row["provisioning_status"] in {"ACTIVE", "ERROR"}:
        changes["provisioning_status"] = "PENDING_UPDATE"
    call.tx.update(table, row["id"], changes)
    pool_id = row["id"] if table is t.pools else row.get("pool_id")
    store.end_change(call, balancer, pool_id=pool_id)
    return shown(call, table, row["id"])


def begin_delete(call: Call, table: sa.Table) -> tuple[Row, Row]:
    """The row and its load balancer, locked."""
    store.authorize(call, write=True)
    row = store.find(call, table, call.path["id"])
    balancer = store.begin_change(call, balancer_of(call, table, row))
    return row, balancer
