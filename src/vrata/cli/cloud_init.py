"""`vrata cloud init`: the files that a cloud on machines needs before its first start."""

import contextlib
import ipaddress
import os
import pwd
import shutil
import socket
import tarfile
from datetime import UTC, datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

import click

from vrata.base.errors import VrataError
from vrata.base.files import write_atomic
from vrata.cli import types
from vrata.cli.cloud_data import FILE, random_secret

if TYPE_CHECKING:
    from vrata.base import pki

# What every machine of a cloud must have alike.
SHARED = ("pki/ca.crt", "pki/ca.key", "secret.key", "metrics-token")
SERVICE_USER = "vrata-cloud"
RENEWED_BEFORE = timedelta(days=30)  # of its end a server's certificate is replaced
CONFIGURATION = """\
# Options of `vrata cloud`; each is explained by `vrata cloud serve --help`.
[cloud]
# {database_note}
{database}
host-ca = "{directory}/pki/ca.crt"
secret-key-file = "{directory}/secret.key"

[cloud.serve]
listen = ["0.0.0.0:8780"]
agent-listen = ["0.0.0.0:8781"]
tls-cert = "{directory}/pki/server.crt"
tls-key = "{directory}/pki/server.key"
host-ca-key = "{directory}/pki/ca.key"
admin-password-file = "{directory}/admin-password"
metrics-token-file = "{directory}/metrics-token"
"""


@click.command(
    epilog="Examples: vrata cloud init --name cloud.example.org --name 192.0.2.10     "
    "vrata cloud init --from cloud-files.tar --name cloud-2.example.org --name 192.0.2.11"
)
@click.option(
    "--directory", type=click.Path(file_okay=False, path_type=Path), default=Path("/etc/vrata"), show_default=True
)
@click.option(
    "--name",
    "names",
    type=types.SERVER_NAME,
    multiple=True,
    help="DNS name or address under which clients and hosts reach this machine, or a balancer before it; repeatable. "
    "Default: the machine's name.",
)
@click.option(
    "--database-file",
    type=FILE,
    help="File with a PostgreSQL URL. Default: SQLite in /var/lib/vrata/cloud, on one machine.",
)
@click.option("--export", type=FILE, help="Also write what the next machine needs into this file, for --from there.")
@click.option("--from", "source", type=FILE, help="Take what all machines share out of a file of --export.")
def init(
    *, directory: Path, names: tuple[str, ...], database_file: Path | None, export: Path | None, source: Path | None
) -> None:
    """Make the keys, certificates, first password and configuration file of a cloud.

    Existing files are kept, so the command may be repeated. A certificate of this authority that lacks a --name, or ends
    within 30 days, is replaced.
    """
    from vrata.base import pki
    from vrata.cloud.keymanager.vault import new_key

    os.umask(0o022)
    wanted = list(dict.fromkeys([*(names or [socket.getfqdn()]), "localhost", "127.0.0.1"]))
    directory = directory.absolute()
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "pki").mkdir(mode=0o755, exist_ok=True)
    except OSError as error:
        raise VrataError(
            f"--directory {directory}: {error.strerror}", remedy="run this as root, or name another one"
        ) from error
    if source is not None:
        _import(source, directory)
    made = [name for name in SHARED if not (directory / name).exists()]
    authority = _authority(directory, wanted[0])
    server = directory / "pki/server.crt"
    if _is_of_another(server, authority.certificate):
        click.echo(f"kept {server}: it is not of {directory / 'pki/ca.crt'}")
    elif _is_stale(server, authority.certificate, wanted):
        try:
            new = pki.new_server(authority, wanted)
        except ValueError as error:
            raise VrataError(f"--name {', '.join(wanted)}: {error}", remedy="give DNS names and addresses") from error
        _write(directory / "pki/server.key", new.key)
        _write(server, new.certificate, 0o644)
        made.append("pki/server.crt")
    for name, make in (("secret.key", new_key), ("metrics-token", random_secret), ("admin-password", random_secret)):
        if not (directory / name).exists() and not (name == "admin-password" and source is not None):
            _write(directory / name, make() + "\n")
            made.append(name)
    if not (directory / "cloud.toml").exists():
        _write(directory / "cloud.toml", _configuration(directory, database_file), 0o644)
        made.append("cloud.toml")
    if export is not None:
        _export(export, directory)
    for name in dict.fromkeys(made):
        click.echo(f"made {directory / name}")
    click.echo(f"next: vrata --config {directory}/cloud.toml cloud check-config")


def _authority(directory: Path, name: str) -> "pki.Pair":
    """The one that is there, or a new one; VrataError if half of it is missing: everybody trusts the old one."""
    from vrata.base import pki

    certificate, key = directory / "pki/ca.crt", directory / "pki/ca.key"
    if certificate.exists() != key.exists():
        there, missing = (certificate, key) if certificate.exists() else (key, certificate)
        raise VrataError(
            f"{there} is there, {missing} is not; a new authority would lock out every host and client",
            remedy=f"bring {missing.name} back, or remove {there.name} to begin with a new authority",
        )
    if not certificate.exists():
        made = pki.new_authority(f"Vrata cloud {name}")
        _write(key, made.key)
        _write(certificate, made.certificate, 0o644)
    found = pki.Pair(certificate.read_bytes(), key.read_bytes())
    try:
        if pki.is_authority(found) and pki.validity(found.certificate)[1] > datetime.now(UTC):
            return found
        problem = "not an ECDSA authority with its key, or it has ended"
    except ValueError as error:
        problem = str(error)
    raise VrataError(f"{certificate}: {problem}", remedy="bring the pair back, or remove both for a new authority")


def _is_of_another(certificate: Path, authority: bytes) -> bool:
    """Whether somebody has put a certificate of an authority of their own there."""
    from vrata.base import pki

    try:
        found = certificate.read_bytes()
        return bool(found) and pki.validity(found)[1] > datetime.now(UTC) and not pki.is_issued_by(found, authority)
    except (OSError, ValueError):
        return False


def _is_stale(certificate: Path, authority: bytes, names: list[str]) -> bool:
    from vrata.base import pki

    try:
        found = certificate.read_bytes()
        begins, ends = pki.validity(found)
        if not pki.is_pair(pki.Pair(found, certificate.with_suffix(".key").read_bytes())):
            return True
    except (OSError, ValueError):
        return True
    ends -= RENEWED_BEFORE
    known = {_canonical(name) for name in pki.names_of(found)}
    valid = begins <= datetime.now(UTC) < ends and pki.is_issued_by(found, authority)
    return not (valid and {_canonical(name) for name in names} <= known)


def _canonical(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name.lower()


def _configuration(directory: Path, database_file: Path | None) -> str:
    if database_file is None:
        note, line = (
            "SQLite serves one machine; for several, name a file with a PostgreSQL URL: database-file",
            ('data-dir = "/var/lib/vrata/cloud"'),
        )
    else:
        note, line = (
            "The URL of PostgreSQL stands in a file of its own, for it may hold a password.",
            (f'database-file = "{database_file.absolute()}"'),
        )
    return CONFIGURATION.format(directory=directory, database_note=note, database=line)


def _write(path: Path, content: bytes | str, mode: int = 0o600) -> None:
    write_atomic(path, content, durable=True, mode=mode)
    own_by_service(path)


def own_by_service(path: Path) -> None:
    """For files that root makes and the service reads, where the package has made its user."""
    with contextlib.suppress(KeyError):
        if os.geteuid() == 0:
            shutil.chown(path, pwd.getpwnam(SERVICE_USER).pw_uid)


def _export(path: Path, directory: Path) -> None:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in SHARED:
            archive.add(directory / name, name)
    _write(path, buffer.getvalue())
    click.echo(f"made {path}: it holds keys; copy it to the next machine over a safe way, and remove it afterwards")


def _import(path: Path, directory: Path) -> None:
    """Only files that are expected, and only if they are not there yet."""
    try:
        with tarfile.open(path) as archive:
            found = {entry.name: archive.extractfile(entry) for entry in archive if entry.isfile()}
            contents = {name: stream.read() for name, stream in found.items() if stream is not None}
    except (OSError, tarfile.TarError) as error:
        raise VrataError(f"--from {path}: {error}", remedy="name a file of `vrata cloud init --export`") from error
    missing = [name for name in SHARED if name not in contents]
    if missing:
        raise VrataError(f"--from {path}: {missing[0]} is missing", remedy="make the file again with --export")
    for name in SHARED:
        if (directory / name).exists() and (directory / name).read_bytes() != contents[name]:
            raise VrataError(f"{directory / name} is of another cloud", remedy="remove it, or name another --directory")
    for name in SHARED:
        _write(directory / name, contents[name], 0o644 if name.endswith(".crt") else 0o600)
