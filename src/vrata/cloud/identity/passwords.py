"""Hashes and checks secrets with scrypt (RFC 7914); the parameters travel with the hash so that they can rise."""

import base64
import hashlib
import hmac
import os

R, P = 8, 5
COST = 14  # log2 of N: 16 MiB and about 0.2 s of one core, OWASP's row for this much memory
SECRET_MAX = 1024


def hash_secret(secret: str, cost: int = COST) -> str:
    """`scrypt$n$r$p$salt$hash`, with a fresh salt. `cost`: log2 of n."""
    salt, n = os.urandom(16), 2**cost
    return f"scrypt${n}${R}${P}${_text(salt)}${_text(_scrypt(secret, salt, n, R, P))}"


def verify(secret: str, stored: str | None, cost: int = COST) -> bool:
    """Whether the secret is the stored one. An absent one costs as much as one hashed now, so users cannot be guessed."""
    nobody = f"scrypt${2**cost}${R}${P}${_text(bytes(16))}${_text(bytes(32))}"
    name, n, r, p, salt, wanted = (stored or nobody).split("$")
    if name != "scrypt" or len(secret) > SECRET_MAX:
        return False
    got = _scrypt(secret, base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(got, base64.b64decode(wanted)) and stored is not None


def _scrypt(secret: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
