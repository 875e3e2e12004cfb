"""Which endpoints of a Service get traffic: the same for every data path. Pure."""

from collections.abc import Iterable
from typing import TypeVar

from vrata.kube.objects import Endpoint, EndpointSlice, ServicePort

T = TypeVar("T")


def serving(candidates: Iterable[tuple[Endpoint, T]]) -> frozenset[T]:
    """What belongs to ready endpoints; if none is ready, to those that terminate and still serve (KEP-1669)."""
    ready, last = set(), set()
    for endpoint, target in candidates:
        conditions = endpoint.conditions
        if conditions.ready is not False:
            ready.add(target)
        elif conditions.terminating and conditions.serving is not False:
            last.add(target)
    return frozenset(ready or last)


def port_numbers(entry: EndpointSlice, port: ServicePort) -> list[int]:
    """The numbers that a slice has for a port of its Service. A slice may leave a number open: it is left out."""
    return [
        one.port for one in entry.ports or () if (one.name, one.protocol) == (port.name, port.protocol) and one.port
    ]
