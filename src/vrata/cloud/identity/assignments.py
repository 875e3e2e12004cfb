"""Who has which role where: grants on projects, domains and the system, and the list of all (Keystone v3)."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from vrata.cloud.http import Answer, ApiError, Call, Endpoint
from vrata.cloud.identity import tables as t
from vrata.cloud.identity import tokens
from vrata.cloud.identity.resources import KINDS, admin, found, listing
from vrata.cloud.store import Row


def _assignment(call: Call) -> Row:
    admin(call, "identity:grant")
    kind = {"projects": "project", "domains": "domain", "system": "system"}.get(call.path["targets"])
    if kind is None or (kind == "system") == ("target" in call.path):
        raise ApiError(404, "The resource could not be found.")
    target = call.path.get("target", "all")
    found(call.tx.get(t.users, call.path["user"]), "user", call.path["user"])
    if kind != "system":
        found(call.tx.get(t.projects if kind == "project" else t.domains, target), kind, target)
    values = {"user_id": call.path["user"], "target_kind": kind, "target_id": target}
    if "role" in call.path:
        values["role_id"] = found(call.tx.get(t.roles, call.path["role"]), "role", call.path["role"])["id"]
    return values


def _rows(values: Row) -> list[Any]:
    return [t.assignments.c[name] == value for name, value in values.items()]


def _grant(call: Call) -> Answer:
    values = _assignment(call)
    if call.tx.value(sa.select(sa.literal(1)).select_from(t.assignments).where(*_rows(values))) is None:
        call.tx.insert(t.assignments, values)
    return Answer(204)


def _revoke(call: Call) -> Answer:
    values = _assignment(call)
    if not call.tx.execute(sa.delete(t.assignments).where(*_rows(values))):
        raise ApiError(404, f"Could not find role assignment with role: {values['role_id']}.")
    return Answer(204)


def _check_grant(call: Call) -> Answer:
    values = _assignment(call)
    if call.tx.value(sa.select(sa.literal(1)).select_from(t.assignments).where(*_rows(values))) is None:
        raise ApiError(404, f"Could not find role assignment with role: {values['role_id']}.")
    return Answer(204)


def _granted(call: Call) -> Answer:
    values = _assignment(call)
    ids = sa.select(t.assignments.c.role_id).where(*_rows(values))
    return listing(call, "roles", call.tx.all(sa.select(t.roles).where(t.roles.c.id.in_(ids))))


def _role_assignments(call: Call) -> Answer:
    query = dict(call.query)
    if query.get("user.id") != call.caller.user_id:
        admin(call, "identity:list_role_assignments")
    columns = {
        "user.id": "user_id",
        "role.id": "role_id",
        "scope.project.id": "target_id",
        "scope.domain.id": "target_id",
    }
    effective = "effective" in query and query["effective"].lower() not in {"0", "false"}
    conditions = [t.assignments.c[column] == query[name] for name, column in columns.items() if name in query]
    if effective:
        conditions = [one for name, one in zip(_present(query, columns), conditions, strict=True) if name != "role.id"]
    if "scope.system" in query:
        conditions.append(t.assignments.c.target_kind == "system")
    if "group.id" in query:  # there are no groups
        conditions.append(sa.false())
    rows = call.tx.all(sa.select(t.assignments).where(*conditions))
    if effective:
        rows = _effective(call, rows, query.get("role.id"))
    named = "include_names" in query and query["include_names"].lower() not in {"0", "false"}
    shown = [_shown(call, row, named=named) for row in rows]
    return Answer(body={"role_assignments": shown, "links": {"next": None, "previous": None, "self": call.url}})


def _present(query: dict[str, str], names: Iterable[str]) -> list[str]:
    return [name for name in names if name in query]


def _effective(call: Call, rows: list[Row], role_id: str | None) -> list[Row]:
    """Assignments with the roles they imply, each once."""
    out: dict[tuple[str, ...], Row] = {}
    for row in rows:
        for implied in sorted(tokens.with_implied(call.tx, {row["role_id"]})):
            if role_id in {None, implied}:
                one = {**row, "role_id": implied}
                out.setdefault((one["user_id"], one["target_kind"], one["target_id"], implied), one)
    return list(out.values())


def _shown(call: Call, row: Row, *, named: bool) -> Row:
    def ref(kind: str, row_id: str) -> Row:
        out: Row = {"id": row_id}
        if named:
            target = call.tx.get(KINDS[f"{kind}s"][0], row_id) or {}
            out["name"] = target.get("name", "")
            if "domain_id" in target:
                out["domain"] = tokens.domain(call.tx, target["domain_id"])
        return out

    kind = row["target_kind"]
    scope: Row = {"all": True} if kind == "system" else ref(kind, row["target_id"])
    return {"role": ref("role", row["role_id"]), "user": ref("user", row["user_id"]), "scope": {kind: scope},
            "links": {}}  # fmt: skip


def _no_group(call: Call) -> Answer:
    """There are no groups, so none can be given a role or a member."""
    admin(call, "identity:get_group")
    raise ApiError(404, f"Could not find group: {call.path['group']}.")


_GRANT = "/v3/{targets}/{target}/users/{user}/roles"
_SYSTEM = "/v3/{targets}/users/{user}/roles"
_GROUP = "/v3/{targets}/{target}/groups/{group}/roles"
_SYSTEM_GROUP = "/v3/{targets}/groups/{group}/roles"

ENDPOINTS = [
    Endpoint("GET", "/v3/role_assignments", _role_assignments),
    *(
        endpoint
        for path in (_GRANT, _SYSTEM)
        for endpoint in (
            Endpoint("GET", path, _granted),
            Endpoint("PUT", path + "/{role}", _grant, write=True),
            Endpoint("GET", path + "/{role}", _check_grant),
            Endpoint("DELETE", path + "/{role}", _revoke, write=True),
        )
    ),
    *(
        Endpoint(method, path, _no_group)
        for base in (_GROUP, _SYSTEM_GROUP)
        for method, path in (
            ("GET", base), ("GET", base + "/{role}"), ("PUT", base + "/{role}"), ("DELETE", base + "/{role}"),
        )
    ),
]  # fmt: skip
