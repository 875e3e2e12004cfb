"""`vrata cloud`: serves the OpenStack-compatible APIs, and looks after their database, passwords and keys."""

import contextlib
import ipaddress
import socket
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vrata.base import log
from vrata.base.errors import InvalidInput, VrataError
from vrata.cli import types
from vrata.cli.cloud_backup import backup, restore
from vrata.cli.cloud_data import (
    DATA_DIR,
    DATABASE,
    DATABASE_FILE,
    FILE,
    HOST_CA,
    SECRET_KEY_FILE,
    database_url,
    existing_url,
    file_content,
    keep_private,
    key_file,
    random_secret,
    require_tls,
    secret_of,
)
from vrata.cli.cloud_hosts import host_token, revoke_host
from vrata.cli.cloud_init import init
from vrata.cloud.settings import BALANCING_QUOTAS, NEUTRON_QUOTAS

if TYPE_CHECKING:
    from vrata.base.pki import Pair
    from vrata.base.tls import ServerTls


def _service_types() -> list[str]:
    from vrata.cloud.identity.catalog import SERVICES

    return [kind for kind, _, _ in SERVICES]


@click.group()
def command() -> None:
    """Serve the OpenStack-compatible APIs under one address: Keystone v3, Neutron v2.0, Octavia v2, Barbican v1."""


command.add_command(host_token)
command.add_command(revoke_host)
command.add_command(init)
command.add_command(backup)
command.add_command(restore)


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

    url = database_url(database, database_file, data_dir)
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
    url = existing_url(database, database_file, data_dir)
    password = secret_of(password_file) if password_file else random_secret()
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

    path = key_file(secret_key_file, data_dir)
    if path is None or not path.exists():
        raise VrataError(f"no key file{f' at {path}' if path else ''}", remedy="give --secret-key-file")
    store = Store(existing_url(database, database_file, data_dir))
    try:
        count = sealed.reseal(store, Vault(secret_of(path).split()))
    finally:
        store.close()
    click.echo(f"{count} sealed with the first key of {path}")


@command.command("check-config", epilog="Example: vrata --config /etc/vrata/cloud.toml cloud check-config")
@click.pass_context
def check_config(context: click.Context) -> None:
    """Check the configuration file of `vrata cloud serve`, the files that it names, and the database; change nothing."""
    assert context.parent is not None
    with serve.make_context("serve", ["--check"], parent=context.parent) as checking:
        serve.invoke(checking)


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
@click.option(
    "--host-secret-file",
    type=FILE,
    help="Secrets shared with all hosts, one a line; each is good. For tests: a certificate for each host is safer.",
)
@click.option(
    "--tls-cert", type=FILE, help="Certificate chain of all listeners, in PEM; new files are used within seconds."
)
@click.option("--tls-key", type=FILE, help="Its key, without a password.")
@click.option(
    "--agent-tls-cert",
    type=FILE,
    help="Certificate of --agent-listen, signed by --host-ca, which hosts trust alone. Default: --tls-cert.",
)
@click.option("--agent-tls-key", type=FILE, help="Its key.")
@HOST_CA
@click.option("--host-ca-key", type=FILE, help="Its key, which signs certificates of hosts.")
@click.option(
    "--metrics-token-file",
    type=FILE,
    help="Token that /metrics asks for (made if missing). Without it: everybody may read.",
)
@click.option("--check", is_flag=True, help="Check all settings, files and the database, and end.")
@click.option("--insecure", is_flag=True, help="Serve plain HTTP beyond loopback, and a remote PostgreSQL without TLS.")
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
    tls_cert: Path | None,
    tls_key: Path | None,
    agent_tls_cert: Path | None,
    agent_tls_key: Path | None,
    host_ca: Path | None,
    host_ca_key: Path | None,
    metrics_token_file: Path | None,
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
    check: bool,
    insecure: bool,
    network_quota: tuple[str, ...],
    balancing_quota: tuple[str, ...],
) -> None:
    """Serve the APIs until SIGTERM; a SQLite database is migrated first.

    Secret files that do not exist are made, with random content; password files, too, if the user has no password yet.
    Without --demo-password-file the user demo has no password and cannot log in.
    """
    from vrata.cloud.audit import Audit
    from vrata.cloud.identity.bootstrap import bootstrap
    from vrata.cloud.keymanager import material
    from vrata.cloud.settings import Settings
    from vrata.cloud.store import Store

    log.configure()
    url = database_url(database, database_file, data_dir, make=not check)
    if not insecure:
        require_tls(url)
    authority = _authority(host_ca, host_ca_key)
    if authority is not None and not (tls_cert and (agent_listen or agent_listen_fd)):
        raise VrataError(
            "--host-ca: hosts have no listener over TLS", remedy="give --agent-listen, --tls-cert and --tls-key"
        )
    own = (agent_tls_cert, agent_tls_key) if agent_tls_cert or agent_tls_key else (tls_cert, tls_key)
    tenants_tls, agents_tls = _tls(tls_cert, tls_key, None), _tls(*own, host_ca)
    if authority is not None and agents_tls is not None:
        _require_issued(agents_tls, authority)
    plain = tenants_tls is None and not insecure
    _check_addresses(listen, listen_fd, agent_listen, plain=plain)
    key_path = key_file(secret_key_file, data_dir)
    if check:
        _check(url, key_path)
        return
    _bring_up_to_date(url)
    keys = _keys(key_path)
    settings = Settings(
        public_url=public_url,
        region=region,
        endpoints=tuple((kind, url) for kind, _, url in (one.partition("=") for one in endpoint)),
        password_cost=password_cost,
        token_life_s=token_life_s,
        host_secrets=tuple(secret_of(host_secret_file).split()) if host_secret_file else (),
        host_authority=authority,
        metrics_token=secret_of(metrics_token_file) if metrics_token_file else "",
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
    admin = partial(secret_of, admin_password_file) if admin_password_file else None
    demo = partial(secret_of, demo_password_file) if demo_password_file else None
    store.write_now(lambda tx: bootstrap(tx, admin, demo, password_cost))
    material.read_used(store, keys)
    tenants, agents = _sockets("--listen", listen, listen_fd), _sockets("--agent-listen", agent_listen, agent_listen_fd)
    if plain:  # names, and sockets that were inherited
        for one in (*tenants, *agents):
            _require_loopback(one)
    import uvloop

    from vrata.cloud.server import Listeners, run
    from vrata.cloud.service import Service

    try:
        uvloop.run(
            run(
                Service(store, settings, audit),
                Listeners(tenants, agents, connections_per_address, tenants_tls, agents_tls),
            )
        )
    finally:
        store.close()


def _found_schema(url: str) -> tuple[str | None, bool]:
    """The database's version, and whether this program may use it; VrataError if it is of a newer program only."""
    from vrata.cloud import migrate as migrations
    from vrata.cloud import schema

    found = migrations.current(url)
    fits = migrations.fits(found, url)
    if found is not None and found > schema.HEAD and not fits:
        raise VrataError(
            f"the database is at {found}, newer than this version knows ({schema.HEAD})",
            remedy="install the version that migrated it, or restore the backup from before",
        )
    return found, fits


def _check(url: str, key_path: Path | None) -> None:
    """What `serve` would do to the database and its keys, without doing it."""
    from vrata.cloud import schema
    from vrata.cloud.keymanager.vault import Vault

    found, fits = _found_schema(url)
    if key_path and key_path.exists():
        Vault(tuple(secret_of(key_path).split()))
    if not fits:
        click.echo(f"the database is at {found or 'base'}: `vrata cloud migrate` brings it to {schema.HEAD}")
    click.echo("the settings are valid")


def _bring_up_to_date(url: str) -> None:
    """SQLite is migrated; PostgreSQL, which others may use, must have been."""
    from vrata.cloud import schema

    found, fits = _found_schema(url)
    if fits:
        return
    if not url.startswith("sqlite"):
        raise VrataError(
            f"the database is at {found or 'base'}, not at {schema.HEAD}", remedy="run `vrata cloud migrate`"
        )
    _migrate_apart(url)


def _keys(path: Path | None) -> tuple[str, ...]:
    """Keys of the key manager; a malformed one is refused now, not at the first secret."""
    from vrata.cloud.keymanager.vault import Vault, new_key

    if path is None:
        return ()
    keys = tuple(secret_of(path, new_key).split())
    keep_private(path)
    Vault(keys)
    return keys


def _tls(certificate: Path | None, key: Path | None, clients: Path | None) -> "ServerTls | None":
    from vrata.base.tls import ServerTls

    if (certificate is None) != (key is None):
        given, other = ("--tls-cert", "--tls-key") if certificate else ("--tls-key", "--tls-cert")
        raise VrataError(f"{given} without {other}", remedy=f"give {other}, too")
    return ServerTls(certificate, key, clients) if certificate and key else None


def _authority(certificate: Path | None, key: Path | None) -> "Pair | None":
    from vrata.base.pki import Pair, is_authority, is_pair, validity

    if (certificate is None) != (key is None):
        given, other = ("--host-ca", "--host-ca-key") if certificate else ("--host-ca-key", "--host-ca")
        raise VrataError(f"{given} without {other}", remedy=f"give {other}, too")
    if certificate is None or key is None:
        return None
    pair = Pair(file_content("--host-ca", certificate), file_content("--host-ca-key", key))
    try:
        if is_authority(pair) and validity(pair.certificate)[1] > datetime.now(UTC):
            return pair
        problem = (
            "not an ECDSA authority and its key, or it has ended" if is_pair(pair) else "not the key of the certificate"
        )
    except ValueError as error:
        problem = str(error)
    raise VrataError(
        f"--host-ca {certificate}, --host-ca-key {key}: {problem}", remedy="give the pair of `vrata cloud init`"
    )


def _require_issued(agents: "ServerTls", authority: "Pair") -> None:
    from vrata.base.pki import is_issued_by

    if not is_issued_by(agents.certificate(), authority.certificate):
        raise VrataError(
            "the certificate of --agent-listen is not signed by --host-ca, which hosts trust alone",
            remedy="give --agent-tls-cert and --agent-tls-key, e.g. those that `vrata cloud init` has made",
        )


def _check_addresses(
    listen: tuple[str, ...], descriptors: tuple[int, ...], agents: tuple[str, ...], *, plain: bool
) -> None:
    if not listen and not descriptors:
        raise VrataError("nothing to listen on", remedy="give --listen HOST:PORT or --listen-fd N")
    for address in (*listen, *agents) if plain else ():
        host = address.rpartition(":")[0].strip("[]")
        with contextlib.suppress(ValueError):
            if not ipaddress.ip_address(host or "0.0.0.0").is_loopback:
                raise _plain_text(address)


def _plain_text(address: str) -> VrataError:
    return VrataError(
        f"{address}: passwords and keys would cross the network in plain HTTP",
        remedy="give --tls-cert and --tls-key (`vrata cloud init` makes them), or --insecure",
    )


def _require_loopback(listener: socket.socket) -> None:
    name = listener.getsockname()
    if listener.family in {socket.AF_INET, socket.AF_INET6} and not ipaddress.ip_address(name[0]).is_loopback:
        raise _plain_text(f"{name[0]}:{name[1]}")


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


def _listen(option: str, address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family, backlog=1024)
    except (OSError, ValueError, OverflowError) as error:
        raise VrataError(f"{option} {address}: {error}", remedy="give HOST:PORT of a free port") from error
