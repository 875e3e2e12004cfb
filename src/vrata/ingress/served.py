"""Names of the files that HAProxy has certificates in: which Secret's, with which content, for which hosts. Pure.

A name is a digest of all three, so what HAProxy lists is what it serves, and anything new is another file beside the old
one. A certificate for very many hosts is in several files, for a list of names must go through the socket at once.
"""

import hashlib

from vrata.ingress.model import Certificate, SecretKey

DEFAULT = "crt-00000000.pem"  # answers names that no certificate is for
LIST = "list-00000000.txt"
_PREFIX, _SUFFIX, _SECRET = "crt-", ".pem", 16
_HOSTS_A_FILE = 200
_BYTES = 13_000  # of what one command may bring (`vrata.haproxy.runtime`)


def file_names(secret: SecretKey, whole: Certificate) -> dict[str, Certificate]:
    """Name → what is in the file."""
    parts = [
        Certificate(whole.pem, whole.hosts[start : start + _HOSTS_A_FILE])
        for start in range(0, len(whole.hosts), _HOSTS_A_FILE)
    ]
    return {_name(secret, part): part for part in parts}


def _name(secret: SecretKey, part: Certificate) -> str:
    content = hashlib.blake2s("\0".join((part.pem, *part.hosts)).encode(), digest_size=12).hexdigest()
    return f"{_PREFIX}{secret_digest(secret)}{content}{_SUFFIX}"


def secret_digest(secret: SecretKey) -> str:
    """What a Secret's files begin with, after their prefix."""
    return hashlib.blake2s(secret.encode(), digest_size=_SECRET // 2).hexdigest()


def secret_of_file(name: str) -> str:
    """The digest of the Secret whose file this is."""
    return name.removeprefix(_PREFIX)[:_SECRET]


def fits(certificate: Certificate) -> bool:
    """Whether HAProxy 2.6 takes it over its socket."""
    return len(certificate.pem) <= _BYTES


def list_line(path: str, certificate: Certificate) -> str:
    """The line of a crt-list (configuration manual 2.6, section 5.1, `crt-list`)."""
    return f"{path} {' '.join(certificate.hosts)}"
