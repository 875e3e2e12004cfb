"""What the sandbox's tenant needs in the cloud, made over OpenStack's APIs as any operator would: networks, a router,
a port for each node. Everything is found by name first, so that a second run makes nothing.
"""

from typing import Any

from vrata.provider.call import COMPUTE, NOVA
from vrata.provider.cloud import Cloud, CloudError
from vrata.sandbox.model import EXTERNAL, NETWORKS, TENANT, TENANT_GATEWAY, Options, Topology, server_id

Json = dict[str, Any]
NETWORK = "network"
FLAVOR = {"name": "namespace", "vcpus": 1, "ram": 512, "disk": 0}
EXTERNAL_POOL = ("203.0.113.20", "203.0.113.199")
TENANT_POOL = ("10.10.0.100", "10.10.0.250")
NODE_RULES: tuple[Json, ...] = (
    {"protocol": "tcp", "port_range_min": 30000, "port_range_max": 32767},
    {"protocol": "udp", "port_range_min": 30000, "port_range_max": 32767},
    {"protocol": "icmp"},
)
EGRESS_RULES = 2  # every new group lets everything out, one rule an address family
CONFLICT = 409


async def ensure_external(admin: Cloud) -> str:
    """The public network with its pool of floating IPs; returns its id."""
    network = await _ensure(
        admin,
        "network",
        {
            "name": EXTERNAL,
            "router:external": True,
            **_flat(EXTERNAL),
        },
    )
    start, end = EXTERNAL_POOL
    subnet = {
        "name": EXTERNAL,
        "network_id": network["id"],
        "ip_version": 4,
        "cidr": NETWORKS[EXTERNAL],
        "gateway_ip": "203.0.113.1",
        "enable_dhcp": False,
        "allocation_pools": [{"start": start, "end": end}],
    }
    await _ensure(admin, "subnet", subnet)
    return str(network["id"])


async def ensure_tenant_network(admin: Cloud, project_id: str) -> tuple[str, str]:
    """The tenant's network on the hosts' tenant bridge (only an administrator may say so); network and subnet id."""
    network = await _ensure(
        admin,
        "network",
        {
            "name": TENANT,
            "project_id": project_id,
            **_flat(TENANT),
        },
    )
    start, end = TENANT_POOL
    subnet = {
        "name": TENANT,
        "project_id": project_id,
        "network_id": network["id"],
        "ip_version": 4,
        "cidr": NETWORKS[TENANT],
        "gateway_ip": TENANT_GATEWAY,
        "allocation_pools": [{"start": start, "end": end}],
    }
    return str(network["id"]), str((await _ensure(admin, "subnet", subnet))["id"])


async def ensure_router(tenant: Cloud, external_id: str, subnet_id: str) -> None:
    """The tenant's way out."""
    router = await _ensure(tenant, "router", {"name": "gateway", "external_gateway_info": {"network_id": external_id}})
    ports = await tenant.find(NETWORK, "/v2.0/ports", "ports", device_id=router["id"])
    if not any(fixed["subnet_id"] == subnet_id for port in ports for fixed in port["fixed_ips"]):
        path = f"/v2.0/routers/{router['id']}/add_router_interface"
        await tenant.request("PUT", NETWORK, path, body={"subnet_id": subnet_id})


async def ensure_node_ports(tenant: Cloud, options: Options, layout: Topology, network_id: str, subnet_id: str) -> None:
    """A port for each node, with the address that its machine has; a floating IP reaches its NodePorts and pings."""
    group = await _ensure(tenant, "security-group", {"name": "nodes"})
    if len(group["security_group_rules"]) < len(NODE_RULES) + EGRESS_RULES:
        for rule in NODE_RULES:
            await _allow(tenant, {"security_group_id": group["id"], "direction": "ingress", **rule})
    for machine in layout.of_role("master", "worker"):
        await _ensure(
            tenant,
            "port",
            {
                "name": machine.name,
                "network_id": network_id,
                "fixed_ips": [{"subnet_id": subnet_id, "ip_address": machine.address}],
                "device_id": server_id(options.name, machine.name),
                "device_owner": "compute:nova",
                "mac_address": machine.links[0].mac,
                "security_groups": [group["id"]],
            },
        )


async def ensure_servers(admin: Cloud, layout: Topology, network_id: str, project_id: str) -> None:
    """The nodes' machines as servers of the tenant: each by the port that it has, whose device it is."""
    flavors = await admin.find(COMPUTE, f"{NOVA}/flavors", "flavors")
    flavor_id = next((one["id"] for one in flavors if one["name"] == FLAVOR["name"]), None)
    if flavor_id is None:
        flavor_id = (await admin.request("POST", COMPUTE, f"{NOVA}/flavors", body={"flavor": FLAVOR}))["flavor"]["id"]
    known = {one["id"] for one in await admin.find(COMPUTE, f"{NOVA}/servers", "servers", all_tenants="true")}
    for port in await admin.find(NETWORK, "/v2.0/ports", "ports", network_id=network_id):
        machine = next((one for one in layout.of_role("master", "worker") if one.name == port["name"]), None)
        if machine and port["device_id"] not in known:
            server = {"name": machine.name, "flavorRef": flavor_id, "tenant_id": project_id}
            body = {"server": server | {"networks": [{"port": port["id"]}]}}
            await admin.request("POST", COMPUTE, f"{NOVA}/servers", body=body)


async def _allow(tenant: Cloud, rule: Json) -> None:
    try:
        await tenant.request("POST", NETWORK, "/v2.0/security-group-rules", body={"security_group_rule": rule})
    except CloudError as error:
        if error.status != CONFLICT:  # it is there already
            raise


def _flat(physical_network: str) -> Json:
    """The provider attributes of a network that is one of the hosts' bridges."""
    return {"provider:physical_network": physical_network, "provider:network_type": "flat"}


async def _ensure(cloud: Cloud, kind: str, body: Json) -> Json:
    """Find a resource by its name, or create it."""
    found = await cloud.find(NETWORK, f"/v2.0/{kind}s", f"{kind.replace('-', '_')}s", name=body["name"])
    if found:
        return found[0]
    key = kind.replace("-", "_")
    created: Json = (await cloud.request("POST", NETWORK, f"/v2.0/{kind}s", body={key: body}))[key]
    return created
