"""Application credentials: a user's keys to one project with some of their roles (Keystone v3)."""

import secrets
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import sqlalchemy as sa

from vrata.cloud.http import Answer, ApiError, Call, Endpoint, now
from vrata.cloud.identity import lists, passwords
from vrata.cloud.identity import tables as t
from vrata.cloud.identity.resources import FORBIDDEN, duplicate, values_of
from vrata.cloud.store import Row


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
        "expires_at": None if expires is None else expires.strftime("%Y-%m-%dT%H:%M:%S.%f"),  # Keystone: without Z
        "system": None,
        "roles": [{"id": role["id"], "name": role["name"], "domain_id": None} for role in found],
        "links": {"self": f"{call.base_url}/identity/v3/users/{row['user_id']}/application_credentials/{row['id']}"},
    }


def _expiry(text: object) -> datetime | None:
    """Naive UTC, in the future."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(str(text))
        if moment.tzinfo is not None:
            moment = moment.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError) as error:
        raise ApiError(400, f"Invalid input for field 'expires_at': {text!r} is not a time in ISO 8601.") from error
    if moment <= now():
        raise ApiError(400, f"Invalid input for field 'expires_at': {text!r} is not in the future.")
    return moment


def _hash_secret(call: Call) -> Callable[[], tuple[str, str, datetime | None]]:
    """Before the transaction: the secret, its hash, and when it ends, which was in the future when it was asked for."""
    _own(call)
    asked, _ = values_of(call, "application_credential", ("name", "description"))
    secret, until = str(asked.get("secret") or secrets.token_urlsafe(48)), _expiry(asked.get("expires_at"))
    return lambda: (secret, passwords.hash_secret(secret, call.settings.password_cost), until)


def _create_credential(call: Call) -> Answer:
    user_id = _own(call)
    asked, values = values_of(call, "application_credential", ("name", "description"))
    if not values.get("name") or call.caller.project_id is None:
        raise ApiError(400, "An application credential needs a name and a token scoped to a project")
    mine = call.tx.all(sa.select(t.roles).where(t.roles.c.name.in_(call.caller.roles)))
    if asked.get("access_rules"):
        raise ApiError(400, "Invalid input for field 'access_rules': access rules are not supported by this cloud.")
    if not isinstance(unrestricted := asked.get("unrestricted") or False, bool):
        raise ApiError(400, f"Invalid input for field 'unrestricted': {unrestricted!r} is not true or false.")
    wanted = asked.get("roles") or mine
    if not isinstance(wanted, list) or not all(isinstance(one, dict) for one in wanted):
        raise ApiError(400, "Invalid input for field 'roles': it is a list of {id} or {name}.")
    chosen = [role for role in mine if any(role["id"] == w.get("id") or role["name"] == w.get("name") for w in wanted)]
    if len(chosen) < len(wanted):
        raise ApiError(400, "Invalid application credential: Could not find role assignment with the roles asked for.")
    creds = t.application_credentials
    if call.tx.value(sa.select(creds.c.id).where(creds.c.user_id == user_id, creds.c.name == values["name"])):
        raise duplicate("application_credential", values["name"])
    secret, secret_hash, until = call.prepared
    row = {
        "id": uuid.uuid4().hex, "user_id": user_id, "project_id": call.caller.project_id, "name": values["name"],
        "description": values.get("description") or "", "secret_hash": secret_hash,
        "unrestricted": unrestricted, "role_ids": [role["id"] for role in chosen],
        "expires_at": until, "created_at": now(), "updated_at": None,
    }  # fmt: skip
    call.tx.insert(creds, row)
    return Answer(201, {"application_credential": _credential_view(call, row) | {"secret": secret}})


def _list_credentials(call: Call) -> Answer:
    creds = t.application_credentials
    query = sa.select(creds).where(creds.c.user_id == _own(call)).order_by(creds.c.name)
    shown = [_credential_view(call, row) for row in call.tx.all(query)]
    names = ("id", "name", "description", "project_id", "unrestricted")
    return lists.answer(call, "application_credentials", shown, names)


def _one_credential(call: Call) -> Answer:
    user_id = _own(call)
    row = call.tx.get(t.application_credentials, call.path["id"])
    if row is None or row["user_id"] != user_id:
        raise ApiError(404, f"Could not find Application Credential: {call.path['id']}.")
    if call.method == "DELETE":
        call.tx.delete(t.application_credentials, row["id"])
        return Answer(204)
    return Answer(body={"application_credential": _credential_view(call, row)})


def _access_rules(call: Call) -> Answer:
    """There are none: a credential reaches everything its roles reach."""
    _own(call)
    return lists.answer(call, "access_rules", [], ("service", "path", "method"))


def _no_access_rule(call: Call) -> Answer:
    _own(call)
    raise ApiError(404, f"Could not find Access Rule: {call.path['id']}.")


_CREDENTIALS = "/v3/users/{user}/application_credentials"
_RULES = "/v3/users/{user}/access_rules"

ENDPOINTS = [
    Endpoint("GET", _CREDENTIALS, _list_credentials),
    Endpoint("POST", _CREDENTIALS, _create_credential, write=True, prepare=_hash_secret),
    Endpoint("GET", _CREDENTIALS + "/{id}", _one_credential),
    Endpoint("DELETE", _CREDENTIALS + "/{id}", _one_credential, write=True),
    Endpoint("GET", _RULES, _access_rules),
    Endpoint("GET", _RULES + "/{id}", _no_access_rule),
    Endpoint("DELETE", _RULES + "/{id}", _no_access_rule),
]
