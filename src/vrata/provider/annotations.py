"""Annotations of a Service, read one by one against a strict grammar: pure.

What can not be acted on raises InvalidInput with the annotation's name, its value and what would do. The OpenStack cloud
controller takes its default for a value that it can not read, and says so only in its log.
"""

import re
import uuid
from collections.abc import Mapping

from vrata.base.errors import InvalidInput
from vrata.kube.objects import Service

PREFIX = "loadbalancer.openstack.org/"
INTERNAL = "service.beta.kubernetes.io/openstack-internal-load-balancer"
SOURCE_RANGES = "service.beta.kubernetes.io/load-balancer-source-ranges"
BALANCER_ID = PREFIX + "load-balancer-id"
BALANCER_ADDRESS = PREFIX + "load-balancer-address"
TARGET = "vrata.dev/target"
PORT_ID = PREFIX + "port-id"
TLS_REFERENCE = PREFIX + "default-tls-container-ref"
# What reaches things of the project that belong to no Service, or to another one: see docs/provider.md.
RESTRICTED = (BALANCER_ID, PORT_ID, TLS_REFERENCE)
ALLOWS = "vrata.dev/allow-annotations"  # a label of namespaces: "true"
_REFERENCE = re.compile(r"https?://[!-~]{1,2000}", re.ASCII)


class Annotations:
    """Of one Service. Names without a slash have the OpenStack cloud controller's prefix."""

    def __init__(self, service: Service) -> None:
        self._values = service.metadata.annotations

    def text(self, name: str) -> str:
        """As it stands, without blanks around it; empty if there is none."""
        return self._values.get(_full(name), "").strip()

    def flag(self, name: str, *, default: bool) -> bool:
        """`true` or `false`."""
        found = self._values.get(_full(name))
        if found is None:
            return default
        if found not in ("true", "false"):
            raise _wrong(name, found, 'use "true" or "false"')
        return found == "true"

    def number(self, name: str, least: int, most: int, default: int) -> int:
        """A whole number from `least` to `most`."""
        found = self._values.get(_full(name))
        if found is None:
            return default
        # Not what else int() takes: blanks, underscores, the digits of other scripts.
        value = int(found) if re.fullmatch(r"-?[0-9]{1,10}", found, re.ASCII) else least - 1
        if not least <= value <= most:
            raise _wrong(name, found, f"use a whole number from {least} to {most}")
        return value

    def choice(self, name: str, choices: Mapping[str, str | None], default: str) -> str | None:
        """What one of a few words means."""
        found = self._values.get(_full(name), default)
        if found not in choices:
            raise _wrong(name, found, f"use one of {', '.join(choices)}")
        return choices[found]

    def id(self, name: str) -> str:
        """A UUID; empty if there is none."""
        found = self.text(name)
        if not found:
            return ""
        try:
            return str(uuid.UUID(found))
        except ValueError:
            raise _wrong(name, found, "use an id (UUID), as the cloud lists it") from None

    def reference(self, name: str) -> str:
        """The address of a container or secret in the key manager; empty if there is none."""
        found = self.text(name)
        if found and not _REFERENCE.fullmatch(found):
            raise _wrong(name, found, "use the address of a container or secret in the key manager: https://…")
        return found


def restricted_annotation(service: Service, *, guest: bool) -> str:
    """The first annotation that needs the permission of the operator; empty if there is none.

    `guest`: the load balancer named is another's. Its own the provider itself writes into `load-balancer-id`.
    """
    read = Annotations(service)
    return next((one for one in RESTRICTED if read.text(one) and (guest or one != BALANCER_ID)), "")


def _full(name: str) -> str:
    return name if "/" in name else PREFIX + name


def _wrong(name: str, value: str, remedy: str) -> InvalidInput:
    return InvalidInput(f"annotation {_full(name)}", value[:200], remedy)
