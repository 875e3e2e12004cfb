"""Users and their passwords' hashes, as htpasswd writes them (Apache's manual, «Password Formats»; ingress-nginx, `auth-secret`).

A Secret has them under `auth`, a line each (`auth-file`), or a key each (`auth-map`). Lines that begin with # are comments,
and so is what follows a second colon (nginx, ngx_http_auth_basic_module).
"""

import base64
import hashlib
import re
from dataclasses import dataclass, field

from vrata.ingress.model import SecretKey
from vrata.kube.objects import Secret

FILE, MAP = ";users", ";user-map"  # what follows `namespace/name` in the key of such a Secret
# Costs are bounded: a check is work for whoever asks, and anybody may.
_HASH = re.compile(
    r"\$2[aby]\$(?:0[4-9]|1[0-2])\$[./A-Za-z0-9]{53}"
    r"|\$(?:apr1|1)\$[./A-Za-z0-9]{1,8}\$[./A-Za-z0-9]{22}"
    r"|\$[56]\$(?:rounds=(?:[0-9]{4}|[1-4][0-9]{4}|50000)\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{43,86}"
    r"|\{SHA\}[A-Za-z0-9+/]{27}=",
    re.ASCII,
)
MOST = 10_000
LONGEST_PASSWORD = 256  # bytes: crypt's kinds read all of it again in each round


@dataclass(frozen=True)
class Users:
    """Hashes by name; the version is another one whenever anything of it is."""

    hashes: dict[str, str] = field(repr=False)
    version: str


def is_users(key: SecretKey) -> bool:
    """Whether a Secret is named for its users."""
    return key.endswith((FILE, MAP))


def users_in(key: SecretKey, secret: Secret) -> Users | tuple[str, str]:
    """The users of a Secret, or why there are none (reason, message)."""
    lines = secret.data.values() if key.endswith(MAP) else [secret.data.get("auth", "")]
    name = key.partition(";")[0]
    try:
        texts = [base64.b64decode(line, validate=True).decode() for line in lines]
    except ValueError:
        return "InvalidSecret", f"Secret {name!r} is no text; make it of htpasswd's output"
    if key.endswith(MAP):
        pairs = list(zip(secret.data, (text.strip() for text in texts), strict=True))
    else:
        lines = [line.strip() for line in texts[0].splitlines()]
        pairs = [(user, rest) for user, _, rest in (line.partition(":") for line in lines if line[:1] != "#") if user]
    pairs = [(user, rest.partition(":")[0]) for user, rest in pairs]
    if not pairs or len(pairs) > MOST:
        where = "a key for each user" if key.endswith(MAP) else "the key `auth`, a line for each user"
        return "InvalidSecret", f"Secret {name!r} has no users, or more than {MOST}; it needs {where}"
    for number, (_, text) in enumerate(pairs, 1):
        if not _HASH.fullmatch(text):
            # No word of it: more people read events than Secrets, and this one may be something else altogether.
            costly = "more than 50,000 rounds of sha-crypt, a bcrypt cost of more than 12"
            wrong = f"user {number} has no hash that is known, or a costly one ({costly}); use htpasswd -B or -s"
            return "InvalidSecret", f"Secret {name!r}: {wrong}"
    whole = "\0".join(f"{user}:{text}" for user, text in sorted(pairs))
    return Users(dict(pairs), hashlib.blake2s(whole.encode(), digest_size=12).hexdigest())


def is_right(users: Users, user: str, password: str) -> bool:
    """Whether a password is a user's. Takes as long as the hash was made to take; in vain for unknown users, too."""
    from passlib.hash import (  # type: ignore[import-untyped]
        apr_md5_crypt,
        bcrypt,
        ldap_sha1,
        md5_crypt,
        sha256_crypt,
        sha512_crypt,
    )

    kinds = {"$apr1": apr_md5_crypt, "$1": md5_crypt, "$5": sha256_crypt, "$6": sha512_crypt, "{SHA}": ldap_sha1}
    if len(password.encode()) > LONGEST_PASSWORD:
        return False
    known = users.hashes.get(user)
    text = known or next(iter(users.hashes.values()))
    kind = next((made for start, made in kinds.items() if text.startswith(start)), bcrypt)
    try:
        return bool(kind.verify(password, text)) and known is not None
    except ValueError:  # bytes that no password has
        return False
