"""The node proxy's loop: Services and EndpointSlices in, one nftables transaction per burst of changes out.

At the start the whole table is replaced in one transaction (connections that are tracked go on); afterwards only the
Services that changed contribute. A transaction that the kernel refuses is tried Service by Service, so that one bad
object never holds back the others.
"""

import asyncio
from collections.abc import Iterable

import structlog

from vrata.kube import resources
from vrata.kube.client import Kube
from vrata.kube.events import About, Recorder
from vrata.kube.informer import Informer
from vrata.kube.objects import EndpointSlice, Service
from vrata.net import nft
from vrata.net.command import CommandFailed, run
from vrata.nodeport.health import HealthServers
from vrata.nodeport.model import TABLE, Health, PortView, Rules
from vrata.nodeport.plan import gone_targets, plan_change, view_health, view_service, woken_ports
from vrata.nodeport.render import SKELETON, render_rules, render_transaction

COALESCE_S = 0.003
RETRY_S = 2.0

log = structlog.get_logger(__name__)


class NodeProxy:
    """Serves one node's share of every Service."""

    def __init__(self, kube: Kube, node: str) -> None:
        self.node = node
        self.events = Recorder(kube, "vrata-node")
        self.services = Informer(kube, resources.SERVICES, Service)
        self.slices = Informer(kube, resources.ENDPOINT_SLICES, EndpointSlice)
        self._by_service: dict[str, dict[str, EndpointSlice]] = {}
        self._applied: dict[str, Rules] = {}
        self._views: dict[str, tuple[PortView, ...]] = {}
        self._dirty: set[str] = set()
        self._due = asyncio.Event()
        self._health = HealthServers(self._health_port_taken)
        self.services.on_change(lambda old, new: self._mark((new or old).metadata.key))  # type: ignore[union-attr]
        self.slices.on_change(self._slice_changed)

    def _mark(self, key: str) -> None:
        self._dirty.add(key)
        self._due.set()

    def _slice_changed(self, old: EndpointSlice | None, new: EndpointSlice | None) -> None:
        for entry in (old, new):
            if entry:
                owned = self._by_service.setdefault(entry.service_key, {})
                owned.pop(entry.metadata.key, None)
                if entry is new:
                    owned[entry.metadata.key] = entry
                self._mark(entry.service_key)

    async def run(self) -> None:
        """Work until cancelled; the rules stay when this process ends."""
        await run("sysctl", "-q", "-w", "net.ipv4.ip_forward=1")
        async with asyncio.TaskGroup() as group:
            group.create_task(self.events.run())
            group.create_task(self.services.run())
            group.create_task(self.slices.run())
            await self.services.synced.wait()
            await self.slices.synced.wait()
            await self._replace_table()
            while True:
                await self._due.wait()
                await asyncio.sleep(COALESCE_S)
                self._due.clear()
                keys, self._dirty = self._dirty, set()
                await self._pass(keys)

    async def _replace_table(self) -> None:
        """Everything at once: the old table, if any, goes and the new one comes in the same transaction."""
        self._dirty.clear()
        self._due.clear()
        keys = set(self.services.objects)
        rules = {key: render_rules(self._view(key)) for key in keys}
        text = "".join(render_transaction(plan_change(Rules(), entry)) for entry in rules.values())
        await nft.apply(f"table ip {TABLE} {{}}\ndelete table ip {TABLE}\n{SKELETON}{text}")
        self._applied = rules
        for key in keys:
            self._views[key] = self._view(key)
            await self._set_health(key)
        log.info("ruleset in place", services=len(keys))

    def _view(self, key: str) -> tuple[PortView, ...]:
        service = self.services.objects.get(key)
        if service is None:
            return ()
        return view_service(service, self._by_service.get(key, {}).values(), self.node)

    async def _pass(self, keys: Iterable[str]) -> None:
        """Bring the marked Services' contributions up to date."""
        views = {key: self._view(key) for key in keys}
        desired = {key: render_rules(view) for key, view in views.items()}
        changes = {key: plan_change(self._applied.get(key, Rules()), rules) for key, rules in desired.items()}
        texts = {key: render_transaction(change) for key, change in changes.items() if not change.is_empty()}
        applied = set(desired) - set(texts)
        try:
            if texts:
                await nft.apply("".join(texts.values()))
            applied |= set(texts)
        except CommandFailed:
            applied |= await self._one_by_one(texts)
        for key in applied:
            old = self._views.get(key, ())
            self._applied[key], self._views[key] = desired[key], views[key]
            await self._forget_flows(old, views[key])
            await self._set_health(key)
            if key not in self.services.objects:
                del self._applied[key], self._views[key]

    async def _one_by_one(self, texts: dict[str, str]) -> set[str]:
        good = set()
        for key, text in texts.items():
            try:
                await nft.apply(text)
                good.add(key)
            except CommandFailed as error:
                log.error("rules refused; this Service keeps its old ones", service=key, error=str(error))
                asyncio.get_running_loop().call_later(RETRY_S, self._mark, key)
        return good

    async def _forget_flows(self, old: tuple[PortView, ...], new: tuple[PortView, ...]) -> None:
        """UDP flows have no end that could be seen: drop what conntrack remembers of endpoints that went."""
        for target in gone_targets(old, new):
            await self._conntrack("--dst-nat", target.address, "--reply-port-src", str(target.port))
        for view in woken_ports(old, new):
            for ip in view.cluster_ips:
                await self._conntrack("--orig-dst", ip, "--orig-port-dst", str(view.port))
            if view.node_port:
                await self._conntrack("--orig-port-dst", str(view.node_port))

    @staticmethod
    async def _conntrack(*match: str) -> None:
        try:
            await run("conntrack", "-D", "-p", "udp", *match)
        except CommandFailed as error:
            if "0 flow entries" not in error.stderr:
                log.warning("conntrack entries not removed", match=" ".join(match), error=str(error))

    async def _set_health(self, key: str) -> None:
        service = self.services.objects.get(key)
        slices = self._by_service.get(key, {}).values()
        await self._health.set(key, view_health(service, slices, self.node) if service else None)

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
