"""The addresses under which Ingresses are reached: those of the Service in front of the controller."""

from collections.abc import Mapping
from typing import Any

from vrata.kube.objects import Ingress, Service


def addresses(service: Service | None) -> list[dict[str, Any]]:
    """status.loadBalancer.ingress for every Ingress served behind this Service."""
    if service is None:
        return []
    return [
        {"ip": entry.ip} if entry.ip else {"hostname": entry.hostname}
        for entry in service.status.load_balancer.ingress
        if entry.ip or entry.hostname
    ]


def plan_status(
    ours: frozenset[str], released: frozenset[str], ingresses: Mapping[str, Ingress], wanted: list[dict[str, Any]]
) -> dict[str, list[dict[str, Any]]]:
    """The Ingresses whose status must change, with what it must become.

    Released ones lose our address; one that has another by now is another controller's.
    """
    changes: dict[str, list[dict[str, Any]]] = {}
    for key in ours | released:
        ingress = ingresses.get(key)
        if ingress is None or ingress.metadata.deletion_timestamp:
            continue
        target = wanted if key in ours else []
        current = [
            {"ip": entry.ip} if entry.ip else {"hostname": entry.hostname}
            for entry in ingress.status.load_balancer.ingress
        ]
        if current != target and (key in ours or current == wanted):
            changes[key] = target
    return changes
