"""Where `vrata cloud` keeps its data: the options that say so, and files with one secret each."""

import contextlib
import ipaddress
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

import click

from vrata.base.errors import InvalidInput, VrataError
from vrata.cli import types

FILE = click.Path(dir_okay=False, path_type=Path)
DATABASE = click.option(
    "--database",
    type=types.DATABASE,
    envvar="VRATA_DATABASE",
    show_envvar=True,
    help="SQLAlchemy URL, e.g. postgresql+psycopg://user@host/vrata. One with a password comes from the environment or "
    "--database-file: everybody on the machine can read a command line.",
)
DATABASE_FILE = click.option("--database-file", type=FILE, help="File that holds the SQLAlchemy URL.")
DATA_DIR = click.option(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Directory of the SQLite database cloud.db."
)


SECRET_KEY_FILE = click.option(
    "--secret-key-file",
    type=FILE,
    help="Keys that seal the key manager's secrets, one a line; the first seals, all open. Default: the file DATA_DIR.key "
    "beside --data-dir, so that a copy of the directory does not open its secrets.",
)
HOST_CA = click.option("--host-ca", type=FILE, help="Certificate of the authority of hosts' certificates, in PEM.")


def existing_url(database: str | None, database_file: Path | None, data_dir: Path | None) -> str:
    """The address of a database that is there, and at the newest version."""
    from vrata.cloud import migrate as migrations
    from vrata.cloud import schema

    if data_dir is not None and database_file is None and not (data_dir / "cloud.db").exists():
        raise InvalidInput("--data-dir", str(data_dir), "name the directory that holds the cloud's database cloud.db")
    url = database_url(database, database_file, data_dir)
    found = migrations.current(url)
    if not migrations.fits(found, url):
        raise VrataError(
            f"the database is at {found or 'base'}, not at {schema.HEAD}", remedy="run `vrata cloud migrate` first"
        )
    return url


def database_url(database: str | None, database_file: Path | None, data_dir: Path | None, *, make: bool = True) -> str:
    """The database's address; a SQLite database is readable by its owner alone, whatever its directory is.

    Unless `make` is false, the directory is made, and for root the empty file, with the directory's owner.
    """
    if database is not None and _from_command_line("database"):
        _refuse_secrets(database)
    elif data_dir is not None or database_file is not None:
        database = None  # of the environment: what is said on the command line counts
    given = [one for one in (database, database_file, data_dir) if one is not None]
    if len(given) != 1:
        raise VrataError("which database?", remedy="give --database URL, --database-file FILE or --data-dir DIR")
    previous = os.umask(0o077)
    if database_file is not None:
        if not database_file.exists():
            raise InvalidInput("--database-file", str(database_file), "name a file that holds the URL")
        try:
            return str(types.DATABASE.convert(secret_of(database_file), None, None))
        except click.BadParameter as error:
            raise InvalidInput("--database-file", str(database_file), f"what is in the file {error.message}") from error
    if data_dir is None:
        return str(database)
    path = data_dir.absolute() / "cloud.db"
    if make:
        _make_database(path, previous)
    for suffix in ("", "-wal", "-shm"):
        keep_private(path.with_name(path.name + suffix))
    return f"sqlite:///{path}"


def _make_database(path: Path, umask: int) -> None:
    """The service may run as another user than whoever gives a command: root makes files that the service can open.

    What SQLite makes beside the database has its owner (SQLite: os_unix.c, findCreateFileMode).
    """
    directory = path.parent
    try:
        os.umask(umask)  # of the directories above, which others may have to pass
        directory.parent.mkdir(parents=True, exist_ok=True)
        os.umask(0o077)
        directory.mkdir(exist_ok=True, mode=0o700)
        if os.geteuid() == 0 and not path.exists():
            path.touch(mode=0o600)
            owner = directory.stat()
            os.chown(path, owner.st_uid, owner.st_gid)
    except OSError as error:
        remedy = "run this as the user of the service or as root, or name another directory"
        raise InvalidInput("--data-dir", str(directory), f"{remedy} ({error.strerror})") from error


def _from_command_line(parameter: str) -> bool:
    source = click.get_current_context().get_parameter_source(parameter)
    return source is click.core.ParameterSource.COMMANDLINE


# What of a URL's query libpq takes as a secret, and what other drivers call so (PostgreSQL manual, 34.1.2).
_SECRETS = frozenset(
    {"password", "passwd", "sslpassword", "oauth_client_secret", "scram_client_key", "scram_server_key"}
)


def _refuse_secrets(url: str) -> None:
    from sqlalchemy import make_url

    parsed = make_url(url)
    named = sorted(_SECRETS & {name.lower() for name in parsed.query})
    if parsed.password or named:
        raise VrataError(
            f"--database holds a password{f' ({named[0]})' if named else ''}, which everybody on this machine can read",
            remedy="give the URL in VRATA_DATABASE or --database-file",
        )


def keep_private(path: Path) -> None:
    """Mode 0600, if the file is there and ours."""
    with contextlib.suppress(OSError):
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def random_secret() -> str:
    return secrets.token_urlsafe(24)


def secret_of(path: Path, make: Callable[[], str] = random_secret) -> str:
    """The file's content, made at first use."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            path.write_text(make() + "\n")
        text = path.read_text().strip()
    except OSError as error:
        raise VrataError(f"{path}: {error.strerror}", remedy="name a file that can be made and read") from error
    if not text:
        raise VrataError(f"{path} is empty", remedy="write the secret into it, or remove it to have one made")
    return text


# What libpq takes as «over TLS, or not at all» (PostgreSQL manual, 34.1.2, `sslmode`).
_OVER_TLS = frozenset({"require", "verify-ca", "verify-full"})


def require_tls(url: str) -> None:
    """VrataError if a PostgreSQL on another machine is asked in plain text."""
    from sqlalchemy import make_url

    parsed = make_url(url)
    if parsed.get_backend_name() != "postgresql":
        return
    # libpq takes several of each, and what the URL lacks from the environment or a service's file (34.1.2, 34.15, 34.17).
    told = [parsed.host or "", *(_words(parsed.query, name) for name in ("host", "hostaddr"))]
    told += [os.environ.get(name, "") for name in ("PGHOST", "PGHOSTADDR")]
    service = _words(parsed.query, "service") or os.environ.get("PGSERVICE", "")
    remote = [
        one for text in told for one in text.split(",") if one and not one.startswith("/") and not _is_loopback(one)
    ]
    mode = _words(parsed.query, "sslmode") or os.environ.get("PGSSLMODE", "")
    if (remote or service) and mode not in _OVER_TLS:
        where = remote[0] if remote else f"service {service}"
        raise VrataError(
            f"PostgreSQL on {where} is asked without TLS (sslmode={mode or 'prefer'})",
            remedy="add ?sslmode=verify-full&sslrootcert=FILE to the URL, or give --insecure",
        )


def _words(query: Mapping[str, str | tuple[str, ...]], name: str) -> str:
    found = query.get(name, "")
    return found if isinstance(found, str) else ",".join(found)


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def file_content(option: str, path: Path) -> bytes:
    """VrataError names the option and why the file cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise VrataError(f"{option} {path}: {error.strerror}", remedy="name a file that can be read") from error


def key_file(given: Path | None, data_dir: Path | None) -> Path | None:
    """Beside the data directory, not in it; one that an older version has made in it stays in use."""
    if given is not None or data_dir is None:
        return given
    inside = data_dir / "secret.key"
    if inside.exists():
        import structlog

        structlog.get_logger().warning(
            "secret_key_beside_database", path=str(inside), remedy="move it away and give --secret-key-file"
        )
        return inside
    directory = data_dir.absolute()
    return directory.with_name(directory.name + ".key")
