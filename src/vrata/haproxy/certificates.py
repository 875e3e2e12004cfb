"""Puts certificates into the one form that HAProxy reads: PEM, leaf first, then its chain, then the key unencrypted.

Takes what a certificate container or a PKCS #12 secret holds (RFC 5280, RFC 7292). Refuses, naming the part, what a
TLS server could not serve: no certificate, no key, a key of another certificate. Does no I/O.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_private_key,
    load_pem_private_key,
    pkcs7,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from vrata.base.errors import InvalidInput

_PEM = b"-----BEGIN"
# What the library says to bytes that somebody else has written: also of curves and kinds of keys that it does not know.
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)


def bundle(certificate: bytes, private_key: bytes, passphrase: bytes | None, intermediates: bytes | None) -> str:
    """Of a container's parts, PEM or DER each; the chain may be PKCS #7. InvalidInput names the bad part."""
    leaf, *chain = _certificates("certificate", certificate)
    key = _key(private_key, passphrase)
    return _pem(leaf, [*chain, *(_chain(intermediates) if intermediates else [])], key)


def bundle_of_pkcs12(payload: bytes) -> str:
    """Of a PKCS #12 file without a password, as Octavia expects it. InvalidInput if it is none or lacks a part."""
    try:
        # The check of RSA keys costs 44 ms each and proves nothing about a file that its owner wrote.
        store = pkcs12.load_pkcs12(payload, None)
    except _UNREADABLE as error:
        raise InvalidInput("secret", "(PKCS #12)", "store a PKCS #12 file that has no password") from error
    if store.key is None or store.cert is None:
        raise InvalidInput("secret", "(PKCS #12)", "put a certificate and its private key into the file")
    return _pem(store.cert.certificate, [one.certificate for one in store.additional_certs], store.key)


def self_signed(name: str) -> str:
    """A certificate that nobody trusts, for clients that ask for a name without one; ten years, in HAProxy's form."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=3650))
    return _pem(builder.sign(key, SHA256()), [], key)


def authorities(payload: bytes) -> str:
    """CA certificates as PEM. InvalidInput if there is none."""
    return "".join(_text(one) for one in _certificates("CA certificate", payload))


def revocations(payload: bytes) -> str:
    """A certificate revocation list (RFC 5280, section 5) as PEM. InvalidInput if it is none."""
    try:
        load = x509.load_pem_x509_crl if payload.lstrip().startswith(_PEM) else x509.load_der_x509_crl
        return load(payload).public_bytes(Encoding.PEM).decode()
    except _UNREADABLE as error:
        raise InvalidInput("CRL", "(secret)", "store a revocation list in PEM") from error


def host_names(pem: str) -> tuple[str, ...]:
    """The DNS names of the first certificate."""
    leaf = x509.load_pem_x509_certificate(pem.encode())
    try:
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(x509.DNSName))


def _certificates(part: str, payload: bytes) -> list[x509.Certificate]:
    try:
        if payload.lstrip().startswith(_PEM):
            return x509.load_pem_x509_certificates(payload)
        return [x509.load_der_x509_certificate(payload)]
    except _UNREADABLE as error:
        raise InvalidInput(part, "(secret)", "store an X.509 certificate in PEM") from error


def _chain(payload: bytes) -> Sequence[x509.Certificate]:
    try:
        if b"BEGIN PKCS7" in payload:
            return pkcs7.load_pem_pkcs7_certificates(payload)
        if payload.lstrip().startswith(_PEM):
            return x509.load_pem_x509_certificates(payload)
        return pkcs7.load_der_pkcs7_certificates(payload)
    except _UNREADABLE as error:
        raise InvalidInput("intermediates", "(secret)", "store the chain as PEM or PKCS #7") from error


def _key(payload: bytes, passphrase: bytes | None) -> PrivateKeyTypes:
    load = load_pem_private_key if payload.lstrip().startswith(_PEM) else load_der_private_key
    try:
        return load(payload, passphrase or None, unsafe_skip_rsa_key_validation=True)
    except _UNREADABLE as error:
        raise InvalidInput(
            "private_key", "(secret)", "store a private key in PEM, and its passphrase if it has one"
        ) from error


def _pem(leaf: x509.Certificate, chain: Sequence[x509.Certificate], key: PrivateKeyTypes) -> str:
    def public(of: object) -> bytes:
        return of.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]

    try:
        fits = public(leaf) == public(key)
    except _UNREADABLE as error:
        raise InvalidInput("certificate", "(secret)", "give one with an RSA or EC key") from error
    if not fits:
        raise InvalidInput("private_key", "(secret)", "give the key that belongs to the certificate")
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return "".join(_text(one) for one in (leaf, *chain)) + secret


def _text(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
