"""What a host shows the cloud: its own certificate out of a directory, or a secret that all hosts share.

    DIRECTORY/host.key    the host's key, which never leaves it
    DIRECTORY/host.crt    its certificate
    DIRECTORY/ca.crt      the authority that signs certificates of the cloud and of hosts

A new certificate comes with the key that is there; it replaces the old one at once, so a crash leaves one of them.
"""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

from vrata.base import pki
from vrata.base.errors import VrataError
from vrata.base.files import write_atomic

RENEWED_AT = 2 / 3  # of a certificate's life
JOIN = "let this host join with `vrata host join`"


class SharedSecret:
    """A secret that every host has."""

    tls: ssl.SSLContext | None = None

    def __init__(self, secret: str) -> None:
        self.headers = {"Authorization": f"Bearer {secret}"}

    def refused(self) -> str:
        """What to do when the cloud refuses it."""
        return "compare --secret-file"


class Certificates:
    """The files of one host. VrataError if they are missing, of another host, or not valid now."""

    def __init__(self, directory: Path, host: str) -> None:
        self._directory, self._host = directory, host
        self.headers: dict[str, str] = {}
        self.load()

    def load(self) -> None:
        """Read the files, at the start and after a renewal."""
        directory = self._directory
        self._key, pem = _content(directory / "host.key"), _content(directory / "host.crt")
        found = pki.read_host_certificate(pem)
        if found is None:
            raise VrataError(f"{directory / 'host.crt'}: not the certificate of a host", remedy=JOIN)
        if found.host != self._host:
            raise VrataError(
                f"{directory / 'host.crt'} is of host {found.host}, not of {self._host}",
                remedy="give the --name with which this machine has joined",
            )
        now = datetime.now(UTC)
        if found.ends <= now:
            remedy = f"compare the clock, or {JOIN} again"
            raise VrataError(f"{directory / 'host.crt'} has ended at {found.ends:%Y-%m-%d %H:%M} UTC", remedy=remedy)
        if found.issued - pki.BACKDATED > now:
            raise VrataError(
                f"{directory / 'host.crt'} is not valid before {found.issued:%Y-%m-%d %H:%M} UTC, and it is {now:%H:%M}",
                remedy="set this machine's clock",
            )
        self._certificate = found
        authority = directory / "ca.crt"
        try:
            self.tls = trusting(_content(authority).decode())
        except ValueError as error:
            raise VrataError(f"{authority}: not a certificate in PEM", remedy=JOIN) from error
        try:
            self.tls.load_cert_chain(directory / "host.crt", directory / "host.key")
        except (OSError, ssl.SSLError) as error:
            raise VrataError(f"{directory}: host.key is not the key of host.crt ({error})", remedy=JOIN) from error

    def refused(self) -> str:
        """What to do when the cloud refuses it."""
        return "make a token there with `vrata cloud host-token`, and join again with `vrata host join`"

    def due_s(self) -> float:
        """Seconds until a new certificate should be asked for; negative: it is late."""
        found = self._certificate
        renewal = found.issued + (found.ends - found.issued) * RENEWED_AT
        return (renewal - datetime.now(UTC)) / timedelta(seconds=1)

    def request(self) -> bytes:
        """A request for the next certificate."""
        return pki.new_request(self._key, self._host)

    def renewed(self, certificate: bytes) -> None:
        """Use a new certificate from now on; the old one stays if the new one cannot be used."""
        found = pki.read_host_certificate(certificate)
        try:
            fits = found is not None and found.host == self._host and pki.is_pair(pki.Pair(certificate, self._key))
        except ValueError:
            fits = False
        if not fits:
            raise VrataError("the cloud sent a certificate that is not of this host and its key")
        write_atomic(self._directory / "host.crt", certificate, durable=True)
        self.load()


def trusting(authority: str) -> ssl.SSLContext:
    """A client's context that trusts the cloud's own authority alone. ValueError if the text has no certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_verify_locations(cadata=authority)
    except ssl.SSLError as error:
        raise ValueError(str(error)) from error
    return context


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise VrataError(f"{path}: {error.strerror}", remedy=JOIN) from error
