"""The database: one transaction per request, on SQLite or PostgreSQL, from SQLAlchemy Core in threads.

SQLite has one writer thread whose transactions begin with BEGIN IMMEDIATE, so writers queue instead of fighting;
readers have their own connections (WAL). PostgreSQL has a pool, and rows that guard a decision are locked with
SELECT … FOR UPDATE. A transaction that the database gave up (deadlock, serialization) is tried again, with a bound.
A transaction may name hosts whose desired set it changed: their revisions rise just before the commit, and
`changed` is called with their names just after it, and `happened` with every transition that was written down.
"""

import asyncio
import functools
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa

from vrata.cloud.balancing.tables import hosts

T = TypeVar("T")
Row = dict[str, Any]

ATTEMPTS = 6  # tries of one transaction that the database aborted
READERS = 4
PG_WORKERS = 12


class Tx:
    """One transaction: small helpers over a connection, the hosts it touched, the transitions it wrote down."""

    def __init__(self, connection: sa.Connection) -> None:
        self.connection = connection
        self.touched: set[str] = set()
        self.after: list[Callable[[], None]] = []
        self.transitions: list[Row] = []

    def all(self, statement: sa.Select[Any]) -> list[Row]:
        """Every row, as a dictionary."""
        found = self.connection.execute(statement)
        names = tuple(found.keys())
        return [dict(zip(names, row, strict=True)) for row in found]

    def one(self, statement: sa.Select[Any]) -> Row | None:
        """The first row, or None."""
        return self._first(statement)

    def _first(self, statement: sa.Select[Any], values: Row | None = None) -> Row | None:
        row = self.connection.execute(statement, values).mappings().first()
        return None if row is None else dict(row)

    def get(self, table: sa.Table, row_id: str) -> Row | None:
        """The row with this primary key."""
        return self._first(_by_key(table), {"row_id": row_id})

    def lock(self, table: sa.Table, row_id: str) -> Row | None:
        """The row with this primary key, locked until the transaction ends (SQLite: the whole database is)."""
        return self._first(_by_key(table, lock=True), {"row_id": row_id})

    def value(self, statement: sa.Select[Any], **values: Any) -> Any:
        """The first column of the first row, or None; `values` of the statement's bound parameters."""
        return self.connection.execute(statement, values).scalar()

    def column(self, statement: sa.Select[Any], **values: Any) -> list[Any]:
        """The first column of every row."""
        return list(self.connection.execute(statement, values).scalars())

    def insert(self, table: sa.Table, rows: Row | Sequence[Row]) -> None:
        """Insert one row or several of the same shape."""
        if rows:
            self.connection.execute(sa.insert(table), rows)

    def update(self, table: sa.Table, row_id: str, values: Mapping[str, Any]) -> None:
        """Change columns of one row."""
        if values:
            self.connection.execute(sa.update(table).where(_key(table) == row_id).values(**values))

    def execute(self, statement: sa.Executable) -> int:
        """Run an UPDATE or DELETE; how many rows it met."""
        return int(getattr(self.connection.execute(statement), "rowcount", 0))

    def delete(self, table: sa.Table, row_ids: str | Iterable[str]) -> None:
        """Delete rows by primary key."""
        wanted = [row_ids] if isinstance(row_ids, str) else list(row_ids)
        if wanted:
            self.connection.execute(sa.delete(table).where(_key(table).in_(wanted)))

    def touch(self, names: Iterable[str]) -> None:
        """Say that the desired sets of these hosts changed."""
        self.touched.update(names)

    def _raise_revisions(self) -> None:
        if not self.touched:
            return
        names = sorted(self.touched)
        # Every transaction takes these row locks last and in one order, so they cannot form a cycle.
        self.connection.execute(
            sa.select(hosts.c.name).where(hosts.c.name.in_(names)).order_by(hosts.c.name).with_for_update()
        )
        self.connection.execute(sa.update(hosts).where(hosts.c.name.in_(names)).values(revision=hosts.c.revision + 1))


@functools.cache
def _by_key(table: sa.Table, *, lock: bool = False) -> sa.Select[Any]:
    """Built once a table: most of what a call does is looking rows up, and building the question took half of it."""
    query = sa.select(table).where(_key(table) == sa.bindparam("row_id"))
    return query.with_for_update() if lock else query


def _key(table: sa.Table) -> sa.ColumnElement[Any]:
    return next(iter(table.primary_key.columns))


class Store:
    """Runs functions of a transaction in threads: `read` may see, `write` may change."""

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.changed: Callable[[frozenset[str]], None] = lambda _names: None
        self.happened: Callable[[Row], None] = lambda _transition: None
        if self.sqlite:
            self._writer = _sqlite_engine(self.url, "BEGIN IMMEDIATE", 1)
            self._reader = _sqlite_engine(self.url, "BEGIN", READERS)
            self._write_pool = ThreadPoolExecutor(1, "writer")
            self._read_pool = ThreadPoolExecutor(READERS, "reader")
        else:
            engine = sa.create_engine(
                self.url, pool_size=PG_WORKERS, max_overflow=0, pool_pre_ping=True, isolation_level="READ COMMITTED",
                json_deserializer=msgspec.json.decode,
            )  # fmt: skip
            self._writer = self._reader = engine
            self._write_pool = self._read_pool = ThreadPoolExecutor(PG_WORKERS, "store")

    async def read(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction that changes nothing."""
        return await asyncio.get_running_loop().run_in_executor(self._read_pool, self._run, self._reader, work)

    async def write(self, work: Callable[[Tx], T]) -> T:
        """Run `work` in a transaction and commit it; on an exception nothing of it remains."""
        return await asyncio.get_running_loop().run_in_executor(self._write_pool, self._run, self._writer, work)

    def write_now(self, work: Callable[[Tx], T]) -> T:
        """The same from a thread that may block (start-up, tests)."""
        return self._run(self._writer, work)

    def _run(self, engine: sa.Engine, work: Callable[[Tx], T]) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with engine.begin() as connection:
                    tx = Tx(connection)
                    result = work(tx)
                    tx._raise_revisions()
            except sa.exc.DBAPIError as error:
                if attempt == ATTEMPTS or not _worth_another_try(error):
                    raise
                continue
            for call in tx.after:
                call()
            for transition in tx.transitions:
                self.happened(transition)
            if tx.touched:
                self.changed(frozenset(tx.touched))
            return result
        raise AssertionError("unreachable")

    def close(self) -> None:
        """Wait for running transactions, then close every connection."""
        self._write_pool.shutdown()
        self._read_pool.shutdown()
        self._writer.dispose()
        self._reader.dispose()


def _worth_another_try(error: sa.exc.DBAPIError) -> bool:
    """PostgreSQL's serialization failure and deadlock, and two inserts that met on one unique key."""
    return getattr(error.orig, "sqlstate", None) in {"40001", "40P01", "23505"}


def _sqlite_engine(url: sa.URL, begin: str, size: int) -> sa.Engine:
    engine = sa.create_engine(
        url, pool_size=size, max_overflow=0, connect_args={"check_same_thread": False, "timeout": 30.0},
        json_deserializer=msgspec.json.decode,
    )  # fmt: skip

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # the driver must not begin transactions of its own
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "busy_timeout=30000"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine
