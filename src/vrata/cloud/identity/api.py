"""Identity's HTTP endpoints but for issuing tokens: tokens, projects, users, roles, domains, passwords, catalog.

Keystone v3's own paths, codes and bodies. Administration needs the role admin; everybody may see themselves.
"""

import uuid
from collections.abc import Callable
from typing import Any

import sqlalchemy as sa

from vrata.cloud.http import Answer, ApiError, Call, Endpoint, now
from vrata.cloud.identity import assignments, credentials, implied, lists, passwords, tags, tokens
from vrata.cloud.identity import tables as t
from vrata.cloud.identity.bootstrap import DOMAIN, ROLES
from vrata.cloud.identity.catalog import catalog, version
from vrata.cloud.identity.resources import admin, duplicate, extra, found, kind_of, listing, values_of, view
from vrata.cloud.store import Row


def _list(call: Call) -> Answer:
    collection = call.path["collection"]
    table = kind_of(call)[0]
    if collection in {"projects", "users"}:
        admin(call, f"identity:list_{collection}")
    query = sa.select(table).order_by(table.c.name)
    if collection == "domains" and not call.caller.admin:
        query = query.where(table.c.id.in_(_own_domains(call)))
    for name, value in call.query:
        if name in {"name", "domain_id", "id", "parent_id"} and name in table.c:
            query = query.where(table.c[name] == value)
    if collection == "roles" and "domain_id" not in dict(call.query):
        query = query.where(table.c.domain_id.is_(None))
    return listing(call, collection, call.tx.all(query))


def _show(call: Call) -> Answer:
    table, kind, _ = kind_of(call)
    if kind != "role" and call.path["id"] not in _own(call, kind):
        admin(call, f"identity:get_{kind}")
    row = found(call.tx.get(table, call.path["id"]), kind, call.path["id"])
    return Answer(body={kind: view(call.path["collection"], row, call.base_url)})


def _own(call: Call, kind: str) -> set[str | None]:
    """What a tenant sees: itself, the project of its token, the domains of both."""
    match kind:
        case "project":
            return {call.caller.project_id}
        case "user":
            return {call.caller.user_id}
        case _:
            return set(_own_domains(call))


def _own_domains(call: Call) -> list[str | None]:
    user = call.tx.value(sa.select(t.users.c.domain_id).where(t.users.c.id == call.caller.user_id))
    project = sa.select(t.projects.c.domain_id).where(t.projects.c.id == (call.caller.project_id or ""))
    return [user, call.tx.value(project), call.caller.domain_id]


def _create(call: Call) -> Answer:
    table, kind, names = kind_of(call)
    admin(call, f"identity:create_{kind}")
    asked, values = values_of(call, kind, names)
    name = values.get("name")
    if not name or len(name) > 255:
        raise ApiError(400, "Invalid input for field 'name': it needs 1 to 255 characters")
    if "domain_id" in table.c and (kind != "role" or values.get("domain_id")):
        values["domain_id"] = found(
            call.tx.get(t.domains, values.get("domain_id") or "default"), "domain", str(values.get("domain_id"))
        )["id"]
    row: Row = {"id": uuid.uuid4().hex, "description": "", **values, "extra": extra(asked, names)}
    row["description"] = row["description"] or ""
    if "enabled" in table.c and row.get("enabled") is None:
        row["enabled"] = True
    if kind == "project":
        row["parent_id"] = _parent(call, row)
    if kind == "user" and asked.get("password") is not None:
        row["password_hash"] = call.prepared
    _free_name(call, table, kind, row)
    call.tx.insert(table, row)
    fresh = found(call.tx.get(table, row["id"]), kind, row["id"])
    return Answer(201, {kind: view(call.path["collection"], fresh, call.base_url)})


def _hash_new(call: Call) -> Callable[[], str] | None:
    """Before the transaction: the hash of a new password."""
    _, kind, names = kind_of(call)
    admin(call, f"identity:{'create' if call.method == 'POST' else 'update'}_{kind}")
    password = values_of(call, kind, names)[0].get("password") if kind == "user" else None
    return None if password is None else lambda: passwords.hash_secret(password, call.settings.password_cost)


def _parent(call: Call, row: Row) -> str:
    parent = row.get("parent_id") or row["domain_id"]
    if parent != row["domain_id"]:
        above = found(call.tx.get(t.projects, parent), "project", parent)
        if above["domain_id"] != row["domain_id"]:
            raise ApiError(400, "Invalid input for field 'parent_id': the parent is in another domain")
    return str(parent)


def _free_name(call: Call, table: sa.Table, kind: str, row: Row) -> None:
    query = sa.select(table.c.id).where(table.c.name == row["name"], table.c.id != row["id"])
    if "domain_id" in table.c and kind != "role":  # a role's name is its own in the whole cloud
        query = query.where(table.c.domain_id == row["domain_id"])
    if call.tx.value(query):
        raise duplicate(kind, row["name"])


def _update(call: Call) -> Answer:
    table, kind, names = kind_of(call)
    admin(call, f"identity:update_{kind}")
    row = found(call.tx.lock(table, call.path["id"]), kind, call.path["id"])
    asked, values = values_of(call, kind, names)
    _changeable(kind, row, values)
    for name in ("domain_id", "parent_id"):
        if name in row and values.pop(name, row[name]) != row[name]:
            raise ApiError(400, f"Validation failed: {kind} stays where it is: `{name}` cannot be changed")
    if "description" in values:
        values["description"] = values["description"] or ""
    values["extra"] = extra(asked, names, row["extra"])
    if kind == "user" and asked.get("password") is not None:
        values["password_hash"] = call.prepared
        tokens.revoke(call.tx, kind, row["id"])
    if values.get("enabled") is False:
        tokens.revoke(call.tx, kind, row["id"])
    if values.get("enabled", True) is None or values.get("name", "x") is None:
        raise ApiError(400, "Invalid input: enabled and name may not be null")
    if values.get("name"):
        _free_name(call, table, kind, row | values)
    call.tx.update(table, row["id"], values)
    fresh = found(call.tx.get(table, row["id"]), kind, row["id"])
    return Answer(body={kind: view(call.path["collection"], fresh, call.base_url)})


def _changeable(kind: str, row: Row, values: Row | None) -> None:
    """403 for what the cloud stands on; `values` None: it shall go."""
    if kind == "role" and row["name"] in ROLES and (values is None or values.get("name", row["name"]) != row["name"]):
        verb = "delete" if values is None else "update"
        raise ApiError(403, f"Unable to {verb} immutable role resource: `{row['id']}.")
    if kind == "domain" and row["id"] == DOMAIN and (values is None or values.get("enabled") is False):
        raise ApiError(403, "The default domain cannot be disabled or deleted: the administrator is in it.")


def _delete(call: Call) -> Answer:
    table, kind, _ = kind_of(call)
    admin(call, f"identity:delete_{kind}")
    row = found(call.tx.lock(table, call.path["id"]), kind, call.path["id"])
    _changeable(kind, row, None)
    if kind == "domain" and row["enabled"]:
        raise ApiError(403, "Cannot delete a domain that is enabled, please disable it first.")
    gone: list[Any] = [row["id"]]
    if kind == "domain":  # its users and projects go with it
        gone += call.tx.column(sa.select(t.projects.c.id).where(t.projects.c.domain_id == row["id"]))
    if kind == "domain":
        call.tx.execute(sa.delete(t.roles).where(t.roles.c.domain_id == row["id"]))
    if kind in {"domain", "project"}:
        call.tx.execute(sa.delete(t.assignments).where(t.assignments.c.target_id.in_(gone)))
    if kind != "role":
        tokens.revoke(call.tx, kind, row["id"])
    call.tx.delete(table, row["id"])
    return Answer(204)


# Tokens ---------------------------------------------------------------------------------------------------------------


def _subject(call: Call) -> tuple[str, Row]:
    token = call.headers.get("x-subject-token", "")
    if not token:
        raise ApiError(400, "X-Subject-Token is required")
    try:
        row = tokens.load(call.tx, token, now())
        tokens.alive(call.tx, row)
    except ApiError as error:
        raise ApiError(404, "Could not find token.") from error
    if not (call.caller.admin or "service" in call.caller.roles or row["user_id"] == call.caller.user_id):
        raise ApiError(404, "Could not find token.")  # another's token is as unknown as none
    return token, row


def _show_token(call: Call) -> Answer:
    token, row = _subject(call)
    entries = [] if "nocatalog" in dict(call.query) else catalog(call.base_url, call.settings)
    return Answer(body={"token": tokens.show(call.tx, row, entries)}, headers={"x-subject-token": token})


def _delete_token(call: Call) -> Answer:
    _, row = _subject(call)
    call.tx.delete(t.tokens, row["digest"])
    return Answer(204)


def _catalog(call: Call) -> Answer:
    return Answer(body={"catalog": catalog(call.base_url, call.settings), "links": {"self": call.url}})


def _my_projects(call: Call) -> Answer:
    user_id = call.path.get("user_id") or call.caller.user_id
    if user_id != call.caller.user_id:
        admin(call, "identity:list_user_projects")
    return listing(call, "projects", call.tx.all(_assigned(t.projects, "project", user_id)))


def _my_domains(call: Call) -> Answer:
    return listing(call, "domains", call.tx.all(_assigned(t.domains, "domain", call.caller.user_id)))


def _assigned(table: sa.Table, kind: str, user_id: str) -> sa.Select[Any]:
    targets = sa.select(t.assignments.c.target_id).where(
        t.assignments.c.user_id == user_id, t.assignments.c.target_kind == kind
    )
    return sa.select(table).where(table.c.id.in_(targets), table.c.enabled).order_by(table.c.name)


def _my_system(call: Call) -> Answer:
    query = sa.select(sa.literal(1)).select_from(t.assignments)
    mine = (t.assignments.c.user_id == call.caller.user_id, t.assignments.c.target_kind == "system")
    some = call.tx.value(query.where(*mine)) is not None
    return Answer(body={"system": [{"all": True}] if some else [], "links": {"self": call.url}})


def _published(call: Call, what: str) -> list[Row]:
    """Services, endpoints and regions, read off the catalog."""
    entries = catalog(call.base_url, call.settings)
    if what == "services":
        return [{"id": e["id"], "type": e["type"], "name": e["name"], "enabled": True} for e in entries]
    if what == "endpoints":
        return [{**p, "service_id": e["id"], "enabled": True} for e in entries for p in e["endpoints"]]
    return [{"id": call.settings.region, "description": "", "parent_region_id": None}]


def _publish(what: str) -> list[Endpoint]:
    """Read-only: the catalog is the service's own."""

    def index(call: Call) -> Answer:
        items = _published(call, what)
        return lists.answer(call, what, items, list(items[0]))

    def show(call: Call) -> Answer:
        item = next((one for one in _published(call, what) if one["id"] == call.path["id"]), None)
        return Answer(body={what[:-1]: found(item, what[:-1], call.path["id"])})

    return [Endpoint("GET", f"/v3/{what}", index), Endpoint("GET", f"/v3/{what}/{{id}}", show)]


# Groups: none -------------------------------------------------------------------------------------------------------


def _groups(call: Call) -> Answer:
    user_id = call.path.get("user_id")
    if user_id != call.caller.user_id:
        admin(call, "identity:list_groups")
    if user_id is not None:
        found(call.tx.get(t.users, user_id), "user", user_id)
    return lists.answer(call, "groups", [], ("id", "name", "domain_id", "description"))


def _no_group(call: Call) -> Answer:
    admin(call, "identity:get_group")
    raise ApiError(404, f"Could not find group: {call.path['id']}.")


def _no_groups(call: Call) -> Answer:
    admin(call, "identity:create_group")
    raise ApiError(501, "This cloud keeps no groups: give roles to users.")


def _versions(call: Call) -> Answer:
    return Answer(300, {"versions": {"values": [version(call.base_url)]}})


def _version(call: Call) -> Answer:
    return Answer(body={"version": version(call.base_url)})


ENDPOINTS = [
    Endpoint("GET", "", _versions, public=True),
    Endpoint("GET", "/", _versions, public=True),
    Endpoint("GET", "/v3", _version, public=True),
    Endpoint("GET", "/v3/", _version, public=True),
    Endpoint("GET", "/v3/auth/tokens", _show_token),
    Endpoint("DELETE", "/v3/auth/tokens", _delete_token, write=True),
    Endpoint("GET", "/v3/auth/catalog", _catalog),
    Endpoint("GET", "/v3/auth/projects", _my_projects),
    Endpoint("GET", "/v3/auth/domains", _my_domains),
    Endpoint("GET", "/v3/auth/system", _my_system),
    *(endpoint for what in ("services", "endpoints", "regions") for endpoint in _publish(what)),
    Endpoint("GET", "/v3/users/{user_id}/projects", _my_projects),
    Endpoint("GET", "/v3/users/{user_id}/groups", _groups),
    Endpoint("GET", "/v3/groups", _groups),
    Endpoint("POST", "/v3/groups", _no_groups),
    *(
        Endpoint(method, "/v3/groups/{id}" + rest, _no_group)
        for method, rest in (
            ("GET", ""),
            ("PATCH", ""),
            ("DELETE", ""),
            ("GET", "/users"),
            ("GET", "/users/{user}"),
            ("PUT", "/users/{user}"),
            ("DELETE", "/users/{user}"),
        )
    ),
    *credentials.ENDPOINTS,
    *implied.ENDPOINTS,
    *tags.ENDPOINTS,
    *assignments.ENDPOINTS,
    Endpoint("GET", "/v3/{collection}", _list),
    Endpoint("POST", "/v3/{collection}", _create, write=True, prepare=_hash_new),
    Endpoint("GET", "/v3/{collection}/{id}", _show),
    Endpoint("PATCH", "/v3/{collection}/{id}", _update, write=True, prepare=_hash_new),
    Endpoint("DELETE", "/v3/{collection}/{id}", _delete, write=True),
]
