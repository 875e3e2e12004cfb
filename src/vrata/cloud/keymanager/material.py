"""What the balancing service reads of the key manager, in place of any user: certificates, authorities, revocations.

References were checked when a listener or pool took them; a caller may use what it may read. InvalidInput names the
field and the reference; nothing of a payload is ever in an error.
"""

from dataclasses import dataclass

from vrata.base import wire
from vrata.base.errors import InvalidInput, VrataError
from vrata.cloud.fields import UUID
from vrata.cloud.http import Caller
from vrata.cloud.keymanager import tables as t
from vrata.cloud.keymanager.uses import id_of
from vrata.cloud.keymanager.vault import Vault
from vrata.cloud.store import Row, Tx
from vrata.haproxy import certificates


@dataclass(frozen=True)
class Reader:
    """Reads for listeners and pools; with a `caller`, only what that caller may read."""

    tx: Tx
    vault: Vault
    caller: Caller | None = None

    def certificate(self, field: str, ref: str) -> wire.Certificate:
        """Of a certificate container, or of a secret that holds a PKCS #12 file or PEM with everything."""
        container = self._container(ref)
        try:
            if container is not None:
                parts = {name: self._payload(field, ref, one) for name, one in container["secrets"].items()}
                if container["type"] != "certificate" or "private_key" not in parts:
                    raise InvalidInput(field, ref, "give a certificate container that holds the private key, too")
                pem = certificates.bundle(
                    parts["certificate"], parts["private_key"], parts.get("private_key_passphrase"),
                    parts.get("intermediates"),
                )  # fmt: skip
            else:
                payload = self._payload(field, ref, id_of(ref))
                if payload.lstrip().startswith(b"-----BEGIN"):
                    pem = certificates.bundle(payload, payload, None, None)
                else:
                    pem = certificates.bundle_of_pkcs12(payload)
        except InvalidInput as error:
            raise InvalidInput(field, ref, error.remedy or "") from error
        return wire.Certificate(ref=ref, pem=pem)

    def authorities(self, field: str, ref: str) -> str:
        """CA certificates in a secret, or the certificate of a container."""
        return self._pem(field, ref, certificates.authorities)

    def revocations(self, field: str, ref: str) -> str:
        """A revocation list in a secret."""
        return self._pem(field, ref, certificates.revocations)

    def _pem(self, field: str, ref: str, read) -> str:  # type: ignore[no-untyped-def]
        container = self._container(ref)
        secret_id = id_of(ref) if container is None else container["secrets"].get("certificate", "")
        try:
            return str(read(self._payload(field, ref, secret_id)))
        except InvalidInput as error:
            raise InvalidInput(field, ref, error.remedy or "") from error

    def _container(self, ref: str) -> Row | None:
        if not UUID.match(id_of(ref)):
            return None
        row = self.tx.get(t.containers, id_of(ref))
        return row if row is not None and self._may_read(row) else None

    def _payload(self, field: str, ref: str, secret_id: str) -> bytes:
        row = self.tx.get(t.secrets, secret_id) if UUID.match(secret_id) else None
        if row is None or row["sealed"] is None or not self._may_read(row):
            raise InvalidInput(field, ref, "store it in the key manager of this project, payload included")
        try:
            return self.vault.open(row["id"], row["sealed"])
        except VrataError as error:
            raise InvalidInput(field, ref, error.remedy or "store it again") from error

    def _may_read(self, row: Row) -> bool:
        if self.caller is None:
            return True
        acl = row["acl"] or {}
        listed = self.caller.user_id in acl.get("users", ())
        inside = row["project_id"] == self.caller.project_id and (
            acl.get("project-access", True) or row["creator_id"] == self.caller.user_id
        )
        return not row["deleted"] and (listed or inside)
