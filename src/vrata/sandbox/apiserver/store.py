"""Objects in SQLite, with every object's encoded form in memory for reads and a bounded history for watches.

One thread (the event loop's) reads, decides and writes, so a request is one critical section. A write is committed
to the write-ahead log before it is visible or answered; a killed process loses nothing. `synchronous=NORMAL`: a power
cut may lose the last moments, like everything else on the sandbox's machine. The store knows no kinds.
"""

import bisect
import contextlib
import sqlite3
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from vrata.sandbox.apiserver.errors import Obj, gone, internal

HISTORY = 4096  # events kept for clients that resume a watch
PRUNE_EVERY = 512
encode = msgspec.json.encode
decode: Callable[[bytes], Any] = msgspec.json.decode

_DDL = """
CREATE TABLE IF NOT EXISTS objects (
  resource TEXT NOT NULL, namespace TEXT NOT NULL, name TEXT NOT NULL, rv INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (resource, namespace, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (
  rv INTEGER PRIMARY KEY, type TEXT NOT NULL, resource TEXT NOT NULL, namespace TEXT NOT NULL, data BLOB NOT NULL,
  previous BLOB);
"""

Key = tuple[str, str]  # namespace, name


@dataclass(slots=True, frozen=True)
class Record:
    """One stored object: `raw` is its JSON; `owners` the uids of its ownerReferences."""

    resource: str
    key: Key
    rv: int
    uid: str
    owners: tuple[str, ...]
    raw: bytes

    def load(self) -> Obj:
        """A fresh copy that the caller may change."""
        obj: Obj = decode(self.raw)
        return obj


@dataclass(slots=True, frozen=True)
class Event:
    """One change. `previous` is the object before it, if known."""

    rv: int
    type: str  # ADDED, MODIFIED, DELETED
    resource: str
    namespace: str
    raw: bytes
    previous: bytes | None


class _Bucket:
    """The objects of one resource, with sorted keys made on demand."""

    __slots__ = ("_keys", "records")

    def __init__(self) -> None:
        self.records: dict[Key, Record] = {}
        self._keys: list[Key] | None = None

    def keys(self) -> list[Key]:
        if self._keys is None:
            self._keys = sorted(self.records)
        return self._keys

    def put(self, record: Record) -> None:
        if record.key not in self.records and self._keys is not None:
            bisect.insort(self._keys, record.key)
        self.records[record.key] = record

    def drop(self, key: Key) -> None:
        if self.records.pop(key, None) is not None and self._keys is not None:
            index = bisect.bisect_left(self._keys, key)
            del self._keys[index]


def _record(resource: str, obj: Obj, raw: bytes, rv: int) -> Record:
    meta = obj["metadata"]
    owners = tuple(reference["uid"] for reference in meta.get("ownerReferences") or ())
    return Record(resource, (meta.get("namespace", ""), meta["name"]), rv, meta["uid"], owners, raw)


Listener = Callable[[Event], None]


class Store:
    """The only owner of the database; see the module's docstring."""

    def __init__(self, path: Path, history: int = HISTORY) -> None:
        self._limit = history
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        self._db.execute("PRAGMA cache_size=-2048")
        self._db.executescript(_DDL)
        self._buckets: dict[str, _Bucket] = {}
        self._history: deque[Event] = deque(maxlen=history)
        self._listeners: dict[str, set[Listener]] = {}
        self.uids: dict[str, tuple[str, Key]] = {}
        self.dependents: dict[str, set[tuple[str, Key]]] = {}
        self.on_write: list[Callable[[Event, Record, Record | None], None]] = []
        self.rv = 0
        self.horizon = 0  # a watch can start at this resource version or later
        self._load()

    def _load(self) -> None:
        rows = self._db.execute("SELECT resource, rv, data FROM objects")
        for resource, rv, raw in rows:
            self._remember(_record(resource, decode(raw), raw, rv))
            self.rv = max(self.rv, rv)
        events = self._db.execute(
            "SELECT rv, type, resource, namespace, data, previous FROM events ORDER BY rv DESC LIMIT ?", (self._limit,)
        ).fetchall()
        for row in reversed(events):
            self._history.append(Event(*row))
        if self._history:
            self.rv = max(self.rv, self._history[-1].rv)
        if len(self._history) == self._limit:  # otherwise nothing was ever pruned
            self.horizon = self._history[0].rv - 1
        self.rv = max(self.rv, 1)

    def _remember(self, record: Record) -> None:
        old = self.get(record.resource, *record.key)
        if old is not None:
            self._forget_owners(old)
        self._buckets.setdefault(record.resource, _Bucket()).put(record)
        self.uids[record.uid] = (record.resource, record.key)
        for owner in record.owners:
            self.dependents.setdefault(owner, set()).add((record.resource, record.key))

    def _forget_owners(self, record: Record) -> None:
        for owner in record.owners:
            held = self.dependents.get(owner)
            if held is not None:
                held.discard((record.resource, record.key))
                if not held:
                    del self.dependents[owner]

    def get(self, resource: str, namespace: str, name: str) -> Record | None:
        """One object, or None."""
        bucket = self._buckets.get(resource)
        return bucket.records.get((namespace, name)) if bucket else None

    def scan(self, resource: str, namespace: str = "", after: Key | None = None) -> Iterator[Record]:
        """The objects of a resource in order of namespace and name, all namespaces if empty, after a key if given."""
        bucket = self._buckets.get(resource)
        if bucket is None:
            return
        keys = bucket.keys()
        start = bisect.bisect_right(keys, after) if after else bisect.bisect_left(keys, (namespace, ""))
        for key in keys[start:]:
            if namespace and key[0] != namespace:
                break
            yield bucket.records[key]

    def resources_in(self, namespace: str) -> list[str]:
        """Resources that have an object in the namespace."""
        return [name for name in list(self._buckets) if next(self.scan(name, namespace), None) is not None]

    def put(self, resource: str, obj: Obj) -> Record:
        """Create or replace an object; sets its resourceVersion. ApiError 500 if it can not be written."""
        rv = self.rv + 1
        obj["metadata"]["resourceVersion"] = str(rv)
        raw = encode(obj)
        record = _record(resource, obj, raw, rv)
        old = self.get(resource, *record.key)
        event = Event(rv, "MODIFIED" if old else "ADDED", resource, record.key[0], raw, old.raw if old else None)
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?)", (resource, *record.key, rv, raw))
            self._write_event(db, event)
        self.rv = rv
        self._remember(record)
        self._publish(event, record, old)
        return record

    def delete(self, record: Record) -> Obj:
        """Remove an object; returns its last state under the resourceVersion of the deletion."""
        rv = self.rv + 1
        obj = record.load()
        obj["metadata"]["resourceVersion"] = str(rv)
        event = Event(rv, "DELETED", record.resource, record.key[0], encode(obj), record.raw)
        with self._transaction() as db:
            db.execute(
                "DELETE FROM objects WHERE resource=? AND namespace=? AND name=?", (record.resource, *record.key)
            )
            self._write_event(db, event)
        self.rv = rv
        self._buckets[record.resource].drop(record.key)
        self.uids.pop(record.uid, None)
        self._forget_owners(record)
        self._publish(event, record, record)
        return obj

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield self._db
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise internal(f"the store could not be written: {error}; nothing was changed, reads continue") from error

    def _write_event(self, db: sqlite3.Connection, event: Event) -> None:
        db.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)",
            (event.rv, event.type, event.resource, event.namespace, event.raw, event.previous),
        )
        if event.rv % PRUNE_EVERY == 0 and len(self._history) == self._limit:
            db.execute("DELETE FROM events WHERE rv < ?", (self._history[0].rv,))

    def _publish(self, event: Event, record: Record, old: Record | None) -> None:
        if len(self._history) == self._limit:
            self.horizon = self._history[0].rv
        self._history.append(event)
        for listener in tuple(self._listeners.get(event.resource, ())):
            listener(event)
        for hook in self.on_write:
            hook(event, record, old)

    def events_since(self, resource: str, rv: int) -> list[Event]:
        """The changes of a resource after `rv`; ApiError 410 if some are no longer known."""
        if rv < self.horizon:
            raise gone(f"too old resource version: {rv} ({self.horizon})")
        found = []
        for event in reversed(self._history):
            if event.rv <= rv:
                break
            if event.resource == resource:
                found.append(event)
        found.reverse()
        return found

    def subscribe(self, resource: str, listener: Listener) -> Callable[[], None]:
        """Call `listener` with every change of a resource, until the returned function is called."""
        listeners = self._listeners.setdefault(resource, set())
        listeners.add(listener)
        return lambda: listeners.discard(listener)

    def close(self) -> None:
        """Write the log back into the database and close it."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()
