"""Hashes and checks secrets with scrypt (RFC 7914); the parameters travel with the hash so that they can rise."""

import base64
import hashlib
import hmac
import os

N, R, P = 2**14, 8, 5  # 16 MiB and about 0.2 s of one core: OWASP's row for this much memory
SECRET_MAX = 1024


def hash_secret(secret: str) -> str:
    """`scrypt$n$r$p$salt$hash`, with a fresh salt."""
    salt = os.urandom(16)
    return f"scrypt${N}${R}${P}${_text(salt)}${_text(_scrypt(secret, salt, N, R, P))}"


def verify(secret: str, stored: str | None) -> bool:
    """Whether the secret is the stored one. An absent one costs the same time, so users can not be guessed."""
    name, n, r, p, salt, wanted = (stored or _NOBODY).split("$")
    if name != "scrypt" or len(secret) > SECRET_MAX:
        return False
    got = _scrypt(secret, base64.b64decode(salt), int(n), int(r), int(p))
    return hmac.compare_digest(got, base64.b64decode(wanted)) and stored is not None


def _scrypt(secret: str, salt: bytes, n: int, r: int, p: int) -> bytes:
    return hashlib.scrypt(secret.encode(), salt=salt, n=n, r=r, p=p, maxmem=256 * n * r, dklen=32)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


_NOBODY = f"scrypt${N}${R}${P}${_text(bytes(16))}${_text(bytes(32))}"
