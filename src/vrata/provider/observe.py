"""Reads what the cloud has of one Service, in as few calls as will do."""

import asyncio
from collections.abc import Iterable
from dataclasses import replace

from vrata.kube.objects import Node
from vrata.provider.adopt import choose
from vrata.provider.call import BALANCING, LBAAS, NETWORK, Json
from vrata.provider.cloud import Cloud, CloudError
from vrata.provider.desired import open_to_all
from vrata.provider.members import node_address
from vrata.provider.model import (
    Desired,
    FloatingIp,
    Member,
    Monitor,
    Observed,
    ObservedListener,
    ObservedPool,
    Subnet,
    World,
)

TIMEOUTS = ("timeout_client_data", "timeout_member_connect", "timeout_member_data", "timeout_tcp_inspect")
FLOATING_FOR = "Floating IP for Kubernetes external service "


async def observe_world(cloud: Cloud, desired: Desired, hints: Iterable[str]) -> World:
    """The Service's load balancer with all under it, and its floating IPs. `hints`: addresses that it has had."""
    found = choose(desired, await _candidates(cloud, desired), hints)
    balancer = await _with_tree(cloud, found.balancer) if found.balancer else None
    mark = desired.floating_description
    on_port = await _floating(cloud, mark, port_id=balancer.vip_port_id) if balancer and balancer.vip_port_id else []
    floating = on_port[0] if on_port else None
    wanted, strays = [], []
    if desired.floating_address and (floating is None or floating.address != desired.floating_address):
        wanted = await _floating(cloud, mark, floating_ip_address=desired.floating_address)
    if floating is None:
        described = await _floating(cloud, mark, description=mark)
        strays = [entry for entry in described if entry.ours and not entry.port_id]
    return World(balancer, floating, wanted[0] if wanted else None, tuple(strays), namesakes=found.namesakes)


async def _candidates(cloud: Cloud, desired: Desired) -> list[Observed]:
    """Load balancers of the Service's name, and the one that it asks for by its id."""
    rows = await cloud.find(BALANCING, f"{LBAAS}/loadbalancers", "loadbalancers", name=desired.name)
    if desired.balancer_id and all(row["id"] != desired.balancer_id for row in rows):
        try:
            asked = await cloud.get(BALANCING, f"{LBAAS}/loadbalancers/{desired.balancer_id}")
        except CloudError as error:
            if error.status != 404:
                raise
        else:
            rows = [*rows, asked["loadbalancer"]]
    return [observed_balancer(row) for row in rows if row["provisioning_status"] != "DELETED"]


def observed_balancer(entry: Json) -> Observed:
    """A load balancer as an answer of the API tells it, without what is under it."""
    return Observed(
        id=entry["id"],
        provisioning_status=entry["provisioning_status"],
        vip_address=entry["vip_address"],
        vip_port_id=entry["vip_port_id"],
        name=entry["name"],
        tags=frozenset(entry.get("tags") or ()),
        subnet_id=entry.get("vip_subnet_id") or "",
        network_id=entry.get("vip_network_id") or "",
        flavor_id=entry.get("flavor_id") or "",
        availability_zone=entry.get("availability_zone") or "",
        provider=entry.get("provider") or "",
        additional_vips=tuple(one["ip_address"] for one in entry.get("additional_vips") or ()),
    )


async def _with_tree(cloud: Cloud, balancer: Observed) -> Observed:
    """With listeners, pools, members and monitors, if they can be changed now."""
    if balancer.provisioning_status != "ACTIVE":
        return balancer
    listeners, pools = await asyncio.gather(
        cloud.find(BALANCING, f"{LBAAS}/listeners", "listeners", loadbalancer_id=balancer.id),
        cloud.find(BALANCING, f"{LBAAS}/pools", "pools", loadbalancer_id=balancer.id),
    )
    observed = {pool["id"]: await _pool(cloud, pool) for pool in pools}
    used = {listener["default_pool_id"] for listener in listeners}
    return replace(
        balancer,
        listeners=tuple(_listener(entry, observed.get(entry["default_pool_id"])) for entry in listeners),
        loose_pools=tuple(pool for pool_id, pool in observed.items() if pool_id not in used),
    )


def _listener(entry: Json, pool: ObservedPool | None) -> ObservedListener:
    return ObservedListener(
        id=entry["id"],
        protocol=entry["protocol"],
        port=entry["protocol_port"],
        connection_limit=entry["connection_limit"],
        allowed_cidrs=open_to_all(entry.get("allowed_cidrs") or ()),
        timeouts_ms={name: entry[name] for name in TIMEOUTS if entry.get(name) is not None},
        pool=pool,
        tags=frozenset(entry.get("tags") or ()),
        tls_ref=entry.get("default_tls_container_ref") or None,
        forwards_client=(entry.get("insert_headers") or {}).get("X-Forwarded-For") == "true",
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
    persistence = entry.get("session_persistence") or {}
    return ObservedPool(
        id=entry["id"],
        protocol=entry["protocol"],
        algorithm=entry["lb_algorithm"],
        persistence=persistence.get("type"),
        members=frozenset(
            Member(one["name"], one["address"], one["protocol_port"], one.get("monitor_port"), one.get("subnet_id"))
            for one in members
        ),
        monitor_id=monitor_id,
        monitor=monitor,
        persistence_timeout_s=persistence.get("persistence_timeout"),
        name=entry["name"],
    )


async def _floating(cloud: Cloud, mark: str, /, **filters: str) -> list[FloatingIp]:
    entries = await cloud.find(NETWORK, "/v2.0/floatingips", "floatingips", **filters)
    cluster = mark.rpartition(" from cluster ")[2]
    return [
        FloatingIp(
            entry["id"],
            entry["floating_ip_address"],
            entry["port_id"],
            ours=entry.get("description") == mark,
            clusters=_of_cluster(entry.get("description") or "", cluster),
        )
        for entry in entries
    ]


def _of_cluster(description: str, cluster: str) -> bool:
    return description.startswith(FLOATING_FOR) and description.endswith(f" from cluster {cluster}")


async def observe_subnets(cloud: Cloud, network_id: str) -> tuple[Subnet, ...]:
    """The subnets of a network."""
    rows = await cloud.find(NETWORK, "/v2.0/subnets", "subnets", network_id=network_id)
    return tuple(Subnet(one["id"], one["name"], frozenset(one.get("tags") or ()), one["ip_version"]) for one in rows)


async def observe_node_subnet(cloud: Cloud, node: Node, version: int) -> str:
    """The subnet a node is on: that of the port with the node's address of an IP version."""
    address = node_address(node, version)
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
        if any(subnet.version == 4 for subnet in await observe_subnets(cloud, network["id"])):
            return str(network["id"])
    return None
