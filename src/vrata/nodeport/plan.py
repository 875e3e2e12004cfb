"""Which endpoints answer for a Service port, and the difference between two contributions: pure.

Endpoint choice is kube-proxy's (KEP-1669, KEP-2433, KEP-3015): ready endpoints; when there is none, those that still serve
while they terminate. With externalTrafficPolicy Local only this node's own count for outside traffic, with
internalTrafficPolicy Local likewise inside; else hints of the slices keep traffic on the node or in its zone.
"""

import contextlib
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from vrata.kube.endpoints import port_numbers, serving
from vrata.kube.objects import Endpoint, EndpointSlice, Service, ServicePort
from vrata.net.flows import Frontends, Target
from vrata.nodeport.model import HAIRPINS, ChainName, Element, Family, Health, PortView, Rules

AFFINITY_DEFAULT_S = 10800
NOBODY = ("0.0.0.0/32", "::/128")
PROTOCOLS = ("TCP", "UDP", "SCTP")
OTHER_PROXY = "service.kubernetes.io/service-proxy-name"  # Services that another proxy serves
HEADLESS = "service.kubernetes.io/headless"  # slices that nobody proxies


@dataclass(frozen=True)
class Here:
    """The node whose ruleset this is."""

    name: str
    zone: str = ""


@dataclass(frozen=True)
class Transaction:
    """One atomic change, in the order in which nftables can take it; chains and sets are deleted in one that follows."""

    add_sets: tuple[tuple[ChainName, str], ...]
    add_maps: tuple[tuple[ChainName, str], ...]
    fill_chains: tuple[tuple[ChainName, tuple[str, ...]], ...]
    delete_elements: tuple[tuple[Element, str], ...]
    add_elements: tuple[tuple[Element, str], ...]
    delete_chains: tuple[ChainName, ...]
    delete_sets: tuple[ChainName, ...]

    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.fill_chains or self.delete_elements or self.add_elements or self.delete_chains)


def is_served(service: Service) -> bool:
    """Whether this proxy has anything to do for a Service."""
    spec = service.spec
    headless = spec.type == "ExternalName" or spec.cluster_ip in ("", "None")
    return not headless and OTHER_PROXY not in service.metadata.labels


def view_service(service: Service, slices: Iterable[EndpointSlice], here: Here) -> tuple[PortView, ...]:
    """The ports of a Service as this node must serve them, in each of its families; none for what is not served."""
    if not is_served(service):
        return ()
    owned = [entry for entry in slices if HEADLESS not in entry.metadata.labels]
    ips = service.spec.cluster_ips or (service.spec.cluster_ip,)
    families: tuple[Family, ...] = tuple(dict.fromkeys(_family(ip) for ip in addresses_of(ips)))
    return tuple(
        _view(service, port, owned, here, family)
        for family in families
        for port in service.spec.ports
        if port.protocol in PROTOCOLS
    )


def _view(service: Service, port: ServicePort, slices: Iterable[EndpointSlice], here: Here, family: Family) -> PortView:
    spec = service.spec
    candidates = list(_candidates(port, slices, family))
    everywhere = choose(candidates)
    own = choose([entry for entry in candidates if entry[0].node_name == here.name])
    near = choose(nearest(candidates, here))
    external_local = spec.external_traffic_policy == "Local"
    ingress = service.status.load_balancer.ingress if spec.type == "LoadBalancer" else ()
    return PortView(
        service=service.metadata.key,
        name=port.name,
        protocol=port.protocol.lower(),
        cluster_ips=_ips(spec.cluster_ips or (spec.cluster_ip,), family),
        port=port.port,
        node_port=port.node_port,
        internal=own if spec.internal_traffic_policy == "Local" else near,
        external=own if external_local else near,
        external_local=external_local,
        affinity_s=_affinity_s(service),
        everywhere=everywhere,
        alive=frozenset(target for endpoint, target in candidates if endpoint.conditions.serving is not False),
        external_ips=_ips(spec.external_ips, family),
        balancer_ips=_ips((one.ip for one in ingress if one.ip and one.ip_mode in ("", "VIP")), family),
        source_ranges=_networks(spec.load_balancer_source_ranges),
        family=family,
    )


def _family(ip: str) -> Family:
    return "ip6" if ":" in ip else "ip"


def _ips(ips: Iterable[str], family: Family) -> tuple[str, ...]:
    return tuple(ip for ip in addresses_of(ips) if _family(ip) == family)


def addresses_of(texts: Iterable[str]) -> tuple[str, ...]:
    """Those that are addresses, in one way of writing; an API server may let in others."""
    found = []
    for text in texts:
        with contextlib.suppress(ValueError):
            found.append(str(ipaddress.ip_address(text.strip())))
    return tuple(found)


def _networks(texts: Iterable[str]) -> tuple[str, ...]:
    """Those that are networks; Kubernetes takes blanks around them. If none of them is one, nobody is let in."""
    asked, found = list(texts), []
    for text in asked:
        with contextlib.suppress(ValueError):
            found.append(str(ipaddress.ip_network(text.strip(), strict=False)))
    return tuple(found) or (NOBODY if asked else ())


def _affinity_s(service: Service) -> int:
    if service.spec.session_affinity != "ClientIP":
        return 0
    config = service.spec.session_affinity_config
    return config.client_ip.timeout_seconds if config and config.client_ip else AFFINITY_DEFAULT_S


def view_health(service: Service, slices: Iterable[EndpointSlice], here: Here) -> Health | None:
    """What the node's health check port tells about a Service, None if it has no such port."""
    if not service.spec.health_check_node_port or not is_served(service):
        return None
    local = {
        address
        for entry in slices
        for endpoint in entry.endpoints or ()
        if endpoint.node_name == here.name and endpoint.conditions.ready is not False
        for address in endpoint.addresses
    }
    return Health(service.metadata.key, service.spec.health_check_node_port, len(local))


def _candidates(
    port: ServicePort, slices: Iterable[EndpointSlice], family: Family
) -> Iterable[tuple[Endpoint, Target]]:
    for entry in slices:
        if entry.address_type != ("IPv4" if family == "ip" else "IPv6"):
            continue
        for number in port_numbers(entry, port):
            for endpoint in entry.endpoints or ():
                for address in addresses_of(endpoint.addresses[:1]):
                    yield endpoint, Target(address, number)


def nearest(candidates: list[tuple[Endpoint, Target]], here: Here) -> list[tuple[Endpoint, Target]]:
    """Those that hints give to this node, else to its zone; all of them where a ready one has no hint (KEP-3015)."""
    ready = [endpoint for endpoint, _ in candidates if endpoint.conditions.ready is not False]

    def given(endpoint: Endpoint, kind: str) -> tuple[str, ...]:
        hints = endpoint.hints
        found = (hints.for_nodes if kind == "node" else hints.for_zones) if hints else ()
        return tuple(one.name for one in found or ())

    for kind, name in (("node", here.name), ("zone", here.zone)):
        hinted = ready and all(given(endpoint, kind) for endpoint in ready)
        if name and hinted and any(name in given(endpoint, kind) for endpoint in ready):
            return [entry for entry in candidates if name in given(entry[0], kind)]
    return candidates


def choose(candidates: Iterable[tuple[Endpoint, Target]]) -> tuple[Target, ...]:
    """The targets that get traffic, sorted, without duplicates."""
    return tuple(sorted(serving(candidates), key=lambda target: (target.address, target.port)))


def plan_change(observed: Rules, desired: Rules, shared: frozenset[ChainName] = frozenset()) -> Transaction:
    """The change of one Service's contribution; its size does not depend on the other Services.

    `shared`: chains and maps for all Services that are there already.
    """
    changed = {key for key, value in desired.elements.items() if observed.elements.get(key) != value}
    # A hairpin may be shared by Services that select the same pod, and is right for any pod: it stays.
    replaced = [key for key in observed.elements if key not in desired.elements or key in changed]
    gone = [key for key in replaced if key[1] != HAIRPINS]
    known = shared | observed.shared.keys() | observed.maps.keys()
    shared_chains = [(name, rules) for name, rules in desired.shared.items() if name not in known]
    own_chains = [(name, rules) for name, rules in desired.chains.items() if observed.chains.get(name) != rules]
    return Transaction(
        add_sets=tuple((name, text) for name, text in desired.sets.items() if name not in observed.sets),
        add_maps=tuple((name, text) for name, text in desired.maps.items() if name not in known),
        fill_chains=(*shared_chains, *own_chains),
        delete_elements=tuple((key, observed.elements[key]) for key in gone),
        add_elements=tuple((key, desired.elements[key]) for key in desired.elements if key in changed),
        delete_chains=tuple(name for name in observed.chains if name not in desired.chains),
        delete_sets=tuple(name for name in observed.sets if name not in desired.sets),
    )


def frontends_of(views: Iterable[PortView], gone: Iterable[PortView] = ()) -> Frontends:
    """Those of these ports; at those that are `gone` nobody may answer any more."""
    addresses: dict[Target, frozenset[Target]] = {}
    ports: dict[int, frozenset[Target]] = {}
    for listed, there in ((gone, False), (views, True)):
        for view in listed:
            if view.protocol != "udp":
                continue
            alive = view.alive | {*view.internal, *view.external} if there else frozenset()
            for ip in (*view.cluster_ips, *view.external_ips, *view.balancer_ips):
                addresses[Target(ip, view.port)] = alive
            if view.node_port:
                ports[view.node_port] = ports.get(view.node_port, frozenset()) | alive
    return Frontends(addresses, ports)
