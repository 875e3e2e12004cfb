"""Who may see and read what the key manager holds: its project, and whom its access list names (Barbican v1 ACLs).

Outsiders get the same 404 for what exists and what does not. Not even an admin of another project reads a payload.
"""

from http import HTTPStatus
from typing import Any

import sqlalchemy as sa

from vrata.cloud.fields import UUID
from vrata.cloud.http import Answer, ApiError, Call, Dialect, now
from vrata.cloud.store import Row


def _body(error: ApiError) -> object:
    return {"code": error.status, "title": HTTPStatus(error.status).phrase, "description": error.message}


DIALECT = Dialect("key-manager", _body, "Not a valid JSON object.")
USERS_MAX, USER_MAX = 255, 64  # of an access list; characters of an id
_WORDS = {
    "secrets": "Secret not found.",
    "secret_containers": "Container not found.",
}


def missing(table: sa.Table) -> ApiError:
    """404, the same for what was never there and for what is another's."""
    return ApiError(404, _WORDS[table.name])


def project(call: Call, *, write: bool) -> str:
    """The caller's project; 403 unless its role allows that much."""
    caller = call.caller
    if caller.project_id is None or not (caller.may_write() if write else caller.may_read()):
        raise ApiError(403, "Action not allowed - please review your user/project privileges.")
    return caller.project_id


def operator(call: Call) -> None:
    """403 for all but administrators."""
    if not call.caller.admin:
        raise ApiError(403, "Action not allowed - please review your user/project privileges.")


def find(call: Call, table: sa.Table, *, write: bool) -> Row:
    """The row of the path: its project's members change it, readers and those on its list see it."""
    own = project(call, write=write)
    row = call.tx.get(table, call.path["id"]) if UUID.match(call.path["id"]) else None
    if row is None or row["deleted"] or (row.get("expires_at") is not None and row["expires_at"] <= now()):
        raise missing(table)
    listed = is_listed(call, row)
    if row["project_id"] != own and (write or not listed):
        raise missing(table)
    if _private(row) and row["creator_id"] != call.caller.user_id and not listed:
        raise missing(table)
    return row


def may_decrypt(call: Call, row: Row) -> None:
    """403 for those who may see a secret but not read it: readers of the project."""
    if not is_listed(call, row) and not call.caller.may_write():
        raise ApiError(403, "Secret payload retrieval attempt not allowed - please review your user/project privileges")


def _users(row: Row) -> list[str]:
    return list((row["acl"] or {}).get("users", ()))


def is_listed(call: Call, row: Row) -> bool:
    """Whether the access list of the row names the caller."""
    return call.caller.user_id in _users(row)


def _are_users(given: Any) -> bool:
    fits = isinstance(given, list) and len(given) <= USERS_MAX
    return fits and all(isinstance(one, str) and len(one) <= USER_MAX for one in given)


def _private(row: Row) -> bool:
    return not (row["acl"] or {}).get("project-access", True)


def show_acl(table: sa.Table) -> Any:
    """GET …/acl: the default lets the project read."""

    def serve(call: Call) -> Answer:
        row = find(call, table, write=False)
        acl = row["acl"]
        read = {"project-access": True} if acl is None else {"users": [], "project-access": True, **acl}
        return Answer(body={"read": read})

    return serve


def set_acl(table: sa.Table, collection: str) -> Any:
    """PUT replaces, PATCH changes what is given."""

    def serve(call: Call) -> Answer:
        row = find(call, table, write=True)
        given = call.body.get("read") if isinstance(call.body, dict) else None
        if not isinstance(given, dict) or not given.keys() <= {"users", "project-access"} or len(call.body) != 1:
            raise ApiError(400, "Provided object does not match schema 'ACL': use {\"read\": {\"users\": [...], "
                                "\"project-access\": true|false}}.")  # fmt: skip
        users, access = given.get("users"), given.get("project-access")
        if users is not None and not _are_users(users):
            raise ApiError(400, f"Provided object does not match schema 'ACL': users is a list of at most {USERS_MAX} user "
                                "ids. Invalid property: 'read.users'")  # fmt: skip
        if access is not None and not isinstance(access, bool):
            raise ApiError(400, "Provided object does not match schema 'ACL': project-access is true or false. "
                                "Invalid property: 'read.project-access'")  # fmt: skip
        acl: Row = dict(row["acl"] or {}) if call.method == "PATCH" else {}
        times = {"created": (row["acl"] or {}).get("created", now().isoformat()), "updated": now().isoformat()}
        acl |= {name: value for name, value in given.items() if value is not None} | times
        call.tx.update(table, row["id"], {"acl": acl})
        return Answer(body={"acl_ref": f"{call.base_url}/key-manager/v1/{collection}/{row['id']}/acl"})

    return serve


def drop_acl(table: sa.Table) -> Any:
    """DELETE …/acl: back to the default."""

    def serve(call: Call) -> Answer:
        row = find(call, table, write=True)
        call.tx.execute(sa.update(table).where(table.c.id == row["id"]).values(acl=None))
        return Answer()

    return serve
