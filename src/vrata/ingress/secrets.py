"""Certificates, users and authorities out of Secrets, headers out of ConfigMaps: only what an Ingress names is read, and read
again when it changes.

Changes are watched by metadata alone, so that nobody's passwords come along.
"""

import asyncio
import base64
import ssl
import tempfile
from collections.abc import Callable
from functools import partial

import aiohttp
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from vrata.base.errors import InvalidInput, VrataError
from vrata.base.pki import validity
from vrata.haproxy import certificates
from vrata.ingress.headers import HEADERS, Headers, headers_in
from vrata.ingress.model import SecretKey
from vrata.ingress.trust import AUTHORITY, PEER, Trust, trust_in
from vrata.ingress.users import FILE, MAP, Users, is_users, users_in
from vrata.kube import resources
from vrata.kube.client import Kube
from vrata.kube.informer import Informer
from vrata.kube.objects import ConfigMap, PartialObject, Secret

RETRY_S = 1.0
AT_ONCE = 16
RSA_BITS_MAX = 4096
PARTS = {"certificate": "tls.crt", "private_key": "tls.key"}  # of a Secret of type kubernetes.io/tls
# What a Secret has: PEM in HAProxy's form, or users, or who is trusted, or what is wrong with it (reason, message).
Found = str | Users | Trust | Headers | tuple[str, str]

log = structlog.get_logger(__name__)


class Secrets:
    """`changed(key)` is called when another content has been read."""

    def __init__(self, kube: Kube, changed: Callable[[SecretKey], None]) -> None:
        self.known = Informer(kube, resources.SECRETS, PartialObject, metadata_only=True)
        self.config_maps = Informer(kube, resources.CONFIG_MAPS, PartialObject, metadata_only=True)
        self._kube = kube
        self._changed = changed
        self._found: dict[SecretKey, Found] = {}
        self.ends: dict[SecretKey, float] = {}  # of certificates, in seconds since the epoch
        self._wanted: set[SecretKey] = set()
        self._unread: set[SecretKey] = set()
        self._due = asyncio.Event()
        self.known.on_change(partial(self._seen, ("", FILE, MAP, AUTHORITY, PEER)))
        self.config_maps.on_change(partial(self._seen, (HEADERS,)))

    def get(self, key: SecretKey) -> Found | None:
        """None: it was not read yet."""
        return self._found.get(key)

    def want(self, key: SecretKey, *, wanted: bool) -> None:
        """Whether this Secret is named by an Ingress."""
        if wanted and key not in self._wanted:
            self._wanted.add(key)
            self._read(key)
        elif not wanted:
            self._wanted.discard(key)
            self._unread.discard(key)
            self._found.pop(key, None)
            self.ends.pop(key, None)

    def _seen(self, uses: tuple[str, ...], old: PartialObject | None, new: PartialObject | None) -> None:
        entry = new or old
        assert entry
        for use in uses:
            key = SecretKey(f"{entry.metadata.key}{use}")
            if key in self._wanted:
                self._read(key)

    def _read(self, key: SecretKey) -> None:
        self._unread.add(key)
        self._due.set()

    async def settled(self) -> None:
        """Wait until everything that is wanted was read once."""
        while self._wanted - self._found.keys():
            await asyncio.sleep(0.005)

    async def run(self) -> None:
        """Read what is due until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(self._work())

    async def _work(self) -> None:
        while True:
            if not self._unread:
                self._due.clear()
                await self._due.wait()
                continue
            key = self._unread.pop()
            try:
                found = await self._ask(key)
            except (VrataError, aiohttp.ClientError, OSError, TimeoutError) as error:
                said = str(error) or type(error).__name__
                log.warning("secret not read", secret=key, error=said)
                asyncio.get_running_loop().call_later(RETRY_S, self._again, key)
                found = self._found.get(key, ("SecretNotRead", f"{key!r} cannot be read ({said}); it is tried again"))
            if key in self._wanted and self._found.get(key) != found:
                self._found[key] = found
                self._note_end(key, found)
                self._changed(key)

    def _note_end(self, key: SecretKey, found: Found) -> None:
        if ";" not in key and isinstance(found, str):
            self.ends[key] = validity(found.encode())[1].timestamp()
        else:
            self.ends.pop(key, None)

    async def _ask(self, key: SecretKey) -> Found:
        namespace, _, name = key.partition(";")[0].partition("/")
        if key.endswith(HEADERS):
            return headers_in(key, await self._kube.get(resources.CONFIG_MAPS, ConfigMap, name, namespace))
        return found_in(key, await self._kube.get(resources.SECRETS, Secret, name, namespace))

    def _again(self, key: SecretKey) -> None:
        if key in self._wanted:
            self._read(key)


def found_in(key: SecretKey, secret: Secret | None) -> Found:
    """The users or authorities of a Secret, or the certificate of one of type kubernetes.io/tls, or why there are none."""
    if secret is None:
        return "SecretNotFound", f"no Secret {key.partition(';')[0]!r}; create it, then it is served"
    if ";" in key:
        return users_in(key, secret) if is_users(key) else _tried(key, trust_in(key, secret))
    parts = {}
    for field, part in PARTS.items():
        try:
            parts[field] = base64.b64decode(secret.data[part], validate=True)
        except (KeyError, ValueError):
            return "InvalidSecret", f"Secret {key!r} has no {part}; put the PEM there (kubectl create secret tls)"
    try:
        pem = certificates.bundle(parts["certificate"], parts["private_key"], None, None)
        _try(pem)
    except InvalidInput as error:
        part = PARTS.get(error.field, error.field)
        return "InvalidSecret", f"Secret {key!r}, {part}: {error.value!r} is not valid; {error.remedy}"
    except ssl.SSLError as error:
        return (
            "InvalidSecret",
            f"Secret {key!r} cannot be served ({error.reason}); use a certificate that TLS 1.2 takes",
        )
    return pem


def _tried(key: SecretKey, found: Trust | tuple[str, str]) -> Trust | tuple[str, str]:
    try:
        if isinstance(found, Trust) and found.authority:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(cadata=found.authority)
        if isinstance(found, Trust) and found.certificate:
            _try(found.certificate)
    except InvalidInput as error:
        return "InvalidSecret", f"Secret {key.partition(';')[0]!r}, {error}"
    except ssl.SSLError as error:
        remedy = "use certificates that TLS 1.2 takes"
        return "InvalidSecret", f"Secret {key.partition(';')[0]!r} cannot be used ({error.reason}); {remedy}"
    return found


def _try(pem: str) -> None:
    """ssl.SSLError for what OpenSSL, which HAProxy uses, too, does not serve: keys that are too short, weak digests.

    InvalidInput for a key that keeps HAProxy's threads, which are everybody's, busy: 16,384 bits take it a second each time.
    """
    key = x509.load_pem_x509_certificate(pem.encode()).public_key()
    if isinstance(key, rsa.RSAPublicKey) and key.key_size > RSA_BITS_MAX:
        raise InvalidInput("private_key", f"RSA, {key.key_size} bits", f"use RSA of at most {RSA_BITS_MAX} bits, or EC")
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:  # readable for us alone
        file.write(pem)
        file.flush()
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file.name)
