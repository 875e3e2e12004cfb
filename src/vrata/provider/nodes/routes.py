"""Routes of a router to the pods of each node: pure (Neutron, «extraroute»; Kubernetes, route controller).

Ours are those whose destination lies in the cluster's pod networks; all others are left alone. The address that a route
leads to must be allowed to carry pods' packets: its port gets the destination as an allowed address pair.
"""

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from vrata.kube.objects import Node
from vrata.provider.call import Call, network

Json = dict[str, Any]


@dataclass(frozen=True, order=True)
class Route:
    """As Neutron has it."""

    destination: str
    nexthop: str


def wanted_routes(nodes: Iterable[Node]) -> frozenset[Route]:
    """Each node's pod networks, by its internal address of the same family; a node that lacks one is left out."""
    found = set()
    for node in nodes:
        internal = [one.address for one in node.status.addresses if one.type == "InternalIP"]
        for cidr in node.spec.pod_cidrs or ((node.spec.pod_cidr,) if node.spec.pod_cidr else ()):
            nexthop = next((one for one in internal if (":" in one) == (":" in cidr)), None)
            if nexthop:
                found.add(Route(str(ipaddress.ip_network(cidr, strict=False)), nexthop))
    return frozenset(found)


def plan_routes(
    router_id: str, known: Iterable[Json], wanted: frozenset[Route], clusters: tuple[str, ...]
) -> tuple[Call, ...]:
    """At most two calls: first what is new, then what is no longer; so pods that move are reached all along."""
    there = {Route(one["destination"], one["nexthop"]) for one in known}
    new = sorted(wanted - there)
    old = sorted(one for one in there - wanted if _is_ours(one, clusters))
    calls = []
    if new:
        calls.append(_change(router_id, "add_extraroutes", new, "nodes have pods there"))
    if old:
        calls.append(_change(router_id, "remove_extraroutes", old, "no node has pods there"))
    return tuple(calls)


def plan_pairs(ports: Iterable[Json], wanted: frozenset[Route], clusters: tuple[str, ...]) -> tuple[Call, ...]:
    """What each port may carry, for its addresses; pairs outside the cluster's networks stay."""
    calls = []
    for port in ports:
        addresses = {one["ip_address"] for one in port["fixed_ips"]}
        pairs = port.get("allowed_address_pairs") or []
        carried = {one.destination for one in wanted if one.nexthop in addresses}
        kept = [one for one in pairs if one["ip_address"] in carried or not _inside(one["ip_address"], clusters)]
        missing = sorted(carried - {one["ip_address"] for one in kept})
        if missing or len(kept) < len(pairs):
            body = {"port": {"allowed_address_pairs": [*kept, *({"ip_address": one} for one in missing)]}}
            calls.append(network("PUT", f"/ports/{port['id']}", "its node's pods send through it", body))
    return tuple(calls)


def _is_ours(route: Route, clusters: tuple[str, ...]) -> bool:
    return _inside(route.destination, clusters)


def _inside(cidr: str, clusters: tuple[str, ...]) -> bool:
    found = ipaddress.ip_network(cidr, strict=False)
    return any(
        found.version == whole.version and found.subnet_of(whole)  # type: ignore[arg-type]
        for whole in (ipaddress.ip_network(one, strict=False) for one in clusters)
    )


def _change(router_id: str, verb: str, routes: Iterable[Route], reason: str) -> Call:
    rows = [{"destination": one.destination, "nexthop": one.nexthop} for one in routes]
    return network("PUT", f"/routers/{router_id}/{verb}", reason, {"router": {"routes": rows}})
