"""Writes a Service's finalizer, status, and the annotations that name its load balancer."""

from typing import Any

from vrata.kube import resources
from vrata.kube.client import ApiError, Kube
from vrata.kube.objects import Service
from vrata.kube.sources import SOURCES
from vrata.provider.annotations import BALANCER_ADDRESS, BALANCER_ID
from vrata.provider.call import Json
from vrata.provider.service_events import ServiceEvents

FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
GONE, CONFLICT = 404, 409


def shown_entries(service: Service) -> list[Json]:
    """The addresses in its status, whoever wrote them."""
    return [
        {name: value for name, value in (("ip", one.ip), ("hostname", one.hostname), ("ipMode", one.ip_mode)) if value}
        for one in service.status.load_balancer.ingress
    ]


class ServiceWriter:
    """Writes what differs; a Service that is gone, or replaced by another of its name, is left alone."""

    def __init__(self, kube: Kube, events: ServiceEvents) -> None:
        self._kube = kube
        self._events = events

    async def mark(self, service: Service) -> bool:
        """Have the Service wait for us when it is deleted; False if it is gone already."""
        if FINALIZER in service.metadata.finalizers:
            return True
        finalizers = [*service.metadata.finalizers, FINALIZER]
        return bool(await self._patch(service, {"metadata": {"finalizers": finalizers}}))

    async def show(self, service: Service, entries: list[Json], balancer_id: str, address: str) -> None:
        """Status (`entries` of its ingress), event and annotations of a Service that is served."""
        if shown_entries(service) != entries:
            await self._patch(service, {"status": {"loadBalancer": {"ingress": entries}}}, subresource="status")
            self._events.normal(service, "EnsuredLoadBalancer", f"Ensured load balancer: {address} answers")
        ours = {BALANCER_ID: balancer_id, BALANCER_ADDRESS: address}
        if not ours.items() <= service.metadata.annotations.items():
            await self._patch(service, {"metadata": {"annotations": ours}})

    async def announce(self, service: Service, sources: str) -> None:
        """From where its load balancer reaches members (`vrata.kube.sources`); empty: nobody needs to know."""
        if service.metadata.annotations.get(SOURCES, "") != sources:
            await self._patch(service, {"metadata": {"annotations": {SOURCES: sources or None}}})

    async def release(self, service: Service, *, keep_id: bool) -> None:
        """Nothing of it is left in the cloud: it may go, or live on as another type.

        `keep_id`: the load balancer that its annotation names is there still; the annotation is a person's. So it is where
        there is no address beside it: we write both.
        Only as it was seen: if it has changed since then, it may want a load balancer again, and without the finalizer
        nobody would take that away. The change brings another pass.
        """
        version = service.metadata.resource_version
        if service.status.load_balancer.ingress and not service.metadata.deletion_timestamp:
            empty = {"metadata": {"resourceVersion": version}, "status": {"loadBalancer": {"ingress": None}}}
            version = await self._patch(service, empty, subresource="status")
            if not version:
                return
        left = [entry for entry in service.metadata.finalizers if entry != FINALIZER]
        keep_id = keep_id or BALANCER_ADDRESS not in service.metadata.annotations
        ours = dict.fromkeys((*(() if keep_id else (BALANCER_ID,)), BALANCER_ADDRESS, SOURCES))
        metadata = {"resourceVersion": version, "finalizers": left, "annotations": ours}
        await self._patch(service, {"metadata": metadata})

    async def _patch(self, service: Service, body: dict[str, Any], subresource: str | None = None) -> str:
        """The version that it has now; empty if it is gone, or another than was meant."""
        metadata = service.metadata
        only = {**body, "metadata": {**body.get("metadata", {}), "uid": metadata.uid}}
        try:
            answer = await self._kube.patch(
                resources.SERVICES, metadata.name, only, metadata.namespace, subresource=subresource
            )
        except ApiError as error:
            if error.code not in (GONE, CONFLICT):
                raise
            return ""
        return str(answer["metadata"]["resourceVersion"])
