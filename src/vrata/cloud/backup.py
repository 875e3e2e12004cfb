"""A cloud in one file: every row of its database, and its keys. Made from a running cloud, restored into an empty one.

The file is a tar archive. `manifest.json` comes last: a file without it is incomplete. Rows are lines of JSON, in the order of
their tables' references, so that a copy from SQLite goes into PostgreSQL and the other way round; the schema is the one that
the manifest names, and is migrated to the newest afterwards. What is read is one snapshot (SQLite: a transaction that reads;
PostgreSQL: REPEATABLE READ). What is written is one transaction: an interruption leaves the target as it was.
"""

import base64
import hashlib
import io
import json
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import IO, Any

import sqlalchemy as sa

from vrata import __version__
from vrata.base.errors import VrataError
from vrata.cloud import migrate, schema

FORMAT = 1
MANIFEST = "manifest.json"
ROWS = 500  # written at a time
COPY = 1 << 20  # bytes
_VERSION = "alembic_version"
_USERS = "users"  # a database without any has never been served from


@dataclass(frozen=True)
class Archive:
    """A backup that was read and is complete."""

    path: Path
    schema: str
    made: str
    tables: Mapping[str, int]  # rows of each
    files: tuple[str, ...]


def write(path: Path, url: str, files: Mapping[str, bytes]) -> Mapping[str, int]:
    """Write the database and these files into `path`, mode 0600, whole or not at all. Rows of each table."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as stream:
            beside = Path(stream.name)  # mode 0600 (tempfile)
            try:
                counts = _write(stream, url, files)
                stream.flush()
                os.fsync(stream.fileno())
                beside.rename(path)
            except BaseException:
                beside.unlink(missing_ok=True)
                raise
    except OSError as error:
        raise VrataError(f"{path}: not written ({error.strerror})", remedy="name a file that can be written") from error
    return counts


def _write(stream: IO[bytes], url: str, files: Mapping[str, bytes]) -> dict[str, int]:
    sums: dict[str, str] = {}
    counts: dict[str, int] = {}
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            sums[f"files/{name}"] = _add(archive, f"files/{name}", io.BytesIO(content))
        with _snapshot(url) as connection:
            found = str(connection.execute(sa.text(f"SELECT version_num FROM {_VERSION}")).scalar())
            for table in _tables(connection):
                with tempfile.TemporaryFile(dir=Path(stream.name).parent) as rows:
                    counts[table.name] = 0
                    for row in connection.execute(sa.select(table)).mappings():
                        rows.write(_encode(row))
                        counts[table.name] += 1
                    rows.seek(0)
                    sums[f"tables/{table.name}"] = _add(archive, f"tables/{table.name}", rows)
        made = datetime.now(UTC).isoformat(timespec="seconds")
        manifest = {
            "format": FORMAT, "vrata": __version__, "made": made, "schema": found, "tables": counts, "sha256": sums,
        }  # fmt: skip
        _add(archive, MANIFEST, io.BytesIO(json.dumps(manifest, indent=1).encode()))
    return counts


def _add(archive: tarfile.TarFile, name: str, stream: IO[bytes]) -> str:
    """The SHA-256 of what was added."""
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = stream.seek(0, os.SEEK_END), 0o600
    stream.seek(0)
    archive.addfile(entry, stream)
    stream.seek(0)
    return _sum(stream)


def _sum(stream: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while part := stream.read(COPY):
        digest.update(part)
    return digest.hexdigest()


def read(path: Path) -> Archive:
    """Look through a whole backup. VrataError if it is none, incomplete, damaged, or of a newer version."""
    remedy = "name a file of `vrata cloud backup`"
    sums: dict[str, str] = {}
    manifest: dict[str, Any] = {}
    try:
        with tarfile.open(path) as archive:
            for entry in archive:
                stream = archive.extractfile(entry)
                if stream is not None and entry.name == MANIFEST:
                    manifest = json.load(stream)
                elif stream is not None:
                    sums[entry.name] = _sum(stream)
    except (OSError, tarfile.TarError, ValueError) as error:
        said = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise VrataError(f"{path}: not a backup ({said})", remedy=remedy) from error
    if not manifest:
        raise VrataError(f"{path}: incomplete, it has no {MANIFEST}", remedy=remedy)
    if manifest["format"] > FORMAT or manifest["schema"] > schema.HEAD:
        raise VrataError(
            f"{path}: made by version {manifest['vrata']} with schema {manifest['schema']}, newer than this one knows "
            f"({schema.HEAD})",
            remedy=f"install vrata {manifest['vrata']}",
        )
    wrong = next((name for name, digest in manifest["sha256"].items() if sums.get(name) != digest), None)
    if wrong:
        raise VrataError(f"{path}: {wrong} is damaged", remedy="use another backup")
    names = tuple(name.removeprefix("files/") for name in sums if name.startswith("files/"))
    return Archive(path, manifest["schema"], manifest["made"], manifest["tables"], names)


def content_of(archive: Archive, name: str) -> bytes:
    """One of its files."""
    with tarfile.open(archive.path) as opened:
        stream = opened.extractfile(f"files/{name}")
        assert stream is not None
        return stream.read()


def in_use(url: str) -> bool:
    """Whether the database has users, which every cloud that was ever served has."""
    if migrate.current(url) is None:
        return False
    with _connected(url) as connection:
        users = sa.Table(_USERS, sa.MetaData(), autoload_with=connection)
        return connection.execute(sa.select(users).limit(1)).first() is not None


def restore(archive: Archive, url: str) -> None:
    """Replace all rows of the database, then bring it to the newest schema. What was in it is gone."""
    found = migrate.current(url)
    if found != archive.schema:
        migrate.migrate(url, archive.schema)
    with tarfile.open(archive.path) as opened, _connected(url, write=True) as connection:
        tables = _tables(connection)
        for table in reversed(tables):
            connection.execute(sa.delete(table))
        for table in tables:
            stream = opened.extractfile(f"tables/{table.name}") if table.name in archive.tables else None
            if stream is not None:
                _load(connection, table, stream)
    if archive.schema != schema.HEAD:
        migrate.migrate(url)


def _load(connection: sa.Connection, table: sa.Table, stream: IO[bytes]) -> None:
    readers = {column.name: _reader(column) for column in table.columns}
    batch: list[dict[str, Any]] = []

    def flush() -> None:
        if batch:
            connection.execute(sa.insert(table), batch)
            batch.clear()

    for line in stream:
        batch.append({name: readers[name](value) for name, value in json.loads(line).items()})
        if len(batch) == ROWS:
            flush()
    flush()
    counter = table.autoincrement_column
    if connection.dialect.name == "postgresql" and counter is not None:
        last = sa.select(sa.func.max(counter)).scalar_subquery()
        sequence = sa.func.pg_get_serial_sequence(table.name, counter.name)
        connection.execute(sa.select(sa.func.setval(sequence, sa.func.coalesce(last, 0) + 1, sa.false())))


def _tables(connection: sa.Connection) -> list[sa.Table]:
    """As the database has them, which may be of an older schema; those that others refer to come first."""
    found = sa.MetaData()
    found.reflect(connection)
    tables = [table for table in found.sorted_tables if table.name != _VERSION]
    for column in (column for table in tables for column in table.columns):
        if isinstance(column.type, sa.JSON):
            column.type = sa.JSON(none_as_null=True)
    return tables


def _encode(row: Mapping[Any, Any]) -> bytes:
    return json.dumps(dict(row), default=_plain, separators=(",", ":")).encode() + b"\n"


def _plain(value: object) -> str:
    if isinstance(value, datetime | date):
        return value.isoformat()
    assert isinstance(value, bytes | memoryview), type(value)
    return base64.b64encode(value).decode()


def _reader(column: sa.Column[Any]) -> Callable[[Any], Any]:
    """What turns a value of the file into one of the column."""
    if isinstance(column.type, sa.DateTime):
        return lambda value: None if value is None else datetime.fromisoformat(value)
    if isinstance(column.type, sa.LargeBinary):
        return lambda value: None if value is None else base64.b64decode(value)
    return lambda value: value


class _Connected:
    """A connection in one transaction."""

    def __init__(self, url: str, begin: str, isolation: str | None) -> None:
        parsed = sa.make_url(url)
        self._sqlite = parsed.get_backend_name() == "sqlite"
        options: dict[str, Any] = {} if self._sqlite or isolation is None else {"isolation_level": isolation}
        self._engine = sa.create_engine(url, **options)
        self._begin = begin

    def __enter__(self) -> sa.Connection:
        self._connection = self._engine.connect()
        if self._sqlite:
            driver = self._connection.connection.driver_connection
            assert driver is not None
            driver.isolation_level = None  # the driver must not begin transactions of its own
            self._connection.exec_driver_sql("PRAGMA foreign_keys=ON")
            self._connection.exec_driver_sql(self._begin)
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, *_rest: object) -> None:
        try:
            if kind is None:
                self._connection.commit()
            else:
                self._connection.rollback()
        finally:
            self._connection.close()
            self._engine.dispose()


def _connected(url: str, *, write: bool = False) -> _Connected:
    return _Connected(url, "BEGIN IMMEDIATE" if write else "BEGIN", None)


def _snapshot(url: str) -> _Connected:
    return _Connected(url, "BEGIN", "REPEATABLE READ")


def lines(archive: Archive) -> Iterator[str]:
    """What there is in it, for people."""
    yield f"made {archive.made}, schema {archive.schema}, {sum(archive.tables.values())} rows"
