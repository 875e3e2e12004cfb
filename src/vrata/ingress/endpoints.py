"""The pods behind a backend: pure."""

import hashlib
import ipaddress
from collections.abc import Iterable

from vrata.ingress.model import BackendKey, Server, ServerTls
from vrata.ingress.trust import digest
from vrata.kube.endpoints import port_numbers, serving
from vrata.kube.objects import Endpoint, EndpointSlice, Service, ServicePort

# appProtocol of a Service port that means HTTP/2 without TLS (Kubernetes documentation, «Application protocol»).
H2 = ("kubernetes.io/h2c", "grpc")

# Who writes a slice (Kubernetes documentation, «EndpointSlices», «Management»).
MANAGED_BY, BY_CLUSTER = "endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"

EXTERNAL = "ExternalName"

# How pods are spoken to, where an Ingress says so: words of a backend's key.
TLS, HTTP2, HASH = "tls", "h2", "hash"
OPAQUE = "opaque"  # clients are told servers' names
TCP = "tcp"  # whatever it is that goes over it
UDP = "udp"  # not HAProxy's (`vrata.ingress.datagrams`)
PROXY = "proxy"  # each connection begins with the client's address (HAProxy's proxy-protocol.txt)
SLOW = "slow"  # with TLS: the handshake may take long
VIRTUAL = "virtual"  # the Service's own address, not its pods
_SLOW = "slow="  # milliseconds until a new pod has its full share follow
FIRST = ""  # for a port: the Service's first one


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


def addresses_of(slices: Iterable[EndpointSlice]) -> frozenset[str]:
    """Of all pods that are to stay, whether they are ready or not."""
    endpoints = (one for entry in slices for one in entry.endpoints or ())
    return frozenset(one.addresses[0] for one in endpoints if _has_address(one) and not one.conditions.terminating)


def pods_of(entry: EndpointSlice) -> frozenset[str]:
    """The addresses of a slice that the cluster gave to pods; a slice that a user wrote may name anything."""
    if entry.metadata.labels.get(MANAGED_BY) != BY_CLUSTER:
        return frozenset()
    endpoints = (one for one in entry.endpoints or () if one.target_ref and one.target_ref.kind == "Pod")
    return frozenset(address for one in endpoints for address in one.addresses)


def servers_of(
    backend: BackendKey,
    service: Service | None,
    slices: Iterable[EndpointSlice],
    named: Iterable[str] = (),
    tls: ServerTls | None = None,
) -> tuple[tuple[Server, ...], tuple[str, str] | None]:
    """The servers, and what keeps them from being any: (reason, message).

    `named`: the addresses of the name that a Service of type ExternalName stands for. `tls`: what is asked of pods that
    speak it, by the word of a Secret.
    """
    text = port_of(backend)
    if service is None:
        key = service_of(backend)
        return (), ("ServiceNotFound", f"service.name: no Service {key!r}; create it, then it is served")
    words = words_of(backend)
    protocol = "UDP" if UDP in words else "TCP"
    port = _port(service, text, protocol)
    if service.spec.type == EXTERNAL and (port or text.isdecimal()):
        number = port.port if port else int(text)
        servers = tuple(_server(address, number, words, tls) for address in named)
        name = service.spec.external_name
        message = f"service.name: {name!r} has no address outside this machine and other namespaces; name another one"
        return servers, None if servers else ("NameNotResolved", message)
    if port is None:
        known = ", ".join(str(entry.name or entry.port) for entry in service.spec.ports if entry.protocol == protocol)
        kind = "UDP port" if UDP in words else "port"
        message = (
            f"service.port: Service {service.metadata.key} has no {kind} {text!r}; use one of: {known or 'none yet'}"
        )
        return (), ("PortNotFound", message)
    if VIRTUAL in words:
        address = service.spec.cluster_ip
        if not _is_address(address):  # `None`, too
            return (), ("NoClusterIP", f"service.name: Service {service.metadata.key} has no address; give it one")
        return (_server(address, port.port, words, tls),), None
    return _servers(port, slices, words, tls), None


def _port(service: Service, text: str, protocol: str) -> ServicePort | None:
    for port in service.spec.ports:
        if port.protocol == protocol and (text == FIRST or text in (port.name, str(port.port))):
            return port
    return None


def _servers(
    port: ServicePort, slices: Iterable[EndpointSlice], words: frozenset[str], tls: ServerTls | None
) -> tuple[Server, ...]:
    if port.app_protocol in H2 and TCP not in words:
        words |= {HTTP2}
    found = serving(
        (endpoint, _server(endpoint.addresses[0], number, words, tls))
        for entry in slices
        for endpoint in filter(_has_address, entry.endpoints or ())
        for number in port_numbers(entry, port)
    )
    return tuple(sorted(found))


def _has_address(endpoint: Endpoint) -> bool:
    return bool(endpoint.addresses) and _is_address(endpoint.addresses[0])


def _is_address(text: str) -> bool:
    """Whether a server can have it: tenants write slices, and API servers take more than one spelling."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:  # also names (FQDN), and zeros in front, as `10.0.0.01`
        return False
    # Of no machine, or of a link: metadata services are there. What follows a `%` could be anything.
    return not (address.is_link_local or address.is_multicast or address.is_unspecified or "%" in str(address))


def _server(address: str, port: int, words: frozenset[str], tls: ServerTls | None) -> Server:
    name = f"{address.replace('.', '-').replace(':', '_')}-{port}"
    if OPAQUE in words:
        name = hashlib.blake2s(name.encode(), digest_size=8).hexdigest()
    asked = (tls or ServerTls()) if TLS in words else None
    ways = [*sorted(words & {HTTP2, TLS, PROXY}), *([digest(tls)] if tls else [])]
    slow_ms = next((int(word.removeprefix(_SLOW)) for word in words if word.startswith(_SLOW)), 0)
    return Server("-".join(("s", name, *ways)), address, port, HTTP2 in words, asked, PROXY in words, slow_ms)


def slow_start(time_ms: int) -> str:
    """The word for pods that get their share by and by."""
    return f"{_SLOW}{time_ms:d}"
