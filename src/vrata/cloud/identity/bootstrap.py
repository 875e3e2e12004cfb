"""Makes a fresh database usable: the Default domain, roles with their implications, projects, users admin and demo.

Safe to repeat at each start: what exists stays, passwords too. `reset` gives a user a new one.
"""

import uuid
from collections.abc import Callable

import sqlalchemy as sa

from vrata.cloud.identity import passwords, tokens
from vrata.cloud.identity import tables as t
from vrata.cloud.store import Tx

DOMAIN = "default"
ROLES = (
    "admin", "member", "reader", "service", "load-balancer_admin", "load-balancer_member", "load-balancer_observer",
    "load-balancer_global_observer", "load-balancer_quota_admin",
)  # fmt: skip
IMPLIED = (("admin", "member"), ("member", "reader"))
PROJECTS = ("admin", "demo", "service")


Password = Callable[[], str] | None


def bootstrap(tx: Tx, admin_password: Password, demo_password: Password, cost: int = passwords.COST) -> None:
    """Bring the identity part of the database to its first usable state. Passwords are asked for where there is none."""
    if tx.get(t.domains, DOMAIN) is None:
        tx.insert(t.domains, {"id": DOMAIN, "name": "Default", "description": "The default domain", "enabled": True})
    role_ids = {name: _ensure(tx, t.roles, {"name": name, "description": ""}) for name in ROLES}
    for prior, implied in IMPLIED:
        _link(tx, t.implied_roles, {"prior_id": role_ids[prior], "implied_id": role_ids[implied]})
    project_ids = {
        name: _ensure(
            tx,
            t.projects,
            {"name": name, "domain_id": DOMAIN, "parent_id": DOMAIN, "description": "", "enabled": True, "tags": []},
        )
        for name in PROJECTS
    }
    admin = _user(tx, "admin", admin_password, cost)
    demo = _user(tx, "demo", demo_password, cost)
    for user, role, kind, target in (
        (admin, "admin", "project", project_ids["admin"]),
        (admin, "admin", "project", project_ids["demo"]),
        (admin, "admin", "domain", DOMAIN),
        (admin, "admin", "system", "all"),
        (demo, "member", "project", project_ids["demo"]),
    ):
        _link(
            tx,
            t.assignments,
            {"user_id": user, "role_id": role_ids[role], "target_kind": kind, "target_id": target},
        )


def reset(tx: Tx, name: str, domain_id: str, password_hash: str) -> str | None:
    """Give a user this password and end its tokens; the user's id, None if there is no such user."""
    user_id = tx.value(sa.select(t.users.c.id).where(t.users.c.name == name, t.users.c.domain_id == domain_id))
    if user_id is None:
        return None
    tx.update(t.users, user_id, {"password_hash": password_hash, "enabled": True})
    tokens.revoke(tx, "user", user_id)
    return str(user_id)


def _user(tx: Tx, name: str, password: Password, cost: int) -> str:
    user_id = _ensure(tx, t.users, {"name": name, "domain_id": DOMAIN, "description": "", "enabled": True})
    if password is not None and tx.value(sa.select(t.users.c.password_hash).where(t.users.c.id == user_id)) is None:
        tx.update(t.users, user_id, {"password_hash": passwords.hash_secret(password(), cost)})
    return user_id


def _ensure(tx: Tx, table: sa.Table, values: dict[str, object]) -> str:
    query = sa.select(table.c.id).where(table.c.name == values["name"])
    if "domain_id" in values:
        query = query.where(table.c.domain_id == values["domain_id"])
    found = tx.value(query)
    if found is None:
        found = uuid.uuid4().hex
        tx.insert(table, {"id": found, **values})
    return str(found)


def _link(tx: Tx, table: sa.Table, values: dict[str, str]) -> None:
    query = sa.select(sa.literal(1)).select_from(table).where(*(table.c[name] == v for name, v in values.items()))
    if tx.value(query) is None:
        tx.insert(table, values)
