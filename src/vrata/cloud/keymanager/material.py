"""What the balancing service reads of the key manager, in place of any user: certificates, authorities, revocations.

References were checked when a listener or pool took them; a caller may use what it may read. InvalidInput names the
field and the reference; nothing of a payload is ever in an error.
"""

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import sqlalchemy as sa

from vrata.base import wire
from vrata.base.errors import InvalidInput, VrataError
from vrata.cloud.fields import UUID
from vrata.cloud.http import ApiError, Call, Caller
from vrata.cloud.keymanager import tables as t
from vrata.cloud.keymanager import uses
from vrata.cloud.keymanager.foreign import FOREIGN, QUICK_S, SLOW_S, TOO_LONG, Reading, Source
from vrata.cloud.keymanager.uses import id_of
from vrata.cloud.keymanager.vault import Vault
from vrata.cloud.slow import Slow
from vrata.cloud.store import Row, Store, Tx
from vrata.haproxy import certificates


@dataclass(frozen=True)
class Reader:
    """Reads for listeners and pools; with a `caller`, only what that caller may read.

    `read` is what `prepare` has read of the call's references, before the transaction.
    """

    tx: Tx
    vault: Vault
    caller: Caller | None = None
    read: Mapping[str, Reading] = field(default_factory=dict)

    def certificate(self, field: str, ref: str) -> wire.Certificate:
        """Of a certificate container, or of a secret that holds a PKCS #12 file or PEM with everything."""
        table, row = self._certificate_row(field, ref)
        try:
            if self.caller is not None and table is t.containers:
                for secret_id in row["secrets"].values():
                    self._secret(field, ref, secret_id)
            if row["converted"] is not None:
                pem = self.vault.open(row["id"], row["converted"]).decode()
            else:
                pem = self._newly_read(field, ref, table, row)
        except (InvalidInput, VrataError) as error:
            raise InvalidInput(field, ref, error.remedy or "store it again") from error
        return wire.Certificate(ref=ref, pem=pem)

    def source(self, field: str, ref: str) -> Source | None:
        """What a certificate is to be read from; None if that is done. Takes no time to speak of."""
        _, row = self._certificate_row(field, ref)
        return None if row["converted"] is not None else self._source(field, ref, row)

    def table(self, field: str, ref: str) -> sa.Table:
        """Where the reference's row is."""
        return self._certificate_row(field, ref)[0]

    def _newly_read(self, field: str, ref: str, table: sa.Table, row: Row) -> str:
        """In a call: what was read before its transaction, and is kept from now on. For hosts: what costs no time."""
        if self.caller is not None:
            found = self.read.get(ref)
            if found is None:
                raise InvalidInput(field, ref, "try again: it has just been changed")
            if not found.pem:
                raise InvalidInput(field, ref, found.remedy)
            self.tx.update(table, row["id"], {"converted": self.vault.seal(row["id"], found.pem.encode())})
            return found.pem
        source = self._source(field, ref, row)
        if source.pkcs12 is not None or source.passphrase is not None:
            raise InvalidInput(field, ref, "give it to the listener again")
        return certificates.bundle(source.certificate, source.private_key, None, source.intermediates)

    def _certificate_row(self, field: str, ref: str) -> tuple[sa.Table, Row]:
        container = self._container(ref)
        if container is not None:
            return t.containers, container
        return t.secrets, self._secret(field, ref, id_of(ref))

    def _source(self, field: str, ref: str, row: Row) -> Source:
        if "secrets" not in row:
            payload = self._open(field, ref, row)
            if payload.lstrip().startswith(b"-----BEGIN"):
                return Source(certificate=payload, private_key=payload)
            return Source(pkcs12=payload)
        parts = {name: self._payload(field, ref, one) for name, one in row["secrets"].items()}
        if row["type"] != "certificate" or "private_key" not in parts:
            raise InvalidInput(field, ref, "give a certificate container that holds the private key, too")
        return Source(
            parts["certificate"], parts["private_key"], parts.get("private_key_passphrase"), parts.get("intermediates")
        )

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
        return self._open(field, ref, self._secret(field, ref, secret_id))

    def _secret(self, field: str, ref: str, secret_id: str) -> Row:
        row = self.tx.get(t.secrets, secret_id) if UUID.match(secret_id) else None
        if row is None or row["sealed"] is None or not self._may_read(row):
            raise InvalidInput(field, ref, "store it in the key manager of this project, payload included")
        return row

    def _open(self, field: str, ref: str, row: Row) -> bytes:
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


REFERENCES_MAX = 100  # certificates, authorities and revocation lists that one call may name
MENTION = b"container_ref"  # in every body that names one
_CERTIFICATES = frozenset({"default_tls_container_ref", "sni_container_refs", "tls_container_ref"})
_OTHERS = frozenset(
    {"client_ca_tls_container_ref", "client_crl_container_ref", "ca_tls_container_ref", "crl_container_ref"}
)


def prepare(call: Call) -> Callable[[], dict[str, Reading] | Slow] | None:
    """Before a call's transaction: read the certificates that its body names and nobody has read yet.

    What cannot be found is left out: the call itself refuses it.
    """
    if call.settings.noop:
        return None
    reader = Reader(call.tx, Vault(call.settings.secret_keys), call.caller)
    sources: dict[str, Source] = {}
    for ref in _references(call.body):
        with contextlib.suppress(InvalidInput, VrataError):
            source = reader.source("", ref)
            if source is not None:
                sources[ref] = source
    return partial(_read_quickly, sources) if sources else None


def _read_quickly(sources: Mapping[str, Source]) -> dict[str, Reading] | Slow:
    """What has been read, or what is to be read among other slow ones."""
    found = FOREIGN.read_all(sources, QUICK_S)
    rest = {ref: source for ref, source in sources.items() if ref not in found}
    return Slow(partial(_read_slowly, found, rest)) if rest else found


def _read_slowly(found: Mapping[str, Reading], rest: Mapping[str, Source]) -> dict[str, Reading]:
    late = FOREIGN.read_all(rest, SLOW_S)
    return {**dict.fromkeys(rest, Reading(remedy=TOO_LONG)), **found, **late}


def read_used(store: Store, keys: Sequence[str]) -> None:
    """Read what listeners and pools of an older version name, at the start of a newer one."""
    vault = Vault(keys)
    if not vault.ready:
        return

    def look(tx: Tx) -> dict[str, tuple[sa.Table, Source]]:
        reader, found = Reader(tx, vault), {}
        for ref in uses.certificates(tx):
            with contextlib.suppress(InvalidInput, VrataError):
                source = reader.source("", ref)
                if source is not None:
                    found[ref] = (reader.table("", ref), source)
        return found

    for ref, (table, source) in store.write_now(look).items():
        reading = FOREIGN.read(source, SLOW_S)
        if reading is not None and reading.pem:
            sealed = vault.seal(uses.id_of(ref), reading.pem.encode())
            store.write_now(
                lambda tx, table=table, ref=ref, sealed=sealed: tx.update(  # type: ignore[misc]
                    table, uses.id_of(ref), {"converted": sealed}
                )
            )


def _references(body: Any) -> set[str]:
    """Of certificates, anywhere in a body. 400 for too many, authorities and revocations included."""
    found: set[str] = set()
    others: set[str] = set()
    left = [body]
    while left:
        part = left.pop()
        if isinstance(part, list):
            left.extend(one for one in part if isinstance(one, dict | list))
        elif isinstance(part, dict):
            for name, value in part.items():
                if name in _CERTIFICATES:
                    found.update(one for one in (value if isinstance(value, list) else [value]) if isinstance(one, str))
                elif name in _OTHERS and isinstance(value, str):
                    others.add(value)
                elif isinstance(value, dict | list):
                    left.append(value)
    if len(found) + len(others) > REFERENCES_MAX:
        raise ApiError(
            400, f"The request names {len(found) + len(others)} certificates, authorities and revocation lists, the "
            f"maximum is {REFERENCES_MAX}. Send the rest in further requests.",
        )  # fmt: skip
    return found
