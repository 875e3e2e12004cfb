"""Who calls: one statement says the same as the lookups that a login makes one by one."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from vrata.cloud import migrate
from vrata.cloud.http import ApiError
from vrata.cloud.identity import tables as t
from vrata.cloud.identity import tokens
from vrata.cloud.store import Tx

NOW = datetime(2026, 1, 1, tzinfo=UTC).replace(tzinfo=None)  # naive UTC, as the columns hold it
TARGETS = (("project", "p"), ("domain", "d"), ("system", "all"), ("project", "other"))
ROLES = ("admin", "member", "reader", "service")


@st.composite
def sites(draw: st.DrawFn) -> dict[str, Any]:
    """Rows around one token, which is for a project, a domain, the system, or nothing."""
    role, flag = st.sampled_from(ROLES), st.booleans()
    scope = draw(
        st.sampled_from([("project_id", "p"), ("project_id", "gone"), ("domain_id", "d"), ("system", True), None])
    )
    credential = draw(st.none() | st.lists(role, unique=True))
    bad = draw(st.sampled_from(["", "", "", "home", "d", "p", "u", "token"]))  # what is disabled, or has expired
    return {
        "domains": [{"id": one, "name": one, "enabled": one != bad} for one in ("home", "d")],
        "projects": [{"id": "p", "domain_id": "d", "name": "p", "enabled": bad != "p"}],
        "users": [{"id": "u", "domain_id": "home", "name": "u", "enabled": bad != "u"}],
        "roles": [{"id": f"id-{one}", "name": one} for one in ROLES],
        "assignments": [
            {"user_id": "u", "role_id": f"id-{name}", "target_kind": kind, "target_id": target}
            for (kind, target), name in draw(st.lists(st.tuples(st.sampled_from(TARGETS), role), unique=True))
        ],
        "implied_roles": [
            {"prior_id": f"id-{prior}", "implied_id": f"id-{implied}"}
            for prior, implied in draw(st.lists(st.tuples(role, role), unique=True, max_size=5))
        ],
        "application_credentials": [] if credential is None else [
            {"id": "c", "user_id": "u", "project_id": "p", "name": "c", "secret_hash": "", "unrestricted": draw(flag),
             "role_ids": [f"id-{one}" for one in credential], "expires_at": None, "created_at": NOW, "updated_at": NOW}
        ],
        "tokens": [
            {"digest": tokens.digest("token"), "user_id": "u", "project_id": None, "domain_id": None, "system": False,
             "application_credential_id": None if credential is None else "c", "methods": [], "audit_ids": [],
             "issued_at": NOW, "expires_at": NOW + timedelta(hours=bad != "token")}
            | dict([scope] if scope else [])
        ],
    }  # fmt: skip


@pytest.fixture(scope="module")
def engine() -> Iterator[sa.Engine]:
    made = sa.create_engine("sqlite://", poolclass=sa.StaticPool)
    migrate.metadata().create_all(made)
    yield made
    made.dispose()


def one_by_one(tx: Tx) -> Any:
    """What the lookups of a login find: scope, roles, whether the credential restricts."""
    row = tokens.load(tx, "token", NOW)
    tokens.alive(tx, row)
    credential = tx.one(sa.select(t.application_credentials))
    return (
        row,
        frozenset(one["name"] for one in tokens.roles_of(tx, row)),
        credential and not credential["unrestricted"],
    )


@given(site=sites())
def test_one_statement_finds_what_the_lookups_find(engine: sa.Engine, site: dict[str, Any]) -> None:
    with engine.connect() as connection:
        tx = Tx(connection)
        for name, rows in site.items():
            tx.insert(getattr(t, name), rows)
        statements: list[str] = []
        listened = (connection, "before_cursor_execute", lambda *event: statements.append(event[2]))
        try:
            row, roles, restricted = one_by_one(tx)
        except ApiError:
            with pytest.raises(ApiError, match=tokens.UNAUTHORIZED):
                tokens.caller(tx, "token", NOW)
        else:
            sa.event.listen(*listened)
            found = tokens.caller(tx, "token", NOW)
            sa.event.remove(*listened)
            assert (found.roles, found.restricted) == (roles, bool(restricted))
            assert (found.user_id, found.project_id, found.domain_id) == ("u", row["project_id"], row["domain_id"])
            assert (found.system, found.token_digest) == (row["system"], row["digest"])
            assert len(statements) == (1 if found.application_credential_id is None else 2), statements
        connection.rollback()


def test_no_token_and_an_unknown_one_are_refused(engine: sa.Engine) -> None:
    with engine.connect() as connection:
        for token in ("", "unknown"):
            with pytest.raises(ApiError, match=tokens.UNAUTHORIZED):
                tokens.caller(Tx(connection), token, NOW)
