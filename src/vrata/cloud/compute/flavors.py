"""Sizes of servers: list, show; an administrator makes and deletes them (Nova v2.1, «Flavors»)."""

from typing import Any

import sqlalchemy as sa

from vrata.base import ids
from vrata.cloud.compute import queries
from vrata.cloud.compute import tables as t
from vrata.cloud.compute.access import PAGE, answer, links, microversion, next_link, operator, project
from vrata.cloud.fields import Field, Problem, parse
from vrata.cloud.http import Answer, ApiError, Call, now
from vrata.cloud.store import Row

FIELDS = {
    "name": Field(required=True, nullable=False),
    "vcpus": Field("int", required=True, nullable=False, least=1, most=2**31 - 1),
    "ram": Field("int", required=True, nullable=False, least=1, most=2**31 - 1),
    "disk": Field("int", default=0, nullable=False, least=0, most=2**31 - 1),
    "id": Field(default=None),
}


def view(call: Call, row: Row) -> dict[str, Any]:
    """What a flavor shows."""
    shown = {name: row[name] for name in ("id", "name", "vcpus", "ram", "disk")}
    shown |= {"swap": 0 if microversion(call) >= (2, 75) else "", "OS-FLV-EXT-DATA:ephemeral": 0}
    shown |= {"rxtx_factor": 1.0, "os-flavor-access:is_public": True, "OS-FLV-DISABLED:disabled": False}
    return shown | {"links": links(call, f"flavors/{row['id']}")}


def embedded(row: Row) -> dict[str, Any]:
    """What a server keeps of its flavor, from 2.47 on."""
    return {"original_name": row["name"], "extra_specs": {}, "swap": 0, "ephemeral": 0} | {
        name: row[name] for name in ("vcpus", "ram", "disk")
    }


def index(call: Call) -> Answer:
    """Ids and names."""
    rows, more = _page(call)
    shown = [{"id": row["id"], "name": row["name"], "links": links(call, f"flavors/{row['id']}")} for row in rows]
    return answer(call, {"flavors": shown, **more})


def detail(call: Call) -> Answer:
    """All of each."""
    rows, more = _page(call)
    return answer(call, {"flavors": [view(call, row) for row in rows], **more})


def _page(call: Call) -> tuple[list[Row], dict[str, Any]]:
    project(call)
    rows = queries.flavors(call.tx.all(sa.select(t.flavors).order_by(t.flavors.c.id)), call.query)
    shown, more = queries.cut(rows, call.query, PAGE)
    return shown, {"flavors_links": [next_link(call, shown)]} if shown and more else {}


def find(call: Call, flavor_id: str) -> Row:
    """404 if there is none."""
    row = call.tx.get(t.flavors, flavor_id)
    if row is None:
        raise ApiError(404, f"Flavor {flavor_id} could not be found.")
    return row


def show(call: Call) -> Answer:
    """One."""
    project(call)
    return answer(call, {"flavor": view(call, find(call, call.path["id"]))})


def extra_specs(call: Call) -> Answer:
    """None: nothing is scheduled by them."""
    project(call)
    find(call, call.path["id"])
    return answer(call, {"extra_specs": {}})


def create(call: Call) -> Answer:
    """409 for a name or id that is taken."""
    operator(call)
    given = call.body.get("flavor") if isinstance(call.body, dict) else None
    if isinstance(given, dict) and given.get("os-flavor-access:is_public") not in {None, True}:
        raise ApiError(
            400, "Invalid input for field/attribute os-flavor-access:is_public. Every flavor is public here."
        )
    values = checked(
        call, "flavor", FIELDS, "os-flavor-access:is_public", "rxtx_factor", "swap", "OS-FLV-EXT-DATA:ephemeral"
    )
    row = {**values, "id": values["id"] or ids.new_uuid(), "created_at": now()}
    taken = sa.or_(t.flavors.c.id == row["id"], t.flavors.c.name == row["name"])
    if call.tx.one(sa.select(t.flavors).where(taken)):
        raise ApiError(409, f"Flavor with name {row['name']} already exists.")
    call.tx.insert(t.flavors, row)
    return answer(call, {"flavor": view(call, row)})


def delete(call: Call) -> Answer:
    """Servers keep what they know of it."""
    operator(call)
    call.tx.delete(t.flavors, find(call, call.path["id"])["id"])
    return answer(call, None, 202)


def checked(call: Call, name: str, fields: dict[str, Field], *ignored: str) -> Row:
    """The body's values; 400 with the reason. `ignored` attributes mean nothing here."""
    body = call.body.get(name) if isinstance(call.body, dict) else None
    if not isinstance(body, dict):
        raise ApiError(400, f"Invalid input: '{name}' is a required property")
    try:
        return parse({key: value for key, value in body.items() if key not in ignored}, fields)
    except Problem as problem:
        raise ApiError(400, f"Invalid input for field/attribute {problem}. Value: {problem.value!r}.") from problem
