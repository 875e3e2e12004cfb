"""Which endpoints answer for a Service port, and the difference between two contributions: pure.

Endpoint choice is kube-proxy's (KEP-1669): ready endpoints; when there is none, those that still serve while they
terminate. With externalTrafficPolicy Local only this node's own count for outside traffic, with internalTrafficPolicy
Local likewise inside.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from vrata.kube.objects import Endpoint, EndpointSlice, Service, ServicePort
from vrata.nodeport.model import HAIRPINS, Element, Health, PortView, Rules, Target

AFFINITY_DEFAULT_S = 10800


@dataclass(frozen=True)
class Transaction:
    """One atomic change, in the order in which nftables can take it."""

    add_sets: tuple[tuple[str, str], ...]
    add_chains: tuple[str, ...]
    fill_chains: tuple[tuple[str, tuple[str, ...]], ...]
    delete_elements: tuple[tuple[Element, str], ...]
    add_elements: tuple[tuple[Element, str], ...]
    delete_chains: tuple[str, ...]
    delete_sets: tuple[str, ...]

    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.fill_chains or self.delete_elements or self.add_elements or self.delete_chains)


def view_service(service: Service, slices: Iterable[EndpointSlice], node: str) -> tuple[PortView, ...]:
    """The ports of a Service as this node must serve them; none for headless and external-name ones."""
    spec = service.spec
    if spec.type == "ExternalName" or spec.cluster_ip in ("", "None"):
        return ()
    owned = [entry for entry in slices if entry.address_type == "IPv4"]
    external_local = spec.external_traffic_policy == "Local"
    affinity_s = 0
    if spec.session_affinity == "ClientIP":
        config = spec.session_affinity_config
        affinity_s = config.client_ip.timeout_seconds if config and config.client_ip else AFFINITY_DEFAULT_S
    views = []
    for port in spec.ports:
        if port.protocol not in ("TCP", "UDP"):
            continue
        candidates = list(_candidates(port, owned))
        everywhere = choose(candidates)
        here = choose([entry for entry in candidates if entry[0].node_name == node])
        views.append(
            PortView(
                service=service.metadata.key,
                name=port.name,
                protocol=port.protocol.lower(),
                cluster_ips=tuple(ip for ip in spec.cluster_ips or (spec.cluster_ip,) if ":" not in ip),
                port=port.port,
                node_port=port.node_port,
                internal=here if spec.internal_traffic_policy == "Local" else everywhere,
                external=here if external_local else everywhere,
                external_local=external_local,
                affinity_s=affinity_s,
            )
        )
    return tuple(views)


def view_health(service: Service, slices: Iterable[EndpointSlice], node: str) -> Health | None:
    """What the node's health check port tells about a Service, None if it has no such port."""
    if not service.spec.health_check_node_port:
        return None
    local = {
        address
        for entry in slices
        for endpoint in entry.endpoints or ()
        if endpoint.node_name == node and endpoint.conditions.ready is not False
        for address in endpoint.addresses
    }
    return Health(service.metadata.key, service.spec.health_check_node_port, len(local))


def _candidates(port: ServicePort, slices: Iterable[EndpointSlice]) -> Iterable[tuple[Endpoint, Target]]:
    for entry in slices:
        numbers = [item.port for item in entry.ports or () if item.name == port.name and item.protocol == port.protocol]
        for number in numbers:
            for endpoint in entry.endpoints or ():
                for address in endpoint.addresses[:1]:
                    yield endpoint, Target(address, number)


def choose(candidates: Iterable[tuple[Endpoint, Target]]) -> tuple[Target, ...]:
    """Ready endpoints, or serving terminating ones if none is ready; sorted, without duplicates."""
    listed = list(candidates)
    ready = {target for endpoint, target in listed if endpoint.conditions.ready is not False}
    if not ready:
        ready = {
            target
            for endpoint, target in listed
            if endpoint.conditions.terminating and endpoint.conditions.serving is not False
        }
    return tuple(sorted(ready, key=lambda target: (target.address, target.port)))


def plan_change(observed: Rules, desired: Rules) -> Transaction:
    """The change of one Service's contribution; its size does not depend on the other Services."""
    changed = {key for key, value in desired.elements.items() if observed.elements.get(key) != value}
    # A hairpin may be shared by Services that select the same pod, and is right for any pod: it stays.
    replaced = [key for key in observed.elements if key not in desired.elements or key in changed]
    gone = [key for key in replaced if key[0] != HAIRPINS]
    return Transaction(
        add_sets=tuple((name, text) for name, text in desired.sets.items() if name not in observed.sets),
        add_chains=tuple(name for name in desired.chains if name not in observed.chains),
        fill_chains=tuple(
            (name, rules) for name, rules in desired.chains.items() if observed.chains.get(name) != rules
        ),
        delete_elements=tuple((key, observed.elements[key]) for key in gone),
        add_elements=tuple((key, desired.elements[key]) for key in desired.elements if key in changed),
        delete_chains=tuple(name for name in observed.chains if name not in desired.chains),
        delete_sets=tuple(name for name in observed.sets if name not in desired.sets),
    )


def gone_targets(observed: Iterable[PortView], desired: Iterable[PortView]) -> tuple[Target, ...]:
    """UDP endpoints that no longer answer: their connection tracking entries would keep sending to them."""

    def targets(views: Iterable[PortView]) -> set[Target]:
        return {target for view in views if view.protocol == "udp" for target in (*view.internal, *view.external)}

    return tuple(sorted(targets(observed) - targets(desired), key=lambda target: (target.address, target.port)))


def woken_ports(observed: Iterable[PortView], desired: Iterable[PortView]) -> tuple[PortView, ...]:
    """UDP ports that have endpoints now and had none: flows tracked as going nowhere must start anew."""
    before = {(view.service, view.name): view for view in observed}
    return tuple(
        view
        for view in desired
        if view.protocol == "udp"
        and (view.internal or view.external)
        and not ((old := before.get((view.service, view.name))) and (old.internal or old.external))
    )
