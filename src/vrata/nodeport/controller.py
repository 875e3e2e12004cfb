"""The node proxy's loop: Services and EndpointSlices in, one nftables transaction per burst of changes out.

At the start, and whenever somebody else changed the rules or a look finds that they are not as they were written, everything is
replaced in one transaction (connections that are tracked go on); else only the Services that changed contribute. A transaction
that the kernel refuses is tried Service by Service, so that one bad object never holds back the others.
"""

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

import structlog

from vrata.base import clock
from vrata.base.asgi import serve_http
from vrata.base.errors import VrataError
from vrata.base.operations import operations
from vrata.kube import resources
from vrata.kube.client import Kube
from vrata.kube.events import About, Recorder
from vrata.kube.informer import Informer
from vrata.kube.metrics import watch_informers
from vrata.kube.objects import EndpointSlice, Node, Service
from vrata.net import ip, nft
from vrata.net.command import CommandFailed
from vrata.net.conntrack import forget_stale_flows
from vrata.net.rules_watch import RulesWatch
from vrata.nodeport import kernel
from vrata.nodeport.claims import Claim, Claims
from vrata.nodeport.health import HealthServers, listen, proxy_health
from vrata.nodeport.metrics import Metrics
from vrata.nodeport.model import TABLE, ChainName, Health, PortView, Rules, Surroundings
from vrata.nodeport.plan import Here, Transaction, frontends_of, plan_change, view_health, view_service
from vrata.nodeport.render import render_leftovers, render_rules, render_transaction

COALESCE_S = 0.003
RETRY_S = 2.0
FORWARDING_LOOK_S = 1.0  # at two kernel parameters
LOOK_S = 10.0  # at the rules: chains, maps and sets
LOOK_COST = 50  # times as long as a look took lie between two
REFRESH_S = 300.0  # all elements are written anew
SETTLE_S = 0.1  # after somebody else wrote to our tables, who may not be done
REPAIR_REST_S = 10.0  # between two repairs: whoever writes there all the time would keep us busy
ZONE = "topology.kubernetes.io/zone"
LEAVING_TAINT = "ToBeDeletedByClusterAutoscaler"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Options:
    """What the command line says. Ports: 0 for none. CIDRs of both families."""

    cluster_cidrs: tuple[str, ...] = ()
    node_ports_on: tuple[str, ...] = ()
    health_port: int = 0
    metrics_port: int = 0


class NodeProxy:
    """Serves one node's share of every Service."""

    def __init__(self, kube: Kube, node: str, options: Options | None = None) -> None:
        self.node = node
        self.options = options or Options()
        self.metrics = Metrics()
        self.events = Recorder(kube, "vrata-node")
        self.services = Informer(kube, resources.SERVICES, Service)
        self.slices = Informer(kube, resources.ENDPOINT_SLICES, EndpointSlice)
        self.nodes = Informer(kube, resources.NODES, Node, field_selector=f"metadata.name={node}")
        self._by_service: dict[str, dict[str, EndpointSlice]] = {}
        self._claims = Claims()
        self._refused: dict[str, list[Claim]] = {}  # by Service, as its owner was told
        self._applied: dict[str, Rules] = {}
        self._views: dict[str, tuple[PortView, ...]] = {}
        self._shared: frozenset[ChainName] = frozenset()
        self._dirty: dict[str, float] = {}  # by Service: since when, monotonic
        self._everything = False  # the rules are to be replaced
        self._kept = False  # the last transaction was taken
        self._watch: RulesWatch | None = None
        self._repair_due = False
        self._repaired_s = -REPAIR_REST_S  # monotonic
        self._due = asyncio.Event()
        self._health = HealthServers(self._health_port_taken, lambda: self._kept)
        self.informers: tuple[Informer[Service] | Informer[EndpointSlice] | Informer[Node], ...]
        self.informers = (self.services, self.slices, self.nodes)
        watch_informers(self.metrics.registry, lambda: self.informers)
        for informer in self.informers:
            informer.on_unreadable(self.events.unreadable)
        self.services.on_change(self._service_changed)
        self.slices.on_change(self._slice_changed)
        self.nodes.on_change(self._node_changed)

    def _mark(self, key: str) -> None:
        self._dirty.setdefault(key, clock.monotonic_s())
        self._due.set()

    def _service_changed(self, old: Service | None, new: Service | None) -> None:
        entry = new or old
        assert entry
        key = entry.metadata.key
        for other in {key, *self._claims.put(key, new)}:
            self._mark(other)

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for entry in (old, new):
            if entry:
                owned = self._by_service.setdefault(entry.service_key, {})
                owned.pop(entry.metadata.key, None)
                if entry is new:
                    owned[entry.metadata.key] = entry
                self._mark(entry.service_key)

    def _node_changed(self, old: Node | None, new: Node | None) -> None:
        if _seen_of(old) != _seen_of(new):
            self._replace_soon()

    def _replace_soon(self) -> None:
        self._everything = True
        self._due.set()

    @property
    def _here(self) -> Here:
        node = self.nodes.objects.get(self.node)
        return Here(self.node, node.metadata.labels.get(ZONE, "") if node else "")

    @property
    def _around(self) -> Surroundings:
        node = self.nodes.objects.get(self.node)
        pods = (node.spec.pod_cidrs or tuple(filter(None, [node.spec.pod_cidr]))) if node else ()
        return Surroundings(pods, self.options.cluster_cidrs, self.options.node_ports_on)

    async def run(self) -> None:
        """Work until cancelled; the rules stay when this process ends."""
        with contextlib.suppress(VrataError):  # said a moment later
            kernel.restore_forwarding()  # what is on is not written: a container may read it only
        async with asyncio.TaskGroup() as group:
            group.create_task(self.events.run())
            for informer in self.informers:
                group.create_task(informer.run())
            self._serve_operations(group)
            for informer in self.informers:
                await informer.synced.wait()
            self._everything = True
            group.create_task(self._keep_forwarding())
            with contextlib.closing(RulesWatch(None, self._rules_changed, TABLE, nft.writers)) as self._watch:
                group.create_task(self._look_regularly())
                while True:
                    await self._bring_up_to_date()
                    await self._due.wait()
                    await asyncio.sleep(COALESCE_S)
                    self._due.clear()

    def _rules_changed(self) -> None:
        """Somebody else wrote to our tables: `nft flush map` leaves chains and maps as they are, so no look would find it."""
        if not self._repair_due:
            self._repair_due = True
            rest_s = self._repaired_s + REPAIR_REST_S - clock.monotonic_s()
            asyncio.get_running_loop().call_later(max(SETTLE_S, rest_s), self._repair)

    def _repair(self) -> None:
        self._repair_due, self._repaired_s = False, clock.monotonic_s()
        log.warning("somebody changed the rules; they are replaced")
        self.metrics.repairs.inc()
        self._replace_soon()

    async def _bring_up_to_date(self) -> None:
        marked, self._dirty = self._dirty, {}
        try:
            with self._watch.writing() if self._watch else contextlib.nullcontext():
                if self._everything:
                    await self._replace()
                elif marked:
                    await self._pass(marked)
        except VrataError as error:
            self._kept = False
            self.metrics.failures.inc()
            log.error("rules not written; everything is replaced", error=str(error)[:1000])
            asyncio.get_running_loop().call_later(RETRY_S, self._replace_soon)
            return
        now_s = clock.monotonic_s()
        for since_s in marked.values():
            self.metrics.programming_s.observe(now_s - since_s)

    async def _keep_forwarding(self) -> None:
        """Others set these, too: tools for hardening, another program's package."""
        told = ""
        while True:
            await asyncio.sleep(FORWARDING_LOOK_S)
            try:
                wrong = kernel.restore_forwarding()
            except VrataError as error:
                if told != str(error):  # it stays so for long, such as in a container that may not write
                    told = str(error)
                    log.error("packets are not forwarded", error=told)
                continue
            told = ""
            if wrong:
                log.warning("somebody stopped forwarding; it was switched on again", was=wrong)
                self.metrics.repairs.inc()

    async def _look_regularly(self) -> None:
        """Others can write to the tables: `nft flush ruleset` is the usual one."""
        refreshed_s, took_s = clock.monotonic_s(), 0.0
        while True:
            await asyncio.sleep(max(LOOK_S, LOOK_COST * took_s))
            if self._everything:
                continue
            began_s = clock.monotonic_s()
            try:
                whole = kernel.is_whole(await kernel.look(), kernel.expected(self._applied.values(), self._around))
            except VrataError as error:
                log.warning("rules not read", error=str(error))
                continue
            took_s = clock.monotonic_s() - began_s
            if self._repair_due or self._everything:
                continue  # the kernel has told of it meanwhile
            if not whole:
                log.warning("the rules are not as they were written; they are replaced")
                self.metrics.repairs.inc()
            if not whole or clock.monotonic_s() - refreshed_s >= REFRESH_S:
                refreshed_s = clock.monotonic_s()
                self._replace_soon()

    async def _replace(self) -> None:
        """Everything at once."""
        self._everything = False
        keys = set(self.services.objects)
        views = {key: self._view(key) for key in keys}
        rules = {key: render_rules(view) for key, view in views.items()}
        try:
            with self.metrics.sync_s.time():
                await kernel.replace(rules.values(), self._around)
        except CommandFailed as error:
            # One Service may be at fault: the tables without any, then each by itself.
            log.error("rules refused as a whole; they are tried one by one", error=str(error)[:1000])
            await kernel.replace((), self._around)
            self._applied, self._shared = {}, frozenset()
            await self._apply(rules, {key: plan_change(Rules(), entry) for key, entry in rules.items()}, views)
        else:
            self._applied = rules
            self._shared = frozenset(name for entry in rules.values() for name in (*entry.shared, *entry.maps))
        gone = [view for key, old in self._views.items() if key not in views for view in old]
        self._views = views
        for key in keys | self._health.services():
            await self._set_health(key)
        await self._forget_flows(gone)
        self._written()
        log.info("ruleset in place", services=len(keys))

    def _written(self) -> None:
        self._kept = True
        self.metrics.last.set(clock.now().timestamp())
        ports = [port for view in self._views.values() for port in view if port.everywhere]
        internal = sum(not port.internal for port in ports)
        external = sum(port.external_local and not port.external for port in ports)
        self.metrics.no_local.labels("internal").set(internal)
        self.metrics.no_local.labels("external").set(external)

    def _view(self, key: str) -> tuple[PortView, ...]:
        service = self.services.objects.get(key)
        if service is None:
            self._refused.pop(key, None)
            return ()
        granted = [
            self._claims.granted(view)
            for view in view_service(service, self._by_service.get(key, {}).values(), self._here)
        ]
        self._say_refused(service, [claim for _, lost in granted for claim in lost])
        return tuple(view for view, _ in granted)

    def _say_refused(self, service: Service, lost: list[Claim]) -> None:
        key = service.metadata.key
        if lost and self._refused.get(key) != lost:
            told = ", ".join(f"{one.address} port {one.port} ({self._claims.holder(one)} has it)" for one in lost[:5])
            about = About.of("v1", "Service", service.metadata)
            message = f"node {self.node} does not serve {told}; use another address or port"
            self.events.warning(about, "AddressInUse", message)
        self._refused[key] = lost

    async def _pass(self, keys: Iterable[str]) -> None:
        """Bring the marked Services' contributions up to date."""
        views = {key: self._view(key) for key in keys}
        desired = {key: render_rules(view) for key, view in views.items()}
        changes = {
            key: plan_change(self._applied.get(key, Rules()), rules, self._shared) for key, rules in desired.items()
        }
        udp = [view for key in keys for view in (*self._views.get(key, ()), *views[key]) if view.protocol == "udp"]
        gone = [view for key in keys for view in self._views.get(key, ())]
        await self._apply(desired, changes, views)
        for key in keys:
            await self._set_health(key)
        if udp:
            await self._forget_flows(gone)
        self._written()

    async def _apply(
        self,
        desired: dict[str, Rules],
        changes: dict[str, Transaction],
        views: dict[str, tuple[PortView, ...]],
    ) -> None:
        todo = {key: change for key, change in changes.items() if not change.is_empty()}
        applied = set(desired) - set(todo)
        try:
            if todo:
                with self.metrics.sync_s.time():
                    await nft.apply("".join(render_transaction(change) for change in todo.values()))
            applied |= set(todo)
        except CommandFailed:
            applied |= await self._one_by_one(todo)
        leftovers = "".join(render_leftovers(change) for key, change in todo.items() if key in applied)
        for key in applied:
            self._applied[key], self._views[key] = desired[key], views[key]
            self._shared |= desired[key].shared.keys() | desired[key].maps.keys()
            if key not in self.services.objects:
                del self._applied[key], self._views[key]
        if leftovers:
            await nft.apply(leftovers)

    async def _one_by_one(self, changes: dict[str, Transaction]) -> set[str]:
        """Those that the kernel takes; if it takes none, the tables themselves may be gone."""
        good = set()
        for key, change in changes.items():
            try:
                await nft.apply(render_transaction(change))
                good.add(key)
            except CommandFailed as error:
                self.metrics.failures.inc()
                log.error("rules refused; this Service keeps its old ones", service=key, error=str(error)[:1000])
                asyncio.get_running_loop().call_later(RETRY_S, self._mark, key)
        if len(good) < len(changes) and not kernel.is_whole(
            await kernel.look(), kernel.expected(self._applied.values(), self._around)
        ):
            self._replace_soon()
        return good

    async def _forget_flows(self, gone: Iterable[PortView]) -> None:
        everywhere = [view for views in self._views.values() for view in views]
        frontends = frontends_of(everywhere, gone)
        if frontends:
            own = frozenset(
                one["local"] for link in await ip.query("addr", "show") for one in link.get("addr_info", ())
            )
            await forget_stale_flows(frontends, own)

    async def _set_health(self, key: str) -> None:
        service = self.services.objects.get(key)
        slices = self._by_service.get(key, {}).values()
        await self._health.set(key, view_health(service, slices, self._here) if service else None)

    def _serve_operations(self, group: asyncio.TaskGroup) -> None:
        """/healthz and /livez for load balancers and the kubelet, /metrics for Prometheus; a port that is taken is logged."""
        health = proxy_health(lambda: self._kept, self._is_leaving)
        for port, address, app in (
            (self.options.health_port, "", health),
            (self.options.metrics_port, "127.0.0.1", operations("node", self.metrics.registry, self.not_ready_reason)),
        ):
            if port:
                try:
                    group.create_task(serve_http(app, [listen(port, address)], lifespan="off"))
                except OSError as error:
                    log.error("port not opened", port=port, error=error.strerror)

    def not_ready_reason(self) -> str:
        """What it still takes to be ready; empty if nothing."""
        reasons = [reason for informer in self.informers if (reason := informer.not_ready_reason())]
        return "; ".join(reasons) or ("" if self._kept else "rules not written")

    def _is_leaving(self) -> bool:
        node = self.nodes.objects.get(self.node)
        if node is None:
            return False
        return node.metadata.deletion_timestamp is not None or any(one.key == LEAVING_TAINT for one in node.spec.taints)

    def _health_port_taken(self, health: Health, error: OSError) -> None:
        service = self.services.objects.get(health.service)
        if service:
            about = About.of("v1", "Service", service.metadata)
            self.events.warning(
                about,
                "HealthCheckPortTaken",
                f"spec.healthCheckNodePort: {health.port} cannot be opened on node {self.node} ({error.strerror}); "
                "free the port on the node or recreate the Service with another one",
            )


def _seen_of(node: Node | None) -> object:
    return (node.metadata.labels.get(ZONE), node.spec.pod_cidr, node.spec.pod_cidrs) if node else None
