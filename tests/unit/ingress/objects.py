"""Objects of the Ingress tests."""

from typing import Any

import msgspec

from vrata.ingress.model import CONTROLLER
from vrata.kube.objects import EndpointSlice, Ingress, IngressClass, Service

CLASS = msgspec.convert({"metadata": {"name": "vrata"}, "spec": {"controller": CONTROLLER}}, IngressClass)
OTHER = msgspec.convert({"metadata": {"name": "other"}, "spec": {"controller": "example.com/x"}}, IngressClass)
CLASSES = {"vrata": CLASS, "other": OTHER}


def make_ingress(
    name: str,
    *paths: tuple[str, str, str] | tuple[str, str, str, str],
    class_name: str | None = "vrata",
    created: str = "2026-01-01T00:00:00Z",
    default: str = "",
    tls: tuple[tuple[str, ...], ...] = (),
    annotations: dict[str, str] | None = None,
    namespace: str = "default",
) -> Ingress:
    """Paths are (host, pathType, path) and a Service, `web` if none is named; each leads to its port 80.

    `tls` are the name of a Secret and its hosts.
    """

    def backend(service: str) -> dict[str, Any]:
        return {"service": {"name": service, "port": {"number": 80}}}

    rules = []
    for host, kind, path, *service in paths:
        entry = {"pathType": kind, "path": path, "backend": backend(service[0] if service else "web")}
        rules.append({"host": host, "http": {"paths": [entry]}})
    spec: dict[str, Any] = {"rules": rules, **({"ingressClassName": class_name} if class_name else {})}
    if default:
        spec["defaultBackend"] = backend(default)
    spec["tls"] = [{"secretName": secret, "hosts": list(hosts)} for secret, *hosts in tls]
    metadata = {"name": name, "namespace": namespace, "creationTimestamp": created, "annotations": annotations or {}}
    return msgspec.convert({"metadata": metadata, "spec": spec}, Ingress)


WEB = msgspec.convert(
    {"metadata": {"name": "web", "namespace": "default"}, "spec": {"ports": [{"name": "http", "port": 80}]}}, Service
)
SLICE = msgspec.convert(
    {
        "metadata": {"name": "web-1", "namespace": "default"},
        "endpoints": [
            {"addresses": ["10.20.0.2"]},
            {"addresses": ["10.20.0.3"], "conditions": {"ready": False, "serving": True, "terminating": True}},
        ],
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    },
    EndpointSlice,
)
