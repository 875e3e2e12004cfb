"""Nodes and their servers: a new one is told who it is, one that has lost its server goes, and nothing goes by mistake."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.support.kubernetes import Cluster, wait_for
from tests.support.provided import WatchedCloud

from vrata.kube import config
from vrata.kube.client import Kube
from vrata.provider.call import COMPUTE, NOVA
from vrata.provider.cloud import Cloud, CloudError
from vrata.provider.nodes import controller, observe
from vrata.provider.nodes.controller import NodeController
from vrata.provider.nodes.model import NodeSettings
from vrata.provider.nodes.plan import SHUTDOWN, UNINITIALIZED

Json = dict[str, Any]


@dataclass
class Site:
    """A controller at work, and the administrator who registers machines."""

    cluster: Cluster
    cloud: WatchedCloud
    admin: Cloud
    flavor: str
    servers: dict[str, str]

    async def register(self, name: str, *networks: Json) -> str:
        """A server of the tenant's; its id."""
        project = (await self.admin.find("identity", "/v3/projects", "projects", name="demo"))[0]["id"]
        body = {"name": name, "flavorRef": self.flavor, "tenant_id": project, "networks": list(networks)}
        body |= {"availability_zone": "az-1"}
        made = await self.admin.request("POST", COMPUTE, f"{NOVA}/servers", body={"server": body})
        self.servers[name] = made["server"]["id"]
        return self.servers[name]

    async def remove(self, name: str) -> None:
        await self.admin.request("DELETE", COMPUTE, f"{NOVA}/servers/{self.servers.pop(name)}")

    def join(self, name: str, *, ready: bool = True, provider_id: str = "", new: bool = True) -> None:
        """A kubelet with an external cloud provider has registered its node."""
        taints = [{"key": UNINITIALIZED, "value": "true", "effect": "NoSchedule"}] if new else []
        spec: Json = {"taints": [{"key": "mine", "value": "kept", "effect": "NoSchedule"}, *taints]}
        spec |= {"providerID": provider_id} if provider_id else {}
        body: Json = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "spec": spec}
        self.cluster.kubectl("create", "-f", "-", stdin=json.dumps(body))
        conditions = [{"type": "Ready", "status": "True" if ready else "False"}]
        patch = json.dumps({"status": {"conditions": conditions}})
        self.cluster.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", patch)

    async def until(self, name: str, what: str, true: Any) -> Json:
        """Wait for a state of a Node without holding up the controller."""

        def look() -> Json | None:
            said = self.cluster.run("get", "node", name, "-o", "json")
            found = json.loads(said.out) if said.status == 0 else {}
            return found or {"gone": True} if true(found) else None

        found: Json = await asyncio.to_thread(wait_for, look, what, 30.0)
        return found


def taints(node: Json) -> set[str]:
    return {one["key"] for one in node.get("spec", {}).get("taints", [])}


@pytest.fixture
async def site(cluster: Cluster, backing: tuple[str, Path | None]) -> AsyncIterator[Site]:
    name, file = backing
    if file is None:
        pytest.fail("servers are registered by an administrator: this suite needs its own cloud")
    async with (
        Kube(config.load(cluster.kubeconfig)) as kube,
        WatchedCloud(name, file) as cloud,
        Cloud("vrata-admin", file) as admin,
    ):
        flavor = {"name": f"size-{uuid.uuid4().hex[:6]}", "vcpus": 2, "ram": 2048, "disk": 10}
        made = await admin.request("POST", COMPUTE, f"{NOVA}/flavors", body={"flavor": flavor})
        runner = NodeController(kube, cloud, NodeSettings(), look_s=0.2)
        running = asyncio.create_task(runner.run())
        found = Site(cluster, cloud, admin, made["flavor"]["id"], {})
        try:
            yield found
        finally:
            running.cancel()
            await asyncio.wait({running})
            for server in tuple(found.servers):
                await found.remove(server)
            cluster.kubectl("delete", "nodes", "--all")


async def test_a_new_node_is_told_who_it_is(site: Site) -> None:
    server = await site.register("new-node")
    site.join("new-node")
    node = await site.until("new-node", "the taint goes", lambda one: UNINITIALIZED not in taints(one))
    assert node["spec"]["providerID"] == f"openstack:///{server}"
    assert taints(node) == {"mine"}
    labels = node["metadata"]["labels"]
    assert labels["topology.kubernetes.io/zone"] == "az-1"
    assert labels["node.kubernetes.io/instance-type"].startswith("size-")


async def test_many_new_nodes_are_one_list(site: Site) -> None:
    names = [f"many-{number}" for number in range(30)]
    for name in names:
        await site.register(name)
    before = len(site.cloud.calls)
    for name in names:
        await asyncio.to_thread(site.join, name)
    for name in names:
        await site.until(name, "it is initialized", lambda one: UNINITIALIZED not in taints(one))
    asked = [path for method, service, path in site.cloud.calls[before:] if service == COMPUTE]
    assert set(asked) == {f"{NOVA}/servers/detail"}, "never one server at a time"


async def test_a_node_without_a_server_says_what_is_missing(site: Site) -> None:
    site.join("stranger")
    query = ("get", "events", "--field-selector", "involvedObject.name=stranger", "-o", "jsonpath={.items[*].message}")
    said = "the project has no server named stranger; name it as the node"
    await asyncio.to_thread(wait_for, lambda: said in site.cluster.kubectl(*query), "an event says so", 30.0)
    await site.register("stranger")
    await site.until("stranger", "it is initialized later", lambda one: UNINITIALIZED not in taints(one))


async def test_a_server_that_is_shut_down_taints_its_node_until_it_is_back(site: Site) -> None:
    server = await site.register("resting")
    site.join("resting", ready=False, provider_id=f"openstack:///{server}", new=False)
    path = f"{NOVA}/servers/{server}/action"
    await site.admin.request("POST", COMPUTE, path, body={"os-stop": None})
    await site.until("resting", "it is tainted", lambda one: SHUTDOWN in taints(one))
    await site.admin.request("POST", COMPUTE, path, body={"os-start": None})
    node = await site.until("resting", "the taint goes", lambda one: SHUTDOWN not in taints(one))
    assert "mine" in taints(node)


async def test_a_node_that_is_not_ready_goes_with_its_server_and_a_ready_one_stays(site: Site) -> None:
    for name, ready in (("dead", False), ("alive", True)):
        server = await site.register(name)
        site.join(name, ready=ready, provider_id=f"openstack:///{server}", new=False)
        await site.remove(name)
    await site.until("dead", "it is deleted", lambda one: not one)
    assert site.cluster.run("get", "node", "alive").status == 0


async def test_a_node_that_becomes_ready_while_the_cloud_is_asked_stays(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was deleted as it was remembered, not as it is."""
    asked = asyncio.Event()

    async def is_gone(cloud: Cloud, server: str) -> bool:
        if not asked.is_set():
            conditions = {"status": {"conditions": [{"type": "Ready", "status": "True"}]}}
            arguments = ("patch", "node", "late", "--subresource=status", "--type=merge", "-p", json.dumps(conditions))
            await asyncio.to_thread(site.cluster.kubectl, *arguments)
            asked.set()
        return await observe.is_gone(cloud, server)

    monkeypatch.setattr(controller, "is_gone", is_gone)
    server = await site.register("late")
    await site.remove("late")
    site.join("late", ready=False, provider_id=f"openstack:///{server}", new=False)
    await asyncio.wait_for(asked.wait(), 60)
    site.join("new", new=True)
    await site.register("new")  # when this one is served, the pass over the other one has ended
    await site.until("new", "it is initialized", lambda one: UNINITIALIZED not in taints(one))
    assert site.cluster.run("get", "node", "late").status == 0


async def test_a_cloud_that_has_lost_its_list_or_does_not_answer_deletes_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await site.register("kept")
    looks = 0
    answer = site.cloud.request

    async def spoiled(method: str, service: str, path: str, **more: Any) -> Json:
        nonlocal looks
        if path.endswith("/servers/detail"):
            looks += 1
            if looks % 2:
                return {"servers": []}
            raise CloudError(503, "the database is away")
        return await answer(method, service, path, **more)

    monkeypatch.setattr(site.cloud, "request", spoiled)
    site.join("kept", ready=False, provider_id=f"openstack:///{server}", new=False)
    await asyncio.to_thread(wait_for, lambda: looks > 6, "it looked several times", 30.0)
    assert site.cluster.run("get", "node", "kept").status == 0
