"""Floating IPs (Neutron v2.0): an address and port on an external network, given to a port, moved, taken back.

On a balancer's VIP the address goes to the balancer's instances; on any other port the router's gateway translates it.
Either way the owner's generation rises in the same transaction.
"""

import sqlalchemy as sa

from vrata.cloud.balancing import carry
from vrata.cloud.balancing import tables as b
from vrata.cloud.fields import Field
from vrata.cloud.http import ApiError, Call
from vrata.cloud.network import choice, ports
from vrata.cloud.network import tables as t
from vrata.cloud.network.networks import NETWORKS
from vrata.cloud.network.ports import missing
from vrata.cloud.network.resource import NAMED, Resource, base_view, named, touch
from vrata.cloud.store import Row

NOWHERE: Row = {"port_id": None, "fixed_ip_address": None, "router_id": None, "status": "DOWN"}


def _view(call: Call, rows: list[Row]) -> list[Row]:
    wanted = [row["port_id"] for row in rows if row["port_id"]]
    found = (
        {row["id"]: row for row in call.tx.all(sa.select(t.ports).where(t.ports.c.id.in_(wanted)))} if wanted else {}
    )
    out = []
    for row in rows:
        view = base_view(row)
        view.pop("name")
        view.pop("floating_port_id")
        port = found.get(row["port_id"])
        view["port_details"] = port and {
            name: port[name]
            for name in ("name", "network_id", "mac_address", "admin_state_up", "status", "device_id", "device_owner")
        }
        view |= {"qos_policy_id": None, "port_forwardings": []}
        out.append(view)
    return out


def _create(call: Call, row: Row) -> Row:
    network = named(call, NETWORKS, row["floating_network_id"])
    if not network["router_external"]:
        raise ApiError(
            400, f"Bad floatingip request: Network {network['id']} is not a valid external network.", "BadRequest"
        )
    _needs_port(row)
    choice.check(call, network, row.get("floating_ip_address"), field="create_floatingip:floating_ip_address")
    if row.get("port_id") is not None:
        _hold_carrier(call, row["port_id"], network["id"])
    wanted = {"subnet_id": row.pop("subnet_id", None), "ip_address": row.get("floating_ip_address")}
    given = {name: value for name, value in wanted.items() if value is not None}
    port = ports.create(
        call.tx, network, {"device_owner": ports.FLOATING, "device_id": row["id"], "status": "N/A", "project_id": ""},
        [given or {"ip_version": 4}],  # floating IPs are IPv4
    )  # fmt: skip
    port_id, fixed = row.pop("port_id", None), row.pop("fixed_ip_address", None)
    row |= {
        "name": "", "floating_port_id": port["id"], "floating_ip_address": port["fixed_ips"][0]["ip_address"], **NOWHERE
    }  # fmt: skip
    call.tx.insert(t.floating_ips, row)
    if port_id is not None:
        _associate(call, row, port_id, fixed)
    return row


def _hold_carrier(call: Call, port_id: str, external_network_id: str) -> None:
    """Lock what will carry the address, and the port, before the subnet that the address comes from."""
    balancers = call.tx.column(sa.select(b.load_balancers.c.id).where(b.load_balancers.c.vip_port_id == port_id))
    call.tx.hold(b.load_balancers, balancers)
    if not balancers:
        project_id = call.tx.value(sa.select(t.ports.c.project_id).where(t.ports.c.id == port_id))
        places = ports.fixed_ips(call.tx, [port_id]).get(port_id, [])
        found = (_router_for(call, place["subnet_id"], external_network_id, project_id) for place in places)
        call.tx.hold(t.routers, [router_id for router_id in found if router_id is not None])
    call.tx.hold(t.ports, [port_id])


def _needs_port(values: Row) -> None:
    if values.get("fixed_ip_address") is not None and values.get("port_id") is None:
        raise ApiError(
            400, f"Bad floatingip request: {values['fixed_ip_address']} cannot be specified without a port_id.",
            "BadRequest",
        )  # fmt: skip


def _associate(call: Call, row: Row, port_id: str, fixed: str | None) -> None:
    """Give the address to a port; the one that had it loses it."""
    port = call.tx.lock(t.ports, port_id)
    if port is None or (port["project_id"] != row["project_id"] and not call.caller.admin):
        raise missing("Port", port_id)
    places = [p for p in ports.fixed_ips(call.tx, [port_id]).get(port_id, []) if ":" not in p["ip_address"]]
    if fixed is not None:
        places = [place for place in places if place["ip_address"] == fixed]
    if not places:
        why = f"does not have fixed IP {fixed}" if fixed else "does not have a fixed IPv4 address"
        raise ApiError(400, f"Bad floatingip request: Port {port_id} {why}.", "BadRequest")
    place = places[0]
    router_id = _router_for(call, place["subnet_id"], row["floating_network_id"], port["project_id"])
    carried = carry.is_vip(call.tx, port_id) and carry.reaches(call.tx, port_id, row["floating_network_id"])
    if router_id is None and not carried:
        raise ApiError(
            404, f"External network {row['floating_network_id']} is not reachable from subnet {place['subnet_id']}. "
            f"Therefore, cannot associate Port {port_id} with a Floating IP.", "ExternalGatewayForFloatingIPNotFound",
        )  # fmt: skip
    twin = call.tx.value(
        sa.select(t.floating_ips.c.floating_ip_address).where(
            t.floating_ips.c.port_id == port_id,
            t.floating_ips.c.fixed_ip_address == place["ip_address"],
            t.floating_ips.c.id != row["id"],
        )
    )
    if twin:
        raise ApiError(
            409, f"Cannot associate floating IP {row['floating_ip_address']} ({row['floating_port_id']}) with port "
            f"{port_id} using fixed IP {place['ip_address']}, as that fixed IP already has a floating IP on external "
            f"network {row['floating_network_id']}.", "FloatingIPPortAlreadyAssociated",
        )  # fmt: skip
    values = {"port_id": port_id, "fixed_ip_address": place["ip_address"], "router_id": router_id, "status": "ACTIVE"}
    touch(call, t.floating_ips, row["id"], values)
    _moved(call, port_id, router_id)


def _router_for(call: Call, subnet_id: str, external_network_id: str, project_id: str) -> str | None:
    """The router between the subnet and the external network for a port of this project.

    That at the subnet's gateway, as in Neutron: its machines answer through it. Else the oldest of the port's own project or
    of the network's owner: no other project's, which would see what is sent.
    """
    gateway = t.addresses.c.ip_address == t.subnets.c.gateway_ip
    query = (
        sa.select(t.routers.c.id)
        .join(t.ports, t.ports.c.device_id == t.routers.c.id)
        .join(t.addresses, t.addresses.c.port_id == t.ports.c.id)
        .join(t.subnets, t.subnets.c.id == t.addresses.c.subnet_id)
        .where(
            t.ports.c.device_owner == ports.ROUTER_INTERFACE,
            t.addresses.c.subnet_id == subnet_id,
            t.routers.c.external_network_id == external_network_id,
            sa.or_(gateway, t.routers.c.project_id.in_([project_id, t.subnets.c.project_id])),
        )
        .order_by(sa.case((gateway, 0), else_=1), t.routers.c.created_at, t.routers.c.id)
    )
    found = call.tx.value(query)
    return None if found is None else str(found)


def _moved(call: Call, port_id: str, router_id: str | None) -> None:
    """Whoever carries the address has something new to do."""
    if not carry.vip_changed(call.tx, port_id) and router_id is not None:
        carry.router_changed(call.tx, router_id, call.settings)


def _disassociate(call: Call, row: Row) -> None:
    if row["port_id"] is not None:
        touch(call, t.floating_ips, row["id"], NOWHERE)
        _moved(call, row["port_id"], row["router_id"])


def _update(call: Call, row: Row, values: Row) -> None:
    asked = "port_id" in values
    _needs_port({"port_id": row["port_id"], **values})
    if not asked and "fixed_ip_address" in values:  # another address of the port it is on
        asked, values = True, {"port_id": row["port_id"], **values}
    port_id, fixed = values.pop("port_id", None), values.pop("fixed_ip_address", None)
    if asked and (port_id != row["port_id"] or (fixed is not None and fixed != row["fixed_ip_address"])):
        _disassociate(call, row)
        if port_id is not None:
            _associate(call, row, port_id, fixed)
    touch(call, t.floating_ips, row["id"], values)


def _delete(call: Call, row: Row) -> None:
    _disassociate(call, row)
    call.tx.delete(t.floating_ips, row["id"])
    ports.delete(call.tx, row["floating_port_id"])


def let_go(call: Call, port_id: str, *, keep: set[str | None] | None = None) -> None:
    """Take the floating IPs off a port that goes or changes its addresses; those on addresses in `keep` stay."""
    for row in call.tx.all(sa.select(t.floating_ips).where(t.floating_ips.c.port_id == port_id)):
        if keep is None or row["fixed_ip_address"] not in keep:
            _disassociate(call, row)


FLOATING_IPS = Resource(
    "floatingip", "floatingips", "FloatingIP", t.floating_ips,
    {
        "project_id": NAMED["project_id"], "tenant_id": NAMED["tenant_id"], "description": NAMED["description"],
        "floating_network_id": Field("uuid", required=True, update=False),
        "floating_ip_address": Field("ip", update=False),
        "subnet_id": Field("uuid", update=False),
        "port_id": Field("uuid"),
        "fixed_ip_address": Field("ip"),
        "dns_name": Field(default=""),
        "dns_domain": Field(default=""),
    },
    _view, create=_create, update=_update, delete=_delete,
    shown=frozenset({"port_details", "qos_policy_id", "port_forwardings"}), hidden=frozenset({"name", "floating_port_id"}),
)  # fmt: skip
