"""What the provider would do about Services that need not exist yet: it looks, and changes nothing."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import msgspec

from vrata.base.errors import VrataError
from vrata.kube import resources
from vrata.kube.client import Kube
from vrata.kube.objects import EndpointSlice, Namespace, Node, Service
from vrata.provider.adopt import address_hints
from vrata.provider.call import Call
from vrata.provider.cloud import Cloud
from vrata.provider.desired import desired, wants_balancer
from vrata.provider.floating import plan_floating
from vrata.provider.lookups import Lookups
from vrata.provider.model import Settings
from vrata.provider.observe import observe_service, observe_version
from vrata.provider.plan import plan_ensure
from vrata.provider.rows import balancer, world
from vrata.provider.service_writer import FINALIZER

NEW_PORT = "(the port of its VIP)"


@dataclass(frozen=True)
class Preview:
    """Of one Service: the calls in their order, what stands in the way, and what is left out."""

    service: str
    calls: tuple[Call, ...] = ()
    problem: str = ""
    notes: tuple[str, ...] = ()


async def preview(kube: Kube, cloud: Cloud, settings: Settings, services: Iterable[Service]) -> list[Preview]:
    """One of each Service, with the nodes and pods that the cluster has now."""
    nodes = (await kube.list(resources.NODES, Node)).objects
    slices: dict[str, list[EndpointSlice]] = defaultdict(list)
    for entry in (await kube.list(resources.ENDPOINT_SLICES, EndpointSlice)).objects:
        slices[entry.service_key].append(entry)
    system = await kube.get(resources.NAMESPACES, Namespace, "kube-system")
    uid, version = system.metadata.uid if system else "", await observe_version(cloud)
    settings = replace(settings, cluster_uid=uid, octavia=version)
    lookups = Lookups(cloud, lambda: nodes, asks_key_manager=settings.check_tls_container)
    found = []
    for given in services:
        # Node ports are the API server's to give: a Service that exists has them.
        key = given.metadata.key
        known = await kube.get(resources.SERVICES, Service, given.metadata.name, given.metadata.namespace)
        service = _merged(given, known)
        if not wants_balancer(service):
            found.append(Preview(key, problem="not served: of another type or class"))
            continue
        try:
            found.append(await _preview(cloud, settings, lookups, service, nodes, slices[key]))
        except VrataError as error:
            found.append(Preview(key, problem=str(error)))
    return found


async def _preview(
    cloud: Cloud,
    settings: Settings,
    lookups: Lookups,
    service: Service,
    nodes: Iterable[Node],
    slices: Iterable[EndpointSlice],
) -> Preview:
    wanted = desired(settings, service, nodes, slices)
    seen = world(
        await observe_service(cloud, wanted, old=FINALIZER in service.metadata.finalizers),
        wanted,
        address_hints(wanted, service),
    )
    seen = await lookups.complete(seen, wanted)
    plan = plan_ensure(wanted, seen)
    calls = [*plan.calls, *plan.later]
    if plan.calls and seen.balancer is None:
        row = {
            "id": "",
            "provisioning_status": "ACTIVE",
            "vip_address": "",
            "vip_port_id": NEW_PORT,
            "name": wanted.name,
        }
        calls += plan_floating(wanted, seen, balancer(row)).calls
    notes = tuple(f"{note.reason}: {note.message}" for note in (*wanted.notes, *plan.notes))
    return Preview(service.metadata.key, tuple(calls), plan.problem or "", notes)


def _merged(given: Service, known: Service | None) -> Service:
    """A manifest with what only the API server gives."""
    if known is None:
        return given
    there = {(port.protocol, port.port): port.node_port for port in known.spec.ports}
    ports = tuple(
        msgspec.structs.replace(port, node_port=port.node_port or there.get((port.protocol, port.port), 0))
        for port in given.spec.ports
    )
    health = given.spec.health_check_node_port or known.spec.health_check_node_port
    families = given.spec.ip_families or known.spec.ip_families
    spec = msgspec.structs.replace(given.spec, ports=ports, health_check_node_port=health, ip_families=families)
    annotations = {**known.metadata.annotations, **given.metadata.annotations}
    metadata = msgspec.structs.replace(known.metadata, annotations=annotations)
    return msgspec.structs.replace(known, metadata=metadata, spec=spec)
