"""Seals secrets before they reach the database: AES-128-CBC with HMAC-SHA256 (Fernet), under keys of the operator.

The first key seals, every one opens, so a key is rotated by putting a new one before the old. A sealed payload holds
the id of its row: moved to another row it does not open.
"""

from collections.abc import Sequence

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from vrata.base.errors import VrataError

_END_OF_ID = b"\0"


def new_key() -> str:
    """A fresh key, as text."""
    return Fernet.generate_key().decode()


class Vault:
    """Seals and opens under `keys`; without any the key manager is closed."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys]) if keys else None
        except ValueError as error:
            raise VrataError(
                f"a key of the key manager is malformed: {error}",
                remedy="each line of the key file holds 32 random bytes in URL-safe base64",
            ) from error

    @property
    def ready(self) -> bool:
        """Whether there is a key at all."""
        return self._fernet is not None

    def seal(self, secret_id: str, payload: bytes) -> bytes:
        """What may be stored; VrataError without a key."""
        return self._need().encrypt(secret_id.encode() + _END_OF_ID + payload)

    def open(self, secret_id: str, sealed: bytes) -> bytes:
        """The payload; VrataError if no key opens it or it belongs to another secret."""
        try:
            owner, _, payload = self._need().decrypt(sealed).partition(_END_OF_ID)
        except InvalidToken as error:
            raise VrataError(
                f"no key opens secret {secret_id}", remedy="put the key that sealed it back into the key file"
            ) from error
        if owner != secret_id.encode():
            raise VrataError(f"secret {secret_id} holds what was sealed for another one")
        return payload

    def _need(self) -> MultiFernet:
        if self._fernet is None:
            raise VrataError("the key manager has no key", remedy="start the cloud with --secret-key-file")
        return self._fernet
