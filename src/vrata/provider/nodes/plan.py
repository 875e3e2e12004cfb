"""What a Node is told about its server: pure (Kubernetes, cloud node controllers; OpenStack's InstancesV2).

Changes are JSON patches (RFC 6902) that first test what they replace: a projection is never written back, and a taint that
somebody else has changed meanwhile makes the patch fail and the next pass look again.
"""

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vrata.kube.objects import Node
from vrata.provider.nodes.model import NodeSettings, Server

UNINITIALIZED = "node.cloudprovider.kubernetes.io/uninitialized"
SHUTDOWN = "node.cloudprovider.kubernetes.io/shutdown"
PROVIDED_IP = "alpha.kubernetes.io/provided-node-ip"
ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"
OLD_ZONE, OLD_REGION = "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region"
TYPE, OLD_TYPE = "node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type"
_PROVIDER_ID = re.compile(r"openstack://([^/]*)/([0-9a-fA-F-]{32,36})")
_UNFIT = re.compile(r"[^A-Za-z0-9_.-]")

Json = dict[str, Any]


@dataclass(frozen=True)
class NodePlan:
    """A JSON patch of the Node, and its new addresses (None: they are right)."""

    patch: tuple[Json, ...] = ()
    addresses: tuple[tuple[str, str], ...] | None = None  # (type, address)


def server_id_of(node: Node, settings: NodeSettings) -> str | None:
    """The id of the Node's server, if it is in this cloud and region."""
    found = _PROVIDER_ID.fullmatch(node.spec.provider_id)
    if found is None or found[1] not in ("", settings.region):
        return None
    return found[2]


def server_of(node: Node, servers: Iterable[Server], settings: NodeSettings) -> tuple[Server | None, str]:
    """The Node's server by id, or by its name where it has none yet; or None, and why."""
    wanted = server_id_of(node, settings)
    if wanted:
        found = [one for one in servers if one.id == wanted]
        return (found[0], "") if found else (None, f"the cloud has no server {wanted}")
    if node.spec.provider_id:
        return None, f"spec.providerID: {node.spec.provider_id!r} is no server of this cloud and region"
    name = node.metadata.name
    found = [one for one in servers if one.name == name]
    if len(found) > 1:
        ids = ", ".join(sorted(one.id for one in found))
        return None, f"{len(found)} servers are named {name}: {ids}; set spec.providerID of the kubelet (--provider-id)"
    return (found[0], "") if found else (None, f"the project has no server named {name}; name it as the node")


def plan_node(node: Node, server: Server, settings: NodeSettings) -> NodePlan:
    """What its server makes of a Node; the taint of uninitialized ones goes with the first."""
    patch: list[Json] = []
    fresh = any(taint.key == UNINITIALIZED for taint in node.spec.taints)
    if fresh:
        patch += _untaint(node, UNINITIALIZED)
        patch += _label(node, _labels(server, settings))
        if not node.spec.provider_id:
            region = settings.region if settings.regional else ""
            patch.append({"op": "add", "path": "/spec/providerID", "value": f"openstack://{region}/{server.id}"})
    wanted = addresses(node, server, settings)
    known = tuple((one.type, one.address) for one in node.status.addresses)
    return NodePlan(tuple(patch), None if wanted == known else wanted)


def plan_power(node: Node, *, off: bool) -> NodePlan:
    """The taint of a Node whose server is shut down; it goes when that is over."""
    tainted = any(taint.key == SHUTDOWN for taint in node.spec.taints)
    if off == tainted:
        return NodePlan()
    return NodePlan(tuple(_taint(node, SHUTDOWN) if off else _untaint(node, SHUTDOWN)))


def addresses(node: Node, server: Server, settings: NodeSettings) -> tuple[tuple[str, str], ...]:
    """(type, address): internal, then external, then host names; of each type the preferred first."""
    internal = [
        one.address
        for one in sorted(server.addresses, key=lambda one: one.network)
        if not one.floating and one.network not in settings.public_networks and _is_internal(one.network, settings)
    ]
    external = [*server.access, *(one.address for one in server.addresses if one.floating)]
    external += [
        one.address for one in server.addresses if not one.floating and one.network in settings.public_networks
    ]
    names = [server.metadata["hostname"]] if "hostname" in server.metadata else []
    names += [one.address for one in node.status.addresses if one.type == "Hostname"]
    given = node.metadata.annotations.get(PROVIDED_IP, "")
    typed = [("InternalIP", one) for one in internal] + [("ExternalIP", one) for one in external]
    kept = [entry for entry in dict.fromkeys(typed) if settings.ipv6 or ":" not in entry[1]]
    kept.sort(key=lambda entry: (entry[0] != "InternalIP", entry[1] != given, _rank(entry[1], settings.sort_order)))
    return (*kept, *dict.fromkeys(("Hostname", name) for name in names))


def _is_internal(network: str, settings: NodeSettings) -> bool:
    return not settings.internal_networks or network in settings.internal_networks


def _rank(address: str, order: tuple[str, ...]) -> int:
    found = ipaddress.ip_address(address)
    networks = (ipaddress.ip_network(one, strict=False) for one in order)
    return next(
        (number for number, one in enumerate(networks) if found.version == one.version and found in one), len(order)
    )


def _labels(server: Server, settings: NodeSettings) -> dict[str, str]:
    zone, flavor, region = (_UNFIT.sub("-", text)[:63] for text in (server.zone, server.flavor, settings.region))
    wanted = {TYPE: flavor, OLD_TYPE: flavor, ZONE: zone, OLD_ZONE: zone, REGION: region, OLD_REGION: region}
    return {name: value for name, value in wanted.items() if value}


def _label(node: Node, wanted: dict[str, str]) -> list[Json]:
    changed = {name: value for name, value in wanted.items() if node.metadata.labels.get(name) != value}
    if not node.metadata.labels:
        return [{"op": "add", "path": "/metadata/labels", "value": changed}] if changed else []
    return [
        {"op": "add", "path": f"/metadata/labels/{name.replace('~', '~0').replace('/', '~1')}", "value": value}
        for name, value in changed.items()
    ]


def _untaint(node: Node, key: str) -> list[Json]:
    """From the end, so that what was removed moves nothing that is still to be removed."""
    patch: list[Json] = []
    for number in reversed(range(len(node.spec.taints))):
        if node.spec.taints[number].key == key:
            patch.append({"op": "test", "path": f"/spec/taints/{number}/key", "value": key})
            patch.append({"op": "remove", "path": f"/spec/taints/{number}"})
    return patch


def _taint(node: Node, key: str) -> list[Json]:
    taint = {"key": key, "effect": "NoSchedule"}
    if node.spec.taints:
        return [{"op": "add", "path": "/spec/taints/-", "value": taint}]
    return [{"op": "add", "path": "/spec/taints", "value": [taint]}]
