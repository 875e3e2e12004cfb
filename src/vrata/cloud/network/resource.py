"""The frame of a Neutron resource: list, show, create, update, delete with Neutron's bodies, codes and isolation.

A resource declares its fields and hooks; this module reads bodies (single and bulk), keeps projects apart, and words
refusals. A row that the caller may not see is «not found», never «forbidden».
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from vrata.base import ids
from vrata.cloud import listing
from vrata.cloud.fields import UNSET, Field, Problem, parse
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

_IN_DATABASE = frozenset({"id", "name", "network_id", "device_id", "port_id", "project_id"})

_REVISION, _ETAG = "revision_number=", re.compile(r'"([^"]*)"')

TAGS_MAX = 50  # of a resource, as in Neutron
TAG_MAX = 255  # characters
BULK_MAX = 50  # resources in one request

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
    tagged: bool = True
    shown: frozenset[str] = frozenset()  # names that neither a field nor a column has
    hidden: frozenset[str] = frozenset()  # columns that nobody sees

    def known(self) -> list[str]:
        """Names a filter or sort may use: what is shown, under the name under which it is shown."""
        wire = {column: name for name, column in self.columns.items()}
        columns = (
            wire.get(column.name, column.name) for column in self.table.columns if column.name not in self.hidden
        )
        return [*dict.fromkeys((*self.fields, *columns, *self.shown))]


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
    if change:
        call.tx.locking(resource.table, row_id)
    row = call.tx.one(query.with_for_update(of=resource.table, key_share=True) if change else query)
    if row is None:
        raise missing(resource.kind, row_id)
    if change and not call.caller.admin and row["project_id"] != call.caller.project_id:
        raise ApiError(403, f"({row_id}) is disallowed by policy.", "PolicyNotAuthorized")
    if change and row_id == call.path.get("id"):
        _check_revision(call, row)
    return row


def named(call: Call, resource: Resource, row_id: str) -> Row:
    """The row that another resource names, as it was when the transaction first looked: it may make many."""
    key = "named", resource.table.name, row_id
    if key not in call.tx.memo:
        call.tx.memo[key] = find(call, resource, row_id)
    found: Row = call.tx.memo[key]
    return found


def _check_revision(call: Call, row: Row) -> None:
    """412 unless the row is as the client last saw it, if it said which revision that was (RFC 9110, 13.1.1)."""
    given = call.headers.get("if-match", "")
    tags = [tag.removeprefix(_REVISION) for tag in _ETAG.findall(given) or [given] if tag.startswith(_REVISION)]
    if not tags:
        return
    if len(tags) > 1:
        raise ApiError(400, "Bad if-match request: Multiple revision_number etags are not supported.", "BadRequest")
    if not (tags[0].isascii() and tags[0].isdigit() and len(tags[0]) < 12):
        raise ApiError(
            400,
            "Bad if-match request: Revision number etag must be in the format of revision_number=<int>.",
            "BadRequest",
        )
    if int(tags[0]) != row["revision_number"]:
        raise ApiError(
            412, f"Constrained to {int(tags[0])}, but current revision is {row['revision_number']}",
            "RevisionNumberConstraintFailed",
        )  # fmt: skip


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
    return {resource.columns.get(name, name): _stored(resource.fields[name], value) for name, value in values.items()}


def _stored(field: Field, value: Any) -> Any:
    """null sets a field back to its default."""
    return field.default if value is None and field.default is not UNSET else value


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
    path = f"/{resource.collection.replace('_', '-')}"

    def index(call: Call) -> Answer:
        authorize(call, write=False)
        query = visible(call, resource).order_by(resource.table.c.created_at, resource.table.c.id)
        for column, values in _asked(call, resource.table).items():
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
        if len(bodies) > BULK_MAX:
            raise ApiError(400, f"One request creates at most {BULK_MAX} {resource.collection}.", "HTTPBadRequest")
        wanted = [fresh(call, checked(resource, call, body)) for body in bodies]
        for project_id, count in sorted(Counter(row["project_id"] for row in wanted).items()):
            quotas.take(call, resource.singular, project_id, count)
        rows = [resource.create(call, row) for row in wanted]
        made = _shown(call, resource, [row["id"] for row in rows])
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


def _shown(call: Call, resource: Resource, row_ids: list[str]) -> list[Row]:
    """New rows, in order, with one look at each table."""
    found = {row["id"]: row for row in call.tx.some(visible(call, resource), resource.table.c.id, row_ids)}
    return resource.view(call, [found[row_id] for row_id in row_ids])


def _asked(call: Call, table: sa.Table) -> dict[str, set[str]]:
    """The filters that the database applies: column and accepted values. An empty value is left to `listing`."""
    asked: dict[str, set[str]] = {}
    for raw, value in call.query:
        name = "project_id" if raw == "tenant_id" else raw
        if name in _IN_DATABASE and name in table.c:
            asked.setdefault(name, set()).add(value)
    return {name: values for name, values in asked.items() if "" not in values}


def store_update(call: Call, resource: Resource, row: Row, values: Row) -> None:
    """Write changed columns, the time and the revision."""
    call.tx.update(
        resource.table, row["id"], {**values, "updated_at": now(), "revision_number": row["revision_number"] + 1}
    )


def touch(call: Call, table: sa.Table, row_id: str, values: Row | None = None) -> None:
    """The same for a row whose parts changed: Neutron counts those as changes of the whole."""
    raised = {"updated_at": now(), "revision_number": table.c.revision_number + 1}
    call.tx.update(table, row_id, {**(values or {}), **raised})


def _checked_tags(given: Iterable[str]) -> list[str]:
    """Each once, sorted; 400 for too many, or one that is no tag."""
    tags = sorted(set(given))
    if len(tags) > TAGS_MAX:
        raise invalid(f"'{len(tags)}' tags: the maximum is {TAGS_MAX}")
    for tag in tags:
        if not 0 < len(tag) <= TAG_MAX or "\0" in tag:
            raise invalid(f"a tag has 1 to {TAG_MAX} characters")
    return tags


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
        tags = _checked_tags(tags if call.method == "PUT" and tags else [])
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
        tags = tags | {tag} if call.method == "PUT" else tags - {tag}
        store_update(call, resource, row, {"tags": _checked_tags(tags)})
        return Answer(201 if call.method == "PUT" else 204)

    return [
        Endpoint("GET", path + "/{id}/tags", show),
        Endpoint("PUT", path + "/{id}/tags", replace, write=True),
        Endpoint("DELETE", path + "/{id}/tags", replace, write=True),
        Endpoint("GET", path + "/{id}/tags/{tag}", one),
        Endpoint("PUT", path + "/{id}/tags/{tag}", one, write=True),
        Endpoint("DELETE", path + "/{id}/tags/{tag}", one, write=True),
    ]
