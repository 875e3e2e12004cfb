"""Which errors of a database are answered 503: it is away, and the same call succeeds later."""

import psycopg
import pytest
import sqlalchemy as sa

from vrata.cloud.http import is_database_away


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (sa.exc.OperationalError("", {}, psycopg.OperationalError()), True),
        (sa.exc.InternalError("", {}, psycopg.errors.IdleInTransactionSessionTimeout()), True),
        (sa.exc.InternalError("", {}, psycopg.errors.InFailedSqlTransaction()), False),
        (sa.exc.IntegrityError("", {}, psycopg.errors.UniqueViolation()), False),
        (ValueError(), False),
    ],
)
def test_a_database_that_is_away_is_told_from_a_fault(error: Exception, away: bool) -> None:
    assert is_database_away(error) is away
