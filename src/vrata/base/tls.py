"""TLS of the HTTP services: a context whose certificate can be exchanged while it serves."""

import asyncio
import contextlib
import ssl
from datetime import UTC, datetime
from pathlib import Path

import structlog

from vrata.base.errors import VrataError
from vrata.base.pki import Pair, is_pair, validity

log = structlog.get_logger(__name__)

LOOK_S = 2.0  # how soon new files are used


class ServerTls:
    """Certificate and key out of files; new files are used for new connections, without a restart.

    With `clients`, a file with the authority of clients' certificates, a client may show one; who must, the application
    decides.
    """

    def __init__(self, certificate: Path, key: Path, clients: Path | None = None) -> None:
        self._certificate, self._key = certificate, key
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.set_alpn_protocols(["http/1.1"])
        self._loaded = self._read()
        self._refused: tuple[bytes, bytes] | None = None
        self._load(self._loaded)
        if clients is not None:
            try:
                self.context.load_verify_locations(clients)
            except OSError as error:
                remedy = "give the file of the hosts' authority"
                raise VrataError(f"{clients}: {error.strerror or error}", remedy=remedy) from error
            self.context.verify_mode = ssl.CERT_OPTIONAL

    def certificate(self) -> bytes:
        """What is shown to clients, in PEM."""
        return self._loaded[0]

    def ends(self) -> float:
        """When the certificate that is used ends, in seconds since the epoch."""
        return validity(self._loaded[0])[1].timestamp()

    def look(self) -> bool:
        """Use new files if there are any; whether there were. Those that cannot be used are left, with a warning."""
        try:
            found = self._read()
            if found in (self._loaded, self._refused):
                return False
            self._refused = found
            self._load(found)
            self._loaded, self._refused = found, None
        except VrataError as error:
            log.warning("certificate_not_used", error=str(error))
            return False
        log.info("certificate_used", file=str(self._certificate))
        return True

    async def watch(self) -> None:
        """Look for new files, for as long as the service runs.

        In the event loop that accepts the connections: none is accepted between a new certificate and its key.
        """
        while True:
            await asyncio.sleep(LOOK_S)
            self.look()

    def _read(self) -> tuple[bytes, bytes]:
        found = []
        for path in (self._certificate, self._key):
            try:
                found.append(path.read_bytes())
            except OSError as error:
                remedy = "give --tls-cert and --tls-key, or run `vrata cloud init`"
                raise VrataError(f"{path}: {error.strerror}", remedy=remedy) from error
        return found[0], found[1]

    def _load(self, content: tuple[bytes, bytes]) -> None:
        with contextlib.suppress(ValueError):  # OpenSSL says it better below
            if not is_pair(Pair(*content)):
                raise VrataError(f"{self._key}: not the key of {self._certificate}", remedy="give the pair")
            if validity(content[0])[1] <= datetime.now(UTC):
                raise VrataError(
                    f"{self._certificate} has ended", remedy="renew it; `vrata cloud init` replaces its own"
                )
        try:
            # Without a password OpenSSL would ask the terminal; and a failure leaves a context in pieces.
            for context in (ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.context):
                context.load_cert_chain(self._certificate, self._key, password="")
        except (OSError, ssl.SSLError) as error:
            remedy = "give a certificate chain and its key, in PEM, without a password"
            raise VrataError(f"{self._certificate}, {self._key}: {error}", remedy=remedy) from error
