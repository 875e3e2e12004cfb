"""What a sandbox makes in a cluster that is not its own: looked at before `vrata up`, taken away by `vrata down`.

Nodes carry the sandbox's label. Of the rest, Vrata's is what its field manager wrote (`metadata.managedFields`) and what
names an address of the sandbox's networks. What others wrote, or wrote to as well, stays.
"""

import asyncio
import ipaddress
from collections.abc import Iterable
from typing import Any

import aiohttp

from vrata.base.errors import InvalidInput, VrataError
from vrata.kube import resources
from vrata.kube.client import FIELD_MANAGER, ApiError, Kube, Resource
from vrata.kube.events import Recorder
from vrata.kube.objects import Ingress, LoadBalancerStatus, Node, PartialObject, Service
from vrata.provider.annotations import BALANCER_ADDRESS
from vrata.provider.service_events import ServiceEvents
from vrata.provider.service_writer import FINALIZER, ServiceWriter
from vrata.sandbox.model import NETWORKS, NODE_LABEL
from vrata.sandbox.workloads.detection import Program, observe_left

CLEAN_S = 30.0
POLL_S = 0.1
AT_ONCE = {"gracePeriodSeconds": 0}
_MADE = (resources.REPLICA_SETS, resources.PODS, resources.ENDPOINT_SLICES, resources.ENDPOINTS)

Json = dict[str, Any]


def foreign_nodes(nodes: Iterable[Node], names: set[str], sandbox: str) -> list[str]:
    """Those of these names that are not the sandbox's: its own would be written over them."""
    return sorted(
        node.metadata.name
        for node in nodes
        if node.metadata.name in names and node.metadata.labels.get(NODE_LABEL) != sandbox
    )


async def check_nodes(kube: Kube, names: set[str], sandbox: str) -> None:
    """InvalidInput if the cluster has other nodes under the names of the sandbox's machines."""
    taken = foreign_nodes((await kube.list(resources.NODES, Node)).objects, names, sandbox)
    if taken:
        raise InvalidInput(
            "--kubeconfig", ", ".join(taken), "the cluster has other nodes of these names; delete them or use another"
        )


def is_ours(address: str) -> bool:
    """Whether an address is of a network of the sandbox."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return False
    return any(found in ipaddress.ip_network(network) for network in NETWORKS.values())


def shows_ours(status: LoadBalancerStatus) -> bool:
    """Whether a status names an address of the sandbox."""
    return any(is_ours(entry.ip) for entry in status.ingress)


def is_served(service: Service, managers: set[str]) -> bool:
    """Whether the sandbox's provider has a Service in hand: it waits for it, or shows its address."""
    if FIELD_MANAGER not in managers:
        return False
    address = service.metadata.annotations.get(BALANCER_ADDRESS, "")
    waits = FINALIZER in service.metadata.finalizers
    return is_ours(address) or shows_ours(service.status.load_balancer) or (waits and not address)


def managers_of(raw: Json) -> set[str]:
    """Who has written fields of an object."""
    return {str(entry.get("manager")) for entry in raw["metadata"].get("managedFields") or ()}


class Cleaning:
    """Takes away what one sandbox made; every step may be repeated."""

    def __init__(self, kube: Kube, sandbox: str) -> None:
        self._kube, self._sandbox = kube, sandbox

    async def run(self) -> None:
        """Nodes first, so that nothing is placed on them again. VrataError, with what to do, if it cannot be done."""
        try:
            async with asyncio.timeout(CLEAN_S):
                nodes = await self._nodes()
                await self._services()
                await self._ingresses()
                if Program.CONTROLLER_MANAGER not in await observe_left(self._kube):
                    await self._workloads()
                for name in nodes:
                    await self._pods_of(name)
        except (ApiError, aiohttp.ClientError, OSError, TimeoutError) as error:
            said = str(error) or f"no answer within {CLEAN_S:.0f} s"
            command = f"kubectl delete node -l {NODE_LABEL}={self._sandbox}"
            raise VrataError(
                f"the sandbox is gone, but what it made in the cluster is there still: {said}",
                remedy=f"`{command}`, delete pods that do not end, and take the finalizer {FINALIZER} from Services",
            ) from error

    async def _nodes(self) -> list[str]:
        label = f"{NODE_LABEL}={self._sandbox}"
        nodes = (
            await self._kube.list(resources.NODES, PartialObject, label_selector=label, metadata_only=True)
        ).objects
        names = [node.metadata.name for node in nodes]
        for name in names:
            await self._kube.delete(resources.NODES, name)
        return names

    async def _pods_of(self, node: str) -> None:
        """No kubelet will ever confirm that they have ended. A scheduler may have placed another one meanwhile."""
        only = f"spec.nodeName={node}"
        while True:
            pods = await self._kube.list(resources.PODS, PartialObject, field_selector=only, metadata_only=True)
            if not pods.objects:
                return
            await self._delete(resources.PODS, pods.objects)
            await asyncio.sleep(POLL_S)

    async def _services(self) -> None:
        writer = ServiceWriter(self._kube, ServiceEvents(Recorder(self._kube, "vrata-sandbox")))
        while True:  # one that somebody writes to at the same time is released the next time
            written = await self._managed(resources.SERVICES)
            listed = (await self._kube.list(resources.SERVICES, Service)).objects
            served = [one for one in listed if is_served(one, written.get(one.metadata.key, set()))]
            if not served:
                return
            for service in served:
                await writer.release(service, keep_id=False)
            await asyncio.sleep(POLL_S)

    async def _ingresses(self) -> None:
        body = {"status": {"loadBalancer": {"ingress": None}}}
        written = await self._managed(resources.INGRESSES)
        for ingress in (await self._kube.list(resources.INGRESSES, Ingress)).objects:
            metadata = ingress.metadata
            if shows_ours(ingress.status.load_balancer) and FIELD_MANAGER in written.get(metadata.key, ()):
                await self._kube.patch(
                    resources.INGRESSES, metadata.name, body, metadata.namespace, subresource="status"
                )

    async def _workloads(self) -> None:
        """What the sandbox's controllers made for Deployments and Services; the next ones make it anew."""
        for resource in _MADE:
            made = {key for key, managers in (await self._managed(resource)).items() if managers == {FIELD_MANAGER}}
            objects = (await self._kube.list(resource, PartialObject, metadata_only=True)).objects
            await self._delete(resource, [one for one in objects if one.metadata.key in made])

    async def _managed(self, resource: Resource) -> dict[str, set[str]]:
        """Who wrote which object, by key."""
        listed = (await self._kube.list(resource, dict, metadata_only=True)).objects
        return {f"{raw['metadata']['namespace']}/{raw['metadata']['name']}": managers_of(raw) for raw in listed}

    async def _delete(self, resource: Resource, objects: Iterable[PartialObject]) -> None:
        for one in objects:
            options = AT_ONCE | {"preconditions": {"uid": one.metadata.uid}}
            try:
                await self._kube.delete(resource, one.metadata.name, one.metadata.namespace, options=options)
            except ApiError as error:
                if error.code != 409:  # another of its name, made since
                    raise
