"""Services and the cloud, each test for one thing that users of the OpenStack cloud controller rely on or complain of."""

import asyncio
import json
from typing import Any

import pytest
from tests.provider.conftest import node
from tests.support.kubernetes import Cluster
from tests.support.provided import NODES, Fault, Ground

from vrata.kube import config, resources
from vrata.kube.client import Kube
from vrata.kube.events import Recorder
from vrata.kube.objects import Service
from vrata.provider.annotations import BALANCER_ADDRESS, BALANCER_ID, INTERNAL, PREFIX
from vrata.provider.call import BALANCING, LBAAS, NETWORK
from vrata.provider.service_events import ServiceEvents
from vrata.provider.service_writer import FINALIZER, ServiceWriter

# A provider that is killed leaves connections to the collector.
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning"
)
TWO_PORTS: dict[str, Any] = {"ports": [{"name": "a", "port": 80}, {"name": "b", "port": 443}]}


async def set_ready(it: Ground, name: str, *, ready: bool) -> None:
    body = node(name, NODES[name], ready=ready)
    await it.set_status(body)


async def members(it: Ground, service: str) -> set[str]:
    """Names of the members behind a Service's first pool."""
    [balancer] = await it.balancers(service)
    pools = await it.read("pools", loadbalancer_id=balancer["id"])
    return {one["name"] for one in await it.read(f"pools/{pools[0]['id']}/members")}


async def until_members(it: Ground, service: str, *names: str) -> None:
    async with asyncio.timeout(90):
        while await members(it, service) != set(names):
            await asyncio.sleep(0.05)


async def test_calls_are_counted(ground: Ground) -> None:
    """A create is one balancing write and one floating IP, an unchanged Service none, a deletion two."""
    await ground.apply("web", **TWO_PORTS)
    await ground.served("web")
    assert ground.cloud.writes() == {BALANCING: 1, NETWORK: 1}
    service = await ground.service("web")
    assert (
        service["metadata"]["annotations"].items()
        >= {
            BALANCER_ID: (await ground.balancer("web"))["id"],
            BALANCER_ADDRESS: (await ground.addresses("web"))[0],
        }.items()
    )

    ground.cloud.calls.clear()
    await ground.kubectl("annotate", "service", "web", "somebody.else/says=hello")
    await ground.rest()
    assert ground.cloud.calls == []

    await set_ready(ground, "worker-1", ready=False)
    await until_members(ground, "web", "worker-0")
    await ground.rest()
    assert ground.cloud.writes() == {BALANCING: 2}  # a pool each
    await set_ready(ground, "worker-1", ready=True)
    await until_members(ground, "web", *NODES)
    await ground.rest()

    ground.cloud.calls.clear()
    await ground.kubectl("delete", "service", "web")
    await ground.gone("web")
    assert ground.cloud.writes() == {BALANCING: 1, NETWORK: 1}


async def test_a_change_of_nodes_is_one_write_and_no_question(ground: Ground) -> None:
    """It took minutes where there were many pools and nodes (complaint E1)."""
    names = ("one", "two")
    for name in names:
        await ground.apply(name)
    await ground.served(*names)
    ground.cloud.calls.clear()
    await set_ready(ground, "worker-1", ready=False)
    for name in names:
        await until_members(ground, name, "worker-0")
    await ground.rest()
    assert ground.cloud.writes() == {BALANCING: len(names)}
    assert ground.cloud.reads() == 0
    for counted in ("nodesync_latency_seconds", "update_loadbalancer_host_latency_seconds"):
        value = ground.cloud.metrics.registry.get_sample_value(f"service_controller_{counted}_count")
        assert value == len(names), counted


async def test_the_members_of_many_ports_change_without_a_question_whoever_looks_meanwhile(ground: Ground) -> None:
    """With 250 ports the five-minute look made each write a pass of its own that read every pool: 125,000 questions."""
    ports = [{"name": f"p{number}", "port": 8000 + number} for number in range(12)]
    await ground.apply("many", ports=ports)
    await ground.served("many")
    ground.cloud.calls.clear()
    await set_ready(ground, "worker-1", ready=False)
    assert ground.provider
    while len([one for one in ground.cloud.calls if one[0] == "PUT"]) < len(ports):
        await ground.provider.check_drift()
    await ground.rest()
    # Each look may make the pass under way begin again, but never one pass a pool.
    assert ground.cloud.writes()[BALANCING] <= 2 * len(ports)
    assert _members_read(ground) < len(ports) ** 2
    # Seen by a whole pass, as after a restart: it reads once, and what follows reads nothing.
    await ground.stop()
    await set_ready(ground, "worker-1", ready=True)
    ground.cloud.calls.clear()
    await ground.start()
    async with asyncio.timeout(90):
        while ground.cloud.writes()[BALANCING] < len(ports):
            await asyncio.sleep(0.05)
    await until_members(ground, "many", *NODES)
    await ground.rest()
    assert ground.cloud.writes()[BALANCING] <= 2 * len(ports)
    assert _members_read(ground) < len(ports) ** 2


def _members_read(it: Ground) -> int:
    return sum(method == "GET" and path.endswith("/members") for method, _, path in it.cloud.calls)


async def test_local_policy_works_without_any_setting(ground: Ground) -> None:
    """The node proxy's health port is asked, or traffic goes to nodes without a pod (complaint E2)."""
    await ground.stop()
    await ground.start(monitor=False)
    await ground.apply("web", externalTrafficPolicy="Local")
    await ground.served("web")
    health_port = (await ground.service("web"))["spec"]["healthCheckNodePort"]
    [balancer] = await ground.balancers("web")
    [pool] = await ground.read("pools", loadbalancer_id=balancer["id"])
    [monitor] = [one for one in await ground.read("healthmonitors") if one["id"] == pool["healthmonitor_id"]]
    assert (monitor["type"], monitor["url_path"]) == ("HTTP", "/healthz")
    assert {one["monitor_port"] for one in await ground.read(f"pools/{pool['id']}/members")} == {health_port}


async def test_nodes_that_are_not_ready_leave_and_the_last_ones_stay(ground: Ground) -> None:
    await ground.apply("web")
    await ground.served("web")
    await set_ready(ground, "worker-0", ready=False)
    await until_members(ground, "web", "worker-1")
    await set_ready(ground, "worker-1", ready=False)
    await until_members(ground, "web", *NODES)
    await set_ready(ground, "worker-0", ready=True)
    await until_members(ground, "web", "worker-0")


async def test_a_label_of_a_node_is_enough_to_follow(ground: Ground) -> None:
    """A changed label alone did not change members of a node-selector."""
    await ground.apply("web", annotations={PREFIX + "node-selector": "edge=yes"})
    await ground.served("web")
    assert await members(ground, "web") == set()
    await ground.kubectl("label", "node", "worker-0", "edge=yes")
    await until_members(ground, "web", "worker-0")


@pytest.mark.parametrize("what", ["member", "pool", "listener", "limit", "balancer", "floating"])
async def test_what_was_changed_by_hand_comes_back(ground: Ground, what: str) -> None:
    """Nobody looked at what was changed or deleted in the cloud (complaint E7)."""
    await ground.apply("web")
    await ground.served("web")
    [address] = await ground.addresses("web")
    balancer = await ground.balancer("web")
    [listener] = await ground.read("listeners", loadbalancer_id=balancer["id"])
    pool_id, path = listener["default_pool_id"], f"{LBAAS}/listeners/{listener['id']}"
    [floating] = await ground.floating()
    match what:
        case "member":
            await ground.by_hand("PUT", BALANCING, f"{LBAAS}/pools/{pool_id}/members", {"members": []})
        case "pool":
            await ground.by_hand("DELETE", BALANCING, f"{LBAAS}/pools/{pool_id}")
        case "listener":
            await ground.by_hand("DELETE", BALANCING, path)
        case "limit":
            await ground.by_hand("PUT", BALANCING, path, {"listener": {"connection_limit": 7}})
        case "balancer":
            await ground.by_hand("DELETE", BALANCING, f"{LBAAS}/loadbalancers/{balancer['id']}", cascade="true")
        case _:
            await ground.by_hand("DELETE", NETWORK, f"/v2.0/floatingips/{floating['id']}")
    assert ground.provider
    async with asyncio.timeout(60):
        while True:
            await ground.provider.check_drift()
            await ground.rest()
            rows = await ground.balancers("web")
            whole = rows and rows[0]["provisioning_status"] == "ACTIVE" and await members(ground, "web") == set(NODES)
            limits = [one["connection_limit"] for one in await ground.read("listeners", loadbalancer_id=rows[0]["id"])]
            if whole and limits == [-1] and len(await ground.floating()) == 1:
                break
    await ground.served("web")
    kept = what != "floating"  # a floating IP outlives its load balancer
    assert (await ground.addresses("web") == [address]) is kept or not kept


@pytest.mark.parametrize("shown", ['[{"ip":"192.0.2.1"}]', "null", '[{"hostname":"x.example"}]'])
async def test_a_status_that_was_edited_by_hand_is_put_right(ground: Ground, shown: str) -> None:
    await ground.apply("web")
    await ground.served("web")
    [address] = await ground.addresses("web")
    patch = f'{{"status":{{"loadBalancer":{{"ingress":{shown}}}}}}}'
    await ground.kubectl("patch", "service", "web", "--subresource=status", "--type=merge", "-p", patch)
    async with asyncio.timeout(60):
        while await ground.addresses("web") != [address]:
            await asyncio.sleep(0.02)


async def test_looking_for_drift_costs_lists_and_no_call_for_each_service(ground: Ground) -> None:
    names = [f"web-{number}" for number in range(4)]
    for name in names:
        await ground.apply(name)
    await ground.served(*names)
    ground.cloud.calls.clear()
    assert ground.provider
    await ground.provider.check_drift()
    assert ground.cloud.reads() == 5
    assert not ground.cloud.writes()


async def test_a_restart_writes_nothing(ground: Ground) -> None:
    await ground.apply("web", **TWO_PORTS)
    await ground.apply("inside", annotations={INTERNAL: "true"})
    await ground.served("web", "inside")
    await ground.stop()
    ground.cloud.calls.clear()
    await ground.start()
    await ground.rest()
    assert not ground.cloud.writes()


async def test_services_share_a_balancer(ground: Ground) -> None:
    await ground.apply("web")
    await ground.served("web")
    shared = await ground.balancer("web")
    annotations = {BALANCER_ID: shared["id"]}
    for number in range(3):  # there is no limit of two (complaint E12)
        await ground.apply(f"more-{number}", annotations=annotations, ports=[{"port": 81 + number}])
    await ground.served("more-0", "more-1", "more-2")
    assert await ground.addresses("more-1") == await ground.addresses("web")
    await ground.apply("greedy", annotations=annotations, ports=[{"port": 80}])
    assert ground.name("web") in await ground.told("greedy", "belongs to", "another port")
    assert await ground.addresses("greedy") == []
    await ground.kubectl("delete", "service", "greedy")  # or it takes the port as soon as it is free
    await ground.kubectl("delete", "service", "web", "more-0", "--wait=false")
    async with asyncio.timeout(90):
        while len(await ground.read("listeners", loadbalancer_id=shared["id"])) != 2:
            await asyncio.sleep(0.05)
    await ground.kubectl("delete", "services", "--all")
    await ground.gone("web")


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({PREFIX + "class": "gold"}, ("class", "gold")),
        ({PREFIX + "floating-network-id": "public"}, ("floating-network-id", "public", "UUID")),
        ({PREFIX + "proxy-protocol": "v3"}, ("proxy-protocol", "v3", "v2")),
        ({PREFIX + "proxy-protocol": "v2", PREFIX + "x-forwarded-for": "true"}, ("exclude each other",)),
        ({PREFIX + "connection-limit": "1_0"}, ("connection-limit", "whole number")),
        ({PREFIX + "floating-subnet": "~(a+)+$"}, ("floating-subnet", "shorter")),
        ({PREFIX + "floating-subnet": "nowhere*"}, ("floating-subnet", "nowhere", "choose one of")),
        ({BALANCER_ID: "00000000-0000-4000-8000-000000000000"}, ("load-balancer-id", "of this project")),
        ({INTERNAL: "yes"}, (INTERNAL, "yes")),
    ],
)
async def test_wrong_input_is_told_and_others_are_served(
    ground: Ground, annotations: dict[str, str], words: tuple[str, ...]
) -> None:
    await ground.apply("wrong", annotations=annotations)
    await ground.apply("right")
    await ground.served("right")
    await ground.told("wrong", *words)
    assert await ground.balancers("wrong") == []
    fixed = dict.fromkeys(annotations, "")
    await ground.kubectl("annotate", "service", "wrong", *(f"{name}-" for name in fixed))
    await ground.served("wrong")


@pytest.mark.parametrize("served", [False, True])
async def test_an_id_that_a_person_wrote_stays_when_the_type_changes(ground: Ground, served: bool) -> None:
    """It was taken away, as the one that we write is, which must go: the load balancer that it names is gone."""
    theirs = "00000000-0000-4000-8000-000000000000"
    if served:
        await ground.apply("web")
        await ground.served("web")
        assert BALANCER_ID in (await ground.service("web"))["metadata"]["annotations"]
    else:
        await ground.apply("web", annotations={BALANCER_ID: theirs})
        await ground.told("web", "load-balancer-id", "of this project")
    await ground.kubectl("patch", "service", "web", "-p", '{"spec":{"type":"ClusterIP"}}')
    async with asyncio.timeout(90):
        while (await ground.service("web"))["metadata"].get("finalizers"):
            await asyncio.sleep(0.05)
    annotations = (await ground.service("web"))["metadata"].get("annotations") or {}
    assert annotations.get(BALANCER_ID) == (None if served else theirs)


async def test_changes_of_affinity_limits_and_sources_apply(ground: Ground) -> None:
    """Only a new pool took sessionAffinity (complaint E15)."""
    await ground.apply("web")
    await ground.served("web")
    await ground.apply(
        "web",
        annotations={PREFIX + "connection-limit": "9", PREFIX + "timeout-client-data": "1234"},
        sessionAffinity="ClientIP",
        loadBalancerSourceRanges=["192.0.2.0/24"],
    )
    balancer = await ground.balancer("web")
    async with asyncio.timeout(90):
        while True:
            [listener] = await ground.read("listeners", loadbalancer_id=balancer["id"])
            [pool] = await ground.read("pools", loadbalancer_id=balancer["id"])
            now = (listener["connection_limit"], listener["timeout_client_data"], listener["allowed_cidrs"])
            if now == (9, 1234, ["192.0.2.0/24"]) and (pool["session_persistence"] or {}).get("type") == "SOURCE_IP":
                break
            await asyncio.sleep(0.05)
    await ground.apply("web", annotations={})
    await ground.kubectl("annotate", "service", "web", f"{PREFIX}connection-limit-", f"{PREFIX}timeout-client-data-")
    async with asyncio.timeout(90):
        while [listener] != (found := await ground.read("listeners", loadbalancer_id=balancer["id"])):
            listener = found[0]
            if (listener["connection_limit"], listener["timeout_client_data"]) == (-1, 50_000):
                break
            await asyncio.sleep(0.05)


async def test_what_cannot_change_is_told(ground: Ground) -> None:
    await ground.apply("web")
    await ground.served("web")
    elsewhere = "00000000-0000-4000-8000-000000000001"
    await ground.kubectl("annotate", "service", "web", f"{PREFIX}flavor-id={elsewhere}")
    assert elsewhere in await ground.told("web", "LoadBalancerImmutable", "flavor-id")


async def test_classes_of_other_controllers_are_left_alone(ground: Ground) -> None:
    await ground.apply("theirs", loadBalancerClass="example.com/other")
    await ground.apply("ours", loadBalancerClass="vrata.dev/octavia")
    await ground.served("ours")
    assert await ground.balancers("theirs") == []
    assert "finalizers" not in (await ground.service("theirs"))["metadata"]


async def test_nodes_lose_the_health_port_with_the_local_policy(ground: Ground) -> None:
    """What a batch of members leaves out stays as it was: they were written again for ever."""
    await ground.apply("web", externalTrafficPolicy="Local")
    await ground.served("web")
    await ground.apply("web", externalTrafficPolicy="Cluster")
    balancer = await ground.balancer("web")
    [pool] = await ground.read("pools", loadbalancer_id=balancer["id"])
    async with asyncio.timeout(90):
        while {one["monitor_port"] for one in await ground.read(f"pools/{pool['id']}/members")} != {None}:
            await asyncio.sleep(0.05)
    await ground.rest()


async def test_pods_are_members_where_they_are_reached(ground: Ground) -> None:
    """Traffic took a second hop through a node."""
    await ground.apply("web", annotations={"vrata.dev/target": "pod"}, ports=[{"port": 80, "targetPort": 8080}])
    slice_ = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "ports": [{"port": 8080, "protocol": "TCP", "name": ""}],
        "endpoints": [{"addresses": ["10.20.0.5"], "conditions": {"ready": True}}],
    }
    await ground.kubectl("apply", "-f", "-", stdin=json.dumps(slice_))
    await ground.served("web")
    await until_members(ground, "web", "10.20.0.5")
    slice_["endpoints"] = [{"addresses": ["10.20.0.6"], "conditions": {"ready": True}}]
    await ground.kubectl("apply", "-f", "-", stdin=json.dumps(slice_))
    await until_members(ground, "web", "10.20.0.6")


async def test_a_namesake_is_not_taken(ground: Ground) -> None:
    """Two clusters of one name in a project took each other's load balancers (complaint E4)."""
    subnets = await ground.cloud.find(NETWORK, "/v2.0/subnets", "subnets", name="tenant")
    body = {"loadbalancer": {"name": ground.name("web"), "vip_subnet_id": subnets[0]["id"]}}
    made = await ground.by_hand("POST", BALANCING, f"{LBAAS}/loadbalancers", body)
    theirs = made["loadbalancer"]["id"]
    await ground.apply("web")
    await ground.served("web")
    assert theirs in await ground.told("web", "LoadBalancerNotAdopted")
    assert (await ground.service("web"))["metadata"]["annotations"][BALANCER_ID] != theirs
    await ground.kubectl("delete", "service", "web")
    await ground.by_hand("DELETE", BALANCING, f"{LBAAS}/loadbalancers/{theirs}", cascade="true")
    await ground.gone("web")


async def test_a_kept_floating_ip_stays_and_is_taken_again_by_name(ground: Ground) -> None:
    await ground.apply("web", annotations={PREFIX + "keep-floatingip": "true"})
    await ground.served("web")
    [address] = await ground.addresses("web")
    await ground.kubectl("delete", "service", "web")
    [floating] = await ground.floating()
    assert floating["floating_ip_address"] == address
    await ground.apply("web", loadBalancerIP=address)
    await ground.served("web")
    assert await ground.addresses("web") == [address]


async def test_security_groups_follow_the_nodes_and_go_with_the_service(ground: Ground) -> None:
    await ground.stop()
    await ground.start(manage_security_groups=True)
    await ground.apply("web")
    await ground.served("web")
    uid = (await ground.service("web"))["metadata"]["uid"]
    name = f"lb-sg-{uid}-{ground.namespace}-web"
    [group] = await ground.cloud.find(NETWORK, "/v2.0/security-groups", "security_groups", name=name)

    async def guarded() -> set[str]:
        ports = await ground.cloud.find(NETWORK, "/v2.0/ports", "ports")
        return {one["name"] for one in ports if group["id"] in one["security_groups"]}

    assert await guarded() == set(NODES)
    await set_ready(ground, "worker-1", ready=False)
    async with asyncio.timeout(90):
        while await guarded() != {"worker-0"}:
            await asyncio.sleep(0.05)
    await ground.kubectl("delete", "service", "web")
    assert not await ground.cloud.find(NETWORK, "/v2.0/security-groups", "security_groups", name=name)


async def test_members_are_let_in_before_they_are_asked(ground: Ground) -> None:
    """The status came before the group; and rules stayed at the old NodePort while the address was blocked."""
    await ground.stop()
    await ground.start(manage_security_groups=True)
    shown_at, request = [], ground.cloud.request

    async def watched(method: str, service: str, path: str, **options: Any) -> Any:
        answer = await request(method, service, path, **options)
        if method != "GET":
            shown_at.append((f"{method} {path.split('/')[2]}", bool(await ground.addresses("web"))))
        return answer

    ground.cloud.request = watched  # type: ignore[method-assign]
    await ground.apply("web")
    await ground.served("web")
    assert {what for what, _ in shown_at} >= {"POST security-groups", "POST security-group-rules", "PUT ports"}
    assert not any(shown for _, shown in shown_at)
    await ground.apply("other")
    await ground.served("other")
    [theirs] = await ground.addresses("other")
    ports = [{"name": "p", "port": 80, "nodePort": 30999}]
    await ground.apply("web", loadBalancerIP=theirs, ports=ports)
    await ground.told("web", "SyncLoadBalancerFailed", "in use")
    uid = (await ground.service("web"))["metadata"]["uid"]
    name = f"lb-sg-{uid}-{ground.namespace}-web"
    found: set[int] = set()
    async with asyncio.timeout(90):
        while found != {30999}:
            [group] = await ground.seen(NETWORK, "/v2.0/security-groups", "security_groups", name=name)
            rules = [one for one in group["security_group_rules"] if one["direction"] == "ingress"]
            found = {one["port_range_min"] for one in rules}
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("done", [False, True])
async def test_nothing_leaks_wherever_the_provider_dies(ground: Ground, done: bool) -> None:
    """Killed before and after every write of creation and deletion (complaints E8, E9)."""
    for dies_after in range(2):
        await crash(ground, dies_after, done=done)
        await ground.apply("web")
        await ground.until(lambda: ground.task and ground.task.done(), "it is killed")
        await ground.start()
        await ground.served("web")
        assert len(await ground.floating()) == 1
        await crash(ground, dies_after, done=done)
        await ground.kubectl("delete", "service", "web", "--wait=false")
        await ground.until(lambda: ground.task and ground.task.done(), "it is killed")
        await ground.start()
        await ground.gone("web")
        await ground.kubectl("wait", "--for=delete", "service/web", "--timeout=90s")


async def crash(ground: Ground, after: int, *, done: bool) -> None:
    task = ground.task
    assert task
    ground.cloud.faults = [Fault(after=after, done=done, kill=task.cancel)]


async def test_a_service_that_changed_meanwhile_keeps_its_finalizer(cluster: Cluster, namespace: str) -> None:
    """It may want a load balancer again: without the finalizer its deletion would leave that behind."""
    spec = {"type": "LoadBalancer", "ports": [{"port": 80}]}
    body = {"metadata": {"name": "again", "finalizers": [FINALIZER]}, "spec": spec | {"type": "ClusterIP"}}
    async with Kube(config.load(cluster.kubeconfig)) as kube:
        writer = ServiceWriter(kube, ServiceEvents(Recorder(kube, "test")))
        await kube.create(resources.SERVICES, body, namespace)
        seen = await kube.get(resources.SERVICES, Service, "again", namespace)
        assert seen
        await kube.patch(resources.SERVICES, "again", {"spec": spec}, namespace)
        await writer.release(seen, keep_id=False)
        now = await kube.get(resources.SERVICES, Service, "again", namespace)
        assert now
        assert now.metadata.finalizers == (FINALIZER,)
        await writer.release(now, keep_id=False)
        later = await kube.get(resources.SERVICES, Service, "again", namespace)
        assert later
        assert later.metadata.finalizers == ()
