"""The annotation that says from where a load balancer reaches its members: the provider writes it, the Ingress controller
reads it. Pure.

`10.10.0.0/24,!10.10.0.20`: any address of these networks, but for those with a `!`. The balancer's instances are replaced, so
that their own addresses change; the subnet of its VIP, where they all are, does not. Nodes on it are left out: pods reach a
NodePort of another node under the address of their own node.
"""

import contextlib
import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vrata.base.errors import InvalidInput

SOURCES = "vrata.dev/load-balancer-sources"


@dataclass(frozen=True)
class Sources:
    """Networks in their usual form, without host bits. The longest one that has an address decides."""

    believed: frozenset[str] = frozenset()
    others: frozenset[str] = frozenset()


def encode_sources(cidrs: Iterable[str], others: Iterable[str]) -> str:
    """The annotation's text for subnets and the addresses of other machines; what is no address, or elsewhere, is left out."""
    networks = {ipaddress.ip_network(one) for one in cidrs}
    inside = {f"!{one}" for one in _addresses(others) if any(one in network for network in networks)}
    return ",".join([*sorted(map(str, networks)), *sorted(inside)])


def _addresses(texts: Iterable[str]) -> Iterator[ipaddress.IPv4Address | ipaddress.IPv6Address]:
    for text in texts:
        with contextlib.suppress(ValueError):
            yield ipaddress.ip_address(text)


def parse_sources(text: str) -> Sources:
    """What the annotation says; InvalidInput if a part of it is no network."""
    found: dict[bool, set[str]] = {False: set(), True: set()}
    for word in filter(None, (part.strip() for part in text.split(","))):
        try:
            network = ipaddress.ip_network(word.removeprefix("!"))
        except ValueError:
            raise InvalidInput(f"annotation {SOURCES}", word[:100], "write networks as 10.0.0.0/24,!10.0.0.5") from None
        found[word.startswith("!")].add(str(network))
    return Sources(frozenset(found[False]), frozenset(found[True]))
