"""Brings a database to a schema version, on SQLite and PostgreSQL, with Alembic.

Alembic is imported only when there is something to migrate: it costs more time than the whole start of the service.
"""

from pathlib import Path

import sqlalchemy as sa

from vrata.base.errors import VrataError
from vrata.cloud import schema


def metadata() -> sa.MetaData:
    """The whole schema: importing the tables registers them."""
    from vrata.cloud.balancing import tables as _balancing  # noqa: F401
    from vrata.cloud.compute import tables as _compute  # noqa: F401
    from vrata.cloud.identity import tables as _identity  # noqa: F401
    from vrata.cloud.keymanager import tables as _keymanager  # noqa: F401
    from vrata.cloud.network import tables as _network  # noqa: F401

    return schema.metadata


def current(url: str) -> str | None:
    """The version the database is at, None for an empty one."""
    return _ask(url, "alembic_version", "SELECT version_num FROM alembic_version")


def fits(found: str | None, url: str) -> bool:
    """Whether this program may use a database of this version: its own, or a newer one that says so (migration 0013)."""
    if found is None or found <= schema.HEAD:
        return found == schema.HEAD
    return (_ask(url, "databases", "SELECT least FROM databases") or found) <= schema.HEAD


def _ask(url: str, table: str, query: str) -> str | None:
    """One value of a table; None if there is no such table. It makes no file."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite" and not Path(parsed.database or "").exists():
        return None
    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            if not sa.inspect(connection).has_table(table):
                return None
            version = connection.execute(sa.text(query)).scalar()
            return None if version is None else str(version)
    except sa.exc.DBAPIError as error:
        raise VrataError(f"database {shown(url)}: {_first_line(error)}", remedy="check --database") from error
    finally:
        engine.dispose()


def shown(url: str) -> str:
    """A database's address without what may be secret in it."""
    parsed = sa.make_url(url)
    return parsed._replace(username=None, password=None, query=sa.util.EMPTY_DICT).render_as_string()


def _first_line(error: sa.exc.DBAPIError) -> str:
    return str(error.orig).partition("\n")[0]


def migrate(url: str, target: str = "head") -> None:
    """Upgrade (or, given an older version or `base`, downgrade) to `target`."""
    from alembic import command
    from alembic.util import CommandError

    try:
        _with_config(url, lambda config: _move(command, config, target, url))
    except CommandError as error:
        raise VrataError(f"revision {target}: {error}", remedy=f"the newest is {schema.HEAD}") from error


def is_older(target: str, found: str | None) -> bool:
    """Whether going from `found` to `target` removes something."""
    return found is not None and (
        target == "base" or target.startswith("-") or (target[:1].isdigit() and found > target)
    )


def difference(url: str) -> list[object]:
    """What autogenerate would still change: empty when the migrations and the tables agree."""
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    engine = sa.create_engine(url)
    try:
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"render_as_batch": True})
            return list(compare_metadata(context, metadata()))
    finally:
        engine.dispose()


def _move(command: object, config: object, target: str, url: str) -> None:
    getattr(command, "downgrade" if is_older(target, current(url)) else "upgrade")(config, target)


def _with_config(url: str, work: object) -> None:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            config.attributes["connection"] = connection
            assert callable(work)
            work(config)
    finally:
        engine.dispose()
