"""From the certificates of the wire to files beside HAProxy's configuration and to what its lines say of them.

A certificate is filed under a hash of its reference, an authority under one of its owner, so that new content keeps
its name and can be given to a running HAProxy. Pure: names and content only; `vrata.haproxy.process` writes them.
"""

import hashlib
import re

from vrata.base.errors import InvalidInput
from vrata.base.wire import Certificate, Listener, Pool, Tls
from vrata.haproxy.model import BindTls, FileKind, ServerTls, TlsFile, Verify

_VERIFY = {"NONE": Verify.NONE, "OPTIONAL": Verify.OPTIONAL, "MANDATORY": Verify.REQUIRED}
_PREFIX = {FileKind.CERTIFICATE: "cert", FileKind.AUTHORITY: "ca", FileKind.REVOKED: "crl", FileKind.LIST: "list"}
_BEGIN = re.compile(r"-----BEGIN [A-Z0-9 ]+-----")


class TlsFiles:
    """Collects the files of one configuration; the same certificate is kept once."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self._files: dict[str, TlsFile] = {}

    def all(self) -> tuple[TlsFile, ...]:
        """Every file, in a stable order."""
        return tuple(self._files[name] for name in sorted(self._files))

    def bind(self, listener: Listener) -> BindTls:
        """What a listener that ends TLS needs."""
        tls = listener.tls
        if tls is None or tls.default_certificate is None:
            raise InvalidInput("default_tls_container_ref", None, f"give listener {listener.id} a certificate")
        verify = _VERIFY.get(tls.client_authentication)
        if verify is None:
            raise InvalidInput("client_authentication", tls.client_authentication, f"use one of {', '.join(_VERIFY)}")
        certificates = (tls.default_certificate, *tls.sni_certificates)
        names = dict.fromkeys(self._certificate(certificate) for certificate in certificates)
        lines = "".join(f"{self.directory}/{name}\n" for name in names)
        authority, revoked = self._trust(f"listener {listener.id}", tls) if verify is not Verify.NONE else (None, None)
        return BindTls(
            ciphers=tls.ciphers,
            versions=tls.versions,
            alpn=tls.alpn_protocols,
            authority=authority,
            revoked=revoked,
            certificates=self._add(FileKind.LIST, f"listener {listener.id}", lines),
            verify=verify,
            hsts=_hsts(tls.hsts_max_age, subdomains=tls.hsts_include_subdomains, preload=tls.hsts_preload),
        )

    def server(self, pool: Pool) -> ServerTls | None:
        """What a pool whose members speak TLS needs; None: they do not."""
        tls = pool.tls
        if tls is None:
            return None
        authority, revoked = self._trust(f"pool {pool.id}", tls)
        return ServerTls(
            ciphers=tls.ciphers,
            versions=tls.versions,
            alpn=tls.alpn_protocols,
            authority=authority,
            revoked=revoked,
            certificate=self._certificate(tls.certificate) if tls.certificate else None,
        )

    def _certificate(self, certificate: Certificate) -> str:
        return self._add(FileKind.CERTIFICATE, certificate.ref, _pem("certificate", certificate.ref, certificate.pem))

    def _trust(self, owner: str, tls: Tls) -> tuple[str | None, str | None]:
        authority = self._add(FileKind.AUTHORITY, owner, _pem("ca", owner, tls.ca_pem)) if tls.ca_pem else None
        revoked = self._add(FileKind.REVOKED, owner, _pem("crl", owner, tls.crl_pem)) if tls.crl_pem else None
        return authority, revoked

    def _add(self, kind: FileKind, label: str, content: str) -> str:
        digest = hashlib.sha256(label.encode()).hexdigest()[:20]
        name = f"{_PREFIX[kind]}-{digest}.{'txt' if kind is FileKind.LIST else 'pem'}"
        self._files[name] = TlsFile(name, kind, f"{kind} of {label}", content)
        return name


def _pem(field: str, owner: str, pem: str) -> str:
    """Without empty lines: one would end the payload of a runtime command."""
    lines = [line.strip() for line in pem.splitlines() if line.strip()]
    if not lines or not _BEGIN.fullmatch(lines[0]):
        raise InvalidInput(field, owner, "store it in PEM, beginning with -----BEGIN")
    return "\n".join(lines) + "\n"


def _hsts(max_age: int | None, *, subdomains: bool, preload: bool) -> str | None:
    if max_age is None:
        return None
    if max_age < 0:
        raise InvalidInput("hsts_max_age", max_age, "use a number of seconds")
    return f"max-age={max_age}" + ("; includeSubDomains" if subdomains else "") + ("; preload" if preload else "")
