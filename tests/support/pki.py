"""A certificate authority for tests: leaves, chains, revocation lists, PKCS #12. Elliptic keys, made in a millisecond."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs12 import serialize_key_and_certificates
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)
_SIGNS = x509.KeyUsage(
    digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
)  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

    @property
    def cert_pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def key_pem(self) -> str:
        return self.private_pem(None)

    def private_pem(self, passphrase: bytes | None) -> str:
        """The key, encrypted under the passphrase if there is one."""
        how = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, how).decode()

    def pkcs12(self, *chain: "Identity") -> bytes:
        """Everything in one file without a password."""
        others = [one.certificate for one in chain]
        return serialize_key_and_certificates(b"test", self.key, self.certificate, others, NoEncryption())


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def issue(
    common: str,
    *names: str,
    by: Identity | None = None,
    authority: bool = False,
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None = None,
    identifiers: bool = True,
) -> Identity:
    """A certificate for `names`, by an authority or by itself; with an elliptic key if none is given.

    `identifiers`: whether it names its key and its issuer's, as nearly all do.
    """
    key = key or ec.generate_private_key(ec.SECP256R1())
    return _issue(key, common, names, by, authority=authority, identifiers=identifiers)


def _issue(
    key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey,
    common: str,
    names: tuple[str, ...],
    by: Identity | None,
    *,
    authority: bool,
    identifiers: bool,
) -> Identity:
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(common))
        .issuer_name(by.certificate.subject if by else _name(common))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + 30 * DAY)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
    )
    if identifiers:
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    if authority:
        builder = builder.add_extension(_SIGNS, critical=True)
    if by and identifiers:  # RFC 5280, 4.2.1.1; Python 3.13's clients refuse a certificate without
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())
        builder = builder.add_extension(issuer, critical=False)
    if names:
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.DNSName(one) for one in names]), critical=False
        )
    return Identity(builder.sign(by.key if by else key, SHA256()), key)


def revocation_list(authority: Identity, *revoked: Identity) -> str:
    """A CRL of the authority, PEM."""
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.certificate.subject)
        .last_update(now - DAY)
        .next_update(now + 30 * DAY)
    )
    for one in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number).revocation_date(now - DAY)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(authority.key, SHA256()).public_bytes(Encoding.PEM).decode()
