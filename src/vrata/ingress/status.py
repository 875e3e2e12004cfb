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
    ours: frozenset[str], ingresses: Mapping[str, Ingress], wanted: list[dict[str, Any]], manager: str
) -> dict[str, list[dict[str, Any]]]:
    """The Ingresses whose status must change, with what it must become.

    One that is not ours loses the address that `manager`, our name for the API server, wrote, be it before this process; what
    another controller has written since is its own (`metadata.managedFields`).
    """
    changes: dict[str, list[dict[str, Any]]] = {}
    for key, ingress in ingresses.items():
        if ingress.metadata.deletion_timestamp or not (key in ours or _has_written(manager, ingress)):
            continue
        target = wanted if key in ours else []
        current = [
            {"ip": entry.ip} if entry.ip else {"hostname": entry.hostname}
            for entry in ingress.status.load_balancer.ingress
        ]
        if current != target:
            changes[key] = target
    return changes


def _has_written(manager: str, ingress: Ingress) -> bool:
    written = ingress.metadata.managed_fields
    return any((one.manager, one.subresource) == (manager, "status") for one in written)
