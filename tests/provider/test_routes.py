"""Routes follow the nodes: a router's, and what the nodes' ports may carry."""

import asyncio
import json
from pathlib import Path
from typing import Any

from tests.support.kubernetes import Cluster
from tests.support.provided import DEADLINE_S, NODES, WatchedCloud

from vrata.base.clock import monotonic_s
from vrata.kube import config
from vrata.kube.client import Kube
from vrata.provider.call import NETWORK
from vrata.provider.nodes.route_controller import RouteController

CLUSTER = "10.244.0.0/16"
FOREIGN = {"destination": "192.168.77.0/24", "nexthop": NODES["worker-1"]}


async def test_routes_come_with_nodes_and_go_with_them(
    cluster: Cluster, nodes: None, backing: tuple[str, Path | None]
) -> None:
    async with Kube(config.load(cluster.kubeconfig)) as kube, WatchedCloud(*backing) as cloud:
        (router,) = await cloud.find(NETWORK, "/v2.0/routers", "routers", name="gateway")
        path = f"/v2.0/routers/{router['id']}"
        await cloud.request("PUT", NETWORK, f"{path}/add_extraroutes", body={"router": {"routes": [FOREIGN]}})
        controller = RouteController(kube, cloud, router["id"], (CLUSTER,))
        running = asyncio.create_task(controller.run())
        try:

            async def until(wanted: dict[str, str]) -> None:
                expected = {(cidr, NODES[name]) for name, cidr in wanted.items()} | {tuple(FOREIGN.values())}
                deadline = monotonic_s() + DEADLINE_S
                while (seen := {tuple(one.values()) for one in await routes()}) != expected:
                    assert monotonic_s() < deadline, (seen, expected)
                    await asyncio.sleep(0.05)

            async def routes() -> list[dict[str, Any]]:
                rows = (await cloud.get(NETWORK, path))["router"]["routes"]
                return [{"destination": one["destination"], "nexthop": one["nexthop"]} for one in rows]

            def give(name: str, cidr: str) -> None:
                patch = json.dumps({"spec": {"podCIDR": cidr, "podCIDRs": [cidr]}})
                cluster.kubectl("patch", "node", name, "--type=merge", "-p", patch)

            for number, name in enumerate(NODES):
                await asyncio.to_thread(give, name, f"10.244.{number}.0/24")
            await until({"worker-0": "10.244.0.0/24", "worker-1": "10.244.1.0/24"})
            ports = await cloud.find(NETWORK, "/v2.0/ports", "ports", name="worker-0")
            assert [one["ip_address"] for one in ports[0]["allowed_address_pairs"]] == ["10.244.0.0/24"]
            await asyncio.to_thread(cluster.kubectl, "delete", "node", "worker-0")
            await until({"worker-1": "10.244.1.0/24"})
            await asyncio.to_thread(cluster.kubectl, "delete", "node", "worker-1")
            await until({})
        finally:
            running.cancel()
            await asyncio.wait({running})
            await cloud.request("PUT", NETWORK, f"{path}/remove_extraroutes", body={"router": {"routes": [FOREIGN]}})
