"""The frame of a Neutron resource: list, show, create, update, delete with Neutron's bodies, codes and isolation.

A resource declares its fields and hooks; this module reads bodies (single and bulk), keeps projects apart, and words
refusals. A row that the caller may not see is «not found», never «forbidden».
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from vrata.base import ids
from vrata.cloud import listing
from vrata.cloud.fields import Field, Problem, parse
from vrata.cloud.http import Answer, ApiError, Call, Dialect, Endpoint, now
from vrata.cloud.network import quotas
from vrata.cloud.network.ports import invalid, missing
from vrata.cloud.store import Row

DIALECT = Dialect(
    "network",
    lambda error: (
        {"NeutronError": {"type": error.kind or f"HTTP{error.status}", "message": error.message, "detail": ""}}
        if error.status != 401
        else {"error": {"code": 401, "message": error.message, "title": "Unauthorized"}}
    ),
    "The server could not comply with the request since it is either malformed or otherwise incorrect.",
)

NAMED = {
    "name": Field(default=""),
    "description": Field(default="", length=1024, lines=True),
    "project_id": Field(update=False),
    "tenant_id": Field(update=False),
}


@dataclass(frozen=True)
class Resource:
    """One collection; hooks get the call and rows."""

    singular: str
    collection: str
    kind: str  # as in Neutron's error types
    table: sa.Table
    fields: dict[str, Field]
    view: Callable[[Call, list[Row]], list[Row]]
    columns: dict[str, str] = field(default_factory=dict)  # wire name -> column, where they differ
    admin_fields: frozenset[str] = frozenset()
    create: Callable[[Call, Row], Row] | None = None  # stores the row, returns it
    update: Callable[[Call, Row, Row], None] | None = None  # stores the changes
    delete: Callable[[Call, Row], None] | None = None
    seen_by_others: Callable[[sa.Table], sa.ColumnElement[bool]] | None = None
    filters: Callable[[Call, sa.Select[Any]], sa.Select[Any]] | None = None
    tagged: bool = True

    def known(self) -> list[str]:
        """Names a filter or sort may use."""
        names = dict.fromkeys(self.fields) | {column.name: None for column in self.table.columns}
        return [*names, *self.columns]


def authorize(call: Call, *, write: bool) -> None:
    """403 unless the caller has a role for it."""
    if not (call.caller.may_write() if write else call.caller.may_read()):
        raise ApiError(403, "The request is disallowed by policy.", "PolicyNotAuthorized")


def visible(call: Call, resource: Resource) -> sa.Select[Any]:
    """Rows the caller may see."""
    table = resource.table
    query = sa.select(table)
    if not call.caller.admin:
        allowed: sa.ColumnElement[bool] = table.c.project_id == call.caller.project_id
        if resource.seen_by_others is not None:
            allowed = sa.or_(allowed, resource.seen_by_others(table))
        query = query.where(allowed)
    return query


def find(call: Call, resource: Resource, row_id: str, *, change: bool = False) -> Row:
    """The row, locked when it shall change; 404 if the caller may not see it, 403 if it may only look."""
    query = visible(call, resource).where(resource.table.c.id == row_id)
    row = call.tx.one(query.with_for_update(of=resource.table) if change else query)
    if row is None:
        raise missing(resource.kind, row_id)
    if change and not call.caller.admin and row["project_id"] != call.caller.project_id:
        raise ApiError(403, f"({row_id}) is disallowed by policy.", "PolicyNotAuthorized")
    return row


def base_view(row: Row) -> Row:
    """What every resource shows."""
    out = dict(row)
    out["tenant_id"] = row["project_id"]
    out["tags"] = row["tags"] or []
    for name in ("created_at", "updated_at"):
        out[name] = None if row[name] is None else row[name].strftime("%Y-%m-%dT%H:%M:%SZ")
    return out


def fresh(call: Call, values: Row) -> Row:
    """The common columns of a new row."""
    project = values.pop("tenant_id", None) or values.get("project_id") or call.caller.project_id
    values.pop("project_id", None)
    if project is None:
        raise invalid("a project is needed: use a token scoped to one")
    if project != call.caller.project_id and not call.caller.admin:
        raise ApiError(403, "The request is disallowed by policy.", "PolicyNotAuthorized")
    return {
        "id": ids.new_uuid(), "project_id": project, "created_at": now(), "updated_at": now(), "tags": [], **values
    }  # fmt: skip


def checked(resource: Resource, call: Call, body: Any, *, updating: bool = False) -> Row:
    """The body's values under column names; 400 with Neutron's sentence."""
    if not isinstance(body, dict):
        raise ApiError(400, f"Unable to find '{resource.singular}' in request body", "HTTPBadRequest")
    try:
        values = parse(body, resource.fields, updating=updating)
    except Problem as problem:
        raise _refusal(problem, resource) from problem
    forbidden = {
        name for name in resource.admin_fields & body.keys() if updating or body[name] != resource.fields[name].default
    }
    if not call.caller.admin and forbidden:
        raise ApiError(
            403, f"(rule:{'update' if updating else 'create'}_{resource.singular}:{min(forbidden)}) is disallowed by "
            "policy", "PolicyNotAuthorized",
        )  # fmt: skip
    return {resource.columns.get(name, name): value for name, value in values.items()}


def _refusal(problem: Problem, resource: Resource) -> ApiError:
    match problem.kind:
        case "unknown":
            return ApiError(400, f"Unrecognized attribute(s) '{problem.name}'", "HTTPBadRequest")
        case "readonly":
            return ApiError(400, f"Cannot update read-only attribute {problem.name}", "HTTPBadRequest")
        case "missing":
            return ApiError(
                400, f"Failed to parse request. Required attribute '{problem.name}' not specified", "HTTPBadRequest"
            )
        case _:
            return invalid(
                f"Invalid input for {problem.name}. Reason: '{problem.value}' is not acceptable: {problem.why}."
            )


def endpoints(resource: Resource) -> list[Endpoint]:
    """The five verbs, and tags."""
    path = (
        f"/{resource.collection.replace('_', '-')}"
        if resource.collection.startswith("security")
        else f"/{resource.collection}"
    )

    def index(call: Call) -> Answer:
        authorize(call, write=False)
        query = visible(call, resource).order_by(resource.table.c.created_at, resource.table.c.id)
        for name, value in call.query:
            if name in {"id", "name", "network_id", "device_id", "port_id", "project_id", "tenant_id"}:
                column = "project_id" if name == "tenant_id" else name
                values = [v for n, v in call.query if n == name]
                if column in resource.table.c and value:
                    query = query.where(resource.table.c[column].in_(values))
        rows = resource.view(call, call.tx.all(query))
        return Answer(body=listing.page(call, rows, resource.collection, listing.NEUTRON, known=resource.known()))

    def show(call: Call) -> Answer:
        authorize(call, write=False)
        rows = resource.view(call, [find(call, resource, call.path["id"])])
        return Answer(body={resource.singular: listing.select_fields(call, rows)[0]})

    def create(call: Call) -> Answer:
        authorize(call, write=True)
        assert resource.create is not None
        if not isinstance(call.body, dict):
            raise ApiError(400, f"Unable to find '{resource.singular}' in request body", "HTTPBadRequest")
        many = call.body.get(resource.collection)
        bodies: Sequence[Any] = many if isinstance(many, list) else [call.body.get(resource.singular)]
        wanted = [fresh(call, checked(resource, call, body)) for body in bodies]
        for project_id, count in sorted(Counter(row["project_id"] for row in wanted).items()):
            quotas.take(call, resource.singular, project_id, count)
        rows = [resource.create(call, row) for row in wanted]
        made = [resource.view(call, [find(call, resource, row["id"])])[0] for row in rows]
        return Answer(201, {resource.collection: made} if isinstance(many, list) else {resource.singular: made[0]})

    def update(call: Call) -> Answer:
        authorize(call, write=True)
        row = find(call, resource, call.path["id"], change=True)
        body = call.body.get(resource.singular) if isinstance(call.body, dict) else None
        values = checked(resource, call, body, updating=True)
        if resource.update is not None:
            resource.update(call, row, values)
        else:
            store_update(call, resource, row, values)
        return Answer(body={resource.singular: resource.view(call, [find(call, resource, row["id"])])[0]})

    def delete(call: Call) -> Answer:
        authorize(call, write=True)
        row = find(call, resource, call.path["id"], change=True)
        assert resource.delete is not None
        resource.delete(call, row)
        return Answer(204)

    return [
        Endpoint("GET", path, index),
        Endpoint("POST", path, create, write=True),
        Endpoint("GET", path + "/{id}", show),
        Endpoint("PUT", path + "/{id}", update, write=True),
        Endpoint("DELETE", path + "/{id}", delete, write=True),
        *(_tag_endpoints(resource, path) if resource.tagged else []),
    ]


def store_update(call: Call, resource: Resource, row: Row, values: Row) -> None:
    """Write changed columns, the time and the revision."""
    call.tx.update(
        resource.table, row["id"], {**values, "updated_at": now(), "revision_number": row["revision_number"] + 1}
    )


def _tag_endpoints(resource: Resource, path: str) -> list[Endpoint]:
    def show(call: Call) -> Answer:
        authorize(call, write=False)
        return Answer(body={"tags": find(call, resource, call.path["id"])["tags"] or []})

    def replace(call: Call) -> Answer:
        authorize(call, write=True)
        row = find(call, resource, call.path["id"], change=True)
        tags = call.body.get("tags") if isinstance(call.body, dict) else None
        if call.method == "PUT" and (not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags)):
            raise invalid("tags must be a list of strings")
        tags = sorted(set(tags or ()))
        store_update(call, resource, row, {"tags": tags})
        return Answer(204) if call.method == "DELETE" else Answer(body={"tags": tags})

    def one(call: Call) -> Answer:
        authorize(call, write=call.method != "GET")
        row = find(call, resource, call.path["id"], change=call.method != "GET")
        tags, tag = set(row["tags"] or ()), call.path["tag"]
        if call.method != "PUT" and tag not in tags:
            raise ApiError(404, f"Tag {tag} could not be found.", "TagNotFound")
        if call.method == "GET":
            return Answer(204)
        store_update(call, resource, row, {"tags": sorted(tags | {tag} if call.method == "PUT" else tags - {tag})})
        return Answer(201 if call.method == "PUT" else 204)

    return [
        Endpoint("GET", path + "/{id}/tags", show),
        Endpoint("PUT", path + "/{id}/tags", replace, write=True),
        Endpoint("DELETE", path + "/{id}/tags", replace, write=True),
        Endpoint("GET", path + "/{id}/tags/{tag}", one),
        Endpoint("PUT", path + "/{id}/tags/{tag}", one, write=True),
        Endpoint("DELETE", path + "/{id}/tags/{tag}", one, write=True),
    ]
