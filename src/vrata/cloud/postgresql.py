"""Connections to PostgreSQL (psycopg 3). Imported only where the database is one: it takes as long as half of the service."""

from typing import Any

import psycopg
from psycopg.pq import TransactionStatus

_OPEN = (TransactionStatus.INTRANS, TransactionStatus.INERROR)


class Connection(psycopg.Connection[Any]):
    """Keeps its prepared statements when a transaction is rolled back, as each refused call does.

    psycopg drops them all, since the transaction might have made the tables that they name. None does here.
    """

    def rollback(self) -> None:
        """End the transaction; psycopg.OperationalError if the connection is lost."""
        with self.lock:
            if self.pgconn.transaction_status in _OPEN:
                self.pgconn.exec_(b"ROLLBACK")
        super().rollback()  # has something to do only if that failed
