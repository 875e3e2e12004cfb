"""Keeps a router's routes to the pods of all nodes, and what nodes' ports may carry, as the cluster has them."""

import asyncio

import aiohttp
import structlog

from vrata.kube import resources
from vrata.kube.client import Kube
from vrata.kube.informer import Informer
from vrata.kube.objects import Node
from vrata.provider.apply import apply_call
from vrata.provider.call import NETWORK, Json
from vrata.provider.cloud import Cloud, CloudError
from vrata.provider.nodes.routes import plan_pairs, plan_routes, wanted_routes

COALESCE_S = 0.2
REFRESH_S = 300.0
RETRY_S = 5.0

log = structlog.get_logger(__name__)


class RouteController:
    """Of one router; `clusters` are the cluster's pod networks."""

    def __init__(self, kube: Kube, cloud: Cloud, router_id: str, clusters: tuple[str, ...]) -> None:
        self.cloud = cloud
        self.nodes = Informer(kube, resources.NODES, Node)
        self._router_id = router_id
        self._clusters = clusters
        self._due = asyncio.Event()
        self.nodes.on_change(self._changed)

    def _changed(self, old: Node | None, new: Node | None) -> None:
        if wanted_routes([old] if old else []) != wanted_routes([new] if new else []):
            self._due.set()

    def lacks(self) -> str:
        """What it still takes to be ready; empty if nothing."""
        return "" if self.nodes.synced.is_set() else "nodes not read yet"

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.nodes.run())
            await self.nodes.synced.wait()
            while True:
                self._due.clear()
                wait_s = REFRESH_S
                try:
                    await self._bring()
                except (CloudError, aiohttp.ClientError, OSError, TimeoutError) as error:
                    log.warning("routes not brought up to date; it is tried again", error=str(error))
                    wait_s = RETRY_S
                try:
                    async with asyncio.timeout(wait_s):
                        await self._due.wait()
                    await asyncio.sleep(COALESCE_S)  # nodes seldom come alone
                except TimeoutError:
                    continue

    async def _bring(self) -> None:
        """Ports first: what arrives by a route shall be let through."""
        wanted = wanted_routes(self.nodes.objects.values())
        router: Json = (await self.cloud.get(NETWORK, f"/v2.0/routers/{self._router_id}"))["router"]
        ports = await self.cloud.find(NETWORK, "/v2.0/ports", "ports")
        for call in plan_pairs(ports, wanted, self._clusters):
            await apply_call(self.cloud, call)
        for call in plan_routes(self._router_id, router.get("routes") or (), wanted, self._clusters):
            await apply_call(self.cloud, call)
