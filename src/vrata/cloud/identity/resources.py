"""What all of identity's resources share: how a row looks, what a body may say, how a refusal is worded (Keystone v3)."""

from collections.abc import Collection

import msgspec
import sqlalchemy as sa

from vrata.cloud.http import Answer, ApiError, Call
from vrata.cloud.identity import lists
from vrata.cloud.identity import tables as t
from vrata.cloud.identity.bootstrap import ROLES
from vrata.cloud.identity.passwords import SECRET_MAX
from vrata.cloud.store import Row

FORBIDDEN = "You are not authorized to perform the requested action: {}."
LENGTHS = {"description": 1024, "domain_id": 64, "parent_id": 64, "default_project_id": 64}
TAGS_MAX = 80  # of a project, as in Keystone
EXTRA_MAX, EXTRA_SIZE = 100, 16_384  # attributes of one resource beyond those that are known; bytes of them as JSON
# collection -> (table, singular, attributes a caller may set)
KINDS: dict[str, tuple[sa.Table, str, tuple[str, ...]]] = {
    "domains": (t.domains, "domain", ("name", "description", "enabled")),
    "projects": (t.projects, "project", ("name", "description", "enabled", "domain_id", "parent_id", "tags")),
    "users": (t.users, "user", ("name", "description", "enabled", "domain_id", "email", "default_project_id")),
    "roles": (t.roles, "role", ("name", "description", "domain_id")),
}


# What a list may be filtered by. Keystone's own filters, and all other attributes that each of its rows shows.
FILTERS: dict[str, tuple[str, ...]] = {
    "domains": ("id", "name", "description", "enabled"),
    "projects": ("id", "name", "description", "enabled", "domain_id", "parent_id", "is_domain", "tags"),
    "users": ("id", "name", "description", "enabled", "domain_id", "email", "default_project_id",
              "password_expires_at", "idp_id", "protocol_id", "unique_id"),
    "roles": ("id", "name", "description", "domain_id"),
}  # fmt: skip
# Not kept as extra attributes: what the cloud makes itself, or keeps elsewhere.
_OWN = frozenset(
    {"id", "links", "password", "original_password", "password_expires_at", "password_hash", "options", "is_domain",
     "domain_id", "parent_id", "federated", "tags", "extra"}
)  # fmt: skip


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
    known = {name: value for name, value in row.items() if name not in {"password_hash", "extra"}}
    shown = {**(row["extra"] or {}), **known}
    shown["links"] = {"self": f"{base}/identity/v3/{collection}/{row['id']}"}
    if collection == "projects":
        shown |= {"is_domain": False, "options": {}, "tags": row["tags"] or []}
    if collection == "domains":
        shown |= {"options": {}, "tags": []}
    if collection == "users":
        shown |= {"password_expires_at": None, "options": {}}
        for name in ("email", "default_project_id"):
            if shown[name] is None:
                del shown[name]
    if collection == "roles":
        shown["options"] = {"immutable": True} if row["name"] in ROLES else {}
    return shown


def listing(call: Call, collection: str, rows: list[Row]) -> Answer:
    """A collection as Keystone shows it, of it what the query asks for."""
    return lists.answer(call, collection, [view(collection, row, call.base_url) for row in rows], FILTERS[collection])


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
    if kind == "project" and asked.get("is_domain"):
        raise ApiError(
            400, "Invalid input for field 'is_domain': no project of this cloud acts as a domain; create a domain."
        )
    return asked, {name: asked[name] for name in names if name in asked}


def extra(asked: Row, names: Collection[str], kept: Row | None = None) -> Row | None:
    """Attributes beyond `names`, which Keystone keeps as they are given, with those that are kept already."""
    given = {name: value for name, value in asked.items() if name not in names and name not in _OWN}
    merged = {**(kept or {}), **given}
    if len(merged) > EXTRA_MAX or len(msgspec.json.encode(merged)) > EXTRA_SIZE:
        raise ApiError(400, f"Invalid input: at most {EXTRA_MAX} extra attributes of {EXTRA_SIZE} bytes in all")
    return merged or None


def _check(name: str, value: object) -> None:
    wanted: type = {"enabled": bool, "tags": list}.get(name, str)
    if not isinstance(value, wanted):
        raise ApiError(400, f"Invalid input for field '{name}': {value!r} is not of type '{wanted.__name__}'")
    if isinstance(value, list) and len(value) > TAGS_MAX:
        raise ApiError(400, f"Invalid input for field '{name}': it has more than {TAGS_MAX} items")
    for text in value if isinstance(value, list) else (value,):
        if isinstance(value, bool):
            continue
        most = LENGTHS.get(name, 255)
        if not isinstance(text, str) or len(text) > most or "\0" in text:
            raise ApiError(400, f"Invalid input for field '{name}': {text!r} is no string of at most {most} characters")


def duplicate(kind: str, name: str) -> ApiError:
    """409 as Keystone words it."""
    return ApiError(409, f"Conflict occurred attempting to store {kind} - Duplicate entry found with name {name}.")
