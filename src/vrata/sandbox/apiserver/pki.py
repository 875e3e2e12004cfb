"""The server's own certificate authority, certificate and token, and kubeconfigs that trust them.

Everything is made once, in the data directory, and used again afterwards; `prepare` may run before the server does.
"""

import base64
import ipaddress
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vrata.base.errors import VrataError

LIFETIME = timedelta(days=3650)
BACKDATED = timedelta(hours=1)  # for machines whose clocks differ
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
    """Make what is missing of CA, certificate and token; a certificate that lacks a wanted name is made anew."""
    data_dir.mkdir(parents=True, exist_ok=True)
    ca_file, ca_key = data_dir / "ca.crt", data_dir / "ca.key"
    certificate, key = data_dir / "server.crt", data_dir / "server.key"
    names = tuple(dict.fromkeys((*_ALWAYS, *sans)))
    if not (ca_file.exists() and ca_key.exists()):
        _write_ca(ca_file, ca_key)
        certificate.unlink(missing_ok=True)
    if not (certificate.exists() and key.exists() and _covers(certificate, names)):
        _write_certificate(ca_file, ca_key, certificate, key, names)
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


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFETIME)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=authority, crl_sign=authority, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _write_ca(ca_file: Path, ca_key: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("vrata-sandbox-ca")
    certificate = (
        _builder(name, name, key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    _write(ca_key, _pem_key(key), 0o600)
    _write(ca_file, certificate.public_bytes(serialization.Encoding.PEM), 0o644)


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _write_certificate(ca_file: Path, ca_key: Path, certificate: Path, key_file: Path, names: tuple[str, ...]) -> None:
    issuer = x509.load_pem_x509_certificate(ca_file.read_bytes())
    issuer_key = serialization.load_pem_private_key(ca_key.read_bytes(), None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise VrataError(f"{ca_key}: not an EC key", remedy="remove it and ca.crt to get new ones")
    key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    signed = (
        _builder(_name("kube-apiserver"), issuer.subject, key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([_general_name(name) for name in names]), critical=False)
        .add_extension(authority, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )
    _write(key_file, _pem_key(key), 0o600)
    _write(certificate, signed.public_bytes(serialization.Encoding.PEM), 0o644)


def _covers(path: Path, names: tuple[str, ...]) -> bool:
    extension = x509.load_pem_x509_certificate(path.read_bytes()).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    return all(_general_name(name) in list(extension.value) for name in names)


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
