"""The database: one transaction per request, on SQLite or PostgreSQL, from SQLAlchemy Core in threads.

SQLite has one writer thread whose transactions begin with BEGIN IMMEDIATE, so writers queue instead of fighting;
readers have their own connections (WAL). PostgreSQL has a pool, and rows that guard a decision are locked with
SELECT … FOR NO KEY UPDATE, which inserts of rows that refer to them do not wait for. Every transaction locks in one order
(`locks.py`), on both databases. One that cannot is run again with the missing rows locked first; one that the database
gave up (serialization) is tried again, too, both with a bound. Hosts have threads and connections of their own
(`urgent`), and their writes go first, so no queue of tenants' requests makes a host look dead.
A transaction may name hosts whose desired set it changed: their revisions rise just before the commit, and
`changed` is called with their names just after it, and `happened` with every transition that was written down.
"""

import asyncio
import contextlib
import functools
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
import structlog

from vrata.base import clock
from vrata.cloud.balancing.tables import hosts
from vrata.cloud.locks import ORDER, RANK, Key, Locks, OutOfOrder
from vrata.cloud.schema import metadata

log = structlog.get_logger(__name__)

T = TypeVar("T")
Row = dict[str, Any]

ATTEMPTS = 6  # tries of one transaction that the database aborted
RESTARTS = 64  # of one transaction that must lock a row before others; each one knows at least one row more
PARAMETERS = 500  # values that one statement names
READERS = 4
PG_WORKERS = 12
URGENT = 4  # threads and connections for hosts
PG_BEATERS = 2  # connections for signs of life alone: they must not wait for anything that takes long
# A machine that vanishes says nothing: within about ten seconds its connections are given up (PostgreSQL, libpq, 34.1.2).
PG_LIVENESS = {
    "connect_timeout": 5,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,
}
PG_IDLE_MS = (
    15_000  # a replica that stops within a transaction (SIGSTOP, a lost machine) must not hold locks for longer
)


class Tx:
    """One transaction: small helpers over a connection, the hosts it touched, the transitions it wrote down."""

    def __init__(
        self, connection: sa.Connection, first: Iterable[Key] = (), reserved: frozenset[str] = frozenset()
    ) -> None:
        self.connection = connection
        self.reserved = reserved  # addresses that nothing may get (the cloud's own)
        self._locks = Locks()
        self._now: float | None = None
        self._postgresql = connection.dialect.name == "postgresql"
        self.unsettled = False
        self.touched: set[str] = set()
        self.after: list[Callable[[], None]] = []
        self.memo: dict[Any, Any] = {}  # what was read under a lock, and only this transaction can change
        self.transitions: list[Row] = []
        for rank, row_id in sorted(first):
            self.hold(metadata.tables[ORDER[rank]], [row_id])

    def now(self) -> float:
        """Unix time by the one clock that all replicas share: the database's; on SQLite this process', which never jumps."""
        if self._now is None:
            clock_ = sa.select(sa.extract("epoch", sa.func.clock_timestamp()))
            self._now = float(self.value(clock_)) if self._postgresql else clock.steady_s()
        return self._now

    def hold(self, table: sa.Table, row_ids: Iterable[str]) -> None:
        """Lock these rows, in order, until the transaction ends; OutOfOrder if one comes before what is locked already."""
        wanted = self._locks.wanted(table.name, row_ids)
        if wanted and self._postgresql:
            key = _key(table)
            query = sa.select(key).where(key.in_(wanted)).order_by(sa.collate(key, "C"))
            self.connection.execute(query.with_for_update(key_share=True)).all()

    def locking(self, table: sa.Table, row_id: str) -> None:
        """The next statement locks this row; OutOfOrder if it comes before what is locked already."""
        self._locks.wanted(table.name, [row_id])

    def all(self, statement: sa.Select[Any], **values: Any) -> list[Row]:
        """Every row, as a dictionary; `values` of the statement's bound parameters."""
        found = self.connection.execute(statement, values)
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
        self.locking(table, row_id)
        return self._first(_by_key(table, lock=True), {"row_id": row_id})

    def lock_free(self, table: sa.Table, row_id: str) -> Row | None:
        """The same, None if another transaction has it."""
        self.locking(table, row_id)
        return self._first(_by_key(table, lock=True, skip=True), {"row_id": row_id})

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
            key = _key(table).name
            self._locks.made(
                table.name, [row[key] for row in ([rows] if isinstance(rows, dict) else rows) if key in row]
            )

    def update(self, table: sa.Table, row_id: str, values: Mapping[str, Any]) -> None:
        """Change columns of one row."""
        if values:
            self.locking(table, row_id)
            self.connection.execute(sa.update(table).where(_key(table) == row_id).values(**values))

    def execute(self, statement: sa.Executable) -> int:
        """Run an UPDATE or DELETE; how many rows it met. The rows it meets are locked in order first."""
        if isinstance(statement, sa.Update | sa.Delete) and isinstance(statement.table, sa.Table):
            table, where = statement.table, statement.whereclause
            if table.name in RANK and where is not None:
                self.hold(table, self.column(sa.select(_key(table)).where(where)))
        return int(getattr(self.connection.execute(statement), "rowcount", 0))

    def some(self, statement: sa.Select[Any], column: sa.ColumnElement[Any], values: Iterable[Any]) -> list[Row]:
        """Every row with one of many values in a column: a statement has room for only so many parameters."""
        return [row for part in _parts(values) for row in self.all(statement.where(column.in_(part)))]

    def update_all(self, table: sa.Table, row_ids: Iterable[str], values: Mapping[str, Any]) -> None:
        """Change columns of many rows to the same values."""
        for part in _parts(row_ids):
            self.execute(sa.update(table).where(_key(table).in_(part)).values(**values))

    def update_each(self, table: sa.Table, rows: Sequence[Row], names: Iterable[str]) -> None:
        """Change these columns of many rows, each to its own values. For tables that nothing locks by row."""
        assert table.name not in RANK
        if rows:
            key, columns = _key(table), list(names)
            values = {name: sa.bindparam(f"new_{name}", type_=table.c[name].type) for name in columns}
            statement = sa.update(table).where(key == sa.bindparam("row_id")).values(values)
            self.connection.execute(
                statement, [{"row_id": row[key.name], **{f"new_{name}": row[name] for name in columns}} for row in rows]
            )

    def delete(self, table: sa.Table, row_ids: str | Iterable[str]) -> None:
        """Delete rows by primary key."""
        wanted = [row_ids] if isinstance(row_ids, str) else list(row_ids)
        if wanted:
            self.hold(table, wanted)
            self.connection.execute(sa.delete(table).where(_key(table).in_(wanted)))

    def touch(self, names: Iterable[str]) -> None:
        """Say that the desired sets of these hosts changed."""
        self.touched.update(names)

    def unsettle(self) -> None:
        """Say that pairs may have something to do now that hosts changed: the sweep looks around at once."""
        self.unsettled = True

    def _raise_revisions(self) -> None:
        if not self.touched:
            return
        names = sorted(self.touched)
        self.hold(hosts, names)
        self.connection.execute(sa.update(hosts).where(hosts.c.name.in_(names)).values(revision=hosts.c.revision + 1))


def _parts(values: Iterable[T]) -> Iterator[list[T]]:
    """As many values at a time as a statement takes."""
    wanted = list(values)
    return (wanted[start : start + PARAMETERS] for start in range(0, len(wanted), PARAMETERS))


@functools.cache
def _by_key(table: sa.Table, *, lock: bool = False, skip: bool = False) -> sa.Select[Any]:
    """Built once a table: most of what a call does is looking rows up, and building the question took half of it."""
    query = sa.select(table).where(_key(table) == sa.bindparam("row_id"))
    return query.with_for_update(key_share=True, skip_locked=skip) if lock else query


def _key(table: sa.Table) -> sa.ColumnElement[Any]:
    return next(iter(table.primary_key.columns))


class Store:
    """Runs functions of a transaction in threads: `read` may see, `write` may change."""

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        self.sqlite = self.url.get_backend_name() == "sqlite"
        self.changed: Callable[[frozenset[str]], None] = lambda _names: None
        self.happened: Callable[[Row], None] = lambda _transition: None
        self.unsettled: Callable[[], None] = lambda: None
        self.held: Callable[[float], None] = lambda _seconds: None  # processor time of each transaction that writes
        self.reserved: frozenset[str] = frozenset()
        if self.sqlite:
            self._writer = _sqlite_engine(self.url, "BEGIN IMMEDIATE", 2)
            self._reader = _sqlite_engine(self.url, "BEGIN", READERS + URGENT)
            self._write_pool = ThreadPoolExecutor(1, "writer")
            self._read_pool = ThreadPoolExecutor(READERS, "reader")
            self._urgent_write_pool = ThreadPoolExecutor(1, "urgent-writer")
            self._urgent_read_pool = ThreadPoolExecutor(URGENT, "urgent-reader")
            self._beater, self._beat_pool = self._writer, self._urgent_write_pool
        else:
            engine = _postgresql_engine(self.url, PG_WORKERS + URGENT)
            self._writer = self._reader = engine
            self._write_pool = self._read_pool = ThreadPoolExecutor(PG_WORKERS, "store")
            self._urgent_write_pool = self._urgent_read_pool = ThreadPoolExecutor(URGENT, "urgent")
            self._beater = _postgresql_engine(self.url, PG_BEATERS)
            self._beat_pool = ThreadPoolExecutor(PG_BEATERS, "beat")
        self._turn = _Turn()

    async def read(self, work: Callable[[Tx], T], *, urgent: bool = False) -> T:
        """Run `work` in a transaction that changes nothing."""
        pool = self._urgent_read_pool if urgent else self._read_pool
        return await asyncio.get_running_loop().run_in_executor(pool, self._run, self._reader, work)

    async def write(self, work: Callable[[Tx], T], *, urgent: bool = False) -> T:
        """Run `work` in a transaction and commit it; on an exception nothing of it remains."""
        pool = self._urgent_write_pool if urgent else self._write_pool
        return await asyncio.get_running_loop().run_in_executor(pool, self._write, work, urgent)

    def _write(self, work: Callable[[Tx], T], urgent: bool) -> T:
        with self._turn.taken(urgent=urgent) if self.sqlite else contextlib.nullcontext():
            began = clock.thread_s()
            try:
                return self._run(self._writer, work)
            finally:
                self.held(clock.thread_s() - began)

    async def beat(self, work: Callable[[Tx], T]) -> T:
        """The same for a sign of life, which waits for no other transaction (SQLite: for the one that writes now)."""
        if self.sqlite:
            return await self.write(work, urgent=True)
        return await asyncio.get_running_loop().run_in_executor(self._beat_pool, self._run, self._beater, work)

    def write_now(self, work: Callable[[Tx], T]) -> T:
        """The same from a thread that may block (start-up, tests)."""
        return self._run(self._writer, work)

    def _run(self, engine: sa.Engine, work: Callable[[Tx], T]) -> T:
        attempts, first = 0, frozenset[Key]()
        for _ in range(ATTEMPTS + RESTARTS):
            try:
                with engine.begin() as connection:
                    tx = Tx(connection, first, self.reserved)
                    result = work(tx)
                    tx._raise_revisions()
            except OutOfOrder as error:
                if error.keys <= first:
                    raise
                log.debug("locked_out_of_order", error=str(error))
                first |= error.keys
                continue
            except sa.exc.DBAPIError as error:
                attempts += 1
                if attempts == ATTEMPTS or not _worth_another_try(error):
                    raise
                continue
            for call in tx.after:
                call()
            for transition in tx.transitions:
                self.happened(transition)
            if tx.unsettled:
                self.unsettled()
            if tx.touched:
                self.changed(frozenset(tx.touched))
            return result
        raise AssertionError("each restart locks one row more first, and no transaction needs so many one by one")

    def close(self) -> None:
        """Wait for running transactions, then close every connection."""
        pools = (self._write_pool, self._read_pool, self._urgent_write_pool, self._urgent_read_pool, self._beat_pool)
        for pool in pools:
            pool.shutdown()
        for engine in (self._writer, self._reader, self._beater):
            engine.dispose()


class ForHosts:
    """The store as what hosts need uses it: with threads and connections of their own, and the next turn to write."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def read(self, work: Callable[[Tx], T]) -> T:
        """See `Store.read`."""
        return await self._store.read(work, urgent=True)

    async def write(self, work: Callable[[Tx], T]) -> T:
        """See `Store.write`."""
        return await self._store.write(work, urgent=True)

    async def beat(self, work: Callable[[Tx], T]) -> T:
        """See `Store.beat`."""
        return await self._store.beat(work)


class _Turn:
    """SQLite has one writer at a time; one that is urgent has the next turn."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._busy = False
        self._urgent = 0

    @contextlib.contextmanager
    def taken(self, *, urgent: bool) -> Iterator[None]:
        with self._changed:
            self._urgent += urgent
            self._changed.wait_for(lambda: not self._busy and (urgent or not self._urgent))
            self._urgent -= urgent
            self._busy = True
        try:
            yield
        finally:
            with self._changed:
                self._busy = False
                self._changed.notify_all()


def _worth_another_try(error: sa.exc.DBAPIError) -> bool:
    """PostgreSQL's serialization failure and deadlock, and two inserts that met on one unique key."""
    return getattr(error.orig, "sqlstate", None) in {"40001", "40P01", "23505"}


def _postgresql_engine(url: sa.URL, size: int) -> sa.Engine:
    from vrata.cloud.postgresql import Connection

    engine = sa.create_engine(
        url, pool_size=size, max_overflow=0, pool_pre_ping=True, isolation_level="READ COMMITTED",
        json_deserializer=msgspec.json.decode,
        connect_args={key: value for key, value in PG_LIVENESS.items() if key not in url.query},
    )  # fmt: skip

    @sa.event.listens_for(engine, "do_connect")
    def _connect(_dialect: object, _record: object, words: list[Any], named: dict[str, Any]) -> Connection:
        return Connection.connect(*words, **named)

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: object) -> None:
        connection.execute(f"SET idle_in_transaction_session_timeout = {PG_IDLE_MS}")
        connection.commit()

    return engine


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
