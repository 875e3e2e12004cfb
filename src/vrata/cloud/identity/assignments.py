"""Who has which role where: grants on projects, domains and the system, and the list of all (Keystone v3)."""

from typing import Any

import sqlalchemy as sa

from vrata.cloud.http import Answer, ApiError, Call, Endpoint
from vrata.cloud.identity import lists, tokens
from vrata.cloud.identity import tables as t
from vrata.cloud.identity.resources import KINDS, admin, found, listing
from vrata.cloud.store import Row


def _assignment(call: Call) -> Row:
    admin(call, "identity:grant")
    kind = {"projects": "project", "domains": "domain", "system": "system"}.get(call.path["targets"])
    if kind is None or (kind == "system") == ("target" in call.path):
        raise ApiError(404, "The resource could not be found.")
    target = call.path.get("target", "all")
    found(call.tx.get(t.users, call.path["user"]), "user", call.path["user"])
    place = None if kind == "system" else found(call.tx.get(_TABLES[kind], target), kind, target)
    values = {"user_id": call.path["user"], "target_kind": kind, "target_id": target}
    if "role" in call.path:
        role = found(call.tx.get(t.roles, call.path["role"]), "role", call.path["role"])
        values["role_id"] = role["id"]
        _check_domain(role, kind, place)
    return values


def _check_domain(role: Row, kind: str, place: Row | None) -> None:
    """403 for a role of a domain outside of it."""
    home = None if place is None else place["id"] if kind == "domain" else place["domain_id"]
    if role["domain_id"] not in {None, home}:
        raise ApiError(403, f"Role {role['id']} belongs to domain {role['domain_id']}: it can be given only there.")


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


_TABLES = {"project": t.projects, "domain": t.domains}
_COLUMNS = {"user.id": "user_id", "role.id": "role_id", "scope.project.id": "target_id", "scope.domain.id": "target_id"}
_KINDS = {"scope.project.id": "project", "scope.domain.id": "domain", "scope.system": "system"}
_INHERITED = "scope.OS-INHERIT:inherited_to"
_FILTERS = (*_COLUMNS, "scope.system", "group.id", _INHERITED, "effective", "include_names", "include_subtree")


def _role_assignments(call: Call) -> Answer:
    query = dict(call.query)
    for name in query:
        if name not in _FILTERS:
            raise lists.unknown(name, _FILTERS)
    if query.get("user.id") != call.caller.user_id:
        admin(call, "identity:list_role_assignments")
    effective = lists.flag(query, "effective")
    c = t.assignments.c
    asked = {name: query[name] for name in _COLUMNS if name in query and not (effective and name == "role.id")}
    conditions = [c[_COLUMNS[name]] == value for name, value in asked.items() if name != "scope.project.id"]
    conditions += [c.target_kind == kind for name, kind in _KINDS.items() if name in query]
    if "scope.project.id" in query:
        below = lists.flag(query, "include_subtree")
        conditions.append(c.target_id.in_(_with_subtree(call, query["scope.project.id"], below=below)))
    if "group.id" in query or _INHERITED in query:  # there are no groups, and nothing is inherited
        conditions.append(sa.false())
    rows = call.tx.all(sa.select(t.assignments).where(*conditions))
    if effective:
        rows = _effective(call, rows, query.get("role.id"))
    shown = [_shown(call, row, named=lists.flag(query, "include_names")) for row in rows]
    return Answer(body={"role_assignments": shown, "links": {"next": None, "previous": None, "self": call.url}})


def _with_subtree(call: Call, project_id: str, *, below: bool) -> list[str]:
    """The project, and every one below it if that is asked for."""
    found, last = [project_id], [project_id]
    while below and last:
        last = call.tx.column(sa.select(t.projects.c.id).where(t.projects.c.parent_id.in_(last)))
        found += last
    return found


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
            if target.get("domain_id") is not None:  # roles of the whole cloud have none
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
