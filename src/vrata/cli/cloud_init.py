"""`vrata cloud init`: the files that a cloud on machines needs before its first start."""

import contextlib
import ipaddress
import os
import pwd
import shutil
import socket
import tarfile
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path

import click

from vrata.base.errors import VrataError
from vrata.base.files import write_atomic
from vrata.cli import types
from vrata.cli.cloud_data import FILE, random_secret

# What every machine of a cloud must have alike.
SHARED = ("pki/ca.crt", "pki/ca.key", "secret.key", "metrics-token")
SERVICE_USER = "vrata-cloud"
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
    type=types.WORD,
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

    Existing files are kept, so the command may be repeated; a certificate that lacks a --name, or has ended, is replaced.
    """
    from vrata.base import pki
    from vrata.cloud.keymanager.vault import new_key

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
    if "pki/ca.crt" in made or "pki/ca.key" in made:
        authority = pki.new_authority(f"Vrata cloud {wanted[0]}")
        _write(directory / "pki/ca.key", authority.key)
        _write(directory / "pki/ca.crt", authority.certificate, 0o644)
    authority = pki.Pair((directory / "pki/ca.crt").read_bytes(), (directory / "pki/ca.key").read_bytes())
    if _is_stale(directory / "pki/server.crt", authority.certificate, wanted):
        server = pki.new_server(authority, wanted)
        _write(directory / "pki/server.key", server.key)
        _write(directory / "pki/server.crt", server.certificate, 0o644)
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


def _is_stale(certificate: Path, authority: bytes, names: list[str]) -> bool:
    from vrata.base import pki

    try:
        found = certificate.read_bytes()
        begins, ends = pki.validity(found)
    except (OSError, ValueError):
        return True
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
