"""`vrata cloud`: serves the OpenStack-compatible APIs, or migrates their database."""

import secrets
import socket
from collections.abc import Callable
from pathlib import Path

import click

from vrata.base import log
from vrata.base.errors import VrataError

DATABASE = click.option("--database", help="SQLAlchemy URL, e.g. postgresql+psycopg://user@host/vrata.")
DATA_DIR = click.option(
    "--data-dir", type=click.Path(file_okay=False, path_type=Path), help="Directory of the SQLite database cloud.db."
)


@click.group()
def command() -> None:
    """Serve the OpenStack-compatible APIs under one address: Keystone v3, Neutron v2.0, Octavia v2, Barbican v1."""


@command.command()
@DATABASE
@DATA_DIR
@click.argument("revision", default="head")
def migrate(database: str | None, data_dir: Path | None, revision: str) -> None:
    """Bring the database to REVISION (default: the newest; `base` removes everything)."""
    from vrata.cloud import migrate as migrations

    url = _url(database, data_dir)
    migrations.migrate(url, revision)
    click.echo(f"database is at {migrations.current(url) or 'base'}")


@command.command()
@DATABASE
@DATA_DIR
@click.option("--listen", multiple=True, metavar="HOST:PORT", help="Address to listen on; repeatable.")
@click.option("--listen-fd", multiple=True, type=int, help="Inherited listening socket; repeatable.")
@click.option("--admin-password-file", type=click.Path(dir_okay=False, path_type=Path), help="Password of admin.")
@click.option("--demo-password-file", type=click.Path(dir_okay=False, path_type=Path), help="Password of demo.")
@click.option(
    "--host-secret-file", type=click.Path(dir_okay=False, path_type=Path), help="Secret shared with the hosts."
)
@click.option(
    "--secret-key-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Keys that seal the key manager's secrets, one a line; the first seals, all open. "
    "Default: secret.key in --data-dir.",
)
@click.option("--public-url", default="", help="Address in the catalog; without it, the one each request came by.")
@click.option("--region", default="RegionOne", show_default=True)
@click.option(
    "--endpoint",
    multiple=True,
    metavar="TYPE=URL",
    help="Name another's address in the catalog, e.g. load-balancer=http://octavia.example:9876; repeatable.",
)
@click.option("--token-life-s", default=24 * 3600, show_default=True, type=click.IntRange(1), help="Of new tokens.")
@click.option("--advert-interval-ms", default=100, show_default=True, type=click.IntRange(10, 40950))
@click.option("--host-timeout-s", default=2.0, show_default=True, help="A host silent for longer is dead.")
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
    multiple=True,
    metavar="RESOURCE=N",
    help="How many networks, ports, … a project may have unless it has limits of its own; repeatable. "
    "`neutron` stands for all of Neutron's own defaults. Default: no limit.",
)
def serve(
    *,
    database: str | None,
    data_dir: Path | None,
    listen: tuple[str, ...],
    listen_fd: tuple[int, ...],
    admin_password_file: Path | None,
    demo_password_file: Path | None,
    host_secret_file: Path | None,
    secret_key_file: Path | None,
    public_url: str,
    region: str,
    endpoint: tuple[str, ...],
    token_life_s: int,
    advert_interval_ms: int,
    host_timeout_s: float,
    rbac: str,
    noop: bool,
    network_quota: tuple[str, ...],
) -> None:
    """Serve the APIs until SIGTERM; a SQLite database is migrated first.

    Password and secret files that do not exist are made, with random content. Without --demo-password-file the user
    demo has no password and can not log in.
    """
    from vrata.cloud import migrate as migrations
    from vrata.cloud import schema
    from vrata.cloud.identity.bootstrap import bootstrap
    from vrata.cloud.keymanager.vault import Vault, new_key
    from vrata.cloud.settings import Settings
    from vrata.cloud.store import Store

    log.configure()
    url = _url(database, data_dir)
    found = migrations.current(url)
    if found != schema.HEAD:
        if not url.startswith("sqlite"):
            raise VrataError(
                f"the database is at {found or 'base'}, not at {schema.HEAD}", remedy="run `vrata cloud migrate`"
            )
        _migrate_apart(url)
    key_file = secret_key_file or (data_dir / "secret.key" if data_dir else None)
    keys = tuple(_secret(key_file, new_key).split()) if key_file else ()
    Vault(keys)  # refuses a malformed key now, not at the first secret
    settings = Settings(
        public_url=public_url,
        region=region,
        endpoints=_endpoints(endpoint),
        token_life_s=token_life_s,
        host_secret=_secret(host_secret_file) if host_secret_file else "",
        secret_keys=keys,
        advert_interval_ms=advert_interval_ms,
        host_timeout_s=host_timeout_s,
        rbac=rbac,
        noop=noop,
        network_quotas=_quotas(network_quota),
    )
    store = Store(url)
    admin = _secret(admin_password_file) if admin_password_file else None
    demo = _secret(demo_password_file) if demo_password_file else None
    store.write_now(lambda tx: bootstrap(tx, admin, demo))
    sockets = [*(_listen(address) for address in listen), *(socket.socket(fileno=fd) for fd in listen_fd)]
    if not sockets:
        raise VrataError("nothing to listen on", remedy="give --listen HOST:PORT or --listen-fd N")
    import uvloop

    from vrata.cloud.server import run

    try:
        uvloop.run(run(store, settings, sockets))
    finally:
        store.close()


def _quotas(options: tuple[str, ...]) -> tuple[tuple[str, int], ...]:
    """What --network-quota says; later ones win."""
    from vrata.cloud.settings import NEUTRON_QUOTAS

    out: dict[str, int] = {}
    for option in options:
        name, _, number = option.partition("=")
        if option == "neutron":
            out |= dict(NEUTRON_QUOTAS)
        elif name in dict(NEUTRON_QUOTAS) and number.removeprefix("-").isdigit() and int(number) >= -1:
            out[name] = int(number)
        else:
            raise VrataError(
                f"--network-quota {option}: not RESOURCE=N",
                remedy=f"use one of {', '.join(name for name, _ in NEUTRON_QUOTAS)} and a number, -1 for no limit",
            )
    return tuple(out.items())


def _endpoints(options: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """What --endpoint says."""
    from vrata.cloud.identity.catalog import SERVICES

    types = [kind for kind, _, _ in SERVICES]
    found = [option.partition("=")[::2] for option in options]
    for option, (kind, url) in zip(options, found, strict=True):
        if kind not in types or not url.startswith(("http://", "https://")):
            raise VrataError(
                f"--endpoint {option}: not TYPE=URL", remedy=f"use one of {', '.join(types)} and an address"
            )
    return tuple(found)


def _migrate_apart(url: str) -> None:
    """Migrate in a child process: Alembic's 15 MiB end with it. (Forked before there is any thread.)"""
    import multiprocessing

    from vrata.cloud import migrate as migrations

    child = multiprocessing.get_context("fork").Process(target=migrations.migrate, args=(url,))
    child.start()
    child.join()
    if child.exitcode:
        raise VrataError("the database could not be migrated", remedy="see the lines above")


def _url(database: str | None, data_dir: Path | None) -> str:
    if (database is None) == (data_dir is None):
        raise VrataError("which database?", remedy="give either --database URL or --data-dir DIR")
    if data_dir is None:
        return str(database)
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    return f"sqlite:///{data_dir.absolute() / 'cloud.db'}"


def _random() -> str:
    return secrets.token_urlsafe(24)


def _secret(path: Path, make: Callable[[], str] = _random) -> str:
    """The file's content, made at first use."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(make() + "\n")
    text = path.read_text().strip()
    if not text:
        raise VrataError(f"{path} is empty", remedy="write the secret into it, or remove it to have one made")
    return text


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family, backlog=1024)
    except (OSError, ValueError, OverflowError) as error:
        raise VrataError(f"--listen {address}: {error}", remedy="give HOST:PORT of a free port") from error
