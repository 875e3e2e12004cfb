"""POST /v3/auth/tokens: who is it, may they have that scope (Keystone v3, «Password / token / application credential»).

Three steps, so that no lock is held while a password is hashed: read the candidate, check the secret, write the token.
Failures are delayed, limited and written down (`attempts.py`).
"""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa
from starlette.requests import Request
from starlette.responses import Response

from vrata.base import clock
from vrata.base.asgi import address_of
from vrata.cloud.audit import Trace
from vrata.cloud.http import Answer, ApiError, Frame, base_url, decode, now, read_body, read_query, serve
from vrata.cloud.identity import passwords, tokens
from vrata.cloud.identity import tables as t
from vrata.cloud.identity.attempts import Attempts
from vrata.cloud.identity.catalog import catalog
from vrata.cloud.identity.dialect import DIALECT
from vrata.cloud.store import Row, Tx

UNSCOPED = "unscoped"
NOBODY = "(no such user)"  # what the audit log says of a name that is not known


@dataclass(frozen=True)
class Candidate:
    """Who the caller says to be; `stored` None: nobody, or nothing to check (`proved`)."""

    user_id: str | None
    method: str
    secret: str = ""
    stored: str | None = None
    proved: bool = False
    claimed: str = ""  # by which name or id
    credential: Row | None = None
    earlier: Row | None = None  # the token this one comes from


class Login:
    """What takes a password without a token: POST /v3/auth/tokens, and a user's change of their own password."""

    def __init__(self, frame: Frame) -> None:
        self._frame = frame
        self._attempts = Attempts()

    async def issue(self, request: Request) -> Response:
        """POST /v3/auth/tokens."""

        async def work(trace: Trace) -> Answer:
            read_query(request)
            body = decode(await read_body(request), DIALECT)
            base = base_url(request, self._frame.settings)
            return await self._issue(body, trace, base=base, nocatalog="nocatalog" in request.query_params)

        return await serve(request, DIALECT, self._frame, work)

    async def change_password(self, request: Request) -> Response:
        """POST /v3/users/{id}/password: the old password is the proof, no token is needed (Keystone v3, «Users»)."""

        async def work(trace: Trace) -> Answer:
            read_query(request)
            user_id = request.path_params["id"]
            old, new = _passwords(decode(await read_body(request), DIALECT))
            user = await self._frame.store.read(lambda tx: tx.get(t.users, user_id))
            stored = None if user is None or not user["enabled"] else user["password_hash"]
            cost = self._frame.settings.password_cost
            await self._prove(trace, user_id, lambda: passwords.verify(old, stored, cost))
            if new == old:
                raise ApiError(
                    400, "Password validation error: The new password cannot be identical to a previous one."
                )
            trace.user_id = user_id
            fresh = await self._frame.hashing.run(address_of(trace.client), lambda: passwords.hash_secret(new, cost))

            def change(tx: Tx) -> Answer:
                row = tx.lock(t.users, user_id)
                if row is None or not row["enabled"] or row["password_hash"] != stored:
                    raise ApiError(401, tokens.UNAUTHORIZED)  # changed while this was looked at
                tx.update(t.users, user_id, {"password_hash": fresh})
                tokens.revoke(tx, "user", user_id)
                return Answer(204)

            return await self._frame.store.write(change)

        return await serve(request, DIALECT, self._frame, work)

    async def _issue(self, body: Any, trace: Trace, *, base: str, nocatalog: bool) -> Answer:
        auth = body.get("auth") if isinstance(body, dict) else None
        if not isinstance(auth, dict) or not isinstance(auth.get("identity"), dict):
            raise ApiError(400, "'auth' is a required property")
        store, settings = self._frame.store, self._frame.settings
        candidate = await store.read(lambda tx: _candidate(tx, auth["identity"], now()))
        if not candidate.proved:
            user_id, secret, stored = candidate.user_id, candidate.secret, candidate.stored
            # A name that nobody has may be a password in the wrong field.
            trace.claimed = candidate.claimed if user_id is not None else NOBODY
            await self._prove(
                trace,
                candidate.claimed,
                lambda: passwords.verify(secret, stored, settings.password_cost) and user_id is not None,
            )
        trace.user_id = candidate.user_id or ""

        def work(tx: Tx) -> Answer:
            values = _scope(tx, candidate, auth.get("scope"))
            trace.project_id = values.get("project_id")
            tokens.alive(tx, values)
            if candidate.earlier is not None:
                values["expires_at"] = candidate.earlier["expires_at"]
            elif candidate.credential is not None and candidate.credential["expires_at"] is not None:
                most = now() + timedelta(seconds=settings.token_life_s)
                values["expires_at"] = min(most, candidate.credential["expires_at"])
            token, row = tokens.issue(tx, values, now(), settings.token_life_s)
            shown = tokens.show(tx, row, [] if nocatalog else catalog(base, settings))
            return Answer(201, {"token": shown}, {"x-subject-token": token, "vary": "X-Auth-Token"})

        return await store.write(work)

    async def _prove(self, trace: Trace, claimed: str, check: Callable[[], bool]) -> None:
        """401, late, unless `check` is true; 429 while this client must wait before it may try again."""
        address = address_of(trace.client)
        pause_s = self._attempts.pause_s(address, claimed, clock.monotonic_s())
        if pause_s > 0:
            raise ApiError(
                429, "Too many failed logins. Please wait before you try again.", retry_after_s=math.ceil(pause_s)
            )
        if await self._frame.hashing.run(address, check, self._attempts.rank(address, claimed, clock.monotonic_s())):
            self._attempts.succeeded(address, claimed)
            return
        await asyncio.sleep(self._attempts.failed(address, claimed, clock.monotonic_s()))
        raise ApiError(401, tokens.UNAUTHORIZED)


def _passwords(body: Any) -> tuple[str, str]:
    """The old and the new one."""
    asked = body.get("user") if isinstance(body, dict) else None
    if not isinstance(asked, dict):
        raise ApiError(400, "'user' is a required property")
    for name in ("original_password", "password"):
        if not isinstance(asked.get(name), str) or not asked[name]:
            raise ApiError(400, f"'{name}' is a required property")
    if len(asked["password"]) > passwords.SECRET_MAX:
        raise ApiError(400, f"Invalid input for field 'password': it is longer than {passwords.SECRET_MAX} characters")
    return asked["original_password"], asked["password"]


def _candidate(tx: Tx, identity: dict[str, Any], moment: datetime) -> Candidate:
    methods = identity.get("methods")
    if not isinstance(methods, list) or not methods:
        raise ApiError(400, "'methods' is a required property")
    match methods[0]:
        case "password":
            asked = _part(_part(identity, "password"), "user")
            user = find_user(tx, asked)
            secret = str(asked.get("password", ""))
            return Candidate(_of(user, "id"), "password", secret, _of(user, "password_hash"), claimed=_claimed(asked))
        case "token":
            earlier = tokens.load(tx, str(_part(identity, "token").get("id", "")), moment)
            return Candidate(earlier["user_id"], "token", proved=True, earlier=earlier)
        case "application_credential":
            return _credential(tx, _part(identity, "application_credential"), moment)
        case other:
            raise ApiError(401, f"Attempted to authenticate with an unsupported method: {other}.")


def _credential(tx: Tx, asked: dict[str, Any], moment: datetime) -> Candidate:
    row = None
    if asked.get("id"):
        row = tx.get(t.application_credentials, str(asked["id"]))
    elif asked.get("name"):
        user = find_user(tx, _part(asked, "user"))
        row = user and tx.one(
            sa.select(t.application_credentials).where(
                t.application_credentials.c.user_id == user["id"],
                t.application_credentials.c.name == str(asked["name"]),
            )
        )
    if row is not None and row["expires_at"] is not None and row["expires_at"] <= moment:
        row = None
    return Candidate(
        _of(row, "user_id"), "application_credential", str(asked.get("secret", "")), _of(row, "secret_hash"),
        claimed=_claimed(asked), credential=row,
    )  # fmt: skip


def _claimed(asked: dict[str, Any]) -> str:
    return str(asked.get("id") or asked.get("name") or "")[:255]


def _of(row: Row | None, name: str) -> str | None:
    return None if row is None else row[name]


def find_user(tx: Tx, asked: dict[str, Any]) -> Row | None:
    """An enabled user by id, or by name and domain."""
    if asked.get("id"):
        user = tx.get(t.users, str(asked["id"]))
    else:
        domain_id = find_domain(tx, asked.get("domain"))
        user = tx.one(
            sa.select(t.users).where(t.users.c.name == str(asked.get("name", "")), t.users.c.domain_id == domain_id)
        )
    return user if user is not None and user["enabled"] else None


def find_domain(tx: Tx, asked: Any) -> str | None:
    """A domain's id from its id or name."""
    if not isinstance(asked, dict):
        return None
    if asked.get("id"):
        return str(asked["id"])
    found = tx.value(sa.select(t.domains.c.id).where(t.domains.c.name == str(asked.get("name", ""))))
    return None if found is None else str(found)


def _scope(tx: Tx, candidate: Candidate, scope: Any) -> Row:
    """What the token will be good for; 401 when the user has no role there."""
    methods = [candidate.method]
    if candidate.earlier is not None:
        methods = sorted({*candidate.earlier["methods"], "token"})
    values: Row = {"user_id": candidate.user_id, "methods": methods}
    if candidate.earlier is not None and candidate.earlier["application_credential_id"]:
        values["application_credential_id"] = candidate.earlier["application_credential_id"]
        values["project_id"] = candidate.earlier["project_id"]
        return values
    if candidate.credential is not None:
        values |= {
            "application_credential_id": candidate.credential["id"],
            "project_id": candidate.credential["project_id"],
        }
    elif scope is None:
        values |= _default_scope(tx, str(candidate.user_id))
    elif scope == UNSCOPED or (isinstance(scope, dict) and UNSCOPED in scope):
        return values
    else:
        values |= _asked_scope(tx, scope)
    unscoped = not (values.get("project_id") or values.get("domain_id") or values.get("system"))
    full = {"project_id": None, "domain_id": None, "system": False, **values}
    if not unscoped and not tokens.roles_of(tx, full):
        raise ApiError(401, tokens.UNAUTHORIZED)  # not a word on whether the scope exists
    return values


def _asked_scope(tx: Tx, scope: Any) -> Row:
    if not isinstance(scope, dict):
        raise ApiError(400, "Invalid input for field 'scope'")
    if "project" in scope:
        asked = _part(scope, "project")
        query = sa.select(t.projects).where(t.projects.c.enabled)
        if asked.get("id"):
            query = query.where(t.projects.c.id == str(asked["id"]))
        else:
            domain_id = find_domain(tx, asked.get("domain"))
            query = query.where(t.projects.c.name == str(asked.get("name", "")), t.projects.c.domain_id == domain_id)
        project = tx.one(query)
        if project is None:
            raise ApiError(401, tokens.UNAUTHORIZED)
        return {"project_id": project["id"]}
    if "domain" in scope:
        found = find_domain(tx, scope["domain"])
        if found is None:
            raise ApiError(401, tokens.UNAUTHORIZED)
        return {"domain_id": found}
    if "system" in scope:
        if not isinstance(scope["system"], dict) or scope["system"].get("all") is not True:
            raise ApiError(400, "Invalid input for field 'system': it is {'all': true}")
        return {"system": True}
    raise ApiError(400, "Invalid input for field 'scope'")


def _default_scope(tx: Tx, user_id: str) -> Row:
    """The user's default project, if it has one and a role there."""
    project = tx.value(sa.select(t.users.c.default_project_id).where(t.users.c.id == user_id))
    values: Row = {"user_id": user_id, "project_id": project, "domain_id": None, "system": False}
    enabled = tx.value(sa.select(t.projects.c.enabled).where(t.projects.c.id == (project or "")))
    return {"project_id": project} if enabled and tokens.roles_of(tx, values) else {}


def _part(body: dict[str, Any], name: str) -> dict[str, Any]:
    part = body.get(name)
    if not isinstance(part, dict):
        raise ApiError(400, f"'{name}' is a required property")
    return part
