"""A quota that is reached, a subnet that is full, a role that is missing: the Service says so, others are served, and
it is served when that is mended."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support import provided
from tests.support.kubernetes import Cluster
from tests.support.provided import NODES, Ground

from vrata.provider import controller
from vrata.provider.annotations import PREFIX
from vrata.provider.call import BALANCING, NETWORK
from vrata.provider.cloud import Cloud

INTERNAL = {"service.beta.kubernetes.io/openstack-internal-load-balancer": "true"}


@pytest.fixture
async def admin(backing: tuple[str, Path | None]) -> AsyncIterator[Cloud]:
    async with Cloud("vrata-admin", backing[1]) as cloud:
        yield cloud


async def test_a_quota_that_is_reached(ground: Ground, admin: Cloud) -> None:
    await ground.apply("web", annotations=INTERNAL)
    await ground.served("web")
    used = len(await ground.read("loadbalancers"))
    [project] = await admin.find("identity", "/v3/projects", "projects", name="demo")
    path = f"/v2.0/lbaas/quotas/{project['id']}"
    await admin.request("PUT", BALANCING, path, body={"quota": {"load_balancer": used}})
    try:
        await ground.apply("over", annotations=INTERNAL)
        await ground.told("over", "SyncLoadBalancerFailed", "Quota has been met", "have the project's quota raised")
        await ground.apply("web", annotations=INTERNAL | {PREFIX + "connection-limit": "9"})
        balancer = await ground.balancer("web")
        await _until_limit(ground, balancer["id"], 9)
    finally:
        await admin.request("PUT", BALANCING, path, body={"quota": {"load_balancer": -1}})
    await ground.served("over")


async def test_what_is_refused_holds_up_nothing_else_of_its_service(ground: Ground, admin: Cloud) -> None:
    """A new port that the quota forbids kept a node that had left in the pool of the old one."""
    await ground.apply("web", annotations=INTERNAL)
    await ground.served("web")
    balancer = await ground.balancer("web")
    used = len(await ground.read("listeners"))
    [project] = await admin.find("identity", "/v3/projects", "projects", name="demo")
    path = f"/v2.0/lbaas/quotas/{project['id']}"
    await admin.request("PUT", BALANCING, path, body={"quota": {"listener": used}})
    try:
        ports = [{"name": "new", "port": 81}, {"name": "old", "port": 80}]
        annotations = INTERNAL | {PREFIX + "connection-limit": "9"}
        await ground.apply("web", annotations=annotations, ports=ports)
        await ground.told("web", "SyncLoadBalancerFailed", "Quota has been met")
        await _until_limit(ground, balancer["id"], 9)
        await ground.apply("web", annotations=annotations | {PREFIX + "lb-method": "FASTEST"}, ports=ports)
        await ground.told("web", "SyncLoadBalancerFailed", "lb-method", "FASTEST", "ROUND_ROBIN")
        await ground.kubectl("delete", "node", "worker-1")
        [pool] = await ground.read("pools", loadbalancer_id=balancer["id"])
        async with asyncio.timeout(90):
            while len(await ground.read(f"pools/{pool['id']}/members")) != len(NODES) - 1:
                await asyncio.sleep(0.1)
    finally:
        await admin.request("PUT", BALANCING, path, body={"quota": {"listener": -1}})
    await ground.apply("web", annotations=INTERNAL, ports=ports)
    async with asyncio.timeout(90):
        while len(await ground.read("listeners", loadbalancer_id=balancer["id"])) != len(ports):
            await asyncio.sleep(0.1)
    await ground.served("web")


@pytest.mark.parametrize(
    "bad", [{"health-monitor-delay": "0"}, {"timeout-client-data": "x"}, {"connection-limit": "x"}, {"lb-method": "NO"}]
)
async def test_a_port_moves_beside_an_annotation_that_is_refused(ground: Ground, bad: dict[str, str]) -> None:
    """Its listener was deleted and no other one made."""
    await ground.apply("web", annotations=INTERNAL)
    await ground.served("web")
    [(name, value)] = bad.items()
    await ground.apply("web", annotations=INTERNAL | {PREFIX + name: value}, ports=[{"name": "p", "port": 8081}])
    await ground.told("web", "SyncLoadBalancerFailed", name)
    balancer = await ground.balancer("web")
    await _until_ports(ground, balancer["id"], {("TCP", 8081)})
    [listener] = await ground.read("listeners", loadbalancer_id=balancer["id"])
    assert len(await ground.read(f"pools/{listener['default_pool_id']}/members")) == len(NODES)


async def test_a_protocol_that_the_cloud_refuses_takes_no_port_away(ground: Ground, admin: Cloud) -> None:
    """The listener went before its successor was refused, and was not put back."""
    await ground.apply("web", annotations=INTERNAL)
    await ground.served("web")
    balancer = await ground.balancer("web")
    [before] = await ground.read("listeners", loadbalancer_id=balancer["id"])
    used = len(await ground.read("listeners"))
    [project] = await admin.find("identity", "/v3/projects", "projects", name="demo")
    path = f"/v2.0/lbaas/quotas/{project['id']}"
    await admin.request("PUT", BALANCING, path, body={"quota": {"pool": used}})
    try:
        wanted = INTERNAL | {PREFIX + "x-forwarded-for": "true"}
        await ground.apply("web", annotations=wanted)
        await ground.told("web", "SyncLoadBalancerFailed", "Quota has been met")
        assert [one["id"] for one in await ground.read("listeners", loadbalancer_id=balancer["id"])] == [before["id"]]
    finally:
        await admin.request("PUT", BALANCING, path, body={"quota": {"pool": -1}})
    await ground.apply("web", annotations=wanted | {PREFIX + "lb-method": "NOPE"})
    await _until_ports(ground, balancer["id"], {("HTTP", 80)})
    await ground.served("web")


async def test_an_address_that_the_cloud_does_not_put_on_the_port_costs_none(ground: Ground, admin: Cloud) -> None:
    """The floating IP that was there was deleted before the cloud refused the one that spec.loadBalancerIP names."""
    await ground.apply("web")
    await ground.served("web")
    [held] = await ground.addresses("web")
    far = {"network": {"name": "far", "router:external": True, "shared": True}}
    network = (await admin.request("POST", NETWORK, "/v2.0/networks", body=far))["network"]
    subnet = {"network_id": network["id"], "ip_version": 4, "cidr": "198.18.0.0/24", "enable_dhcp": False}
    await admin.request("POST", NETWORK, "/v2.0/subnets", body={"subnet": subnet})
    body = {"floatingip": {"floating_network_id": network["id"]}}
    named = (await ground.by_hand("POST", NETWORK, "/v2.0/floatingips", body))["floatingip"]
    try:
        await ground.apply("web", loadBalancerIP=named["floating_ip_address"])
        await ground.told("web", "SyncLoadBalancerFailed", "not reachable from subnet")
        await ground.rest()
        ports = {row["floating_ip_address"]: row["port_id"] for row in await ground.floating()}
        assert ports[held]
        assert await ground.addresses("web") == [held]
    finally:
        await ground.by_hand("DELETE", NETWORK, f"/v2.0/floatingips/{named['id']}")
        await admin.request("DELETE", NETWORK, f"/v2.0/networks/{network['id']}")


async def _until_ports(ground: Ground, balancer_id: str, wanted: set[tuple[str, int]]) -> None:
    found: set[tuple[str, int]] = set()
    for _ in range(300):
        found = {
            (one["protocol"], one["protocol_port"])
            for one in await ground.read("listeners", loadbalancer_id=balancer_id)
        }
        if found == wanted:
            return
        await ground.rest()
    assert found == wanted


async def test_an_address_that_cannot_be_had_costs_none_that_is_had(ground: Ground) -> None:
    """The floating IP was deleted before the POST of its successor failed."""
    await ground.apply("web")
    await ground.served("web")
    [held] = await ground.addresses("web")
    await ground.apply("web", loadBalancerIP="198.18.0.1")
    await ground.told("web", "SyncLoadBalancerFailed", "198.18.0.1")
    assert await ground.addresses("web") == [held]
    [row] = await ground.floating()
    assert (row["floating_ip_address"], bool(row["port_id"])) == (held, True)


async def test_a_floating_ip_that_is_deleted_by_hand_is_back_in_seconds(
    ground: Ground, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came back with the comparison of the whole project, up to five minutes later."""
    monkeypatch.setattr(controller, "FLOATING_CHECK_S", 0.2)
    await ground.stop()
    await ground.start()
    await ground.apply("web")
    await ground.served("web")
    [row] = await ground.floating()
    await ground.by_hand("DELETE", NETWORK, f"/v2.0/floatingips/{row['id']}")
    async with asyncio.timeout(90):
        while not [one for one in await ground.floating() if one["port_id"]]:
            await asyncio.sleep(0.1)
    await ground.served("web")


async def _until_limit(ground: Ground, balancer_id: str, limit: int) -> None:
    found: list[Any] = []

    def changed() -> bool:
        return [one["connection_limit"] for one in found] == [limit]

    for _ in range(300):
        found[:] = await ground.read("listeners", loadbalancer_id=balancer_id)
        if changed():
            return
        await ground.rest()
    assert changed()


async def test_a_subnet_that_is_full(ground: Ground) -> None:
    network = (await ground.by_hand("POST", NETWORK, "/v2.0/networks", {"network": {"name": "narrow"}}))["network"]
    subnet = {"network_id": network["id"], "ip_version": 4, "cidr": "10.99.0.0/29"}
    narrow = (await ground.by_hand("POST", NETWORK, "/v2.0/subnets", {"subnet": subnet}))["subnet"]
    port = {"port": {"network_id": network["id"]}}
    taken = [(await ground.by_hand("POST", NETWORK, "/v2.0/ports", port))["port"] for _ in range(5)]
    try:
        await ground.apply("late", annotations=INTERNAL | {PREFIX + "subnet-id": narrow["id"]})
        await ground.told("late", "No more IP addresses", "name another subnet")
        await ground.apply("web", annotations=INTERNAL)
        await ground.served("web")
        for one in taken:
            await ground.by_hand("DELETE", NETWORK, f"/v2.0/ports/{one['id']}")
        await ground.served("late")
        assert (await ground.addresses("late"))[0].startswith("10.99.0.")
    finally:
        await ground.kubectl("delete", "service", "late")
        await ground.gone("late")
        await ground.by_hand("DELETE", NETWORK, f"/v2.0/networks/{network['id']}")


async def test_a_user_that_may_only_read(
    cluster: Cluster, nodes: None, namespace: str, backing: tuple[str, Path | None], admin: Cloud, tmp_path: Path
) -> None:
    name, clouds = backing
    assert clouds
    async with Cloud(name, clouds) as demo:
        [user] = await admin.find("identity", "/v3/users", "users", name="demo")
        body = {"application_credential": {"name": "reader", "roles": [{"name": "reader"}]}}
        path = f"/v3/users/{user['id']}/application_credentials"
        made = (await demo.request("POST", "identity", path, body=body))["application_credential"]
        entry = yaml.safe_load(clouds.read_text())["clouds"][name]
        auth = {
            "auth_url": entry["auth"]["auth_url"],
            "application_credential_id": made["id"],
            "application_credential_secret": made["secret"],
        }
        reader = {"auth_type": "v3applicationcredential", "auth": auth, "region_name": entry.get("region_name")}
        (tmp_path / "clouds.yaml").write_text(yaml.safe_dump({"clouds": {"reader": reader}}))
        try:
            async with provided.ground(cluster, namespace, ("reader", tmp_path / "clouds.yaml")) as ground:
                await ground.apply("web", annotations=INTERNAL)
                await ground.told("web", "SyncLoadBalancerFailed", "load-balancer_member", "tried again")
        finally:
            await demo.request("DELETE", "identity", f"{path}/{made['id']}")
