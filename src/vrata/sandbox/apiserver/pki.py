"""The server's own certificate authority, certificate and token, and kubeconfigs that trust them.

Everything is made once, in the data directory, and used again afterwards; `prepare` may run before the server does.
"""

import base64
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import yaml

from vrata.base import pki
from vrata.base.errors import VrataError

_ALWAYS = (
    "127.0.0.1",
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the files are, and the token."""

    ca_file: Path
    certificate_file: Path
    key_file: Path
    token: str


def prepare(data_dir: Path, sans: Iterable[str] = (), token_file: Path | None = None) -> Credentials:
    """Make what is missing of CA, certificate and token; a certificate that lacks a wanted name is replaced."""
    data_dir.mkdir(parents=True, exist_ok=True)
    ca_file, ca_key = data_dir / "ca.crt", data_dir / "ca.key"
    certificate, key = data_dir / "server.crt", data_dir / "server.key"
    names = tuple(dict.fromkeys((*_ALWAYS, *sans)))
    if not (ca_file.exists() and ca_key.exists()):
        made = pki.new_authority("vrata-sandbox-ca")
        _write(ca_key, made.key, 0o600)
        _write(ca_file, made.certificate, 0o644)
        certificate.unlink(missing_ok=True)
    if not (certificate.exists() and key.exists() and pki.names_of(certificate.read_bytes()) >= set(names)):
        authority = pki.Pair(ca_file.read_bytes(), ca_key.read_bytes())
        try:
            made = pki.new_server(authority, names, pki.AUTHORITY_LIFE)
        except ValueError as error:
            raise VrataError(f"{ca_key}: {error}", remedy="remove it and ca.crt to get new ones") from error
        _write(key, made.key, 0o600)
        _write(certificate, made.certificate, 0o644)
    return Credentials(ca_file, certificate, key, _token(token_file or data_dir / "token"))


def _token(path: Path) -> str:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, (secrets.token_urlsafe(32) + "\n").encode(), 0o600)
    token = path.read_text().strip()
    if not token:
        raise VrataError(
            f"{path}: the token file is empty", remedy="write a token into it, or remove it to get a new one"
        )
    return token


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write beside and rename, so that a crash leaves the old file or the new one."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
    beside.replace(path)


def write_kubeconfig(path: Path, server: str, credentials: Credentials, name: str = "vrata") -> None:
    """Write a kubeconfig for a server URL, with CA and token inside; readable by its owner only."""
    authority = base64.b64encode(credentials.ca_file.read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": name, "user": {"token": credentials.token}}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    _write(path, yaml.safe_dump(config, sort_keys=False).encode(), 0o600)
