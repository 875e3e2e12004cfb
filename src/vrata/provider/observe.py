"""Reads the cloud: what one Service has, in as few calls as will do; or all of the project's, in a handful of lists."""

import asyncio

from vrata.kube.objects import Node
from vrata.provider.call import BALANCING, KEY_MANAGER, LBAAS, NETWORK, Json
from vrata.provider.cloud import Cloud, CloudError, NoService
from vrata.provider.groups import Group, Port, Rule
from vrata.provider.members import node_address
from vrata.provider.model import NEWEST, Desired, Subnet, Version
from vrata.provider.rows import Rows, compact, parse_members
from vrata.provider.versions import parse_version

GONE = 404


async def observe_service(cloud: Cloud, desired: Desired, *, old: bool) -> Rows:
    """Everything about one Service: its load balancer with all under it, floating IPs that may be its.

    `old`: it had a controller before, so there may be a load balancer with a name of long ago.
    """
    rows = Rows()
    rows.add_balancers(await cloud.find(BALANCING, f"{LBAAS}/loadbalancers", "loadbalancers", name=desired.name))
    if old and not rows.balancers:
        named = await cloud.find(BALANCING, f"{LBAAS}/loadbalancers", "loadbalancers", name=desired.legacy_name)
        rows.add_balancers(named)
    if desired.balancer_id and desired.balancer_id not in rows.balancers:
        rows.add_balancers(await _one(cloud, f"{LBAAS}/loadbalancers/{desired.balancer_id}", "loadbalancer"))
    await asyncio.gather(*(_read_one(cloud, rows, row) for row in list(rows.balancers.values())))
    on_port = any(row["vip_port_id"] in rows.on_port for row in rows.balancers.values())
    if not on_port:
        rows.add_floating(await _floating(cloud, description=desired.floating_description))
    address = desired.floating_address
    if address and all(row["floating_ip_address"] != address for row in rows.floating):
        rows.add_floating(await _floating(cloud, floating_ip_address=address))
    return rows


async def _read_one(cloud: Cloud, rows: Rows, row: Json) -> None:
    """What is under a load balancer, if it can be changed now, and its floating IP."""
    ready = row["provisioning_status"] == "ACTIVE"
    await asyncio.gather(
        _read_floating(cloud, rows, row["vip_port_id"]), *([_read_tree(cloud, rows, row)] if ready else ())
    )


async def _read_floating(cloud: Cloud, rows: Rows, port_id: str | None) -> None:
    if port_id:
        rows.add_floating(await _floating(cloud, port_id=port_id))


async def _read_tree(cloud: Cloud, rows: Rows, row: Json) -> None:
    listeners, pools = await asyncio.gather(
        cloud.find(BALANCING, f"{LBAAS}/listeners", "listeners", loadbalancer_id=row["id"]),
        cloud.find(BALANCING, f"{LBAAS}/pools", "pools", loadbalancer_id=row["id"]),
    )
    ids = [pool["healthmonitor_id"] for pool in pools if pool.get("healthmonitor_id")]
    monitors, members = await asyncio.gather(
        asyncio.gather(*(_one(cloud, f"{LBAAS}/healthmonitors/{id_}", "healthmonitor") for id_ in ids)),
        asyncio.gather(*(observe_members(cloud, pool["id"]) for pool in pools)),
    )
    rows.add_tree(listeners, pools, [monitor for one in monitors for monitor in one])
    rows.members |= {pool["id"]: parse_members(found) for pool, found in zip(pools, members, strict=True)}


async def observe_project(cloud: Cloud) -> Rows:
    """All of the project in five lists, without members: what a drift check and a start compare with."""
    rows = Rows()
    kinds = ("loadbalancers", "listeners", "healthmonitors")
    found = await asyncio.gather(
        *(cloud.find(BALANCING, f"{LBAAS}/{kind}", kind) for kind in kinds), _pools(cloud), _floating(cloud)
    )
    rows.add_balancers(found[0])
    rows.add_tree(found[1], found[3], found[2])
    rows.add_floating(found[4])
    return rows


async def _pools(cloud: Cloud) -> list[Json]:
    return [compact(one) async for page in cloud.pages(BALANCING, f"{LBAAS}/pools", "pools") for one in page]


async def observe_members(cloud: Cloud, pool_id: str) -> list[Json]:
    """The members of a pool; none of one that is gone."""
    try:
        return await cloud.find(BALANCING, f"{LBAAS}/pools/{pool_id}/members", "members")
    except CloudError as error:
        if error.status != GONE:
            raise
        return []


async def observe_statuses(cloud: Cloud, ids: set[str]) -> dict[str, str]:
    """Provisioning statuses of load balancers, those that are gone left out: one call for one, a list for more."""
    if len(ids) == 1:
        rows = await _one(cloud, f"{LBAAS}/loadbalancers/{next(iter(ids))}", "loadbalancer")
    else:
        rows = await cloud.find(BALANCING, f"{LBAAS}/loadbalancers", "loadbalancers")
    return {row["id"]: row["provisioning_status"] for row in rows}


async def _one(cloud: Cloud, path: str, key: str) -> list[Json]:
    """A resource by its id, if it is there."""
    try:
        return [(await cloud.get(BALANCING, path))[key]]
    except CloudError as error:
        if error.status != GONE:
            raise
        return []


async def _floating(cloud: Cloud, **filters: str) -> list[Json]:
    return await cloud.find(NETWORK, "/v2.0/floatingips", "floatingips", **filters)


async def observe_floating_ports(cloud: Cloud) -> frozenset[str]:
    """The ports that have a floating IP."""
    return frozenset(row["port_id"] for row in await _floating(cloud) if row["port_id"])


async def observe_subnets(cloud: Cloud, network_id: str) -> tuple[Subnet, ...]:
    """The subnets of a network."""
    rows = await cloud.find(NETWORK, "/v2.0/subnets", "subnets", network_id=network_id)
    return tuple(Subnet(one["id"], one["name"], frozenset(one.get("tags") or ()), one["ip_version"]) for one in rows)


async def observe_group(cloud: Cloud, name: str) -> Group | None:
    """The security group of this name, with its ingress rules."""
    rows = await cloud.find(NETWORK, "/v2.0/security-groups", "security_groups", name=name)
    return _group(rows[0]) if rows else None


async def observe_groups(cloud: Cloud) -> dict[str, Group]:
    """The security groups of the project by name."""
    rows = await cloud.find(NETWORK, "/v2.0/security-groups", "security_groups")
    return {row["name"]: _group(row) for row in rows}


def _group(row: Json) -> Group:
    rules = tuple(
        (Rule(one["protocol"], one["port_range_min"], one["remote_ip_prefix"]), str(one["id"]))
        for one in row["security_group_rules"]
        if one["direction"] == "ingress"
    )
    return Group(row["id"], rules, row["name"], row.get("description") or "")


async def observe_ports(cloud: Cloud, subnet_id: str | None = None) -> list[Port]:
    """The ports on a subnet, or all of the project."""
    filters = {"fixed_ips": f"subnet_id={subnet_id}"} if subnet_id else {}
    rows = await cloud.find(NETWORK, "/v2.0/ports", "ports", **filters)
    return [
        Port(
            one["id"],
            frozenset(fixed["ip_address"] for fixed in one["fixed_ips"]),
            tuple(one["security_groups"]),
            guarded=one.get("port_security_enabled", True),
        )
        for one in rows
    ]


async def observe_port_device(cloud: Cloud, port_id: str) -> str | None:
    """What uses a port, as `OWNER ID`; empty if nothing does, None if there is no such port."""
    try:
        port = (await cloud.get(NETWORK, f"/v2.0/ports/{port_id}"))["port"]
    except CloudError as error:
        if error.status != GONE:
            raise
        return None
    return f"{port['device_owner']} {port['device_id']}".strip()


async def observe_cidr(cloud: Cloud, subnet_id: str) -> str:
    """The addresses of a subnet."""
    return str((await cloud.get(NETWORK, f"/v2.0/subnets/{subnet_id}"))["subnet"]["cidr"])


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


async def observe_version(cloud: Cloud) -> Version:
    """The newest version of the balancing API; the newest of all where the root is not shown to us."""
    try:
        return parse_version(await cloud.get(BALANCING, "/"))
    except CloudError as error:
        if error.retriable:
            raise
        return NEWEST


async def is_unknown(cloud: Cloud, path: str) -> bool:
    """Whether the key manager says that it has no such container or secret; one that we may not read is not unknown."""
    try:
        await cloud.get(KEY_MANAGER, path)
    except NoService:
        return False
    except CloudError as error:
        return error.status == GONE
    return False


async def observe_external_network(cloud: Cloud) -> str | None:
    """The first external network that has an IPv4 subnet."""
    networks = await cloud.find(NETWORK, "/v2.0/networks", "networks", **{"router:external": "true"})
    for network in networks:
        if any(subnet.version == 4 for subnet in await observe_subnets(cloud, network["id"])):
            return str(network["id"])
    return None
