"""Tags of projects (Keystone v3, «Project tags»)."""

from vrata.cloud.http import Answer, ApiError, Call, Endpoint
from vrata.cloud.identity import tables as t
from vrata.cloud.identity.resources import admin, found, values_of
from vrata.cloud.store import Row


def _project(call: Call) -> tuple[Row, list[str]]:
    if call.path["id"] != call.caller.project_id or call.method != "GET":
        admin(call, "identity:update_project_tags")
    look = call.tx.get if call.method == "GET" else call.tx.lock
    row = found(look(t.projects, call.path["id"]), "project", call.path["id"])
    return row, list(row["tags"] or ())


def _keep(call: Call, row: Row, tags: list[str]) -> None:
    """400 for too many, or one that is no tag."""
    call.body = {"project": {"tags": tags}}
    values_of(call, "project", ("tags",))
    for tag in tags:
        if not tag or "," in tag or "/" in tag:
            raise ApiError(
                400, f"Invalid input for field 'tags': {tag!r} is no tag: it has neither a comma nor a slash"
            )
    call.tx.update(t.projects, row["id"], {"tags": tags})


def _all(call: Call) -> Answer:
    """GET, PUT, DELETE projects/ID/tags."""
    row, tags = _project(call)
    if call.method == "PUT":
        given = call.body.get("tags") if isinstance(call.body, dict) else None
        if not isinstance(given, list) or len({str(tag) for tag in given}) < len(given):
            raise ApiError(400, "Invalid input for field 'tags': a list of different texts is needed")
        _keep(call, row, given)
        tags = given
    if call.method == "DELETE":
        _keep(call, row, [])
        return Answer(204)
    return Answer(body={"tags": tags, "links": {"next": None, "previous": None, "self": call.url}})


def _one(call: Call) -> Answer:
    """GET, PUT, DELETE projects/ID/tags/TAG."""
    row, tags = _project(call)
    tag = call.path["tag"]
    if call.method == "PUT":
        _keep(call, row, [*(one for one in tags if one != tag), tag])
        return Answer(201, headers={"location": call.url})
    if tag not in tags:
        raise ApiError(404, f"Could not find project tag: {tag}.")
    if call.method == "DELETE":
        _keep(call, row, [one for one in tags if one != tag])
    return Answer(204)


_TAGS = "/v3/projects/{id}/tags"
ENDPOINTS = [
    *(Endpoint(method, _TAGS, _all, write=method != "GET") for method in ("GET", "PUT", "DELETE")),
    *(Endpoint(method, _TAGS + "/{tag}", _one, write=method != "GET") for method in ("GET", "PUT", "DELETE")),
]
