"""Identity's HTTP endpoints but for issuing tokens: tokens, projects, users, roles, assignments, credentials, catalog.

Keystone v3's own paths, codes and bodies. Administration needs the role admin; everybody may see themselves.
"""

import secrets
import uuid
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from vrata.cloud.http import Answer, ApiError, Call, Endpoint, now
from vrata.cloud.identity import passwords, tokens
from vrata.cloud.identity import tables as t
from vrata.cloud.identity.catalog import catalog, version
from vrata.cloud.store import Row

FORBIDDEN = "You are not authorized to perform the requested action: {}."
# collection -> (table, singular, attributes a caller may set, admin alone may list)
KINDS: dict[str, tuple[sa.Table, str, tuple[str, ...]]] = {
    "domains": (t.domains, "domain", ("name", "description", "enabled")),
    "projects": (t.projects, "project", ("name", "description", "enabled", "domain_id", "parent_id", "tags")),
    "users": (t.users, "user", ("name", "description", "enabled", "domain_id", "email", "default_project_id")),
    "roles": (t.roles, "role", ("name", "description")),
}


def _admin(call: Call, action: str) -> None:
    if not call.caller.admin:
        raise ApiError(403, FORBIDDEN.format(action))


def _found(row: Row | None, kind: str, row_id: str) -> Row:
    if row is None:
        raise ApiError(404, f"Could not find {kind}: {row_id}.")
    return row


def _view(collection: str, row: Row, base: str) -> Row:
    shown = {name: value for name, value in row.items() if name != "password_hash"}
    shown["links"] = {"self": f"{base}/identity/v3/{collection}/{row['id']}"}
    if collection == "projects":
        shown |= {"is_domain": False, "options": {}, "tags": row["tags"] or []}
    if collection == "users":
        shown |= {"password_expires_at": None, "options": {}}
    if collection == "roles":
        shown |= {"domain_id": None, "options": {}}
    return shown


def _listing(call: Call, collection: str, rows: list[Row]) -> Answer:
    return Answer(
        body={
            collection: [_view(collection, row, call.base_url) for row in rows],
            "links": {"next": None, "previous": None, "self": call.url},
        }
    )


def _list(call: Call) -> Answer:
    collection = call.path["collection"]
    table = _kind(call)[0]
    if collection in {"projects", "users"}:
        _admin(call, f"identity:list_{collection}")
    query = sa.select(table).order_by(table.c.name)
    for name, value in call.query:
        if name in {"name", "domain_id", "id", "parent_id"} and name in table.c:
            query = query.where(table.c[name] == value)
        if name == "enabled" and "enabled" in table.c:
            query = query.where(table.c.enabled.is_(value.lower() not in {"0", "false"}))
    return _listing(call, collection, call.tx.all(query))


def _kind(call: Call) -> tuple[sa.Table, str, tuple[str, ...]]:
    if call.path["collection"] not in KINDS:
        raise ApiError(404, "The resource could not be found.")
    return KINDS[call.path["collection"]]


def _show(call: Call) -> Answer:
    table, kind, _ = _kind(call)
    own = {"projects": call.caller.project_id, "users": call.caller.user_id}.get(call.path["collection"])
    if call.path["collection"] in {"projects", "users"} and own != call.path["id"]:
        _admin(call, f"identity:get_{kind}")
    row = _found(call.tx.get(table, call.path["id"]), kind, call.path["id"])
    return Answer(body={kind: _view(call.path["collection"], row, call.base_url)})


def _values(call: Call, kind: str, names: tuple[str, ...]) -> tuple[Row, Row]:
    asked = call.body.get(kind) if isinstance(call.body, dict) else None
    if not isinstance(asked, dict):
        raise ApiError(400, f"'{kind}' is a required property")
    for name, value in asked.items():
        wanted: type = {"enabled": bool, "tags": list}.get(name, str)
        if name in names and value is not None and not isinstance(value, wanted):
            raise ApiError(400, f"Invalid input for field '{name}': {value!r} is not of type '{wanted.__name__}'")
    return asked, {name: asked[name] for name in names if name in asked}


def _create(call: Call) -> Answer:
    table, kind, names = _kind(call)
    _admin(call, f"identity:create_{kind}")
    asked, values = _values(call, kind, names)
    name = values.get("name")
    if not name or len(name) > 255:
        raise ApiError(400, "Invalid input for field 'name': it needs 1 to 255 characters")
    if "domain_id" in table.c:
        values["domain_id"] = _found(
            call.tx.get(t.domains, values.get("domain_id") or "default"), "domain", str(values.get("domain_id"))
        )["id"]
    row: Row = {"id": uuid.uuid4().hex, "description": "", **values}
    row["description"] = row["description"] or ""
    if "enabled" in table.c:
        row.setdefault("enabled", True)
    if kind == "project":
        row["parent_id"] = row.get("parent_id") or row["domain_id"]
    if kind == "user" and asked.get("password") is not None:
        row["password_hash"] = passwords.hash_secret(str(asked["password"]))
    _free_name(call, table, kind, row)
    call.tx.insert(table, row)
    fresh = _found(call.tx.get(table, row["id"]), kind, row["id"])
    return Answer(201, {kind: _view(call.path["collection"], fresh, call.base_url)})


def _duplicate(kind: str, name: str) -> ApiError:
    return ApiError(409, f"Conflict occurred attempting to store {kind} - Duplicate entry found with name {name}.")


def _free_name(call: Call, table: sa.Table, kind: str, row: Row) -> None:
    query = sa.select(table.c.id).where(table.c.name == row["name"], table.c.id != row["id"])
    if "domain_id" in table.c:
        query = query.where(table.c.domain_id == row["domain_id"])
    if call.tx.value(query):
        raise ApiError(
            409, f"Conflict occurred attempting to store {kind} - Duplicate entry found with name {row['name']}."
        )


def _update(call: Call) -> Answer:
    table, kind, names = _kind(call)
    _admin(call, f"identity:update_{kind}")
    row = _found(call.tx.lock(table, call.path["id"]), kind, call.path["id"])
    asked, values = _values(call, kind, names)
    if kind == "user" and asked.get("password") is not None:
        values["password_hash"] = passwords.hash_secret(str(asked["password"]))
        call.tx.execute(sa.delete(t.tokens).where(t.tokens.c.user_id == row["id"]))
    if values.get("name"):
        _free_name(call, table, kind, row | values)
    call.tx.update(table, row["id"], values)
    fresh = _found(call.tx.get(table, row["id"]), kind, row["id"])
    return Answer(body={kind: _view(call.path["collection"], fresh, call.base_url)})


def _delete(call: Call) -> Answer:
    table, kind, _ = _kind(call)
    _admin(call, f"identity:delete_{kind}")
    row = _found(call.tx.lock(table, call.path["id"]), kind, call.path["id"])
    if kind == "domain" and row["enabled"]:
        raise ApiError(403, "Cannot delete a domain that is enabled, please disable it first.")
    call.tx.execute(
        sa.delete(t.assignments).where(t.assignments.c.target_kind == kind, t.assignments.c.target_id == row["id"])
    )
    if kind == "project":
        call.tx.execute(sa.delete(t.tokens).where(t.tokens.c.project_id == row["id"]))
    call.tx.delete(table, row["id"])
    return Answer(204)


# Tokens ---------------------------------------------------------------------------------------------------------------


def _subject(call: Call) -> tuple[str, Row]:
    token = call.headers.get("x-subject-token", "")
    if not token:
        raise ApiError(400, "X-Subject-Token is required")
    try:
        row = tokens.load(call.tx, token, now())
    except ApiError as error:
        raise ApiError(404, "Could not find token.") from error
    if not (call.caller.admin or "service" in call.caller.roles or row["user_id"] == call.caller.user_id):
        raise ApiError(403, FORBIDDEN.format("identity:validate_token"))
    return token, row


def _show_token(call: Call) -> Answer:
    token, row = _subject(call)
    entries = [] if "nocatalog" in dict(call.query) else catalog(call.base_url, call.settings.region)
    return Answer(body={"token": tokens.show(call.tx, row, entries)}, headers={"x-subject-token": token})


def _delete_token(call: Call) -> Answer:
    _, row = _subject(call)
    call.tx.delete(t.tokens, row["digest"])
    return Answer(204)


def _catalog(call: Call) -> Answer:
    return Answer(body={"catalog": catalog(call.base_url, call.settings.region), "links": {"self": call.url}})


def _my_projects(call: Call) -> Answer:
    user_id = call.path.get("user_id") or call.caller.user_id
    if user_id != call.caller.user_id:
        _admin(call, "identity:list_user_projects")
    return _listing(call, "projects", call.tx.all(_assigned(t.projects, "project", user_id)))


def _my_domains(call: Call) -> Answer:
    return _listing(call, "domains", call.tx.all(_assigned(t.domains, "domain", call.caller.user_id)))


def _assigned(table: sa.Table, kind: str, user_id: str) -> sa.Select[Any]:
    targets = sa.select(t.assignments.c.target_id).where(
        t.assignments.c.user_id == user_id, t.assignments.c.target_kind == kind
    )
    return sa.select(table).where(table.c.id.in_(targets), table.c.enabled).order_by(table.c.name)


def _services(call: Call) -> Answer:
    """Services, endpoints and regions, read off the catalog."""
    entries = catalog(call.base_url, call.settings.region)
    what = call.url.rsplit("/", 1)[-1]
    if what == "services":
        items = [{"id": e["id"], "type": e["type"], "name": e["name"], "enabled": True} for e in entries]
    elif what == "endpoints":
        items = [{**p, "service_id": e["id"], "enabled": True} for e in entries for p in e["endpoints"]]
    else:
        items = [{"id": call.settings.region, "description": "", "parent_region_id": None}]
    return Answer(body={what: items, "links": {"next": None, "previous": None, "self": call.url}})


# Assignments ----------------------------------------------------------------------------------------------------------


def _assignment(call: Call) -> Row:
    _admin(call, "identity:grant")
    kind = {"projects": "project", "domains": "domain", "system": "system"}[call.path["targets"]]
    target = call.path.get("target", "all")
    _found(call.tx.get(t.users, call.path["user"]), "user", call.path["user"])
    if kind != "system":
        _found(call.tx.get(t.projects if kind == "project" else t.domains, target), kind, target)
    values = {"user_id": call.path["user"], "target_kind": kind, "target_id": target}
    if "role" in call.path:
        values["role_id"] = _found(call.tx.get(t.roles, call.path["role"]), "role", call.path["role"])["id"]
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
    return _listing(call, "roles", call.tx.all(sa.select(t.roles).where(t.roles.c.id.in_(ids))))


def _role_assignments(call: Call) -> Answer:
    query = dict(call.query)
    if query.get("user.id") != call.caller.user_id:
        _admin(call, "identity:list_role_assignments")
    columns = {
        "user.id": "user_id",
        "role.id": "role_id",
        "scope.project.id": "target_id",
        "scope.domain.id": "target_id",
    }
    chosen = sa.select(t.assignments).where(
        *(t.assignments.c[column] == query[name] for name, column in columns.items() if name in query)
    )
    named = "include_names" in query

    def scope(row: Row) -> Row:
        return {"all": True} if row["target_kind"] == "system" else named_ref(row["target_kind"], row["target_id"])

    def named_ref(kind: str, row_id: str) -> Row:
        ref: Row = {"id": row_id}
        if named:
            found = call.tx.get(KINDS[f"{kind}s"][0], row_id) or {}
            ref["name"] = found.get("name", "")
            if "domain_id" in found:
                ref["domain"] = tokens.domain(call.tx, found["domain_id"])
        return ref

    rows = [
        {
            "role": named_ref("role", row["role_id"]),
            "user": named_ref("user", row["user_id"]),
            "scope": {row["target_kind"]: scope(row)},
            "links": {},
        }
        for row in call.tx.all(chosen)
    ]
    return Answer(body={"role_assignments": rows, "links": {"next": None, "previous": None, "self": call.url}})


# Application credentials ----------------------------------------------------------------------------------------------


def _own(call: Call) -> str:
    user_id = call.path["user"]
    if user_id != call.caller.user_id and not (call.method == "GET" and call.caller.admin):
        raise ApiError(403, FORBIDDEN.format("identity:application_credential"))
    if call.method != "GET" and call.caller.restricted:
        raise ApiError(403, FORBIDDEN.format("identity:manage_application_credential"))
    return user_id


def _credential_view(call: Call, row: Row) -> Row:
    found = call.tx.all(sa.select(t.roles).where(t.roles.c.id.in_(row["role_ids"])))
    shown = {name: row[name] for name in ("id", "name", "description", "project_id", "user_id", "unrestricted")}
    expires = row["expires_at"]
    return shown | {
        "expires_at": None if expires is None else tokens.stamp(expires),
        "system": None,
        "roles": [{"id": role["id"], "name": role["name"], "domain_id": None} for role in found],
        "links": {"self": f"{call.base_url}/identity/v3/users/{row['user_id']}/application_credentials/{row['id']}"},
    }


def _create_credential(call: Call) -> Answer:
    user_id = _own(call)
    asked, values = _values(call, "application_credential", ("name", "description"))
    if not values.get("name") or call.caller.project_id is None:
        raise ApiError(400, "An application credential needs a name and a token scoped to a project")
    mine = call.tx.all(sa.select(t.roles).where(t.roles.c.name.in_(call.caller.roles)))
    wanted = asked.get("roles") or mine
    chosen = [role for role in mine if any(role["id"] == w.get("id") or role["name"] == w.get("name") for w in wanted)]
    if len(chosen) < len(wanted):
        raise ApiError(400, "Invalid application credential: Could not find role assignment with the roles asked for.")
    creds = t.application_credentials
    if call.tx.value(sa.select(creds.c.id).where(creds.c.user_id == user_id, creds.c.name == values["name"])):
        raise _duplicate("application_credential", values["name"])
    secret = str(asked.get("secret") or secrets.token_urlsafe(48))
    expires = asked.get("expires_at")
    try:
        until = None if not expires else datetime.fromisoformat(str(expires).rstrip("Z")).replace(tzinfo=None)
    except ValueError as error:
        raise ApiError(400, f"Invalid input for field 'expires_at': {expires!r}") from error
    row = {
        "id": uuid.uuid4().hex, "user_id": user_id, "project_id": call.caller.project_id, "name": values["name"],
        "description": values.get("description") or "", "secret_hash": passwords.hash_secret(secret),
        "unrestricted": bool(asked.get("unrestricted")), "role_ids": [role["id"] for role in chosen],
        "expires_at": until, "created_at": now(), "updated_at": None,
    }  # fmt: skip
    call.tx.insert(creds, row)
    return Answer(201, {"application_credential": _credential_view(call, row) | {"secret": secret}})


def _list_credentials(call: Call) -> Answer:
    creds = t.application_credentials
    query = sa.select(creds).where(creds.c.user_id == _own(call)).order_by(creds.c.name)
    name = dict(call.query).get("name")
    rows = call.tx.all(query if name is None else query.where(creds.c.name == name))
    links = {"next": None, "previous": None, "self": call.url}
    return Answer(body={"application_credentials": [_credential_view(call, row) for row in rows], "links": links})


def _one_credential(call: Call) -> Answer:
    row = call.tx.get(t.application_credentials, call.path["id"])
    if row is None or row["user_id"] != _own(call):
        raise ApiError(404, f"Could not find Application Credential: {call.path['id']}.")
    if call.method == "DELETE":
        call.tx.delete(t.application_credentials, row["id"])
        return Answer(204)
    return Answer(body={"application_credential": _credential_view(call, row)})


def _versions(call: Call) -> Answer:
    return Answer(300, {"versions": {"values": [version(call.base_url)]}})


def _version(call: Call) -> Answer:
    return Answer(body={"version": version(call.base_url)})


_GRANT = "/v3/{targets:str}/{target}/users/{user}/roles"
_SYSTEM = "/v3/{targets}/users/{user}/roles"
_CREDENTIALS = "/v3/users/{user}/application_credentials"

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
    Endpoint("GET", "/v3/services", _services),
    Endpoint("GET", "/v3/endpoints", _services),
    Endpoint("GET", "/v3/regions", _services),
    Endpoint("GET", "/v3/role_assignments", _role_assignments),
    Endpoint("GET", "/v3/users/{user_id}/projects", _my_projects),
    Endpoint("GET", _CREDENTIALS, _list_credentials),
    Endpoint("POST", _CREDENTIALS, _create_credential, write=True),
    Endpoint("GET", _CREDENTIALS + "/{id}", _one_credential),
    Endpoint("DELETE", _CREDENTIALS + "/{id}", _one_credential, write=True),
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
    Endpoint("GET", "/v3/{collection}", _list),
    Endpoint("POST", "/v3/{collection}", _create, write=True),
    Endpoint("GET", "/v3/{collection}/{id}", _show),
    Endpoint("PATCH", "/v3/{collection}/{id}", _update, write=True),
    Endpoint("DELETE", "/v3/{collection}/{id}", _delete, write=True),
]
