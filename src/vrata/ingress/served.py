"""Names of the files that HAProxy has certificates in: which Secret's, with which content, for which hosts. Pure.

A name is a digest of all of it, so what HAProxy lists is what it serves, and anything new is another file beside the old
one. A certificate for many hosts is in several files, for a list of names must go through the socket at once.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace

from vrata.ingress.model import Certificate, SecretKey

DEFAULT = "crt-00000000.pem"  # answers names that no certificate is for
LIST = "list-00000000.txt"
_PREFIX, _SUFFIX, _SECRET = "crt-", ".pem", 16
_AUTHORITY, _CLIENT = "ca-", "peer-"
_OTHER = re.compile(rf"({_AUTHORITY}|{_CLIENT})[0-9a-f]+\{_SUFFIX}", re.ASCII)
_BYTES = 13_000  # of what one command may bring (`vrata.haproxy.runtime`)
_NAMES_BYTES = 6_000  # of a file's hosts, well below that


def file_names(secret: SecretKey, wholes: Iterable[Certificate]) -> dict[str, Certificate]:
    """Name → what is in the file."""
    parts = [replace(whole, hosts=hosts) for whole in wholes for hosts in _shared(whole.hosts)]
    return {_name(_PREFIX, secret, "\0".join((part.authority, part.pem, *part.hosts))): part for part in parts}


def _shared(hosts: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """As many at a time as one file may have."""
    some: list[str] = []
    size = 0
    for host in hosts:
        size += len(host) + 1
        if size > _NAMES_BYTES:
            yield tuple(some)
            some, size = [], len(host) + 1
        some.append(host)
    if some:
        yield tuple(some)


def authority_file(secret: SecretKey, pem: str) -> str:
    """The file of those who sign certificates."""
    return _name(_AUTHORITY, secret, pem)


def client_file(secret: SecretKey, pem: str) -> str:
    """The file of a certificate, with its key, that pods are shown."""
    return _name(_CLIENT, secret, pem)


def is_authority(name: str) -> bool:
    """Whether a file is one of those, and not a certificate."""
    return name.startswith(_AUTHORITY)


def is_trust(name: str) -> bool:
    """Whether a file is of an authority, or for pods."""
    return bool(_OTHER.fullmatch(name))


def _name(prefix: str, secret: SecretKey, content: str) -> str:
    digest = hashlib.blake2s(content.encode(), digest_size=12).hexdigest()
    return f"{prefix}{secret_digest(secret)}{digest}{_SUFFIX}"


def secret_digest(secret: SecretKey) -> str:
    """What a Secret's files begin with, after their prefix."""
    return hashlib.blake2s(secret.encode(), digest_size=_SECRET // 2).hexdigest()


def secret_of_file(name: str) -> str:
    """The digest of the Secret whose file this is."""
    return name.partition("-")[2][:_SECRET]


def fits(pem: str) -> bool:
    """Whether HAProxy 2.6 takes it over its socket."""
    return len(pem) <= _BYTES


def list_line(directory: str, name: str, certificate: Certificate) -> str:
    """The line of a crt-list (configuration manual 2.6, section 5.1, `crt-list`)."""
    asks = f" [verify optional ca-file {directory}/{certificate.authority}]" if certificate.authority else ""
    return f"{directory}/{name}{asks} {' '.join(certificate.hosts)}"
