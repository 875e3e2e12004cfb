"""What listeners and pools use of the key manager: which rows they name, and removal of what nobody uses any more."""

from collections.abc import Iterable
from typing import Any

import sqlalchemy as sa

from vrata.cloud.balancing import tables as b
from vrata.cloud.keymanager import tables as t
from vrata.cloud.store import Tx

_CERTIFICATES = (
    b.listeners.c.default_tls_container_ref, b.listeners.c.sni_container_refs, b.pools.c.tls_container_ref,
)  # fmt: skip
_COLUMNS = (
    *_CERTIFICATES, b.listeners.c.client_ca_tls_container_ref, b.listeners.c.client_crl_container_ref,
    b.pools.c.ca_tls_container_ref, b.pools.c.crl_container_ref,
)  # fmt: skip


def id_of(reference: str) -> str:
    """The last element of a reference: `http://…/v1/containers/ID` or the bare ID."""
    return reference.rstrip("/").rsplit("/", 1)[-1]


def certificates(tx: Tx) -> set[str]:
    """References to certificates, of listeners and pools."""
    return _values(tx, _CERTIFICATES)


def _named(tx: Tx) -> set[str]:
    return {id_of(one) for one in _values(tx, _COLUMNS)}


def _values(tx: Tx, columns: Iterable[sa.Column[Any]]) -> set[str]:
    found: set[str] = set()
    for column in columns:
        value: Any
        for value in tx.column(sa.select(column).where(column.is_not(None))):
            found.update(value if isinstance(value, list) else [value])
    return found


def purge(tx: Tx) -> None:
    """Remove for good what was deleted by its users and serves no listener or pool."""
    hidden = [
        *tx.column(sa.select(t.secrets.c.id).where(t.secrets.c.deleted)),
        *tx.column(sa.select(t.containers.c.id).where(t.containers.c.deleted)),
    ]
    if not hidden:
        return
    named = _named(tx)
    _remove(tx, t.containers, named)
    for parts in tx.column(sa.select(t.containers.c.secrets).where(t.containers.c.id.in_(named))):
        named.update(parts.values())
    _remove(tx, t.secrets, named)


def _remove(tx: Tx, table: sa.Table, used: Iterable[str]) -> None:
    tx.execute(sa.delete(table).where(table.c.deleted, table.c.id.not_in(list(used))))
