"""Identifiers: UUIDs as the OpenStack APIs write them, and names that fit into the kernel.

Kernel names (interfaces, namespaces) are at most 15 characters (IFNAMSIZ - 1, linux/if.h), so a name is the
prefix `vr-`, a short kind and a hash of what the thing stands for: the same input gives the same name, always.
"""

import hashlib
import uuid
from typing import NewType

KernelName = NewType("KernelName", str)

KERNEL_NAME_MAX = 15
_PREFIX = "vr-"


def new_uuid() -> str:
    """A random UUID (RFC 9562, version 4) in its hyphenated form."""
    return str(uuid.uuid4())


def kernel_name(kind: str, *parts: str) -> KernelName:
    """Name an interface or namespace: `vr-<kind><hash>`, stable for equal arguments, 15 characters.

    `kind` is one to four lower-case letters that help a reader of `ip link`; the parts say what it stands for.
    """
    if not (1 <= len(kind) <= 4 and kind.isalpha() and kind.islower()):
        raise ValueError(f"kind {kind!r}: want one to four lower-case letters")
    digest = hashlib.blake2s("\0".join(parts).encode()).hexdigest()
    return KernelName((_PREFIX + kind + digest)[:KERNEL_NAME_MAX])


def mac_address(*parts: str) -> str:
    """A stable, locally administered unicast MAC address (IEEE 802, `02:` prefix) for equal arguments."""
    digest = hashlib.blake2s("\0".join(parts).encode(), digest_size=5).hexdigest()
    return ":".join(["02", *(digest[i : i + 2] for i in range(0, 10, 2))])
