"""Users and their passwords' hashes, as htpasswd writes them (Apache's manual, «Password Formats»; ingress-nginx, `auth-secret`).

A Secret has them under `auth`, a line each (`auth-file`), or a key each (`auth-map`). Lines that begin with # are comments,
and so is what follows a second colon; of a user's lines the first one counts (nginx, ngx_http_auth_basic_module). A line that
cannot be verified keeps out nobody but its own user.
"""

import base64
import codecs
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
MOST_TOLD, LONGEST_NAME = 5, 64
LONGEST_PASSWORD = 256  # bytes: crypt's kinds read all of it again in each round


@dataclass(frozen=True)
class Users:
    """Hashes by name; the version is another one whenever anything of it is. `wrong`: what is wrong with other lines."""

    hashes: dict[str, str] = field(repr=False)
    version: str
    wrong: tuple[str, ...] = ()


def is_users(key: SecretKey) -> bool:
    """Whether a Secret is named for its users."""
    return key.endswith((FILE, MAP))


def users_in(key: SecretKey, secret: Secret) -> Users | tuple[str, str]:
    """The users of a Secret, or why there are none (reason, message).

    Problems name lines and users, if anything of it is a list of users at all, and never a hash: more people read events
    than Secrets.
    """
    name = key.partition(";")[0]
    try:
        entries = _entries(key, secret)
    except ValueError:
        return "InvalidSecret", f"Secret {name!r} is not base64; make it of htpasswd's output"
    if not entries or len(entries) > MOST:
        where = "a key for each user" if key.endswith(MAP) else "the key `auth`, a line for each user"
        return "InvalidSecret", f"Secret {name!r} has no users, or more than {MOST}; it needs {where}"
    hashes: dict[str, str] = {}
    known: set[str] = set()
    wrong = []
    for at, user, text in entries:
        if user and text and user not in known and _HASH.fullmatch(text):
            hashes[user] = text
        else:
            wrong.append((at, user, "an earlier line is for the same user" if user in known else _WRONG))
        known |= {user} if user else set()
    if not hashes:
        return "InvalidSecret", f"Secret {name!r}, {wrong[0][0]}, and all others: {_WRONG}"
    said = [f"Secret {name!r}, {at}{_named(user)}: {why}" for at, user, why in wrong[:MOST_TOLD]]
    said += [f"Secret {name!r}: {len(wrong) - MOST_TOLD} more lines are wrong"] if len(wrong) > MOST_TOLD else []
    whole = "\0".join(f"{user}:{text}" for user, text in sorted(hashes.items()))
    return Users(hashes, hashlib.blake2s(whole.encode(), digest_size=12).hexdigest(), tuple(said))


_WRONG = (
    "this user cannot come in: no hash that is known, or a costly one (more than 50,000 rounds of sha-crypt, a bcrypt cost of"
    " more than 12); use htpasswd -B or -s"
)


def _entries(key: SecretKey, secret: Secret) -> list[tuple[str, str | None, str | None]]:
    """Where it is, user, hash; None for what is not there or no text. ValueError if the Secret is not base64."""
    if key.endswith(MAP):
        values = {user: _text(base64.b64decode(value, validate=True)) for user, value in secret.data.items()}
        return [
            (f"key {number}", user, text and text.strip().partition(":")[0])
            for number, (user, text) in enumerate(values.items(), 1)
        ]
    found: list[tuple[str, str | None, str | None]] = []
    whole = base64.b64decode(secret.data.get("auth", ""), validate=True).removeprefix(codecs.BOM_UTF8)
    for number, line in enumerate(re.split(rb"\r\n|\r|\n", whole), 1):
        text = _text(line)
        if text is not None and (not text.strip() or text.strip().startswith("#")):
            continue
        user, colon, rest = (text or "").strip().partition(":")
        found.append((f"line {number}", user if colon and user else None, rest.partition(":")[0] if colon else None))
    return found


def _text(line: bytes) -> str | None:
    try:
        return line.decode()
    except ValueError:
        return None


def _named(user: str | None) -> str:
    return f" (user {user[:LONGEST_NAME]!r})" if user else ""


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
