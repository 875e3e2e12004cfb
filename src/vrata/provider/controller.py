"""The loop of the cloud provider: Services and nodes in, cloud calls and the Services' status out.

A pass observes, plans and applies; while the cloud is busy it waits to be told. What was settled once is remembered by all
that it depends on, so an unchanged Service costs no call; the drift check compares the whole project now and then.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from typing import Any
from weakref import WeakValueDictionary

import aiohttp
import structlog

from vrata.base import clock
from vrata.base.errors import InvalidInput, VrataError
from vrata.kube import resources
from vrata.kube.client import ApiError, Kube
from vrata.kube.events import Recorder
from vrata.kube.informer import Informer
from vrata.kube.objects import EndpointSlice, Namespace, Node, Service
from vrata.loop.queue import SETTLED, Requeue, WorkQueue, work
from vrata.provider import rows as reading
from vrata.provider import swaps
from vrata.provider.adopt import address_hints, is_guest
from vrata.provider.annotations import ALLOWS, TARGET, restricted_annotation
from vrata.provider.apply import apply_call, apply_plan, is_busy, is_of_the_call
from vrata.provider.call import BALANCING, NETWORK
from vrata.provider.cloud import Cloud, CloudError
from vrata.provider.desired import desired, leaving, wants_balancer
from vrata.provider.drift import DriftCheck
from vrata.provider.error_policy import ErrorPolicy, not_allowed
from vrata.provider.groups import members_of
from vrata.provider.lookups import Lookups
from vrata.provider.members import Nodes, is_serving
from vrata.provider.model import ADDRESS, NEWEST, PLACE, PROTOCOL, Desired, Observed, Problem, Settings, Swaps, World
from vrata.provider.observe import observe_floating_ports, observe_service, observe_version
from vrata.provider.pending import PendingBalancers
from vrata.provider.plan import Plan, plan_ensure, plan_remove, status_entries
from vrata.provider.refusals import can_help, remedy
from vrata.provider.security_groups import SecurityGroups
from vrata.provider.service_events import ServiceEvents, has_endpoints
from vrata.provider.service_writer import FINALIZER, ServiceWriter, shown_entries
from vrata.provider.settled import Settled, half_settled, is_known, plan_members, settled

SYSTEM_NAMESPACE = "kube-system"
AGAIN_S = 0.1
DRIFT_CHECK_S = 300.0
FLOATING_CHECK_S, FLOATING_MANY_CHECK_S = 10.0, 60.0  # the second one where more than FLOATING_MANY Services are served
FLOATING_MANY = 500
NO_ENDPOINTS_S = 10.0
WORKERS = 64  # the cloud client bounds what is under way
RETRY_S = 5.0
GONE, FORBIDDEN = 404, 403
FORBIDDEN_S = 60.0

log = structlog.get_logger(__name__)


class Provider:
    """Owns the informers, the queue and what is known to be settled."""

    def __init__(self, kube: Kube, cloud: Cloud, settings: Settings, *, drift_check_s: float = DRIFT_CHECK_S) -> None:
        self.kube = kube
        self.cloud = cloud
        self.settings = settings
        self.queue: WorkQueue[str] = WorkQueue()
        self.events = Recorder(kube, "vrata-provider")
        self.service_events = ServiceEvents(self.events)
        self.writer = ServiceWriter(kube, self.service_events)
        self.services = Informer(kube, resources.SERVICES, Service)
        self.nodes = Informer(kube, resources.NODES, Node)
        self.slices = Informer(kube, resources.ENDPOINT_SLICES, EndpointSlice)
        asks = settings.check_tls_container
        self.lookups = Lookups(cloud, self.nodes.objects.values, asks_key_manager=asks)
        self.security_groups = SecurityGroups(cloud, self.lookups, manages=settings.manage_security_groups)
        self.error_policy = ErrorPolicy(settings.on_error)
        self.pending = PendingBalancers(cloud, self.queue.add, self._is_stuck)
        self._following: set[str] = set()  # Services whose members are being written, pool by pool
        self.drift = DriftCheck(
            cloud,
            self.lookups,
            self.security_groups,
            self._desired,
            self._is_right,
            self._differs,
            self._following,
            self._members_due,
        )
        self._drift_check_s = drift_check_s
        self._settled: dict[str, Settled] = {}
        self._nodes_now = Nodes(())
        self._nodes_since_s = clock.monotonic_s()
        self.compared = False  # all Services with the cloud, once
        self._at_work = False
        self._turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()  # by load balancer
        self._of_service: dict[str, dict[str, EndpointSlice]] = {}  # by key of the Service
        self._warned_empty: set[str] = set()
        self._swaps: dict[str, Swaps] = {}
        self.informers: tuple[Informer[Any], ...] = (self.services, self.nodes, self.slices)
        for informer in self.informers:
            informer.on_unreadable(self.events.unreadable)
        self.services.on_change(lambda old, new: self.queue.add((new or old).metadata.key))  # type: ignore[union-attr]
        self.nodes.on_change(self._node_changed)
        self.slices.on_change(self._slice_changed)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        def relevant(node: Node | None) -> object:
            return (node.status.addresses, is_serving(node), node.metadata.labels) if node else None

        if relevant(old) != relevant(new):
            self._nodes_now = Nodes(self.nodes.objects.values())
            self._nodes_since_s = clock.monotonic_s()
            for key in self.services.objects:
                self.queue.add(key)

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for entry in (old, new):
            if entry:
                owned = self._of_service.setdefault(entry.service_key, {})
                owned.pop(entry.metadata.key, None)
                if entry is new:
                    owned[entry.metadata.key] = entry
                service = self.services.objects.get(entry.service_key)
                if service and TARGET in service.metadata.annotations:
                    self.queue.add(entry.service_key)

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.events.run())
            for informer in self.informers:
                group.create_task(informer.run())
            for informer in self.informers:
                await informer.synced.wait()
            await self._who_we_are()
            await self.check_drift()
            self._at_work = True
            group.create_task(self.drift.run())
            group.create_task(self.pending.run())
            group.create_task(self._check_again())
            group.create_task(self._watch_floating())
            group.create_task(work(self.queue, self.reconcile, workers=WORKERS))

    def lacks(self) -> str:
        """What it still takes to be ready; empty if nothing."""
        reasons = [reason for informer in self.informers if (reason := informer.not_ready_reason())]
        return "; ".join(reasons) or ("" if self.compared else "not compared with the cloud yet")

    async def _who_we_are(self) -> None:
        """No two clusters have the same uid of this namespace, whatever their names."""
        if not self.settings.cluster_uid:
            found = await self.kube.get(resources.NAMESPACES, Namespace, SYSTEM_NAMESPACE)
            self.settings = replace(self.settings, cluster_uid=found.metadata.uid if found else "")

    async def _check_again(self) -> None:
        while True:
            await asyncio.sleep(self._drift_check_s if self.compared else RETRY_S)
            await self.check_drift()

    async def _watch_floating(self) -> None:
        """Find floating IPs that somebody took off, in seconds: one list, whatever the number of Services."""
        while True:
            await asyncio.sleep(FLOATING_CHECK_S if len(self._settled) <= FLOATING_MANY else FLOATING_MANY_CHECK_S)
            if not any(one.floating_port_id for one in self._settled.values()):
                continue
            expected = {key: one.floating_port_id for key, one in self._settled.items() if one.floating_port_id}
            try:
                ports = await observe_floating_ports(self.cloud)
            except (CloudError, aiohttp.ClientError, OSError) as error:
                log.warning("floating IPs not read", error=str(error))
                continue
            for key, port_id in expected.items():
                known = self._settled.get(key)
                if port_id not in ports and known and known.floating_port_id == port_id:
                    self._differs(key)

    async def check_drift(self) -> None:
        """Compare the whole project with all Services now."""
        try:
            await self.cloud.connect(BALANCING, NETWORK)
            if self.settings.octavia == NEWEST:
                self.settings = replace(self.settings, octavia=await observe_version(self.cloud))
            ours = [one for one in self.services.objects.values() if wants_balancer(one)]
            await self.drift.check(ours)
            self.compared = True
        except (CloudError, aiohttp.ClientError, OSError) as error:
            log.warning("the cloud could not be compared with the Services", error=str(error))

    def _is_stuck(self, key: str, balancer_id: str) -> None:
        service = self.services.objects.get(key)
        if service:
            remedy = "it cannot be changed; ask the cloud's operator to free it"
            self.service_events.failed(service, f"load balancer {balancer_id} has been busy for ten minutes: {remedy}")

    def _is_right(self, service: Service, wanted: Desired, balancer: Observed) -> None:
        key = service.metadata.key
        if not service.status.load_balancer.ingress or self.services.objects.get(key) is not service:
            return
        if wanted.problems:
            self.queue.add(key)  # its owner is told again
            return
        shown = (wanted.known_address,)
        if shown_entries(service) != status_entries(wanted, shown):
            self.queue.add(key)  # somebody has edited its status
            return
        self._settled[key] = settled(wanted, balancer, shown)
        if wanted.proxy_protocol:
            self.queue.add(key)  # its annotation is compared with the nodes, for which nothing is read
        elif not self._at_work:
            self.queue.discard(key)  # a start has nothing to do for what is as it should be

    def _members_due(self, key: str, wanted: Desired) -> bool:
        known = self._settled.get(key)
        return known is not None and is_known(known, wanted) and plan_members(known, wanted) is not None

    def _differs(self, key: str) -> None:
        self._settled.pop(key, None)
        self.queue.add(key)

    def _desired(self, service: Service) -> Desired:
        slices = self._of_service.get(service.metadata.key, {}).values()
        return desired(self.settings, service, self._nodes_now, slices)

    async def reconcile(self, key: str) -> Requeue:
        """One pass over one Service; what went wrong is told on the Service."""
        service = self.services.objects.get(key)
        if service is None:
            self._settled.pop(key, None)
            self._following.discard(key)
            self._warned_empty.discard(key)
            self._swaps.pop(key, None)
            self.security_groups.forget(key)
            self.service_events.forget(key)
            return SETTLED
        try:
            if wants_balancer(service):
                with self.cloud.metrics.reconciling("loadbalancer_ensure"):
                    return await self._ensure(service)
            if FINALIZER in service.metadata.finalizers:
                with self.cloud.metrics.reconciling("loadbalancer_delete"):
                    return await self._remove(service)
        except CloudError as error:
            if is_busy(error):
                return Requeue(after_s=AGAIN_S)
            self._refused(service, error)
            raise VrataError(str(error), retriable=can_help(error.status, str(error))) from error
        except ApiError:
            raise  # nothing that the Service could mend, or could be told of
        except VrataError as error:
            self.service_events.failed(service, str(error))
            raise
        return SETTLED

    async def _ensure(self, service: Service) -> Requeue:
        key, wanted = service.metadata.key, self._desired(service)
        known = self._settled.get(key)
        if (
            known
            and is_known(known, wanted)
            and service.status.load_balancer.ingress
            and (not known.addresses or shown_entries(service) == status_entries(wanted, known.addresses))
        ):
            return await self._follow_members(service, wanted, known)
        self._settled.pop(key, None)  # half-way it is not settled, even if the wish is taken back meanwhile
        self._following.discard(key)
        self.service_events.begins(service)
        async with self._turn(wanted):
            return await self._bring(service, wanted)

    async def _follow_members(self, service: Service, wanted: Desired, known: Settled) -> Requeue:
        """Of what was right nothing but members can have changed: nothing needs to be read."""
        key = service.metadata.key
        await self._announce(service, wanted, known.subnet_id)
        found = plan_members(known, wanted)
        if found is None:
            self._following.discard(key)
            return self._watch_endpoints(service)
        call, then = found
        self._following.add(key)
        del self._settled[key]  # until the cloud has said yes; else a whole pass looks why
        of_nodes, metrics = TARGET not in service.metadata.annotations, self.cloud.metrics
        try:
            shut_out = await self._let_in(self.security_groups.admit(service, wanted))
            async with self._turn(wanted):
                with metrics.updating_hosts():
                    await apply_call(self.cloud, call)
        except CloudError as error:
            if error.status == GONE:
                return Requeue(after_s=0.0)
            if of_nodes and not is_busy(error):
                metrics.nodes_missed()
            raise
        if shut_out:
            raise shut_out  # what it waits for is not known to be right
        self._settled[key] = then
        if plan_members(then, wanted):
            self.pending.wait_for(known.balancer_id, key)
            return SETTLED
        self._following.discard(key)
        await self.security_groups.ensure(service, wanted, ())
        if of_nodes:
            metrics.nodes_followed(clock.monotonic_s() - self._nodes_since_s)
        return self._watch_endpoints(service)

    @contextlib.asynccontextmanager
    async def _turn(self, wanted: Desired) -> AsyncIterator[None]:
        """Services on one load balancer take turns: each writes tags that it has read."""
        key = wanted.balancer_id or wanted.name
        lock = self._turns.setdefault(key, asyncio.Lock())
        async with lock:
            yield

    async def _bring(self, service: Service, wanted: Desired) -> Requeue:
        rows, marked = await asyncio.gather(
            observe_service(self.cloud, wanted, old=FINALIZER in service.metadata.finalizers),
            self.writer.mark(service),
        )
        if not marked:
            return SETTLED  # nobody would be there to clean up after
        seen = reading.world(rows, wanted, address_hints(wanted, service))
        wanted, world = await self._complete(service, wanted, seen)
        key = service.metadata.key
        world = replace(world, swaps=self._swaps.get(key, Swaps()))
        plan = self._plan(service, wanted, world)
        if plan.problem:
            self.service_events.failed(service, plan.problem)
        shut_out = None
        if world.balancer or plan.calls:
            group = self.security_groups.ensure(service, wanted, members_of(world.balancer))
            shut_out = await self._let_in(group)
        try:
            applied = await apply_plan(self.cloud, plan.calls, plan.later)
        except CloudError as error:
            if not (error.status == FORBIDDEN and world.balancer and world.balancer.provisioning_status == "ERROR"):
                raise
            self.service_events.failed(service, not_allowed(world.balancer.id))
            return Requeue(after_s=FORBIDDEN_S)
        if world.balancer is None and applied.answers:
            # The floating IP needs no ACTIVE balancer: while the hosts build the pair, it is on its way to them.
            made = reading.balancer(applied.answers[0]["loadbalancer"])  # what is under it was not read
            world = replace(world, balancer=replace(made, provisioning_status="PENDING_CREATE"))
            plan = replace(plan_ensure(wanted, world), notes=plan.notes)
            applied = await apply_plan(self.cloud, plan.calls, plan.later)
        self._swaps[key] = swaps.after(world.swaps, wanted, world.balancer, applied.made_room, applied.put_back)
        if applied.refused:
            self._refused(service, applied.refused)
        self.service_events.notes(service, (*wanted.notes, *plan.notes))
        if shut_out:
            plan = replace(plan, addresses=(), settled=False)
        after = await self._conclude(service, wanted, world, plan, rows, refused=bool(applied.refused))
        if shut_out:
            raise shut_out
        return after

    @staticmethod
    async def _let_in(step: Awaitable[None]) -> VrataError | None:
        """What guards members lets the load balancer in before it asks them; a refusal holds up the status only."""
        try:
            await step
        except CloudError as error:
            if not is_of_the_call(error):
                raise
            return error
        except InvalidInput as error:
            return error
        return None

    async def _conclude(
        self, service: Service, wanted: Desired, world: World, plan: Plan, rows: reading.Rows, *, refused: bool
    ) -> Requeue:
        """Show what the Service has, and say when to look again."""
        key, balancer = service.metadata.key, world.balancer
        if balancer is None:
            return SETTLED  # the Service must change before anything can be made
        await self._announce(
            service, wanted, balancer.subnet_id
        )  # before clients come: instances are on the VIP's subnet
        if plan.addresses and PROTOCOL not in wanted.blocked:
            await self.writer.show(service, status_entries(wanted, plan.addresses), balancer.id, plan.addresses[0])
        if plan.settled:
            self.drift.seen(rows)
            self._settled[key] = settled(wanted, balancer, plan.addresses)
            return self._watch_endpoints(service)
        if not refused and (known := half_settled(wanted, balancer, plan)):
            self._settled[key] = known  # the other pools are written without reading anything again
            self._following.add(key)
        if plan.calls or not plan.problem:
            self.pending.wait_for(balancer.id, key)
            return SETTLED
        return Requeue(after_s=RETRY_S)

    def _refused(self, service: Service, error: CloudError) -> None:
        self.service_events.failed(service, f"the cloud said: {error}; {remedy(error.status, str(error))}")

    async def _announce(self, service: Service, wanted: Desired, subnet_id: str) -> None:
        if PROTOCOL not in wanted.blocked:
            await self.writer.announce(service, await self.lookups.sources(wanted, subnet_id))

    async def _complete(self, service: Service, wanted: Desired, seen: World) -> tuple[Desired, World]:
        """All that a plan looks at; what is wrong there blocks what it is about, or all of a balancer that is to be made."""
        restricted = await self._restricted(service, wanted, seen)
        if restricted and (seen.balancer is None or is_guest(wanted, seen.balancer)):
            raise VrataError(str(restricted.error()), retriable=True)  # a label may come
        found = [restricted] if restricted else []
        try:
            world = await self.lookups.complete(seen, wanted)
        except InvalidInput as error:
            if seen.balancer is None:
                raise
            found.append(Problem.of(error, PROTOCOL))
            world = await self.lookups.complete(seen, replace(wanted, listeners=()))
        return replace(wanted, problems=(*wanted.problems, *found)), world

    async def _restricted(self, service: Service, wanted: Desired, world: World) -> Problem | None:
        """A restricted annotation in a namespace without permission."""
        guest = world.balancer is not None and is_guest(wanted, world.balancer)
        name = restricted_annotation(service, guest=guest) if self.settings.restrict_annotations else ""
        if not name:
            return None
        namespace = service.metadata.namespace
        found = await self.kube.get(resources.NAMESPACES, Namespace, namespace)
        if found and found.metadata.labels.get(ALLOWS) == "true":
            return None
        remedy = f"namespace {namespace} may not use it: remove it, or ask the operator to label it {ALLOWS}=true"
        return Problem(f"annotation {name}", service.metadata.annotations[name], remedy, (PLACE, PROTOCOL, ADDRESS))

    def _plan(self, service: Service, wanted: Desired, world: World) -> Plan:
        balancer = world.balancer
        if balancer and balancer.provisioning_status == "ERROR":
            served = bool(service.status.load_balancer.ingress)
            return self.error_policy.plan(wanted, balancer, served=served, now_s=clock.monotonic_s())
        if balancer:
            self.error_policy.well(balancer)
        return plan_ensure(wanted, world)

    async def _remove(self, service: Service) -> Requeue:
        self._settled.pop(service.metadata.key, None)
        wanted = leaving(self.settings, service)
        async with self._turn(wanted):
            return await self._take_away(service, wanted)

    async def _take_away(self, service: Service, wanted: Desired) -> Requeue:
        rows = await observe_service(self.cloud, wanted, old=FINALIZER in service.metadata.finalizers)
        world = reading.world(rows, wanted, address_hints(wanted, service))
        plan = plan_remove(wanted, world)
        if plan.calls:
            self.service_events.normal(service, "DeletingLoadBalancer", "Deleting load balancer")
        applied = await apply_plan(self.cloud, plan.calls, plan.later)
        if applied.refused:
            raise applied.refused
        if not plan.settled:
            if world.balancer:
                self.pending.wait_for(world.balancer.id, service.metadata.key)
                return SETTLED
            return Requeue(after_s=AGAIN_S)
        await self.security_groups.remove(service, wanted)
        self.service_events.normal(service, "DeletedLoadBalancer", "Deleted load balancer")
        await self.writer.release(service, keep_id=world.balancer is not None)
        return SETTLED

    def _watch_endpoints(self, service: Service) -> Requeue:
        """Settled; but say so if, some time later, no pod answers behind the address."""
        key = service.metadata.key
        if not service.spec.selector or has_endpoints(self._of_service.get(key, {}).values()):
            self._warned_empty.discard(key)
        elif key not in self._warned_empty:
            self._warned_empty.add(key)
            return Requeue(after_s=NO_ENDPOINTS_S)
        else:
            self.service_events.empty(service)
        return SETTLED
