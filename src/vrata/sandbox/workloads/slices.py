"""EndpointSlices and Endpoints from a Service and its pods: pure (discovery.k8s.io/v1; Service documentation).

One slice per set of resolved ports (a named targetPort may mean different numbers in different pods), at most 100
endpoints each. Names are stable, so that an unchanged slice is not written again.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any

from vrata.sandbox.workloads.model import Pod, Service

MANAGED_BY = "endpointslice-controller.k8s.io"
SLICE_MAX = 100

ResolvedPorts = tuple[tuple[str, int, str], ...]  # name, number, protocol


def resolve_ports(service: Service, pod: Pod) -> ResolvedPorts:
    """The Service's target ports in this pod; a port whose name the pod does not have is left out."""
    found = []
    for port in service.spec.ports:
        target = port.target_port or port.port
        if isinstance(target, str):
            numbers = [
                entry.container_port
                for container in pod.spec.containers
                for entry in container.ports
                if entry.name == target and entry.protocol == port.protocol
            ]
            if not numbers:
                continue
            target = numbers[0]
        found.append((port.name, target, port.protocol))
    return tuple(found)


def selected(service: Service, pods: Iterable[Pod]) -> list[Pod]:
    """Pods with an address that the Service selects, in the order of their names."""
    wanted = service.spec.selector.items()
    chosen = [
        pod
        for pod in pods
        if pod.metadata.namespace == service.metadata.namespace
        and pod.status.pod_ip
        and pod.status.phase not in ("Succeeded", "Failed")
        and all(pod.metadata.labels.get(key) == value for key, value in wanted)
    ]
    return sorted(chosen, key=lambda pod: pod.metadata.name)


def plan_slices(service: Service, pods: Iterable[Pod]) -> dict[str, dict[str, Any]]:
    """The EndpointSlices that should exist, by name."""
    groups: dict[ResolvedPorts, list[Pod]] = {}
    for pod in selected(service, pods):
        groups.setdefault(resolve_ports(service, pod), []).append(pod)
    if not groups:
        groups[tuple((port.name, 0, port.protocol) for port in service.spec.ports)] = []
    slices = {}
    for ports, members in groups.items():
        for chunk in range(0, max(1, len(members)), SLICE_MAX):
            body = _slice(service, ports, members[chunk : chunk + SLICE_MAX], chunk // SLICE_MAX)
            slices[body["metadata"]["name"]] = body
    return slices


def _slice(service: Service, ports: ResolvedPorts, pods: Sequence[Pod], number: int) -> dict[str, Any]:
    digest = hashlib.blake2s(repr((ports, number)).encode(), digest_size=4).hexdigest()
    metadata = service.metadata
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": f"{metadata.name}-{digest}",
            "namespace": metadata.namespace,
            "labels": {
                "kubernetes.io/service-name": metadata.name,
                "endpointslice.kubernetes.io/managed-by": MANAGED_BY,
            },
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Service", "name": metadata.name, "uid": metadata.uid, "controller": True}
            ],
        },
        "addressType": "IPv4",
        "endpoints": [_endpoint(service, pod) for pod in pods],
        "ports": [{"name": name, "port": port, "protocol": protocol} for name, port, protocol in ports if port],
    }


def _endpoint(service: Service, pod: Pod) -> dict[str, Any]:
    serving = pod.is_ready() or service.spec.publish_not_ready_addresses
    terminating = pod.metadata.deletion_timestamp is not None
    return {
        "addresses": [pod.status.pod_ip],
        "conditions": {
            "ready": serving and (not terminating or service.spec.publish_not_ready_addresses),
            "serving": serving,
            "terminating": terminating,
        },
        "nodeName": pod.spec.node_name,
        "targetRef": _reference(pod),
    }


def _reference(pod: Pod) -> dict[str, Any]:
    metadata = pod.metadata
    return {"kind": "Pod", "name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid}


def plan_endpoints(service: Service, pods: Iterable[Pod]) -> dict[str, Any]:
    """The Endpoints object (core/v1), for clients that do not read slices; terminating pods are left out."""
    subsets: dict[ResolvedPorts, dict[str, list[dict[str, Any]]]] = {}
    for pod in selected(service, pods):
        if pod.metadata.deletion_timestamp:
            continue
        subset = subsets.setdefault(resolve_ports(service, pod), {})
        ready = pod.is_ready() or service.spec.publish_not_ready_addresses
        address = {"ip": pod.status.pod_ip, "nodeName": pod.spec.node_name, "targetRef": _reference(pod)}
        subset.setdefault("addresses" if ready else "notReadyAddresses", []).append(address)
    return {
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {"name": service.metadata.name, "namespace": service.metadata.namespace},
        "subsets": [
            {**subset, "ports": [{"name": name, "port": port, "protocol": protocol} for name, port, protocol in ports]}
            for ports, subset in subsets.items()
        ],
    }
