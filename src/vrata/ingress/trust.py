"""Who may be believed, out of Secrets: authorities of clients' certificates, and what pods and HAProxy show each other.

ingress-nginx, `auth-tls-secret` and `proxy-ssl-secret`: `ca.crt`, and for pods perhaps `tls.crt` with `tls.key`. Pure.
"""

import base64
import hashlib
from dataclasses import dataclass, field

from vrata.base.errors import InvalidInput
from vrata.haproxy import certificates
from vrata.ingress.model import SecretKey, ServerTls
from vrata.ingress.served import authority_file, client_file
from vrata.kube.objects import Secret

AUTHORITY, PEER = ";authority", ";peer"  # what follows `namespace/name` in the key of such a Secret
_WORD = "peer="


@dataclass(frozen=True)
class Trust:
    """PEM of authorities, and of a certificate with its key; empty for none."""

    authority: str = ""
    certificate: str = field(default="", repr=False)

    def files(self, key: SecretKey) -> dict[str, str]:
        """What HAProxy has of it: content by the name of a file."""
        made = {
            authority_file(key, self.authority): self.authority,
            client_file(key, self.certificate): self.certificate,
        }
        return {name: content for name, content in made.items() if content}


def trust_in(key: SecretKey, secret: Secret) -> Trust | tuple[str, str]:
    """What a Secret says, or why it says nothing (reason, message)."""
    name = key.partition(";")[0]
    parts = {}
    for part in ("ca.crt", "tls.crt", "tls.key"):
        try:
            parts[part] = base64.b64decode(secret.data.get(part, ""), validate=True)
        except ValueError:
            return "InvalidSecret", f"Secret {name!r} has a {part} that is no base64; write it again"
    pair = parts["tls.crt"] and parts["tls.key"] and key.endswith(PEER)
    if not parts["ca.crt"] and not pair:
        return "InvalidSecret", f"Secret {name!r} has no ca.crt; put the authority's certificate there as PEM"
    try:
        authority = certificates.authorities(parts["ca.crt"]) if parts["ca.crt"] else ""
        return Trust(authority, certificates.bundle(parts["tls.crt"], parts["tls.key"], None, None) if pair else "")
    except InvalidInput as error:
        return "InvalidSecret", f"Secret {name!r}, {error}"


@dataclass(frozen=True)
class Peer:
    """How pods are to be trusted, as the key of a backend has it: one word."""

    secret: SecretKey | None
    verify: bool = False
    name: str = ""
    sends_name: bool = False
    versions: tuple[str, str] | None = None
    ciphers: str = ""

    def word(self) -> str:
        """To be read by `peer_of`; nothing in it is a semicolon or a blank."""
        flags = "".join(letter for letter, wanted in (("v", self.verify), ("n", self.sends_name)) if wanted)
        secret, versions = (self.secret or "").removesuffix(PEER), "-".join(self.versions or ())
        return _WORD + ",".join((secret, flags, self.name, versions, self.ciphers))


def peer_of(words: frozenset[str]) -> Peer | None:
    """What a backend's words say; None: anybody is trusted."""
    for word in words:
        if word.startswith(_WORD):
            secret, flags, name, versions, ciphers = word.removeprefix(_WORD).split(",")
            key = SecretKey(f"{secret}{PEER}") if secret else None
            oldest, _, newest = versions.partition("-")
            return Peer(key, "v" in flags, name, "n" in flags, (oldest, newest) if versions else None, ciphers)
    return None


def server_tls(peer: Peer, trust: Trust) -> ServerTls:
    """What a server is told; no files where nothing is asked for."""
    secret = peer.secret
    return ServerTls(
        authority=authority_file(secret, trust.authority) if secret and peer.verify else "",
        certificate=client_file(secret, trust.certificate) if secret and trust.certificate else "",
        name=peer.name,
        sends_name=peer.sends_name,
        versions=peer.versions,
        ciphers=peer.ciphers,
    )


def digest(tls: ServerTls) -> str:
    """Short, for the name of a server: another one whenever anything of it is."""
    return hashlib.blake2s(repr(tls).encode(), digest_size=6).hexdigest()
