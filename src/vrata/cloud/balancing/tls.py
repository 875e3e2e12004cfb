"""From what listeners and pools say about TLS to what hosts need for it: the material behind every reference.

A reference that can not be read any more (its key is lost) becomes an empty one, which the host refuses by name; it
goes on serving what it has.
"""

from collections.abc import Callable
from typing import Any

from vrata.base import wire
from vrata.base.errors import InvalidInput
from vrata.cloud.keymanager.material import Reader
from vrata.cloud.store import Row


class TlsBuilder:
    """Builds the wire's TLS parts of rows, reading material through `reader`."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def listener(self, row: Row) -> wire.ListenerTls | None:
        """None unless the listener ends TLS."""
        if row["protocol"] != "TERMINATED_HTTPS":
            return None
        default = row["default_tls_container_ref"]
        return wire.ListenerTls(
            **self._shared(row, "client_ca_tls_container_ref", "client_crl_container_ref"),
            default_certificate=self._certificate("default_tls_container_ref", default),
            sni_certificates=tuple(
                found
                for ref in row["sni_container_refs"] or ()
                if (found := self._certificate("sni_container_refs", ref)) is not None
            ),
            client_authentication=row["client_authentication"],
            hsts_max_age=row["hsts_max_age"],
            hsts_include_subdomains=bool(row["hsts_include_subdomains"]),
            hsts_preload=bool(row["hsts_preload"]),
        )

    def pool(self, row: Row) -> wire.PoolTls | None:
        """None unless the pool's members are spoken to in TLS."""
        if not row["tls_enabled"]:
            return None
        return wire.PoolTls(
            **self._shared(row, "ca_tls_container_ref", "crl_container_ref"),
            certificate=self._certificate("tls_container_ref", row["tls_container_ref"]),
        )

    def _shared(self, row: Row, ca: str, crl: str) -> dict[str, Any]:
        return {
            "ciphers": row["tls_ciphers"],
            "versions": tuple(row["tls_versions"] or ()),
            "alpn_protocols": tuple(row["alpn_protocols"] or ()),
            "ca_pem": self._pem(self._reader.authorities, ca, row[ca]),
            "crl_pem": self._pem(self._reader.revocations, crl, row[crl]),
        }

    def _certificate(self, field: str, ref: str | None) -> wire.Certificate | None:
        if ref is None:
            return None
        try:
            return self._reader.certificate(field, ref)
        except InvalidInput:
            return wire.Certificate(ref=ref)

    def _pem(self, read: Callable[[str, str], str], field: str, ref: str | None) -> str | None:
        if ref is None:
            return None
        try:
            return read(field, ref)
        except InvalidInput:
            return ""
