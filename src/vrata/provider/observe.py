"""Reads what the cloud has of one Service, in as few calls as will do."""

import asyncio
from typing import Any

from vrata.kube.objects import Node
from vrata.provider.cloud import Cloud, CloudError
from vrata.provider.model import (
    FloatingIp,
    Member,
    Monitor,
    Observed,
    ObservedListener,
    ObservedPool,
    World,
)

BALANCING = "load-balancer"
NETWORK = "network"
LBAAS = "/v2.0/lbaas"
TIMEOUTS = ("timeout_client_data", "timeout_member_connect", "timeout_member_data", "timeout_tcp_inspect")

Json = dict[str, Any]


async def observe_world(cloud: Cloud, name: str, floating_description: str, floating_address: str | None) -> World:
    """The Service's load balancer with all under it, and its floating IPs."""
    balancer = await observe_balancer(cloud, name)
    floating = None
    if balancer and balancer.vip_port_id:
        on_port = await _floating(cloud, floating_description, port_id=balancer.vip_port_id)
        floating = on_port[0] if on_port else None
    wanted: list[FloatingIp] = []
    strays: list[FloatingIp] = []
    if floating is None:
        if floating_address:
            wanted = await _floating(cloud, floating_description, floating_ip_address=floating_address)
        described = await _floating(cloud, floating_description, description=floating_description)
        strays = [entry for entry in described if entry.ours and not entry.port_id]
    elif floating_address and floating.address != floating_address:
        wanted = await _floating(cloud, floating_description, floating_ip_address=floating_address)
    return World(balancer, floating, wanted[0] if wanted else None, tuple(strays))


async def observe_balancer(cloud: Cloud, name: str) -> Observed | None:
    """The load balancer of this name and owner's tag; its tree only while it can be changed."""
    found = await cloud.find(BALANCING, f"{LBAAS}/loadbalancers", "loadbalancers", name=name)
    found = [entry for entry in found if entry["provisioning_status"] != "DELETED"]
    if not found:
        return None
    entry = found[0]
    listeners: tuple[ObservedListener, ...] = ()
    orphans: tuple[str, ...] = ()
    if entry["provisioning_status"] == "ACTIVE":
        listeners, orphans = await _tree(cloud, entry["id"])
    return observed_balancer(entry, listeners, orphans)


def observed_balancer(
    entry: Json, listeners: tuple[ObservedListener, ...] = (), orphans: tuple[str, ...] = ()
) -> Observed:
    """A load balancer as an answer of the API tells it."""
    return Observed(
        id=entry["id"],
        provisioning_status=entry["provisioning_status"],
        vip_address=entry["vip_address"],
        vip_port_id=entry["vip_port_id"],
        listeners=listeners,
        orphan_pool_ids=orphans,
    )


async def _tree(cloud: Cloud, balancer_id: str) -> tuple[tuple[ObservedListener, ...], tuple[str, ...]]:
    listeners, pools = await asyncio.gather(
        cloud.find(BALANCING, f"{LBAAS}/listeners", "listeners", loadbalancer_id=balancer_id),
        cloud.find(BALANCING, f"{LBAAS}/pools", "pools", loadbalancer_id=balancer_id),
    )
    observed = {pool["id"]: await _pool(cloud, pool) for pool in pools}
    used = {listener["default_pool_id"] for listener in listeners}
    orphans = tuple(pool_id for pool_id in observed if pool_id not in used)
    return tuple(_listener(entry, observed.get(entry["default_pool_id"])) for entry in listeners), orphans


def _listener(entry: Json, pool: ObservedPool | None) -> ObservedListener:
    return ObservedListener(
        id=entry["id"],
        protocol=entry["protocol"],
        port=entry["protocol_port"],
        connection_limit=entry["connection_limit"],
        allowed_cidrs=frozenset(entry.get("allowed_cidrs") or ()),
        timeouts_ms={name: entry[name] for name in TIMEOUTS if entry.get(name) is not None},
        pool=pool,
    )


async def _pool(cloud: Cloud, entry: Json) -> ObservedPool:
    members = await cloud.find(BALANCING, f"{LBAAS}/pools/{entry['id']}/members", "members")
    monitor_id = entry.get("healthmonitor_id")
    monitor = None
    if monitor_id:
        body = (await cloud.get(BALANCING, f"{LBAAS}/healthmonitors/{monitor_id}"))["healthmonitor"]
        http = body["type"] in ("HTTP", "HTTPS")
        monitor = Monitor(
            type=body["type"],
            delay_s=body["delay"],
            timeout_s=body["timeout"],
            retries=body["max_retries"],
            retries_down=body["max_retries_down"],
            path=body.get("url_path") if http else None,
        )
    return ObservedPool(
        id=entry["id"],
        protocol=entry["protocol"],
        algorithm=entry["lb_algorithm"],
        persistence=(entry.get("session_persistence") or {}).get("type"),
        members=frozenset(
            Member(member["name"], member["address"], member["protocol_port"], member.get("monitor_port"))
            for member in members
        ),
        monitor_id=monitor_id,
        monitor=monitor,
    )


async def _floating(cloud: Cloud, mark: str, /, **filters: str) -> list[FloatingIp]:
    entries = await cloud.find(NETWORK, "/v2.0/floatingips", "floatingips", **filters)
    return [
        FloatingIp(entry["id"], entry["floating_ip_address"], entry["port_id"], entry.get("description") == mark)
        for entry in entries
    ]


async def observe_node_subnet(cloud: Cloud, node: Node) -> str:
    """The subnet a node is on: that of the port with the node's InternalIP."""
    address = node.address("InternalIP")
    server = node.spec.provider_id.rpartition("/")[2]
    filters = {"device_id": server} if server else {"fixed_ips": f"ip_address={address}"}
    for port in await cloud.find(NETWORK, "/v2.0/ports", "ports", **filters):
        for fixed in port["fixed_ips"]:
            if fixed["ip_address"] == address:
                return str(fixed["subnet_id"])
    raise CloudError(
        404, f"no port with the address {address} of node {node.metadata.name}; give --subnet-id for the VIPs"
    )


async def observe_external_network(cloud: Cloud) -> str | None:
    """The first external network that has an IPv4 subnet."""
    networks = await cloud.find(NETWORK, "/v2.0/networks", "networks", **{"router:external": "true"})
    for network in networks:
        subnets = await cloud.find(NETWORK, "/v2.0/subnets", "subnets", network_id=network["id"])
        if any(subnet["ip_version"] == 4 for subnet in subnets):
            return str(network["id"])
    return None
