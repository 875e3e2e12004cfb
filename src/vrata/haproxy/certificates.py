"""Puts certificates into the one form that HAProxy reads: PEM, leaf first, then its chain, then the key unencrypted.

Takes what a certificate container or a PKCS #12 secret holds (RFC 5280, RFC 7292). Refuses, naming the part, what a
TLS server could not serve: no certificate, no key, a key of another certificate. Does no I/O.
"""

import base64
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
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

# Text before, between and after blocks is allowed and common (RFC 7468, section 2): `openssl pkcs12` writes attributes.
_BEGIN = re.compile(rb"-----BEGIN ([A-Z0-9 ]{1,40})-----")
_LINE_END = re.compile(rb"[\r\n]")
_BLANK = b" \t\v\f\xef\xbb\xbf"  # also a byte order mark
_DATA = re.compile(rb"[A-Za-z0-9+/=]*[ \t\v\f]*")
_CERTIFICATE = (b"CERTIFICATE", b"X509 CERTIFICATE", b"TRUSTED CERTIFICATE")
# Clients take no more than 100 kB of certificates (OpenSSL, SSL_CTX_set_max_cert_list).
MOST_CERTIFICATES = 200
MOST_VERIFIED = 1000  # signatures in one chain
# What the library says to bytes that somebody else has written: also of curves and kinds of keys that it does not know.
_UNREADABLE = (ValueError, TypeError, UnsupportedAlgorithm, x509.InvalidVersion)


def bundle(certificate: bytes, private_key: bytes, passphrase: bytes | None, intermediates: bytes | None) -> str:
    """Of a container's parts, PEM or DER each; the chain may be PKCS #7. InvalidInput names the bad part."""
    key = _key(private_key, passphrase)
    given = [*_certificates("certificate", certificate), *(_chain(intermediates) if intermediates else [])]
    leaf, *chain = _leaf_first(given, key)
    return _pem(leaf, chain, key)


def bundle_of_pkcs12(payload: bytes) -> str:
    """Of a PKCS #12 file without a password, as Octavia expects it. InvalidInput if it is none or lacks a part."""
    try:
        # The check of RSA keys costs 44 ms each and proves nothing about a file that its owner wrote.
        store = pkcs12.load_pkcs12(payload, None)
    except _UNREADABLE as error:
        raise InvalidInput("secret", "(PKCS #12)", "store a PKCS #12 file that has no password") from error
    if store.key is None or store.cert is None:
        raise InvalidInput("secret", "(PKCS #12)", "put a certificate and its private key into the file")
    given = [store.cert.certificate, *(one.certificate for one in store.additional_certs)]
    leaf, *chain = _leaf_first(given, store.key)
    return _pem(leaf, chain, store.key)


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
    return "".join(map(_text, dict.fromkeys(_certificates("CA certificate", payload))))


def revocations(payload: bytes) -> str:
    """A certificate revocation list (RFC 5280, section 5) as PEM. InvalidInput if it is none."""
    try:
        found = _blocks("CRL", payload, b"X509 CRL", b"CRL")
        loaded = x509.load_pem_x509_crl(found[0]) if found else x509.load_der_x509_crl(payload)
        return loaded.public_bytes(Encoding.PEM).decode()
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
        return _in_pem(part, payload) or [x509.load_der_x509_certificate(payload)]
    except _UNREADABLE as error:
        raise InvalidInput(part, "(secret)", "store an X.509 certificate in PEM") from error


def _chain(payload: bytes) -> Sequence[x509.Certificate]:
    try:
        if found := _blocks("intermediates", payload, b"PKCS7"):
            return pkcs7.load_pem_pkcs7_certificates(found[0])
        return _in_pem("intermediates", payload) or pkcs7.load_der_pkcs7_certificates(payload)
    except _UNREADABLE as error:
        raise InvalidInput("intermediates", "(secret)", "store the chain as PEM or PKCS #7") from error


def _key(payload: bytes, passphrase: bytes | None) -> PrivateKeyTypes:
    found = [block for label, block in _labelled("private_key", payload) if label.endswith(b"PRIVATE KEY")]
    load = load_pem_private_key if found else load_der_private_key
    try:
        return load(found[0] if found else payload, passphrase or None, unsafe_skip_rsa_key_validation=True)
    except _UNREADABLE as error:
        raise InvalidInput(
            "private_key", "(secret)", "store a private key in PEM, and its passphrase if it has one"
        ) from error


def _labelled(part: str, payload: bytes) -> list[tuple[bytes, bytes]]:
    """Labels and blocks, in time that grows with the payload. InvalidInput for one that does not end: something was cut off.

    A BEGIN within a line of text is text (RFC 7468, section 2), and so is one that text follows on its line.
    """
    found = []
    begins, before = list(_BEGIN.finditer(payload)), 0
    for number, begin in enumerate(begins):
        after = begins[number + 1].start() if number + 1 < len(begins) else len(payload)
        line = _LINE_END.split(payload[before : begin.start()])[-1]
        before = begin.end()
        last = b"-----END " + begin[1] + b"-----"
        ends = payload.find(last, begin.end(), after)
        rest = _LINE_END.split(payload[begin.end() : after if ends < 0 else ends], maxsplit=1)
        if line.strip(_BLANK) or (len(rest) == 2 and not _DATA.fullmatch(rest[0])):
            continue
        if ends < 0:
            raise InvalidInput(part, begin[0].decode(), "store the whole PEM: this block has no END line")
        before = ends + len(last)
        found.append((begin[1], payload[begin.start() : before]))
    return found


def _blocks(part: str, payload: bytes, *labels: bytes) -> list[bytes]:
    """The PEM blocks with one of these labels, without what stands around them."""
    return [block for label, block in _labelled(part, payload) if label in labels]


def _in_pem(part: str, payload: bytes) -> list[x509.Certificate]:
    return [
        x509.load_der_x509_certificate(_first_element(base64.b64decode(block.split(b"-----")[2])))
        for block in _blocks(part, payload, *_CERTIFICATE)
    ]


def _first_element(der: bytes) -> bytes:
    """In OpenSSL's trusted certificates what they are trusted for follows, which is for verifying, not for serving."""
    first = int.from_bytes(der[1:2], "big")
    more = first & 0x7F if first & 0x80 else 0
    return der[: 2 + more + (int.from_bytes(der[2 : 2 + more], "big") if more else first)]


def _leaf_first(given: Sequence[x509.Certificate], key: PrivateKeyTypes) -> list[x509.Certificate]:
    """The key's certificate, then each one's issuer, then the others: each one that was given, once.

    After a rotation, or with cross-signing, several have the issuer's name. Clients verify by key, so the order does, too.
    """
    mine = _public(key)
    known = list(dict.fromkeys(given))
    leaf = next((one for one in known if _public(one) == mine), known[0])
    if len(known) > MOST_CERTIFICATES:
        raise InvalidInput(
            "certificate", f"{len(known)} certificates", f"give the leaf and its chain, at most {MOST_CERTIFICATES}"
        )
    issuers = _issuers(known)
    path = [leaf]
    while above := [one for one in issuers[path[-1]] if one not in path]:
        # Of several, the first one whose own issuer is there, too: cross-signed ones lead to different roots.
        path.append(next((one for one in above if set(issuers[one]) - {one, *path}), above[0]))
    return [*path, *(one for one in known if one not in path)]


def _issuers(known: Sequence[x509.Certificate]) -> dict[x509.Certificate, list[x509.Certificate]]:
    """The certificates that could have issued each, in the order given."""
    named: dict[bytes, list[x509.Certificate]] = {}
    try:
        for one in known:
            named.setdefault(one.subject.public_bytes(), []).append(one)
        above = {one: named.get(one.issuer.public_bytes(), []) for one in known}
    except _UNREADABLE as error:
        raise InvalidInput("certificate", "(secret)", "give certificates whose names can be read") from error
    own = {one: _key_identifier(one, x509.SubjectKeyIdentifier) for one in known}
    told = {one: _key_identifier(one, x509.AuthorityKeyIdentifier) for one in known}
    above = {
        one: [issuer for issuer in found if not (told[one] and own[issuer]) or told[one] == own[issuer]]
        for one, found in above.items()
    }
    if (
        sum(map(len, above.values())) > MOST_VERIFIED
    ):  # nobody's chain: such names and identifiers are made to cost time
        return above
    return {one: [issuer for issuer in found if _issued(one, issuer)] for one, found in above.items()}


def _issued(one: x509.Certificate, issuer: x509.Certificate) -> bool:
    """By the signature, which proves it; the names are the same, and the key identifiers (RFC 5280, 4.2.1.1)."""
    try:
        one.verify_directly_issued_by(issuer)
    except UnsupportedAlgorithm:  # a kind of key or digest that the library does not know: identifiers must do
        return True
    except (InvalidSignature, ValueError, TypeError):  # also a key of another kind than the signature's
        return False
    return True


def _key_identifier(
    one: x509.Certificate, kind: type[x509.AuthorityKeyIdentifier] | type[x509.SubjectKeyIdentifier]
) -> bytes | None:
    try:
        return one.extensions.get_extension_for_class(kind).value.key_identifier
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, *_UNREADABLE):
        return None


def _public(of: object) -> bytes:
    try:
        return of.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined, no-any-return]
    except _UNREADABLE as error:
        raise InvalidInput("certificate", "(secret)", "give one with an RSA or EC key") from error


def _pem(leaf: x509.Certificate, chain: Sequence[x509.Certificate], key: PrivateKeyTypes) -> str:
    if _public(leaf) != _public(key):
        raise InvalidInput("private_key", "(secret)", "give the key that belongs to the certificate")
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return "".join(map(_text, (leaf, *chain))) + secret


def _text(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(Encoding.PEM).decode()
