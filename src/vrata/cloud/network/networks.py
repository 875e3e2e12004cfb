"""Networks, subnets and ports as Neutron v2.0 shows and guards them."""

import ipaddress
from collections import defaultdict
from typing import Any

import sqlalchemy as sa

from vrata.cloud.balancing import carry
from vrata.cloud.fields import Field
from vrata.cloud.http import ApiError, Call
from vrata.cloud.network import firewall, floating, groups, plan, ports
from vrata.cloud.network import tables as t
from vrata.cloud.network.ports import invalid
from vrata.cloud.network.resource import NAMED, Resource, base_view, find, store_update
from vrata.cloud.store import Row

_NETWORK_COLUMNS = {
    "router:external": "router_external",
    "provider:network_type": "provider_network_type",
    "provider:physical_network": "provider_physical_network",
    "provider:segmentation_id": "provider_segmentation_id",
}
_PORT_COLUMNS = {"binding:host_id": "binding_host_id", "binding:vnic_type": "binding_vnic_type"}
ROUTER_OWNERS = frozenset({ports.ROUTER_INTERFACE, ports.ROUTER_GATEWAY, ports.FLOATING, ports.ROUTER_INSTANCE})


# Networks -------------------------------------------------------------------------------------------------------------


def _view_networks(call: Call, rows: list[Row]) -> list[Row]:
    subnets: dict[str, list[str]] = defaultdict(list)
    wanted = sa.select(t.subnets.c.network_id, t.subnets.c.id).order_by(t.subnets.c.created_at)
    for network_id, subnet_id in call.tx.connection.execute(wanted):
        subnets[network_id].append(subnet_id)
    out = []
    for row in rows:
        view = base_view(row)
        for wire, column in _NETWORK_COLUMNS.items():
            value = view.pop(column)
            if call.caller.admin or wire == "router:external":
                view[wire] = value
        view |= {
            "subnets": subnets[row["id"]], "availability_zones": ["nova"], "availability_zone_hints": [],
            "ipv4_address_scope": None, "ipv6_address_scope": None, "l2_adjacency": True, "qos_policy_id": None,
        }  # fmt: skip
        out.append(view)
    return out


def _create_network(call: Call, row: Row) -> Row:
    call.tx.insert(t.networks, {"status": "ACTIVE", **row})
    return row


def _delete_network(call: Call, row: Row) -> None:
    used = call.tx.value(sa.select(t.ports.c.id).where(t.ports.c.network_id == row["id"]))
    if used:
        raise ApiError(
            409, f"Unable to complete operation on network {row['id']}. There are one or more ports still in use on "
            f"the network, id for these ports is: {used}.", "NetworkInUse",
        )  # fmt: skip
    call.tx.execute(sa.delete(t.subnets).where(t.subnets.c.network_id == row["id"]))
    call.tx.delete(t.networks, row["id"])


def _shared_network(table: sa.Table) -> sa.ColumnElement[bool]:
    return sa.or_(table.c.shared, table.c.router_external)


NETWORKS = Resource(
    "network", "networks", "Network", t.networks,
    {
        **NAMED,
        "admin_state_up": Field("bool", default=True),
        "shared": Field("bool", default=False),
        "is_default": Field("bool", default=False),
        "port_security_enabled": Field("bool", default=True),
        "mtu": Field("int", default=1500, least=68, most=65535),
        "dns_domain": Field(default=""),
        "router:external": Field("bool", default=False),
        "provider:network_type": Field(choices=("flat", "vlan", "vxlan", "geneve", "gre", "local")),
        "provider:physical_network": Field(),
        "provider:segmentation_id": Field("int", least=0),
        "availability_zone_hints": Field("strings"),
    },
    _view_networks, _NETWORK_COLUMNS,
    frozenset({"shared", "router:external", "provider:network_type", "provider:physical_network",
               "provider:segmentation_id"}),
    lambda call, row: _create_network(call, {k: v for k, v in row.items() if k != "availability_zone_hints"}),
    None, _delete_network, _shared_network,
)  # fmt: skip


# Subnets --------------------------------------------------------------------------------------------------------------


def _view_subnets(_call: Call, rows: list[Row]) -> list[Row]:
    return [base_view(row) for row in rows]


def _create_subnet(call: Call, row: Row) -> Row:
    network = find(call, NETWORKS, row["network_id"], change=True)
    if row.get("cidr") is None:
        raise ApiError(400, "a subnet needs a cidr", "BadRequest")
    cidr = ipaddress.ip_network(row["cidr"])
    if row["ip_version"] != cidr.version:
        raise invalid(f"cidr '{cidr}' does not match the ip_version '{row['ip_version']}'")
    for other in call.tx.column(sa.select(t.subnets.c.cidr).where(t.subnets.c.network_id == network["id"])):
        other_net = ipaddress.ip_network(other)
        if other_net.version == cidr.version and cidr.overlaps(other_net):
            raise invalid(
                f"Requested subnet with cidr: {cidr} for network: {network['id']} overlaps with another subnet."
            )
    if "gateway_ip" not in row:
        row["gateway_ip"] = plan.default_gateway(str(cidr))
    row["allocation_pools"] = _pools(str(cidr), row["gateway_ip"], row.get("allocation_pools"))
    call.tx.insert(t.subnets, row)
    return row


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
    except plan.BadPools as error:
        raise ApiError(409 if "onflicts" in str(error) else 400, str(error), "InvalidAllocationPool") from error
    except ValueError as error:
        raise invalid(str(error)) from error
    return pools


def _update_subnet(call: Call, row: Row, values: Row) -> None:
    if "gateway_ip" in values or "allocation_pools" in values:
        gateway = values.get("gateway_ip", row["gateway_ip"])
        pools = values.get("allocation_pools") or row["allocation_pools"]
        values["allocation_pools"] = _pools(row["cidr"], gateway, pools)
    store_update(call, SUBNETS, row, values)


def _delete_subnet(call: Call, row: Row) -> None:
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
        "ip_version": Field("int", default=4, least=4, most=6, update=False),
        "cidr": Field("cidr", update=False),
        "gateway_ip": Field("ip"),
        "enable_dhcp": Field("bool", default=True),
        "allocation_pools": Field("list"),
        "dns_nameservers": Field("strings", default=()),
        "host_routes": Field("list", default=()),
        "ipv6_ra_mode": Field(),
        "ipv6_address_mode": Field(),
        "subnetpool_id": Field(update=False),
        "service_types": Field("strings", default=()),
    },
    _view_subnets, {}, frozenset(), _create_subnet, _update_subnet, _delete_subnet,
    lambda table: table.c.network_id.in_(sa.select(t.networks.c.id).where(_shared_network(t.networks))),
)  # fmt: skip


# Ports ----------------------------------------------------------------------------------------------------------------


def _view_ports(call: Call, rows: list[Row]) -> list[Row]:
    fixed = ports.fixed_ips(call.tx, [row["id"] for row in rows])
    out = []
    for row in rows:
        view = base_view(row)
        for wire, column in _PORT_COLUMNS.items():
            view[wire] = view.pop(column)
        view |= {
            "fixed_ips": fixed.get(row["id"], []), "binding:vif_type": "other", "binding:profile": {},
            "binding:vif_details": {}, "qos_policy_id": None, "dns_assignment": [], "propagate_uplink_status": True,
            "security_groups": row["security_groups"] or [],
            "allowed_address_pairs": row["allowed_address_pairs"] or [],
        }  # fmt: skip
        out.append(view)
    return out


def _check_lists(call: Call, values: Row, project_id: str) -> None:
    for wanted in values.get("fixed_ips") or ():
        if not isinstance(wanted, dict) or not wanted.keys() <= {"subnet_id", "ip_address"} or not wanted:
            raise invalid(f"'{wanted}' is not a valid fixed_ip: it has subnet_id, ip_address or both")
        if "ip_address" in wanted:
            _address(wanted["ip_address"])
    for pair in values.get("allowed_address_pairs") or ():
        if not isinstance(pair, dict) or "ip_address" not in pair:
            raise invalid("AllowedAddressPair must contain ip_address")
        _address(str(pair["ip_address"]).partition("/")[0])
    for group in values.get("security_groups") or ():
        groups.visible_group(call, group, project_id)


def _address(value: object) -> None:
    try:
        ipaddress.ip_address(str(value))
    except ValueError as error:
        raise invalid(f"'{value}' is not a valid IP address") from error


def _create_port(call: Call, row: Row) -> Row:
    network = find(call, NETWORKS, row["network_id"])
    if network["project_id"] != call.caller.project_id and not call.caller.admin and not network["shared"]:
        raise ApiError(403, "(rule:create_port) is disallowed by policy", "PolicyNotAuthorized")
    if str(row.get("device_owner") or "").startswith("network:") and not call.caller.admin:
        raise ApiError(403, "(rule:create_port:device_owner) is disallowed by policy", "PolicyNotAuthorized")
    _check_lists(call, row, row["project_id"])
    fixed = row.pop("fixed_ips", None)
    if row.get("security_groups") is None:
        row["security_groups"] = [groups.default_group(call, row["project_id"])["id"]]
    given = {name: value for name, value in row.items() if value is not None}
    port = ports.create(call.tx, network, given, fixed)
    firewall.members_changed(call.tx, port["security_groups"])
    return port


def _update_port(call: Call, row: Row, values: Row) -> None:
    _check_lists(call, values, row["project_id"])
    fixed = values.pop("fixed_ips", None)
    if fixed is not None:
        network = call.tx.get(t.networks, row["network_id"])
        assert network is not None
        guard(call, row)
        kept = {one.get("ip_address") for one in fixed}
        floating.let_go(call, row["id"], keep=kept)
        call.tx.execute(sa.delete(t.addresses).where(t.addresses.c.port_id == row["id"]))
        ports.place_addresses(call.tx, network, row["id"], fixed)
    if "device_id" in values and not row["device_owner"].startswith("network:"):
        values["status"] = "ACTIVE" if values["device_id"] else "DOWN"
    for name in ("device_id", "device_owner", "dns_name", "name", "description"):
        if name in values and values[name] is None:
            values[name] = ""
    store_update(call, PORTS, row, values)
    before, after = set(row["security_groups"] or ()), set(values.get("security_groups", row["security_groups"]) or ())
    moved = fixed is not None or "allowed_address_pairs" in values
    firewall.members_changed(call.tx, before | after if moved else before ^ after)
    if before != after or "port_security_enabled" in values:
        firewall.port_changed(call.tx, row["id"])


def guard(call: Call, port: Row) -> None:
    """409 for ports that belong to a router, a floating IP or a load balancer: their owner manages them."""
    reason = None
    if port["device_owner"] in ROUTER_OWNERS:
        reason = f"has device owner {port['device_owner']}"
    elif port["device_owner"] == ports.BALANCER_OWNER and carry.port_in_use(call.tx, port):
        reason = "is used by a load balancer"
    if reason is not None:
        raise ApiError(
            409, f"Port {port['id']} cannot be deleted directly via the port API: {reason}.", "ServicePortInUse"
        )


def _delete_port(call: Call, row: Row) -> None:
    guard(call, row)
    floating.let_go(call, row["id"])
    ports.delete(call.tx, row["id"])
    firewall.members_changed(call.tx, row["security_groups"] or ())


PORTS = Resource(
    "port", "ports", "Port", t.ports,
    {
        **NAMED,
        "network_id": Field("uuid", required=True, update=False),
        "admin_state_up": Field("bool", default=True),
        "mac_address": Field(),
        "tags": Field("strings", update=False),
        "fixed_ips": Field("list"),
        "device_id": Field(default=""),
        "device_owner": Field(default=""),
        "security_groups": Field("strings"),
        "allowed_address_pairs": Field("list"),
        "extra_dhcp_opts": Field("list"),
        "port_security_enabled": Field("bool", default=True),
        "dns_name": Field(default=""),
        "binding:host_id": Field(),
        "binding:vnic_type": Field(default="normal"),
    },
    _view_ports, _PORT_COLUMNS, frozenset({"binding:host_id"}), _create_port, _update_port, _delete_port,
    lambda table: table.c.network_id.in_(sa.select(t.networks.c.id).where(sa.false())),
)  # fmt: skip
