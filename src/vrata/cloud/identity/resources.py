"""What all of identity's resources share: how a row looks, what a body may say, how a refusal is worded (Keystone v3)."""

import sqlalchemy as sa

from vrata.cloud.http import Answer, ApiError, Call
from vrata.cloud.identity import tables as t
from vrata.cloud.identity.bootstrap import ROLES
from vrata.cloud.identity.passwords import SECRET_MAX
from vrata.cloud.store import Row

FORBIDDEN = "You are not authorized to perform the requested action: {}."
# collection -> (table, singular, attributes a caller may set, admin alone may list)
LENGTHS = {"description": 1024, "domain_id": 64, "parent_id": 64, "default_project_id": 64}
KINDS: dict[str, tuple[sa.Table, str, tuple[str, ...]]] = {
    "domains": (t.domains, "domain", ("name", "description", "enabled")),
    "projects": (t.projects, "project", ("name", "description", "enabled", "domain_id", "parent_id", "tags")),
    "users": (t.users, "user", ("name", "description", "enabled", "domain_id", "email", "default_project_id")),
    "roles": (t.roles, "role", ("name", "description")),
}


def admin(call: Call, action: str) -> None:
    """403 unless the caller is an administrator."""
    if not call.caller.admin:
        raise ApiError(403, FORBIDDEN.format(action))


def found(row: Row | None, kind: str, row_id: str) -> Row:
    """The row; 404 if there is none."""
    if row is None:
        raise ApiError(404, f"Could not find {kind}: {row_id}.")
    return row


def view(collection: str, row: Row, base: str) -> Row:
    """A row as Keystone shows it."""
    shown = {name: value for name, value in row.items() if name != "password_hash"}
    shown["links"] = {"self": f"{base}/identity/v3/{collection}/{row['id']}"}
    if collection == "projects":
        shown |= {"is_domain": False, "options": {}, "tags": row["tags"] or []}
    if collection == "users":
        shown |= {"password_expires_at": None, "options": {}}
    if collection == "roles":
        shown |= {"domain_id": None, "options": {"immutable": True} if row["name"] in ROLES else {}}
    return shown


def listing(call: Call, collection: str, rows: list[Row]) -> Answer:
    """A collection as Keystone shows it."""
    return Answer(
        body={
            collection: [view(collection, row, call.base_url) for row in rows],
            "links": {"next": None, "previous": None, "self": call.url},
        }
    )


def kind_of(call: Call) -> tuple[sa.Table, str, tuple[str, ...]]:
    """The kind that the path names; 404 for any other word."""
    if call.path["collection"] not in KINDS:
        raise ApiError(404, "The resource could not be found.")
    return KINDS[call.path["collection"]]


def values_of(call: Call, kind: str, names: tuple[str, ...]) -> tuple[Row, Row]:
    """What the body says, and what of it a caller may set; 400 for a wrong type."""
    asked = call.body.get(kind) if isinstance(call.body, dict) else None
    if not isinstance(asked, dict):
        raise ApiError(400, f"'{kind}' is a required property")
    for name, value in asked.items():
        if name in names and value is not None:
            _check(name, value)
    password = asked.get("password", asked.get("secret"))
    if password is not None and (not isinstance(password, str) or len(password) > SECRET_MAX):
        raise ApiError(400, f"Invalid input for field 'password': a string of at most {SECRET_MAX} characters")
    return asked, {name: asked[name] for name in names if name in asked}


def _check(name: str, value: object) -> None:
    wanted: type = {"enabled": bool, "tags": list}.get(name, str)
    if not isinstance(value, wanted):
        raise ApiError(400, f"Invalid input for field '{name}': {value!r} is not of type '{wanted.__name__}'")
    for text in value if isinstance(value, list) else (value,):
        if isinstance(value, bool):
            continue
        most = LENGTHS.get(name, 255)
        if not isinstance(text, str) or len(text) > most or "\0" in text:
            raise ApiError(400, f"Invalid input for field '{name}': {text!r} is no string of at most {most} characters")


def duplicate(kind: str, name: str) -> ApiError:
    """409 as Keystone words it."""
    return ApiError(409, f"Conflict occurred attempting to store {kind} - Duplicate entry found with name {name}.")
