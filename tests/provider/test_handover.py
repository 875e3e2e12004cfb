"""A cluster passes from the OpenStack cloud controller to us and back: neither touches what the other has made.

`theirs` writes what that controller writes, `seen_by_them` looks as it looks (cloud-provider-openstack,
pkg/openstack/loadbalancer.go).
"""

import asyncio
import json
from typing import Any

import pytest
from tests.support.provided import NODES, Ground

from vrata.provider.annotations import BALANCER_ADDRESS, BALANCER_ID
from vrata.provider.call import BALANCING, LBAAS, NETWORK
from vrata.provider.service_writer import FINALIZER

Json = dict[str, Any]
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:unclosed:ResourceWarning"
)
PORTS = [{"name": "a", "port": 80}, {"name": "b", "port": 443}, {"name": "c", "port": 53, "protocol": "UDP"}]
MONITORS = {"TCP": "TCP", "UDP": "UDP-CONNECT"}


def names(it: Ground, service: str) -> tuple[str, str, str]:
    """Of the load balancer, its description and the floating IP's."""
    said = f"Kubernetes external service {it.namespace}/{service} from cluster {it.settings.cluster}"
    return it.name(service), said, f"Floating IP for {said}"


async def theirs(it: Ground, name: str, *, monitor: bool) -> tuple[Json, str]:
    """What that controller makes for a Service that is there already: load balancer and address."""
    service = await it.service(name)
    balancer_name, description, mark = names(it, name)
    [subnet] = await it.seen(NETWORK, "/v2.0/subnets", "subnets", name="tenant")
    listeners = []
    for index, port in enumerate(service["spec"]["ports"]):
        members = [
            {"name": node, "address": address, "protocol_port": port["nodePort"], "subnet_id": subnet["id"]}
            for node, address in NODES.items()
        ]
        pool: Json = {
            "name": f"pool_{index}_{balancer_name}",
            "protocol": port["protocol"],
            "lb_algorithm": "ROUND_ROBIN",
            "members": members,
        }
        if monitor:
            pool["healthmonitor"] = {
                "name": f"monitor_{index}_{balancer_name}",
                "type": MONITORS[port["protocol"]],
                "delay": 5,
                "timeout": 3,
                "max_retries": 1,
                "max_retries_down": 3,
            }
        listener: Json = {
            "name": f"listener_{index}_{balancer_name}",
            "protocol": port["protocol"],
            "protocol_port": port["port"],
            "connection_limit": -1,
            "allowed_cidrs": ["0.0.0.0/0"],
            "tags": [balancer_name],
            "default_pool": pool,
        }
        listener |= {"timeout_client_data": 50000, "timeout_member_connect": 5000}
        listeners.append(listener | {"timeout_member_data": 50000, "timeout_tcp_inspect": 0})
    body = {
        "name": balancer_name,
        "description": description,
        "tags": [balancer_name],
        "vip_subnet_id": subnet["id"],
        "admin_state_up": True,
        "listeners": listeners,
    }
    made = (await it.by_hand("POST", BALANCING, f"{LBAAS}/loadbalancers", {"loadbalancer": body}))["loadbalancer"]
    [network] = await it.seen(NETWORK, "/v2.0/networks", "networks", **{"router:external": "true"})
    floating = {"floating_network_id": network["id"], "port_id": made["vip_port_id"], "description": mark}
    held = await it.by_hand("POST", NETWORK, "/v2.0/floatingips", {"floatingip": floating})
    address = held["floatingip"]["floating_ip_address"]
    told = {BALANCER_ID: made["id"], BALANCER_ADDRESS: address}
    await it.kubectl("annotate", "service", name, *(f"{key}={value}" for key, value in told.items()))
    await it.kubectl("patch", "service", name, "-p", json.dumps({"metadata": {"finalizers": [FINALIZER]}}))
    status = {"status": {"loadBalancer": {"ingress": [{"ip": address, "ipMode": "VIP"}]}}}
    await it.kubectl("patch", "service", name, "--subresource=status", "-p", json.dumps(status))
    return made, address


@pytest.mark.parametrize("monitor", [False, True])
async def test_what_that_controller_made_is_taken_over_without_a_change_of_service(
    ground: Ground, *, monitor: bool
) -> None:
    """Its objects are kept, and the one write is our mark."""
    await ground.stop()
    await ground.apply("web", ports=PORTS)
    made, address = await theirs(ground, "web", monitor=monitor)
    await active(ground, made["id"])
    before = await tree(ground, made["id"])

    ground.cloud.calls.clear()
    await ground.start(monitor=monitor)
    await ground.served("web")
    await marked(ground, made["id"])

    assert [call for call in ground.cloud.calls if call[0] != "GET"] == [
        ("PUT", BALANCING, f"{LBAAS}/loadbalancers/{made['id']}")
    ]
    assert await tree(ground, made["id"]) == before
    assert await ground.addresses("web") == [address]

    await ground.kubectl("delete", "service", "web")
    await ground.gone("web")


async def active(it: Ground, balancer_id: str) -> None:
    """Wait until the cloud has finished."""
    async with asyncio.timeout(90):
        while [one["provisioning_status"] for one in await it.read("loadbalancers", id=balancer_id)] != ["ACTIVE"]:
            await asyncio.sleep(0.05)


async def marked(it: Ground, balancer_id: str) -> None:
    """Wait until it has our mark beside theirs, and nothing is left to do."""
    assert it.provider
    settings = it.provider.settings
    await active(it, balancer_id)
    await it.rest()
    [row] = await it.read("loadbalancers", id=balancer_id)
    assert set(row["tags"]) == {row["name"], f"vrata.dev/cluster={settings.cluster_uid}"}


async def tree(it: Ground, balancer_id: str) -> Json:
    """All that makes the service under a load balancer, as the cloud tells it."""
    volatile = ("updated_at", "operating_status", "provisioning_status")

    def still(rows: list[Json]) -> list[Json]:
        kept = [{key: value for key, value in row.items() if key not in volatile} for row in rows]
        return sorted(kept, key=lambda row: str(row["id"]))

    found: Json = {kind: still(await it.read(kind, loadbalancer_id=balancer_id)) for kind in ("listeners", "pools")}
    found["members"] = [still(await it.read(f"pools/{pool['id']}/members")) for pool in found["pools"]]
    ids = {pool.get("healthmonitor_id") for pool in found["pools"]}
    found["monitors"] = still([one for one in await it.read("healthmonitors") if one["id"] in ids])
    return found


async def test_what_we_make_is_what_that_controller_looks_for(ground: Ground) -> None:
    """Everything that it matches on: names, tags, descriptions, finalizer, annotations, security groups."""
    await ground.stop()
    await ground.start(manage_security_groups=True)
    await ground.apply("web", ports=PORTS)
    await ground.served("web")
    service = await ground.service("web")
    metadata = service["metadata"]
    balancer_name, description, mark = names(ground, "web")

    # GET loadbalancers/{annotation}, GET loadbalancers?name=; its own name makes it the owner, the tag counts sharers.
    [balancer] = await ground.read("loadbalancers", name=balancer_name)
    assert balancer["id"] == metadata["annotations"][BALANCER_ID]
    assert balancer["description"] == description
    assert [one for one in balancer["tags"] if one.startswith("kube_service_")] == [balancer_name]

    # Listeners by protocol and port, ours by the tag; pools by listener; members by name, address and ports.
    listeners = await ground.read("listeners", loadbalancer_id=balancer["id"])
    pools = await ground.read("pools", loadbalancer_id=balancer["id"])
    monitors = {one["id"]: one for one in await ground.read("healthmonitors")}
    assert len(listeners) == len(PORTS)
    for index, port in enumerate(service["spec"]["ports"]):
        [listener] = [
            one for one in listeners if (one["protocol"], one["protocol_port"]) == (port["protocol"], port["port"])
        ]
        assert (listener["name"], listener["tags"]) == (f"listener_{index}_{balancer_name}", [balancer_name])
        [pool] = [one for one in pools if {"id": listener["id"]} in one["listeners"]]
        assert (pool["name"], pool["protocol"]) == (f"pool_{index}_{balancer_name}", port["protocol"])
        members = await ground.read(f"pools/{pool['id']}/members")
        assert {(one["name"], one["address"], one["protocol_port"]) for one in members} == {
            (node, address, port["nodePort"]) for node, address in NODES.items()
        }
        monitor = monitors[pool["healthmonitor_id"]]
        assert (monitor["name"], monitor["type"]) == (f"monitor_{index}_{balancer_name}", MONITORS[port["protocol"]])

    # GET floatingips?port_id=; it is deleted with the Service only if the description is its own.
    [floating] = await ground.seen(NETWORK, "/v2.0/floatingips", "floatingips", port_id=balancer["vip_port_id"])
    assert floating["description"] == mark
    assert metadata["annotations"][BALANCER_ADDRESS] == floating["floating_ip_address"]
    assert metadata["finalizers"] == [FINALIZER] == ["service.kubernetes.io/load-balancer-cleanup"]

    # GET security-groups?name=
    group_name = f"lb-sg-{metadata['uid']}-{ground.namespace}-web"
    [group] = await ground.seen(NETWORK, "/v2.0/security-groups", "security_groups", name=group_name)
    opened = {
        (rule["protocol"], rule["port_range_min"])
        for rule in group["security_group_rules"]
        if rule["direction"] == "ingress"
    }
    assert opened == {(port["protocol"].lower(), port["nodePort"]) for port in service["spec"]["ports"]}
