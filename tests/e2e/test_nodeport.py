"""The node proxy with real packets: ClusterIP and NodePort, TCP and UDP, policies, affinity, refusal."""

import json

import pytest

from vrata.net.command import CommandFailed, run
from vrata.nodeport.controller import LEAVING_TAINT
from vrata.nodeport.model import TABLE
from vrata.sandbox.demo.manifests import Json, echo_deployment, service
from vrata.sandbox.demo.stage import Stage

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def pods_seen(stage: Stage, url: str, times: int = 20) -> set[str]:
    found = set()
    for _ in range(times):
        status, body = await stage.curl("master-0", url)
        if status == 200:
            found.add(json.loads(body)["pod"])
    return found


async def test_a_cluster_ip_spreads_over_all_pods_and_refuses_when_there_is_none(stage: Stage) -> None:
    await stage.apply(echo_deployment("spread", replicas=3), service("spread", "ClusterIP"))
    await stage.kubectl("rollout", "status", "deployment/spread", "--timeout=90s")
    ip = (await stage.object("service", "spread"))["spec"]["clusterIP"]

    async def all_three() -> bool:
        return len(await pods_seen(stage, f"http://{ip}/", 30)) == 3

    await stage.wait("all three pods answer", all_three)
    await stage.kubectl("scale", "deployment/spread", "--replicas=0")

    async def refused() -> bool:
        netns = stage.sandbox.layout.machine("master-0").netns
        try:
            await run("curl", "-s", "-m", "1", f"http://{ip}/", netns=netns)
        except CommandFailed as error:
            return error.status == 7  # could not connect: refused, not timed out
        return False

    await stage.wait("the address refuses", refused)


async def test_a_pod_reaches_itself_and_its_neighbours_through_its_service(stage: Stage) -> None:
    await stage.apply(echo_deployment("mirror", replicas=1), service("mirror", "ClusterIP"))
    await stage.kubectl("rollout", "status", "deployment/mirror", "--timeout=90s")
    ip = (await stage.object("service", "mirror"))["spec"]["clusterIP"]
    await stage.until_answers("worker-0", f"http://{ip}/")
    pods = json.loads(await stage.kubectl("get", "pods", "-l", "app=mirror", "-o", "json"))["items"]
    netns = stage.sandbox.pod_namespace(pods[0]["metadata"]["uid"])
    assert json.loads(await run("curl", "-sf", "-m", "2", f"http://{ip}/", netns=netns))["service"] == "mirror"


async def test_local_policy_keeps_the_client_address_and_tells_by_its_health_port(stage: Stage) -> None:
    await stage.apply(
        echo_deployment("local", replicas=1), service("local", "LoadBalancer", externalTrafficPolicy="Local")
    )
    await stage.kubectl("rollout", "status", "deployment/local", "--timeout=90s")
    spec = (await stage.object("service", "local"))["spec"]
    pod = json.loads(await stage.kubectl("get", "pods", "-l", "app=local", "-o", "json"))["items"][0]
    here = stage.sandbox.layout.machine(pod["spec"]["nodeName"])
    there = next(m for m in stage.sandbox.layout.of_role("worker") if m.name != here.name)
    node_port, health_port = spec["ports"][0]["nodePort"], spec["healthCheckNodePort"]
    body = json.loads(await stage.until_answers("master-0", f"http://{here.address}:{node_port}/"))
    assert body["client"].startswith("10.10.0.10:")
    status, _ = await stage.curl("master-0", f"http://{there.address}:{node_port}/")
    assert status == 0
    status, text = await stage.curl("master-0", f"http://{here.address}:{health_port}/healthz")
    assert status == 200
    assert (json.loads(text)["localEndpoints"], json.loads(text)["serviceProxyHealthy"]) == (1, True)
    status, _ = await stage.curl("master-0", f"http://{there.address}:{health_port}/healthz")
    assert status == 503
    address = await stage.address_of("local")
    await stage.until_answers("client", f"http://{address}/")


async def test_client_affinity_stays_with_one_pod(stage: Stage) -> None:
    await stage.apply(echo_deployment("sticky", replicas=3), service("sticky", "NodePort", sessionAffinity="ClientIP"))
    await stage.kubectl("rollout", "status", "deployment/sticky", "--timeout=90s")
    port = (await stage.object("service", "sticky"))["spec"]["ports"][0]["nodePort"]
    worker = stage.sandbox.layout.machine("worker-0")
    url = f"http://{worker.address}:{port}/"
    await stage.until_answers("master-0", url)
    assert len(await pods_seen(stage, url)) == 1


def udp_deployment(name: str) -> Json:
    deployment = echo_deployment(name, replicas=1)
    container = deployment["spec"]["template"]["spec"]["containers"][0]
    container["ports"] = [{"name": "dns", "containerPort": 5353, "protocol": "UDP"}]
    del container["readinessProbe"]
    return deployment


async def test_udp_follows_its_pod(stage: Stage) -> None:
    ports = [{"name": "dns", "port": 53, "targetPort": "dns", "protocol": "UDP"}]
    await stage.apply(udp_deployment("udp"), service("udp", "NodePort", ports=ports))
    await stage.kubectl("rollout", "status", "deployment/udp", "--timeout=90s")
    port = (await stage.object("service", "udp"))["spec"]["ports"][0]["nodePort"]
    worker = stage.sandbox.layout.machine("worker-1")
    script = (
        "import socket,sys\n"
        "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM); s.bind(('',40000)); s.settimeout(1)\n"
        f"s.sendto(b'hello',('{worker.address}',{port})); print(s.recv(100).decode())"
    )

    async def answer() -> str:
        try:
            return await run("python3", "-c", script, netns=stage.sandbox.layout.machine("master-0").netns)
        except CommandFailed:
            return ""

    first = await stage.wait("the UDP port answers", answer)
    assert first.strip().endswith("hello")
    await stage.kubectl("rollout", "restart", "deployment/udp")
    await stage.kubectl("rollout", "status", "deployment/udp", "--timeout=90s")

    async def other_pod() -> bool:
        now = await answer()
        return bool(now) and now != first

    await stage.wait("the same flow reaches the new pod", other_pod)


async def test_rules_that_somebody_flushed_are_back_by_themselves(stage: Stage) -> None:
    """`nft flush ruleset` on a node: ClusterIP and NodePort were dead there for as long as the proxy ran."""
    await stage.apply(echo_deployment("flushed", replicas=1), service("flushed", "NodePort"))
    await stage.kubectl("rollout", "status", "deployment/flushed", "--timeout=90s")
    port = (await stage.object("service", "flushed"))["spec"]["ports"][0]["nodePort"]
    worker = stage.sandbox.layout.machine("worker-0")
    await stage.until_answers("master-0", f"http://{worker.address}:{port}/")
    # Elements only, too, which leaves chains, maps and sets as they were: for what the kernel tells no look has to find it.
    for number, harm in enumerate(("delete table", "flush map"), 1):
        named = [*harm.split(), "ip", TABLE, *(["nodeports"] if "map" in harm else [])]
        await run("nft", *named, netns=worker.netns)
        await stage.until_answers("master-0", f"http://{worker.address}:{port}/")
        _, figures = await stage.curl("worker-0", "http://127.0.0.1:10249/metrics")
        assert f"vrata_node_repairs_total {number}.0" in figures, harm
    assert "kubeproxy_sync_proxy_rules_duration_seconds_count" in figures
    await run("sysctl", "-qw", "net.ipv4.ip_forward=0", netns=worker.netns)
    await stage.until_answers("master-0", f"http://{worker.address}:{port}/")


async def test_the_proxy_says_whether_a_node_may_be_sent_new_connections(stage: Stage) -> None:
    worker = stage.sandbox.layout.machine("worker-1")
    url = f"http://{worker.address}:10256"
    status, text = await stage.curl("master-0", f"{url}/healthz")
    assert (status, json.loads(text)["nodeEligible"]) == (200, True)
    await stage.kubectl("taint", "node", "worker-1", f"{LEAVING_TAINT}=x:PreferNoSchedule")

    async def refused() -> bool:
        return (await stage.curl("master-0", f"{url}/healthz"))[0] == 503

    try:
        await stage.wait("it says that the node goes", refused)
        assert (await stage.curl("master-0", f"{url}/livez"))[0] == 200
    finally:
        await stage.kubectl("taint", "node", "worker-1", f"{LEAVING_TAINT}-")
