"""The steps of the story, in order. Each raises if what it tells is not true."""

import asyncio
import json
import statistics
import time

from vrata.net import ip
from vrata.sandbox import model, network
from vrata.sandbox.demo.manifests import INTERNAL_SERVICE, echo_deployment, ingress, ingress_controller, service
from vrata.sandbox.demo.stage import LBAAS, Json, Stage, check
from vrata.sandbox.overview import resident_mib

NODE_PORT = 30080
APPLY_TRIALS = 20
APPLY_GOAL_S = 2.0
GAP_GOAL_MS = 500.0
FAULT_AFTER_S = 1.0
PROBE_S = 4.0


async def nodes_are_private(stage: Stage) -> None:
    """No node has a public address; a floating IP gives one to a worker."""
    nodes = json.loads(await stage.kubectl("get", "nodes", "-o", "json"))["items"]
    addresses = {entry["metadata"]["name"]: entry["status"]["addresses"] for entry in nodes}
    check(all(item["type"] != "ExternalIP" for items in addresses.values() for item in items), "no node is public")
    stage.say(f"  {len(nodes)} nodes, none with a public address")
    ports = [{"name": "http", "port": 80, "targetPort": "http", "nodePort": NODE_PORT}]
    await stage.apply(echo_deployment("hello"), service("hello", "NodePort", ports=ports))
    await stage.kubectl("rollout", "status", "deployment/hello", "--timeout=60s")
    worker = stage.sandbox.layout.machine("worker-0")
    await stage.until_answers("master-0", f"http://{worker.address}:{NODE_PORT}/")
    status, _ = await stage.curl("client", f"http://{worker.address}:{NODE_PORT}/")
    check(status == 0, "the NodePort does not answer from the internet")
    stage.say(f"  NodePort {NODE_PORT}: answers inside the tenant network, not from the internet")
    async with stage.tenant() as cloud:
        port = (await cloud.find("network", "/v2.0/ports", "ports", name="worker-0"))[0]
        external = (await cloud.find("network", "/v2.0/networks", "networks", name="external"))[0]
        body = {"floatingip": {"floating_network_id": external["id"], "port_id": port["id"]}}
        floating = (await cloud.request("POST", "network", "/v2.0/floatingips", body=body))["floatingip"]
        address = floating["floating_ip_address"]
        took = await stage.first_answer("client", address, NODE_PORT)
        stage.say(f"  floating IP {address} attached to worker-0: answers from the internet after {took:.2f} s")
        await cloud.request("DELETE", "network", f"/v2.0/floatingips/{floating['id']}")


async def service_gets_an_address(stage: Stage) -> None:
    """A Service of type LoadBalancer gets a floating IP that answers from the internet."""
    took = await apply_until_answer(stage, "shop", "hello")
    address = await stage.address_of("shop")
    stage.say(f"  Service shop: {address} answered from the internet {took:.2f} s after `kubectl apply`")
    times = []
    for number in range(APPLY_TRIALS):
        name = f"trial-{number}"
        times.append(await apply_until_answer(stage, name, "hello"))
        await stage.kubectl("delete", "service", name, "--wait=false")
    stage.figure("apply_to_first_200_median", statistics.median(times), "s", APPLY_GOAL_S)
    stage.say(f"    of {APPLY_TRIALS}: fastest {min(times):.2f} s, slowest {max(times):.2f} s")


async def apply_until_answer(stage: Stage, name: str, app: str) -> float:
    begun = time.monotonic()
    await stage.apply(service(name, "LoadBalancer", app))
    address = await stage.address_of(name)
    await stage.until_answers("client", f"http://{address}/")
    return time.monotonic() - begun


async def internal_address(stage: Stage) -> None:
    """The annotation makes the address internal: inside the tenant network, not from the internet."""
    await stage.apply(echo_deployment("nginx", labels={"k8-app": "nginx-backend"}), INTERNAL_SERVICE)
    address = await stage.address_of("nginx")
    check(address.startswith("10.10.0."), f"{address} is a tenant address")
    for port in (80, 443):
        await stage.until_answers("master-0", f"http://{address}:{port}/")
    status, _ = await stage.curl("client", f"http://{address}/")
    check(status == 0, "the internal address does not answer from the internet")
    async with stage.admin() as cloud:
        balancer = await stage.pair_of("nginx")
        floating = await cloud.find("network", "/v2.0/floatingips", "floatingips", port_id=balancer["vip_port_id"])
    check(not floating, "no floating IP was made")
    stage.say(f"  Service nginx: {address} answers on 80 and 443 inside, not from the internet; no floating IP")


async def one_balancer_for_many_names(stage: Stage) -> None:
    """Two host names through one Ingress controller and one balancer; the client's address stays true."""
    await stage.apply(ingress_controller())
    apps = ("red", "blue")
    await stage.apply(*(item for app in apps for item in (echo_deployment(app), service(app, "ClusterIP"))))
    await stage.apply(ingress("shops", {f"{app}.example": app for app in apps}))
    for app in apps:
        await stage.kubectl("rollout", "status", f"deployment/{app}", "--timeout=60s")
    await stage.kubectl("rollout", "status", "deployment/vrata-ingress", "-n", "vrata-ingress", "--timeout=60s")
    address = await stage.address_of("vrata-ingress", "vrata-ingress")
    for app in apps:
        body = json.loads(await stage.until_answers("client", f"http://{address}/", "-H", f"Host: {app}.example"))
        check(body["service"] == app, f"{app}.example is served by {app}")
        client = body["headers"]["X-Forwarded-For"][0]
        check(client == model.CLIENT_ADDRESS, f"the echo sees the client's true address, not {client}")
        stage.say(f"  {app}.example → Service {body['service']}, pod {body['pod']}; client address {client}")
    status, _ = await stage.curl("client", f"http://{address}/", "-H", "Host: unknown.example")
    check(status == 404, f"an unknown host gets 404, not {status}")
    stage.say("  unknown.example → 404")

    async def status_set() -> bool:
        ingress_status = (
            (await stage.object("ingress", "shops")).get("status", {}).get("loadBalancer", {}).get("ingress", [])
        )
        return [entry.get("ip") for entry in ingress_status] == [address]

    await stage.wait("the Ingress status has the balancer's address", status_set)
    stage.say(f"  one balancer at {address}; the Ingress says so in its status")


async def balancer_dies(stage: Stage) -> None:
    """The active one dies in three ways; the address stays and goes on answering."""
    stage.figure("gap_host_cut_off", await cut_active_host(stage, "shop"), "ms", GAP_GOAL_MS)
    for program in ("haproxy", "keepalived"):
        name = f"fresh-{program}"
        await apply_until_answer(stage, name, "hello")
        await stage.pair_of(name)
        address = await stage.address_of(name)
        host, netns = await stage.holder(address)
        gap = await _gap(stage, address, lambda netns=netns, program=program: _kill(netns, program))
        status, _ = await stage.curl("client", f"http://{address}/")
        check(status == 200, f"{address} answers after {program} was killed")
        stage.say(f"  fresh pair, {program} of the active one (on {host}) killed: {address} answers")
        stage.figure(f"gap_{program}_killed", gap, "ms", GAP_GOAL_MS)


async def cut_active_host(stage: Stage, name: str) -> float:
    """Cut off the host that is active for a Service and plug it in again; the gap its clients saw, ms."""
    address = await stage.address_of(name)
    host, _ = await stage.holder(address)
    machine = stage.sandbox.layout.machine(host)
    gap = await _gap(stage, address, lambda: network.cut(stage.sandbox.layout, machine))
    after, _ = await _other_holder(stage, address, host)
    stage.say(f"  {host} cut off: {address} moved to {after}")
    await network.cut(stage.sandbox.layout, machine, up=True)
    return gap


async def _gap(stage: Stage, address: str, fault) -> float:  # type: ignore[no-untyped-def]
    """The longest time without an answer (ms) seen by a client that connects anew every 4 ms around a fault."""
    probe = await stage.start_probe("client", address, "--seconds", str(PROBE_S + FAULT_AFTER_S))
    await asyncio.sleep(FAULT_AFTER_S)
    await fault()
    await asyncio.sleep(PROBE_S)
    result = await stage.finish_probe(probe)
    stage.say(f"    client: {result['sent']} connections, {result['failed']} failed {result['failures'] or ''}")
    check(result["sent"] > result["failed"], "the client got answers")
    return float(result["longest_gap_ms"])


async def _other_holder(stage: Stage, address: str, not_host: str) -> tuple[str, str]:
    async def look() -> tuple[str, str] | None:
        return next((found for found in await stage.holders(address) if found[0] != not_host), None)

    found: tuple[str, str] = await stage.wait(f"another host than {not_host} holds {address}", look)
    return found


async def _kill(netns: str, program: str) -> None:
    """kill -9 of a program in an instance: of every process of that name in exactly this namespace."""
    import os
    import signal
    from pathlib import Path

    for pid in ip.processes_in(netns):
        try:
            if Path(f"/proc/{pid}/comm").read_text().strip() == program:
                os.kill(pid, signal.SIGKILL)
        except (FileNotFoundError, ProcessLookupError):
            continue


async def rolling_update_under_load(stage: Stage) -> None:
    """A Deployment behind the Ingress is replaced pod by pod under load; no request fails."""
    address = await stage.address_of("vrata-ingress", "vrata-ingress")
    options = ("--host-header", "red.example", "--seconds", "60", "--interval-ms", "5", "--timeout-ms", "5000")
    probe = await stage.start_probe("client", address, *options, "--fresh", "2", "--keep-alive", "2")
    await asyncio.sleep(1.0)
    begun = time.monotonic()
    await stage.apply(echo_deployment("red", replicas=2, version="2"))
    await stage.kubectl("rollout", "status", "deployment/red", "--timeout=60s")
    took = time.monotonic() - begun
    await asyncio.sleep(1.5)
    result = await stage.finish_probe(probe)
    stage.say(
        f"  replaced in {took:.1f} s: {result['sent']} requests sent, {result['failed']} failed {result['failures'] or ''}"
    )
    stage.figure("failed_requests_rolling_update", result["failed"], "requests", 0)


async def nothing_is_left(stage: Stage) -> None:
    """Everything deleted: nothing of it remains in the cloud or on the hosts; then the sandbox goes, too."""
    await stage.kubectl("delete", "service,deployment,ingress", "--all", "-n", "default", "--timeout=60s")
    await stage.kubectl("delete", "-f", "-", "--ignore-not-found", "--timeout=60s", stdin=ingress_controller())
    async with stage.admin() as cloud:

        async def cloud_is_empty() -> bool:
            return not await _left_in_cloud(cloud)

        await stage.wait("the cloud has no balancer, floating IP or port of them left", cloud_is_empty)
        routers = await cloud.find("network", "/v2.0/routers", "routers")
    expected = 2 * len(routers)

    async def only_gateways() -> bool:
        existing = ip.list_namespaces()
        return len([1 for _, netns in stage.sandbox.instance_namespaces() if netns in existing]) <= expected

    await stage.wait("only gateway instances are left on the hosts", only_gateways)
    pods = json.loads(await stage.kubectl("get", "pods", "-A", "-o", "json"))["items"]
    check(not pods, "no pod is left")
    stage.say("  no balancer, floating IP, port, instance or pod left")
    recorded = [
        *network.recorded_namespaces(stage.sandbox.paths),
        *(ns for _, ns in stage.sandbox.instance_namespaces()),
    ]
    await stage.sandbox.down()
    check(not set(recorded) & ip.list_namespaces(), "no namespace is left")
    check(not stage.sandbox.paths.root.exists(), "no file is left")
    stage.say("  sandbox down: no namespace, link, rule, process or file left")


async def _left_in_cloud(cloud) -> list[str]:  # type: ignore[no-untyped-def]
    balancers = await cloud.find("load-balancer", f"{LBAAS}/loadbalancers", "loadbalancers")
    floating = await cloud.find("network", "/v2.0/floatingips", "floatingips")
    ports: list[Json] = await cloud.find("network", "/v2.0/ports", "ports")
    left = [port["name"] for port in ports if port["name"].startswith("octavia-lb-")]
    return [*(entry["name"] for entry in balancers), *(entry["floating_ip_address"] for entry in floating), *left]


def idle_memory_mib(stage: Stage) -> float:
    """Resident memory of all parts and of the daemons of instances, MiB; shared pages are counted every time."""
    records = [stage.sandbox.parts.record(part.name) for part in stage.sandbox.all_parts()]
    pids = {record.pid for record in records if record and record.is_alive()}
    for _, netns in stage.sandbox.instance_namespaces():
        pids |= set(ip.processes_in(netns))
    return sum(resident_mib(pid) for pid in pids)


STEPS = (
    ("nodes have no public address; a floating IP gives one", nodes_are_private),
    ("a Service of type LoadBalancer gets an address", service_gets_an_address),
    ("an annotation makes the address internal", internal_address),
    ("many names, one balancer: Ingress", one_balancer_for_many_names),
    ("the active balancer dies", balancer_dies),
    ("a rolling update under load", rolling_update_under_load),
    ("everything deleted, nothing left", nothing_is_left),
)
