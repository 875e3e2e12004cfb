"""Containers (Barbican v1): secrets under agreed names; `certificate` is what a TLS listener refers to. Consumers."""

from typing import Any

import sqlalchemy as sa

from vrata.base import ids
from vrata.cloud.fields import UUID, Field
from vrata.cloud.http import Answer, ApiError, Call, now
from vrata.cloud.keymanager import access, lists, secrets, uses
from vrata.cloud.keymanager import tables as t
from vrata.cloud.store import Row

# type -> names that must be there, names that may
NAMES: dict[str, tuple[frozenset[str], frozenset[str]]] = {
    "certificate": (
        frozenset({"certificate"}),
        frozenset({"private_key", "private_key_passphrase", "intermediates"}),
    ),
    "rsa": (frozenset({"public_key", "private_key"}), frozenset({"private_key_passphrase"})),
}
PARTS_MAX = 64
FIELDS = {
    "name": Field(default=""),
    "type": Field(required=True, choices=("generic", "certificate", "rsa")),
    "secret_refs": Field("list", default=()),
}


def reference(call: Call, container_id: str) -> str:
    """The address by which everybody names a container."""
    return f"{call.base_url}/key-manager/v1/containers/{container_id}"


def create(call: Call) -> Answer:
    """POST containers; every secret named must be one that the caller sees."""
    own = access.project(call, write=True)
    values = secrets.checked(call.body, FIELDS, "Container")
    parts = _parts(call, values)
    row = {
        "id": ids.new_uuid(), "project_id": own, "creator_id": call.caller.user_id, "name": values["name"],
        "type": values["type"], "secrets": parts, "acl": None, "deleted": False, "created_at": now(),
        "updated_at": now(),
    }  # fmt: skip
    call.tx.insert(t.containers, row)
    ref = reference(call, row["id"])
    return Answer(201, {"container_ref": ref}, {"location": ref})


def _parts(call: Call, values: Row) -> dict[str, str]:
    given = values["secret_refs"]
    parts: dict[str, str] = {}
    if len(given) > PARTS_MAX:
        raise _broken(f"at most {PARTS_MAX} secrets", "secret_refs")
    for one in given:
        name, ref = (one.get("name"), one.get("secret_ref")) if isinstance(one, dict) else (None, None)
        if not isinstance(ref, str) or not (name is None or isinstance(name, str)):
            raise _broken('each secret is {"name": …, "secret_ref": …}', "secret_refs")
        if (name or "") in parts:
            raise _broken("Duplicate reference names are not allowed", "secret_refs")
        parts[name or ""] = secret_id(call, ref)
    needed, optional = NAMES.get(values["type"], (frozenset(), frozenset(parts)))
    if not needed <= parts.keys() or not parts.keys() <= needed | optional:
        allowed = ", ".join(sorted(needed | optional))
        raise _broken(f"a {values['type']} container takes {allowed}; {', '.join(sorted(needed))} must be there",
                      "secret_refs")  # fmt: skip
    return parts


def secret_id(call: Call, ref: str) -> str:
    """The secret that a reference names; 400 for what is none, 404 for one that the caller does not see."""
    found = uses.id_of(ref)
    if not UUID.match(found):
        raise _broken(f"{ref!r} is no reference to a secret", "secret_ref")
    before = dict(call.path)
    call.path["id"] = found
    try:
        access.find(call, t.secrets, write=False)
    finally:
        call.path.clear()
        call.path.update(before)
    return found


def _broken(why: str, name: str) -> ApiError:
    return ApiError(400, f"Provided object does not match schema 'Container': {why}. Invalid property: '{name}'")


def view(call: Call, row: Row) -> Row:
    """A container, as the API shows it."""
    users = call.tx.all(sa.select(t.consumers).where(t.consumers.c.container_id == row["id"]))
    return {
        "container_ref": reference(call, row["id"]), "name": row["name"] or None, "type": row["type"],
        "status": "ACTIVE", "creator_id": row["creator_id"], "created": row["created_at"],
        "updated": row["updated_at"],
        "secret_refs": [
            {"name": name, "secret_ref": secrets.reference(call, one)} for name, one in row["secrets"].items()
        ],
        "consumers": [{"name": one["name"], "URL": one["url"]} for one in users],
    }  # fmt: skip


def show(call: Call) -> Answer:
    """GET containers/ID."""
    return Answer(body=view(call, access.find(call, t.containers, write=False)))


def index(call: Call) -> Answer:
    """GET containers."""
    own = access.project(call, write=False)
    query = sa.select(t.containers).where(t.containers.c.project_id == own, ~t.containers.c.deleted)
    for name, value in lists.asked(call, "name", "type").items():
        query = query.where(t.containers.c[name] == value)
    rows = call.tx.all(query.order_by(t.containers.c.created_at, t.containers.c.id))
    return lists.page(call, rows, "containers", view)


def remove(call: Call) -> Answer:
    """DELETE containers/ID; its secrets stay."""
    row = access.find(call, t.containers, write=True)
    call.tx.update(t.containers, row["id"], {"deleted": True, "updated_at": now()})
    uses.purge(call.tx)
    return Answer(204)


CONSUMER = {"name": Field(required=True), "URL": Field(required=True, length=500)}


def _consumer(call: Call) -> tuple[Row, sa.ColumnElement[bool]]:
    values: Any = secrets.checked(call.body, CONSUMER, "Consumer")
    c = t.consumers.c
    return values, (c.container_id == call.path["id"]) & (c.name == values["name"]) & (c.url == values["URL"])


def add_consumer(call: Call) -> Answer:
    """POST containers/ID/consumers: registering twice is the same as once."""
    row = access.find(call, t.containers, write=True)
    values, same = _consumer(call)
    if call.tx.value(sa.select(t.consumers.c.id).where(same)) is None:
        call.tx.insert(
            t.consumers,
            {"id": ids.new_uuid(), "container_id": row["id"], "name": values["name"], "url": values["URL"],
             "created_at": now(), "updated_at": now()},
        )  # fmt: skip
    return Answer(200, view(call, row), {"location": f"{reference(call, row['id'])}/consumers"})


def drop_consumer(call: Call) -> Answer:
    """DELETE containers/ID/consumers, the consumer in the body."""
    row = access.find(call, t.containers, write=True)
    _, same = _consumer(call)
    if not call.tx.execute(sa.delete(t.consumers).where(same)):
        raise ApiError(404, "Consumer not found.")
    return Answer(200, view(call, row))


def list_consumers(call: Call) -> Answer:
    """GET containers/ID/consumers."""
    lists.asked(call)
    row = access.find(call, t.containers, write=False)
    rows = call.tx.all(
        sa.select(t.consumers).where(t.consumers.c.container_id == row["id"]).order_by(t.consumers.c.created_at)
    )
    return lists.page(call, rows, "consumers", lambda _call, one: _shown(one))


def _shown(one: Row) -> Row:
    times = {"created": one["created_at"], "updated": one["updated_at"]}
    return {"name": one["name"], "URL": one["url"], "status": "ACTIVE", **times}


def show_consumer(call: Call) -> Answer:
    """GET containers/ID/consumers/ID."""
    row, one = access.find(call, t.containers, write=False), call.tx.get(t.consumers, call.path["consumer"])
    if one is None or one["container_id"] != row["id"]:
        raise ApiError(404, "Consumer not found.")
    return Answer(body=_shown(one))
