"""The pods behind a backend: pure.

Ready endpoints; those that are terminating and still serve only when none is ready (as kube-proxy does, KEP-1669).
"""

import hashlib
from collections.abc import Iterable

from vrata.ingress.model import BackendKey, Server
from vrata.kube.objects import EndpointSlice, Service, ServicePort

# appProtocol of a Service port that means HTTP/2 without TLS (Kubernetes documentation, «Application protocol»).
H2 = ("kubernetes.io/h2c", "grpc")


# How pods are spoken to, where an Ingress says so: words of a backend's key.
TLS, HTTP2, HASH = "tls", "h2", "hash"
OPAQUE = "opaque"  # clients are told servers' names
TCP = "tcp"  # whatever it is that goes over it
PROXY = "proxy"  # each connection begins with the client's address (HAProxy's proxy-protocol.txt)
VIRTUAL = "virtual"  # the Service's own address, not its pods


def backend_key(service: str, port: str, words: Iterable[str] = ()) -> BackendKey:
    """A Service's port, spoken to in one way."""
    return BackendKey(";".join((f"{service}:{port}", *sorted(words))))


def service_of(backend: BackendKey) -> str:
    """Key of the Service."""
    return backend.partition(";")[0].rpartition(":")[0]


def port_of(backend: BackendKey) -> str:
    """Name or number of the Service's port."""
    return backend.partition(";")[0].rpartition(":")[2]


def words_of(backend: BackendKey) -> frozenset[str]:
    """How its pods are spoken to."""
    return frozenset(backend.split(";")[1:])


def servers_of(
    backend: BackendKey, service: Service | None, slices: Iterable[EndpointSlice]
) -> tuple[tuple[Server, ...], tuple[str, str] | None]:
    """The servers, and what keeps them from being any: (reason, message)."""
    text = port_of(backend)
    if service is None:
        key = service_of(backend)
        return (), ("ServiceNotFound", f"service.name: no Service {key!r}; create it, then it is served")
    port = _port(service, text)
    if port is None:
        known = ", ".join(str(entry.name or entry.port) for entry in service.spec.ports if entry.protocol == "TCP")
        message = (
            f"service.port: Service {service.metadata.key} has no port {text!r}; use one of: {known or 'none yet'}"
        )
        return (), ("PortNotFound", message)
    words = words_of(backend)
    if VIRTUAL in words:
        address = service.spec.cluster_ip
        if address in ("", "None"):
            return (), ("NoClusterIP", f"service.name: Service {service.metadata.key} has no address; give it one")
        return (_server(address, port.port, words),), None
    return _servers(port, slices, words), None


def _port(service: Service, text: str) -> ServicePort | None:
    for port in service.spec.ports:
        if port.protocol == "TCP" and text in (port.name, str(port.port)):
            return port
    return None


def _servers(port: ServicePort, slices: Iterable[EndpointSlice], words: frozenset[str]) -> tuple[Server, ...]:
    if port.app_protocol in H2 and TCP not in words:
        words |= {HTTP2}
    ready: set[Server] = set()
    last: set[Server] = set()
    for entry in slices:
        if entry.address_type == "FQDN":  # no address that a server could have
            continue
        numbers = [item.port for item in entry.ports or () if item.name == port.name and item.protocol == "TCP"]
        for endpoint in entry.endpoints or ():
            for number in numbers:
                server = _server(endpoint.addresses[0], number, words)
                if endpoint.conditions.ready is not False:
                    ready.add(server)
                elif endpoint.conditions.terminating and endpoint.conditions.serving is not False:
                    last.add(server)
    return tuple(sorted(ready or last))


def _server(address: str, port: int, words: frozenset[str]) -> Server:
    name = f"{address.replace('.', '-').replace(':', '_')}-{port}"
    if OPAQUE in words:
        name = hashlib.blake2s(name.encode(), digest_size=8).hexdigest()
    ways = sorted(words & {HTTP2, TLS, PROXY})
    return Server("-".join(("s", name, *ways)), address, port, HTTP2 in words, TLS in words, PROXY in words)
