"""The loop of the cloud provider: Service and nodes in, cloud calls and the Service's status out.

A pass observes, plans and applies; while the cloud is busy it says when to look again. What was settled once is
remembered by a fingerprint of all that it depends on, so an unchanged Service costs no call; drift in the cloud is
looked for at long intervals.
"""

import asyncio
from dataclasses import replace
from typing import Any

import aiohttp
import structlog

from vrata.base import clock
from vrata.base.errors import InvalidInput, VrataError
from vrata.kube import resources
from vrata.kube.client import ApiError, Kube
from vrata.kube.events import About, Recorder
from vrata.kube.informer import Informer
from vrata.kube.objects import EndpointSlice, Node, Service
from vrata.loop.queue import SETTLED, Requeue, WorkQueue, work
from vrata.provider.apply import apply_action
from vrata.provider.cloud import Cloud, CloudError
from vrata.provider.desired import balancer_name, desired, floating_description, is_serving
from vrata.provider.model import Desired, Settings
from vrata.provider.observe import (
    BALANCING,
    NETWORK,
    observe_external_network,
    observe_node_subnet,
    observe_world,
    observed_balancer,
)
from vrata.provider.plan import Plan, plan_ensure, plan_remove

FINALIZER = "service.kubernetes.io/load-balancer-cleanup"
BUSY_POLL_S = 0.1
DRIFT_CHECK_S = 300.0
NO_ENDPOINTS_S = 10.0
WORKERS = 8

log = structlog.get_logger(__name__)


class Provider:
    """Owns the informers, the queue and what is known to be settled."""

    def __init__(self, kube: Kube, cloud: Cloud, settings: Settings) -> None:
        self.kube = kube
        self.cloud = cloud
        self.settings = settings
        self.events = Recorder(kube, "vrata-provider")
        self.queue: WorkQueue[str] = WorkQueue()
        self.services = Informer(kube, resources.SERVICES, Service)
        self.nodes = Informer(kube, resources.NODES, Node)
        self.slices = Informer(kube, resources.ENDPOINT_SLICES, EndpointSlice)
        self._settled: dict[str, tuple[Desired, float]] = {}  # and when that was seen, for the drift check
        self._announced: set[str] = set()  # uids whose beginning was told
        self._warned_empty: set[str] = set()
        self._subnet_id = settings.subnet_id
        self._floating_network_id = settings.floating_network_id or None
        self.services.on_change(lambda old, new: self.queue.add((new or old).metadata.key))  # type: ignore[union-attr]
        self.nodes.on_change(self._node_changed)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        def relevant(node: Node | None) -> object:
            return (node.address("InternalIP"), is_serving(node)) if node else None

        if relevant(old) != relevant(new):
            for key in self.services.objects:
                self.queue.add(key)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.events.run())
            for informer in (self.services, self.nodes, self.slices):
                group.create_task(informer.run())
            group.create_task(self._connect())
            for informer in (self.services, self.nodes, self.slices):
                await informer.synced.wait()
            group.create_task(work(self.queue, self.reconcile, workers=WORKERS))

    async def _connect(self) -> None:
        """Log in and find the networks before the first Service asks; a cloud that is away now is tried again then."""
        try:
            await self.cloud.connect(BALANCING, NETWORK)
            await self._floating_network()
        except (CloudError, aiohttp.ClientError, OSError, TimeoutError) as error:
            log.warning("cloud not reached yet", error=str(error))

    async def reconcile(self, key: str) -> Requeue:
        """One pass over one Service; what went wrong is told on the Service."""
        service = self.services.objects.get(key)
        if service is None:
            self._settled.pop(key, None)
            return SETTLED
        about = About.of("v1", "Service", service.metadata)
        try:
            if self._wants_balancer(service):
                return await self._ensure(service, about)
            if FINALIZER in service.metadata.finalizers:
                return await self._remove(service, about)
        except InvalidInput as error:
            self.events.warning(about, "SyncLoadBalancerFailed", str(error))
            raise
        except CloudError as error:
            if error.status == 409 and "immutable" in str(error):
                return Requeue(after_s=BUSY_POLL_S)
            self.events.warning(about, "SyncLoadBalancerFailed", f"the cloud said: {error}")
            # A quota may be raised, an address freed: retried, with growing pauses.
            raise VrataError(str(error)) from error
        return SETTLED

    @staticmethod
    def _wants_balancer(service: Service) -> bool:
        spec = service.spec
        return spec.type == "LoadBalancer" and not spec.load_balancer_class and not service.metadata.deletion_timestamp

    async def _ensure(self, service: Service, about: About) -> Requeue:
        key = service.metadata.key
        wanted = desired(self.settings, service, self.nodes.objects.values())
        if self._is_settled(key, wanted) and service.status.load_balancer.ingress:
            return self._watch_endpoints(service, about)
        if FINALIZER not in service.metadata.finalizers:
            finalizers = [*service.metadata.finalizers, FINALIZER]
            await self._patch(service, {"metadata": {"finalizers": finalizers}})
        if service.metadata.uid not in self._announced:
            self._announced.add(service.metadata.uid)
            self.events.normal(about, "EnsuringLoadBalancer", "Ensuring load balancer")
        world = await observe_world(self.cloud, wanted.name, wanted.floating_description, wanted.floating_address)
        plan = plan_ensure(wanted, world, subnet_id=await self._vip_subnet())
        if plan.problem:
            self.events.warning(about, "SyncLoadBalancerFailed", plan.problem)
        answers = await self._apply(plan)
        if world.balancer is None and answers:
            # The floating IP needs no ACTIVE balancer: while the hosts build the pair, it is on its way to them.
            created = replace(world, balancer=observed_balancer(answers[0]["loadbalancer"]))
            plan = plan_ensure(wanted, created, subnet_id=self._subnet_id)
            await self._apply(plan)
        if plan.address:
            await self._write_status(service, about, plan.address, wanted)
        if not plan.settled:
            return Requeue(after_s=BUSY_POLL_S)
        self._settled[key] = wanted, clock.monotonic_s()
        return self._watch_endpoints(service, about)

    def _is_settled(self, key: str, wanted: Desired) -> bool:
        known, seen_s = self._settled.get(key, (None, 0.0))
        return known == wanted and clock.monotonic_s() < seen_s + DRIFT_CHECK_S

    async def _apply(self, plan: Plan) -> list[dict[str, Any]]:
        return [await apply_action(self.cloud, action, await self._floating_network()) for action in plan.actions]

    async def _remove(self, service: Service, about: About) -> Requeue:
        self._settled.pop(service.metadata.key, None)
        name, description = balancer_name(self.settings, service), floating_description(self.settings, service)
        keep = service.metadata.annotations.get("loadbalancer.openstack.org/keep-floatingip") == "true"
        world = await observe_world(self.cloud, name, description, None)
        plan = plan_remove(world, keep_floating=keep)
        if any(plan.actions):
            self.events.normal(about, "DeletingLoadBalancer", "Deleting load balancer")
        await self._apply(plan)
        if not plan.settled:
            return Requeue(after_s=BUSY_POLL_S)
        self.events.normal(about, "DeletedLoadBalancer", "Deleted load balancer")
        if service.status.load_balancer.ingress and not service.metadata.deletion_timestamp:
            await self._patch(service, {"status": {"loadBalancer": {"ingress": None}}}, subresource="status")
        left = [entry for entry in service.metadata.finalizers if entry != FINALIZER]
        await self._patch(service, {"metadata": {"finalizers": left}})
        return SETTLED

    async def _write_status(self, service: Service, about: About, address: str, wanted: Desired) -> None:
        mode = "Proxy" if wanted.proxy_protocol else "VIP"
        current = service.status.load_balancer.ingress
        if len(current) == 1 and (current[0].ip, current[0].ip_mode) == (address, mode):
            return
        body = {"status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": mode}]}}}
        await self._patch(service, body, subresource="status")
        self.events.normal(about, "EnsuredLoadBalancer", f"Ensured load balancer: {address} answers")

    async def _patch(self, service: Service, body: dict[str, Any], subresource: str | None = None) -> None:
        metadata = service.metadata
        try:
            await self.kube.patch(resources.SERVICES, metadata.name, body, metadata.namespace, subresource=subresource)
        except ApiError as error:
            if error.code != 404:
                raise

    async def _vip_subnet(self) -> str:
        if not self._subnet_id:
            nodes = [node for node in self.nodes.objects.values() if is_serving(node)]
            if not nodes:
                raise VrataError("no node to balance to", remedy="wait for one to register, or give --subnet-id")
            self._subnet_id = await observe_node_subnet(self.cloud, nodes[0])
        return self._subnet_id

    async def _floating_network(self) -> str | None:
        if self._floating_network_id is None:
            self._floating_network_id = await observe_external_network(self.cloud)
        return self._floating_network_id

    def _watch_endpoints(self, service: Service, about: About) -> Requeue:
        """Settled; but say so if, some time later, no pod answers behind the address."""
        key = service.metadata.key
        if not service.spec.selector or self._has_endpoints(key):
            self._warned_empty.discard(key)
            return Requeue(after_s=DRIFT_CHECK_S)
        created = service.metadata.creation_timestamp
        if key not in self._warned_empty and created:
            self._warned_empty.add(key)
            return Requeue(after_s=NO_ENDPOINTS_S)
        selector = ",".join(f"{name}={value}" for name, value in service.spec.selector.items())
        self.events.warning(
            about, "NoReadyEndpoints", f"no ready pod has the labels {selector}; check spec.selector and the pods"
        )
        return Requeue(after_s=DRIFT_CHECK_S)

    def _has_endpoints(self, key: str) -> bool:
        return any(
            entry.service_key == key and any(point.conditions.ready is not False for point in entry.endpoints or ())
            for entry in self.slices.objects.values()
        )
