"""The node controllers: new Nodes are told who they are in the cloud, those of vanished servers are removed.

One list of servers serves all Nodes that need a look: new ones at once, those that are not ready every few seconds, all
of them every few minutes. A Node is removed only if it is not ready and the cloud has been asked for its very server and
said that there is none: a list that lacks it, or a cloud that does not answer, removes nothing.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

import aiohttp
import structlog

from vrata.base import clock
from vrata.kube import resources
from vrata.kube.client import ApiError, Kube
from vrata.kube.events import About, Recorder
from vrata.kube.informer import Informer
from vrata.kube.objects import Node
from vrata.provider.call import COMPUTE
from vrata.provider.cloud import Cloud, CloudError
from vrata.provider.nodes.model import NodeSettings, Server
from vrata.provider.nodes.observe import is_gone, observe_servers
from vrata.provider.nodes.plan import UNINITIALIZED, NodePlan, plan_node, plan_power, server_id_of, server_of

LOOK_S = 5.0  # at Nodes that are new or not ready
REFRESH_S = 300.0  # of all addresses
OFF = "SHUTOFF"
CHANGED = (404, 409, 422)  # by somebody else meanwhile: the next look sees how

log = structlog.get_logger(__name__)


class NodeController:
    """Of one cluster and project."""

    def __init__(self, kube: Kube, cloud: Cloud, settings: NodeSettings, *, look_s: float = LOOK_S) -> None:
        self.kube = kube
        self.cloud = cloud
        self.settings = settings
        self.nodes = Informer(kube, resources.NODES, Node)
        self.events = Recorder(kube, "vrata-provider")
        self._look_s = look_s
        self._due = asyncio.Event()
        self._told: dict[str, str] = {}  # Node -> what was said of it
        self._trouble = ""
        self.nodes.on_change(self._changed)

    def _changed(self, _old: Node | None, new: Node | None) -> None:
        if new and is_new(new):
            self._due.set()

    def lacks(self) -> str:
        """What it still takes to be ready; empty if nothing."""
        return "" if self.nodes.synced.is_set() else "nodes not read yet"

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.events.run())
            group.create_task(self.nodes.run())
            await self.nodes.synced.wait()
            refreshed_s = float("-inf")
            while True:
                self._due.clear()
                everybody = clock.monotonic_s() >= refreshed_s + REFRESH_S
                if await self._look(everybody=everybody) and everybody:
                    refreshed_s = clock.monotonic_s()
                try:
                    async with asyncio.timeout(self._look_s):
                        await self._due.wait()
                except TimeoutError:
                    continue

    async def _look(self, *, everybody: bool) -> bool:
        """At the Nodes that need it; False if the cloud did not answer."""
        asked = [
            one for one in self.nodes.objects.values() if everybody or is_new(one) or not one.is_ready() or is_off(one)
        ]
        if not asked:
            return True
        try:
            await self.cloud.connect(COMPUTE)
            self.settings = replace(self.settings, region=self.settings.region or self.cloud.region)
            servers = await observe_servers(self.cloud)
        except (CloudError, aiohttp.ClientError, OSError, TimeoutError) as error:
            said = str(error) or type(error).__name__
            if said != self._trouble:
                log.warning("servers not read; it is tried again", error=said)
            self._trouble = said
            return False
        self._trouble = ""
        for node in asked:
            try:
                await self._bring(node, servers)
            except (ApiError, CloudError, aiohttp.ClientError, OSError, TimeoutError) as error:
                log.warning("node not brought up to date", node=node.metadata.name, error=str(error))
        return True

    async def _bring(self, node: Node, servers: Iterable[Server]) -> None:
        server, why = server_of(node, servers, self.settings)
        if server is None:
            await self._without_server(node, why)
            return
        self._told.pop(node.metadata.name, None)
        if self.settings.initialises and (is_new(node) or node.spec.provider_id):
            await self._apply(node, plan_node(node, server, self.settings))
        if self.settings.deletes and not is_new(node):
            await self._apply(node, plan_power(node, off=server.status == OFF and not node.is_ready()))

    async def _without_server(self, node: Node, why: str) -> None:
        wanted = server_id_of(node, self.settings)
        if wanted and self.settings.deletes and not node.is_ready() and await is_gone(self.cloud, wanted):
            await self._delete(node, why)
        elif is_new(node) and self.settings.initialises and self._told.get(node.metadata.name) != why:
            self._told[node.metadata.name] = why
            self.events.warning(_about(node), "NodeNotInitialized", why)

    async def _delete(self, node: Node, why: str) -> None:
        """Only as it was seen: one that has become ready since then stays."""
        metadata = node.metadata
        only = {"preconditions": {"uid": metadata.uid, "resourceVersion": metadata.resource_version}}
        try:
            await self.kube.delete(resources.NODES, metadata.name, options=only)
        except ApiError as error:
            if error.code not in CHANGED:
                raise
            return
        self.events.normal(_about(node), "DeletingNode", f"Deleted the node, because {why}")
        log.info("node deleted", node=metadata.name, reason=why)

    async def _apply(self, node: Node, plan: NodePlan) -> None:
        """Addresses first: when the taint has gone, whoever looks finds them."""
        name = node.metadata.name
        try:
            if plan.addresses is not None:
                entries = [{"type": kind, "address": address} for kind, address in plan.addresses]
                await self.kube.patch(resources.NODES, name, {"status": {"addresses": entries}}, subresource="status")
            if plan.patch:
                await self.kube.patch(resources.NODES, name, plan.patch, strategy="json")
                log.info("node changed", node=name, changes=[one["path"] for one in plan.patch if one["op"] != "test"])
        except ApiError as error:
            if error.code not in CHANGED:
                raise


def is_new(node: Node) -> bool:
    """Whether nobody has told it yet who it is."""
    return any(taint.key == UNINITIALIZED for taint in node.spec.taints)


def is_off(node: Node) -> bool:
    """Whether it has been told that its server is shut down."""
    return plan_power(node, off=False) != NodePlan()


def _about(node: Node) -> About:
    return About.of("v1", "Node", node.metadata)
