"""Seals everything in the database anew with the first key, so that older keys can be retired. Safe to repeat."""

from typing import Any

import sqlalchemy as sa

from vrata.cloud.keymanager import tables as t
from vrata.cloud.keymanager.vault import Vault
from vrata.cloud.store import Store, Tx

ROWS = 100  # in one transaction
_COLUMNS: tuple[tuple[sa.Table, str], ...] = (
    (t.secrets, "sealed"),
    (t.secrets, "converted"),
    (t.containers, "converted"),
)


def reseal(store: Store, vault: Vault) -> int:
    """How many there were; VrataError, with nothing lost, at the first that no key opens."""
    count = 0
    for table, column in _COLUMNS:
        last: str | None = ""
        while last is not None:
            last, done = store.write_now(lambda tx, at=(table, column, last): _some(tx, vault, *at))  # type: ignore[misc]
            count += done
    return count


def _some(tx: Tx, vault: Vault, table: sa.Table, column: str, after: str) -> tuple[str | None, int]:
    """The rows behind this id; the last one of them, None at the end."""
    held: sa.Column[Any] = table.c[column]
    query = sa.select(table.c.id).where(held.is_not(None), table.c.id > after).order_by(table.c.id).limit(ROWS)
    ids = tx.column(query)
    for row_id in ids:
        row = tx.lock(table, row_id)  # as it is now: somebody may have written it since
        if row and row[column] is not None:
            tx.update(table, row_id, {column: vault.seal(row_id, vault.open(row_id, row[column]))})
    return (ids[-1] if len(ids) == ROWS else None), len(ids)
