"""Whose PROXY headers the controller of the shipped manifest believes: the balancer's, through a failover, and no node's."""

import asyncio
import json
from typing import Any

import pytest
import pytest_asyncio

from vrata.kube.sources import SOURCES
from vrata.provider.call import BALANCING, LBAAS
from vrata.sandbox import model
from vrata.sandbox.demo.manifests import echo_deployment, ingress, ingress_controller, service
from vrata.sandbox.demo.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")

HOST = "sources.example"
FRONT = "vrata-ingress"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def address(stage: Stage) -> str:
    """Where the balancer answers, with an Ingress behind it."""
    await stage.apply(ingress_controller())
    await stage.apply(
        echo_deployment("sources"), service("sources", "ClusterIP"), ingress("sources", {HOST: "sources"})
    )
    await stage.kubectl("rollout", "status", f"deployment/{FRONT}", "-n", FRONT, "--timeout=60s")
    found = await stage.address_of(FRONT, FRONT)
    await stage.until_answers("client", f"http://{found}/", "-H", f"Host: {HOST}")
    return found


async def test_a_node_is_not_believed_and_the_balancer_is(stage: Stage, address: str) -> None:
    """A node's address is what pods have that go through a node port of another node."""
    found = await stage.object("service", FRONT, FRONT)
    sources = found["metadata"]["annotations"][SOURCES].split(",")
    nodes: list[dict[str, Any]] = json.loads(await stage.kubectl("get", "nodes", "-o", "json"))["items"]
    internal = {one["metadata"]["name"]: one["status"]["addresses"][0]["address"] for one in nodes}
    assert sources[0] == model.NETWORKS[model.TENANT]
    assert {f"!{one}" for one in internal.values()} <= set(sources)

    [port] = [one["nodePort"] for one in found["spec"]["ports"] if one["name"] == "http"]
    pods = json.loads(await stage.kubectl("get", "pods", "-n", FRONT, "-o", "json"))["items"]
    target = pods[0]["spec"]["nodeName"]
    [forger] = [name for name in internal if name.startswith("worker") and name != target][:1]
    url, named = f"http://{internal[target]}:{port}/", ("-H", f"Host: {HOST}")
    body = json.loads(await stage.until_answers(forger, url, *named))
    assert body["headers"]["X-Forwarded-For"] == [internal[forger]], "it counts under its own address"
    status, _ = await stage.curl(forger, url, *named, "--haproxy-protocol")
    assert status == 400
    body = json.loads(await stage.until_answers("client", f"http://{address}/", *named))
    assert body["headers"]["X-Forwarded-For"] == [model.CLIENT_ADDRESS]


async def test_a_failover_keeps_every_clients_address(stage: Stage, address: str) -> None:
    """The new instances have addresses of their own, and are believed from the first connection on."""
    balancer = await stage.pair_of(FRONT, FRONT)
    before = {netns for _, netns in stage.sandbox.instance_namespaces()}
    options = ("--host-header", HOST, "--seconds", "120", "--interval-ms", "5", "--timeout-ms", "5000")
    probe = await stage.start_probe("client", address, *options, "--fresh", "2")
    async with stage.admin() as cloud:
        await cloud.request("PUT", BALANCING, f"{LBAAS}/loadbalancers/{balancer['id']}/failover")

    async def moved() -> bool:
        return any(netns not in before for _, netns in await stage.holders(address))

    await stage.wait("a new instance holds the address", moved, 60.0)
    await stage.pair_of(FRONT, FRONT)
    body = json.loads(await stage.until_answers("client", f"http://{address}/", "-H", f"Host: {HOST}"))
    assert body["headers"]["X-Forwarded-For"] == [model.CLIENT_ADDRESS]
    result = await stage.finish_probe(probe)
    assert result["sent"] > 100
    # A header that is not believed would be a 400; what a failover itself may cost is not looked at here.
    assert not [failure for failure in result["failures"] if failure.startswith("status")]


async def test_a_rolling_update_of_the_controller_loses_no_request(stage: Stage, address: str) -> None:
    """Only nodes with a pod answer: the balancer learns of one that goes before it goes."""
    options = ("--host-header", HOST, "--seconds", "120", "--interval-ms", "5", "--timeout-ms", "5000")
    probe = await stage.start_probe("client", address, *options, "--fresh", "2")
    await stage.kubectl("rollout", "restart", f"deployment/{FRONT}", "-n", FRONT)
    await stage.kubectl("rollout", "status", f"deployment/{FRONT}", "-n", FRONT, "--timeout=90s")

    async def old_ones_gone() -> bool:
        pods = json.loads(await stage.kubectl("get", "pods", "-n", FRONT, "-o", "json"))["items"]
        return not any(one["metadata"].get("deletionTimestamp") for one in pods)

    await asyncio.wait_for(stage.wait("the old pods are gone", old_ones_gone, 90.0), 95.0)
    result = await stage.finish_probe(probe)
    assert result["sent"] > 100
    assert not result["failures"]
