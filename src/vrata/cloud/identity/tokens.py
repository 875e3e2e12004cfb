"""Tokens: issues them, resolves one to its caller, shows one (Keystone v3, «Authentication and token management»).

A token is 32 random bytes; the database holds its SHA-256, so that reading the database gives no token away.
Roles are looked up at each use: taking a role away works at once.
"""

import hashlib
import secrets
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from vrata.cloud.http import ApiError, Caller
from vrata.cloud.identity import tables as t
from vrata.cloud.store import Row, Tx

# Asked in every call, so built once.
_USER_ENABLED = (
    sa.select(t.users.c.enabled & t.domains.c.enabled)
    .join(t.domains, t.domains.c.id == t.users.c.domain_id)
    .where(t.users.c.id == sa.bindparam("user_id"))
)
_PROJECT_ENABLED = (
    sa.select(t.projects.c.enabled & t.domains.c.enabled)
    .join(t.domains, t.domains.c.id == t.projects.c.domain_id)
    .where(t.projects.c.id == sa.bindparam("project_id"))
)
_ASSIGNED = sa.select(t.assignments.c.role_id).where(
    t.assignments.c.user_id == sa.bindparam("user_id"),
    t.assignments.c.target_kind == sa.bindparam("kind"),
    t.assignments.c.target_id == sa.bindparam("target_id"),
)
_IMPLIED = sa.select(t.implied_roles.c.prior_id, t.implied_roles.c.implied_id)


def _caller_query() -> sa.Select[Any]:
    """All that `caller` needs in one statement: a row for each role, implied ones included, at least one for a token."""
    token, given, implied = t.tokens.c, t.assignments.c, t.implied_roles.c
    at, no_project = given.target_id, token.project_id.is_(None)
    scope = sa.or_(
        sa.and_(given.target_kind == "project", at == token.project_id),
        sa.and_(given.target_kind == "domain", at == token.domain_id, no_project),
        sa.and_(given.target_kind == "system", at == "all", token.system, no_project, token.domain_id.is_(None)),
    )
    this = token.digest == sa.bindparam("digest")
    assigned = sa.select(given.role_id).join(t.tokens, token.user_id == given.user_id).where(this, scope)
    held = assigned.cte("held", recursive=True)
    held = held.union(sa.select(implied.implied_id).join(held, implied.prior_id == held.c.role_id))
    home, owner, scoped = t.domains.alias(), t.domains.alias(), t.domains.alias()
    credential = t.application_credentials.c
    joined = (
        t.tokens.join(t.users, t.users.c.id == token.user_id)
        .join(home, home.c.id == t.users.c.domain_id)
        .outerjoin(t.projects, t.projects.c.id == token.project_id)
        .outerjoin(owner, owner.c.id == t.projects.c.domain_id)
        .outerjoin(scoped, scoped.c.id == token.domain_id)
        .outerjoin(t.application_credentials, credential.id == token.application_credential_id)
        .outerjoin(held, sa.true())
        .outerjoin(t.roles, sa.and_(t.roles.c.id == held.c.role_id, t.roles.c.domain_id.is_(None)))
    )
    enabled = sa.and_(
        t.users.c.enabled,
        home.c.enabled,
        sa.or_(no_project, sa.and_(t.projects.c.enabled, owner.c.enabled)),
        sa.or_(token.domain_id.is_(None), scoped.c.enabled),
    )
    return (
        sa.select(t.tokens, enabled.label("enabled"), credential.unrestricted, credential.role_ids)
        .add_columns(t.roles.c.id.label("role_id"), t.roles.c.name.label("role"))
        .select_from(joined)
        .where(this)
    )


_CALLER = _caller_query()

UNAUTHORIZED = "The request you have made requires authentication."


def digest(token: str) -> str:
    """What the database knows of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def issue(tx: Tx, values: Row, now: datetime, life_s: int) -> tuple[str, Row]:
    """A new token for the subject and scope in `values`; expired ones of the user go on the way."""
    token = "gAAA" + secrets.token_urlsafe(32)
    tx.execute(sa.delete(t.tokens).where(t.tokens.c.user_id == values["user_id"], t.tokens.c.expires_at < now))
    row: Row = {
        "project_id": None, "domain_id": None, "system": False, "application_credential_id": None,
        "issued_at": now, "expires_at": now + timedelta(seconds=life_s),
        "audit_ids": [secrets.token_urlsafe(16)], **values, "digest": digest(token),
    }  # fmt: skip
    tx.insert(t.tokens, row)
    return token, row


def load(tx: Tx, token: str, now: datetime) -> Row:
    """The row of a valid token; 401 for any other."""
    row = tx.get(t.tokens, digest(token)) if token else None
    if row is None or row["expires_at"] <= now:
        raise ApiError(401, UNAUTHORIZED)
    return row


def alive(tx: Tx, row: Row) -> None:
    """401 unless the user, the scope and the domains they are in are enabled."""
    good = tx.value(_USER_ENABLED, user_id=row["user_id"])
    if good and row.get("project_id"):
        good = tx.value(_PROJECT_ENABLED, project_id=row["project_id"])
    if good and row.get("domain_id"):
        good = tx.value(sa.select(t.domains.c.enabled).where(t.domains.c.id == row["domain_id"]))
    if not good:
        raise ApiError(401, UNAUTHORIZED)


def revoke(tx: Tx, kind: str, row_id: str) -> None:
    """Every token of a user, for a project, or in any way of a domain ends now, and does not come back."""
    match kind:
        case "user":
            which: sa.ColumnElement[bool] = t.tokens.c.user_id == row_id
        case "project":
            which = t.tokens.c.project_id == row_id
        case _:
            users = sa.select(t.users.c.id).where(t.users.c.domain_id == row_id)
            projects = sa.select(t.projects.c.id).where(t.projects.c.domain_id == row_id)
            which = sa.or_(
                t.tokens.c.domain_id == row_id, t.tokens.c.user_id.in_(users), t.tokens.c.project_id.in_(projects)
            )
    tx.execute(sa.delete(t.tokens).where(which))


def caller(tx: Tx, token: str, now: datetime) -> Caller:
    """Who calls with this token, roles resolved; 401 if it is not valid or its user or project is disabled."""
    rows = tx.all(_CALLER, digest=digest(token)) if token else []
    if not rows or rows[0]["expires_at"] <= now or not rows[0]["enabled"]:
        raise ApiError(401, UNAUTHORIZED)
    row = rows[0]
    credential = row["application_credential_id"]
    roles = {one["role_id"]: one["role"] for one in rows if one["role_id"] is not None}
    if credential is not None:
        allowed = with_implied(tx, set(row["role_ids"] or ()))
        roles = {role_id: name for role_id, name in roles.items() if role_id in allowed}
    return Caller(
        user_id=row["user_id"],
        project_id=row["project_id"],
        domain_id=row["domain_id"],
        system=row["system"],
        roles=frozenset(roles.values()),
        token_digest=row["digest"],
        application_credential_id=credential,
        restricted=credential is not None and not row["unrestricted"],
    )


def roles_of(tx: Tx, row: Row) -> list[Row]:
    """The roles a token carries, with implied ones; an application credential narrows them.

    A role of a domain is none of them: it gives what it implies.
    """
    target = _target(row)
    if target is None:
        return []
    found = tx.column(_ASSIGNED, user_id=row["user_id"], kind=target[0], target_id=target[1])
    implied = with_implied(tx, set(found))
    credential = row.get("application_credential_id")
    if credential is not None:
        allowed = tx.value(
            sa.select(t.application_credentials.c.role_ids).where(t.application_credentials.c.id == credential)
        )
        implied &= with_implied(tx, set(allowed or ()))
    carried = sa.select(t.roles).where(t.roles.c.id.in_(implied), t.roles.c.domain_id.is_(None))
    return tx.all(carried.order_by(t.roles.c.name)) if implied else []


def with_implied(tx: Tx, role_ids: set[str]) -> set[str]:
    """The roles and all that they imply."""
    edges = tx.connection.execute(_IMPLIED).all()
    out = set(role_ids)
    for _ in range(len(edges) + 1):
        more = {implied for prior, implied in edges if prior in out} - out
        if not more:
            break
        out |= more
    return out


def _target(row: Row) -> tuple[str, str] | None:
    if row["project_id"]:
        return "project", row["project_id"]
    if row["domain_id"]:
        return "domain", row["domain_id"]
    return ("system", "all") if row["system"] else None


def show(tx: Tx, row: Row, catalog: list[Any]) -> dict[str, Any]:
    """The `token` object of an answer."""
    user = tx.get(t.users, row["user_id"])
    assert user is not None
    token: dict[str, Any] = {
        "methods": row["methods"],
        "user": {
            "id": user["id"],
            "name": user["name"],
            "domain": domain(tx, user["domain_id"]),
            "password_expires_at": None,
        },
        "audit_ids": row["audit_ids"],
        "expires_at": stamp(row["expires_at"]),
        "issued_at": stamp(row["issued_at"]),
    }
    if row["project_id"]:
        project = tx.get(t.projects, row["project_id"])
        assert project is not None
        token["project"] = {
            "id": project["id"],
            "name": project["name"],
            "domain": domain(tx, project["domain_id"]),
        }
        token["is_domain"] = False
    if row["domain_id"]:
        token["domain"] = domain(tx, row["domain_id"])
    if row["system"]:
        token["system"] = {"all": True}
    if _target(row) is not None:
        token["roles"] = [{"id": role["id"], "name": role["name"]} for role in roles_of(tx, row)]
        token["catalog"] = catalog
    if row["application_credential_id"]:
        credential = tx.get(t.application_credentials, row["application_credential_id"])
        assert credential is not None
        token["application_credential"] = {
            "id": credential["id"],
            "name": credential["name"],
            "restricted": not credential["unrestricted"],
        }
    return token


def domain(tx: Tx, domain_id: str) -> dict[str, str]:
    """The short form of a domain."""
    return {
        "id": domain_id,
        "name": tx.value(sa.select(t.domains.c.name).where(t.domains.c.id == domain_id)) or domain_id,
    }


def stamp(moment: datetime) -> str:
    """Keystone's time format."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
