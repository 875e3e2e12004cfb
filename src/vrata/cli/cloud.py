"""`vrata cloud`: serves the OpenStack-compatible APIs, and looks after their database, passwords and keys."""

import contextlib
import os
import secrets
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

import click

from vrata.base import log
from vrata.base.errors import InvalidInput, VrataError
from vrata.cli import types
from vrata.cloud.settings import BALANCING_QUOTAS, NEUTRON_QUOTAS

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


def _service_types() -> list[str]:
    from vrata.cloud.identity.catalog import SERVICES

    return [kind for kind, _, _ in SERVICES]


@click.group()
def command() -> None:
    """Serve the OpenStack-compatible APIs under one address: Keystone v3, Neutron v2.0, Octavia v2, Barbican v1."""


@command.command()
@DATABASE
@DATABASE_FILE
@DATA_DIR
@click.option("--yes", is_flag=True, help="Do not ask before tables and columns are removed.")
@click.argument("revision", type=types.REVISION, default="head")
def migrate(
    *, database: str | None, database_file: Path | None, data_dir: Path | None, yes: bool, revision: str
) -> None:
    """Bring the database to REVISION (default: the newest; `base` removes everything).

    An older revision removes what newer ones have added, with its data; the command asks first.
    """
    from vrata.cloud import migrate as migrations

    url = _url(database, database_file, data_dir)
    found = migrations.current(url)
    if migrations.is_older(revision, found) and not yes:
        _confirm(f"The database is at {found}. {revision} removes tables or columns with all that they hold. Continue?")
    migrations.migrate(url, revision)
    click.echo(f"database is at {migrations.current(url) or 'base'}")


def _confirm(question: str) -> None:
    try:
        click.confirm(question, abort=True)
    except click.Abort as error:
        raise VrataError("nothing was changed", remedy="answer y, or give --yes") from error


@command.command("reset-password", epilog="Example: vrata cloud reset-password --data-dir /var/lib/vrata/cloud")
@DATABASE
@DATABASE_FILE
@DATA_DIR
@click.option("--user", type=types.WORD, default="admin", show_default=True)
@click.option("--domain", type=types.WORD, default="default", show_default=True, help="Id of the user's domain.")
@click.option("--password-file", type=FILE, help="File with the new password. Default: a random one, printed.")
def reset_password(
    *, database: str | None, database_file: Path | None, data_dir: Path | None, user: str, domain: str,
    password_file: Path | None,
) -> None:  # fmt: skip
    """Give a user a new password, enable it, and end all of its tokens."""
    from vrata.cloud.identity import bootstrap, passwords
    from vrata.cloud.store import Store

    if password_file is not None and not password_file.exists():
        raise VrataError(f"--password-file {password_file}: no such file", remedy="write the new password into it")
    url = _existing(database, database_file, data_dir)
    password = _secret(password_file) if password_file else _random()
    if len(password) > passwords.SECRET_MAX:
        raise VrataError(f"the password is longer than {passwords.SECRET_MAX} characters")
    hashed = passwords.hash_secret(password)
    store = Store(url)
    try:
        found = store.write_now(lambda tx: bootstrap.reset(tx, user, domain, hashed))
    finally:
        store.close()
    if found is None:
        raise VrataError(f"there is no user {user} in domain {domain}", remedy="give --user and --domain")
    click.echo(f"{user} has a new password, and no token any more")
    if password_file is None:
        click.echo(password)


@command.command(
    epilog="To retire a key: put a new one first in the key file, restart every `vrata cloud`, reseal, remove the old "
    "key from the file, restart again."
)
@DATABASE
@DATABASE_FILE
@DATA_DIR
@SECRET_KEY_FILE
def reseal(
    *, database: str | None, database_file: Path | None, data_dir: Path | None, secret_key_file: Path | None
) -> None:
    """Seal every secret of the key manager again, with the first key of the key file."""
    from vrata.cloud.keymanager import reseal as sealed
    from vrata.cloud.keymanager.vault import Vault
    from vrata.cloud.store import Store

    path = _key_file(secret_key_file, data_dir)
    if path is None or not path.exists():
        raise VrataError(f"no key file{f' at {path}' if path else ''}", remedy="give --secret-key-file")
    store = Store(_existing(database, database_file, data_dir))
    try:
        count = sealed.reseal(store, Vault(_secret(path).split()))
    finally:
        store.close()
    click.echo(f"{count} sealed with the first key of {path}")


@command.command()
@DATABASE
@DATABASE_FILE
@DATA_DIR
@click.option(
    "--listen", type=types.LISTEN, multiple=True, metavar="HOST:PORT", help="Address to listen on; repeatable."
)
@click.option("--listen-fd", type=types.DESCRIPTOR, multiple=True, help="Inherited listening socket; repeatable.")
@click.option(
    "--agent-listen",
    type=types.LISTEN,
    multiple=True,
    metavar="HOST:PORT",
    help="Address for hosts alone, which nobody else should reach; repeatable. Without it, hosts use --listen.",
)
@click.option(
    "--agent-listen-fd", type=types.DESCRIPTOR, multiple=True, help="Inherited listening socket for hosts; repeatable."
)
@click.option(
    "--connections-per-address",
    type=click.IntRange(1, 1_000_000),
    default=256,
    show_default=True,
    help="More from one client address (IPv6: one /64) are answered with 429. Raise it behind a proxy.",
)
@click.option("--admin-password-file", type=FILE, help="First password of admin; later see `reset-password`.")
@click.option("--demo-password-file", type=FILE, help="First password of demo.")
@click.option("--host-secret-file", type=FILE, help="Secret shared with the hosts.")
@SECRET_KEY_FILE
@click.option(
    "--audit-log",
    type=FILE,
    help="File for one line of JSON for each write and each refusal. Default: standard error.",
)
@click.option("--request-log", is_flag=True, help="Write such a line for every other request, too.")
@click.option(
    "--public-url", type=types.URL, default="", help="Address in the catalog; without it, the one each request came by."
)
@click.option("--region", type=types.WORD, default="RegionOne", show_default=True)
@click.option(
    "--endpoint",
    type=types.endpoint(_service_types),
    multiple=True,
    metavar="TYPE=URL",
    help="Name another's address in the catalog, e.g. load-balancer=http://octavia.example:9876; repeatable.",
)
@click.option(
    "--password-cost",
    default=14,
    show_default=True,
    type=click.IntRange(4, 20),
    help="Of new password hashes: log2 of scrypt's N.",
)
@click.option(
    "--token-life-s",
    type=click.IntRange(1, 10 * 365 * 86400),
    default=24 * 3600,
    show_default=True,
    help="Of new tokens.",
)
@click.option("--advert-interval-ms", default=100, show_default=True, type=click.IntRange(10, 40950))
@click.option(
    "--host-timeout-s",
    type=types.seconds(1.0, 3600.0),
    default=5.0,
    show_default=True,
    help="A host silent for longer is dead.",
)
@click.option(
    "--rbac",
    default="default",
    show_default=True,
    type=click.Choice(["default", "keystone", "advanced", "owner"]),
    help="Whose roles balancing asks for: Keystone's or load-balancer_* (default), only the former, only the latter, "
    "or none in one's own project.",
)
@click.option("--noop", is_flag=True, help="No hosts and no network: the balancing API alone, for conformance tests.")
@click.option(
    "--network-quota",
    type=types.quota([name for name, _ in NEUTRON_QUOTAS], ("none", "neutron")),
    multiple=True,
    metavar="RESOURCE=N",
    help="How many networks, ports, … a project may have unless it has limits of its own; repeatable. "
    "-1: no limit; `none` stands for all of them. Default: Neutron's own.",
)
@click.option(
    "--balancing-quota",
    type=types.quota([name for name, _ in BALANCING_QUOTAS], ("none", "octavia")),
    multiple=True,
    metavar="RESOURCE=N",
    help="Likewise for loadbalancer, listener, pool, … Default: Octavia's own, no limit.",
)
def serve(
    *,
    database: str | None,
    database_file: Path | None,
    data_dir: Path | None,
    listen: tuple[str, ...],
    listen_fd: tuple[int, ...],
    agent_listen: tuple[str, ...],
    agent_listen_fd: tuple[int, ...],
    connections_per_address: int,
    admin_password_file: Path | None,
    demo_password_file: Path | None,
    host_secret_file: Path | None,
    secret_key_file: Path | None,
    audit_log: Path | None,
    request_log: bool,
    public_url: str,
    region: str,
    endpoint: tuple[str, ...],
    password_cost: int,
    token_life_s: int,
    advert_interval_ms: int,
    host_timeout_s: float,
    rbac: str,
    noop: bool,
    network_quota: tuple[str, ...],
    balancing_quota: tuple[str, ...],
) -> None:
    """Serve the APIs until SIGTERM; a SQLite database is migrated first.

    Secret files that do not exist are made, with random content; password files, too, if the user has no password yet.
    Without --demo-password-file the user demo has no password and cannot log in.
    """
    from vrata.cloud import migrate as migrations
    from vrata.cloud import schema
    from vrata.cloud.audit import Audit
    from vrata.cloud.identity.bootstrap import bootstrap
    from vrata.cloud.keymanager import material
    from vrata.cloud.keymanager.vault import Vault, new_key
    from vrata.cloud.settings import Settings
    from vrata.cloud.store import Store

    log.configure()
    url = _url(database, database_file, data_dir)
    found = migrations.current(url)
    if found != schema.HEAD:
        if not url.startswith("sqlite"):
            raise VrataError(
                f"the database is at {found or 'base'}, not at {schema.HEAD}", remedy="run `vrata cloud migrate`"
            )
        _migrate_apart(url)
    key_file = _key_file(secret_key_file, data_dir)
    keys = tuple(_secret(key_file, new_key).split()) if key_file else ()
    if key_file:
        _keep_private(key_file)
    Vault(keys)  # refuses a malformed key now, not at the first secret
    settings = Settings(
        public_url=public_url,
        region=region,
        endpoints=tuple((kind, url) for kind, _, url in (one.partition("=") for one in endpoint)),
        password_cost=password_cost,
        token_life_s=token_life_s,
        host_secret=_secret(host_secret_file) if host_secret_file else "",
        secret_keys=keys,
        advert_interval_ms=advert_interval_ms,
        host_timeout_s=host_timeout_s,
        rbac=rbac,
        noop=noop,
        network_quotas=_quotas(network_quota, NEUTRON_QUOTAS),
        balancing_quotas=_quotas(balancing_quota, BALANCING_QUOTAS),
    )
    audit = Audit(audit_log, requests=request_log)
    store = Store(url)
    admin = partial(_secret, admin_password_file) if admin_password_file else None
    demo = partial(_secret, demo_password_file) if demo_password_file else None
    store.write_now(lambda tx: bootstrap(tx, admin, demo, password_cost))
    material.read_used(store, keys)
    tenants, agents = _sockets("--listen", listen, listen_fd), _sockets("--agent-listen", agent_listen, agent_listen_fd)
    if not tenants:
        raise VrataError("nothing to listen on", remedy="give --listen HOST:PORT or --listen-fd N")
    import uvloop

    from vrata.cloud.server import Listeners, run
    from vrata.cloud.service import Service

    try:
        uvloop.run(run(Service(store, settings, audit), Listeners(tenants, agents, connections_per_address)))
    finally:
        store.close()


def _sockets(option: str, addresses: tuple[str, ...], descriptors: tuple[int, ...]) -> list[socket.socket]:
    return [*(_listen(option, address) for address in addresses), *(_inherited(option, fd) for fd in descriptors)]


def _inherited(option: str, descriptor: int) -> socket.socket:
    try:
        return socket.socket(fileno=descriptor)
    except OSError as error:
        remedy = "give the number of an open socket that this process inherits"
        raise InvalidInput(f"{option}-fd", descriptor, remedy) from error


Quotas = tuple[tuple[str, int], ...]


def _quotas(given: tuple[str, ...], defaults: Quotas) -> Quotas:
    """What the options say; later ones win."""
    out = dict(defaults)
    for word in given:
        name, _, number = word.partition("=")
        if word == "none":
            out = dict.fromkeys(out, -1)
        elif number:
            out[name] = int(number)
        else:
            out = dict(defaults)
    return tuple(out.items())


def _migrate_apart(url: str) -> None:
    """Migrate in a child process: Alembic's 15 MiB end with it. (Forked before there is any thread.)"""
    import multiprocessing

    from vrata.cloud import migrate as migrations

    child = multiprocessing.get_context("fork").Process(target=migrations.migrate, args=(url,))
    child.start()
    child.join()
    if child.exitcode:
        raise VrataError("the database could not be migrated", remedy="see the lines above")


def _existing(database: str | None, database_file: Path | None, data_dir: Path | None) -> str:
    """The address of a database that is there, and at the newest version."""
    from vrata.cloud import migrate as migrations
    from vrata.cloud import schema

    if data_dir is not None and database_file is None and not (data_dir / "cloud.db").exists():
        raise InvalidInput("--data-dir", str(data_dir), "name the directory that holds the cloud's database cloud.db")
    url = _url(database, database_file, data_dir)
    found = migrations.current(url)
    if found != schema.HEAD:
        raise VrataError(
            f"the database is at {found or 'base'}, not at {schema.HEAD}", remedy="run `vrata cloud migrate` first"
        )
    return url


def _url(database: str | None, database_file: Path | None, data_dir: Path | None) -> str:
    """The database's address; a SQLite database is readable by its owner alone, whatever its directory is."""
    if database is not None and _from_command_line("database"):
        _refuse_secrets(database)
    elif data_dir is not None or database_file is not None:
        database = None  # of the environment: what is said on the command line counts
    given = [one for one in (database, database_file, data_dir) if one is not None]
    if len(given) != 1:
        raise VrataError("which database?", remedy="give --database URL, --database-file FILE or --data-dir DIR")
    os.umask(0o077)
    if database_file is not None:
        if not database_file.exists():
            raise InvalidInput("--database-file", str(database_file), "name a file that holds the URL")
        try:
            return str(types.DATABASE.convert(_secret(database_file), None, None))
        except click.BadParameter as error:
            raise InvalidInput("--database-file", str(database_file), f"what is in the file {error.message}") from error
    if data_dir is None:
        return str(database)
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = data_dir.absolute() / "cloud.db"
    for suffix in ("", "-wal", "-shm"):
        _keep_private(path.with_name(path.name + suffix))
    return f"sqlite:///{path}"


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


def _keep_private(path: Path) -> None:
    """Mode 0600, if the file is there and ours."""
    with contextlib.suppress(OSError):
        if path.stat().st_mode & 0o077:
            path.chmod(0o600)


def _key_file(given: Path | None, data_dir: Path | None) -> Path | None:
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


def _random() -> str:
    return secrets.token_urlsafe(24)


def _secret(path: Path, make: Callable[[], str] = _random) -> str:
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


def _listen(option: str, address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family, backlog=1024)
    except (OSError, ValueError, OverflowError) as error:
        raise VrataError(f"{option} {address}: {error}", remedy="give HOST:PORT of a free port") from error
