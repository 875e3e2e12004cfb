"""An authority of one's own, the certificates that it signs, and what a peer's certificate says.

Keys are ECDSA on P-256, in PKCS #8 without a password; everything is PEM. Extensions are those that strict clients ask
for (RFC 5280, 4.2.1). A host's certificate names the host in a URI, `vrata:host:EPOCH:NAME` (RFC 5280, 4.2.1.6). The epoch
is a number that grows with each revocation of the host: no clock decides which certificates are revoked.
"""

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_LIFE = timedelta(days=3650)
SERVER_LIFE = timedelta(days=825)
BACKDATED = timedelta(hours=1)  # for machines whose clocks differ
HOST_URI = "vrata:host:"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, in PEM."""

    certificate: bytes
    key: bytes


@dataclass(frozen=True)
class HostCertificate:
    """What a host's certificate says."""

    host: str
    epoch: int
    issued: datetime
    ends: datetime


def new_key() -> bytes:
    """A private key."""
    return _pem_key(ec.generate_private_key(ec.SECP256R1()))


def new_authority(name: str) -> Pair:
    """A self-signed authority that signs certificates of servers and hosts."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    signed = (
        _builder(subject, subject, key.public_key(), AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return Pair(_pem(signed), _pem_key(key))


def new_server(authority: Pair, names: Iterable[str], life: timedelta = SERVER_LIFE) -> Pair:
    """A server's certificate for DNS names and IP addresses."""
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = list(names)
    alternatives = [_general_name(name) for name in wanted]
    signed = _sign(authority, _name(wanted[0]), key.public_key(), alternatives, ExtendedKeyUsageOID.SERVER_AUTH, life)
    return Pair(_pem(signed), _pem_key(key))


def new_request(key: bytes, host: str) -> bytes:
    """A host's request for a certificate (PKCS #10). ValueError if the key cannot be used."""
    try:
        private = serialization.load_pem_private_key(key, None)
    except (TypeError, UnsupportedAlgorithm) as error:
        raise ValueError(str(error)) from error
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise ValueError("the key is not ECDSA")
    return _pem(x509.CertificateSigningRequestBuilder().subject_name(_name(host)).sign(private, hashes.SHA256()))


def sign_request(authority: Pair, request: bytes, host: str, now: datetime, life: timedelta, epoch: int = 0) -> bytes:
    """The certificate of a host with the request's key; nothing else of the request counts. ValueError if it is none."""
    asked = x509.load_pem_x509_csr(request)
    public = asked.public_key()
    if not isinstance(public, ec.EllipticCurvePublicKey) or not isinstance(public.curve, ec.SECP256R1):
        raise ValueError("the key is not ECDSA on P-256")
    if not asked.is_signature_valid:
        raise ValueError("the signature is not of its key")
    names = [x509.UniformResourceIdentifier(f"{HOST_URI}{epoch}:{host}")]
    return _pem(_sign(authority, _name(host), public, names, ExtendedKeyUsageOID.CLIENT_AUTH, life, now))


def host_certificate(der: bytes) -> HostCertificate | None:
    """What a client's certificate says; None if it is no host's. Whoever calls has checked its signature."""
    try:
        found = x509.load_der_x509_certificate(der)
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, x509.ExtensionNotFound):
        return None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    hosts = [uri.removeprefix(HOST_URI).partition(":") for uri in uris if uri.startswith(HOST_URI)]
    if len(hosts) != 1 or not hosts[0][0].isdecimal() or not hosts[0][2]:
        return None
    return _said(found, hosts[0][2], int(hosts[0][0]))


def read_host_certificate(pem: bytes) -> HostCertificate | None:
    """The same of a file's content; None if it is no certificate of a host."""
    try:
        return host_certificate(x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER))
    except ValueError:
        return None


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of the certificate in DER, in hexadecimal."""
    return sha256(x509.load_pem_x509_certificate(certificate).public_bytes(serialization.Encoding.DER)).hexdigest()


def only_certificate(pem: bytes) -> bytes:
    """The one certificate of a text, and nothing else of it. ValueError if it has none, or several."""
    found = x509.load_pem_x509_certificates(pem)
    if len(found) != 1:
        raise ValueError(f"{len(found)} certificates where one is expected")
    return _pem(found[0])


def is_authority(pair: Pair) -> bool:
    """Whether it can sign certificates of hosts: an authority's certificate, with its ECDSA key. ValueError as `is_pair`."""
    found = x509.load_pem_x509_certificate(pair.certificate)
    try:
        may_sign = found.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False
    return may_sign and isinstance(found.public_key(), ec.EllipticCurvePublicKey) and is_pair(pair)


def is_pair(pair: Pair) -> bool:
    """Whether the key is the certificate's. ValueError if one of them cannot be read."""
    found = x509.load_pem_x509_certificate(pair.certificate)
    try:
        key = serialization.load_pem_private_key(pair.key, None)
    except (TypeError, UnsupportedAlgorithm) as error:  # TypeError: it has a password
        raise ValueError(str(error)) from error
    form = serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    return found.public_key().public_bytes(*form) == key.public_key().public_bytes(*form)


def is_issued_by(certificate: bytes, authority: bytes) -> bool:
    """Whether an authority has signed a certificate."""
    try:
        x509.load_pem_x509_certificate(certificate).verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def validity(certificate: bytes) -> tuple[datetime, datetime]:
    """From when to when a certificate is valid. ValueError if it is none."""
    found = x509.load_pem_x509_certificate(certificate)
    return _times(found)


def names_of(certificate: bytes) -> frozenset[str]:
    """The DNS names and addresses of a server's certificate."""
    found = x509.load_pem_x509_certificate(certificate)
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = (str(address) for address in names.get_values_for_type(x509.IPAddress))
    return frozenset((*names.get_values_for_type(x509.DNSName), *addresses))


def _times(certificate: x509.Certificate) -> tuple[datetime, datetime]:
    return certificate.not_valid_before_utc, certificate.not_valid_after_utc


def _said(certificate: x509.Certificate, host: str, epoch: int) -> HostCertificate:
    begins, ends = _times(certificate)
    return HostCertificate(host, epoch, begins + BACKDATED, ends)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text[:64])])  # X.520: at most 64 characters


def _general_name(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, life: timedelta, now: datetime | None = None
) -> x509.CertificateBuilder:
    now = now or datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
        key_agreement=False, key_cert_sign=authority, crl_sign=authority, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _sign(
    authority: Pair, subject: x509.Name, key: ec.EllipticCurvePublicKey, names: Sequence[x509.GeneralName],
    purpose: x509.ObjectIdentifier, life: timedelta, now: datetime | None = None,
) -> x509.Certificate:  # fmt: skip
    issuer = x509.load_pem_x509_certificate(authority.certificate)
    issuer_key = serialization.load_pem_private_key(authority.key, None)
    if not isinstance(issuer_key, ec.EllipticCurvePrivateKey):
        raise ValueError("the authority's key is not ECDSA")
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key())
    return (
        _builder(subject, issuer.subject, key, life, now)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(identifier, critical=False)
        .sign(issuer_key, hashes.SHA256())
    )


def _pem(made: x509.Certificate | x509.CertificateSigningRequest) -> bytes:
    return made.public_bytes(serialization.Encoding.PEM)


def _pem_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
