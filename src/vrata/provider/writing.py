"""What is written on a Service: finalizer, status, and annotations that tell which load balancer it has."""

from typing import Any

from vrata.kube import resources
from vrata.kube.client import ApiError, Kube
from vrata.kube.objects import Service
from vrata.provider.annotations import BALANCER_ADDRESS, BALANCER_ID
from vrata.provider.call import Json
from vrata.provider.telling import Telling

FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
GONE, CONFLICT = 404, 409


class Writing:
    """Writes what differs; a Service that is gone, or replaced by another of its name, is left alone."""

    def __init__(self, kube: Kube, telling: Telling) -> None:
        self._kube = kube
        self._telling = telling

    async def mark(self, service: Service) -> bool:
        """Have the Service wait for us when it is deleted; False if it is gone already."""
        if FINALIZER in service.metadata.finalizers:
            return True
        finalizers = [*service.metadata.finalizers, FINALIZER]
        return await self._patch(service, {"metadata": {"finalizers": finalizers}})

    async def show(self, service: Service, entries: list[Json], balancer_id: str, address: str) -> None:
        """Status (`entries` of its ingress), event and annotations of a Service that is served."""
        shown = [
            {
                name: value
                for name, value in (("ip", one.ip), ("hostname", one.hostname), ("ipMode", one.ip_mode))
                if value
            }
            for one in service.status.load_balancer.ingress
        ]
        if shown != entries:
            await self._patch(service, {"status": {"loadBalancer": {"ingress": entries}}}, subresource="status")
            self._telling.normal(service, "EnsuredLoadBalancer", f"Ensured load balancer: {address} answers")
        told = {BALANCER_ID: balancer_id, BALANCER_ADDRESS: address}
        if not told.items() <= service.metadata.annotations.items():
            await self._patch(service, {"metadata": {"annotations": told}})

    async def release(self, service: Service) -> None:
        """Nothing of it is left in the cloud: it may go, or live on as another type."""
        if service.status.load_balancer.ingress and not service.metadata.deletion_timestamp:
            await self._patch(service, {"status": {"loadBalancer": {"ingress": None}}}, subresource="status")
        left = [entry for entry in service.metadata.finalizers if entry != FINALIZER]
        ours = dict.fromkeys((BALANCER_ID, BALANCER_ADDRESS))
        await self._patch(service, {"metadata": {"finalizers": left, "annotations": ours}})

    async def _patch(self, service: Service, body: dict[str, Any], subresource: str | None = None) -> bool:
        metadata = service.metadata
        only = {**body, "metadata": {**body.get("metadata", {}), "uid": metadata.uid}}
        try:
            await self._kube.patch(resources.SERVICES, metadata.name, only, metadata.namespace, subresource=subresource)
        except ApiError as error:
            if error.code not in (GONE, CONFLICT):
                raise
            return False
        return True
