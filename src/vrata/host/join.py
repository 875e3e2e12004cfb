"""How a machine becomes a host: a token of the cloud for a certificate of its own.

The token holds the fingerprint of the cloud's authority. The authority's certificate is fetched first, over a connection
that proves nothing, and compared with it; everything else goes over a connection that this authority vouches for.
"""

import asyncio
import ssl
from pathlib import Path

import aiohttp

from vrata.base import pki
from vrata.base.errors import InvalidInput, VrataError
from vrata.base.files import write_atomic
from vrata.host.credentials import trusting

TIMEOUT_S = 20.0
ANSWER_MAX = 64 * 1024  # bytes


async def join(url: str, host: str, secret: str, authority: str, directory: Path) -> None:
    """Fill the directory of `vrata.host.credentials`. A key that is there stays. VrataError says what was refused."""
    unproved = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unproved.check_hostname, unproved.verify_mode = False, ssl.CERT_NONE
    base = url.rstrip("/")
    answer = await _ask("GET", f"{base}/agent/v1/authority", unproved)
    try:
        # One certificate and nothing else: whatever else stood there would be trusted, too.
        certificate = pki.only_certificate(answer)
    except ValueError as error:
        raise VrataError(f"{base}: what answers has no authority's certificate", remedy="check --cloud-url") from error
    if pki.fingerprint(certificate) != authority:
        raise InvalidInput(
            "--token", f"…{authority[:16]}…", f"use a token of this cloud: another authority answers at {base}"
        )
    key_file = directory / "host.key"
    try:
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        key = key_file.read_bytes() if key_file.exists() else pki.new_key()
        request = pki.new_request(key, host)
    except OSError as error:
        remedy = "run this as root, or name another directory"
        raise VrataError(f"{directory}: {error.strerror}", remedy=remedy) from error
    except ValueError as error:
        raise VrataError(f"{key_file}: not an ECDSA key in PEM", remedy="remove it to get a new one") from error
    headers = {"Authorization": f"Bearer {secret}"}
    trusted = trusting(certificate.decode())
    made = await _ask("POST", f"{base}/agent/v1/hosts/{host}/join", trusted, headers, request)
    # Nothing is written before the cloud has accepted: a host that works keeps working after a failed attempt.
    for path, content, mode in (
        (key_file, key, 0o600), (directory / "ca.crt", certificate, 0o644), (directory / "host.crt", made, 0o644),
    ):  # fmt: skip
        write_atomic(path, content, durable=True, mode=mode)


async def _ask(
    method: str, url: str, context: ssl.SSLContext, headers: dict[str, str] | None = None, body: bytes = b""
) -> bytes:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(method, url, ssl=context, headers=headers, data=body or None) as answer,
        ):
            content = await answer.content.read(ANSWER_MAX)
    except aiohttp.ClientConnectorCertificateError as error:
        raise VrataError(
            f"{url}: {error.certificate_error}", remedy="give --cloud-url with a name of its certificate"
        ) from error
    except (TimeoutError, asyncio.IncompleteReadError, aiohttp.ClientError, OSError) as error:
        remedy = "check --cloud-url: it is the address of --agent-listen"
        raise VrataError(f"{url}: the cloud does not answer ({error or 'time-out'})", remedy=remedy) from error
    if answer.status != 200:
        raise VrataError(f"{url}: the cloud answers {answer.status}: {content.decode(errors='replace').strip()}")
    return content
