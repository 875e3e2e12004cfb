"""Subnets as Neutron v2.0 shows and guards them: their prefix (given, or out of a pool), pools, gateway, IPv6 modes."""

import ipaddress
from typing import Any

import sqlalchemy as sa

from vrata.cloud.fields import Field
from vrata.cloud.http import ApiError, Call
from vrata.cloud.network import plan, ports, subnetpools
from vrata.cloud.network import tables as t
from vrata.cloud.network.networks import NETWORKS, shared_network
from vrata.cloud.network.ports import invalid
from vrata.cloud.network.resource import NAMED, Resource, base_view, find, store_update
from vrata.cloud.store import Row

MODES = ("dhcpv6-stateful", "dhcpv6-stateless", "slaac")


def _view(_call: Call, rows: list[Row]) -> list[Row]:
    return [base_view(row) for row in rows]


def _create(call: Call, row: Row) -> Row:
    network = find(call, NETWORKS, row["network_id"], change=True)
    subnetpools.take_prefix(call, row)
    if row.get("cidr") is None:
        raise ApiError(400, "Bad subnets request: a subnetpool must be specified in the absence of a cidr.",
                       "BadRequest")  # fmt: skip
    cidr = ipaddress.ip_network(row["cidr"])
    if row.setdefault("ip_version", 4) != cidr.version:
        raise invalid(f"cidr '{cidr}' does not match the ip_version '{row['ip_version']}'")
    for theirs, pool_id in _beside(call, network["id"]):
        if theirs.version == cidr.version and cidr.overlaps(theirs):
            raise invalid(
                f"Requested subnet with cidr: {cidr} for network: {network['id']} overlaps with another subnet."
            )
        if theirs.version == cidr.version and row.get("subnetpool_id") not in {None, pool_id}:
            raise ApiError(
                400, "Subnets hosted on the same network must be allocated from the same subnet pool.",
                "NetworkSubnetPoolAffinityError",
            )  # fmt: skip
    if "gateway_ip" not in row:
        row["gateway_ip"] = plan.default_gateway(str(cidr))
    row["allocation_pools"] = _pools(str(cidr), row["gateway_ip"], row.get("allocation_pools"))
    _check_modes(row)
    _check_lists(row, row["ip_version"])
    call.tx.insert(t.subnets, row)
    _beside(call, network["id"]).append((cidr, row.get("subnetpool_id")))
    if ports.automatic(row):
        ports.add_automatic(call.tx, row)
    return row


def _beside(call: Call, network_id: str) -> list[tuple[plan.Network, str | None]]:
    """Prefix and pool of the subnets of a locked network; read once in a transaction, which may make many."""
    key = "subnets beside", network_id
    if key not in call.tx.memo:
        query = sa.select(t.subnets.c.cidr, t.subnets.c.subnetpool_id).where(t.subnets.c.network_id == network_id)
        call.tx.memo[key] = [(ipaddress.ip_network(cidr), pool) for cidr, pool in call.tx.connection.execute(query)]
    found: list[tuple[plan.Network, str | None]] = call.tx.memo[key]
    return found


def _pools(cidr: str, gateway: str | None, asked: list[Any] | None) -> list[plan.Pool]:
    if gateway is not None and ipaddress.ip_address(gateway) not in ipaddress.ip_network(cidr):
        raise invalid(f"Gateway {gateway} is not valid on subnet {cidr}.")
    if asked is None:
        return plan.default_pools(cidr, gateway)
    try:
        pools = [
            {"start": str(ipaddress.ip_address(p["start"])), "end": str(ipaddress.ip_address(p["end"]))} for p in asked
        ]
        plan.check_pools(cidr, gateway, pools)
    except (TypeError, KeyError) as error:
        raise invalid("allocation_pools is a list of {start, end}") from error
    except plan.GatewayInPool as error:
        raise ApiError(409, str(error), "GatewayConflictWithAllocationPools") from error
    except plan.PoolsOverlap as error:
        raise ApiError(409, str(error), "OverlappingAllocationPools") from error
    except plan.PoolOutOfBounds as error:
        raise ApiError(400, str(error), "OutOfBoundsAllocationPool") from error
    except plan.BadPools as error:
        raise ApiError(400, str(error), "InvalidAllocationPool") from error
    except ValueError as error:
        raise invalid(str(error)) from error
    return pools


def _check_modes(row: Row) -> None:
    ra, address = row.get("ipv6_ra_mode"), row.get("ipv6_address_mode")
    if ra is None and address is None:
        return
    if row["ip_version"] == 4:
        raise invalid("ipv6_ra_mode and ipv6_address_mode are not valid when ip_version is 4")
    if not row.get("enable_dhcp", True):
        raise invalid("ipv6_ra_mode or ipv6_address_mode cannot be set when enable_dhcp is set to False")
    if ra is not None and address is not None and ra != address:
        raise invalid(
            f"ipv6_ra_mode set to '{ra}' with ipv6_address_mode set to '{address}' is not valid. If both attributes "
            "are set, they must be the same value"
        )
    if (address or ra) != "dhcpv6-stateful" and ipaddress.ip_network(row["cidr"]).prefixlen != 64:
        raise invalid(
            f"Invalid CIDR {row['cidr']} for IPv6 address mode. OpenStack uses the EUI-64 address format, which "
            "requires the prefix to be /64"
        )


def _check_lists(values: Row, version: int) -> None:
    for server in values.get("dns_nameservers") or ():
        if plan.address(server) is None:
            raise invalid(f"Invalid input for dns_nameservers. Reason: '{server}' is not a valid nameserver.")
    for route in values.get("host_routes") or ():
        if not isinstance(route, dict) or route.keys() != {"destination", "nexthop"}:
            raise invalid(f"Invalid input for host_routes. Reason: '{route}' has not destination and nexthop.")
        target, hop = plan.network(route["destination"]), plan.address(route["nexthop"])
        if target is None or hop is None or target.version != version or hop.version != version:
            raise invalid(f"Invalid input for host_routes. Reason: '{route}' is not a valid IPv{version} route.")


def _update(call: Call, row: Row, values: Row) -> None:
    if "gateway_ip" in values or "allocation_pools" in values:
        gateway = values.get("gateway_ip", row["gateway_ip"])
        if gateway != row["gateway_ip"]:
            _gateway_unused(call, row)
        pools = values.get("allocation_pools") or row["allocation_pools"]
        values["allocation_pools"] = _pools(row["cidr"], gateway, pools)
    if values.get("enable_dhcp") is False:
        _check_modes({**row, **values})
    _check_lists(values, row["ip_version"])
    store_update(call, SUBNETS, row, values)


def _gateway_unused(call: Call, row: Row) -> None:
    """409 while a router holds the gateway's address."""
    query = (
        sa.select(t.ports.c.id)
        .join(t.addresses, t.addresses.c.port_id == t.ports.c.id)
        .where(t.ports.c.device_owner == ports.ROUTER_INTERFACE, t.addresses.c.subnet_id == row["id"],
               t.addresses.c.ip_address == row["gateway_ip"])
    )  # fmt: skip
    used = call.tx.value(query)
    if used:
        raise ApiError(
            409, f"Current gateway ip {row['gateway_ip']} already in use by port {used}. Unable to update.",
            "GatewayIpInUse",
        )  # fmt: skip


def _delete(call: Call, row: Row) -> None:
    if ports.automatic(row):
        ports.drop_automatic(call.tx, row["id"])
    used = sa.select(t.addresses.c.port_id).where(t.addresses.c.subnet_id == row["id"])
    if call.tx.value(used):
        raise ApiError(
            409, f"Unable to complete operation on subnet {row['id']}: One or more ports have an IP allocation from "
            "this subnet.", "SubnetInUse",
        )  # fmt: skip
    call.tx.delete(t.subnets, row["id"])


SUBNETS = Resource(
    "subnet", "subnets", "Subnet", t.subnets,
    {
        **NAMED,
        "network_id": Field("uuid", required=True, update=False),
        "ip_version": Field("int", least=4, most=6, update=False, nullable=False),
        "cidr": Field("cidr", update=False),
        "gateway_ip": Field("ip"),
        "enable_dhcp": Field("bool", default=True),
        "allocation_pools": Field("list", items=32),
        "dns_nameservers": Field("strings", default=(), items=5),
        "host_routes": Field("list", default=(), items=20),
        "ipv6_ra_mode": Field(choices=MODES, update=False),
        "ipv6_address_mode": Field(choices=MODES, update=False),
        "subnetpool_id": Field("uuid", update=False),
        "use_default_subnetpool": Field("bool", update=False),
        "prefixlen": Field("int", least=0, most=128, update=False),
        "service_types": Field("strings", default=()),
    },
    _view, {}, frozenset(), _create, _update, _delete,
    lambda table: table.c.network_id.in_(sa.select(t.networks.c.id).where(shared_network(t.networks))),
)  # fmt: skip
