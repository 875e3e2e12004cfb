"""Ports and their addresses in the database: allocate, create, delete; the network API and the balancers both call it.

Every address of a network is in one table with a unique key, so two transactions never give out the same one; the
subnet's row is locked while its next free address is looked for.
"""

import ipaddress
import secrets
from collections.abc import Iterable, Iterator
from typing import Any

import sqlalchemy as sa

from vrata.base import ids
from vrata.cloud.http import ApiError, now
from vrata.cloud.network import plan, uses
from vrata.cloud.network import tables as t
from vrata.cloud.store import Row, Tx

BALANCER_OWNER = "Octavia"
ROUTER_INTERFACE = uses.ROUTER_INTERFACE
ROUTER_GATEWAY = "network:router_gateway"
ROUTER_INSTANCE = uses.ROUTER_INSTANCE
FLOATING = "network:floatingip"


def missing(kind: str, row_id: object) -> ApiError:
    """404 as Neutron words it."""
    sentence = {
        "SubnetPool": "Subnet pool {} could not be found.",
        "FloatingIP": "Floating IP {} could not be found",
        "SecurityGroup": "Security group {} does not exist",
        "SecurityGroupRule": "Security group rule {} does not exist",
    }.get(kind, kind + " {} could not be found.")
    return ApiError(404, sentence.format(row_id), f"{kind}NotFound")


def invalid(message: str) -> ApiError:
    """400 as Neutron words it."""
    return ApiError(400, f"Invalid input for operation: {message}", "InvalidInput")


def create(tx: Tx, network: Row, values: Row, fixed: list[dict[str, Any]] | None, *, everywhere: bool = False) -> Row:
    """A new port on the network with the given or allocated addresses; `values` are columns of the port.

    `everywhere`: also an address of every subnet that makes them out of MAC addresses.
    """
    port: Row = {
        "id": ids.new_uuid(), "project_id": network["project_id"], "name": "", "description": "", "tags": [],
        "created_at": now(), "updated_at": now(), "network_id": network["id"], "admin_state_up": True,
        "status": "ACTIVE" if values.get("device_id") else "DOWN", "device_id": "", "device_owner": "",
        "security_groups": [], "allowed_address_pairs": [], "extra_dhcp_opts": [], "port_security_enabled": True,
        "dns_name": "", "binding_host_id": "", "binding_vnic_type": "normal",
        "binding_profile": None, "revision_number": 1, **values,
    }  # fmt: skip
    if not port.get("mac_address"):
        port["mac_address"] = _new_mac()
    else:
        free_mac(tx, network["id"], port["mac_address"], port["id"])
    tx.insert(t.ports, port)
    port["fixed_ips"] = place_addresses(tx, network, port, fixed, everywhere=everywhere)
    return port


def place_addresses(
    tx: Tx, network: Row, port: Row, fixed: list[dict[str, Any]] | None, *, everywhere: bool = False
) -> list[dict[str, str]]:
    """Give a port the addresses it asks for; None: one of each IP version the network has a subnet for."""
    subnets = _subnets(tx, network["id"])
    router = port["device_owner"].startswith("network:")
    placed: list[dict[str, str]] = []

    def took(place: dict[str, str]) -> dict[str, str]:
        if any(place["ip_address"] == other["ip_address"] for other in placed):
            raise _allocated(place["ip_address"], place["subnet_id"])
        _take(tx, place)
        placed.append(place)
        return place

    if fixed is None:
        for group in _by_version([subnet for subnet in subnets if router or not automatic(subnet)]):
            took(_allocate_from(tx, network, group))
    # Addresses that are named come first: one that is chosen must not be one of them.
    named_first = sorted(enumerate(fixed or ()), key=lambda one: one[1].get("ip_address") is None)
    found = {number: took(_place(tx, network, subnets, wanted, port)) for number, wanted in named_first}
    if fixed:
        placed[:] = [found[number] for number in sorted(found)]
    if everywhere or fixed is None:
        have = {place["subnet_id"] for place in placed}
        for subnet in subnets:
            if automatic(subnet) and not router and subnet["id"] not in have:
                took(_from_mac(tx, subnet, port))
    of_port = {"port_id": port["id"], "network_id": network["id"]}
    tx.insert(t.addresses, [{**of_port, "position": number, **place} for number, place in enumerate(placed)])
    return placed


def _subnets(tx: Tx, network_id: str) -> list[Row]:
    """The subnets of a network, oldest first; read once in a transaction, which may make many ports."""
    key = "subnets", network_id
    if key not in tx.memo:
        query = sa.select(t.subnets).where(t.subnets.c.network_id == network_id).order_by(t.subnets.c.created_at)
        tx.memo[key] = tx.all(query)
    found: list[Row] = tx.memo[key]
    return found


def add_addresses(tx: Tx, network: Row, port_id: str, fixed: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Give a port further addresses."""
    port = tx.get(t.ports, port_id)
    assert port is not None
    subnets = tx.all(sa.select(t.subnets).where(t.subnets.c.network_id == network["id"]))
    first = len(fixed_ips(tx, [port_id]).get(port_id, []))
    placed = []
    for position, wanted in enumerate(fixed, first):
        place = _place(tx, network, subnets, wanted, port)
        _insert(tx, {"port_id": port_id, "network_id": network["id"], "position": position, **place})
        placed.append(place)
    return placed


def drop_addresses(tx: Tx, port_id: str, addresses: Iterable[str]) -> None:
    """Take addresses from a port."""
    gone = list(addresses)
    if gone:
        clear(tx, sa.and_(t.addresses.c.port_id == port_id, t.addresses.c.ip_address.in_(gone)))


def automatic(subnet: Row) -> bool:
    """Whether ports make their address on this subnet out of their MAC address."""
    return (subnet.get("ipv6_address_mode") or subnet.get("ipv6_ra_mode")) in {"slaac", "dhcpv6-stateless"}


def add_automatic(tx: Tx, subnet: Row) -> None:
    """A subnet of that kind came: the network's ports get their address of it; routers and balancers do not."""
    ours = sa.or_(t.ports.c.device_owner.like("network:%"), t.ports.c.device_owner == BALANCER_OWNER)
    for port in tx.all(sa.select(t.ports).where(t.ports.c.network_id == subnet["network_id"], ~ours)):
        position = len(fixed_ips(tx, [port["id"]]).get(port["id"], []))
        place = _from_mac(tx, subnet, port)
        _insert(tx, {"port_id": port["id"], "network_id": subnet["network_id"], "position": position, **place})


def drop_automatic(tx: Tx, subnet_id: str) -> None:
    """A subnet of that kind goes: the addresses made out of MAC addresses go with it, but for those of ports in use."""
    used = sa.select(t.ports.c.id).where(uses.used_ports())
    clear(tx, sa.and_(t.addresses.c.subnet_id == subnet_id, t.addresses.c.port_id.not_in(used)))


def _from_mac(tx: Tx, subnet: Row, port: Row) -> dict[str, str]:
    address = plan.eui64(subnet["cidr"], port["mac_address"])
    if address_taken(tx, subnet["network_id"], address):
        raise _allocated(address, subnet["id"])
    return {"subnet_id": subnet["id"], "ip_address": address}


def _allocated(address: str, subnet_id: str) -> ApiError:
    return ApiError(409, f"IP address {address} already allocated in subnet {subnet_id}", "IpAddressAlreadyAllocated")


def _place(tx: Tx, network: Row, subnets: list[Row], wanted: dict[str, Any], port: Row) -> dict[str, str]:
    subnet_id, address = wanted.get("subnet_id"), wanted.get("ip_address")
    router = port["device_owner"].startswith("network:")
    if subnet_id is not None:
        subnets = [subnet for subnet in subnets if subnet["id"] == subnet_id]
        if not subnets:  # the same for one of another network as for none at all
            raise invalid(
                f"Failed to create port on network {network['id']}, because fixed_ips included invalid subnet "
                f"{subnet_id}."
            )
        if address is None and automatic(subnets[0]) and not router:
            return _from_mac(tx, subnets[0], port)
    if address is None:
        version = wanted.get("ip_version")
        return _allocate_from(tx, network, [one for one in subnets if version in {None, one["ip_version"]}])
    for subnet in subnets:
        if plan.usable(address, subnet["cidr"]):
            if automatic(subnet) and not router and address != plan.eui64(subnet["cidr"], port["mac_address"]):
                raise ApiError(
                    400, f"IPv6 address {address} cannot be directly assigned to a port on subnet {subnet['id']} as "
                    "the subnet is configured for automatic addresses", "AllocationOnAutoAddressSubnet",
                )  # fmt: skip
            tx.lock(t.subnets, subnet["id"])
            if address_taken(tx, network["id"], address):
                raise _allocated(address, subnet["id"])
            return {"subnet_id": subnet["id"], "ip_address": address}
    where = "the specified subnet" if subnet_id is not None else "any of the subnets on the specified network"
    kind = "InvalidIpForSubnet" if subnet_id is not None else "InvalidIpForNetwork"
    raise ApiError(400, f"IP address {address} is not a valid IP for {where}.", kind)


def _allocate_from(tx: Tx, network: Row, subnets: list[Row]) -> dict[str, str]:
    for subnet in subnets:
        address = next(_free(tx, subnet), None)
        if address is not None:
            return {"subnet_id": subnet["id"], "ip_address": address}
    raise ApiError(409, f"No more IP addresses available on network {network['id']}.", "IpAddressGenerationFailure")


def _free(tx: Tx, subnet: Row) -> Iterator[str]:
    """The free addresses of a subnet, which is locked first; each is looked at once in a transaction."""
    key = "free", subnet["id"]
    if key not in tx.memo:
        tx.lock(t.subnets, subnet["id"])
        tx.memo[key] = plan.free(subnet["allocation_pools"], _taken(tx, subnet), subnet["ip_version"])
    found: Iterator[str] = tx.memo[key]
    return found


def _taken(tx: Tx, subnet: Row) -> set[int]:
    """The addresses of a locked subnet that nobody may get; read once in a transaction, which may make many ports."""
    key = "taken", subnet["id"]
    if key not in tx.memo:
        taken = tx.column(sa.select(t.addresses.c.ip_address).where(t.addresses.c.subnet_id == subnet["id"]))
        taken += [*tx.reserved, *([subnet["gateway_ip"]] if subnet["gateway_ip"] else []), *_pending(tx, subnet["id"])]
        tx.memo[key] = {int(ipaddress.ip_address(address)) for address in taken}
    found: set[int] = tx.memo[key]
    return found


def _insert(tx: Tx, place: Row) -> None:
    tx.insert(t.addresses, place)
    _take(tx, place)


def _take(tx: Tx, place: Row) -> None:
    if ("taken", place["subnet_id"]) in tx.memo:
        tx.memo["taken", place["subnet_id"]].add(int(ipaddress.ip_address(place["ip_address"])))
    else:
        _pending(tx, place["subnet_id"]).append(place["ip_address"])


def _pending(tx: Tx, subnet_id: str) -> list[str]:
    """Addresses that a port of this transaction takes, and that the database may not know yet."""
    found: list[str] = tx.memo.setdefault(("pending", subnet_id), [])
    return found


def clear(tx: Tx, where: sa.ColumnElement[bool]) -> None:
    """Take addresses from their ports."""
    tx.execute(sa.delete(t.addresses).where(where))
    tx.memo.clear()


def _by_version(subnets: list[Row]) -> Iterable[list[Row]]:
    for version in (4, 6):
        group = [subnet for subnet in subnets if subnet["ip_version"] == version]
        if group:
            yield group


def address_taken(tx: Tx, network_id: str, address: str) -> bool:
    """Whether a port of the network has this address."""
    query = sa.select(t.addresses.c.port_id).where(
        t.addresses.c.network_id == network_id, t.addresses.c.ip_address == address
    )
    return tx.value(query) is not None


def fixed_ips(tx: Tx, port_ids: Iterable[str]) -> dict[str, list[dict[str, str]]]:
    """The addresses of ports, in the order they were given."""
    out: dict[str, list[dict[str, str]]] = {}
    rows = tx.all(
        sa.select(t.addresses).where(t.addresses.c.port_id.in_(list(port_ids))).order_by(t.addresses.c.position)
    )
    for row in rows:
        out.setdefault(row["port_id"], []).append({"subnet_id": row["subnet_id"], "ip_address": row["ip_address"]})
    return out


def delete(tx: Tx, port_ids: str | Iterable[str]) -> None:
    """Remove ports and their addresses; floating IPs on them must have been let go before."""
    wanted = [port_ids] if isinstance(port_ids, str) else list(port_ids)
    if wanted:
        clear(tx, t.addresses.c.port_id.in_(wanted))
        tx.delete(t.ports, wanted)


def _new_mac() -> str:
    """A random address with Neutron's usual prefix."""
    return "fa:16:3e:" + ":".join(f"{byte:02x}" for byte in secrets.token_bytes(3))


def free_mac(tx: Tx, network_id: str, mac: str, port_id: str) -> None:
    """409 if another port of the network has this MAC address."""
    query = sa.select(t.ports.c.id).where(
        t.ports.c.network_id == network_id, t.ports.c.mac_address == mac, t.ports.c.id != port_id
    )
    if tx.value(query) is not None:
        raise ApiError(
            409, f"Unable to complete operation for network {network_id}. The mac address {mac} is in use.",
            "MacAddressInUse",
        )  # fmt: skip
