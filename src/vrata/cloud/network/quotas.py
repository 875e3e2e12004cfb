"""How many of each resource a project may have (Neutron v2.0, «Quotas extension»).

A project's row is locked while its resources are counted, so that of simultaneous creates only as many win as fit.
Neutron's own defaults, unless the operator sets others (`Settings.network_quotas`) or an administrator a project's own.
"""

from typing import Any

import sqlalchemy as sa

from vrata.cloud import listing
from vrata.cloud.http import Answer, ApiError, Call, Endpoint
from vrata.cloud.network import tables as t
from vrata.cloud.network.ports import invalid
from vrata.cloud.store import Row, Tx

UNLIMITED = -1
MOST = 2**31 - 1
RESOURCES: dict[str, sa.Table | None] = {  # None: nothing of the kind exists here, so none is ever used
    "network": t.networks, "subnet": t.subnets, "subnetpool": t.subnet_pools, "port": t.ports, "router": t.routers,
    "floatingip": t.floating_ips, "security_group": t.security_groups, "security_group_rule": t.security_group_rules,
    "rbac_policy": None,
}  # fmt: skip


def take(call: Call, resource: str, project_id: str, count: int = 1) -> None:
    """Make sure that `count` more fit; 409 if not. Holds the project's row until the transaction ends."""
    if resource not in RESOURCES:
        return
    found = call.tx.lock(t.quotas, project_id)
    limit = _limits(call, found)[resource]
    if limit == UNLIMITED:
        return
    if found is None:  # a default is in force: the row is what simultaneous creates wait for
        call.tx.insert(t.quotas, {"project_id": project_id, "limits": {}})
    if _used(call.tx, resource, project_id) + count > limit:
        raise ApiError(409, f"Quota exceeded for resources: ['{resource}'].", "OverQuota")


def _used(tx: Tx, resource: str, project_id: str) -> int:
    table = RESOURCES[resource]
    if table is None:
        return 0
    return int(tx.value(sa.select(sa.func.count()).select_from(table).where(table.c.project_id == project_id)))


def _limits(call: Call, row: Row | None) -> dict[str, int]:
    own = (row or {}).get("limits") or {}
    return {**dict.fromkeys(RESOURCES, UNLIMITED), **dict(call.settings.network_quotas), **own}


def _whose(call: Call, *, write: bool) -> str:
    """The project in the path; a tenant sees its own alone, and only an administrator changes any."""
    project_id = call.path["project_id"]
    if not call.caller.admin and (write or project_id != call.caller.project_id or not call.caller.may_read()):
        raise ApiError(403, "The request is disallowed by policy.", "PolicyNotAuthorized")
    return project_id


def _show(call: Call) -> Answer:
    project_id = _whose(call, write=False)
    return Answer(body={"quota": {**_limits(call, call.tx.get(t.quotas, project_id)), "project_id": project_id}})


def _defaults(call: Call) -> Answer:
    project_id = _whose(call, write=False)
    return Answer(body={"quota": {**_limits(call, None), "project_id": project_id}})


def _details(call: Call) -> Answer:
    project_id = _whose(call, write=False)
    limits = _limits(call, call.tx.get(t.quotas, project_id))
    shown = {
        name: {"limit": limit, "used": _used(call.tx, name, project_id), "reserved": 0}
        for name, limit in limits.items()
    }
    return Answer(body={"quota": shown})


def _index(call: Call) -> Answer:
    """The projects that have limits of their own."""
    if not call.caller.admin:
        raise ApiError(403, "The request is disallowed by policy.", "PolicyNotAuthorized")
    rows = call.tx.all(sa.select(t.quotas).order_by(t.quotas.c.project_id))
    quotas = [
        {**_limits(call, row), "project_id": row["project_id"], "tenant_id": row["project_id"]}
        for row in rows
        if row["limits"]
    ]
    known = [*RESOURCES, "project_id"]
    return Answer(body={"quotas": listing.kept(call, quotas, listing.NEUTRON, known=known)})


def _update(call: Call) -> Answer:
    project_id = _whose(call, write=True)
    asked: Any = call.body.get("quota") if isinstance(call.body, dict) else None
    if not isinstance(asked, dict):
        raise ApiError(400, "Unable to find 'quota' in request body", "HTTPBadRequest")
    check = asked.get("check_limit") is True
    asked = {name: value for name, value in asked.items() if name not in {"tenant_id", "project_id", "check_limit"}}
    for name, value in asked.items():
        if name not in RESOURCES:
            raise ApiError(400, f"Unrecognized attribute(s) '{name}'", "HTTPBadRequest")
        if isinstance(value, bool) or not isinstance(value, int) or not UNLIMITED <= value <= MOST:
            raise invalid(f"Invalid input for {name}. Reason: '{value}' is not in the range {UNLIMITED} to {MOST}.")
    row = call.tx.lock(t.quotas, project_id)
    if check:
        _check_used(call.tx, project_id, asked)
    if row is None:
        call.tx.insert(t.quotas, {"project_id": project_id, "limits": asked})
    else:
        call.tx.update(t.quotas, project_id, {"limits": {**(row["limits"] or {}), **asked}})
    return Answer(body={"quota": _limits(call, call.tx.get(t.quotas, project_id))})


def _check_used(tx: Tx, project_id: str, limits: dict[str, int]) -> None:
    """400 if a limit is below what there is already."""
    for name, limit in sorted(limits.items()):
        used = _used(tx, name, project_id)
        if UNLIMITED != limit < used:
            raise invalid(f"Quota limit {limit} for {name} is below the {used} that project {project_id} has.")


def _delete(call: Call) -> Answer:
    """Back to the defaults. The row stays where it is: somebody may be waiting for its lock."""
    project_id = _whose(call, write=True)
    row = call.tx.lock(t.quotas, project_id)
    if row is None or not row["limits"]:
        raise ApiError(404, f"Quota for tenant {project_id} could not be found.", "TenantQuotaNotFound")
    call.tx.update(t.quotas, project_id, {"limits": {}})
    return Answer(204)


def _tenant(call: Call) -> Answer:
    """Which project a token means."""
    return Answer(body={"tenant": {"tenant_id": call.caller.project_id}})


ENDPOINTS = [
    Endpoint("GET", "/quotas", _index),
    Endpoint("GET", "/quotas/tenant", _tenant),
    Endpoint("GET", "/quotas/{project_id}", _show),
    Endpoint("PUT", "/quotas/{project_id}", _update, write=True),
    Endpoint("DELETE", "/quotas/{project_id}", _delete, write=True),
    Endpoint("GET", "/quotas/{project_id}/default", _defaults),
    Endpoint("GET", "/quotas/{project_id}/details", _details),
    Endpoint("GET", "/quotas/{project_id}/details.json", _details),
]
