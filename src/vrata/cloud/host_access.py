"""Who may speak for a host: whoever shows the host's own certificate, or a secret that all hosts share.

A host joins with a token that was made for its name, is good once and for a limited time; it gets a certificate, and a new
one before that ends. Revoking a host refuses all certificates that were issued to it before; it may join again with a new
token. What is stored says which certificates are refused, not which are accepted: a database that is restored from a
backup still accepts every host.
"""

import hmac
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import sqlalchemy as sa
from starlette.requests import Request

from vrata.base import pki
from vrata.base.asgi import CLIENT_CERTIFICATE
from vrata.base.wire import JoinToken
from vrata.cloud.balancing import tables as t
from vrata.cloud.store import Tx

CERTIFICATE_LIFE = timedelta(days=30)
TOKEN_LIFE = timedelta(hours=1)
NAME_MAX = 255  # characters of a host's name


@dataclass(frozen=True)
class Refusal:
    """Why a request of a host is not answered: HTTP status, and what to do about it."""

    status: int
    reason: str


def new_token(tx: Tx, host: str, authority: bytes, life: timedelta = TOKEN_LIFE) -> JoinToken:
    """A token for one host; those that have ended are forgotten."""
    tx.execute(sa.delete(t.host_tokens).where(t.host_tokens.c.ends < tx.now()))
    token = JoinToken(secrets.token_urlsafe(24), pki.fingerprint(authority))
    tx.insert(t.host_tokens, {"hash": _hash(token.secret), "host": host, "ends": tx.now() + life.total_seconds()})
    return token


def refuse_token(tx: Tx, secret: str, host: str) -> Refusal | None:
    """Why a token cannot be used; None: it can. Nothing is written, so guesses do not hold up writes."""
    c = t.host_tokens.c
    found = tx.one(sa.select(c.host, c.ends).where(c.hash == _hash(secret)))
    if found is None or found["ends"] < tx.now():
        return Refusal(
            403, "this token is not known, has been used, or has ended; make one with `vrata cloud host-token`"
        )
    if found["host"] != host:
        return Refusal(403, f"this token is for another host than {host}; give the name that it was made for")
    return None


def use_token(tx: Tx, secret: str, host: str) -> Refusal | None:
    """Use up a token; None: it was good."""
    if refused := refuse_token(tx, secret, host):
        return refused
    used = tx.execute(sa.delete(t.host_tokens).where(t.host_tokens.c.hash == _hash(secret)))
    return None if used else Refusal(403, "this token has been used; make one with `vrata cloud host-token`")


def revoke(tx: Tx, host: str) -> bool:
    """Refuse all certificates that the host has now, and tokens that it has not used; whether it has ever reported."""
    epoch = _epoch(tx, host) + 1
    tx.delete(t.host_revocations, host)
    tx.insert(t.host_revocations, {"host": host, "epoch": epoch})
    tx.execute(sa.delete(t.host_tokens).where(t.host_tokens.c.host == host))
    return tx.get(t.hosts, host) is not None


def issue(tx: Tx, authority: pki.Pair, request: bytes, host: str) -> bytes:
    """A new certificate of the host. ValueError if the request for it cannot be used.

    One that is revoked at the same moment has the epoch from before, whichever of the two is first.
    """
    now = datetime.fromtimestamp(tx.now(), UTC)
    return pki.sign_request(authority, request, host, now, CERTIFICATE_LIFE, _epoch(tx, host))


def _epoch(tx: Tx, host: str) -> int:
    found = tx.get(t.host_revocations, host)
    return 0 if found is None else int(found["epoch"])


def shown_certificate(request: Request) -> pki.HostCertificate | None:
    """Of a connection over TLS, which has checked whose signature it has."""
    der = request.scope.get(CLIENT_CERTIFICATE)
    return pki.host_certificate(der) if der else None


def refusal(tx: Tx, host: str, shown: pki.HostCertificate | None) -> Refusal | None:
    """Whether a certificate may speak for this host; None: it may."""
    if shown is None:
        return Refusal(401, "no certificate of a host was shown; let this host join with `vrata host join`")
    if shown.host != host:
        return Refusal(403, f"this certificate is of host {shown.host}, not of {host}")
    if shown.ends.timestamp() < tx.now():  # the connection may be older
        return Refusal(403, "this certificate has ended; compare the clocks, or let the host join again")
    if shown.epoch < _epoch(tx, host):
        return Refusal(403, "this certificate has been revoked; let the host join again with a new token")
    return None


def has_secret(request: Request, known: tuple[str, ...]) -> bool:
    """Whether the request has one of the shared secrets; none are known where hosts have certificates."""
    given = request.headers.get("authorization", "").encode()
    return any(hmac.compare_digest(given, f"Bearer {secret}".encode()) for secret in known)


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
